-- Counts: booking.occupancy has one row for each distinct window of a service and resource, with the sum of the claims
-- of that window. A decision reads the few rows that overlap its window, however many claims they count.
--
-- A count includes expired holds until they are ended. That is safe: it may show too little room, never too much.
-- next_expiry is a lower bound of the expiry of the held reservations of the window. Once it has passed, reads and
-- decisions subtract the expired holds (booking.expired_quantity), and decisions end the holds whose room they give
-- away (booking.end_expired).

-- Returns the windows of a service that overlap [p_from, p_to), in the order of their index; none if p_from >= p_to.
--
-- Parameters
--   p_longest_seconds  services.longest_occupied_seconds. An overlapping window began at most that long before p_from,
--                      so the scan is a short range of the index, whatever the history
--   p_counted_ids      as in booking.capacity_of
--   p_own              a claim to leave out; NULL: none
--   p_expired_limit    units of expired holds to leave out of each window, at most; 0: none, NULL: all
-- Returns  each window with the units claimed in it
--
-- STABLE and a single query, so that PostgreSQL inlines it into the calling statement, whose snapshot it then reads.
CREATE FUNCTION booking.service_windows(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_expired_limit bigint)
RETURNS TABLE (o booking.occupancy, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT o, o.claimed
    - CASE WHEN (o.service_id, o.resource_id, o.starts, o.ends)
        = (p_own.service_id, p_own.resource_id, p_own.starts, p_own.ends) THEN p_own.quantity ELSE 0 END
    - CASE WHEN o.next_expiry <= p_now AND p_expired_limit IS DISTINCT FROM 0
      THEN booking.expired_quantity(o, p_now, p_expired_limit) ELSE 0 END
  FROM booking.occupancy o
  WHERE o.business_id = p_business_id AND o.service_id = p_service_id
    AND o.starts < p_to AND o.starts > p_from - make_interval(secs => p_longest_seconds) AND o.ends > p_from
    AND p_from < p_to AND (p_counted_ids IS NULL OR o.resource_id = ANY (p_counted_ids))
  ORDER BY o.starts
$$;

-- Returns the claim of an appointment, which takes no room from its own move; NULL for one that is not confirmed.
CREATE FUNCTION booking.own_claim_of(p_appointment booking.appointments)
RETURNS booking.own_claim LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_appointment.status = 'confirmed' THEN ROW(
      coalesce(p_appointment.resource_id, ''), lower(p_appointment.occupied), upper(p_appointment.occupied),
      p_appointment.quantity, p_appointment.service_id)::booking.own_claim END
$$;

-- Returns the windows of a resource that overlap [p_from, p_to), whichever service their claims belong to, with the
-- units claimed in each, without expired holds.
--
-- Parameters as in booking.service_windows, but
--   p_longest_seconds  resources.longest_occupied_seconds
CREATE FUNCTION booking.resource_windows(
  p_business_id text, p_resource_id text, p_longest_seconds bigint, p_from timestamptz, p_to timestamptz,
  p_now timestamptz, p_own booking.own_claim DEFAULT NULL)
RETURNS TABLE (o booking.occupancy, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT o, o.claimed
    - CASE WHEN (o.service_id, o.resource_id, o.starts, o.ends)
        = (p_own.service_id, p_own.resource_id, p_own.starts, p_own.ends) THEN p_own.quantity ELSE 0 END
    - CASE WHEN o.next_expiry <= p_now THEN booking.expired_quantity(o, p_now) ELSE 0 END
  FROM booking.occupancy o
  WHERE o.business_id = p_business_id AND o.resource_id BETWEEN p_resource_id AND p_resource_id AND o.resource_id <> ''
    AND o.starts < p_to AND o.starts > p_from - make_interval(secs => p_longest_seconds) AND o.ends > p_from
  ORDER BY o.resource_id, o.starts
$$;

-- Returns how many units of a count belong to holds that have expired by p_now. Worth calling only if next_expiry has
-- passed.
--
--   p_at_most  read at most this many holds; NULL: all
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

-- Returns how many units of a service are claimed over [p_from, p_to): one row from each change to the next. A sweep
-- over the edges of the windows: +claimed at the start, -claimed at the end. The steps of one instant are added up first:
-- many windows share their edges, and windows are half-open, so none of them meets another that begins when it ends.
-- Parameters as in booking.service_windows.
CREATE FUNCTION booking.claim_levels(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_expired_limit bigint)
RETURNS TABLE (at timestamptz, until timestamptz, claimed bigint) LANGUAGE sql STABLE
AS $$
  SELECT level.at, level.until, level.claimed::bigint
  FROM (
    SELECT edge.at, lead(edge.at) OVER by_time AS until, sum(sum(edge.step)) OVER by_time AS claimed
    FROM (
      SELECT (w.o).starts, (w.o).ends, w.claimed
      FROM booking.service_windows(
        p_business_id, p_service_id, p_longest_seconds, p_counted_ids, p_from, p_to, p_own, p_now, p_expired_limit) AS w
      OFFSET 0
    ) AS w
    CROSS JOIN LATERAL (VALUES (greatest(w.starts, p_from), w.claimed), (w.ends, -w.claimed)) AS edge (at, step)
    GROUP BY edge.at
    WINDOW by_time AS (ORDER BY edge.at)
  ) AS level
  WHERE level.until IS NOT NULL
$$;

-- Returns the highest number of units of a service claimed at any instant of [p_from, p_to). Parameters as in
-- booking.service_windows.
--
--   p_target  if the peak is above it, expired holds are left out as far as that lowers the peak to p_target; NULL: all
--             holds count. Reading no more of them than needed bounds the cost where many holds expired at once
CREATE FUNCTION booking.peak(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_counted_ids text[], p_from timestamptz,
  p_to timestamptz, p_own booking.own_claim, p_now timestamptz, p_target bigint)
RETURNS bigint LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_peak bigint;
  v_expired_limit bigint := 0;
BEGIN
  LOOP
    SELECT coalesce(max(level.claimed), 0) INTO v_peak
    FROM booking.claim_levels(p_business_id, p_service_id, p_longest_seconds, p_counted_ids, p_from, p_to, p_own, p_now,
      v_expired_limit) AS level;
    EXIT WHEN v_expired_limit > 0 OR (v_peak > p_target) IS NOT TRUE;
    v_expired_limit := v_peak - p_target;
  END LOOP;
  RETURN v_peak;
END
$$;

-- Subtracts freed quantities from the counts of their windows, and deletes the windows that have no claim left.
--
-- Raises  23514 (occupancy_claimed_check) if more is freed than is counted
-- Locks   none of its own; the caller holds the locks of the businesses
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
  -- A missing row means that a claim was written past the functions. The negative count violates
  -- occupancy_claimed_check, so the error surfaces here.
  WHEN NOT MATCHED THEN
    INSERT (business_id, service_id, starts, ends, resource_id, claimed)
    VALUES (freed.business_id, freed.service_id, freed.starts, freed.ends, freed.resource_id, - freed.quantity);
END
$$;

-- Ends holds: the only place where a hold becomes 'committed', 'released' or 'expired'. A reservation that has ended
-- keeps its status; a hold that has expired becomes 'expired' also where p_status is 'released'. The freed room is
-- subtracted from the counts, except for 'committed', where the appointment takes it over.
--
-- Parameters
--   p_business_ids, p_reservation_ids  parallel arrays; duplicates are allowed
--   p_status  'committed', 'released' or 'expired'
-- Returns  the reservations that this call ended, as they are now
-- Locks    none of its own; the caller holds the locks of the businesses
CREATE FUNCTION booking.end_holds(p_business_ids text[], p_reservation_ids uuid[], p_status text, p_now timestamptz)
RETURNS SETOF booking.reservations LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_ended booking.reservations[];
  v_hold booking.reservations;
BEGIN
  IF coalesce(cardinality(p_reservation_ids), 0) = 0 THEN
    RETURN;
  END IF;
  -- A look-up of its own, so that the update finds its rows by primary key: a condition on the status in the update
  -- would let the planner choose an index that begins with the business.
  WITH live_hold AS MATERIALIZED (
    SELECT h.business_id, h.reservation_id
    FROM (SELECT DISTINCT * FROM unnest(p_business_ids, p_reservation_ids)) AS target (business_id, reservation_id)
    CROSS JOIN LATERAL booking.reservation_by_id(target.business_id, target.reservation_id) AS h
    WHERE h.status = 'held'
  ), ended_hold AS (
    UPDATE booking.reservations AS r
    SET status = CASE WHEN p_status = 'released' AND r.expires_at <= p_now THEN 'expired' ELSE p_status END,
        ended_at = p_now, version = r.version + 1
    FROM live_hold WHERE r.reservation_id = live_hold.reservation_id AND r.business_id = live_hold.business_id
    RETURNING r
  )
  SELECT array_agg(r) INTO v_ended FROM ended_hold;
  IF p_status = 'committed' THEN
    -- For a resource whose only claim in the window was this hold: no held reservation is left that could expire.
    UPDATE booking.occupancy AS o SET next_expiry = NULL
    FROM unnest(v_ended) AS r
    WHERE o.business_id = r.business_id AND o.service_id = r.service_id AND o.starts = lower(r.occupied)
      AND o.ends = upper(r.occupied) AND o.resource_id = r.resource_id AND o.claimed = r.quantity;
  ELSIF v_ended IS NOT NULL THEN
    PERFORM booking.free_claims(ARRAY(
      SELECT ROW(r.business_id, r.service_id, r.resource_id, r.occupied, r.quantity)::booking.freed_claim
      FROM unnest(v_ended) AS r));
  END IF;
  -- Not RETURN QUERY: where a newer release adds a column, a session keeps the plan of the query without it.
  FOREACH v_hold IN ARRAY coalesce(v_ended, '{}') LOOP
    RETURN NEXT v_hold;
  END LOOP;
END
$$;

-- Returns the slot of a hold that has ended, for those who watch it: {service_id, resource_id, slot_start, slot_end}.
CREATE FUNCTION booking.freed_slot(r booking.reservations)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'service_id', r.service_id, 'resource_id', r.resource_id, 'slot_start', r.slot_start, 'slot_end', r.slot_end)
$$;

-- Ends the expired holds whose room was given away, after the granted requests were counted: all those of a resource
-- that kept it from being free, and of a service only as many as bring its peak back to the capacity, instant by
-- instant. When 50,000 holds of a slot expire at once, one caller therefore does not wait for all of them. Recomputes
-- next_expiry of every window that the requests overlap.
--
-- Parameters
--   p_decided       the requests of the round that met expired holds
--   p_outcomes, p_resource_ids  what each of them got, in the same order, as booking.decide returns it
-- Returns  the businesses in which other slots than the granted ones have room now: a hold ended that had another window
--          or another resource. NULL: none
-- Locks    none of its own; the caller holds the locks of the businesses
CREATE FUNCTION booking.end_expired(
  p_decided booking.claim_request[], p_outcomes text[], p_resource_ids text[], p_now timestamptz)
RETURNS text[] LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_windows booking.occupancy[];
  v_limits bigint[];
  v_business_ids text[];
  v_reservation_ids uuid[];
  v_ended booking.reservations[] := '{}';
BEGIN
  SELECT array_agg(stale_window.o), array_agg(stale_window.at_most) INTO v_windows, v_limits
  FROM (
    SELECT overlapping.o, max(overlapping.at_most) AS at_most
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
      CROSS JOIN LATERAL booking.resource_by_id(g.business_id, member.id) AS r
      CROSS JOIN LATERAL booking.resource_windows(
        g.business_id, r.resource_id, r.longest_occupied_seconds, g.starts, g.ends, p_now) AS w
    ) AS overlapping
    WHERE (overlapping.o).next_expiry <= p_now
    GROUP BY overlapping.o
  ) AS stale_window;

  SELECT array_agg((v_windows[n]).business_id), array_agg(held.id) INTO v_business_ids, v_reservation_ids
  FROM generate_subscripts(v_windows, 1) AS n
  CROSS JOIN LATERAL booking.first_expired(ARRAY[v_windows[n]], v_limits[n], p_now) AS held (id);
  LOOP
    v_ended := v_ended || ARRAY(
      SELECT r FROM booking.end_holds(v_business_ids, v_reservation_ids, 'expired', p_now) AS r);
    -- The excess over the capacity at the fullest instant of each window. Ending holds there can make another
    -- instant the fullest: the loop ends when none exceeds the capacity.
    SELECT array_agg(g.business_id), array_agg(held.id) INTO v_business_ids, v_reservation_ids
    FROM (SELECT DISTINCT ON (q.business_id, q.service_id, q.starts, q.ends) q.* FROM unnest(p_decided) AS q) AS g
    CROSS JOIN LATERAL (
      SELECT s.longest_occupied_seconds, own.*
      FROM booking.services AS s CROSS JOIN LATERAL booking.capacity_of(s) AS own
      WHERE s.business_id = g.business_id AND s.service_id = g.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL (
      SELECT level.at, level.claimed - s.capacity AS excess
      FROM booking.claim_levels(g.business_id, g.service_id, s.longest_occupied_seconds, s.counted_ids,
        greatest(g.starts, p_now), g.ends, g.own, p_now, 0) AS level
      ORDER BY level.claimed DESC LIMIT 1
    ) AS fullest
    CROSS JOIN LATERAL booking.first_expired(ARRAY(
      SELECT w.o FROM booking.service_windows(g.business_id, g.service_id, s.longest_occupied_seconds, s.counted_ids,
        fullest.at, fullest.at + interval '1 microsecond', NULL, p_now, 0) AS w
      WHERE (w.o).next_expiry <= p_now), fullest.excess, p_now) AS held (id);
    EXIT WHEN v_reservation_ids IS NULL;
  END LOOP;

  -- The holds granted in this round are not in booking.reservations yet, so p_decided supplies their expiry.
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
  IF v_ended = '{}' THEN
    RETURN NULL;
  END IF;
  RETURN (
    SELECT array_agg(ended.business_id)
    FROM (
      SELECT DISTINCT r.business_id, r.service_id, r.resource_id, r.occupied FROM unnest(v_ended) AS r
    ) AS ended
    WHERE NOT EXISTS (
      SELECT FROM unnest(p_decided) WITH ORDINALITY AS g
      WHERE p_outcomes[g.ordinality] = 'granted' AND p_resource_ids[g.ordinality] IS NOT DISTINCT FROM ended.resource_id
        AND g.business_id = ended.business_id AND g.service_id = ended.service_id
        AND tstzrange(g.starts, g.ends) = ended.occupied));
END
$$;

-- Returns the expired holds of some windows in the order in which they expired, as many as free p_quantity units
-- together.
CREATE FUNCTION booking.first_expired(p_windows booking.occupancy[], p_quantity bigint, p_now timestamptz)
RETURNS SETOF uuid LANGUAGE sql STABLE
AS $$
  SELECT candidate.reservation_id
  FROM (
    SELECT hold.reservation_id, sum(hold.quantity) OVER (ORDER BY hold.expires_at, hold.reservation_id)
             - hold.quantity AS freed_before
    FROM unnest(p_windows) AS w
    CROSS JOIN LATERAL (
      SELECT r.* FROM booking.reservations r
      WHERE r.business_id = w.business_id AND r.service_id = w.service_id AND r.status = 'held'
        AND lower(r.occupied) BETWEEN w.starts AND w.starts AND r.expires_at <= p_now
        AND upper(r.occupied) = w.ends AND coalesce(r.resource_id, '') = w.resource_id
      ORDER BY lower(r.occupied), r.expires_at LIMIT greatest(0, p_quantity)
    ) AS hold
  ) AS candidate
  WHERE candidate.freed_before < p_quantity
$$;

-- Computes the counts anew from the claims, for the windows that start at p_from or later: held reservations, expired
-- or not, and confirmed appointments.
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
    -- A slot never starts before its window, so the index idx_appointments_calendar finds the windows from p_from on.
    JOIN booking.appointments a ON a.business_id = b.business_id AND a.slot_start >= p_from
    WHERE a.status = 'confirmed' AND lower(a.occupied) >= p_from
  ) AS claim
  GROUP BY claim.business_id, claim.service_id, claim.occupied, claim.resource_id
