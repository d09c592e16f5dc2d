-- One view for each invariant that SQL can check by itself. A row in any of them is a defect.
--
-- The first two read the counts, and the third compares the counts with the claims. Together they state what a check of
-- every claim would state, and the first two cost only the windows from now on.

-- Times from now on at which more of a service is claimed than its capacity.
CREATE VIEW booking.overbooked_instants AS
  SELECT s.business_id, s.service_id, level.at, level.until, level.claimed, own.capacity
  FROM booking.services AS s
  CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
  CROSS JOIN LATERAL booking.capacity_of(s) AS own
  CROSS JOIN LATERAL booking.claim_levels(s.business_id, s.service_id, s.longest_occupied_seconds, own.counted_ids,
    clock.now, 'infinity', NULL, clock.now, NULL) AS level
  WHERE level.claimed > own.capacity;

-- Times from now on at which a resource is double-booked: by windows that overlap without being one session, by claims
-- beyond its seats, or by two claims of a service that does not share its resources.
CREATE VIEW booking.double_booked_resources AS
  SELECT busy.business_id, busy.resource_id, busy.claimed, tstzrange(busy.starts, CASE
           WHEN busy.starts < busy.busy_until THEN least(busy.ends, busy.busy_until) ELSE busy.ends END) AS at
  FROM (
    SELECT r.business_id, r.resource_id, r.seats, w.*, max(w.ends) OVER (
      PARTITION BY r.business_id, r.resource_id ORDER BY w.starts, w.ends, w.service_id
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
    FROM booking.resources AS r
    CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
    CROSS JOIN LATERAL (
      SELECT (m.o).service_id, (m.o).starts, (m.o).ends, m.claimed
      FROM booking.resource_windows(
        r.business_id, r.resource_id, r.longest_occupied_seconds, clock.now, 'infinity', clock.now) AS m
      OFFSET 0
    ) AS w
    WHERE w.claimed > 0
  ) AS busy
  JOIN booking.services AS s ON s.business_id = busy.business_id AND s.service_id = busy.service_id
  WHERE busy.starts < busy.busy_until OR busy.claimed > busy.seats
    OR s.resource_sharing = 'exclusive' AND busy.claimed > 1 AND (
      SELECT count(*) FROM booking.claims AS c
      WHERE c.business_id = busy.business_id AND c.service_id = busy.service_id AND c.resource_id = busy.resource_id
        AND c.occupied = tstzrange(busy.starts, busy.ends)) > 1;

-- Windows whose count is not the sum of their claims, whose next_expiry is later than the expiry of a hold, or that are
-- longer than longest_occupied_seconds of their service or resource: decisions would not find them.
CREATE VIEW booking.miscounted_windows AS
  SELECT * FROM booking.find_miscounted('-infinity');

-- Appointments whose audit rows are not exactly one for each version from 1 to the current one.
CREATE VIEW booking.audit_gaps AS
  SELECT a.business_id, a.appointment_id, a.updated_at, a.version, trail.versions
  FROM booking.appointments a
  LEFT JOIN LATERAL (
    SELECT array_agg(l.version ORDER BY l.version) AS versions
    FROM booking.audit_logs l
    WHERE l.business_id = a.business_id AND l.appointment_id = a.appointment_id
  ) AS trail ON true
  WHERE trail.versions IS DISTINCT FROM ARRAY(SELECT generate_series(1, a.version));
