-- Lock the rows that overlap, and insert where there are none. A row that is not there yet can't be locked:
-- nobody waits for anybody. SKIP LOCKED goes one worse and takes a rival's locked claim for no claim at all.
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
