-- Listings of bookable slots, by the rules of booking.claim: booking.slot_refusal, opening hours, counts and buffers.
-- tests/sql/test_listing_equals_booking.py compares the two. Reads only, without locks: a listed slot may be taken
-- before the caller requests it.

-- Returns the slots of a service that the public can book and that start within p_starts.
--
-- Parameters
--   p_starts       finite, half-open
--   p_quantity     units wanted at once
--   p_resource_id  only slots in which this resource is free, and no other resource; NULL: any
-- Outcomes
--   done  body {slots: [{slot_start, slot_end, available, resource_ids}]} by start; available: how many more units fit;
--         resource_ids: the resources that have room for p_quantity, empty for a service without a pool
--   service_not_found, resource_not_found
--   validation_failed  no resource seats p_quantity; body {field, message}
CREATE FUNCTION booking.availability(
  p_business_id text, p_service_id text, p_starts tstzrange, p_quantity integer, p_resource_id text)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_service booking.services;
  v_pool booking.pool;
  v_slots jsonb;
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'service_not_found', NULL)::booking.outcome;
  END IF;
  v_pool := booking.find_pool(p_business_id, p_service_id, p_resource_id, NULL);
  IF p_resource_id IS NOT NULL AND v_pool.largest IS NULL THEN
    RETURN (NULL, 'resource_not_found', NULL)::booking.outcome;
  ELSIF p_quantity > v_pool.largest THEN
    RETURN (NULL, 'validation_failed', booking.too_many_for_a_resource(v_pool.largest))::booking.outcome;
  END IF;

  SELECT coalesce(jsonb_agg(to_jsonb(slot) ORDER BY slot.slot_start), '[]') INTO v_slots
  FROM booking.bookable_slots(
    v_service, v_pool.resource_ids,
    ARRAY(SELECT booking.slot_grid(p_business_id, v_service.slot_step_minutes, p_starts)),
    make_interval(mins => v_service.duration_minutes), p_quantity, v_now, NULL) AS slot;
  RETURN (NULL, 'done', jsonb_build_object('slots', v_slots))::booking.outcome;
END
$$;

-- Returns at most five bookable slots of the same length as a refused one, starting within seven days before and after
-- it. The order: first the same time, if another resource than the requested one is free then; next the slots of the
-- requested resource; then all others. Within each group the nearest first.
--
--   p_slot_end     NULL: the service's duration after p_slot_start
--   p_resource_id  NULL: any
--   p_except       the appointment to be moved, whose own claim does not count; NULL: none
CREATE FUNCTION booking.alternatives(
  p_business_id text, p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz, p_quantity integer,
  p_resource_id text, p_except uuid DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz, resource_ids text[]) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_service booking.services;
  v_own booking.own_claim;
  v_starts tstzrange := tstzrange(p_slot_start - interval '168 hours', p_slot_start + interval '168 hours', '[]');
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  SELECT coalesce(a.resource_id, ''), lower(a.occupied), upper(a.occupied), a.quantity INTO v_own
  FROM booking.appointment_by_id(p_business_id, p_except) AS a
  WHERE a.service_id = p_service_id AND a.status = 'confirmed';

  RETURN QUERY
  SELECT slot.slot_start, slot.slot_end, slot.resource_ids
  FROM booking.bookable_slots(
    v_service, (booking.find_pool(p_business_id, p_service_id, NULL, NULL)).resource_ids,
    ARRAY(SELECT booking.slot_grid(p_business_id, v_service.slot_step_minutes, v_starts) UNION SELECT p_slot_start),
    coalesce(booking.elapsed(p_slot_start, p_slot_end), make_interval(mins => v_service.duration_minutes)),
    p_quantity, v_now, v_own) AS slot
  ORDER BY slot.slot_start <> p_slot_start, p_resource_id <> ALL (slot.resource_ids),
           greatest(slot.slot_start - p_slot_start, p_slot_start - slot.slot_start), slot.slot_start
  LIMIT 5;
END
$$;

