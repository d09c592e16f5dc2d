-- The slots of a service that the public can book, by the same rules as booking.claim_slots: booking.slot_refusal, the
-- opening hours, the claims and the buffers. tests/sql/test_listing_equals_booking.py compares the two. Reads only:
-- what is listed may be taken by the time somebody asks for it.

-- The bookable slots that start within a stretch of time, by start.
--   p_starts       finite, half-open
--   p_quantity     how many units are wanted; those of a service with resources are had one at a time
--   p_resource_id  only where this one is free, and with no other; NULL: any
-- Outcomes: done, body: {slots: [{slot_start, slot_end, available, resource_ids}]}, where available is how many more
-- claims of one unit fit, and resource_ids is who is free, empty for a service without resources; service_not_found;
-- resource_not_found; validation_failed, body: {field, message}, for more than one unit of a service with resources
CREATE OR REPLACE FUNCTION booking.availability(
  p_business_id text, p_service_id text, p_starts tstzrange, p_quantity integer, p_resource_id text)
RETURNS booking.outcome
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_service booking.services;
  v_pool record;
  v_slots jsonb;
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'service_not_found', NULL)::booking.outcome;
  END IF;
  v_pool := booking.find_pool(p_business_id, p_service_id, p_resource_id, NULL);
  IF p_resource_id IS NOT NULL AND cardinality(v_pool.named) = 0 THEN
    RETURN (NULL, 'resource_not_found', NULL)::booking.outcome;
  ELSIF v_pool.has_resources AND p_quantity > 1 THEN
    RETURN (NULL, 'validation_failed', booking.quantity_of_resource())::booking.outcome;
  END IF;

  SELECT coalesce(jsonb_agg(to_jsonb(slot) ORDER BY slot.slot_start), '[]') INTO v_slots
  FROM booking.bookable_slots(
    v_service, v_pool.has_resources, v_pool.named,
    ARRAY(SELECT booking.slot_grid(p_business_id, v_service.slot_step_minutes, p_starts)),
    make_interval(mins => v_service.duration_minutes), p_quantity, v_now, NULL) AS slot;
  RETURN (NULL, 'done', jsonb_build_object('slots', v_slots))::booking.outcome;
END
$$;

-- What to offer to somebody who was refused a slot: at most five that are as long, within seven days before and after.
-- First the same time, where it is to be had with another resource than the one that was asked for; then those of the
-- resource that was asked for; then any. Of each, the nearest first.
--   p_slot_end     NULL: the service's duration after p_slot_start
--   p_resource_id  NULL: any
--   p_except       the appointment that is to be moved, whose own claim is in nobody's way then; NULL: none
CREATE OR REPLACE FUNCTION booking.alternatives(
  p_business_id text, p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz, p_quantity integer,
  p_resource_id text, p_except uuid DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz, resource_ids text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_service booking.services;
  v_pool record;
  v_starts tstzrange := tstzrange(p_slot_start - interval '168 hours', p_slot_start + interval '168 hours', '[]');
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  v_pool := booking.find_pool(p_business_id, p_service_id, NULL, NULL);

  RETURN QUERY
  SELECT slot.slot_start, slot.slot_end, slot.resource_ids
  FROM booking.bookable_slots(
    v_service, v_pool.has_resources, v_pool.named,
    ARRAY(SELECT booking.slot_grid(p_business_id, v_service.slot_step_minutes, v_starts) UNION SELECT p_slot_start),
    coalesce(booking.elapsed(p_slot_start, p_slot_end), make_interval(mins => v_service.duration_minutes)),
    p_quantity, v_now, p_except) AS slot
  ORDER BY slot.slot_start <> p_slot_start, p_resource_id <> ALL (slot.resource_ids),
           greatest(slot.slot_start - p_slot_start, p_slot_start - slot.slot_start), slot.slot_start
  LIMIT 5;
END
$$;

-- Of the slots that start at p_starts and are all of one length, those that the public can book now.
--   p_has_resources  whether the service is only ever booked together with one of its resources
--   p_named          these: what booking.find_pool says, where no slot was given to it
--   p_except         an appointment that is not counted
-- Returns available and resource_ids as booking.availability does.
--
-- All claims of the whole time are read once, however many slots there are, and neither does the number of statements
-- grow with them.
CREATE OR REPLACE FUNCTION booking.bookable_slots(
  p_service booking.services, p_has_resources boolean, p_named text[], p_starts timestamptz[], p_length interval,
  p_quantity integer, p_now timestamptz, p_except uuid)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz, available integer, resource_ids text[])
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_starts timestamptz[];
  v_from timestamptz;
  v_to timestamptz;
BEGIN
  SELECT array_agg(starts), min(starts), max(starts) + p_length INTO v_starts, v_from, v_to
  FROM unnest(p_starts) AS starts
  WHERE booking.slot_refusal(p_service, starts, starts + p_length, p_now) IS NULL;

  RETURN QUERY
  WITH slot AS MATERIALIZED (
    SELECT starts, starts + p_length AS ends, booking.occupied_by(p_service, starts, starts + p_length) AS occupied
    FROM booking.bookable_stretches(p_service.business_id, '{""}', v_from, v_to) AS business
    CROSS JOIN unnest(v_starts) AS starts
    WHERE tstzrange(starts, starts + p_length) <@ business.open
  ), stretch AS MATERIALIZED (
    SELECT tstzrange(min(lower(occupied)), max(upper(occupied))) AS occupied FROM slot
  ), resource AS MATERIALIZED (
    SELECT r.resource_id, bookable.open,
      (SELECT coalesce(range_agg(claim.occupied), '{}')
       FROM booking.resource_claims_during(
         p_service.business_id, r.resource_id, r.longest_occupied_seconds, stretch.occupied, p_now, p_except) AS claim) AS busy
    FROM stretch
    CROSS JOIN booking.bookable_stretches(p_service.business_id, p_named, v_from, v_to) AS bookable
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r
      WHERE r.business_id = p_service.business_id AND r.resource_id = bookable.whose AND r.booking_enabled
      OFFSET 0
    ) AS r
  ), room AS MATERIALIZED (
    SELECT slot.starts, slot.ends, slot.occupied,
           (p_service.max_simultaneous_bookings - peak.claimed)::integer AS units
    FROM booking.fullest_instants(p_service, ARRAY(SELECT occupied FROM slot), p_now, p_except) AS peak
    JOIN slot ON slot.occupied = peak.during
    WHERE peak.claimed + p_quantity <= p_service.max_simultaneous_bookings
  ), staffed AS (
    SELECT room.*, ARRAY(
      SELECT resource.resource_id FROM resource
      WHERE tstzrange(room.starts, room.ends) <@ resource.open AND NOT room.occupied && resource.busy
      ORDER BY resource.resource_id) AS resource_ids
    FROM room
  )
  SELECT staffed.starts, staffed.ends,
         CASE WHEN p_has_resources THEN least(staffed.units, cardinality(staffed.resource_ids)) ELSE staffed.units END,
         staffed.resource_ids
  FROM staffed
  WHERE NOT p_has_resources OR (p_quantity = 1 AND cardinality(staffed.resource_ids) > 0);
END
$$;
