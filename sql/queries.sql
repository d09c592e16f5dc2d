-- The statements that the service sends: each calls one function or reads one view. A line `-- name: …`
-- begins a statement; parameters are psycopg's.

-- name: execute
SELECT operation_id, outcome, body FROM booking.execute(%s::jsonb, %s)

-- name: server_time
SELECT clock_timestamp()

-- name: business_of_reservation
SELECT * FROM booking.business_of_reservation(%s)

-- name: reservation
SELECT * FROM booking.reservation(%s, %s)

-- name: capacity
SELECT * FROM booking.capacity(%s, %s, %s, %s)

-- name: due_businesses
SELECT business_id FROM booking.due_businesses(%s)

-- name: purge
SELECT expired, deleted, busy FROM booking.purge(%s, %s, %s, %s)

-- name: record_purge
SELECT booking.record_purge(%s, %s, %s, %s, %s)

-- name: reservation_health
SELECT now, live, expired_unpurged, oldest_expired_at, last_purge_at, committed_last_hour, ended_last_hour
FROM booking.reservation_health

-- name: invariant_violations
SELECT invariant, violations FROM booking.invariant_violations

-- name: recent_invariant_violations
SELECT invariant, violations FROM booking.recent_invariant_violations

-- name: clock_definition
SELECT body, language, settings FROM booking.clock_definition

-- name: applied_migrations
SELECT filename FROM booking.schema_migrations

-- name: migration_ledger
SELECT filename, sha256, service_version FROM booking.schema_migrations

-- name: record_migration
INSERT INTO booking.schema_migrations (filename, sha256, service_version) VALUES (%s, %s, %s)
ON CONFLICT (filename) DO UPDATE
SET sha256 = excluded.sha256, service_version = excluded.service_version, applied_at = clock_timestamp()

-- name: put_business
SELECT outcome, body FROM booking.put_business(%s, %s::jsonb, %s)

-- name: delete_business
SELECT outcome, body FROM booking.delete_business(%s, %s)

-- name: business
SELECT to_jsonb(b) FROM booking.business_catalog b WHERE business_id = %s

-- name: businesses
SELECT to_jsonb(b) FROM booking.business_catalog b ORDER BY business_id

-- name: put_service
SELECT outcome, body FROM booking.put_service(%s, %s, %s::jsonb, %s)

-- name: delete_service
SELECT outcome, body FROM booking.delete_service(%s, %s, %s)

-- name: service
SELECT to_jsonb(s) FROM booking.service_catalog s WHERE business_id = %s AND service_id = %s

-- name: services
SELECT to_jsonb(s) FROM booking.service_catalog s WHERE business_id = %s ORDER BY service_id

-- name: count_due
SELECT booking.count_due(%s)
