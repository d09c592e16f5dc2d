-- Listings of bookable slots, by the rules of booking.claim: booking.slot_refusal, opening hours, counts and buffers.
-- tests/sql/test_listing_equals_booking.py compares the two. Reads only, without locks: a listed slot may be taken
-- before the caller requests it.
--
-- A listing takes three steps. booking.listed_slots computes the slots of a time, booking.free_slots leaves those that
-- have room, in time that grows with the counts plus the slots and not with their product, and booking.slot_room reads
-- what is left in the few slots of one page.

-- Returns a page of the slots of a service that the public can book.
--
-- Parameters
--   p_from         finite: the first instant at which a slot may start
--   p_to           the slots start before it; NULL: as far ahead as the service may be booked
--   p_minutes, p_days  the length of the slots, one of the two at most and in the unit of the service; NULL: its own
--   p_quantity     units wanted at once
--   p_resource_id  only slots in which this resource is free, and no other resource; NULL: any
--   p_limit        slots in a page
-- Outcomes
--   done  body {slots: [{slot_start, slot_end, available, max_quantity, resource_ids}], next_from} by start. available:
--         the units left; max_quantity: the most that one claim can get; resource_ids: the resources that have room for
--         p_quantity, at most 50, empty for a service without a pool. next_from: where the next page begins, NULL if
--         there is none. A page looks at 62 days and holds 480,000 characters at most, so it can be short, even empty
--   service_not_found, resource_not_found, business_misconfigured
--   validation_failed  no resource seats p_quantity, or the service has no slots of this length; body {field, message}
CREATE FUNCTION booking.availability(
  p_business_id text, p_service_id text, p_from timestamptz, p_to timestamptz, p_minutes integer, p_days integer,
  p_quantity integer, p_resource_id text, p_limit integer)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_listing booking.listing := booking.begin_listing(
    p_business_id, p_service_id, p_minutes, p_days, p_quantity, p_resource_id);
  v_from timestamptz := greatest(p_from, v_now);
  -- A slot may start exactly at the horizon.
  v_to timestamptz := least(p_to, v_now + make_interval(
    hours => 24 * (v_listing.service).max_advance_days) + interval '1 microsecond');
  v_page_ends timestamptz := least(v_to, v_from + interval '62 days');
  v_starts timestamptz[];
  v_ends timestamptz[];
  v_next timestamptz;
  v_slots jsonb;
BEGIN
  IF v_listing.outcome IS NOT NULL THEN
    RETURN (NULL, v_listing.outcome, v_listing.body)::booking.outcome;
  END IF;
  IF v_from < v_page_ends THEN
    SELECT array_agg(page.slot_start ORDER BY page.slot_start) FILTER (WHERE page.place <= p_limit),
           array_agg(page.slot_end ORDER BY page.slot_start) FILTER (WHERE page.place <= p_limit),
           min(page.slot_start) FILTER (WHERE page.place > p_limit)
    INTO v_starts, v_ends, v_next
    FROM (
      SELECT slot.*, row_number() OVER (ORDER BY slot.slot_start) AS place
      FROM booking.free_slots(
        v_listing.service, v_listing.pool, v_listing.timezone, tstzrange(v_from, v_page_ends), v_listing.length,
        v_listing.days, p_quantity, v_now, NULL) AS slot
    ) AS page
    WHERE page.place <= p_limit + 1;
  END IF;
  IF v_next IS NULL AND v_page_ends < v_to THEN
    v_next := v_page_ends;
  END IF;

  SELECT jsonb_agg(page.slot ORDER BY page.slot_start) FILTER (WHERE page.length <= 480000),
         coalesce(min(page.slot_start) FILTER (WHERE page.length > 480000), v_next)
  INTO v_slots, v_next
  FROM (
    SELECT slot.slot_start, to_jsonb(slot) AS slot, sum(length(to_jsonb(slot)::text)) OVER (
             ORDER BY slot.slot_start) AS length
    FROM booking.slot_room(v_listing.service, v_listing.pool, v_starts, v_ends, p_quantity, v_now, NULL) AS slot
  ) AS page;
  RETURN (NULL, 'done', jsonb_build_object('slots', coalesce(v_slots, '[]'), 'next_from', v_next))::booking.outcome;