$$;

-- Returns the windows from p_from on whose count differs from the sum of their claims, whose next_expiry is later than the
-- expiry of a hold, or that are longer than longest_occupied_seconds of their service or resource, so that decisions may
-- not find them.
--
--   counted  the value in booking.occupancy; NULL: there is no such row
--   claimed  the sum of the claims; NULL: there is no claim
CREATE FUNCTION booking.find_miscounted(p_from timestamptz)
RETURNS TABLE (
  business_id text, service_id text, starts timestamptz, ends timestamptz, resource_id text, counted bigint,
  claimed bigint)
LANGUAGE sql STABLE
AS $$
  SELECT business_id, service_id, starts, ends, resource_id, o.claimed, c.claimed
  FROM (SELECT * FROM booking.occupancy WHERE starts >= p_from) AS o
  FULL JOIN booking.counted_claims(p_from) AS c USING (business_id, service_id, starts, ends, resource_id)
  LEFT JOIN booking.services AS s USING (business_id, service_id)
  LEFT JOIN booking.resources AS r USING (business_id, resource_id)
  WHERE o.claimed IS DISTINCT FROM c.claimed
    OR c.next_expiry IS NOT NULL AND coalesce(o.next_expiry, 'infinity') > c.next_expiry
    OR extract(epoch FROM ends - starts) > least(s.longest_occupied_seconds, r.longest_occupied_seconds)