-- Returns those of the slots that start at p_starts, all of one length, that the public can book now.
--
--   p_pool  the resources of which a slot needs one; NULL: the service has no pool
--   p_own   a claim that does not count; NULL: none
-- Returns  available and resource_ids as booking.availability does
--
-- The counts of the whole time are read once, so the number of statements does not grow with the slots. The number of
-- windows of a resource that overlap a slot is the number that start before its end, minus the number that end by its
-- start: two binary searches (width_bucket). The resource is free if there is none. If the only one is the slot's own
-- session, its free seats are left.
CREATE FUNCTION booking.bookable_slots(
  p_service booking.services, p_pool text[], p_starts timestamptz[], p_length interval, p_quantity integer,
  p_now timestamptz, p_own booking.own_claim)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz, available integer, resource_ids text[])
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_starts timestamptz[];
  v_from timestamptz;
  v_to timestamptz;
  v_before interval := make_interval(mins => p_service.buffer_before_minutes);
  v_after interval := make_interval(mins => p_service.buffer_after_minutes);
  v_is_shared boolean := p_service.resource_sharing = 'session';
BEGIN
  SELECT array_agg(starts), min(starts), max(starts) + p_length INTO v_starts, v_from, v_to
  FROM unnest(p_starts) AS starts
  WHERE booking.slot_refusal(p_service, starts, starts + p_length, p_now) IS NULL;

  RETURN QUERY
  WITH slot AS MATERIALIZED (
    SELECT start AS slot_start, start + p_length AS slot_end, start - v_before AS starts,
           start + p_length + v_after AS ends
    FROM booking.open_stretches(p_service.business_id, '{""}', v_from, v_to) AS business
    CROSS JOIN unnest(v_starts) AS start
    WHERE tstzrange(start, start + p_length) <@ business.open
  ), whole AS MATERIALIZED (
    SELECT min(starts) AS starts, max(ends) AS ends FROM slot
  ), room AS MATERIALIZED (
    SELECT slot.*, peak.room
    FROM booking.room_in_windows(
      p_service, ARRAY(SELECT tstzrange(starts, ends) FROM slot), p_now, p_own) AS peak
    JOIN slot ON tstzrange(slot.starts, slot.ends) = peak.during
    WHERE peak.room >= p_quantity
  ), busy AS MATERIALIZED (
    SELECT r.resource_id, r.seats, w.service_id, w.starts, w.ends, w.claimed
    FROM whole
    CROSS JOIN unnest(p_pool) AS member (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r
      WHERE r.business_id = p_service.business_id AND r.resource_id = member.id AND r.booking_enabled OFFSET 0
    ) AS r
    LEFT JOIN LATERAL (
      SELECT (m.o).service_id, (m.o).starts, (m.o).ends, m.claimed
      FROM booking.resource_windows(p_service.business_id, r.resource_id, r.longest_occupied_seconds, whole.starts,
        whole.ends, p_now, p_service.service_id, p_own) AS m OFFSET 0
    ) AS w ON w.claimed > 0
  ), resource AS MATERIALIZED (
    SELECT b.resource_id, b.seats, bookable.open, coalesce(array_agg(b.starts ORDER BY b.starts) FILTER (
             WHERE b.starts IS NOT NULL), '{}') AS starts,
           coalesce(array_agg(b.ends ORDER BY b.ends) FILTER (WHERE b.ends IS NOT NULL), '{}') AS ends
    FROM busy AS b
    JOIN booking.open_stretches(p_service.business_id, p_pool, v_from, v_to) AS bookable
      ON bookable.whose = b.resource_id
    GROUP BY b.resource_id, b.seats, bookable.open
  ), slot_seats AS (
    SELECT room.slot_start, sum(free.seats)::integer AS seats,
           array_agg(resource.resource_id ORDER BY resource.resource_id) FILTER (WHERE free.seats >= p_quantity) AS ids
    FROM room
    JOIN resource ON tstzrange(room.slot_start, room.slot_end) <@ resource.open
    LEFT JOIN busy AS session ON v_is_shared AND session.resource_id = resource.resource_id
      AND session.service_id = p_service.service_id AND session.starts = room.starts AND session.ends = room.ends
    CROSS JOIN LATERAL (
      SELECT width_bucket(room.ends - interval '1 microsecond', resource.starts)
        - width_bucket(room.starts, resource.ends) AS windows
    ) AS overlap
    CROSS JOIN LATERAL (
      SELECT CASE overlap.windows WHEN 0 THEN resource.seats WHEN 1 THEN resource.seats - session.claimed END AS seats
    ) AS free
    GROUP BY room.slot_start
  )
  SELECT room.slot_start, room.slot_end, least(room.room, slot_seats.seats)::integer, coalesce(slot_seats.ids, '{}')
  FROM room LEFT JOIN slot_seats USING (slot_start)
  WHERE p_pool IS NULL OR slot_seats.ids IS NOT NULL;
