-- The clock of the system, read once by every call, after it has its locks: now() is the start of the transaction and
-- goes stale while a lock is waited for.
--
-- It reads no setting and no table, so that no session can move it. Only the database that the tests clone replaces it;
-- `check` compares its definition with this one.
CREATE FUNCTION booking.now() RETURNS timestamptz
LANGUAGE sql VOLATILE
AS $$ SELECT clock_timestamp() $$;

-- The time between two instants, in seconds. Their difference is told in days, which are 23 or 25 hours where a DST
-- change is.
CREATE FUNCTION booking.elapsed(p_from timestamptz, p_to timestamptz)
RETURNS interval LANGUAGE sql IMMUTABLE
AS $$ SELECT make_interval(secs => extract(epoch FROM p_to - p_from)::double precision) $$;
