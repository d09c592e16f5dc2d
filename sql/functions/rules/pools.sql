-- Pools: the resources of a service, and how much room they have.

-- Finds the resources of a service that a request may get.
--
-- Parameters
--   p_resource_id  the resource that the request names; NULL for any
--   p_slot         the slot; NULL: opening hours, closures and booking_enabled do not matter
--   p_hours_apply  as in booking.is_open; not read if p_slot is NULL
--   p_is_public    whether these bind the request; if not, a request for any resource prefers the open ones
-- Returns
--   has_resources  whether the service has a pool, and so needs a resource for each claim
--   largest        the seats of the largest resource that the request can mean: in the pool, not archived, and the
--                  named one if one is named; NULL if there is none
--   resource_ids   of these, the ones that can serve the slot, free or not; NULL for a service without a pool. If some of
--                  them are open and others closed, the closed ones come last, behind an empty id
--   refusal        'not_online' or 'closed' if none of them can serve the slot; 'misconfigured' if that depends on hours
--                  and this server does not know the time zone of the business
CREATE FUNCTION booking.find_pool(
  p_business_id text, p_service_id text, p_resource_id text, p_slot tstzrange, p_hours_apply text,
  p_is_public boolean)
RETURNS booking.pool LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_pool booking.pool;
  v_online text[];
  v_may_be_closed boolean;
BEGIN
  -- Hours and closures are looked for in the same statement: most pools have none, and then need no other one.
  SELECT count(*) > 0, max(r.seats),
         coalesce(array_agg(r.resource_id) FILTER (WHERE r.booking_enabled OR NOT p_is_public OR p_slot IS NULL), '{}'),
         bool_or(CASE WHEN NOT p_is_public AND p_resource_id IS NULL AND p_slot IS NOT NULL THEN
           (SELECT owner.has_hours FROM booking.hours_owners(p_business_id, ARRAY[r.resource_id], p_slot) AS owner)
           OR (SELECT true FROM booking.closures_during(p_business_id, r.resource_id, p_slot) LIMIT 1) END)
  INTO v_pool.has_resources, v_pool.largest, v_online, v_may_be_closed
  FROM (
    SELECT m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id, m.resource_id
  ) AS member
  LEFT JOIN LATERAL (
    SELECT * FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = member.resource_id AND r.archived_at IS NULL
      AND (p_resource_id IS NULL OR r.resource_id = p_resource_id) OFFSET 0
  ) AS r ON true;
  IF NOT v_pool.has_resources THEN
    RETURN v_pool;
  END IF;
  v_online := array_remove(v_online, NULL);
  v_pool.resource_ids := v_online;
  IF p_is_public AND p_slot IS NOT NULL THEN
    v_pool.resource_ids := booking.open_during(p_business_id, v_online, p_slot, p_hours_apply);
  ELSIF v_may_be_closed AND cardinality(v_online) > 1 THEN
    v_pool.resource_ids := booking.open_ones_first(
      v_online, booking.open_during(p_business_id, v_online, p_slot, p_hours_apply));
  END IF;
  v_pool.refusal := CASE
    WHEN v_pool.resource_ids IS NULL THEN 'misconfigured'
    WHEN v_pool.largest IS NULL OR cardinality(v_pool.resource_ids) > 0 THEN NULL
    WHEN cardinality(v_online) = 0 THEN 'not_online'
    ELSE 'closed'
  END;
  RETURN v_pool;
END
$$;

-- Returns resources in the order of booking.find_pool: the open ones, an empty id, and the closed ones. Without the empty
-- id if all or none are open, or p_open is NULL: not known.
CREATE FUNCTION booking.open_ones_first(p_ids text[], p_open text[])
RETURNS text[] LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_open <> '{}' AND p_open <> p_ids
    THEN p_open || ''::text || ARRAY(SELECT id FROM unnest(p_ids) AS id WHERE id <> ALL (p_open))
    ELSE p_ids END
$$;

