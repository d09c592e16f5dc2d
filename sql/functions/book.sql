-- Books slots of one business at once, without a hold: the verb behind manual creation and one-call booking.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, service_id, slot_start, slot_end?, quantity, resource_id?, idempotency_key?,
--                  fingerprint?, manual?, guest_name?, guest_email?, guest_phone?, guest_fault?, notes?, metadata?,
--                  source, actor_kind, actor_id?, request_id?}], in the order in which they came. operation_id
--                  (a uuid) becomes the id of the appointment and of its audit row. With an idempotency_key comes a
--                  fingerprint, as in booking.reserve. guest_fault is what is wrong with the guest's data, {field,
--                  message}: it is answered with what is no replay. manual: somebody acts for the business, and
--                  opening hours, notice, the past and bookingEnabled don't bind
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                    the new appointment, or the one that this very operation made before
--   replayed                the appointment that an earlier request with this key made, as it is now
--   idempotency_key_reused  the key belongs to a different request
--   and those of booking.claim_slots: its refusals, and deferred, which is to be sent again
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry with the same operation_id has one effect. A refusal leaves nothing behind.
CREATE OR REPLACE FUNCTION booking.book(p_business_id text, p_requests jsonb, p_deadline timestamptz)
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
BEGIN
  RETURN QUERY SELECT * FROM booking.claim_slots(p_business_id, 'appointment', p_requests, v_now);
END
$$;

-- Of requests to book, the outcomes of those whose attempt is known: its own operation's, or its key's.
CREATE OR REPLACE FUNCTION booking.known_appointments(p_business_id text, p_requests booking.slot_request[])
RETURNS booking.outcome[]
LANGUAGE sql STABLE
AS $$
  SELECT ARRAY(
    SELECT ROW(request.operation_id,
      CASE
        WHEN (own.own_row).appointment_id IS NOT NULL THEN 'done'
        WHEN (earlier.earlier_row).fingerprint = request.fingerprint THEN 'replayed'
        ELSE 'idempotency_key_reused'
      END,
      CASE WHEN (own.own_row).appointment_id IS NOT NULL OR (earlier.earlier_row).fingerprint = request.fingerprint
        THEN booking.appointment_body(coalesce(own.own_row, earlier.earlier_row)) END)::booking.outcome
    FROM unnest(p_requests) AS request
    LEFT JOIN LATERAL (
      SELECT own_row FROM booking.appointment_by_id(p_business_id, request.operation_id) AS own_row
    ) AS own ON true
    LEFT JOIN LATERAL (
      SELECT earlier_row FROM booking.appointment_by_key(p_business_id, request.idempotency_key) AS earlier_row
    ) AS earlier ON true
    WHERE coalesce((own.own_row).appointment_id, (earlier.earlier_row).appointment_id) IS NOT NULL)
$$;

-- Makes the appointments that were granted, with their audit rows, and returns them as outcomes.
CREATE OR REPLACE FUNCTION booking.book_granted(
  p_business_id text, p_open booking.slot_request[], p_granted booking.grant[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_made booking.outcome[];
BEGIN
  WITH winner AS MATERIALIZED (
    SELECT open.*, granted.resource_id
    FROM unnest(p_open) AS open JOIN unnest(p_granted) AS granted USING (position)
  ), booked AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, service_id, resource_id, slot_start, slot_end, occupied, quantity, status, version,
      guest_name, guest_email, guest_phone, notes, metadata, source, idempotency_key, fingerprint, created_at,
      updated_at)
    SELECT p_business_id, operation_id, service_id, resource_id, slot_start, slot_end, occupied, quantity, 'confirmed', 1,
           details ->> 'guest_name', details ->> 'guest_email', details ->> 'guest_phone', details ->> 'notes',
           coalesce(details -> 'metadata', '{}'), details ->> 'source', idempotency_key, fingerprint, p_now, p_now
    FROM winner
    RETURNING a
  ), audited AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT p_business_id, operation_id, operation_id, 1, 'created', details ->> 'actor_kind', details ->> 'actor_id',
           booking.audit_changes(NULL, booked.a), details ->> 'request_id', p_now
    FROM booked JOIN winner ON winner.operation_id = (booked.a).appointment_id
  )
  SELECT array_agg(ROW((a).appointment_id, 'done', booking.appointment_body(a))::booking.outcome)
  INTO v_made FROM booked;
  RETURN v_made;
END
$$;
