-- Reserve with a single request in the batch, which is what an idle service and spread-out load send: the
-- same rules as booking.sort_reserve_requests and booking.reserve_round (a test compares the two on random
-- requests), without the machinery that orders many. Worth its lines: see the figures in sql/README.md.
--
-- Parameters and outcomes as in booking.reserve, for one request; p_now is NULL if there is no such business.
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
  v_slot_end := coalesce(v_slot_end, v_slot_start + make_interval(mins => v_service.duration_minutes));
  v_refusal := booking.slot_refusal(v_service, v_slot_start, v_slot_end, p_now);
  IF v_refusal IS NOT NULL THEN
    RETURN (v_operation_id, 'slot_not_bookable', jsonb_build_object('reason', v_refusal))::booking.outcome;
  END IF;

  v_occupied := booking.occupied_by(v_service, v_slot_start, v_slot_end);
  IF NOT booking.fits(v_service, v_occupied, v_quantity, p_now) THEN
    RETURN (v_operation_id, 'slot_unavailable', NULL)::booking.outcome;
  END IF;
  IF extract(epoch FROM upper(v_occupied) - lower(v_occupied)) > v_service.longest_occupied_seconds THEN
    PERFORM booking.note_longest(p_business_id, ARRAY[
      ROW(1, v_operation_id, v_service.service_id, v_occupied, v_quantity)::booking.wish]);
  END IF;

  INSERT INTO booking.reservations AS r (
    business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
    ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at)
  VALUES (
    p_business_id, v_operation_id, v_service.service_id, v_slot_start, v_slot_end, v_occupied, v_quantity, 'held',
    p_now + booking.hold_ttl(v_service.hold_ttl_minutes, v_service.max_hold_ttl_minutes, v_ttl_minutes),
    coalesce(v_ttl_minutes > v_service.max_hold_ttl_minutes, false), 1, v_key, v_fingerprint, v_operation_id, p_now)
  RETURNING r.* INTO v_hold;
  RETURN (v_operation_id, 'done', booking.reservation_body(v_hold, p_now))::booking.outcome;
END
$$;

-- Whether a quantity fits beside the claims on one window, which booking.choose decides for many. If it
-- fits, expired holds in the way become 'expired' before their room is given away.
--
-- The sum of all claims of the window is never below their peak: mostly it already says yes.
CREATE OR REPLACE FUNCTION booking.fits(
  p_service booking.services, p_window tstzrange, p_quantity integer, p_now timestamptz)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_claimed bigint;
BEGIN
  SELECT coalesce(sum(quantity), 0) INTO v_claimed
  FROM booking.claims_during(
    p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, p_window, p_now);
  IF v_claimed + p_quantity > p_service.max_simultaneous_bookings THEN
    SELECT held + booked INTO v_claimed
    FROM booking.fullest_instant(
      p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, p_window, p_now);
    IF v_claimed + p_quantity > p_service.max_simultaneous_bookings THEN
      RETURN false;
    END IF;
  END IF;

  PERFORM booking.end_holds(p_service.business_id, ARRAY(
    SELECT reservation_id
    FROM booking.expired_during(
      p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, p_window, p_now)),
    'expired', p_now);
  RETURN true;
END
$$;
