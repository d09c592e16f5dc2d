-- Listings of bookable slots, by the rules of booking.claim: booking.slot_refusal, opening hours, counts and buffers.
-- tests/sql/test_listing_equals_booking.py compares the two. Reads only, without locks: a listed slot may be taken
-- before the caller requests it.
--
-- A listing takes three steps. booking.free_starts computes the instants at which a slot may start as ranges, so its time
-- grows with the counts plus the slots and not with their product. booking.free_slots lists the slots that start then:
-- of a service by minutes no more than a page needs, however fine the grid is. booking.slot_room reads how much room these
-- slots have.
--
-- The first step takes slots of one length, or slots with one end (booking.slot_groups). Those of a service by days are
-- therefore all listed before it, because their ends depend on their local dates.

-- Returns a page of the slots of a service that the public can book.
--
-- Parameters
--   p_from         finite: the first instant at which a slot may start
--   p_to           the slots start before it; NULL: as far ahead as the service may be booked
--   p_minutes, p_days  the length of the slots, one of the two at most and in the unit of the service; NULL: that of
--                  p_except, if the service has that length, else the service's own
--   p_quantity     units wanted at once; NULL: those of p_except, or 1
--   p_resource_id  only slots in which this resource is free, and no other resource; NULL: any
--   p_limit        slots in a page
--   p_except       as in booking.alternatives
-- Outcomes
--   done  body {slots: [{slot_start, slot_end, available, max_quantity, resource_ids}], next_from} by start. available:
--         the units left; max_quantity: the most that one claim can get; resource_ids: the resources that have room for
--         p_quantity, at most 50, empty for a service without a pool. next_from: where the next page begins, NULL if
--         there is none. A page looks at 62 days and holds 480,000 characters at most, so it can be short, even empty
--   service_not_found, resource_not_found, business_misconfigured
--   validation_failed  no resource seats p_quantity, or the service has no slots of this length; body of booking.fault
CREATE FUNCTION booking.availability(
  p_business_id text, p_service_id text, p_from timestamptz, p_to timestamptz, p_minutes integer, p_days integer,
  p_quantity integer, p_resource_id text, p_limit integer, p_except uuid DEFAULT NULL)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_own booking.own_claim := booking.own_claim_by_id(p_business_id, p_except);
  v_quantity integer := coalesce(p_quantity, v_own.quantity, 1);
  v_listing booking.listing := booking.begin_listing(
    p_business_id, p_service_id, p_minutes, p_days, v_quantity, p_resource_id, p_except);
  v_within tstzrange;
  v_time interval;
  v_page_ends timestamptz;
  v_starts timestamptz[];
  v_ends timestamptz[];
  v_next timestamptz;
  v_slots jsonb;
