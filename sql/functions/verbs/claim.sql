-- Claims slots: the verb behind POST /api/booking/reserve, which holds them, and behind manual creation and one-call
-- booking, which book them at once.
--
-- Parameters
--   p_verb          'reserve' or 'book'
--   p_business_ids, p_batches  as in booking.execute; in the order of their arrival [{operation_id, service_id,
--                              slot_start, slot_end?, quantity, resource_id?, idempotency_key?, fingerprint?}].
--                              operation_id (a uuid) becomes the id of the reservation, or of the appointment and its
--                              audit row. An idempotency_key comes with a fingerprint, that of the whole request; a
--                              request without one equals no other.
--                              A request for the public also has the limits of its client, see booking.hoarders:
--                                max_live_holds?, max_daily_bookings?  without them nothing is limited
--                                client_address_hmac?, client_id_hmac?  identify the client
--                              A request to reserve also has
--                                ttl_minutes?     fractions allowed
--                              A request to book also has
--                                guest_name?, guest_email?, guest_phone?, notes?, metadata?, source, actor_kind,
--                                actor_id?, request_id?
--                                guest_fault?     an error in the guest's data, as of booking.fault; the outcome unless
--                                                 the request is a replay
--                                manual?          the caller acts for the business: opening hours, notice, the past and
--                                                 booking_enabled do not bind
--   p_is_alone      whether the call contains no other verb
-- Returns one booking.outcome for each request, in any order:
--   done                    the new reservation or appointment, or the one that this operation made before; a new
--                           appointment that is `manual` with what booking.warnings returns; with what
--                           booking.with_freed adds
--   replayed                the reservation or appointment that an earlier request with this key made, as it is now
--   idempotency_key_reused  the key belongs to a different request
--   service_not_found       no such business or service, or the service is archived
--   resource_not_found      the service has no such resource
--   validation_failed       guest_fault, a manual slot longer than booking.longest_slot, or a quantity that no resource
--                           seats; body: as of booking.fault
--   slot_not_bookable       body: {reason}: see booking.slot_refusal; 'closed', or 'not_online' for a resource
--   business_misconfigured  the slot depends on local time, and this server does not know the time zone of the business
--   too_many_holds          the client would hold more than max_live_holds places in this business; body:
--                           {retry_after_seconds}, until the first of its holds ends
--   too_many_bookings       the client would hold and have booked on this day more than max_daily_bookings places
--   guest_limit_reached     not `manual`: the guest has as many upcoming appointments of the service as it allows
--   slot_unavailable        there is no room, or no resource is free
--   deferred                the request needs more rounds than booking.max_rounds, or depends on others of its guest
--                           in this call: not tried
-- Locks  none of its own; the caller holds the locks of the businesses
-- A retry with the same operation_id has one effect. A refusal writes nothing.
CREATE FUNCTION booking.claim(
  p_verb text, p_business_ids text[], p_batches jsonb[], p_now timestamptz, p_is_alone boolean)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_outcomes booking.outcome[] := booking.known_claims(p_verb, p_business_ids, p_batches, p_now);
  v_known_ids uuid[] := '{}';
  v_open booking.claim_request[];
  v_has_limits boolean;
  v_has_guest_limits boolean;
  v_decision record;
  v_undecided record;
  v_has_granted boolean := false;
