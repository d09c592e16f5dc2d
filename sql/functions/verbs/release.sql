-- Releases holds: the verb behind DELETE /api/booking/reservations/{id}.
--
-- Parameters
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, reservation_id}]
-- Returns one booking.outcome for each request, in any order:
--   done                   the reservation is not held any more, whether or not this call ended it; body: as of
--                          booking.freed_slot
--   reservation_not_found
--   reservation_committed  the hold became an appointment, which is cancelled, not released
-- Locks  none of its own; the caller holds the locks of the businesses
-- A retry has one effect.
CREATE FUNCTION booking.release(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_business_ids text[];
  v_operation_ids uuid[];
  v_reservation_ids uuid[];
BEGIN
  SELECT array_agg(b.business_id), array_agg((request ->> 'operation_id')::uuid),
         array_agg((request ->> 'reservation_id')::uuid)
  INTO v_business_ids, v_operation_ids, v_reservation_ids
  FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
  CROSS JOIN jsonb_array_elements(b.batch -> 'release') AS request;
  PERFORM booking.end_holds(v_business_ids, v_reservation_ids, 'released', p_now);

  RETURN QUERY
  SELECT request.operation_id,
    CASE
      WHEN hold.status IS NULL THEN 'reservation_not_found'
      WHEN hold.status = 'committed' THEN 'reservation_committed'
      ELSE 'done'
    END,
    CASE WHEN hold.status <> 'committed' THEN booking.freed_slot(hold) END
  FROM unnest(v_business_ids, v_operation_ids, v_reservation_ids) AS request (business_id, operation_id, reservation_id)
  LEFT JOIN LATERAL booking.reservation_by_id(request.business_id, request.reservation_id) AS hold ON true;
END
$$;
