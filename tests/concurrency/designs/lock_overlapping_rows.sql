-- Locks the overlapping rows, and inserts if there are none. A row that does not exist yet can't be locked, so no
-- transaction waits for another. SKIP LOCKED is worse still: a claim that another transaction has locked is treated as
-- absent.
BEGIN ISOLATION LEVEL REPEATABLE READ;

WITH overlapping AS (
  SELECT reservation_id FROM booking.reservations
  WHERE business_id = %(business_id)s AND service_id = %(service_id)s
    AND status = 'held' AND expires_at > clock_timestamp()
    AND occupied && tstzrange(%(slot_start)s, %(slot_end)s)
  FOR UPDATE SKIP LOCKED
)
INSERT INTO booking.reservations (
  business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
  ttl_clamped, version, last_operation_id, created_at)
SELECT %(business_id)s, %(operation_id)s, %(service_id)s, %(slot_start)s, %(slot_end)s,
       tstzrange(%(slot_start)s, %(slot_end)s), 1, 'held', clock_timestamp() + interval '15 minutes',
       false, 1, %(operation_id)s, clock_timestamp()
WHERE NOT EXISTS (SELECT FROM overlapping)
RETURNING reservation_id;

COMMIT;