BEGIN
  IF v_listing.outcome IS NOT NULL THEN
    RETURN (NULL, v_listing.outcome, v_listing.body)::booking.outcome;
  END IF;
  v_within := tstzrange(p_from, p_to) * booking.bookable_starts(v_listing.service, v_now);
  -- Most pages are full after a few days.
  FOREACH v_time IN ARRAY ARRAY['48 hours', '336 hours', '1488 hours']::interval[] LOOP
    EXIT WHEN isempty(v_within);
    v_page_ends := lower(v_within) + v_time;
    SELECT array_agg(page.slot_start ORDER BY page.place) FILTER (WHERE page.place <= p_limit),
           array_agg(page.slot_end ORDER BY page.place) FILTER (WHERE page.place <= p_limit),
           min(page.slot_start) FILTER (WHERE page.place > p_limit)
    INTO v_starts, v_ends, v_next
    FROM (
      SELECT slot.*, row_number() OVER (ORDER BY slot.slot_start) AS place
      FROM booking.free_slots(
        v_listing, v_within * tstzrange(NULL, v_page_ends), v_quantity, v_now, v_own, p_limit + 1) AS slot
    ) AS page
    WHERE page.place <= p_limit + 1;
    EXIT WHEN v_next IS NOT NULL OR NOT v_within @> v_page_ends;
    v_next := v_page_ends;
  END LOOP;

  SELECT jsonb_agg(page.slot ORDER BY page.slot_start) FILTER (WHERE page.length <= 480000),
         coalesce(min(page.slot_start) FILTER (WHERE page.length > 480000), v_next)
  INTO v_slots, v_next
  FROM (
    SELECT slot.slot_start, to_jsonb(slot) AS slot, sum(length(to_jsonb(slot)::text)) OVER (
             ORDER BY slot.slot_start) AS length
    FROM booking.slot_room(v_listing, v_starts, v_ends, v_quantity, v_now, v_own, NULL) AS slot
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
  p_quantity integer, p_resource_id text, p_except uuid DEFAULT NULL)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_own booking.own_claim := booking.own_claim_by_id(p_business_id, p_except);
  v_quantity integer := coalesce(p_quantity, v_own.quantity, 1);
  v_listing booking.listing := booking.begin_listing(
    p_business_id, p_service_id, p_minutes, p_days, v_quantity, p_resource_id, p_except);
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
    -- Where the clock is set back across midnight, a date goes on after the next one has begun.
    FROM booking.free_slots(
      v_listing, tstzrange(v_midnights[1], v_midnights[2] + interval '24 hours'), v_quantity, v_now, v_own, 100) AS slot
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
--   p_resource_id  the requested resource, which resource_ids begin with; NULL: any
--   p_except       the appointment to be moved, whose own claim does not count, and which keeps its buffers within its
--                  service (booking.with_changes); NULL: none
CREATE FUNCTION booking.alternatives(
  p_business_id text, p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz, p_quantity integer,
  p_resource_id text, p_except uuid DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz, resource_ids text[]) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_listing booking.listing := booking.begin_listing(
    p_business_id, p_service_id, NULL, NULL, p_quantity, NULL, p_except);
  v_own booking.own_claim := booking.own_claim_by_id(p_business_id, p_except);
  v_searches booking.listing[];
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

  -- The five nearest slots of any resource, and of the requested one.
  v_searches := ARRAY[v_listing];
  IF p_resource_id = ANY (v_listing.pool) THEN
    v_searches[2] := v_listing;
    v_searches[2].pool := ARRAY[p_resource_id];
  END IF;
  SELECT array_agg(near.slot_start), array_agg(near.slot_end) INTO v_free_starts, v_free_ends
  FROM (
    SELECT slot.slot_start, slot.slot_end
    FROM unnest(v_searches) AS search
    CROSS JOIN LATERAL (
      SELECT * FROM booking.free_slots(search, v_starts, p_quantity, v_now, v_own, 5, p_slot_start) AS free
      ORDER BY greatest(free.slot_start - p_slot_start, p_slot_start - free.slot_start), free.slot_start LIMIT 5
    ) AS slot
    GROUP BY slot.slot_start, slot.slot_end
  ) AS near;

  RETURN QUERY
  SELECT slot.slot_start, slot.slot_end, slot.resource_ids
  FROM booking.slot_room(v_listing, v_free_starts, v_free_ends, p_quantity, v_now, v_own, p_resource_id) AS slot
  ORDER BY slot.slot_start <> p_slot_start, p_resource_id <> ALL (slot.resource_ids),
           greatest(slot.slot_start - p_slot_start, p_slot_start - slot.slot_start), slot.slot_start
  LIMIT 5;
END
$$;

-- Returns the claim of an appointment, as booking.own_claim_of does; NULL also if there is no such appointment.
CREATE FUNCTION booking.own_claim_by_id(p_business_id text, p_appointment_id uuid)
RETURNS booking.own_claim LANGUAGE sql STABLE
AS $$ SELECT booking.own_claim_of(a) FROM booking.appointment_by_id(p_business_id, p_appointment_id) AS a $$;

