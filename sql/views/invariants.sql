-- One view for each invariant that SQL can check by itself. They are empty, or something is badly wrong.

-- Stretches of time from now on in which more of a service is claimed than there is.
CREATE OR REPLACE VIEW booking.overbooked_instants AS
  SELECT business_id, service_id, at, until, claimed, capacity FROM booking.find_overbooked_instants();

-- Claims that have a resource while an earlier claim still has it, through whichever services they came. One pass over
-- each resource's claims in order, so that the cost does not grow with their square.
CREATE OR REPLACE VIEW booking.double_booked_resources AS
  SELECT taken.business_id, taken.resource_id, taken.claim_id,
         (SELECT other.claim_id FROM booking.claims other
          WHERE other.business_id = taken.business_id AND other.resource_id = taken.resource_id
            AND other.claim_id <> taken.claim_id AND other.occupied && taken.occupied
          ORDER BY lower(other.occupied) LIMIT 1) AS other_claim_id,
         tstzrange(lower(taken.occupied), least(upper(taken.occupied), taken.busy_until)) AS at
  FROM (
    SELECT c.*, max(upper(c.occupied)) OVER (
      PARTITION BY c.business_id, c.resource_id ORDER BY lower(c.occupied), c.claim_id
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
    FROM booking.claims c
    CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
    WHERE c.resource_id IS NOT NULL AND upper(c.occupied) > clock.now
  ) AS taken
  WHERE lower(taken.occupied) < taken.busy_until;

-- Appointments whose audit rows are not exactly one for each of the versions 1 to the current one.
CREATE OR REPLACE VIEW booking.audit_gaps AS
  SELECT a.business_id, a.appointment_id, a.updated_at, a.version, trail.versions
  FROM booking.appointments a
  LEFT JOIN LATERAL (
    SELECT array_agg(l.version ORDER BY l.version) AS versions
    FROM booking.audit_logs l
    WHERE l.business_id = a.business_id AND l.appointment_id = a.appointment_id
  ) AS trail ON true
  WHERE trail.versions IS DISTINCT FROM ARRAY(SELECT generate_series(1, a.version));
