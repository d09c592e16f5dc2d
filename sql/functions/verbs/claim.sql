-- Claims slots: the verb behind POST /api/booking/reserve, which holds them, and behind manual creation and one-call
-- booking, which books them at once.
--
--   p_verb          'reserve' or 'book'
--   p_business_ids, p_batches  as in booking.execute. The requests of a verb are, in the order in which they came,
--                   [{operation_id, service_id, slot_start, slot_end?, quantity, resource_id?, idempotency_key?,
--                   fingerprint?}]. operation_id (a uuid) becomes the id of the reservation, or of the appointment and
--                   its audit row. With an idempotency_key comes a fingerprint, that of the whole request: without one
--                   no request is equal to it. To reserve has also
--                     ttl_minutes?  fractions allowed
--                     client_address_hmac?, client_id_hmac?, max_live_holds?  without the last, holds are not counted
--                   and to book has
--                     guest_name?, guest_email?, guest_phone?, notes?, metadata?, source, actor_kind, actor_id?,
--                     request_id? guest_fault?  what is wrong with the guest's data, {field, message}: answered unless
--                     it is a replay manual?  somebody acts for the business: hours, notice, the past and
--                     bookingEnabled don't bind
--   p_now           the clock, read after the locks
--   p_is_alone      whether nothing else is asked in the call
--
-- Returns one booking.outcome for each request, in any order:
--   done                    the new reservation or appointment, or the one that this very operation made before
--   replayed                the one that an earlier request with this key made, as it is now
--   idempotency_key_reused  the key belongs to a different request
--   service_not_found       no such business or service, or it is archived
--   resource_not_found      the service has no such resource
--   validation_failed       guest_fault, or no resource seats so many; body: {field, message}
--   slot_not_bookable       body: {reason}, see booking.slot_refusal
--   too_many_holds          the client has max_live_holds in this business
--   slot_unavailable        no room, or no resource is free
--   deferred                it needs more rounds than booking.max_rounds: not tried
-- Locks  none of its own: the caller has the locks of the businesses
-- A retry with the same operation_id has one effect. A refusal leaves nothing behind.
CREATE FUNCTION booking.claim(
  p_verb text, p_business_ids text[], p_batches jsonb[], p_now timestamptz, p_is_alone boolean)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_answers booking.outcome[] := booking.known_claims(p_verb, p_business_ids, p_batches, p_now);
  v_known uuid[] := '{}';
  v_open booking.claim_request[];
  v_has_limits boolean;
  v_decided record;
  v_rest record;
  v_has_granted boolean := false;
BEGIN
  IF v_answers <> '{}' THEN
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_known := ARRAY(SELECT operation_id FROM unnest(v_answers));
  END IF;
  SELECT judged.* INTO v_open, v_answers, v_has_limits
  FROM booking.judge(p_verb, p_business_ids, p_batches, v_known, p_now) AS judged;
  IF v_answers <> '{}' THEN
    RETURN QUERY SELECT * FROM unnest(v_answers);
  END IF;
  IF v_has_limits THEN
    v_answers := booking.hoarders(v_open, p_now);
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_open := ARRAY(
      SELECT r FROM unnest(v_open) AS r WHERE r.operation_id NOT IN (SELECT operation_id FROM unnest(v_answers)));
  END IF;

  FOR v_round IN 1 .. booking.max_rounds() LOOP
    EXIT WHEN cardinality(v_open) = 0;
    v_decided := booking.decide(v_open, p_now);
    v_has_granted := v_has_granted OR 'granted' = ANY (v_decided.outcomes);
    IF 'granted' = ANY (v_decided.outcomes) AND p_verb = 'reserve' THEN
      RETURN QUERY SELECT * FROM booking.hold_granted(
        v_open, v_decided.outcomes, v_decided.resource_ids, v_decided.in_session, p_now);
    ELSIF 'granted' = ANY (v_decided.outcomes) THEN
      RETURN QUERY SELECT * FROM booking.book_granted(
        v_open, v_decided.outcomes, v_decided.resource_ids, v_decided.in_session, p_now);
    END IF;
    IF 'slot_unavailable' = ANY (v_decided.outcomes) THEN
      RETURN QUERY SELECT r.operation_id, 'slot_unavailable', NULL::jsonb
        FROM unnest(v_open) WITH ORDINALITY AS r WHERE v_decided.outcomes[r.ordinality] = 'slot_unavailable';
    END IF;
    IF array_position(v_decided.outcomes, NULL) IS NULL THEN
      v_open := '{}';
      EXIT;
    END IF;
    v_rest := booking.undecided(v_open, v_decided.outcomes);
    v_open := v_rest.open;
    RETURN QUERY SELECT id, 'slot_unavailable', NULL::jsonb FROM unnest(v_rest.refused) AS id;
    IF v_rest.known IS NOT NULL THEN
      RETURN QUERY SELECT * FROM unnest(booking.known_claims(p_verb, p_business_ids, p_batches, p_now))
        WHERE operation_id = ANY (v_rest.known);
    END IF;
  END LOOP;
  IF v_open <> '{}' THEN
    RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
  END IF;
  -- A refusal leaves nothing behind that a crash could undo, and does not wait for the disk.
  IF p_is_alone AND NOT v_has_granted THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
