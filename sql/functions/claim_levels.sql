-- How much of a service is claimed from p_now on: from each instant at which that changes until the next.
-- Parameters as in booking.claims_during.
CREATE OR REPLACE FUNCTION booking.claim_levels(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_now timestamptz)
RETURNS TABLE (at timestamptz, until timestamptz, claimed bigint)
LANGUAGE sql STABLE
AS $$
  SELECT level.at, level.until, level.claimed
  FROM (
    SELECT edge.at, lead(edge.at) OVER so_far AS until, sum(edge.step) OVER (so_far ROWS UNBOUNDED PRECEDING) AS claimed
    FROM booking.claims_during(
      p_business_id, p_service_id, p_longest_seconds, tstzrange(p_now, 'infinity'), p_now) AS claim
    CROSS JOIN LATERAL (VALUES
      (greatest(lower(claim.occupied), p_now), claim.quantity), (upper(claim.occupied), -claim.quantity)
    ) AS edge (at, step)
    WINDOW so_far AS (ORDER BY edge.at, edge.step)
  ) AS level
  WHERE level.at < level.until
$$;

-- Stretches of time from now on in which more of a service is claimed than there is, for the view of that name:
-- a view of the service's role can't reach the tables through a function, unless that runs as their owner.
CREATE OR REPLACE FUNCTION booking.find_overbooked_instants()
RETURNS TABLE (
  business_id text, service_id text, at timestamptz, until timestamptz, claimed bigint, capacity integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN QUERY
  SELECT s.business_id, s.service_id, level.at, level.until, level.claimed, s.max_simultaneous_bookings
  FROM booking.services s
  CROSS JOIN LATERAL booking.claim_levels(s.business_id, s.service_id, s.longest_occupied_seconds, v_now) AS level
  WHERE level.claimed > s.max_simultaneous_bookings;
END
$$;
