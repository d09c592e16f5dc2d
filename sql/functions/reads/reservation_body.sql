-- Returns a reservation as its client sees it at p_now: a held one whose expires_at has passed has the status
-- 'expired'. It contains no guest data, because the reservation id alone gives access to it.
CREATE FUNCTION booking.reservation_body(r booking.reservations, p_now timestamptz)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'reservation_id', r.reservation_id,
    'business_id', r.business_id,
    'service_id', r.service_id,
    'resource_id', r.resource_id,
    'slot_start', r.slot_start,
    'slot_end', r.slot_end,
    'quantity', r.quantity,
    'status', CASE WHEN r.status = 'held' AND r.expires_at <= p_now THEN 'expired' ELSE r.status END,
    'expires_at', r.expires_at,
    'expires_in_seconds', CASE WHEN r.status = 'held'
      THEN greatest(0, round(extract(epoch FROM r.expires_at - p_now), 3)) ELSE 0 END,
    'ttl_clamped', r.ttl_clamped,
    'version', r.version)
$$;
