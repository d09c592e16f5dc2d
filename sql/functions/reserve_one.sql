-- Reserve with a single request in the batch, which is what an idle service and spread-out load send: the
-- same rules as booking.claim_slots (a test compares the two on random requests), without the machinery that orders
-- many. Worth its lines: window functions over one row cost more than they save.
--
-- Parameters and outcomes as in booking.reserve, for one request; p_now is NULL if there is no such business. Returns
-- NULL where the service has resources: finding a free one is left to booking.choose.
CREATE OR REPLACE FUNCTION booking.reserve_one(p_business_id text, p_request jsonb, p_now timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_operation_id uuid := p_request ->> 'operation_id';
  v_key text := p_request ->> 'idempotency_key';
  v_fingerprint text := p_request ->> 'fingerprint';
  v_slot_start timestamptz := p_request ->> 'slot_start';
  v_slot_end timestamptz := p_request ->> 'slot_end';
  v_ttl_minutes numeric := p_request ->> 'ttl_minutes';
  v_quantity integer := p_request ->> 'quantity';
  v_occupied tstzrange;
  v_refusal text;
  v_service booking.services;
  v_hold booking.reservations;
BEGIN
  SELECT * INTO v_hold FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.reservation_id = v_operation_id;
  IF FOUND THEN
    RETURN (v_operation_id, 'done', booking.reservation_body(v_hold, p_now))::booking.outcome;
  END IF;
  IF v_key IS NOT NULL THEN
    SELECT * INTO v_hold FROM booking.reservation_by_key(p_business_id, v_key);
    IF v_hold.fingerprint = v_fingerprint THEN
      RETURN (v_operation_id, 'replayed', booking.reservation_body(v_hold, p_now))::booking.outcome;
    ELSIF FOUND THEN
      RETURN (v_operation_id, 'idempotency_key_reused', NULL)::booking.outcome;
    END IF;
  END IF;

  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_request ->> 'service_id' AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (v_operation_id, 'service_not_found', NULL)::booking.outcome;
  END IF;
  PERFORM FROM booking.service_resources m
  WHERE m.business_id = p_business_id AND m.service_id BETWEEN v_service.service_id AND v_service.service_id
  ORDER BY m.service_id LIMIT 1;
  IF FOUND THEN
    RETURN NULL;
  ELSIF p_request ->> 'resource_id' IS NOT NULL THEN
    RETURN (v_operation_id, 'resource_not_found', NULL)::booking.outcome;
  END IF;
  v_slot_end := coalesce(v_slot_end, v_slot_start + make_interval(mins => v_service.duration_minutes));
  v_refusal := booking.slot_refusal(v_service, v_slot_start, v_slot_end, p_now);
  IF v_refusal IS NULL AND NOT booking.is_open(p_business_id, tstzrange(v_slot_start, v_slot_end)) THEN
    v_refusal := 'closed';
  END IF;
  IF v_refusal IS NOT NULL THEN
    RETURN (v_operation_id, 'slot_not_bookable', jsonb_build_object('reason', v_refusal))::booking.outcome;
  END IF;

  IF p_request ->> 'max_live_holds' IS NOT NULL AND booking.live_holds(
    p_business_id, p_request ->> 'client_address_hmac', p_request ->> 'client_id_hmac',
    (p_request ->> 'max_live_holds')::integer, p_now) >= (p_request ->> 'max_live_holds')::integer THEN
    RETURN (v_operation_id, 'too_many_holds', NULL)::booking.outcome;
  END IF;

  v_occupied := booking.occupied_by(v_service, v_slot_start, v_slot_end);
  IF NOT booking.fits(v_service, v_occupied, v_quantity, p_now) THEN
    RETURN (v_operation_id, 'slot_unavailable', NULL)::booking.outcome;
  END IF;
  PERFORM booking.end_holds(p_business_id, ARRAY(
    SELECT reservation_id FROM booking.expired_during(
      p_business_id, v_service.service_id, v_service.longest_occupied_seconds, v_occupied, p_now)), 'expired', p_now);
  IF extract(epoch FROM upper(v_occupied) - lower(v_occupied)) > v_service.longest_occupied_seconds THEN
    PERFORM booking.note_longest(p_business_id, ARRAY[
      ROW(1, v_operation_id, v_service.service_id, v_occupied, v_quantity, NULL)::booking.wish],
      ARRAY[ROW(1, NULL)::booking.grant]);
  END IF;

  INSERT INTO booking.reservations AS r (
    business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
    ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at, client_address_hmac,
    client_id_hmac)
  VALUES (
    p_business_id, v_operation_id, v_service.service_id, v_slot_start, v_slot_end, v_occupied, v_quantity, 'held',
    p_now + booking.hold_ttl(v_service.hold_ttl_minutes, v_service.max_hold_ttl_minutes, v_ttl_minutes),
    coalesce(v_ttl_minutes > v_service.max_hold_ttl_minutes, false), 1, v_key, v_fingerprint, v_operation_id, p_now,
    p_request ->> 'client_address_hmac', p_request ->> 'client_id_hmac')
  RETURNING r.* INTO v_hold;
  RETURN (v_operation_id, 'done', booking.reservation_body(v_hold, p_now))::booking.outcome;
END
$$;
