-- Extends holds: the verb behind POST /api/booking/reservations/{id}/extend.
--
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, reservation_id, ttl_minutes, expected_version?}].
--                              ttl_minutes counts from now and is cut to the service's maximum
--   p_now                      the clock, read after the locks
--
-- Returns one booking.outcome for each request, in any order:
--   done                     expires_at is the later of what it was and now + ttl; if that is what it was, nothing
--                            changed, not even the version
--   reservation_not_found, reservation_released, reservation_expired, reservation_committed
--   version_conflict         body: {current_version}
--   hold_lifetime_exceeded   now + ttl is past the end of the hold's total lifetime; body: {max_expires_at}.
--                            Nothing changed: a refused extend never renews
--   deferred                 another extend of the same hold came before it: not tried
-- Locks  none of its own: the caller has the locks of the businesses
-- A retry with the same operation_id has one effect, as long as the hold was not changed in between.
CREATE FUNCTION booking.extend(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_lapsed_businesses text[];
  v_lapsed_holds uuid[];
BEGIN
  RETURN QUERY
  WITH request AS (
    SELECT b.business_id, r.operation_id, r.reservation_id, r.ttl_minutes, r.expected_version, row_number() OVER (
      PARTITION BY b.business_id, r.reservation_id ORDER BY r.ordinality) AS nth
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN ROWS FROM (jsonb_to_recordset(b.batch -> 'extend') AS (
      operation_id uuid, reservation_id uuid, ttl_minutes numeric, expected_version integer)) WITH ORDINALITY AS r
  ), found AS (
    SELECT request.*, hold.r AS hold,
           p_now + booking.hold_ttl(s.hold_ttl_minutes, s.max_hold_ttl_minutes, request.ttl_minutes) AS wanted_until,
           request.ttl_minutes > s.max_hold_ttl_minutes AS ttl_clamped,
           (hold.r).created_at + make_interval(mins => s.max_hold_lifetime_minutes) AS max_expires_at
    FROM request
    LEFT JOIN LATERAL (
      SELECT r FROM booking.reservations r
      WHERE r.reservation_id = request.reservation_id AND r.business_id = request.business_id OFFSET 0
    ) AS hold ON true
    LEFT JOIN LATERAL (
      SELECT * FROM booking.services s
      WHERE s.business_id = request.business_id AND s.service_id = (hold.r).service_id OFFSET 0
    ) AS s ON true
  ), judged AS MATERIALIZED (
    SELECT found.*,
      CASE
        WHEN nth > 1 THEN 'deferred'
        WHEN (hold).reservation_id IS NULL THEN 'reservation_not_found'
        WHEN (hold).last_operation_id = operation_id THEN 'done'
        WHEN (hold).status IN ('released', 'committed') THEN 'reservation_' || (hold).status
        WHEN (hold).status = 'expired' OR (hold).expires_at <= p_now THEN 'reservation_expired'
        WHEN (hold).version <> expected_version THEN 'version_conflict'
        WHEN wanted_until > max_expires_at THEN 'hold_lifetime_exceeded'
        ELSE 'done'
      END AS outcome
    FROM found
  ), extended AS (
    UPDATE booking.reservations AS r
    SET expires_at = judged.wanted_until, ttl_clamped = judged.ttl_clamped, last_operation_id = judged.operation_id,
        version = r.version + 1
    FROM judged
    WHERE r.reservation_id = judged.reservation_id AND r.business_id = judged.business_id AND judged.outcome = 'done'
      AND judged.wanted_until > (judged.hold).expires_at AND (judged.hold).last_operation_id <> judged.operation_id
    RETURNING judged.operation_id, r
  )
  SELECT judged.operation_id, judged.outcome,
    CASE judged.outcome
      WHEN 'done' THEN booking.reservation_body(coalesce(extended.r, judged.hold), p_now)
      WHEN 'version_conflict' THEN jsonb_build_object('current_version', (judged.hold).version)
      WHEN 'hold_lifetime_exceeded' THEN jsonb_build_object('max_expires_at', judged.max_expires_at)
    END
  FROM judged LEFT JOIN extended USING (operation_id);

  -- Expiry that was acted on is a state.
  SELECT array_agg(r.business_id), array_agg(r.reservation_id) INTO v_lapsed_businesses, v_lapsed_holds
  FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
  CROSS JOIN jsonb_array_elements(b.batch -> 'extend') AS request
  CROSS JOIN LATERAL (
    SELECT * FROM booking.reservations r
    WHERE r.reservation_id = (request ->> 'reservation_id')::uuid AND r.business_id = b.business_id OFFSET 0
  ) AS r
  WHERE r.expires_at <= p_now;
  PERFORM booking.end_holds(v_lapsed_businesses, v_lapsed_holds, 'expired', p_now);
END
$$;