$$;

-- Rebuilds the counts of a business and the lengths of its longest windows from its claims: the repair if
-- booking.miscounted_windows has rows.
--
-- Raises  as booking.lock_businesses
-- Locks   the business
CREATE FUNCTION booking.recount(p_business_id text, p_deadline timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.occupancy AS o WHERE o.business_id = p_business_id;
  INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed, next_expiry)
  SELECT * FROM booking.counted_claims('-infinity') AS c WHERE c.business_id = p_business_id;
  UPDATE booking.services AS s SET longest_occupied_seconds = longest.seconds
  FROM (
    SELECT o.service_id, max(ceil(extract(epoch FROM o.ends - o.starts))) AS seconds
    FROM booking.occupancy AS o WHERE o.business_id = p_business_id GROUP BY o.service_id
  ) AS longest
  WHERE s.business_id = p_business_id AND s.service_id = longest.service_id
    AND s.longest_occupied_seconds < longest.seconds;
  UPDATE booking.resources AS r SET longest_occupied_seconds = longest.seconds
  FROM (
    SELECT o.resource_id, max(ceil(extract(epoch FROM o.ends - o.starts))) AS seconds
    FROM booking.occupancy AS o WHERE o.business_id = p_business_id GROUP BY o.resource_id
  ) AS longest
  WHERE r.business_id = p_business_id AND r.resource_id = longest.resource_id
    AND r.longest_occupied_seconds < longest.seconds;
END
$$;
