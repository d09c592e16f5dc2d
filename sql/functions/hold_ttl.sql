-- How long a hold lives: what was asked for, else the service's default; never above its maximum,
-- and never so short that it is over before it is answered for.
--   p_ttl_minutes  what was asked for, fractions allowed; NULL for the default
CREATE OR REPLACE FUNCTION booking.hold_ttl(p_default_minutes integer, p_max_minutes integer, p_ttl_minutes numeric)
RETURNS interval
LANGUAGE sql IMMUTABLE
AS $$
  SELECT greatest(interval '1 millisecond', make_interval(secs =>
    (60 * least(coalesce(p_ttl_minutes, p_default_minutes), p_max_minutes))::double precision))
$$;
