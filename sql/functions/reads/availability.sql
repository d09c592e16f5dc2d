-- The slots of a service that the public can book, by the same rules as booking.claim: booking.slot_refusal, the
-- opening hours, the counts and the buffers. tests/sql/test_listing_equals_booking.py compares the two. Reads only:
-- what is listed may be taken by the time a caller asks for it.

-- The bookable slots that start within a time, by start.
--   p_starts       finite, half-open
--   p_quantity     how many units are wanted at once
--   p_resource_id  only where this one is free, and with no other; NULL: any
-- Outcomes: done, body: {slots: [{slot_start, slot_end, available, resource_ids}]}, where available is how many more
-- units fit, and resource_ids are the resources that have room for p_quantity, none for a service without resources;
-- service_not_found; resource_not_found; validation_failed, body: {field, message}, where no resource has room for so
-- many
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
    v_service, v_pool.resource_ids, ARRAY(SELECT booking.slot_grid(p_business_id, v_service.slot_step_minutes, p_starts)),
    make_interval(mins => v_service.duration_minutes), p_quantity, v_now, NULL) AS slot;
  RETURN (NULL, 'done', jsonb_build_object('slots', v_slots))::booking.outcome;
END
$$;

-- What to offer to a caller who was refused a slot: at most five that are as long, within seven days before and after.
-- First the same time, where it is to be had with another resource than the one that was asked for; then those of the
-- resource that was asked for; then any. Of each, the nearest first.
--   p_slot_end     NULL: the service's duration after p_slot_start
--   p_resource_id  NULL: any
--   p_except       the appointment that is to be moved, whose own claim is not counted; NULL: none
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

-- Of the slots that start at p_starts and are all of one length, those that the public can book now.
--   p_pool    the resources of which a slot needs one; NULL where the service has none
--   p_own     a claim that is not counted; NULL: none
-- Returns available and resource_ids as booking.availability does.
--
-- The counts of the whole time are read once, however many slots there are, and the number of statements does not grow
-- with them. A resource meets as many of its windows in a slot as begin before its end, less those that end by its
-- start: two binary searches (width_bucket). It is free where there is none, and may be shared where there is one, that
-- of the slot itself.
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
    SELECT start AS slot_start, start + p_length AS slot_end, start - v_before AS starts, start + p_length + v_after AS ends
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
    JOIN booking.open_stretches(p_service.business_id, p_pool, v_from, v_to) AS bookable ON bookable.whose = b.resource_id
    GROUP BY b.resource_id, b.seats, bookable.open
  ), seated AS (
    SELECT room.slot_start, sum(free.seats)::integer AS seats,
           array_agg(resource.resource_id ORDER BY resource.resource_id) FILTER (WHERE free.seats >= p_quantity) AS ids
    FROM room
    JOIN resource ON tstzrange(room.slot_start, room.slot_end) <@ resource.open
    LEFT JOIN busy AS begun ON v_is_shared AND begun.resource_id = resource.resource_id
      AND begun.service_id = p_service.service_id AND begun.starts = room.starts AND begun.ends = room.ends
    CROSS JOIN LATERAL (
      SELECT width_bucket(room.ends - interval '1 microsecond', resource.starts)
        - width_bucket(room.starts, resource.ends) AS windows
    ) AS met
    CROSS JOIN LATERAL (
      SELECT CASE met.windows WHEN 0 THEN resource.seats WHEN 1 THEN resource.seats - begun.claimed END AS seats
    ) AS free
    GROUP BY room.slot_start
  )
  SELECT room.slot_start, room.slot_end, least(room.room, seated.seats)::integer, coalesce(seated.ids, '{}')
  FROM room LEFT JOIN seated USING (slot_start)
  WHERE p_pool IS NULL OR seated.ids IS NOT NULL;
END
$$;

-- How many units of a service fit in the rest of many windows at once. What began before p_now and has not ended lasts
-- at p_now: so the fullest instant of a window is never one that is over, and the windows need not be cut.
--   p_windows  all of one length, whole seconds, none twice, and none that is over
--   p_own      a claim that is not counted; NULL: none
--
-- Every count is read once. Its edges and those of the windows are put in order, and the sum of the edges' steps is how
-- much is claimed from there on. To find the highest within each window without going through it again, time is cut
-- into bins as long as a window: so each window is the rest of the bin that it starts in and the beginning of the next
-- one. The highest so far, from the far end of the one and from the near end of the other, is one pass each.
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
    -- Equal instants count together: intervals are half-open.
    SELECT edge.at, edge.probe, edge.is_end, sum(edge.quantity) OVER (ORDER BY edge.at) AS claimed,
           date_bin(v_length, edge.at, v_from) AS bin
    FROM edge
  ), highest AS (
    SELECT level.probe, CASE
      -- The end of a window comes before everything else at its instant, and is no part of the window itself.
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
