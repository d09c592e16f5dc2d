-- Counts and inserts in one statement. Concurrent statements each count the rows that were committed when the statement
-- began, do not see each other's inserts, and all find the slot free.
BEGIN ISOLATION LEVEL READ COMMITTED;

WITH service AS (
  SELECT max_simultaneous_bookings FROM booking.services
  WHERE business_id = %(business_id)s AND service_id = %(service_id)s
), claimed AS (
  SELECT coalesce(sum(quantity), 0) AS quantity FROM booking.reservations
  WHERE business_id = %(business_id)s AND service_id = %(service_id)s
    AND status = 'held' AND expires_at > clock_timestamp()
    AND occupied && tstzrange(%(slot_start)s, %(slot_end)s)
)
INSERT INTO booking.reservations (
  business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
  ttl_clamped, version, last_operation_id, created_at)
SELECT %(business_id)s, %(operation_id)s, %(service_id)s, %(slot_start)s, %(slot_end)s,
       tstzrange(%(slot_start)s, %(slot_end)s), 1, 'held', clock_timestamp() + interval '15 minutes',
       false, 1, %(operation_id)s, clock_timestamp()
FROM service CROSS JOIN claimed
WHERE claimed.quantity + 1 <= service.max_simultaneous_bookings
RETURNING reservation_id;

COMMIT;