END
$$;

-- Returns for each local date how many slots the public can book that start on it.
--
-- Parameters
--   p_first, p_last  local dates, both included
--   the others       as in booking.availability
-- Outcomes  as booking.availability, but
--   done  body {days: [{date, slots, first_slot_start}]}, one entry for each date; slots: at most 100, which means that
--         many or more
CREATE FUNCTION booking.available_days(
  p_business_id text, p_service_id text, p_first date, p_last date, p_minutes integer, p_days integer,
  p_quantity integer, p_resource_id text)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_listing booking.listing := booking.begin_listing(
    p_business_id, p_service_id, p_minutes, p_days, p_quantity, p_resource_id);
  v_midnights timestamptz[];
  v_days jsonb;
BEGIN
  IF v_listing.outcome IS NOT NULL THEN
    RETURN (NULL, v_listing.outcome, v_listing.body)::booking.outcome;
  END IF;
  v_midnights := booking.instants_of(v_listing.timezone, ARRAY[p_first, p_last + 1]::timestamp[]);
  SELECT jsonb_agg(jsonb_build_object(
    'date', p_first + n, 'slots', least(coalesce(of_day.slots, 0), 100), 'first_slot_start', of_day.first) ORDER BY n)
  INTO v_days
  FROM generate_series(0, p_last - p_first) AS n
  LEFT JOIN (
    SELECT (slot.slot_start AT TIME ZONE v_listing.timezone)::date AS date, count(*) AS slots,
           min(slot.slot_start) AS first
    FROM booking.free_slots(
      v_listing.service, v_listing.pool, v_listing.timezone, tstzrange(v_midnights[1], v_midnights[2]),
      v_listing.length, v_listing.days, p_quantity, v_now, NULL) AS slot
    GROUP BY 1
  ) AS of_day ON of_day.date = p_first + n;
  RETURN (NULL, 'done', jsonb_build_object('days', v_days))::booking.outcome;
END
$$;

-- Returns at most five bookable slots of the same length as a refused one, starting within seven days before and after
-- it. The order: first the same time, if another resource than the requested one is free then; next the slots of the
-- requested resource; then all others. Within each group the nearest first.
--
--   p_slot_end     NULL: the service's length after p_slot_start
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
  v_listing booking.listing := booking.begin_listing(p_business_id, p_service_id, NULL, NULL, p_quantity, NULL);
  v_own booking.own_claim;
  v_starts tstzrange := tstzrange(p_slot_start - interval '168 hours', p_slot_start + interval '168 hours', '[]');
  v_free_starts timestamptz[];
  v_free_ends timestamptz[];
