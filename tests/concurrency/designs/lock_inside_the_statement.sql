-- Count and insert in one statement that also locks the service's row. Now they wait for each other, and it
-- makes things worse: the snapshot was taken when the statement began, before it waited, so whoever had
-- to wait counts the rows as they were then. All who began before the first one ended are granted.
BEGIN ISOLATION LEVEL READ COMMITTED;

WITH service AS (
  SELECT max_simultaneous_bookings FROM booking.services
  WHERE business_id = %(business_id)s AND service_id = %(service_id)s
  FOR UPDATE
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