BEGIN
  IF v_outcomes <> '{}' THEN
    RETURN QUERY SELECT * FROM unnest(v_outcomes);
    v_known_ids := ARRAY(SELECT operation_id FROM unnest(v_outcomes));
  END IF;
  SELECT judgement.* INTO v_open, v_outcomes, v_has_limits, v_has_guest_limits
  FROM booking.judge(p_verb, p_business_ids, p_batches, v_known_ids, p_now) AS judgement;
  IF v_outcomes <> '{}' THEN
    RETURN QUERY SELECT * FROM unnest(v_outcomes);
  END IF;
  IF v_has_limits THEN
    v_outcomes := booking.hoarders(v_open, p_now);
    IF v_outcomes <> '{}' THEN
      RETURN QUERY SELECT * FROM booking.until_a_hold_ends(v_open, v_outcomes, p_now);
      v_open := ARRAY(
        SELECT r FROM unnest(v_open) AS r WHERE r.operation_id NOT IN (SELECT operation_id FROM unnest(v_outcomes)));
    END IF;
  END IF;
  IF v_has_guest_limits THEN
    v_outcomes := booking.guests_at_limit(ARRAY(
      SELECT ROW(r.position, r.business_id, r.operation_id, r.service_id, r.details ->> 'guest_email',
        r.details ->> 'guest_phone')::booking.guest_claim
      FROM unnest(v_open) AS r WHERE (r.details ->> 'manual')::boolean IS NOT TRUE), p_now);
    RETURN QUERY SELECT * FROM unnest(v_outcomes);
    v_open := ARRAY(
      SELECT r FROM unnest(v_open) AS r WHERE r.operation_id NOT IN (SELECT operation_id FROM unnest(v_outcomes)));
  END IF;

  FOR v_round IN 1 .. booking.max_rounds() LOOP
    EXIT WHEN cardinality(v_open) = 0;
    v_decision := booking.decide(v_open, p_now);
    v_has_granted := v_has_granted OR 'granted' = ANY (v_decision.outcomes);
    IF 'granted' = ANY (v_decision.outcomes) AND p_verb = 'reserve' THEN
      RETURN QUERY SELECT granted.operation_id, granted.outcome, booking.with_freed(granted.body, v_decision.freed)
        FROM booking.hold_granted(
          v_open, v_decision.outcomes, v_decision.resource_ids, v_decision.in_session, p_now) AS granted;
    ELSIF 'granted' = ANY (v_decision.outcomes) THEN
      RETURN QUERY SELECT granted.operation_id, granted.outcome, booking.with_freed(granted.body, v_decision.freed)
        FROM booking.book_granted(
          v_open, v_decision.outcomes, v_decision.resource_ids, v_decision.in_session, p_now) AS granted;
    END IF;
    IF 'slot_unavailable' = ANY (v_decision.outcomes) THEN
      RETURN QUERY SELECT r.operation_id, 'slot_unavailable', NULL::jsonb
        FROM unnest(v_open) WITH ORDINALITY AS r WHERE v_decision.outcomes[r.ordinality] = 'slot_unavailable';
    END IF;
    IF array_position(v_decision.outcomes, NULL) IS NULL THEN
      v_open := '{}';
      EXIT;
    END IF;
    v_undecided := booking.undecided(v_open, v_decision.outcomes);
    v_open := v_undecided.open;
    RETURN QUERY SELECT id, 'slot_unavailable', NULL::jsonb FROM unnest(v_undecided.refused_ids) AS id;
    IF v_undecided.known_ids IS NOT NULL THEN
      RETURN QUERY SELECT * FROM unnest(booking.known_claims(p_verb, p_business_ids, p_batches, p_now))
        WHERE operation_id = ANY (v_undecided.known_ids);
    END IF;
  END LOOP;
  IF v_open <> '{}' THEN
    RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
  END IF;
  -- A transaction that only refused has nothing that a crash could undo, so its commit need not wait for the disk.
  IF p_is_alone AND NOT v_has_granted THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
END
$$;