BEGIN
  IF v_listing.outcome IS NOT NULL
    OR p_slot_end IS NOT NULL AND booking.length_refusal(
      v_listing.service, v_listing.timezone, p_slot_start, p_slot_end) IS NOT NULL
  THEN
    RETURN;
  ELSIF p_slot_end IS NOT NULL AND v_listing.days IS NOT NULL THEN
    v_listing.days := (booking.days_of(v_listing.service, v_listing.timezone, p_slot_start, p_slot_end)).days;
  ELSIF p_slot_end IS NOT NULL THEN
    v_listing.length := booking.elapsed(p_slot_start, p_slot_end);
  END IF;
  SELECT coalesce(a.resource_id, ''), lower(a.occupied), upper(a.occupied), a.quantity INTO v_own
  FROM booking.appointment_by_id(p_business_id, p_except) AS a
  WHERE a.service_id = p_service_id AND a.status = 'confirmed';

  -- The five nearest slots of any resource, and of the requested one.
  SELECT array_agg(near.slot_start), array_agg(near.slot_end) INTO v_free_starts, v_free_ends
  FROM (
    SELECT slot.slot_start, slot.slot_end
    FROM unnest(ARRAY[false, true]) AS search (is_of_resource)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.free_slots(
        v_listing.service, CASE WHEN search.is_of_resource THEN ARRAY[p_resource_id] ELSE v_listing.pool END,
        v_listing.timezone, v_starts, v_listing.length, v_listing.days, p_quantity, v_now, v_own,
        p_slot_start) AS free
      ORDER BY greatest(free.slot_start - p_slot_start, p_slot_start - free.slot_start), free.slot_start LIMIT 5
    ) AS slot
    WHERE NOT search.is_of_resource OR p_resource_id = ANY (v_listing.pool)
    GROUP BY slot.slot_start, slot.slot_end
  ) AS near;

  RETURN QUERY
  SELECT slot.slot_start, slot.slot_end, slot.resource_ids
  FROM booking.slot_room(
    v_listing.service, v_listing.pool, v_free_starts, v_free_ends, p_quantity, v_now, v_own) AS slot
  ORDER BY slot.slot_start <> p_slot_start, p_resource_id <> ALL (slot.resource_ids),
           greatest(slot.slot_start - p_slot_start, p_slot_start - slot.slot_start), slot.slot_start
  LIMIT 5;
END
$$;

-- Reads what a listing needs of the catalog, and checks its parameters, which are those of booking.availability.
--
-- Returns
--   service, timezone  of the business
--   pool               the resources of which a slot needs one; NULL: the service has no pool
--   length, days       the length of the slots as elapsed time or in calendar days: one of the two is NULL
--   outcome, body      a refusal as in booking.availability; NULL: none
CREATE FUNCTION booking.begin_listing(
  p_business_id text, p_service_id text, p_minutes integer, p_days integer, p_quantity integer, p_resource_id text)
RETURNS booking.listing LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_listing booking.listing;
  v_service booking.services;
  v_pool booking.pool;
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    v_listing.outcome := 'service_not_found';
    RETURN v_listing;
  END IF;
  v_listing.service := v_service;
  v_listing.timezone := booking.timezone_of(p_business_id);
  v_pool := booking.find_pool(p_business_id, p_service_id, p_resource_id, NULL, NULL);
  v_listing.pool := ARRAY(
    SELECT r.resource_id FROM unnest(v_pool.resource_ids) AS member (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = member.id OFFSET 0
    ) AS r
    WHERE r.booking_enabled);
  IF NOT v_pool.has_resources THEN
    v_listing.pool := NULL;
  END IF;
  v_listing.length := make_interval(mins => CASE WHEN v_service.duration_days IS NULL
    THEN coalesce(p_minutes, v_service.duration_minutes) END);
  v_listing.days := CASE WHEN v_service.duration_days IS NOT NULL
    THEN coalesce(p_days, v_service.duration_days) END;

  IF v_listing.timezone IS NULL THEN
    v_listing.outcome := 'business_misconfigured';
  ELSIF p_resource_id IS NOT NULL AND v_pool.largest IS NULL THEN
    v_listing.outcome := 'resource_not_found';
  ELSIF p_quantity > v_pool.largest THEN
    v_listing.outcome := 'validation_failed';
    v_listing.body := booking.too_many_for_a_resource(v_pool.largest);
  ELSIF p_minutes IS NOT NULL AND v_listing.length IS NULL OR p_days IS NOT NULL AND v_listing.days IS NULL
    OR p_minutes < coalesce(v_service.min_duration_minutes, v_service.duration_minutes)
    OR p_minutes > coalesce(v_service.max_duration_minutes, v_service.duration_minutes)
    OR v_listing.days < coalesce(v_service.min_duration_days, v_service.duration_days)
    OR v_listing.days > coalesce(v_service.max_duration_days, v_service.duration_days)
  THEN
    v_listing.outcome := 'validation_failed';
    v_listing.body := booking.no_such_length(
      v_service, CASE WHEN p_minutes IS NULL THEN 'duration_days' ELSE 'duration_minutes' END);
  END IF;
  RETURN v_listing;
