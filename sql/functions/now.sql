-- The clock of the system, read once by every verb, after it has its lock: now() is the start of the
-- transaction and goes stale while a lock is waited for.
--
-- It reads no setting and no table, so that nobody can move it from a session. Only the database that the
-- tests clone replaces it; `check` compares its definition with this one.
CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz
LANGUAGE sql VOLATILE
AS $$ SELECT clock_timestamp() $$;
