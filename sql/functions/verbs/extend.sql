-- Extends holds: the verb behind POST /api/booking/reservations/{id}/extend.
--
-- Parameters
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, reservation_id, ttl_minutes, expected_version?}];
--                              ttl_minutes counts from p_now, may have fractions, and is clamped to the maximum of the
--                              service
-- Returns one booking.outcome for each request, in any order:
--   done                     expires_at is the later of its old value and now + ttl; where the old value is later,
--                            nothing changed, not even the version
--   reservation_not_found, reservation_released, reservation_committed
--   reservation_expired      body, if this call ended the hold: {freed}, see booking.freed_slot
--   version_conflict         body: {current_version}
--   hold_lifetime_exceeded   now + ttl is later than the end of the hold's maximum lifetime; body: {max_expires_at}.
--                            The hold keeps its expires_at: a refused extend renews nothing
--   deferred                 another request of this call extends the same hold: not tried
-- Locks  none of its own; the caller holds the locks of the businesses
-- A retry with the same operation_id has one effect, unless the hold was changed in between.
CREATE FUNCTION booking.extend(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_expired_business_ids text[];
  v_expired_ids uuid[];
BEGIN
  RETURN QUERY
  WITH request AS (
    SELECT b.business_id, r.operation_id, r.reservation_id, r.ttl_minutes, r.expected_version, row_number() OVER (
      PARTITION BY b.business_id, r.reservation_id ORDER BY r.ordinality) AS nth
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN ROWS FROM (jsonb_to_recordset(b.batch -> 'extend') AS (
      operation_id uuid, reservation_id uuid, ttl_minutes numeric, expected_version integer)) WITH ORDINALITY AS r
  ), request_with_hold AS (
    SELECT request.*, hold.r AS hold,
           booking.hold_expiry(s.s, request.ttl_minutes, p_now) AS new_expires_at,
           request.ttl_minutes > booking.max_hold_ttl_minutes(s.s) AS ttl_clamped,
           (hold.r).created_at + make_interval(mins => booking.max_hold_lifetime_minutes(s.s)) AS max_expires_at
    FROM request
    LEFT JOIN LATERAL (
      SELECT r FROM booking.reservation_by_id(request.business_id, request.reservation_id) AS r
    ) AS hold ON true
    LEFT JOIN LATERAL (
      SELECT s FROM booking.service_by_id(request.business_id, (hold.r).service_id) AS s
    ) AS s ON true
  ), judged_request AS MATERIALIZED (
    SELECT request_with_hold.*,
      CASE
        WHEN nth > 1 THEN 'deferred'
        WHEN (hold).reservation_id IS NULL THEN 'reservation_not_found'
        WHEN (hold).last_operation_id = operation_id THEN 'done'
        WHEN (hold).status IN ('released', 'committed') THEN 'reservation_' || (hold).status
        WHEN (hold).status = 'expired' OR (hold).expires_at <= p_now THEN 'reservation_expired'
        WHEN (hold).version <> expected_version THEN 'version_conflict'
        WHEN new_expires_at > max_expires_at THEN 'hold_lifetime_exceeded'
        ELSE 'done'
      END AS outcome
    FROM request_with_hold
  ), extended_hold AS (
    UPDATE booking.reservations AS r
    SET expires_at = j.new_expires_at, ttl_clamped = j.ttl_clamped, last_operation_id = j.operation_id,
        version = r.version + 1
    FROM judged_request AS j
    WHERE r.reservation_id = j.reservation_id AND r.business_id = j.business_id AND j.outcome = 'done'
      AND j.new_expires_at > (j.hold).expires_at AND (j.hold).last_operation_id <> j.operation_id
    RETURNING j.operation_id, r
  )
  SELECT j.operation_id, j.outcome,
    CASE j.outcome
      WHEN 'done' THEN booking.reservation_body(coalesce(extended_hold.r, j.hold), p_now)
      WHEN 'reservation_expired' THEN CASE WHEN (j.hold).status = 'held'
        THEN jsonb_build_object('freed', booking.freed_slot(j.hold)) END
      WHEN 'version_conflict' THEN jsonb_build_object('current_version', (j.hold).version)
      WHEN 'hold_lifetime_exceeded' THEN jsonb_build_object('max_expires_at', j.max_expires_at)
    END
  FROM judged_request AS j LEFT JOIN extended_hold USING (operation_id);

  -- An extend that was refused because the hold has expired ends it, so that a clock set back does not revive it.
  SELECT array_agg(r.business_id), array_agg(r.reservation_id) INTO v_expired_business_ids, v_expired_ids
  FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
  CROSS JOIN jsonb_array_elements(b.batch -> 'extend') AS request
  CROSS JOIN LATERAL booking.reservation_by_id(b.business_id, (request ->> 'reservation_id')::uuid) AS r
  WHERE r.expires_at <= p_now;
  PERFORM booking.end_holds(v_expired_business_ids, v_expired_ids, 'expired', p_now);
END
$$;