END
$$;

-- The outcomes of the requests whose attempt is known: its own operation's, or its key's.
CREATE FUNCTION booking.known_claims(p_verb text, p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_known booking.known_claim[];
BEGIN
  -- A range of an index in its order, so that no other is chosen: see lookups.sql.
  IF p_verb = 'reserve' THEN
    v_known := ARRAY(
      SELECT ROW(request, own.body, earlier.fingerprint, earlier.body)::booking.known_claim
      FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
      CROSS JOIN jsonb_array_elements(b.batch -> p_verb) AS request
      LEFT JOIN LATERAL (
        SELECT booking.reservation_body(r, p_now) AS body FROM booking.reservations r
        WHERE r.reservation_id = (request ->> 'operation_id')::uuid AND r.business_id = b.business_id OFFSET 0
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
        SELECT booking.appointment_body(a) AS body
        FROM booking.appointment_by_id(b.business_id, (request ->> 'operation_id')::uuid) AS a OFFSET 0
      ) AS own ON true
      LEFT JOIN LATERAL (
        SELECT a.fingerprint, booking.appointment_body(a) AS body FROM booking.appointments a
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

-- Reads requests to claim and refuses what can't be booked, whatever room there is. Opening hours, notice, the past and
-- bookingEnabled bind all but those who act for the business (manual).
--   p_known  the operations that are answered already
-- Returns
--   open        the requests that are to be decided
--   answers     the refusals
--   has_limits  whether one of the first limits the holds of its client
CREATE FUNCTION booking.judge(
  p_verb text, p_business_ids text[], p_batches jsonb[], p_known uuid[], p_now timestamptz,
  OUT open booking.claim_request[], OUT answers booking.outcome[], OUT has_limits boolean)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  WITH asked AS (
    SELECT b.business_id, request AS details, (request ->> 'operation_id')::uuid AS operation_id,
           request ->> 'service_id' AS service_id, (request ->> 'slot_start')::timestamptz AS slot_start,
           (request ->> 'slot_end')::timestamptz AS slot_end, (request ->> 'quantity')::integer AS quantity,
           request ->> 'resource_id' AS resource_id, request ->> 'idempotency_key' AS idempotency_key,
           (request ->> 'ttl_minutes')::numeric AS ttl_minutes,
           (request ->> 'manual')::boolean IS NOT TRUE AS is_public,
           -- In the order in which they came; a call has no more than a thousand.
           b.place * 1000 + listed.place AS position
    FROM unnest(p_business_ids, p_batches) WITH ORDINALITY AS b (business_id, batch, place)
    CROSS JOIN jsonb_array_elements(b.batch -> p_verb) WITH ORDINALITY AS listed (request, place)
  ), numbered AS (
    -- Many ask for the same slot: it is judged once, for the first of them.
    SELECT asked.*, row_number() OVER question AS nth
    FROM asked
    WHERE asked.operation_id <> ALL (p_known)
    WINDOW question AS (
      PARTITION BY asked.business_id, asked.service_id, asked.slot_start, asked.slot_end, asked.resource_id,
        asked.is_public ORDER BY asked.position)
  ), offered AS (
    SELECT n.*, s.*
    FROM numbered AS n
    LEFT JOIN LATERAL (
      SELECT slot.ends AS slot_ends, s.hold_ttl_minutes, s.max_hold_ttl_minutes,
             n.slot_start - make_interval(mins => s.buffer_before_minutes) AS starts,
             slot.ends + make_interval(mins => s.buffer_after_minutes) AS ends,
             CASE WHEN n.nth = 1 AND n.is_public THEN booking.slot_refusal(s, n.slot_start, slot.ends, p_now) END AS refusal
      FROM booking.services s
      CROSS JOIN LATERAL (
        SELECT coalesce(n.slot_end, n.slot_start + make_interval(mins => s.duration_minutes)) AS ends
      ) AS slot
      WHERE s.business_id = n.business_id AND s.service_id = n.service_id AND s.archived_at IS NULL OFFSET 0
    ) AS s ON true
  ), found AS (
    SELECT o.*,
      CASE WHEN nth = 1 AND is_public AND refusal IS NULL AND (
        -- In the order of its index, so that no other is chosen: see sql/README.md.
        (SELECT true FROM booking.opening_hours h
         WHERE h.business_id = o.business_id AND coalesce(h.resource_id, '') = '' ORDER BY h.weekday LIMIT 1)
        OR (SELECT true FROM booking.closures_during(o.business_id, '', tstzrange(slot_start, slot_ends)) LIMIT 1))
      THEN CASE WHEN booking.open_during(o.business_id, '{""}', tstzrange(slot_start, slot_ends)) = '{}' THEN 'closed' END
      ELSE refusal END AS reason,
      CASE WHEN nth = 1 AND (
        SELECT true FROM booking.service_resources m
        WHERE m.business_id = o.business_id AND m.service_id BETWEEN o.service_id AND o.service_id
        ORDER BY m.service_id LIMIT 1)
      THEN booking.find_pool(o.business_id, o.service_id, o.resource_id,
        CASE WHEN is_public AND refusal IS NULL THEN tstzrange(slot_start, slot_ends) END) END AS pool
    FROM offered AS o OFFSET 0
  ), judged AS (
    SELECT f.*, first_value(CASE WHEN f.reason IS NOT NULL OR (f.pool).has_resources THEN
             ROW(coalesce(f.reason, (f.pool).refusal), f.pool)::booking.verdict END) OVER (
             PARTITION BY f.business_id, f.service_id, f.slot_start, f.slot_end, f.resource_id, f.is_public
             ORDER BY f.position) AS v
    FROM found AS f OFFSET 0
  ), answered AS (
    SELECT j.*,
      CASE
        WHEN details -> 'guest_fault' <> 'null' THEN 'validation_failed'
        WHEN slot_ends IS NULL THEN 'service_not_found'
        WHEN resource_id IS NOT NULL AND ((v).pool).largest IS NULL THEN 'resource_not_found'
        WHEN quantity > ((v).pool).largest THEN 'validation_failed'
        WHEN (v).reason IS NOT NULL THEN 'slot_not_bookable'
      END AS outcome
    FROM judged AS j
  )
  SELECT
    coalesce(array_agg(ROW(position, business_id, operation_id, coalesce('key ' || idempotency_key, operation_id::text),
      service_id, slot_start, slot_ends, starts, ends, quantity, ((v).pool).resource_ids, resource_id,
      CASE WHEN p_verb = 'reserve' THEN
        p_now + booking.hold_ttl(hold_ttl_minutes, max_hold_ttl_minutes, ttl_minutes) END,
      coalesce(ttl_minutes > max_hold_ttl_minutes, false), idempotency_key, details ->> 'fingerprint', details,
      NULL, false)::booking.claim_request) FILTER (WHERE outcome IS NULL), '{}'),
    coalesce(array_agg(ROW(operation_id, outcome,
      CASE outcome
        WHEN 'slot_not_bookable' THEN jsonb_build_object('reason', (v).reason)
        WHEN 'validation_failed' THEN coalesce(
          nullif(details -> 'guest_fault', 'null'), booking.too_many_for_a_resource(((v).pool).largest))
      END)::booking.outcome) FILTER (WHERE outcome IS NOT NULL), '{}'),
    bool_or(outcome IS NULL AND details ->> 'max_live_holds' IS NOT NULL)
  INTO open, answers, has_limits
  FROM answered;
END
$$;

-- Why the public may not book a slot of a service, whatever room there is: NULL, or one of 'not_online', 'past',
-- 'too_soon', 'too_far_ahead', 'too_long'. A slot that starts at this very instant is not past.
CREATE FUNCTION booking.slot_refusal(
  p_service booking.services, p_slot_start timestamptz, p_slot_end timestamptz, p_now timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN NOT p_service.booking_enabled THEN 'not_online'
    WHEN p_slot_start < p_now THEN 'past'
    WHEN p_slot_start < p_now + make_interval(mins => p_service.min_notice_minutes) THEN 'too_soon'
    -- Hours, not days: a day of an interval is 23 or 25 hours long where a DST change is.
    WHEN p_slot_start > p_now + make_interval(hours => 24 * p_service.max_advance_days) THEN 'too_far_ahead'
    WHEN p_slot_end > p_slot_start + make_interval(mins => p_service.max_duration_minutes) THEN 'too_long'
  END
$$;

-- What is wrong with a quantity that no resource seats.
CREATE FUNCTION booking.too_many_for_a_resource(p_largest integer)
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT jsonb_build_object('field', 'quantity', 'message', format(
    'must be at most %s: no resource of this service has room for more', p_largest))
$$;

-- How long a hold lives: what was asked for, else the service's default; never above its maximum, and never so short
-- that it is over before it is answered for.
--   p_ttl_minutes  what was asked for, fractions allowed; NULL for the default
CREATE FUNCTION booking.hold_ttl(p_default_minutes integer, p_max_minutes integer, p_ttl_minutes numeric)
RETURNS interval LANGUAGE sql IMMUTABLE
AS $$
  SELECT greatest(interval '1 millisecond', make_interval(secs =>
    (60 * least(coalesce(p_ttl_minutes, p_default_minutes), p_max_minutes))::double precision))
$$;

-- Of the requests of a round, those that it left open; and of these, those whose attempt it has decided.
--   p_outcomes  of the requests, beside them, as booking.decide has them
-- Returns
--   open     the requests that wait for a later round
--   refused  the operations whose equal request was refused
--   known    the operations whose attempt was granted: they are replays, or another request with its key
-- A different request with the key of one that was refused stays open: a refusal keeps no key.
CREATE FUNCTION booking.undecided(
  p_open booking.claim_request[], p_outcomes text[],
  OUT open booking.claim_request[], OUT refused uuid[], OUT known uuid[])
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  WITH listed AS MATERIALIZED (
    SELECT r.business_id, r.attempt, r.operation_id, r.fingerprint, r.ordinality, p_outcomes[r.ordinality] AS outcome
    FROM unnest(p_open) WITH ORDINALITY AS r
  ), rest AS (
    SELECT l.ordinality, l.operation_id, CASE
        WHEN first.outcome = 'granted' THEN 'known'
        WHEN l.fingerprint = first.fingerprint THEN 'refused'
      END AS answer
    FROM listed AS l
    LEFT JOIN listed AS first
      ON first.business_id = l.business_id AND first.attempt = l.attempt AND first.outcome IS NOT NULL
    WHERE l.outcome IS NULL
  )
  SELECT coalesce(array_agg(p_open[ordinality] ORDER BY ordinality) FILTER (WHERE answer IS NULL), '{}'),
         array_agg(operation_id) FILTER (WHERE answer = 'refused'),
         array_agg(operation_id) FILTER (WHERE answer = 'known')
  INTO open, refused, known
  FROM rest;
END
$$;

-- Makes the holds that were granted, and returns their outcomes. The arrays are those of booking.decide.
CREATE FUNCTION booking.hold_granted(
  p_open booking.claim_request[], p_outcomes text[], p_resource_ids text[], p_in_session boolean[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN QUERY
  WITH held AS (
    INSERT INTO booking.reservations AS r (
      business_id, reservation_id, service_id, resource_id, resource_named, in_session, slot_start, slot_end, occupied,
      quantity, status, expires_at, ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at,
      client_address_hmac, client_id_hmac)
    SELECT q.business_id, q.operation_id, q.service_id, p_resource_ids[q.ordinality], q.requested_resource_id IS NOT NULL,
           p_in_session[q.ordinality], q.slot_start, q.slot_end, tstzrange(q.starts, q.ends), q.quantity, 'held',
           q.expires_at, q.ttl_clamped, 1, q.idempotency_key, q.fingerprint, q.operation_id, p_now,
           q.details ->> 'client_address_hmac', q.details ->> 'client_id_hmac'
    FROM unnest(p_open) WITH ORDINALITY AS q
    WHERE p_outcomes[q.ordinality] = 'granted'
    RETURNING r.reservation_id, booking.reservation_body(r, p_now) AS body
  )
  SELECT reservation_id, 'done', body FROM held;
END
$$;

-- Makes the appointments that were granted, with their audit rows, and returns their outcomes. Parameters as in
-- booking.hold_granted.
CREATE FUNCTION booking.book_granted(
  p_open booking.claim_request[], p_outcomes text[], p_resource_ids text[], p_in_session boolean[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN QUERY
  WITH granted AS MATERIALIZED (
    SELECT q.*, p_resource_ids[q.ordinality] AS resource_id, p_in_session[q.ordinality] AS in_session
    FROM unnest(p_open) WITH ORDINALITY AS q WHERE p_outcomes[q.ordinality] = 'granted'
  ), booked AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, service_id, resource_id, is_exclusive, slot_start, slot_end, occupied, quantity, status,
      version, guest_name, guest_email, guest_phone, notes, metadata, source, idempotency_key, fingerprint, created_at,
      updated_at)
    SELECT business_id, operation_id, service_id, resource_id, NOT in_session, slot_start, slot_end, tstzrange(starts, ends),
           quantity, 'confirmed', 1, details ->> 'guest_name', details ->> 'guest_email', details ->> 'guest_phone',
           details ->> 'notes', coalesce(details -> 'metadata', '{}'), details ->> 'source', idempotency_key, fingerprint,
           p_now, p_now
    FROM granted
    RETURNING a, booking.appointment_body(a) AS body
  ), audited AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT business_id, operation_id, operation_id, 1, 'created', details ->> 'actor_kind', details ->> 'actor_id',
           booking.audit_changes(NULL, booked.a), details ->> 'request_id', p_now
    FROM booked JOIN granted ON granted.operation_id = (booked.a).appointment_id
  )
  SELECT (a).appointment_id, 'done', body FROM booked;
END
$$;
