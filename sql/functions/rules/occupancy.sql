-- Counted occupancy: one row for each distinct window of a service and resource, with the sum of what is claimed there.
-- A decision reads the few rows that overlap its window, however many claims they count.
--
-- A count includes holds that have expired and were not ended yet. That is safe: it never says that there is more room
-- than there is. next_expiry says from when on it may say that there is less: then reads and decisions subtract the
-- expired holds (booking.expired_quantity), and decisions end those whose room they give away (booking.end_expired).

-- The windows of a service that overlap a time, in the order of their index; none where that is empty.
--   p_longest_seconds  services.longest_occupied_seconds: what overlaps the time began at most that long before it, so
--                      the scan is a short range of the index, whatever the history
--   p_counted_ids      as in booking.capacity_of
--   p_own              a claim that is not counted; NULL: none
--   p_less             how many expired holds of each window are not counted, at most; 0: none, NULL: all of them
-- Returns each with how much is claimed in it.
--
-- STABLE and a single query, so that it becomes part of the statement that uses it and reads that statement's snapshot.
CREATE FUNCTION booking.service_windows(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_less bigint)
RETURNS TABLE (o booking.occupancy, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT o, o.claimed
    - CASE WHEN (o.resource_id, o.starts, o.ends) = (p_own.resource_id, p_own.starts, p_own.ends)
      THEN p_own.quantity ELSE 0 END
    - CASE WHEN o.next_expiry <= p_now AND p_less IS DISTINCT FROM 0
      THEN booking.expired_quantity(o, p_now, p_less) ELSE 0 END
  FROM booking.occupancy o
  WHERE o.business_id = p_business_id AND o.service_id = p_service_id
    AND o.starts < p_to AND o.starts > p_from - make_interval(secs => p_longest_seconds) AND o.ends > p_from
    AND p_from < p_to AND (p_counted_ids IS NULL OR o.resource_id = ANY (p_counted_ids))
  ORDER BY o.starts
$$;

-- The windows of a resource that overlap a time, through whichever services its claims came, each with how much is
-- claimed in it without expired holds. Parameters as in booking.service_windows, with
-- resources.longest_occupied_seconds.
--   p_service_id  of p_own
CREATE FUNCTION booking.resource_windows(
  p_business_id text, p_resource_id text, p_longest_seconds bigint, p_from timestamptz, p_to timestamptz,
  p_now timestamptz, p_service_id text DEFAULT NULL, p_own booking.own_claim DEFAULT NULL)
RETURNS TABLE (o booking.occupancy, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT o, o.claimed
    - CASE WHEN (o.service_id, o.resource_id, o.starts, o.ends)
        = (p_service_id, p_own.resource_id, p_own.starts, p_own.ends) THEN p_own.quantity ELSE 0 END
    - CASE WHEN o.next_expiry <= p_now THEN booking.expired_quantity(o, p_now) ELSE 0 END
  FROM booking.occupancy o
  WHERE o.business_id = p_business_id AND o.resource_id BETWEEN p_resource_id AND p_resource_id AND o.resource_id <> ''
    AND o.starts < p_to AND o.starts > p_from - make_interval(secs => p_longest_seconds) AND o.ends > p_from
  ORDER BY o.resource_id, o.starts
$$;

-- How much of a count are holds that have expired by p_now. To be asked only where next_expiry has passed.
--   p_at_most  no more holds are added up; NULL: all
CREATE FUNCTION booking.expired_quantity(p_window booking.occupancy, p_now timestamptz, p_at_most bigint DEFAULT NULL)
RETURNS bigint LANGUAGE sql STABLE
AS $$
  SELECT coalesce(sum(held.quantity), 0) FROM (
    SELECT r.quantity FROM booking.reservations r
    WHERE r.business_id = p_window.business_id AND r.service_id = p_window.service_id AND r.status = 'held'
      AND lower(r.occupied) BETWEEN p_window.starts AND p_window.starts AND r.expires_at <= p_now
      AND upper(r.occupied) = p_window.ends AND coalesce(r.resource_id, '') = p_window.resource_id
    ORDER BY lower(r.occupied), r.expires_at LIMIT p_at_most) AS held
$$;

-- How much of a service is claimed from p_from until p_to: from each instant at which that changes until the next. A
-- sweep: +claimed where a window begins, -claimed where it ends, and at the same instant ends before beginnings,
-- because intervals are half-open. Parameters as in booking.service_windows.
CREATE FUNCTION booking.claim_levels(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_less bigint)
RETURNS TABLE (at timestamptz, until timestamptz, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT level.at, level.until, level.claimed::bigint
  FROM (
    SELECT edge.at, lead(edge.at) OVER so_far AS until, sum(edge.step) OVER (so_far ROWS UNBOUNDED PRECEDING) AS claimed
    FROM (
      SELECT (w.o).starts, (w.o).ends, w.claimed
      FROM booking.service_windows(
        p_business_id, p_service_id, p_longest_seconds, p_counted_ids, p_from, p_to, p_own, p_now, p_less) AS w OFFSET 0
    ) AS w
    CROSS JOIN LATERAL (VALUES (greatest(w.starts, p_from), w.claimed), (w.ends, -w.claimed)) AS edge (at, step)
    WINDOW so_far AS (ORDER BY edge.at, edge.step)
  ) AS level
  WHERE level.at < level.until
$$;

-- How much of a service is claimed at the fullest instant of a time. Parameters as in booking.service_windows.
--   p_enough  if it is more than that, expired holds are not counted, as far as that brings it down to p_enough;
--             NULL: all are counted
CREATE FUNCTION booking.peak(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_enough bigint)
RETURNS bigint LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_peak bigint;
  v_less bigint := 0;
BEGIN
  LOOP
    SELECT coalesce(max(level.claimed), 0) INTO v_peak FROM booking.claim_levels(
      p_business_id, p_service_id, p_longest_seconds, p_counted_ids, p_from, p_to, p_own, p_now, v_less) AS level;
    EXIT WHEN v_less > 0 OR (v_peak > p_enough) IS NOT TRUE;
    v_less := v_peak - p_enough;
  END LOOP;
  RETURN v_peak;
END
$$;

-- The capacity of a service: its own, or else the seats of its resources together.
--   counted_ids  the resources whose claims count against it; NULL: all claims do
CREATE FUNCTION booking.capacity_of(p_service booking.services)
RETURNS TABLE (capacity bigint, counted_ids text[]) LANGUAGE sql STABLE
AS $$
  SELECT coalesce(p_service.max_simultaneous_bookings, (
      SELECT coalesce(sum(m.seats), 0) FROM booking.members(p_service.business_id, p_service.service_id) AS m)),
    CASE WHEN p_service.max_simultaneous_bookings IS NULL THEN ARRAY(
      SELECT m.resource_id FROM booking.members(p_service.business_id, p_service.service_id) AS m) || ''::text END
$$;

-- The pool of a service as it is today: its resources that are not archived.
CREATE FUNCTION booking.members(p_business_id text, p_service_id text)
RETURNS SETOF booking.resources LANGUAGE sql STABLE
AS $$
  SELECT r.*
  FROM (
    SELECT m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id
  ) AS member
  CROSS JOIN LATERAL (
    SELECT * FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = member.resource_id AND r.archived_at IS NULL OFFSET 0
  ) AS r
$$;

-- The resources that can serve a window of a service, in the order in which they are tried, and how many guests each
-- still seats during all of it. Expired holds are not counted.
--   p_resource_ids  those that are asked about; NULL: the service has none
--   p_is_shared     whether claims of one window share a resource
--   p_own           as in booking.peak
-- Returns one row of arrays beside each other, NULL if there are none
--   is_begun     whether a session of this window has begun to fill it
--   reaches      longest_occupied_seconds of each
--   next_expiry  from when on one of them may have expired holds that are counted
--
-- The one of p_own comes first, then the smallest, then the one with the fewest windows on the local day.
CREATE FUNCTION booking.pool_room(
  p_business_id text, p_service_id text, p_resource_ids text[], p_starts timestamptz, p_ends timestamptz,
  p_is_shared boolean, p_own booking.own_claim, p_now timestamptz)
RETURNS TABLE (ids text[], rooms bigint[], is_begun boolean[], reaches bigint[], next_expiry timestamptz)
LANGUAGE sql STABLE
AS $$
  SELECT array_agg(tried.resource_id ORDER BY tried.rank), array_agg(tried.room ORDER BY tried.rank),
         array_agg(tried.is_begun ORDER BY tried.rank), array_agg(tried.longest_occupied_seconds ORDER BY tried.rank),
         min(tried.next_expiry)
  FROM (
    SELECT r.resource_id, r.longest_occupied_seconds, met.next_expiry, met.claimed IS NOT NULL AS is_begun,
           CASE WHEN met.claimed IS NULL THEN r.seats
             WHEN p_is_shared AND NOT met.another THEN r.seats - met.claimed ELSE 0 END AS room,
           ROW(r.resource_id IS DISTINCT FROM p_own.resource_id, r.seats, met.that_day, r.resource_id) AS rank
    FROM (
      -- By the wall-clock of the business: 23 or 25 hours long where a DST change is.
      SELECT local.midnight AT TIME ZONE b.timezone AS starts,
             (local.midnight + interval '1 day') AT TIME ZONE b.timezone AS ends
      FROM booking.businesses b
      CROSS JOIN LATERAL (SELECT date_trunc('day', p_starts AT TIME ZONE b.timezone) AS midnight) AS local
      WHERE p_resource_ids IS NOT NULL AND b.business_id = p_business_id OFFSET 0
    ) AS day
    CROSS JOIN unnest(p_resource_ids) AS member (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = member.id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT sum(w.claimed) FILTER (WHERE w.overlaps AND w.claimed > 0)::bigint AS claimed,
             bool_or(w.is_another) FILTER (WHERE w.overlaps AND w.claimed > 0) AS another,
             min(w.next_expiry) FILTER (WHERE w.overlaps) AS next_expiry,
             count(*) FILTER (WHERE w.starts < day.ends AND w.ends > day.starts AND w.claimed > 0) AS that_day
      FROM (
        SELECT (w.o).starts, (w.o).ends, (w.o).next_expiry, w.claimed,
               (w.o).starts < p_ends AND (w.o).ends > p_starts AS overlaps,
               ((w.o).service_id, (w.o).starts, (w.o).ends) <> (p_service_id, p_starts, p_ends) AS is_another
        FROM booking.resource_windows(
          p_business_id, r.resource_id, r.longest_occupied_seconds, least(p_starts, day.starts),
          greatest(p_ends, day.ends), p_now, p_service_id, p_own) AS w OFFSET 0
      ) AS w
    ) AS met
  ) AS tried
$$;

-- Takes quantities off their windows, and windows off the table that nothing is claimed in any more.
-- Raises 23514 (occupancy_claimed_check) where more is freed than is claimed.
-- Locks  none of its own: the caller has the locks of the businesses
CREATE FUNCTION booking.free_claims(p_freed booking.freed_claim[])
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  MERGE INTO booking.occupancy AS o
  USING (
    SELECT business_id, service_id, lower(occupied) AS starts, upper(occupied) AS ends,
           coalesce(resource_id, '') AS resource_id, sum(quantity) AS quantity
    FROM unnest(p_freed) GROUP BY business_id, service_id, occupied, resource_id
  ) AS freed
  ON o.business_id = freed.business_id AND o.service_id = freed.service_id AND o.starts = freed.starts
    AND o.ends = freed.ends AND o.resource_id = freed.resource_id
  WHEN MATCHED AND o.claimed = freed.quantity THEN DELETE
  WHEN MATCHED THEN UPDATE SET claimed = o.claimed - freed.quantity
  -- Only where somebody went around the functions. The table refuses it, rather than that it goes unnoticed.
  WHEN NOT MATCHED THEN
    INSERT (business_id, service_id, starts, ends, resource_id, claimed)
    VALUES (freed.business_id, freed.service_id, freed.starts, freed.ends, freed.resource_id, - freed.quantity);
END
$$;

-- Ends holds: the one place where a hold becomes 'committed', 'released' or 'expired'. What has ended already stays as
-- it is, and what has expired is not released any more. Room that it frees is taken off the counts.
--   p_reservation_ids  beside the businesses that they belong to; any of them more than once
--   p_now              the clock, read after the locks
-- Returns the holds that were ended, as they are now.
-- Locks  none of its own: the caller has the locks of the businesses
CREATE FUNCTION booking.end_holds(p_business_ids text[], p_reservation_ids uuid[], p_status text, p_now timestamptz)
RETURNS SETOF booking.reservations LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_ended booking.reservations[];
BEGIN
  IF coalesce(cardinality(p_reservation_ids), 0) = 0 THEN
    RETURN;
  END IF;
  -- Looked up first, because the update must find its rows by primary key: a condition on their status would offer the
  -- planner the indexes that begin with the business.
  WITH held AS MATERIALIZED (
    SELECT h.business_id, h.reservation_id
    FROM (SELECT DISTINCT * FROM unnest(p_business_ids, p_reservation_ids)) AS ending (business_id, reservation_id)
    CROSS JOIN LATERAL (
      SELECT r.* FROM booking.reservations r
      WHERE r.reservation_id = ending.reservation_id AND r.business_id = ending.business_id OFFSET 0
    ) AS h
    WHERE h.status = 'held'
  ), ended AS (
    UPDATE booking.reservations AS r
    SET status = CASE WHEN p_status = 'released' AND r.expires_at <= p_now THEN 'expired' ELSE p_status END,
        ended_at = p_now, version = r.version + 1
    FROM held WHERE r.reservation_id = held.reservation_id AND r.business_id = held.business_id
    RETURNING r
  )
  SELECT array_agg(r) INTO v_ended FROM ended;
  IF p_status = 'committed' THEN
    -- Of a resource, where it was the only claim of its window: nothing is left there that could expire.
    UPDATE booking.occupancy AS o SET next_expiry = NULL
    FROM unnest(v_ended) AS r
    WHERE o.business_id = r.business_id AND o.service_id = r.service_id AND o.starts = lower(r.occupied)
      AND o.ends = upper(r.occupied) AND o.resource_id = r.resource_id AND o.claimed = r.quantity;
  ELSIF v_ended IS NOT NULL THEN
    PERFORM booking.free_claims(ARRAY(
      SELECT ROW(r.business_id, r.service_id, r.resource_id, r.occupied, r.quantity)::booking.freed_claim
      FROM unnest(v_ended) AS r));
  END IF;
  RETURN QUERY SELECT * FROM unnest(v_ended);
END
$$;

-- Ends the expired holds whose room was given away, after that was counted: of a resource all that it was not free with,
-- and of a service no more than bring its peak back to its capacity, instant by instant, so that no caller waits for
-- fifty thousand holds that expired at once. Sets next_expiry of all windows that the requests met to what it is by then.
--   p_decided       requests
--   p_resource_ids  beside them, what they got; NULL: no resource
-- Locks  none of its own: the caller has the locks of the businesses
CREATE FUNCTION booking.end_expired(p_decided booking.claim_request[], p_resource_ids text[], p_now timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_windows booking.occupancy[];
  v_limits bigint[];
  v_business_ids text[];
  v_reservation_ids uuid[];
BEGIN
  SELECT array_agg(stale.o), array_agg(stale.at_most) INTO v_windows, v_limits
  FROM (
    SELECT met.o, max(met.at_most) AS at_most
    FROM unnest(p_decided) WITH ORDINALITY AS g
    CROSS JOIN LATERAL (
      SELECT s.longest_occupied_seconds, s.resource_sharing = 'session' AS is_shared FROM booking.services AS s
      WHERE s.business_id = g.business_id AND s.service_id = g.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL (
      SELECT w.o, 0 AS at_most
      FROM booking.service_windows(g.business_id, g.service_id, s.longest_occupied_seconds, NULL,
        greatest(g.starts, p_now), g.ends, NULL, p_now, 0) AS w
      UNION ALL
      SELECT w.o, CASE
          WHEN r.resource_id IS DISTINCT FROM p_resource_ids[g.ordinality] THEN 0
          WHEN s.is_shared AND ((w.o).service_id, (w.o).starts, (w.o).ends) = (g.service_id, g.starts, g.ends)
          THEN (w.o).claimed - r.seats
          ELSE (w.o).claimed END
      FROM unnest(g.resource_ids) AS member (id)
      CROSS JOIN LATERAL (
        SELECT * FROM booking.resources r WHERE r.business_id = g.business_id AND r.resource_id = member.id OFFSET 0
      ) AS r
      CROSS JOIN LATERAL booking.resource_windows(
        g.business_id, r.resource_id, r.longest_occupied_seconds, g.starts, g.ends, p_now) AS w
    ) AS met
    WHERE (met.o).next_expiry <= p_now
    GROUP BY met.o
  ) AS stale;

  SELECT array_agg((v_windows[n]).business_id), array_agg(held.id) INTO v_business_ids, v_reservation_ids
  FROM generate_subscripts(v_windows, 1) AS n
  CROSS JOIN LATERAL booking.first_expired(ARRAY[v_windows[n]], v_limits[n], p_now) AS held (id);
  LOOP
    PERFORM booking.end_holds(v_business_ids, v_reservation_ids, 'expired', p_now);
    -- At the fullest instant of each window, what is claimed beyond the capacity.
    SELECT array_agg(g.business_id), array_agg(held.id) INTO v_business_ids, v_reservation_ids
    FROM (SELECT DISTINCT ON (q.business_id, q.service_id, q.starts, q.ends) q.* FROM unnest(p_decided) AS q) AS g
    CROSS JOIN LATERAL (
      SELECT s.longest_occupied_seconds, own.* FROM booking.services AS s CROSS JOIN LATERAL booking.capacity_of(s) AS own
      WHERE s.business_id = g.business_id AND s.service_id = g.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL (
      SELECT level.at, level.claimed - s.capacity AS excess
      FROM booking.claim_levels(g.business_id, g.service_id, s.longest_occupied_seconds, s.counted_ids,
        greatest(g.starts, p_now), g.ends, g.own, p_now, 0) AS level
      WHERE level.at < g.ends ORDER BY level.claimed DESC LIMIT 1
    ) AS fullest
    CROSS JOIN LATERAL booking.first_expired(ARRAY(
      SELECT w.o FROM booking.service_windows(g.business_id, g.service_id, s.longest_occupied_seconds, s.counted_ids,
        fullest.at, fullest.at + interval '1 microsecond', NULL, p_now, 0) AS w
      WHERE (w.o).next_expiry <= p_now), fullest.excess, p_now) AS held (id);
    EXIT WHEN v_reservation_ids IS NULL;
  END LOOP;

  -- The holds that are granted now are not among the reservations yet.
  UPDATE booking.occupancy AS o SET next_expiry = least((
    SELECT r.expires_at FROM booking.reservations r
    WHERE r.business_id = o.business_id AND r.service_id = o.service_id AND r.status = 'held'
      AND lower(r.occupied) BETWEEN o.starts AND o.starts AND upper(r.occupied) = o.ends
      AND coalesce(r.resource_id, '') = o.resource_id
    ORDER BY lower(r.occupied), r.expires_at LIMIT 1), (
    SELECT min(g.expires_at) FROM unnest(p_decided) AS g
    WHERE (g.business_id, g.service_id, g.starts, g.ends) = (o.business_id, o.service_id, o.starts, o.ends)))
  FROM unnest(v_windows) AS w
  WHERE o.business_id = w.business_id AND o.service_id = w.service_id AND o.starts = w.starts AND o.ends = w.ends
    AND o.resource_id = w.resource_id;
END
$$;

-- The expired holds of some windows that expired first, as many as it takes to free p_quantity.
CREATE FUNCTION booking.first_expired(p_windows booking.occupancy[], p_quantity bigint, p_now timestamptz)
RETURNS SETOF uuid LANGUAGE sql STABLE
AS $$
  SELECT listed.reservation_id
  FROM (
    SELECT held.reservation_id, sum(held.quantity) OVER (ORDER BY held.expires_at, held.reservation_id)
             - held.quantity AS freed_before
    FROM unnest(p_windows) AS w
    CROSS JOIN LATERAL (
      SELECT r.* FROM booking.reservations r
      WHERE r.business_id = w.business_id AND r.service_id = w.service_id AND r.status = 'held'
        AND lower(r.occupied) BETWEEN w.starts AND w.starts AND r.expires_at <= p_now
        AND upper(r.occupied) = w.ends AND coalesce(r.resource_id, '') = w.resource_id
      ORDER BY lower(r.occupied), r.expires_at LIMIT greatest(0, p_quantity)
    ) AS held
  ) AS listed
  WHERE listed.freed_before < p_quantity
$$;

-- The counts as they should be, of the windows that begin at p_from or later: what is held, expired or not, or booked.
CREATE FUNCTION booking.counted_claims(p_from timestamptz)
RETURNS TABLE (
  business_id text, service_id text, starts timestamptz, ends timestamptz, resource_id text, claimed bigint,
  next_expiry timestamptz)
LANGUAGE sql STABLE
AS $$
  SELECT claim.business_id, claim.service_id, lower(claim.occupied), upper(claim.occupied),
         coalesce(claim.resource_id, ''), sum(claim.quantity), min(claim.expires_at)
  FROM (
    SELECT r.business_id, r.service_id, r.resource_id, r.occupied, r.quantity, r.expires_at
    FROM booking.reservations r
    WHERE r.status = 'held' AND lower(r.occupied) >= p_from
    UNION ALL
    SELECT a.business_id, a.service_id, a.resource_id, a.occupied, a.quantity, NULL
    FROM booking.businesses b
    -- A slot begins with its window or later: the calendar has those ahead.
    JOIN booking.appointments a ON a.business_id = b.business_id AND a.slot_start >= p_from
    WHERE a.status = 'confirmed' AND lower(a.occupied) >= p_from
  ) AS claim
  GROUP BY claim.business_id, claim.service_id, claim.occupied, claim.resource_id
$$;

-- The windows that begin at p_from or later whose count is not the sum of their claims, or whose next_expiry is later
-- than an expiry: counted is what the table says, claimed what there is, NULL where one of them has no such window.
CREATE FUNCTION booking.find_miscounted(p_from timestamptz)
RETURNS TABLE (
  business_id text, service_id text, starts timestamptz, ends timestamptz, resource_id text, counted bigint,
  claimed bigint)
LANGUAGE sql STABLE
AS $$
  SELECT business_id, service_id, starts, ends, resource_id, o.claimed, c.claimed
  FROM (SELECT * FROM booking.occupancy WHERE starts >= p_from) AS o
  FULL JOIN booking.counted_claims(p_from) AS c USING (business_id, service_id, starts, ends, resource_id)
  WHERE o.claimed IS DISTINCT FROM c.claimed
    OR c.next_expiry IS NOT NULL AND coalesce(o.next_expiry, 'infinity') > c.next_expiry
$$;

-- Counts the claims of a business anew: what to do where booking.miscounted_windows has rows.
-- Raises and locks as booking.lock_businesses.
CREATE FUNCTION booking.recount(p_business_id text, p_deadline timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.occupancy AS o WHERE o.business_id = p_business_id;
  INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed, next_expiry)
  SELECT * FROM booking.counted_claims('-infinity') AS c WHERE c.business_id = p_business_id;
END
$$;
