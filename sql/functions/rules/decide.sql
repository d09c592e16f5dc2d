-- Decides one round of requests for room: the rule against overbooking, for every verb and any number of requests.
--
-- Of each attempt the first request is decided. Requests for equal windows are decided together, first come, first
-- served; one that does not fit does not stop a smaller one behind it. A window that overlaps an earlier one of its
-- service, or of one with a resource in common, without being equal waits for a later round and sees the counts of
-- this one. At least one window waits for no other, so the rounds end.
--
-- Compared with the capacity is the peak: the highest sum of quantities at any instant of the window from p_now on. Two
-- claims of an hour that follow each other use one unit of a window of two hours. A resource is free for all of the
-- window or not at all: the constraint that guards it knows no now.
--
-- Expired holds are not counted against a request, and are ended where it gets their room: that is a state, so that no
-- later clock revives them.
--
--   p_open  requests without an outcome. One that replaces a claim (own_…) is the only one of its business
--   p_now   the clock, read after the locks
-- Returns arrays beside p_open
--   outcomes      'granted' or 'slot_unavailable'; NULL: not decided in this round
--   resource_ids  what it gets, if granted
--   in_session    whether it shares that
-- What was granted is counted; the caller writes the claims.
-- Locks  rows of services and resources that were never claimed for so long; the caller has the locks of the businesses
CREATE FUNCTION booking.decide(
  p_open booking.claim_request[], p_now timestamptz,
  OUT outcomes text[], OUT resource_ids text[], OUT in_session boolean[])
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
  v_places integer[];
  v_has_longer boolean;
  v_with_expired integer[];
