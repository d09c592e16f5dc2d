-- Holds slots of one business: the verb behind POST /api/booking/reserve.
--
-- Under the lock of the business, known attempts are answered from their rows, what can't be booked is
-- refused, and the rest is decided round by round (booking.next_round, booking.choose). Each round is a
-- fixed number of statements, however many requests there are.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, service_id, slot_start, slot_end?, ttl_minutes?, quantity,
--                  idempotency_key?, fingerprint?}], in the order in which they came. operation_id (a
--                  uuid) becomes the id of the reservation; fingerprint is that of the whole request
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                    the new reservation, or the one that this very operation made before
--   replayed                the reservation that an earlier request with this key made
--   idempotency_key_reused  the key belongs to a different request
--   service_not_found       no such business or service, or it is archived
--   slot_not_bookable       body: {reason}, see booking.slot_refusal
--   slot_unavailable        no room
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry with the same operation_id has one effect. A refusal leaves nothing behind.
CREATE OR REPLACE FUNCTION booking.reserve(p_business_id text, p_requests jsonb, p_deadline timestamptz)
RETURNS SETOF booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_open booking.reserve_request[];
  v_answers booking.outcome[];
BEGIN
  IF jsonb_array_length(p_requests) = 1 THEN
    RETURN NEXT booking.reserve_one(p_business_id, p_requests -> 0, v_now);
    RETURN;
  END IF;

  SELECT s.still_open, s.answers INTO v_open, v_answers
  FROM booking.sort_reserve_requests(p_business_id, p_requests, v_now) AS s;
  RETURN QUERY SELECT * FROM unnest(v_answers);

  WHILE cardinality(v_open) > 0 LOOP
    v_answers := booking.reserve_round(p_business_id, v_open, v_now);
    RETURN QUERY SELECT * FROM unnest(v_answers);
    EXIT WHEN cardinality(v_answers) = cardinality(v_open);
    v_open := ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_answers)));
  END LOOP;
END
$$;

-- Reads the requests and answers those that need no decision about room: known attempts, and slots that
-- can't be booked. A known attempt precedes every other rule.
CREATE OR REPLACE FUNCTION booking.sort_reserve_requests(
  p_business_id text, p_requests jsonb, p_now timestamptz,
  OUT still_open booking.reserve_request[], OUT answers booking.outcome[])
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  WITH request AS (
    SELECT * FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (
      operation_id uuid, service_id text, slot_start timestamptz, slot_end timestamptz, ttl_minutes numeric,
      quantity integer, idempotency_key text, fingerprint text)) WITH ORDINALITY AS r (
      operation_id, service_id, slot_start, slot_end, ttl_minutes, quantity, idempotency_key, fingerprint, position)
  ), found AS (
    SELECT request.*, service, coalesce(own.own_row, earlier.earlier_row) AS known,
           coalesce('key ' || request.idempotency_key, request.operation_id::text) AS attempt,
           coalesce(request.slot_end, request.slot_start + make_interval(mins => (service).duration_minutes)) AS ends
    FROM request
    LEFT JOIN LATERAL (
      SELECT s AS service FROM booking.services s
      WHERE s.business_id = p_business_id AND s.service_id = request.service_id AND s.archived_at IS NULL
      OFFSET 0
    ) AS offered ON true
    LEFT JOIN LATERAL (
      SELECT own_row FROM booking.reservations AS own_row
      WHERE own_row.business_id = p_business_id AND own_row.reservation_id = request.operation_id
      OFFSET 0
    ) AS own ON true
    LEFT JOIN LATERAL (
      SELECT earlier_row FROM booking.reservation_by_key(p_business_id, request.idempotency_key) AS earlier_row
    ) AS earlier ON true
  ), judged AS (
    SELECT found.*, booking.slot_refusal(service, slot_start, ends, p_now) AS refusal,
      CASE
        WHEN (known).reservation_id = operation_id THEN 'done'
        WHEN (known).fingerprint = found.fingerprint THEN 'replayed'
        WHEN (known).reservation_id IS NOT NULL THEN 'idempotency_key_reused'
        WHEN (service).service_id IS NULL THEN 'service_not_found'
        WHEN booking.slot_refusal(service, slot_start, ends, p_now) IS NOT NULL THEN 'slot_not_bookable'
      END AS outcome
    FROM found
  )
  SELECT
    array_agg(ROW(position, operation_id, attempt, leads, service_id, slot_start, ends,
      booking.occupied_by(service, slot_start, ends), ttl_minutes, quantity, idempotency_key,
      fingerprint)::booking.reserve_request) FILTER (WHERE outcome IS NULL),
    array_agg(ROW(operation_id, outcome,
      CASE
        WHEN outcome IN ('done', 'replayed') THEN booking.reservation_body(known, p_now)
        WHEN outcome = 'slot_not_bookable' THEN jsonb_build_object('reason', refusal)
      END)::booking.outcome) FILTER (WHERE outcome IS NOT NULL)
  INTO still_open, answers
  FROM (
    SELECT judged.*, row_number() OVER (PARTITION BY attempt, fingerprint ORDER BY position) = 1 AS leads
    FROM judged
  ) AS ranked;
