-- How long holds last, by the settings of their service.

-- Returns when a hold expires that is made or extended now: after p_ttl_minutes (fractions allowed; NULL: the service's
-- default), at most the service's maximum, and at least one millisecond, so that it is live when its outcome is made.
-- In whole milliseconds, as answers show it, also for a fraction of a minute: at the instant that a holder reads, the
-- hold has expired.
CREATE FUNCTION booking.hold_expiry(p_service booking.services, p_ttl_minutes numeric, p_now timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
AS $$
  SELECT date_trunc('milliseconds', p_now + greatest(interval '1 millisecond', make_interval(secs => (60 * least(
    coalesce(p_ttl_minutes, p_service.hold_ttl_minutes), booking.max_hold_ttl_minutes(p_service)))::double precision)))
$$;

-- Returns for how long one request may hold a slot of a service: by default an hour, or its usual time if that is longer.
CREATE FUNCTION booking.max_hold_ttl_minutes(p_service booking.services)
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(p_service.max_hold_ttl_minutes, greatest(p_service.hold_ttl_minutes, 60)) $$;

-- Returns how long a hold of a service can live if it is extended: by default four times its longest time.
CREATE FUNCTION booking.max_hold_lifetime_minutes(p_service booking.services)
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(p_service.max_hold_lifetime_minutes, 4 * booking.max_hold_ttl_minutes(p_service)) $$;