BEGIN
  WITH first_of_attempt AS (
    SELECT asked.*, CASE WHEN asked.resource_ids IS NULL THEN asked.service_id ELSE '' END AS line
    FROM (
      SELECT r.position, r.business_id, r.service_id, r.starts, r.ends, r.quantity, r.resource_ids, r.expires_at, r.own,
             r.keeps_room, r.ordinality::integer AS place,
             row_number() OVER (PARTITION BY r.business_id, r.attempt ORDER BY r.position) AS nth
      FROM unnest(p_open) WITH ORDINALITY AS r
    ) AS asked
    WHERE asked.nth = 1
    ORDER BY asked.business_id, line, asked.starts, asked.ends, asked.service_id, asked.resource_ids, asked.position
  ), compared AS MATERIALIZED (
    -- Windows meet within a line: a service, or all the services of a business that have resources.
    SELECT *, starts < max(ends) OVER in_line OR ends > lead(starts) OVER in_line AS meets_another
    FROM (
      SELECT business_id, line, starts, ends, service_id, resource_ids, min(position) AS position,
             array_agg(place) AS places, array_agg(quantity) AS quantities, array_agg(expires_at) AS expiries,
             sum(quantity) AS wanted, any_value(own) AS own, bool_or(keeps_room) AS keeps_room
      FROM first_of_attempt
      GROUP BY business_id, line, starts, ends, service_id, resource_ids
    ) AS distinct_window
    WINDOW in_line AS (
      PARTITION BY business_id, line ORDER BY starts, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ), tried AS MATERIALIZED (
    SELECT w.business_id, w.service_id, w.starts, w.ends, w.places, w.quantities, w.expiries, pool.ids, pool.reaches,
           s.is_shared AND w.resource_ids IS NOT NULL AS is_session, s.longest_occupied_seconds,
           total.claimed + w.wanted > s.capacity AND total.next_expiry <= p_now
             OR pool.next_expiry <= p_now AS may_have_expired,
           CASE WHEN w.keeps_room THEN '{1}' ELSE booking.take(
             w.quantities, s.capacity - CASE
               -- The sum of all windows is never below their peak, and is the peak where they share an instant.
               WHEN total.claimed + w.wanted <= s.capacity THEN total.claimed
               WHEN total.share_an_instant AND (total.next_expiry <= p_now) IS NOT TRUE THEN total.claimed
               ELSE booking.peak(w.business_id, w.service_id, s.longest_occupied_seconds, s.counted_ids,
                 greatest(w.starts, p_now), w.ends, w.own, p_now, s.capacity - w.wanted) END,
             CASE WHEN w.resource_ids IS NOT NULL THEN coalesce(pool.rooms, '{}') END, pool.is_begun, s.is_shared)
           END AS picks
    FROM compared AS w
    CROSS JOIN LATERAL (
      SELECT s.longest_occupied_seconds, s.resource_sharing = 'session' AS is_shared, own.*
      FROM booking.services AS s CROSS JOIN LATERAL booking.capacity_of(s) AS own
      WHERE s.business_id = w.business_id AND s.service_id = w.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL (
      SELECT coalesce(sum(m.claimed), 0)::bigint AS claimed, min((m.o).next_expiry) AS next_expiry,
             max((m.o).starts) < min((m.o).ends) AS share_an_instant
      FROM booking.service_windows(w.business_id, w.service_id, s.longest_occupied_seconds, s.counted_ids,
        greatest(w.starts, p_now), w.ends, w.own, p_now, 0) AS m OFFSET 0
    ) AS total
    CROSS JOIN LATERAL booking.pool_room(
      w.business_id, w.service_id, w.resource_ids, w.starts, w.ends, s.is_shared, w.own, p_now) AS pool
    WHERE w.meets_another IS NOT TRUE OR NOT EXISTS (
      SELECT FROM compared AS earlier
      WHERE earlier.business_id = w.business_id AND earlier.position < w.position
        AND earlier.starts < w.ends AND earlier.ends > w.starts
        AND (earlier.service_id = w.service_id OR earlier.resource_ids && w.resource_ids))
  ), decided AS MATERIALIZED (
    SELECT t.business_id, t.service_id, t.starts, t.ends, t.is_session, t.may_have_expired, picked.place,
           picked.quantity, picked.expires_at, picked.pick > 0 AS is_granted, t.ids[picked.pick] AS resource_id,
           t.ends - t.starts > make_interval(
             secs => least(t.longest_occupied_seconds, t.reaches[picked.pick])) AS is_longer
    FROM tried AS t
    CROSS JOIN LATERAL unnest(t.places, t.quantities, t.expiries, t.picks) AS picked (place, quantity, expires_at, pick)
  ), counted AS (
    INSERT INTO booking.occupancy AS o (business_id, service_id, starts, ends, resource_id, claimed, next_expiry)
    SELECT business_id, service_id, starts, ends, coalesce(resource_id, ''), sum(quantity), min(expires_at)
    FROM decided WHERE is_granted
    GROUP BY business_id, service_id, starts, ends, coalesce(resource_id, '')
    ON CONFLICT (business_id, service_id, starts, ends, resource_id) DO UPDATE
    SET claimed = o.claimed + excluded.claimed, next_expiry = least(o.next_expiry, excluded.next_expiry)
  )
  SELECT array_agg(d.place), array_agg(CASE WHEN d.is_granted THEN 'granted' ELSE 'slot_unavailable' END),
         array_agg(d.resource_id), array_agg(d.is_session), bool_or(d.is_granted AND d.is_longer),
         array_agg(d.place) FILTER (WHERE d.may_have_expired)
  INTO v_places, outcomes, resource_ids, in_session, v_has_longer, v_with_expired
  FROM (SELECT * FROM decided ORDER BY place) AS d;

  -- Beside p_open again, where not all of it was decided.
  IF cardinality(v_places) IS DISTINCT FROM cardinality(p_open) THEN
    SELECT array_agg(d.outcome ORDER BY place), array_agg(d.resource_id ORDER BY place),
           array_agg(d.is_session ORDER BY place)
    INTO outcomes, resource_ids, in_session
    FROM generate_subscripts(p_open, 1) AS place
    LEFT JOIN unnest(v_places, decide.outcomes, decide.resource_ids, decide.in_session)
      AS d (place, outcome, resource_id, is_session) USING (place);
  END IF;
  -- Scans for overlaps reach back as far as the longest window that was ever granted, and no farther.
  IF v_has_longer THEN
    UPDATE booking.services AS s SET longest_occupied_seconds = longest.seconds
    FROM (
      SELECT r.business_id, r.service_id, max(ceil(extract(epoch FROM r.ends - r.starts))) AS seconds
      FROM unnest(p_open) WITH ORDINALITY AS r WHERE decide.outcomes[r.ordinality] = 'granted' GROUP BY 1, 2
    ) AS longest
    WHERE s.business_id = longest.business_id AND s.service_id = longest.service_id
      AND s.longest_occupied_seconds < longest.seconds;
    UPDATE booking.resources AS r SET longest_occupied_seconds = longest.seconds
    FROM (
      SELECT q.business_id, decide.resource_ids[q.ordinality] AS resource_id,
             max(ceil(extract(epoch FROM q.ends - q.starts))) AS seconds
      FROM unnest(p_open) WITH ORDINALITY AS q WHERE decide.outcomes[q.ordinality] = 'granted' GROUP BY 1, 2
    ) AS longest
    WHERE r.business_id = longest.business_id AND r.resource_id = longest.resource_id
      AND r.longest_occupied_seconds < longest.seconds;
  END IF;
  IF v_with_expired IS NOT NULL THEN
    PERFORM booking.end_expired(
      array_agg(p_open[place]), array_agg(decide.resource_ids[place]), p_now) FROM unnest(v_with_expired) AS place;
  END IF;
END
$$;

-- Grants quantities in their order, each one that still fits.
--   p_quantities  of requests for one window
--   p_room        what its service still has; may be negative
--   p_rooms       what each resource still seats, in the order in which they are tried; NULL: the service has none
--   p_is_begun    whether a session has begun to fill it: such resources are filled before another one is opened
--   p_is_shared   whether a resource is left with the seats that are not taken, or with none
-- Returns for each quantity which resource it gets (1 where the service has none), or 0.
CREATE FUNCTION booking.take(
  p_quantities integer[], p_room bigint, p_rooms bigint[], p_is_begun boolean[], p_is_shared boolean)
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
        CONTINUE WHEN v_quantity > p_rooms[m] OR v_pick > 0 AND NOT p_is_begun[m];
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