END
$$;

-- Decides one round of requests and makes the holds that it grants. Returns the outcomes of the requests
-- that this decides; the others have to wait for a later round, and see what this one granted.
--
-- Of equal requests with one idempotency key only the first wishes for room, and so forty copies of one
-- request are one decision. If it is granted, a different request with the same key is refused; if not,
-- that request has its own turn, because a refusal keeps no key.
CREATE OR REPLACE FUNCTION booking.reserve_round(p_business_id text, p_open booking.reserve_request[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_round booking.wish[];
  v_chosen integer[];
  v_answers booking.outcome[];
BEGIN
  v_round := booking.next_round(ARRAY(
    SELECT ROW(position, attempt, service_id, occupied, quantity)::booking.wish FROM unnest(p_open) WHERE leads));
  v_chosen := ARRAY(SELECT booking.choose(p_business_id, v_round, p_now));
  PERFORM booking.note_longest(p_business_id, ARRAY(
    SELECT wish FROM unnest(v_round) AS wish WHERE (wish).position = ANY (v_chosen)));

  WITH open AS MATERIALIZED (
    SELECT * FROM unnest(p_open)
  ), granted AS (
    INSERT INTO booking.reservations AS r (
      business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
      ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at)
    SELECT p_business_id, open.operation_id, open.service_id, open.slot_start, open.slot_end, open.occupied,
           open.quantity, 'held', p_now + booking.hold_ttl(s.hold_ttl_minutes, s.max_hold_ttl_minutes, open.ttl_minutes),
           coalesce(open.ttl_minutes > s.max_hold_ttl_minutes, false), 1, open.idempotency_key, open.fingerprint,
           open.operation_id, p_now
    FROM open
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = open.service_id OFFSET 0
    ) AS s
    WHERE open.position = ANY (v_chosen)
    RETURNING r
  ), decided AS (
    SELECT open.operation_id, open.operation_id = leader.operation_id AS leads,
           open.fingerprint IS NOT DISTINCT FROM leader.fingerprint AS equal, granted.r AS hold
    FROM unnest(v_round) AS wish
    JOIN open AS leader USING (position)
    JOIN open ON open.attempt = leader.attempt
    LEFT JOIN granted ON (granted.r).reservation_id = leader.operation_id
    WHERE (granted.r).reservation_id IS NOT NULL OR open.fingerprint IS NOT DISTINCT FROM leader.fingerprint
  )
  SELECT array_agg(ROW(operation_id,
    CASE
      WHEN (hold).reservation_id IS NULL THEN 'slot_unavailable'
      WHEN leads THEN 'done'
      WHEN equal THEN 'replayed'
      ELSE 'idempotency_key_reused'
    END,
    CASE WHEN (hold).reservation_id IS NOT NULL AND equal THEN booking.reservation_body(hold, p_now) END)::booking.outcome)
  INTO v_answers
  FROM decided;
  RETURN v_answers;
END
$$;
