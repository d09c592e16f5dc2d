-- The statements that the service sends. Each is one call of one function whose first argument is the business or the
-- businesses, or that concerns all of them, so that a proxy can route it by business. A line that begins with `name:`
-- after the dashes begins a statement, which lasts until the next such line; placeholders are psycopg's.

-- name: execute
SELECT operation_id::text, outcome, body FROM booking.execute(%s, %b, %s)

-- name: session
SELECT pg_backend_pid(), ARRAY(SELECT name FROM unnest(%s::text[]) AS name WHERE current_setting(name) = '0'),
  -- of a proxy: see sql/proxy/
  (SELECT count(*) FROM pg_foreign_server s CROSS JOIN unnest(s.srvoptions) AS option
   WHERE s.srvname = 'holdfast' AND option ~ '^p[0-9]+=')

-- name: ask_node
SELECT booking.ask_node(%s)

-- name: leave_out
SELECT set_config('holdfast.left_out', %s, true)

-- name: server_time
SELECT clock_timestamp()

-- name: log_position
SELECT pg_is_in_recovery(), pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, '0/0')::bigint

-- name: business_of_reservation
SELECT * FROM booking.business_of_reservation(%s)

-- name: reservation
SELECT * FROM booking.reservation(%s, %s)

-- name: list_holds
SELECT starts, expires_at, hold_id, body FROM booking.list_holds(%s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: holds_of_client
SELECT * FROM booking.holds_of_client(%s, %s)

-- name: business_of_appointment
SELECT * FROM booking.business_of_appointment(%s)

-- name: businesses_named
SELECT name, business_id FROM booking.businesses_named(%s)

-- name: public_catalogue
SELECT * FROM booking.public_catalogue(%s)

-- name: appointment
SELECT * FROM booking.appointment(%s, %s)

-- name: list_appointments
SELECT * FROM booking.list_appointments(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: audit_trail
SELECT * FROM booking.audit_trail(%s, %s, %s, %s)

-- name: capacity
SELECT * FROM booking.capacity(%s, %s, %s, %s)

-- name: availability
SELECT outcome, body FROM booking.availability(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: available_days
SELECT outcome, body FROM booking.available_days(%s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: reaches
SELECT * FROM booking.reaches(%s)

-- name: alternatives
SELECT slot_start, slot_end, resource_ids FROM booking.alternatives(%s, %s, %s, %s, %s, %s, %s)

-- name: erase_guest
SELECT outcome, body FROM booking.erase_guest(%s, %s, %s, %s::jsonb, %s, %s)

-- name: due_businesses
SELECT business_id, due FROM booking.due_businesses(%s)

-- name: purge
SELECT expired, deleted, erased, freed, busy FROM booking.purge(%s, %s, %s, %s)

-- name: record_purge
SELECT booking.record_purge(%s, %s, %s, %s, %s, %s)

-- name: reservation_health
SELECT now, live, expired_unpurged, oldest_expired_at, last_purge_at, committed_last_hour, ended_last_hour
FROM booking.reservation_health()

-- name: invariant_violations
SELECT invariant, violations FROM booking.invariant_violations(%s)

-- name: clock_definition
SELECT body, language, settings FROM booking.clock_definition()

-- name: applied_migrations
SELECT filename, sha256, service_version FROM booking.applied_migrations()

-- name: now
SELECT booking.now()

-- name: hourly_counts
SELECT hour, made, committed, released, expired, booked FROM booking.hourly_counts(%s)

-- name: busiest_businesses
SELECT business_id, name, made, booked FROM booking.busiest_businesses(%s, %s)

-- name: purge_runs
SELECT run_id, started_at, finished_at, expired, deleted, erased, remaining FROM booking.purge_runs(%s)

-- name: lock_waits
SELECT business_id, waiting, seconds, blocker_pids FROM booking.lock_waits()

-- name: migration_ledger
SELECT filename, sha256, service_version FROM booking.schema_migrations

-- name: record_migration
INSERT INTO booking.schema_migrations (filename, sha256, service_version) VALUES (%s, %s, %s)
ON CONFLICT (filename) DO UPDATE
SET sha256 = excluded.sha256, service_version = excluded.service_version, applied_at = clock_timestamp()

-- name: document
SELECT booking.document(%s)

-- name: put_document
SELECT outcome, body FROM booking.put_document(%s, %s::jsonb, %s, %s)

-- name: put_business
SELECT outcome, body FROM booking.put_business(%s, %s::jsonb, %s)

-- name: delete_business
SELECT outcome, body FROM booking.delete_business(%s, %s)

-- name: business
SELECT * FROM booking.business(%s)

-- name: businesses
SELECT * FROM booking.businesses()

-- name: put_service
SELECT outcome, body FROM booking.put_service(%s, %s, %s::jsonb, %s)

-- name: delete_service
SELECT outcome, body FROM booking.delete_service(%s, %s, %s)

-- name: services
SELECT * FROM booking.services(%s, %s)

-- name: put_resource
SELECT outcome, body FROM booking.put_resource(%s, %s, %s::jsonb, %s)

-- name: delete_resource
SELECT outcome, body FROM booking.delete_resource(%s, %s, %s)

-- name: resources
SELECT * FROM booking.resources(%s, %s)

-- name: archived_names
SELECT * FROM booking.archived_names(%s)

-- name: put_opening_hours
SELECT outcome, body FROM booking.put_opening_hours(%s, %s::jsonb, %s)

-- name: opening_hours
SELECT * FROM booking.opening_hours(%s)

-- name: put_closure
SELECT outcome, body FROM booking.put_closure(%s, %s, %s::jsonb, %s)

-- name: delete_closure
SELECT outcome, body FROM booking.delete_closure(%s, %s, %s)

-- name: closures
SELECT * FROM booking.closures(%s, %s)

-- name: put_special_hours
SELECT outcome, body FROM booking.put_special_hours(%s, %s, %s::jsonb, %s)

-- name: delete_special_hours
SELECT outcome, body FROM booking.delete_special_hours(%s, %s, %s)

-- name: special_hours
SELECT * FROM booking.special_hours(%s, %s)

-- name: stray_slugs
SELECT slug, business_id FROM booking.stray_slugs()

-- name: unknown_timezones
SELECT timezone, businesses FROM booking.unknown_timezones()

-- name: create_key
SELECT outcome, body FROM booking.create_key(%s, %s, %s, %s, %s, %s, %s)

-- name: revoke_key
SELECT outcome, body FROM booking.revoke_key(%s, %s, %s)

-- name: note_key_uses
SELECT booking.note_key_uses(%s, %s)

-- name: keys
SELECT * FROM booking.keys(%s)

-- name: live_key
SELECT role, sha256 FROM booking.live_key(%s, %s)

-- name: calendars
SELECT resource_id, name, generation FROM booking.calendars(%s)

-- name: feed_span
SELECT timezone, since, starts, ends FROM booking.feed_span(%s)

-- name: calendar_feed
SELECT slot_start, appointment_id, body FROM booking.calendar_feed(%s, %s, %s, %s, %s, %s)

-- name: rotate_calendar
SELECT outcome FROM booking.rotate_calendar(%s, %s)