-- Returns the fault of a quantity that no resource seats.
CREATE FUNCTION booking.too_many_for_a_resource(p_largest integer)
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT booking.fault('quantity', 'too_many_for_a_resource', jsonb_build_object('max', p_largest))
$$;

-- Returns the capacity of a service: its own number, else the seats of its pool, else 1 if it has no pool.
--
--   counted_ids  the resources whose claims count against the capacity ('' for claims without one); NULL: all claims
--                count
CREATE FUNCTION booking.capacity_of(p_service booking.services)
RETURNS TABLE (capacity bigint, counted_ids text[]) LANGUAGE sql STABLE
AS $$
  SELECT coalesce(p_service.max_simultaneous_bookings, CASE
      WHEN booking.has_pool(p_service.business_id, p_service.service_id) THEN (
        SELECT coalesce(sum(m.seats), 0) FROM booking.members(p_service.business_id, p_service.service_id) AS m)
      ELSE 1 END),
    CASE WHEN p_service.max_simultaneous_bookings IS NULL
      AND booking.has_pool(p_service.business_id, p_service.service_id)
    THEN ARRAY(
      SELECT m.resource_id FROM booking.members(p_service.business_id, p_service.service_id) AS m) || ''::text END
$$;

-- Returns whether a service has a pool, archived resources included, and so needs a resource for each claim.
CREATE FUNCTION booking.has_pool(p_business_id text, p_service_id text)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id)
$$;

-- Returns the pool of a service as it is now: its resources that are not archived.
CREATE FUNCTION booking.members(p_business_id text, p_service_id text)
RETURNS SETOF booking.resources LANGUAGE sql STABLE
AS $$
  SELECT r.*
  FROM (
    SELECT m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id
  ) AS member
  CROSS JOIN LATERAL booking.resource_by_id(p_business_id, member.resource_id) AS r
  WHERE r.archived_at IS NULL
$$;

-- Returns the resources that can serve a window of a service, and how many seats each has left during the whole window,
-- without expired holds: first the open ones, then the resource of p_own, then those with free seats, then the smallest,
-- then by id.
--
-- Parameters
--   p_resource_ids  the resources to look at, as in booking.find_pool; NULL: the service has no pool
--   p_is_shared     whether claims of one window share a resource
--   p_own           as in booking.service_windows
-- Returns one row of parallel arrays, NULL if there are none
--   ids, seats, longest_seconds, last_assigned  each resource, and columns of it; longest_seconds:
--                longest_occupied_seconds
--   rooms        its free seats
--   is_begun     whether a session of this window has begun to fill the resource
--   is_closed    whether it is behind the empty id
--   has_equals   (one value) whether several resources with free seats are equally large, and all open or all closed, so
--                that their work decides
--   next_expiry  (one value) a count of these resources may include expired holds from then on
CREATE FUNCTION booking.pool_room(
  p_business_id text, p_service_id text, p_resource_ids text[], p_starts timestamptz, p_ends timestamptz,
  p_is_shared boolean, p_own booking.own_claim, p_now timestamptz)
RETURNS TABLE (
  ids text[], seats integer[], longest_seconds bigint[], last_assigned timestamptz[], rooms bigint[],
  is_begun boolean[], is_closed boolean[], has_equals boolean, next_expiry timestamptz)
