-- Releases holds of one business: the verb behind DELETE /api/booking/reservations/{id}.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, reservation_id}]
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                   it is no longer held, whether or not it was before;
--                          body: {service_id, resource_id, slot_start, slot_end}
--   reservation_not_found
--   reservation_committed  it is an appointment by now: that is cancelled, not released
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry has one effect.
CREATE OR REPLACE FUNCTION booking.release(p_business_id text, p_requests jsonb, p_deadline timestamptz)
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
  PERFORM booking.end_holds(p_business_id, ARRAY(
    SELECT (request ->> 'reservation_id')::uuid FROM jsonb_array_elements(p_requests) AS request), 'released', v_now);

  RETURN QUERY
  WITH found AS MATERIALIZED (
    SELECT request.operation_id, request.reservation_id, hold.status, hold.service_id, hold.resource_id,
      hold.slot_start, hold.slot_end
    FROM jsonb_to_recordset(p_requests) AS request (operation_id uuid, reservation_id uuid)
    LEFT JOIN LATERAL (
      SELECT r.status, r.service_id, r.resource_id, r.slot_start, r.slot_end FROM booking.reservations r
      WHERE r.business_id = p_business_id AND r.reservation_id = request.reservation_id
      OFFSET 0
    ) AS hold ON true
  )
  SELECT operation_id,
    CASE
      WHEN status IS NULL THEN 'reservation_not_found'
      WHEN status = 'committed' THEN 'reservation_committed'
      ELSE 'done'
    END,
    CASE WHEN status <> 'committed' THEN
      jsonb_build_object(
        'service_id', service_id, 'resource_id', resource_id, 'slot_start', slot_start, 'slot_end', slot_end)
    END
  FROM found;
END
$$;