-- Reads what a listing needs of the catalog, and checks its parameters, which are those of booking.availability.
--
-- Returns
--   service, timezone  of the business; the service with the buffers that the slots get
--   pool               the resources of which a slot needs one; NULL: the service has no pool
--   length, days       the length of the slots as elapsed time or in calendar days: one of the two is NULL
--   outcome, body      a refusal as in booking.availability; NULL: none
CREATE FUNCTION booking.begin_listing(
  p_business_id text, p_service_id text, p_minutes integer, p_days integer, p_quantity integer, p_resource_id text,
  p_except uuid)
RETURNS booking.listing LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_listing booking.listing;
  v_service booking.services;
  v_moved booking.appointments;
  v_kept integer;
  v_pool booking.pool;
BEGIN
  v_listing.timezone := booking.timezone_of(p_business_id);
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    v_listing.outcome := 'service_not_found';
    RETURN v_listing;
  END IF;
  SELECT * INTO v_moved FROM booking.appointment_by_id(p_business_id, p_except) AS a
  WHERE a.service_id = p_service_id AND a.status = 'confirmed';
  IF FOUND THEN
    v_service.buffer_before_minutes := extract(epoch FROM v_moved.slot_start - lower(v_moved.occupied)) / 60;
    v_service.buffer_after_minutes := extract(epoch FROM upper(v_moved.occupied) - v_moved.slot_end) / 60;
    IF v_service.duration_days IS NOT NULL THEN
      v_kept := (booking.days_of(v_service, v_listing.timezone, v_moved.slot_start, v_moved.slot_end)).kept;
      IF v_kept BETWEEN booking.min_length(v_service) AND booking.max_length(v_service) THEN
        v_listing.days := v_kept;
      END IF;
    ELSIF booking.length_refusal(v_service, v_listing.timezone, v_moved.slot_start, v_moved.slot_end) IS NULL THEN
      v_listing.length := booking.elapsed(v_moved.slot_start, v_moved.slot_end);
    END IF;
  END IF;
  v_listing.service := v_service;
  v_pool := booking.find_pool(p_business_id, p_service_id, p_resource_id, NULL, NULL, true);
  v_listing.pool := ARRAY(
    SELECT r.resource_id FROM unnest(v_pool.resource_ids) AS member (id)
    CROSS JOIN LATERAL booking.resource_by_id(p_business_id, member.id) AS r
    WHERE r.booking_enabled);
  IF NOT v_pool.has_resources THEN
    v_listing.pool := NULL;
  END IF;
  v_listing.length := CASE WHEN v_service.duration_days IS NULL
    THEN coalesce(make_interval(mins => p_minutes), v_listing.length,
      make_interval(mins => v_service.duration_minutes)) END;
  v_listing.days := CASE WHEN v_service.duration_days IS NOT NULL
    THEN coalesce(p_days, v_listing.days, v_service.duration_days) END;

  IF v_listing.timezone IS NULL THEN
    v_listing.outcome := 'business_misconfigured';
  ELSIF p_resource_id IS NOT NULL AND v_pool.largest IS NULL THEN
    v_listing.outcome := 'resource_not_found';
  ELSIF p_quantity > v_pool.largest THEN
    v_listing.outcome := 'validation_failed';
    v_listing.body := booking.too_many_for_a_resource(v_pool.largest);
  ELSIF p_minutes IS NOT NULL AND v_listing.length IS NULL OR p_days IS NOT NULL AND v_listing.days IS NULL
    OR coalesce(p_minutes, p_days) NOT BETWEEN booking.min_length(v_service) AND booking.max_length(v_service)
  THEN
    v_listing.outcome := 'validation_failed';
    v_listing.body := booking.no_such_length(
      v_service, CASE WHEN p_minutes IS NULL THEN 'duration_days' ELSE 'duration_minutes' END);
  END IF;
  RETURN v_listing;
END
$$;

