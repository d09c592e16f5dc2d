-- Holds slots of one business: the verb behind POST /api/booking/reserve.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, service_id, slot_start, slot_end?, ttl_minutes?, quantity, resource_id?,
--                  idempotency_key?, fingerprint?, client_address_hmac?, client_id_hmac?, max_live_holds?}], in
--                  the order in which they came. operation_id (a uuid) becomes the id of the reservation. With an
--                  idempotency_key comes a fingerprint, that of the whole request: without one no other request is
--                  equal to it, and none is a replay. max_live_holds is how many holds the client may have, and
--                  without it they are not counted
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                    the new reservation, or the one that this very operation made before
--   replayed                the reservation that an earlier request with this key made
--   idempotency_key_reused  the key belongs to a different request
--   too_many_holds          the client has max_live_holds in this business
--   and those of booking.claim_slots: its refusals, and deferred, which is to be sent again
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry with the same operation_id has one effect. A refusal leaves nothing behind.
CREATE OR REPLACE FUNCTION booking.reserve(p_business_id text, p_requests jsonb, p_deadline timestamptz)
RETURNS SETOF booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_outcome booking.outcome;
BEGIN
  IF jsonb_array_length(p_requests) = 1 THEN
    v_outcome := booking.reserve_one(p_business_id, p_requests -> 0, v_now);
    IF v_outcome.outcome IS NOT NULL THEN
      RETURN NEXT v_outcome;
      RETURN;
    END IF;
  END IF;
  RETURN QUERY SELECT * FROM booking.claim_slots(p_business_id, 'reservation', p_requests, v_now);
END
$$;

-- Of requests to reserve, the outcomes of those whose attempt is known: its own operation's, or its key's.
CREATE OR REPLACE FUNCTION booking.known_reservations(
  p_business_id text, p_requests booking.slot_request[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE sql STABLE
AS $$
  SELECT ARRAY(
    SELECT ROW(request.operation_id,
      CASE
        WHEN (own.own_row).reservation_id IS NOT NULL THEN 'done'
        WHEN (earlier.earlier_row).fingerprint = request.fingerprint THEN 'replayed'
        ELSE 'idempotency_key_reused'
      END,
      CASE WHEN (own.own_row).reservation_id IS NOT NULL OR (earlier.earlier_row).fingerprint = request.fingerprint
        THEN booking.reservation_body(coalesce(own.own_row, earlier.earlier_row), p_now) END)::booking.outcome
    FROM unnest(p_requests) AS request
    LEFT JOIN LATERAL (
      SELECT own_row FROM booking.reservations AS own_row
      WHERE own_row.business_id = p_business_id AND own_row.reservation_id = request.operation_id
      OFFSET 0
    ) AS own ON true
    LEFT JOIN LATERAL (
      SELECT earlier_row FROM booking.reservation_by_key(p_business_id, request.idempotency_key) AS earlier_row
    ) AS earlier ON true
    WHERE coalesce((own.own_row).reservation_id, (earlier.earlier_row).reservation_id) IS NOT NULL)
$$;

-- Makes the holds that were granted, and returns them as outcomes.
CREATE OR REPLACE FUNCTION booking.hold_granted(
  p_business_id text, p_open booking.slot_request[], p_granted booking.grant[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_made booking.outcome[];
BEGIN
  WITH made AS (
    INSERT INTO booking.reservations AS r (
      business_id, reservation_id, service_id, resource_id, resource_named, slot_start, slot_end, occupied, quantity, status, expires_at,
      ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at, client_address_hmac,
      client_id_hmac)
    SELECT p_business_id, open.operation_id, open.service_id, granted.resource_id,
           open.details ->> 'resource_id' IS NOT NULL, open.slot_start, open.slot_end,
           open.occupied, open.quantity, 'held',
           p_now + booking.hold_ttl(s.hold_ttl_minutes, s.max_hold_ttl_minutes, asked.ttl_minutes),
           coalesce(asked.ttl_minutes > s.max_hold_ttl_minutes, false), 1, open.idempotency_key, open.fingerprint,
           open.operation_id, p_now, open.details ->> 'client_address_hmac', open.details ->> 'client_id_hmac'
    FROM unnest(p_open) AS open
    JOIN unnest(p_granted) AS granted USING (position)
    CROSS JOIN LATERAL (SELECT (open.details ->> 'ttl_minutes')::numeric AS ttl_minutes) AS asked
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = open.service_id OFFSET 0
    ) AS s
    RETURNING r
  )
  SELECT array_agg(ROW((r).reservation_id, 'done', booking.reservation_body(r, p_now))::booking.outcome)
  INTO v_made FROM made;
  RETURN v_made;
END
$$;