LANGUAGE sql STABLE
AS $$
  SELECT array_agg(candidate.resource_id), array_agg(candidate.seats), array_agg(candidate.longest_occupied_seconds),
         array_agg(candidate.last_assigned_at), array_agg(candidate.room), array_agg(candidate.is_begun),
         array_agg(candidate.is_closed), bool_or(candidate.room > 0 AND candidate.seats = candidate.seats_before
           AND candidate.is_closed = candidate.closed_before), min(candidate.next_expiry)
  FROM (
    SELECT r.resource_id, r.seats, r.longest_occupied_seconds, r.last_assigned_at, overlap.next_expiry,
           overlap.claimed IS NOT NULL AS is_begun, room.seats AS room, lag(r.seats) OVER in_order AS seats_before,
           member.is_closed, lag(member.is_closed) OVER in_order AS closed_before
    FROM (SELECT array_position(p_resource_ids, '') AS place OFFSET 0) AS empty_id
    CROSS JOIN LATERAL (
      SELECT listed.id, coalesce(listed.place > empty_id.place, false) AS is_closed
      FROM unnest(p_resource_ids) WITH ORDINALITY AS listed (id, place)
    ) AS member
    CROSS JOIN LATERAL booking.resource_by_id(p_business_id, member.id) AS r
    CROSS JOIN LATERAL (
      SELECT sum(w.claimed) FILTER (WHERE w.claimed > 0)::bigint AS claimed,
             bool_or(((w.o).service_id, (w.o).starts, (w.o).ends) <> (p_service_id, p_starts, p_ends))
               FILTER (WHERE w.claimed > 0) AS has_another,
             min((w.o).next_expiry) AS next_expiry
      FROM booking.resource_windows(p_business_id, r.resource_id, r.longest_occupied_seconds, p_starts, p_ends, p_now,
        p_own) AS w
    ) AS overlap
    CROSS JOIN LATERAL (
      SELECT CASE WHEN overlap.claimed IS NULL THEN r.seats
        WHEN p_is_shared AND NOT overlap.has_another THEN r.seats - overlap.claimed ELSE 0 END AS seats
    ) AS room
    WINDOW in_order AS (
      ORDER BY member.is_closed, r.resource_id IS DISTINCT FROM p_own.resource_id, room.seats <= 0, r.seats,
        r.resource_id)
    ORDER BY member.is_closed, r.resource_id IS DISTINCT FROM p_own.resource_id, room.seats <= 0, r.seats, r.resource_id
  ) AS candidate
$$;

-- Returns the work of the resources of booking.pool_room: for each the number of windows in the local week of p_starts,
-- and on that day. Weeks begin on Monday; they are those of UTC if this server does not know the time zone. Read only to
-- decide between equals, and by a short range of an index for each resource with free seats: no row otherwise.
CREATE FUNCTION booking.pool_work(
  p_business_id text, p_ids text[], p_longest_seconds bigint[], p_rooms bigint[], p_has_equals boolean,
  p_starts timestamptz, p_now timestamptz)
RETURNS TABLE (in_week bigint[], on_day bigint[], week tstzrange, day tstzrange) LANGUAGE sql STABLE
AS $$
  SELECT array_agg(work.in_week), array_agg(work.on_day), tstzrange(min(span.week), min(span.week_ends)),
         tstzrange(min(span.day), min(span.day_ends))
  FROM (
    SELECT local.week AT TIME ZONE zone.name AS week, (local.week + interval '7 days') AT TIME ZONE zone.name AS week_ends,
           local.day AT TIME ZONE zone.name AS day, (local.day + interval '1 day') AT TIME ZONE zone.name AS day_ends
    FROM (
      SELECT CASE WHEN booking.is_timezone(b.timezone) THEN b.timezone ELSE 'UTC' END AS name
      FROM booking.businesses b WHERE b.business_id = p_business_id OFFSET 0
    ) AS zone
    CROSS JOIN LATERAL (
      SELECT date_trunc('week', p_starts AT TIME ZONE zone.name) AS week,
             date_trunc('day', p_starts AT TIME ZONE zone.name) AS day
    ) AS local
    WHERE p_has_equals OFFSET 0
  ) AS span
  CROSS JOIN unnest(p_ids, p_longest_seconds, p_rooms) AS candidate (id, longest_seconds, room)
  CROSS JOIN LATERAL (
    SELECT count(*) AS in_week, count(*) FILTER (WHERE (w.o).starts < span.day_ends AND (w.o).ends > span.day) AS on_day
    FROM booking.resource_windows(
      p_business_id, candidate.id, candidate.longest_seconds, span.week, span.week_ends, p_now) AS w
    WHERE candidate.room > 0 AND w.claimed > 0
  ) AS work
$$;
