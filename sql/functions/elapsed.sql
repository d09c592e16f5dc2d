-- The time between two instants, in seconds. Their difference is told in days, which are 23 or 25 hours where a DST change is.
CREATE OR REPLACE FUNCTION booking.elapsed(p_from timestamptz, p_to timestamptz)
RETURNS interval
LANGUAGE sql IMMUTABLE
AS $$ SELECT make_interval(secs => extract(epoch FROM p_to - p_from)::double precision) $$;
