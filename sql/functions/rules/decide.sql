-- Decides one round of requests for room. This is the rule against overbooking, for every verb and any number of
-- requests.
--
-- Of the requests of one attempt only the first is decided. Requests for equal windows are decided together, first
-- come, first served; a request that does not fit does not stop a smaller one behind it. A window waits for a later
-- round if it overlaps, without being equal, an earlier window of its service or of a service that has a resource in
-- common; in that round it sees the counts of this one. The window of the first open request of a business never waits,
-- so the rounds end.
--
-- The peak is compared with the capacity: the highest sum of quantities at any instant of the window from p_now on. Two
-- claims of one hour each, back to back, use one unit of a window of two hours. A resource must be free for the whole
-- window, its past included, because the constraint that guards it (appointments_resource_excl) has no notion of now.
--
-- Expired holds do not count against a request. Those whose room a request gets are ended: their expiry was acted on,
-- so a clock that is set back must not revive them.
--
-- Parameters
--   p_open  requests without an outcome, in the order of their positions. A request that replaces a claim (its `own` is
--           set) is the only request of its business
-- Returns arrays with one element for each element of p_open
--   outcomes      'granted' or 'slot_unavailable'; NULL: not decided in this round
--   resource_ids  the resource that a granted request gets; NULL: none
--   in_session    whether the request shares its resource
-- and one array of its own
--   freed         as booking.end_expired returns it
-- The counts include the granted requests; the caller inserts the claims.
-- Locks  the rows of services whose longest window grows, and those that booking.assign locks; the caller holds the locks
--        of the businesses
CREATE FUNCTION booking.decide(
  p_open booking.claim_request[], p_now timestamptz,
  OUT outcomes text[], OUT resource_ids text[], OUT in_session boolean[], OUT freed text[])
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
  v_places integer[];
  v_has_longer boolean;
  v_expired_places integer[];
