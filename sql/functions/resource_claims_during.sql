-- The claims that have one resource during any part of a window, through whichever services they came: the
-- twin of booking.claims_during, with resources.longest_occupied_seconds for p_longest_seconds.
CREATE OR REPLACE FUNCTION booking.resource_claims_during(
  p_business_id text, p_resource_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamptz,
  p_except uuid DEFAULT NULL)
RETURNS TABLE (occupied tstzrange)
LANGUAGE sql STABLE
AS $$
  (SELECT r.occupied
  FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.status = 'held'
    AND lower(r.occupied) < upper(p_window)
    AND lower(r.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND r.occupied && p_window
    AND r.expires_at > p_now
  ORDER BY lower(r.occupied))
  UNION ALL
  (SELECT a.occupied
  FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.resource_id = p_resource_id AND a.status = 'confirmed'
    AND lower(a.occupied) < upper(p_window)
    AND lower(a.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND a.occupied && p_window
    AND a.appointment_id IS DISTINCT FROM p_except
  ORDER BY lower(a.occupied))
$$;
