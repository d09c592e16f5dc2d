-- One view for each invariant that SQL can check by itself. They are empty, or something is badly wrong.

-- Stretches of time from now on in which more of a service is claimed than there is.
CREATE OR REPLACE VIEW booking.overbooked_instants AS
  SELECT business_id, service_id, at, until, claimed, capacity FROM booking.find_overbooked_instants();

-- Pairs of claims that have one resource in two places at once, through whichever services they came.
CREATE OR REPLACE VIEW booking.double_booked_resources AS
  SELECT one.business_id, one.resource_id, one.claim_id, other.claim_id AS other_claim_id,
         one.occupied * other.occupied AS at
  FROM booking.claims one
  JOIN booking.claims other ON other.business_id = one.business_id AND other.resource_id = one.resource_id
    AND other.claim_id > one.claim_id AND other.occupied && one.occupied
  WHERE upper(one.occupied * other.occupied) > booking.now();

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

-- How many rows each has: for `check`, which may take its time over the whole history.
CREATE OR REPLACE VIEW booking.invariant_violations AS
  SELECT 'overbooked_instants' AS invariant, count(*) AS violations FROM booking.overbooked_instants
  UNION ALL
  SELECT 'double_booked_resources', count(*) FROM booking.double_booked_resources
  UNION ALL
  SELECT 'audit_gaps', count(*) FROM booking.audit_gaps;

-- The same for reservation health, which is asked all the time: of the audit trail only what changed lately.
CREATE OR REPLACE VIEW booking.recent_invariant_violations AS
  SELECT 'overbooked_instants' AS invariant, count(*) AS violations FROM booking.overbooked_instants
  UNION ALL
  SELECT 'double_booked_resources', count(*) FROM booking.double_booked_resources
  UNION ALL
  SELECT 'audit_gaps', count(*) FROM booking.audit_gaps, (SELECT booking.now() AS now OFFSET 0) AS clock
  WHERE updated_at > clock.now - interval '1 hour';