BEGIN
  WITH first_of_attempt AS (
    SELECT request.*, CASE WHEN request.resource_ids IS NULL THEN request.service_id ELSE '' END AS scope
    FROM (
      SELECT r.position, r.business_id, r.service_id, r.starts, r.ends, r.quantity, r.resource_ids, r.expires_at, r.own,
             r.keeps_room, r.ordinality::integer AS place,
             row_number() OVER (PARTITION BY r.business_id, r.attempt ORDER BY r.position) AS nth
      FROM unnest(p_open) WITH ORDINALITY AS r
    ) AS request
    WHERE request.nth = 1
    ORDER BY request.business_id, scope, request.starts, request.ends, request.service_id, request.resource_ids,
      request.position
  ), checked_window AS MATERIALIZED (
    -- Two windows can compete for room only within a scope: one service, or all services of a business that have a
    -- pool, because these can share resources.
    SELECT *, starts < max(ends) OVER in_scope OR ends > lead(starts) OVER in_scope AS overlaps_another
    FROM (
      SELECT business_id, scope, starts, ends, service_id, resource_ids, min(position) AS position,
             array_agg(place) AS places, array_agg(quantity) AS quantities, array_agg(expires_at) AS expiries,
             sum(quantity) AS requested, any_value(own) AS own, bool_or(keeps_room) AS keeps_room
      FROM first_of_attempt
      GROUP BY business_id, scope, starts, ends, service_id, resource_ids
    ) AS distinct_window
    WINDOW in_scope AS (
      PARTITION BY business_id, scope ORDER BY starts, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ), tried_window AS MATERIALIZED (
    SELECT w.business_id, w.service_id, w.starts, w.ends, w.position, w.places, w.quantities, w.expiries,
           w.resource_ids, w.own, s.is_shared, s.longest_occupied_seconds,
           total.claimed + w.requested > s.capacity AND total.next_expiry <= p_now AS may_have_expired,
           -- A claim that shrinks keeps its room. In a shared session it must also leave the others' window alone:
           -- another window on their resource would be a double booking. A claim from before the service had a pool has
           -- no resource to keep.
           w.keeps_room AND NOT s.is_shared AND (w.own).resource_id <> '' AS keeps_resource,
           CASE
             WHEN w.keeps_room THEN w.requested
             -- The sum over all windows is an upper bound of the peak, and equals it if all share an instant.
             WHEN total.claimed + w.requested <= s.capacity THEN s.capacity - total.claimed
             WHEN total.share_an_instant AND (total.next_expiry <= p_now) IS NOT TRUE
             THEN s.capacity - total.claimed
             ELSE s.capacity - booking.peak(w.business_id, w.service_id, s.longest_occupied_seconds, s.counted_ids,
               greatest(w.starts, p_now), w.ends, w.own, p_now, s.capacity - w.requested) END AS room
    FROM checked_window AS w
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
    WHERE w.overlaps_another IS NOT TRUE OR NOT EXISTS (
      SELECT FROM checked_window AS earlier
      WHERE earlier.business_id = w.business_id AND earlier.position < w.position
        AND earlier.starts < w.ends AND earlier.ends > w.starts
        AND (earlier.service_id = w.service_id OR earlier.resource_ids && w.resource_ids))
  ), assignment AS MATERIALIZED (
    SELECT * FROM booking.assign(ARRAY(
      SELECT ROW(t.position, t.business_id, t.service_id, t.starts, t.ends, t.quantities, t.room, t.resource_ids,
        t.is_shared, t.keeps_resource, t.own)::booking.pool_window
      FROM tried_window AS t WHERE t.resource_ids IS NOT NULL), p_now)
  ), decision AS MATERIALIZED (
    SELECT t.business_id, t.service_id, t.starts, t.ends, t.is_shared AND t.resource_ids IS NOT NULL AS is_session,
           t.may_have_expired OR a.next_expiry <= p_now AS may_have_expired, choice.place, choice.quantity,
           choice.expires_at, choice.pick > 0 AS is_granted, a.ids[choice.pick] AS resource_id,
           t.ends - t.starts > make_interval(secs => t.longest_occupied_seconds) AS is_longer
    FROM tried_window AS t LEFT JOIN assignment AS a ON t.resource_ids IS NOT NULL AND a.position = t.position
    CROSS JOIN LATERAL unnest(t.places, t.quantities, t.expiries,
      CASE WHEN t.resource_ids IS NULL THEN booking.take(t.quantities, t.room) ELSE a.picks END
    ) AS choice (place, quantity, expires_at, pick)
  ), new_count AS (
    INSERT INTO booking.occupancy AS o (business_id, service_id, starts, ends, resource_id, claimed, next_expiry)
    SELECT business_id, service_id, starts, ends, coalesce(resource_id, ''), sum(quantity), min(expires_at)
    FROM decision WHERE is_granted
    GROUP BY business_id, service_id, starts, ends, coalesce(resource_id, '')
    ON CONFLICT (business_id, service_id, starts, ends, resource_id) DO UPDATE
    SET claimed = o.claimed + excluded.claimed, next_expiry = least(o.next_expiry, excluded.next_expiry)
  )
  SELECT array_agg(d.place), array_agg(CASE WHEN d.is_granted THEN 'granted' ELSE 'slot_unavailable' END),
         array_agg(d.resource_id), array_agg(d.is_session), bool_or(d.is_granted AND d.is_longer),
         array_agg(d.place) FILTER (WHERE d.may_have_expired)
  INTO v_places, outcomes, resource_ids, in_session, v_has_longer, v_expired_places
  FROM (SELECT * FROM decision ORDER BY place) AS d;

  -- Where some requests are undecided the arrays are shorter than p_open: align them with it again.
  IF cardinality(v_places) IS DISTINCT FROM cardinality(p_open) THEN
    SELECT array_agg(d.outcome ORDER BY place), array_agg(d.resource_id ORDER BY place),
           array_agg(d.is_session ORDER BY place)
    INTO outcomes, resource_ids, in_session
    FROM generate_subscripts(p_open, 1) AS place
    LEFT JOIN unnest(v_places, decide.outcomes, decide.resource_ids, decide.in_session)
      AS d (place, outcome, resource_id, is_session) USING (place);
  END IF;
  -- Scans for overlapping windows begin this far before their window, so the longest granted window is recorded (that of
  -- resources in booking.assign).
  -- Written under the lock and in the transaction of the claim, so that no later scan misses it.
  IF v_has_longer THEN
    UPDATE booking.services AS s SET longest_occupied_seconds = longest.seconds
    FROM (
      SELECT r.business_id, r.service_id, max(ceil(extract(epoch FROM r.ends - r.starts))) AS seconds
      FROM unnest(p_open) WITH ORDINALITY AS r WHERE decide.outcomes[r.ordinality] = 'granted' GROUP BY 1, 2
    ) AS longest
    WHERE s.business_id = longest.business_id AND s.service_id = longest.service_id
      AND s.longest_occupied_seconds < longest.seconds;
  END IF;
  IF v_expired_places IS NOT NULL THEN
    SELECT booking.end_expired(array_agg(p_open[place]), array_agg(decide.outcomes[place]),
      array_agg(decide.resource_ids[place]), p_now)
    INTO freed FROM unnest(v_expired_places) AS place;
  END IF;
END
$$;

-- Returns the body of a granted request. It has frees_more if the decision ended expired holds beside the granted slots,
-- which nothing else announces: the purge does not find them any more.
--
--   p_freed  as booking.decide returns it
CREATE FUNCTION booking.with_freed(p_body jsonb, p_freed text[])
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN p_body ->> 'business_id' = ANY (p_freed) THEN p_body || '{"frees_more": true}' ELSE p_body END $$;