END
$$;

-- Returns how many units of a service fit in each of many windows, from p_now on. A claim that began before p_now and
-- has not ended also occupies p_now, so the fullest instant of a window is never one that is over, and the windows need
-- not be cut.
--
--   p_windows  all of the same length, a whole number of seconds; no duplicates, and none that is over
--   p_own      a claim that does not count; NULL: none
--
-- Every count is read once. The edges of the counts and of the windows are sorted, and a running sum gives the units
-- claimed from each edge on. The maximum within each window then takes two passes in all: time is cut into bins as long
-- as a window, so a window is the tail of one bin and the head of the next, and its maximum is the larger of a suffix
-- maximum of the one and a prefix maximum of the other (the van Herk/Gil-Werman algorithm for sliding maxima).
CREATE FUNCTION booking.room_in_windows(
  p_service booking.services, p_windows tstzrange[], p_now timestamptz, p_own booking.own_claim)
RETURNS TABLE (during tstzrange, room bigint) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_from timestamptz := (SELECT min(lower(w)) FROM unnest(p_windows) AS w);
  v_to timestamptz := (SELECT max(upper(w)) FROM unnest(p_windows) AS w);
  v_length interval := booking.elapsed(lower(p_windows[1]), upper(p_windows[1]));
  v_limit record;
BEGIN
  SELECT * INTO v_limit FROM booking.capacity_of(p_service);
  RETURN QUERY
  WITH edge AS (
    SELECT step.at, step.quantity, NULL::tstzrange AS probe, false AS is_end
    FROM (
      SELECT (m.o).starts, (m.o).ends, m.claimed
      FROM booking.service_windows(p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds,
        v_limit.counted_ids, greatest(v_from, p_now), v_to, p_own, p_now, NULL) AS m OFFSET 0
    ) AS w
    CROSS JOIN LATERAL (VALUES (w.starts, w.claimed), (w.ends, -w.claimed)) AS step (at, quantity)
    UNION ALL
    SELECT bound.at, 0, w, bound.is_end
    FROM unnest(p_windows) AS w CROSS JOIN LATERAL (VALUES (lower(w), false), (upper(w), true)) AS bound (at, is_end)
  ), level AS (
    -- Edges at the same instant are summed together, because windows are half-open.
    SELECT edge.at, edge.probe, edge.is_end, sum(edge.quantity) OVER (ORDER BY edge.at) AS claimed,
           date_bin(v_length, edge.at, v_from) AS bin
    FROM edge
  ), highest AS (
    SELECT level.probe, CASE
      -- The end of a window is not part of it, so it is sorted before all other edges at its instant.
      WHEN level.is_end THEN max(level.claimed) FILTER (WHERE NOT level.is_end) OVER (
        PARTITION BY level.bin ORDER BY level.at, level.is_end DESC ROWS UNBOUNDED PRECEDING)
      ELSE max(level.claimed) OVER (PARTITION BY level.bin ORDER BY level.at DESC)
    END AS claimed
    FROM level
  )
  SELECT highest.probe, v_limit.capacity - max(highest.claimed)::bigint
  FROM highest WHERE highest.probe IS NOT NULL GROUP BY highest.probe;
END
$$;
