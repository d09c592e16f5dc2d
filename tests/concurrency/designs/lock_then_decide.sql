-- The design of this project: a statement that only locks, and then the statement that decides and writes. Both run
-- inside booking.execute, where each statement has its own snapshot.
BEGIN ISOLATION LEVEL READ COMMITTED;

SELECT operation_id
FROM booking.execute(
  ARRAY[%(business_id)s],
  ARRAY[jsonb_build_object('reserve', jsonb_build_array(jsonb_build_object(
    'operation_id', %(operation_id)s, 'service_id', %(service_id)s, 'slot_start', %(slot_start)s,
    'slot_end', %(slot_end)s, 'quantity', 1)))],
  'infinity')
WHERE outcome = 'done';

COMMIT;
