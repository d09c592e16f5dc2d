-- Assigns resources to the windows of a round, one window after the other.
--
-- Open resources come before closed ones, which only the business itself can book. An exclusive claim takes the smallest
-- resource that seats it; a session that has begun is filled before another one is opened (booking.take). Equals are
-- tried in the order of their work: fewest windows in the local week of the business, then on that day, then the one that
-- was assigned longest ago, then by id. So work is even also where each day has one booking. Weeks begin on Monday, and
-- are those of UTC if this server does not know the time zone.
--
-- Each window sees what those before it in the round were given, so a batch is spread as its requests one by one. The
-- windows of a business in a round are never in each other's way: only their work is shared.
--
-- Parameters
--   p_windows  windows of services with a pool
-- Returns for each window
--   ids    its resources, in the order in which they were tried
--   picks  for each quantity the position in ids of the resource that it gets, or 0: refused
--   next_expiry  as in booking.pool_room
-- Locks  the rows of the resources that are given; the caller holds the locks of the businesses
CREATE FUNCTION booking.assign(p_windows booking.pool_window[], p_now timestamptz)
RETURNS TABLE ("position" integer, ids text[], picks integer[], next_expiry timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
  v_window record;
  v_rooms bigint[];
  v_is_begun boolean[];
  v_is_closed boolean[];
  v_newest timestamptz;
  v_assigned_at timestamptz := p_now;
  v_given booking.given_resource[];
  v_pick integer;
BEGIN
  IF p_windows = '{}' THEN
    RETURN;
  END IF;
  FOR v_window IN
    SELECT w.*, pool.*, work.*
    FROM unnest(p_windows) AS w
    CROSS JOIN LATERAL booking.pool_room(
      w.business_id, w.service_id, w.resource_ids, w.starts, w.ends, w.is_shared, w.own, p_now) AS pool
    CROSS JOIN LATERAL booking.pool_work(
      w.business_id, pool.ids, pool.longest_seconds, pool.rooms, pool.has_equals, w.starts, p_now) AS work
    ORDER BY w.business_id, w.position
  LOOP
    "position" := v_window.position;
    next_expiry := v_window.next_expiry;
    ids := v_window.ids;
    v_rooms := v_window.rooms;
    v_is_begun := v_window.is_begun;
    v_is_closed := v_window.is_closed;
    IF v_window.has_equals THEN
      SELECT array_agg(c.id), array_agg(c.room), array_agg(c.is_begun), array_agg(c.is_closed), max(c.assigned_at)
      INTO ids, v_rooms, v_is_begun, v_is_closed, v_newest
      FROM booking.by_work(v_window.ids, v_window.seats, v_window.rooms, v_window.is_begun, v_window.is_closed,
        v_window.last_assigned, v_window.in_week, v_window.on_day, ARRAY(SELECT g FROM unnest(v_given) AS g
          WHERE g.business_id = v_window.business_id), v_window.week, v_window.day, (v_window.own).resource_id) AS c;
      -- Later than any other resource of the pool was assigned, also if the clock stands still or was set back.
      v_assigned_at := greatest(v_assigned_at, v_newest);
    END IF;
    picks := CASE WHEN v_window.keeps_resource THEN '{1}' ELSE booking.take(
      v_window.quantities, v_window.room, coalesce(v_rooms, '{}'), v_is_begun, v_is_closed, v_window.is_shared) END;
    RETURN NEXT;
    FOREACH v_pick IN ARRAY picks LOOP
      CONTINUE WHEN v_pick = 0;
      v_assigned_at := v_assigned_at + interval '1 microsecond';
      -- A session that has begun is in the counts already.
      v_given := v_given || ROW(v_window.business_id, ids[v_pick],
        CASE WHEN NOT v_is_begun[v_pick] THEN tstzrange(v_window.starts, v_window.ends) END, v_assigned_at
        )::booking.given_resource;
      v_is_begun[v_pick] := true;
    END LOOP;
  END LOOP;
  UPDATE booking.resources AS r
  SET longest_occupied_seconds = greatest(r.longest_occupied_seconds, given.seconds),
      last_assigned_at = given.assigned_at
  FROM (
    SELECT g.business_id, g.resource_id, max(ceil(extract(epoch FROM upper(g.during) - lower(g.during)))) AS seconds,
           max(g.assigned_at) AS assigned_at
    FROM unnest(v_given) AS g GROUP BY g.business_id, g.resource_id
  ) AS given
  WHERE r.business_id = given.business_id AND r.resource_id = given.resource_id;
END
$$;

-- Returns the resources of a window in the order in which they are tried.
--
--   p_ids and the other arrays  as in booking.pool_room and booking.pool_work
--   p_given   what the windows before it in the round were given: work that the counts do not include yet
--   p_own_id  the resource of a claim that is moved
CREATE FUNCTION booking.by_work(
  p_ids text[], p_seats integer[], p_rooms bigint[], p_is_begun boolean[], p_is_closed boolean[],
  p_last_assigned timestamptz[], p_in_week bigint[], p_on_day bigint[], p_given booking.given_resource[],
  p_week tstzrange, p_day tstzrange, p_own_id text)
RETURNS TABLE (id text, room bigint, is_begun boolean, is_closed boolean, assigned_at timestamptz) LANGUAGE sql STABLE
AS $$
  SELECT c.id, c.room, c.is_begun, c.is_closed, greatest(c.last_assigned, given.assigned_at)
  FROM unnest(p_ids, p_seats, p_rooms, p_is_begun, p_is_closed, p_last_assigned, p_in_week, p_on_day)
    AS c (id, seats, room, is_begun, is_closed, last_assigned, in_week, on_day)
  LEFT JOIN (
    SELECT g.resource_id, count(*) FILTER (WHERE g.during && p_week) AS in_week,
           count(*) FILTER (WHERE g.during && p_day) AS on_day, max(g.assigned_at) AS assigned_at
    FROM unnest(p_given) AS g GROUP BY g.resource_id
  ) AS given ON given.resource_id = c.id
  ORDER BY c.is_closed, c.id IS DISTINCT FROM p_own_id, c.seats, c.in_week + coalesce(given.in_week, 0),
    c.on_day + coalesce(given.on_day, 0), 5, c.id
$$;

-- Grants quantities in their order: each one that still fits.
--
-- Parameters
--   p_quantities  the quantities of requests for one window
--   p_room        units that the service has left; may be negative
--   p_rooms       seats that each resource has left, in the order in which resources are tried; NULL: no pool
--   p_is_begun    for each resource, whether a session has begun to fill it; such resources are filled before another
--                 session is opened
--   p_is_closed   for each resource, whether it is closed. Closed ones come last, and a session that has begun on one of
--                 them is filled after another one is opened on an open resource
--   p_is_shared   true: a claim takes its seats of a resource; false: it takes the whole resource
-- Returns  for each quantity the position in p_rooms of the resource that it gets (1 if there is no pool), or 0:
--          refused
CREATE FUNCTION booking.take(
  p_quantities integer[], p_room bigint, p_rooms bigint[] DEFAULT NULL, p_is_begun boolean[] DEFAULT NULL,
  p_is_closed boolean[] DEFAULT NULL, p_is_shared boolean DEFAULT false)
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
  v_picks integer[] := array_fill(0, ARRAY[cardinality(p_quantities)]);
  v_quantity integer;
  v_pick integer;
BEGIN
  FOR n IN 1 .. cardinality(p_quantities) LOOP
    v_quantity := p_quantities[n];
    CONTINUE WHEN v_quantity > p_room;
    v_pick := 1;
    IF p_rooms IS NOT NULL THEN
      v_pick := 0;
      FOR m IN 1 .. cardinality(p_rooms) LOOP
        CONTINUE WHEN v_quantity > p_rooms[m]
          OR v_pick > 0 AND (NOT p_is_begun[m] OR p_is_closed[m] <> p_is_closed[v_pick]);
        v_pick := m;
        EXIT WHEN p_is_begun[m] OR NOT p_is_shared;
      END LOOP;
      CONTINUE WHEN v_pick = 0;
      p_rooms[v_pick] := CASE WHEN p_is_shared THEN p_rooms[v_pick] - v_quantity ELSE 0 END;
      p_is_begun[v_pick] := true;
    END IF;
    p_room := p_room - v_quantity;
    v_picks[n] := v_pick;
  END LOOP;
  RETURN v_picks;
END
$$;