-- Returns the fault of a length that a service does not have.
CREATE FUNCTION booking.no_such_length(p_service booking.services, p_field text)
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT booking.fault(p_field, 'length_not_offered', jsonb_build_object(
    'unit', CASE WHEN p_service.duration_days IS NULL THEN 'minutes' ELSE 'days' END,
    'min', booking.min_length(p_service), 'max', booking.max_length(p_service)))
$$;

-- Returns the instants at which the public may start a slot, by the notice and the horizon of a service; empty if it is
-- not booked online. The same rule as booking.start_refusal.
CREATE FUNCTION booking.bookable_starts(p_service booking.services, p_now timestamptz)
RETURNS tstzrange LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE
    WHEN p_service.booking_enabled AND p_service.min_notice_minutes <= 1440 * p_service.max_advance_days
    THEN tstzrange(p_now + make_interval(mins => p_service.min_notice_minutes),
      p_now + make_interval(hours => 24 * p_service.max_advance_days), '[]')
    ELSE 'empty' END
$$;

-- Returns the listed slots that the public can book now, whatever their order.
--
-- Parameters
--   p_starts         the slots start within this range (finite)
--   p_own            a claim that does not count; NULL: none
--   p_limit, p_near  as in booking.listed_starts: at least so many of each local date, if it has them. p_near, within
--                    p_starts, is tried even if it is not listed, unless the service starts on its grid only
CREATE FUNCTION booking.free_slots(
  p_listing booking.listing, p_starts tstzrange, p_quantity integer, p_now timestamptz, p_own booking.own_claim,
  p_limit integer DEFAULT NULL, p_near timestamptz DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_service booking.services := p_listing.service;
  v_within tstzrange := p_starts * booking.bookable_starts(v_service, p_now);
  v_extra timestamptz := CASE WHEN p_near <@ v_within AND NOT v_service.starts_on_grid THEN p_near END;
  v_starts timestamptz[];
  v_ends timestamptz[];
  v_groups booking.slot_group[];
  v_slots tstzrange;
BEGIN
  IF isempty(v_within) THEN
    RETURN;
  ELSIF p_listing.days IS NULL THEN
    -- Only the starts at which there is room are listed: of a fine grid these can be few.
    RETURN QUERY
    SELECT slot.starts, slot.starts + p_listing.length
    FROM booking.free_starts(
      p_listing, ARRAY[ROW(p_listing.length, NULL)::booking.slot_group],
      tstzrange(lower(v_within), upper(v_within) + p_listing.length), p_quantity, p_now, p_own) AS possible
    CROSS JOIN LATERAL (
      SELECT listed.at FROM booking.listed_starts(
        v_service, p_listing.timezone, possible.starts * tstzmultirange(v_within), p_limit, p_near) AS listed
      UNION
      SELECT v_extra WHERE possible.starts @> v_extra
    ) AS slot (starts);
    RETURN;
  END IF;

  SELECT array_agg(slot.starts), array_agg(slot.ends), tstzrange(min(slot.starts), max(slot.ends))
  INTO v_starts, v_ends, v_slots
  FROM (
    SELECT listed.slot_start, listed.slot_end
    FROM booking.listed_slots(
      v_service, p_listing.timezone, tstzmultirange(v_within), NULL, p_listing.days) AS listed
    UNION
    SELECT v_extra, booking.end_of_days(v_service, p_listing.timezone, v_extra, p_listing.days)
    WHERE v_extra IS NOT NULL
  ) AS slot (starts, ends);
  v_groups := booking.slot_groups(v_starts, v_ends);
  RETURN QUERY
  SELECT slot.starts, slot.ends
  FROM booking.free_starts(p_listing, v_groups, v_slots, p_quantity, p_now, p_own) AS possible
  JOIN booking.slots_by_group(v_groups, v_starts, v_ends) AS listed USING (of_group)
  CROSS JOIN LATERAL unnest(listed.starts, listed.ends) AS slot (starts, ends)
  WHERE possible.starts @> slot.starts;
END
$$;

-- Returns the groups of slots for which a listing computes at once when they may start: slots that have a length in
-- common, or an end, whichever makes fewer groups. Nights from 14:00 to 11:00 have one length or, where the clock
-- changes, three; slots that start at each minute and end at 11:00 have 1440 lengths and one end a day.
--
--   p_starts, p_ends  the slots: parallel arrays
-- Returns  length or ends of each group, the other one is NULL; NULL: no slots
CREATE FUNCTION booking.slot_groups(p_starts timestamptz[], p_ends timestamptz[])
RETURNS booking.slot_group[] LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
  v_lengths booking.slot_group[] := (
    SELECT array_agg(ROW(slot.length, NULL)::booking.slot_group)
    FROM (
      SELECT DISTINCT booking.elapsed(given.starts, given.ends) FROM unnest(p_starts, p_ends) AS given (starts, ends)
    ) AS slot (length));
  v_ends booking.slot_group[];
BEGIN
  IF cardinality(v_lengths) > 1 THEN
    v_ends := (
      SELECT array_agg(ROW(NULL, slot.ends)::booking.slot_group) FROM (SELECT DISTINCT unnest(p_ends)) AS slot (ends));
  END IF;
  RETURN CASE WHEN cardinality(v_ends) < cardinality(v_lengths) THEN v_ends ELSE v_lengths END;
END
$$;

-- Returns the group of a slot among those of booking.slot_groups.
CREATE FUNCTION booking.group_of(p_groups booking.slot_group[], p_start timestamptz, p_end timestamptz)
RETURNS booking.slot_group LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN (p_groups[1]).ends IS NULL THEN ROW(booking.elapsed(p_start, p_end), NULL)::booking.slot_group
    ELSE ROW(NULL, p_end)::booking.slot_group END
$$;

-- Returns slots, as parallel arrays, by their groups among those of booking.slot_groups.
CREATE FUNCTION booking.slots_by_group(p_groups booking.slot_group[], p_starts timestamptz[], p_ends timestamptz[])
RETURNS TABLE (of_group booking.slot_group, starts timestamptz[], ends timestamptz[]) LANGUAGE sql IMMUTABLE
AS $$
  SELECT booking.group_of(p_groups, slot.starts, slot.ends), array_agg(slot.starts), array_agg(slot.ends)
  FROM unnest(p_starts, p_ends) AS slot (starts, ends) GROUP BY 1
$$;

-- Returns when slots may start, whether listed or not, so that they are permitted by hours and have room: one row for
-- each group. The instants are computed as ranges: from the hours of the business, the times at which the service is
-- full, and those of each resource. Whether a slot can be booked is then one search in these ranges, however many
-- resources there are.
--
-- Parameters
--   p_groups  of the slots
--   p_slots   from the first start to the last end
--   p_own     a claim that does not count; NULL: none
CREATE FUNCTION booking.free_starts(
  p_listing booking.listing, p_groups booking.slot_group[], p_slots tstzrange, p_quantity integer, p_now timestamptz,
  p_own booking.own_claim)
RETURNS TABLE (of_group booking.slot_group, starts tstzmultirange) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_service booking.services := p_listing.service;
  v_before interval := make_interval(mins => v_service.buffer_before_minutes);
  v_after interval := make_interval(mins => v_service.buffer_after_minutes);
  v_apply text := booking.hours_apply(v_service);
  v_limit record;
  v_is_limited boolean;
BEGIN
  SELECT * INTO v_limit FROM booking.capacity_of(v_service);
  IF p_groups IS NULL OR p_quantity > v_limit.capacity THEN
    RETURN;
  END IF;
  v_is_limited := booking.limits_its_pool(v_service, p_slots, p_now);

  RETURN QUERY
  WITH full_time AS MATERIALIZED (
    SELECT coalesce(range_agg(tstzrange(level.at - v_after, level.until + v_before)), '{}') AS during
    FROM booking.claim_levels(
      v_service.business_id, v_service.service_id, v_service.longest_occupied_seconds, v_limit.counted_ids,
      greatest(lower(p_slots) - v_before, p_now), upper(p_slots) + v_after, p_own, p_now, NULL) AS level
    WHERE v_is_limited AND level.claimed + p_quantity > v_limit.capacity
  ), of_pool AS MATERIALIZED (
    SELECT resource.of_group, range_agg(resource.starts) AS starts
    FROM booking.pool_starts(p_listing, p_groups, p_slots, p_now, p_own) AS resource
    WHERE resource.seats >= p_quantity
    GROUP BY resource.of_group
  ), business AS MATERIALIZED (
    SELECT period.hours, booking.barred_times(period.hours, period.closed, full_time.during, v_apply) AS barred
    FROM booking.open_periods(v_service.business_id, '{""}', p_slots) AS period CROSS JOIN full_time
  )
  SELECT given, booking.possible_starts(business.hours, business.barred, v_apply, given)
    * CASE WHEN p_listing.pool IS NULL THEN '{(,)}' ELSE coalesce(of_pool.starts, '{}') END
  FROM business
  CROSS JOIN unnest(p_groups) AS given
  LEFT JOIN of_pool ON of_pool.of_group = given;
END
$$;

-- Returns whether the capacity of a service can leave less room in a slot than its resources do. A service without a
-- number of its own has as many units as its pool has seats, so there only claims without a resource can, from the time
-- before it had a pool.
--
--   p_slots  from the start of the first slot to the end of the last
CREATE FUNCTION booking.limits_its_pool(p_service booking.services, p_slots tstzrange, p_now timestamptz)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT p_service.max_simultaneous_bookings IS NOT NULL
    OR NOT booking.has_pool(p_service.business_id, p_service.service_id)
    OR EXISTS (
      SELECT FROM booking.service_windows(
        p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, '{""}',
        greatest(lower(p_slots) - make_interval(mins => p_service.buffer_before_minutes), p_now),
        upper(p_slots) + make_interval(mins => p_service.buffer_after_minutes), NULL, p_now, 0))
$$;

-- Returns when slots may start on the resources of a pool: for each resource and group one row with the starts at which
-- it is open and free, and one with those of the begun sessions, for each number of seats left in them.
--
-- Parameters
--   p_groups  of the slots
--   p_slots   from the first start to the last end
--   p_own     a claim that does not count; NULL: none
-- Returns
--   seats   that a slot with such a start has left
--   starts  exact for slots within p_slots
CREATE FUNCTION booking.pool_starts(
  p_listing booking.listing, p_groups booking.slot_group[], p_slots tstzrange, p_now timestamptz,
  p_own booking.own_claim)
RETURNS TABLE (resource_id text, of_group booking.slot_group, seats bigint, starts tstzmultirange)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_service booking.services := p_listing.service;
  v_before interval := make_interval(mins => v_service.buffer_before_minutes);
  v_after interval := make_interval(mins => v_service.buffer_after_minutes);
  v_apply text := booking.hours_apply(v_service);
BEGIN
  RETURN QUERY
  WITH resource AS MATERIALIZED (
    SELECT r.resource_id, r.seats, r.longest_occupied_seconds, period.hours, period.closed
    FROM booking.open_periods(v_service.business_id, p_listing.pool, p_slots) AS period
    CROSS JOIN LATERAL booking.resource_by_id(v_service.business_id, period.owner_id) AS r
  ), busy AS MATERIALIZED (
    SELECT resource.resource_id, (w.o).service_id, tstzrange((w.o).starts, (w.o).ends) AS during, w.claimed
    FROM resource
    CROSS JOIN LATERAL booking.resource_windows(
      v_service.business_id, resource.resource_id, resource.longest_occupied_seconds, lower(p_slots) - v_before,
      upper(p_slots) + v_after, p_now, p_own) AS w
    WHERE w.claimed > 0
  ), busy_time AS MATERIALIZED (
    SELECT busy.resource_id, range_agg(tstzrange(lower(busy.during) - v_after, upper(busy.during) + v_before)) AS during
    FROM busy GROUP BY busy.resource_id
  ), open AS MATERIALIZED (
    SELECT resource.resource_id, resource.seats, resource.hours,
           booking.barred_times(resource.hours, resource.closed, coalesce(busy_time.during, '{}'), v_apply) AS barred
    FROM resource LEFT JOIN busy_time USING (resource_id)
  )
  SELECT open.resource_id, given, open.seats::bigint, booking.possible_starts(open.hours, open.barred, v_apply, given)
  FROM open CROSS JOIN unnest(p_groups) AS given
  UNION ALL
  SELECT session.resource_id, session.of_group, session.seats,
         range_agg(tstzrange(session.start, session.start, '[]'))
  FROM (
    SELECT resource.resource_id, slot.start, slot.ends, resource.seats - busy.claimed AS seats,
           booking.group_of(p_groups, slot.start, slot.ends) AS of_group, resource.hours, resource.closed
    FROM busy
    JOIN resource USING (resource_id)
    CROSS JOIN LATERAL (
      SELECT lower(busy.during) + v_before AS start, upper(busy.during) - v_after AS ends
    ) AS slot
    WHERE v_service.resource_sharing = 'session' AND busy.service_id = v_service.service_id
  ) AS session
  WHERE session.of_group = ANY (p_groups)
    -- A session from before the buffers grew can be shorter than they are: no slot is left of it.
    AND CASE WHEN session.start < session.ends THEN booking.is_open(
      session.hours, session.closed, v_apply, tstzrange(session.start, session.ends)) END
  GROUP BY session.resource_id, session.of_group, session.seats;
END
$$;

-- Returns the times that a slot must not overlap: closures, busy times, and those outside of hours that apply throughout.
--
-- Parameters
--   p_hours, p_closed, p_hours_apply  as in booking.is_open
--   p_busy  with the buffers that the window of the slot needs before and after
CREATE FUNCTION booking.barred_times(
  p_hours tstzmultirange, p_closed tstzmultirange, p_busy tstzmultirange, p_hours_apply text)
RETURNS tstzmultirange LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE
    WHEN p_hours_apply = 'ends' OR p_hours = '{(,)}' THEN p_closed + p_busy
    -- Subtractions, because a sum of multiranges sorts all their ranges unless one is empty.
    ELSE '{(,)}' - (p_hours - p_closed - p_busy) END
$$;

-- Returns the instants at which slots of a group may start so that they overlap no barred time (booking.barred_times)
-- and, if the hours apply to their ends, start and end within the hours.
CREATE FUNCTION booking.possible_starts(
  p_hours tstzmultirange, p_barred tstzmultirange, p_hours_apply text, p_group booking.slot_group)
RETURNS tstzmultirange LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE
    WHEN p_group.ends IS NULL THEN
      CASE WHEN p_hours_apply = 'ends' THEN p_hours * coalesce((
        SELECT range_agg(tstzrange(lower(period) - p_group.length, upper(period) - p_group.length, '[]'))
        FROM unnest(p_hours) AS period), '{}') ELSE '{(,)}' END
      -- A slot that starts strictly within these ranges overlaps a barred time.
      - coalesce((
        SELECT range_agg(tstzrange(lower(barred) - p_group.length, upper(barred), '()'))
        FROM unnest(p_barred) AS barred), '{}')
    WHEN p_hours @> p_group.ends OR p_hours @> p_group.ends - interval '1 microsecond' THEN
      -- From the end of the last barred time that begins before the slots end.
      p_hours * tstzmultirange(
        tstzrange(upper(p_barred * tstzmultirange(tstzrange(NULL, p_group.ends))), p_group.ends))
    ELSE '{}' END
$$;

-- Returns how much room the public has in slots that booking.free_slots found.
--
--   p_starts, p_ends  the slots: parallel arrays without duplicates; NULL: none
--   p_resource_id     the first of resource_ids where it is one of them; NULL: none
-- Returns  slot_start to resource_ids as in booking.availability
CREATE FUNCTION booking.slot_room(
  p_listing booking.listing, p_starts timestamptz[], p_ends timestamptz[], p_quantity integer, p_now timestamptz,
  p_own booking.own_claim, p_resource_id text)
RETURNS TABLE (
  slot_start timestamptz, slot_end timestamptz, available bigint, max_quantity bigint, resource_ids text[])
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_service booking.services := p_listing.service;
  v_before interval := make_interval(mins => v_service.buffer_before_minutes);
  v_after interval := make_interval(mins => v_service.buffer_after_minutes);
  v_groups booking.slot_group[] := booking.slot_groups(p_starts, p_ends);
  v_slots tstzrange := (
    SELECT tstzrange(min(slot.starts), max(slot.ends)) FROM unnest(p_starts, p_ends) AS slot (starts, ends));
BEGIN
  IF v_groups IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH wanted AS MATERIALIZED (
    SELECT * FROM booking.slots_by_group(v_groups, p_starts, p_ends)
  ), room AS MATERIALIZED (
    SELECT lower(peak.during) + v_before AS starts, peak.room
    FROM wanted
    CROSS JOIN LATERAL booking.room_in_windows(v_service, ARRAY(
      SELECT tstzrange(slot.starts - v_before, slot.ends + v_after)
      FROM unnest(wanted.starts, wanted.ends) AS slot (starts, ends)), p_now, p_own) AS peak
    WHERE booking.limits_its_pool(v_service, v_slots, p_now)
  ), of_pool AS MATERIALIZED (
    SELECT slot.starts, sum(resource.seats) AS seats, max(resource.seats) AS most,
           array_agg(
             resource.resource_id ORDER BY resource.resource_id IS DISTINCT FROM p_resource_id, resource.resource_id)
             FILTER (WHERE resource.seats >= p_quantity) AS ids
    FROM booking.pool_starts(p_listing, v_groups, v_slots, p_now, p_own) AS resource
    JOIN wanted USING (of_group)
    CROSS JOIN LATERAL unnest(wanted.starts) AS slot (starts)
    WHERE resource.starts @> slot.starts
    GROUP BY slot.starts
  )
  SELECT slot.starts, slot.ends, least(room.room, of_pool.seats)::bigint, least(room.room, of_pool.most)::bigint,
         coalesce(of_pool.ids[1:50], '{}')
  FROM unnest(p_starts, p_ends) AS slot (starts, ends)
  LEFT JOIN room USING (starts)
  LEFT JOIN of_pool USING (starts);
END
$$;

-- Returns how many units of a service fit in each of many windows, from p_now on. A claim that began before p_now and
-- has not ended also occupies p_now, so the fullest instant of a window is never one that is over, and the windows need
-- not be cut.
--
--   p_windows  all with the same length, a whole number of seconds, or with the same end; no duplicates, and none that is
--              over
--   p_own      a claim that does not count; NULL: none
--
-- Every count is read once. The edges of the counts and of the windows are sorted, and a running sum gives the units
-- claimed from each edge on. The maximum within each window then takes two passes in all: time is cut into bins as long
-- as the longest window, so a window is the tail of one bin and the head of the next, and its maximum is the larger of a
-- suffix maximum of the one and a prefix maximum of the other (the van Herk/Gil-Werman algorithm for sliding maxima).
-- Windows with the same end are tails of the first bin.
CREATE FUNCTION booking.room_in_windows(
  p_service booking.services, p_windows tstzrange[], p_now timestamptz, p_own booking.own_claim)
RETURNS TABLE (during tstzrange, room bigint) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_from timestamptz := (SELECT min(lower(w)) FROM unnest(p_windows) AS w);
  v_to timestamptz := (SELECT max(upper(w)) FROM unnest(p_windows) AS w);
  v_length interval := (SELECT max(booking.elapsed(lower(w), upper(w))) FROM unnest(p_windows) AS w);
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