-- Returns the outcomes of the requests whose attempt already had an effect: of this operation itself, or of an earlier
-- request with its idempotency key.
CREATE FUNCTION booking.known_claims(p_verb text, p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_known booking.known_claim[];
BEGIN
  -- Equality as an ordered range, so that the planner cannot choose another index: see lookups.sql.
  IF p_verb = 'reserve' THEN
    v_known := ARRAY(
      SELECT ROW(request, own.body, earlier.fingerprint, earlier.body)::booking.known_claim
      FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
      CROSS JOIN jsonb_array_elements(b.batch -> p_verb) AS request
      LEFT JOIN LATERAL (
        SELECT booking.reservation_body(r, p_now) AS body
        FROM booking.reservation_by_id(b.business_id, (request ->> 'operation_id')::uuid) AS r OFFSET 0
      ) AS own ON true
      LEFT JOIN LATERAL (
        SELECT r.fingerprint, booking.reservation_body(r, p_now) AS body FROM booking.reservations r
        WHERE r.business_id = b.business_id
          AND r.idempotency_key BETWEEN request ->> 'idempotency_key' AND request ->> 'idempotency_key'
        ORDER BY r.idempotency_key OFFSET 0
      ) AS earlier ON true
      WHERE own.body IS NOT NULL OR earlier.body IS NOT NULL);
  ELSE
    v_known := ARRAY(
      SELECT ROW(request, own.body, earlier.fingerprint, earlier.body)::booking.known_claim
      FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
      CROSS JOIN jsonb_array_elements(b.batch -> p_verb) AS request
      LEFT JOIN LATERAL (
        SELECT booking.appointment_body(a, s) AS body
        FROM booking.appointment_by_id(b.business_id, (request ->> 'operation_id')::uuid) AS a
        CROSS JOIN LATERAL booking.service_by_id(a.business_id, a.service_id) AS s OFFSET 0
      ) AS own ON true
      LEFT JOIN LATERAL (
        SELECT a.fingerprint, booking.appointment_body(a, s) AS body
        FROM booking.appointments a CROSS JOIN LATERAL booking.service_by_id(a.business_id, a.service_id) AS s
        WHERE a.business_id = b.business_id
          AND a.idempotency_key BETWEEN request ->> 'idempotency_key' AND request ->> 'idempotency_key'
        ORDER BY a.idempotency_key OFFSET 0
      ) AS earlier ON true
      WHERE own.body IS NOT NULL OR earlier.body IS NOT NULL);
  END IF;
  IF v_known = '{}' THEN
    RETURN '{}';
  END IF;
  RETURN ARRAY(
    SELECT CASE
      WHEN k.own IS NOT NULL THEN ROW(k.request ->> 'operation_id', 'done', k.own)::booking.outcome
      WHEN k.fingerprint = k.request ->> 'fingerprint'
      THEN ROW(k.request ->> 'operation_id', 'replayed', k.earlier)::booking.outcome
      ELSE ROW(k.request ->> 'operation_id', 'idempotency_key_reused', NULL)::booking.outcome
    END
    FROM unnest(v_known) AS k);
END
$$;

-- Parses requests to claim, and refuses those that cannot be booked whatever room there is. Opening hours, notice, the
-- past and booking_enabled bind unless the request is `manual`.
--
-- Parameters
--   p_known  the operations that already have an outcome
-- Returns
--   open              the requests to decide
--   refusals          the outcomes of the others
--   has_limits        whether an open request limits its client
--   has_guest_limits  whether the service of an open request for the public limits the appointments of a guest
CREATE FUNCTION booking.judge(
  p_verb text, p_business_ids text[], p_batches jsonb[], p_known uuid[], p_now timestamptz,
  OUT open booking.claim_request[], OUT refusals booking.outcome[], OUT has_limits boolean,
  OUT has_guest_limits boolean)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  WITH request_row AS (
    SELECT b.business_id, request AS details, (request ->> 'operation_id')::uuid AS operation_id,
           request ->> 'service_id' AS service_id, (request ->> 'slot_start')::timestamptz AS slot_start,
           (request ->> 'slot_end')::timestamptz AS slot_end, (request ->> 'quantity')::integer AS quantity,
           request ->> 'resource_id' AS resource_id, request ->> 'idempotency_key' AS idempotency_key,
           (request ->> 'ttl_minutes')::numeric AS ttl_minutes,
           (request ->> 'manual')::boolean IS NOT TRUE AS is_public,
           -- Businesses in their order, then requests in theirs: a call has at most 1,000 requests.
           b.place * 1000 + element.place AS position
    FROM unnest(p_business_ids, p_batches) WITH ORDINALITY AS b (business_id, batch, place)
    CROSS JOIN jsonb_array_elements(b.batch -> p_verb) WITH ORDINALITY AS element (request, place)
  ), numbered_request AS (
    -- Requests for the same slot share one verdict: it is computed for the first of them only.
    SELECT request_row.*, row_number() OVER same_slot AS nth
    FROM request_row
    WHERE request_row.operation_id <> ALL (p_known)
    WINDOW same_slot AS (
      PARTITION BY request_row.business_id, request_row.service_id, request_row.slot_start, request_row.slot_end,
        request_row.resource_id, request_row.is_public ORDER BY request_row.position)
  ), request_with_service AS (
    SELECT n.*, s.*
    FROM numbered_request AS n
    LEFT JOIN LATERAL (
      SELECT s AS service, slot.ends AS slot_ends,
             n.slot_start - make_interval(mins => s.buffer_before_minutes) AS starts,
             slot.ends + make_interval(mins => s.buffer_after_minutes) AS ends,
             CASE WHEN n.nth = 1 AND n.is_public
             THEN booking.slot_refusal(s, zone.name, n.slot_start, slot.ends, p_now) END AS refusal
      FROM booking.services s
      -- Looked up only where the slot itself depends on local time: most services need no look-up.
      CROSS JOIN LATERAL (
        SELECT CASE WHEN s.duration_days IS NOT NULL OR s.starts_on_grid
          THEN booking.timezone_of(s.business_id) END AS name OFFSET 0
      ) AS zone
      CROSS JOIN LATERAL (
        SELECT booking.slot_end(s, zone.name, n.slot_start, n.slot_end) AS ends OFFSET 0
      ) AS slot
      WHERE s.business_id = n.business_id AND s.service_id = n.service_id AND s.archived_at IS NULL OFFSET 0
    ) AS s ON true
  ), request_with_reason AS (
    SELECT o.*,
      CASE WHEN nth = 1 AND is_public AND refusal IS NULL AND (
        (SELECT owner.has_hours FROM booking.hours_owners(
          o.business_id, '{""}', tstzrange(slot_start, slot_ends)) AS owner)
        OR (SELECT true FROM booking.closures_during(o.business_id, '', tstzrange(slot_start, slot_ends)) LIMIT 1))
      THEN CASE booking.open_during(
          o.business_id, '{""}', tstzrange(slot_start, slot_ends), booking.hours_apply(o.service))
        WHEN '{}' THEN 'closed' WHEN '{""}' THEN NULL ELSE 'misconfigured' END
      ELSE refusal END AS reason,
      CASE WHEN nth = 1 AND (
        SELECT true FROM booking.service_resources m
        WHERE m.business_id = o.business_id AND m.service_id BETWEEN o.service_id AND o.service_id
        ORDER BY m.service_id LIMIT 1)
      THEN booking.find_pool(o.business_id, o.service_id, o.resource_id,
        CASE WHEN refusal IS NULL AND (is_public OR slot_ends <= slot_start + booking.longest_slot(o.service))
          THEN tstzrange(slot_start, slot_ends) END,
        booking.hours_apply(o.service), is_public) END AS pool
    FROM request_with_service AS o OFFSET 0
  ), request_with_verdict AS (
    SELECT f.*, first_value(CASE WHEN f.reason IS NOT NULL OR (f.pool).has_resources THEN
             ROW(coalesce(f.reason, (f.pool).refusal), f.pool)::booking.verdict END) OVER (
             PARTITION BY f.business_id, f.service_id, f.slot_start, f.slot_end, f.resource_id, f.is_public
             ORDER BY f.position) AS verdict
    FROM request_with_reason AS f OFFSET 0
  ), request_with_outcome AS (
    SELECT j.*,
      CASE
        -- Before the guest's data, whose faults may depend on the country of the business and so reveal that it exists.
        WHEN (service).service_id IS NULL THEN 'service_not_found'
        WHEN details -> 'guest_fault' <> 'null' THEN 'validation_failed'
        WHEN slot_ends IS NULL OR (verdict).reason = 'misconfigured' THEN 'business_misconfigured'
        WHEN slot_ends > slot_start + booking.longest_slot(service) AND NOT is_public THEN 'validation_failed'
        WHEN resource_id IS NOT NULL AND ((verdict).pool).largest IS NULL THEN 'resource_not_found'
        WHEN quantity > ((verdict).pool).largest THEN 'validation_failed'
        WHEN (verdict).reason IS NOT NULL THEN 'slot_not_bookable'
      END AS outcome
    FROM request_with_verdict AS j
  )
  SELECT
    coalesce(array_agg(ROW(position, business_id, operation_id, coalesce('key ' || idempotency_key, operation_id::text),
      service_id, slot_start, slot_ends, starts, ends, quantity, ((verdict).pool).resource_ids, resource_id,
      CASE WHEN p_verb = 'reserve' THEN
        booking.hold_expiry(service, ttl_minutes, p_now) END,
      coalesce(ttl_minutes > booking.max_hold_ttl_minutes(service), false), idempotency_key, details ->> 'fingerprint', details,
      NULL, false)::booking.claim_request) FILTER (WHERE outcome IS NULL), '{}'),
    coalesce(array_agg(ROW(operation_id, outcome,
      CASE outcome
        WHEN 'slot_not_bookable' THEN jsonb_build_object('reason', (verdict).reason)
        WHEN 'validation_failed' THEN coalesce(
          nullif(details -> 'guest_fault', 'null'), booking.too_long_a_slot(service, slot_start, slot_ends),
          booking.too_many_for_a_resource(((verdict).pool).largest))
      END)::booking.outcome) FILTER (WHERE outcome IS NOT NULL), '{}'),
    bool_or(outcome IS NULL AND num_nonnulls(details ->> 'max_live_holds', details ->> 'max_daily_bookings') > 0),
    p_verb = 'book' AND bool_or(outcome IS NULL AND is_public AND (service).max_upcoming_per_guest IS NOT NULL)
  INTO open, refusals, has_limits, has_guest_limits
  FROM request_with_outcome;
END
$$;

-- Splits the requests that a round left undecided.
--
-- Parameters
--   p_outcomes  of the requests, in the same order, as booking.decide returns them
-- Returns
--   open         the requests for a later round
--   refused_ids  the operations whose equal request was refused
--   known_ids    the operations whose attempt was granted: they are replays, or different requests with its key
-- A different request with the key of a refused request stays open, because a refusal does not use up a key.
CREATE FUNCTION booking.undecided(
  p_open booking.claim_request[], p_outcomes text[],
  OUT open booking.claim_request[], OUT refused_ids uuid[], OUT known_ids uuid[])
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  WITH request AS MATERIALIZED (
    SELECT r.business_id, r.attempt, r.operation_id, r.fingerprint, r.ordinality, p_outcomes[r.ordinality] AS outcome
    FROM unnest(p_open) WITH ORDINALITY AS r
  ), undecided_request AS (
    SELECT l.ordinality, l.operation_id, CASE
        WHEN decided_request.outcome = 'granted' THEN 'known'
        WHEN l.fingerprint = decided_request.fingerprint THEN 'refused'
      END AS verdict
    FROM request AS l
    LEFT JOIN request AS decided_request
      ON decided_request.business_id = l.business_id AND decided_request.attempt = l.attempt
      AND decided_request.outcome IS NOT NULL
    WHERE l.outcome IS NULL
  )
  SELECT coalesce(array_agg(p_open[ordinality] ORDER BY ordinality) FILTER (WHERE verdict IS NULL), '{}'),
         array_agg(operation_id) FILTER (WHERE verdict = 'refused'),
         array_agg(operation_id) FILTER (WHERE verdict = 'known')
  INTO open, refused_ids, known_ids
  FROM undecided_request;
END
$$;

-- Inserts the granted holds and returns their outcomes. The arrays are those of booking.decide.
CREATE FUNCTION booking.hold_granted(
  p_open booking.claim_request[], p_outcomes text[], p_resource_ids text[], p_in_session boolean[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN QUERY
  INSERT INTO booking.reservations AS r (
    business_id, reservation_id, service_id, resource_id, resource_named, in_session, slot_start, slot_end, occupied,
    quantity, status, expires_at, ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at,
    client_address_hmac, client_id_hmac)
  SELECT q.business_id, q.operation_id, q.service_id, p_resource_ids[q.ordinality],
         q.requested_resource_id IS NOT NULL, p_in_session[q.ordinality],
         q.slot_start, q.slot_end, tstzrange(q.starts, q.ends), q.quantity, 'held',
         q.expires_at, q.ttl_clamped, 1, q.idempotency_key, q.fingerprint, q.operation_id, p_now,
         q.details ->> 'client_address_hmac', q.details ->> 'client_id_hmac'
  FROM unnest(p_open) WITH ORDINALITY AS q
  WHERE p_outcomes[q.ordinality] = 'granted'
  RETURNING r.reservation_id, 'done', booking.reservation_body(r, p_now);
END
$$;

-- Inserts the granted appointments with their audit rows, and returns their outcomes. Parameters as in
-- booking.hold_granted.
CREATE FUNCTION booking.book_granted(
  p_open booking.claim_request[], p_outcomes text[], p_resource_ids text[], p_in_session boolean[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN QUERY
  WITH granted_request AS MATERIALIZED (
    SELECT q.*, p_resource_ids[q.ordinality] AS resource_id, p_in_session[q.ordinality] AS in_session
    FROM unnest(p_open) WITH ORDINALITY AS q WHERE p_outcomes[q.ordinality] = 'granted'
  ), new_appointment AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, service_id, resource_id, is_exclusive, slot_start, slot_end, occupied, quantity,
      status, version, guest_name, guest_email, guest_phone, notes, metadata, source, idempotency_key, fingerprint,
      created_at, updated_at)
    SELECT business_id, operation_id, service_id, resource_id, NOT in_session, slot_start, slot_end,
           tstzrange(starts, ends), quantity, 'confirmed', 1,
           details ->> 'guest_name', details ->> 'guest_email', details ->> 'guest_phone',
           details ->> 'notes', coalesce(details -> 'metadata', '{}'), details ->> 'source', idempotency_key,
           fingerprint, p_now, p_now
    FROM granted_request
    RETURNING a
  ), new_audit_row AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT business_id, operation_id, operation_id, 1, 'created', details ->> 'actor_kind', details ->> 'actor_id',
           booking.audit_changes(NULL, new_appointment.a), details ->> 'request_id', p_now
    FROM new_appointment JOIN granted_request ON granted_request.operation_id = (new_appointment.a).appointment_id
  )
  SELECT (a).appointment_id, 'done', booking.appointment_body(a, s) || CASE
      WHEN (a).appointment_id = ANY (ARRAY(SELECT operation_id FROM granted_request WHERE details @> '{"manual": true}'))
      THEN booking.warnings(NULL, a, p_now) ELSE '{}' END
  FROM new_appointment CROSS JOIN LATERAL booking.service_by_id((a).business_id, (a).service_id) AS s;
  PERFORM booking.count_bookings(
    array_agg(r.business_id), array_agg(r.quantity), array_agg(r.details ->> 'client_address_hmac'),
    array_agg(r.details ->> 'client_id_hmac'), p_now)
  FROM unnest(p_open) WITH ORDINALITY AS r
  WHERE p_outcomes[r.ordinality] = 'granted'
  HAVING count(r.details ->> 'client_address_hmac') > 0;
END
$$;
