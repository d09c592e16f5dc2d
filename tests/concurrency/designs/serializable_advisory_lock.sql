-- SERIALIZABLE, with an advisory lock taken inside the transaction to avoid serialization failures. But the statement
-- that takes the lock also fixes the transaction's snapshot, before it waits. A transaction that waited counts stale
-- rows, inserts beside newer ones and is aborted: refused, with most of the room unsold.
BEGIN ISOLATION LEVEL SERIALIZABLE;

SELECT pg_advisory_xact_lock(hashtextextended(%(business_id)s, 0));

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
