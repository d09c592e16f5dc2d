-- Returns the current time of the system. Each call reads it once, after it has acquired its locks: PostgreSQL's now()
-- is the start of the transaction, which is out of date after a wait for a lock. In whole milliseconds, as answers show
-- instants: what a caller reads is what is stored.
--
-- The function reads no setting and no table, so no session can move the clock. Only the database that the tests clone
-- replaces it; the service's `check` command compares the definition with this one. OR REPLACE, because executing this
-- file is the repair of a definition that was changed (deploy/runbook.md).
CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz
LANGUAGE sql VOLATILE
AS $$ SELECT date_trunc('milliseconds', clock_timestamp()) $$;

-- Returns the time between two instants as an interval of seconds. PostgreSQL's `-` returns days, and adding a day to
-- an instant adds 23 or 25 hours across a change of daylight saving time.
CREATE OR REPLACE FUNCTION booking.elapsed(p_from timestamptz, p_to timestamptz)
RETURNS interval LANGUAGE sql IMMUTABLE
AS $$ SELECT make_interval(secs => extract(epoch FROM p_to - p_from)::double precision) $$;
