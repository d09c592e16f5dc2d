-- Holds of one service that have expired but still stand as held, and that occupy any part of a window.
-- Parameters as in booking.claims_during, of which it is the counterpart.
CREATE OR REPLACE FUNCTION booking.expired_during(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamptz)
RETURNS TABLE (reservation_id uuid)
LANGUAGE sql STABLE
AS $$
  SELECT r.reservation_id
  FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.service_id = p_service_id AND r.status = 'held'
    AND lower(r.occupied) < upper(p_window)
    AND lower(r.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND r.occupied && p_window
    AND r.expires_at <= p_now
  ORDER BY lower(r.occupied)
$$;

-- The same of one resource, the counterpart of booking.resource_claims_during.
CREATE OR REPLACE FUNCTION booking.resource_expired_during(
  p_business_id text, p_resource_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamptz)
RETURNS TABLE (reservation_id uuid)
LANGUAGE sql STABLE
AS $$
  SELECT r.reservation_id
  FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.status = 'held'
    AND lower(r.occupied) < upper(p_window)
    AND lower(r.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND r.occupied && p_window
    AND r.expires_at <= p_now
  ORDER BY lower(r.occupied)
$$;