END
$$;

-- Returns the body of validation_failed for a length that a service does not have: {field, message}.
CREATE FUNCTION booking.no_such_length(p_service booking.services, p_field text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT jsonb_build_object('field', p_field, 'message', CASE WHEN p_service.duration_days IS NULL
    THEN format('slots of this service have %s to %s minutes',
      coalesce(p_service.min_duration_minutes, p_service.duration_minutes),
      coalesce(p_service.max_duration_minutes, p_service.duration_minutes))
    ELSE format('slots of this service have %s to %s days',
      coalesce(p_service.min_duration_days, p_service.duration_days),
      coalesce(p_service.max_duration_days, p_service.duration_days)) END)
$$;

-- Returns the listed slots of a service that the public can book now.
--
-- Parameters
--   p_pool      the resources of which a slot needs one; NULL: the service has no pool
--   p_timezone  of the business
--   p_starts    the slots start within this range (finite)
--   p_length, p_days  as in booking.listed_slots
--   p_own       a claim that does not count; NULL: none
--   p_extra     a start that is tried even if it is not listed, unless the service starts on its grid only; NULL: none
--
-- For each resource the instants at which a slot of this length may start are computed as ranges: its hours and the gaps
-- between its windows, shortened by the length and the buffers (booking.possible_starts). Whether a slot has a free
-- resource is then one search in the union of these ranges, however many resources there are.
CREATE FUNCTION booking.free_slots(
  p_service booking.services, p_pool text[], p_timezone text, p_starts tstzrange, p_length interval, p_days integer,
  p_quantity integer, p_now timestamptz, p_own booking.own_claim, p_extra timestamptz DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_starts timestamptz[];
  v_ends timestamptz[];
  v_slots tstzrange;
  v_windows tstzrange;
  v_before interval := make_interval(mins => p_service.buffer_before_minutes);
  v_after interval := make_interval(mins => p_service.buffer_after_minutes);
  v_apply text := booking.hours_apply(p_service);
  v_is_shared boolean := p_service.resource_sharing = 'session';
  v_limit record;
BEGIN
  SELECT array_agg(slot.starts), array_agg(slot.ends), tstzrange(min(slot.starts), max(slot.ends)),
         tstzrange(min(slot.starts) - v_before, max(slot.ends) + v_after)
  INTO v_starts, v_ends, v_slots, v_windows
  FROM (
    SELECT listed.slot_start, listed.slot_end
    FROM booking.listed_slots(p_service, p_timezone, p_starts, p_length, p_days) AS listed
    UNION
    SELECT p_extra, CASE WHEN p_days IS NULL THEN p_extra + p_length
      ELSE booking.end_of_days(p_service, p_timezone, p_extra, p_days) END
    WHERE p_extra IS NOT NULL AND NOT p_service.starts_on_grid
  ) AS slot (starts, ends)
  WHERE booking.start_refusal(p_service, slot.starts, p_now) IS NULL;
  IF v_starts IS NULL THEN
    RETURN;
  END IF;
  SELECT * INTO v_limit FROM booking.capacity_of(p_service);

  RETURN QUERY
  WITH business AS MATERIALIZED (
    SELECT * FROM booking.open_periods(p_service.business_id, '{""}', v_slots)
  ), slot AS MATERIALIZED (
    SELECT candidate.starts, candidate.ends, booking.elapsed(candidate.starts, candidate.ends) AS length
    FROM unnest(v_starts, v_ends) AS candidate (starts, ends)
    CROSS JOIN business
    WHERE booking.is_open(business.hours, business.closed, v_apply, tstzrange(candidate.starts, candidate.ends))
  ), full_time AS MATERIALIZED (
    -- When the service has no room for p_quantity more.
    SELECT coalesce(range_agg(tstzrange(level.at, level.until)), '{}') AS during
    FROM booking.claim_levels(
      p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, v_limit.counted_ids,
      greatest(lower(v_windows), p_now), upper(v_windows), p_own, p_now, NULL) AS level
    WHERE level.claimed + p_quantity > v_limit.capacity
  ), resource AS MATERIALIZED (
    SELECT r.resource_id, r.seats, period.hours, period.closed, w.busy, w.sessions
    FROM booking.open_periods(p_service.business_id, p_pool, v_slots) AS period
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r
      WHERE r.business_id = p_service.business_id AND r.resource_id = period.owner_id AND r.seats >= p_quantity OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT coalesce(range_agg(tstzrange((m.o).starts, (m.o).ends)), '{}') AS busy,
             array_agg(tstzrange((m.o).starts, (m.o).ends)) FILTER (
               WHERE v_is_shared AND (m.o).service_id = p_service.service_id AND m.claimed + p_quantity <= r.seats)
               AS sessions
      FROM booking.resource_windows(
        p_service.business_id, r.resource_id, r.longest_occupied_seconds, lower(v_windows), upper(v_windows), p_now,
        p_service.service_id, p_own) AS m
      WHERE m.claimed > 0
    ) AS w
  ), free_of_length AS MATERIALIZED (
    SELECT length.length, range_agg(booking.possible_starts(
      resource.hours, resource.closed, resource.busy, v_apply, length.length, v_before, v_after)) AS starts
    FROM (SELECT DISTINCT slot.length FROM slot) AS length CROSS JOIN resource
    GROUP BY length.length
  ), open_session AS MATERIALIZED (
    -- A window of the service that has begun to fill a resource, and has seats left.
    SELECT DISTINCT during
    FROM resource CROSS JOIN unnest(resource.sessions) AS during
    WHERE booking.is_open(resource.hours, resource.closed, v_apply,
      tstzrange(lower(during) + v_before, upper(during) - v_after))
  )
  SELECT slot.starts, slot.ends
  FROM slot
  CROSS JOIN full_time
  LEFT JOIN free_of_length ON free_of_length.length = slot.length
  LEFT JOIN open_session ON open_session.during = tstzrange(slot.starts - v_before, slot.ends + v_after)
  WHERE NOT full_time.during && tstzrange(slot.starts - v_before, slot.ends + v_after)
    AND (p_pool IS NULL OR free_of_length.starts @> slot.starts OR open_session.during IS NOT NULL);
END
$$;

-- Returns the instants at which a slot may start so that a resource is open and free.
--
-- Parameters
--   p_hours, p_closed, p_hours_apply  as in booking.is_open
--   p_busy             the windows of the resource
--   p_length           of the slot
--   p_before, p_after  the buffers of its window
CREATE FUNCTION booking.possible_starts(
  p_hours tstzmultirange, p_closed tstzmultirange, p_busy tstzmultirange, p_hours_apply text, p_length interval,
  p_before interval, p_after interval)
RETURNS tstzmultirange LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE p_hours_apply
      WHEN 'ends' THEN p_hours * coalesce((
        SELECT range_agg(tstzrange(lower(period) - p_length, upper(period) - p_length, '[]'))
        FROM unnest(p_hours) AS period), '{}')
      ELSE coalesce((
        SELECT range_agg(tstzrange(lower(period), upper(period) - p_length, '[]'))
        FROM unnest(p_hours) AS period
        WHERE (lower(period) > upper(period) - p_length) IS NOT TRUE), '{}')
    END
    -- A slot that starts strictly within these ranges overlaps a closure or a window.
    - coalesce((
      SELECT range_agg(tstzrange(lower(period) - p_length, upper(period), '()')) FROM unnest(p_closed) AS period), '{}')
    - coalesce((
      SELECT range_agg(tstzrange(lower(busy) - p_length - p_after, upper(busy) + p_before, '()'))
      FROM unnest(p_busy) AS busy), '{}')
$$;

-- Returns how much room the public has in slots that booking.free_slots found, those with room for p_quantity. The
-- parameters are those of booking.free_slots, and
--   p_starts, p_ends  the slots: parallel arrays without duplicates
-- Returns  slot_start to resource_ids as in booking.availability
--
-- The number of windows of a resource that overlap a slot is the number that start before its end, minus the number
-- that end by its start: two binary searches (width_bucket). The resource is free if there is none. If the only one is
-- the slot's own session, its free seats are left.
CREATE FUNCTION booking.slot_room(
  p_service booking.services, p_pool text[], p_starts timestamptz[], p_ends timestamptz[], p_quantity integer,
  p_now timestamptz, p_own booking.own_claim)
RETURNS TABLE (
  slot_start timestamptz, slot_end timestamptz, available integer, max_quantity integer, resource_ids text[])
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_slots tstzrange := (SELECT tstzrange(min(s), max(e)) FROM unnest(p_starts, p_ends) AS slot (s, e));
  v_before interval := make_interval(mins => p_service.buffer_before_minutes);
  v_after interval := make_interval(mins => p_service.buffer_after_minutes);
  v_apply text := booking.hours_apply(p_service);
  v_is_shared boolean := p_service.resource_sharing = 'session';
BEGIN
  IF p_starts IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH slot AS MATERIALIZED (
    SELECT given.slot_start, given.slot_end, given.slot_start - v_before AS starts, given.slot_end + v_after AS ends
    FROM unnest(p_starts, p_ends) AS given (slot_start, slot_end)
  ), room AS MATERIALIZED (
    SELECT slot.*, peak.room
    FROM (
      SELECT array_agg(tstzrange(slot.starts, slot.ends)) AS windows
      FROM slot GROUP BY booking.elapsed(slot.starts, slot.ends)
    ) AS of_length
    CROSS JOIN LATERAL booking.room_in_windows(p_service, of_length.windows, p_now, p_own) AS peak
    JOIN slot ON tstzrange(slot.starts, slot.ends) = peak.during
    WHERE peak.room >= p_quantity
  ), busy AS MATERIALIZED (
    SELECT r.resource_id, r.seats, w.service_id, w.starts, w.ends, w.claimed
    FROM unnest(p_pool) AS member (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r
      WHERE r.business_id = p_service.business_id AND r.resource_id = member.id OFFSET 0
    ) AS r
    LEFT JOIN LATERAL (
      SELECT (m.o).service_id, (m.o).starts, (m.o).ends, m.claimed
      FROM booking.resource_windows(p_service.business_id, r.resource_id, r.longest_occupied_seconds,
        lower(v_slots) - v_before, upper(v_slots) + v_after, p_now, p_service.service_id, p_own) AS m OFFSET 0
    ) AS w ON w.claimed > 0
  ), resource AS MATERIALIZED (
    SELECT b.resource_id, b.seats, period.hours, period.closed,
           coalesce(array_agg(b.starts ORDER BY b.starts) FILTER (WHERE b.starts IS NOT NULL), '{}') AS starts,
           coalesce(array_agg(b.ends ORDER BY b.ends) FILTER (WHERE b.ends IS NOT NULL), '{}') AS ends
    FROM busy AS b
    JOIN booking.open_periods(p_service.business_id, p_pool, v_slots) AS period ON period.owner_id = b.resource_id
    GROUP BY b.resource_id, b.seats, period.hours, period.closed
  ), slot_seats AS (
    SELECT room.slot_start, sum(free.seats)::integer AS seats, max(free.seats) AS most,
           array_agg(resource.resource_id ORDER BY resource.resource_id) FILTER (WHERE free.seats >= p_quantity) AS ids
    FROM room
    JOIN resource ON booking.is_open(
      resource.hours, resource.closed, v_apply, tstzrange(room.slot_start, room.slot_end))
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
  SELECT room.slot_start, room.slot_end, least(room.room, slot_seats.seats)::integer,
         least(room.room, slot_seats.most)::integer, coalesce(slot_seats.ids[1:50], '{}')
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
