-- Local time and instants. They are converted here and nowhere else: PostgreSQL and Python resolve a local time that the
-- clock repeats or skips differently, and their time zone databases may differ in age.

-- Returns whether this server knows a time zone. A zone that it knew once can be unknown after the server was replaced,
-- and AT TIME ZONE would then raise an error that fails a whole batch: so the zone is tried in a block of its own.
CREATE FUNCTION booking.is_timezone(p_timezone text)
RETURNS boolean LANGUAGE plpgsql STABLE
AS $$
BEGIN
  PERFORM now() AT TIME ZONE p_timezone;
  RETURN p_timezone IS NOT NULL;
EXCEPTION
  WHEN invalid_parameter_value THEN
    RETURN false;
END
$$;

-- Returns whether a name is in the server's list of time zones, pg_timezone_names, with the same capital letters.
--
-- PostgreSQL reads the files of all zones for the list, which takes 11 ms. For the setting TimeZone it reads one. The
-- setting takes a name in any case, and shows it as the list has it. It also takes offsets and POSIX strings such as
-- UTC+2, which all have a digit: a name with a digit is looked up in the list.
CREATE FUNCTION booking.is_timezone_name(p_timezone text)
RETURNS boolean LANGUAGE plpgsql STABLE SET TimeZone = 'UTC'  -- which is restored at the end
AS $$
BEGIN
  IF p_timezone ~ '[0-9]' THEN
    RETURN EXISTS (SELECT FROM pg_timezone_names AS zone WHERE zone.name = p_timezone);
  END IF;
  RETURN set_config('TimeZone', p_timezone, true) IS NOT DISTINCT FROM p_timezone;
EXCEPTION
  WHEN invalid_parameter_value THEN
    RETURN false;
END
$$;

-- Returns the time zone of a business, or NULL if this server does not know it.
CREATE FUNCTION booking.timezone_of(p_business_id text)
RETURNS text LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
BEGIN
  RETURN CASE WHEN booking.is_timezone(v_timezone) THEN v_timezone END;
END
$$;

-- Returns the instant of each local time, in the same order: the first instant at which the wall clock shows it or,
-- where the clock skips it, the first instant after the gap. Of a time that the clock repeats that is the first pass.
--
-- In each phase of the clock, the wall clock shows p_local or later from greatest(beginning of the phase, p_local -
-- offset) on; the earliest of these instants is the answer, whether the clock skips, repeats or does neither.
CREATE FUNCTION booking.instants_of(p_timezone text, p_locals timestamp[])
RETURNS timestamptz[] LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    WITH phase AS MATERIALIZED (
      -- No zone is more than a day away from UTC.
      SELECT clock.during, clock.utc_offset
      FROM (SELECT min(l) AT TIME ZONE 'UTC' AS first, max(l) AT TIME ZONE 'UTC' AS last FROM unnest(p_locals) AS l)
        AS span
      CROSS JOIN LATERAL booking.clock_phases(
        p_timezone, span.first - interval '24 hours', span.last + interval '24 hours') AS clock
    )
    SELECT (
      SELECT min(greatest(lower(phase.during), shown.at)) FROM phase
      CROSS JOIN LATERAL (SELECT (given.local - phase.utc_offset) AT TIME ZONE 'UTC' AS at) AS shown
      WHERE upper_inf(phase.during) OR shown.at < upper(phase.during))
    FROM unnest(p_locals) WITH ORDINALITY AS given (local, place)
    ORDER BY given.place);
END
$$;

-- Returns the time of local dates, both inclusive: from the first midnight up to the one after the last date. Empty for
-- dates that the clock leaves out; NULL for a NULL time zone.
--
-- Each midnight by itself: together they would be searched for in all changes of the clock between them.
CREATE FUNCTION booking.range_of_dates(p_timezone text, p_first date, p_last date)
RETURNS tstzrange LANGUAGE plpgsql STABLE STRICT
AS $$
DECLARE
  v_begins timestamptz[] := booking.instants_of(p_timezone, ARRAY[p_first]::timestamp[]);
  v_ends timestamptz[] := booking.instants_of(p_timezone, ARRAY[p_last + 1]::timestamp[]);
BEGIN
  RETURN tstzrange(v_begins[1], v_ends[1]);
END
$$;

-- Returns the UTC offsets that a time zone has from p_from to p_to, each with the range of instants in which it
-- applies; the first and the last range are unbounded. That is one row unless the clock changes in between.
--
-- PostgreSQL gives the offset of an instant, but not the instants at which the offset changes. So the offsets of
-- successive days are compared, and a change is located to the second by bisection.
--
-- The short cut: if the offset is equal at both ends of at most nine days, the clock did not change. Since 2001 no time
-- zone has changed its offset and back within nine days.
CREATE FUNCTION booking.clock_phases(p_timezone text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (utc_offset interval, during tstzrange) LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
DECLARE
  v_first timestamptz := p_from - interval '24 hours';
  v_last timestamptz := p_to + interval '24 hours';
BEGIN
  utc_offset := v_first AT TIME ZONE p_timezone - v_first AT TIME ZONE 'UTC';
  IF v_last - v_first <= interval '9 days'
    AND utc_offset = v_last AT TIME ZONE p_timezone - v_last AT TIME ZONE 'UTC'
  THEN
    during := tstzrange(NULL, NULL);
    RETURN NEXT;
    RETURN;
  END IF;
  RETURN QUERY
  WITH RECURSIVE sample AS (
    SELECT at, lag(at) OVER in_order AS earlier,
           at AT TIME ZONE p_timezone - at AT TIME ZONE 'UTC' AS utc_offset,
           lag(at AT TIME ZONE p_timezone - at AT TIME ZONE 'UTC') OVER in_order AS earlier_offset
    FROM generate_series(p_from - interval '48 hours', p_to + interval '72 hours', interval '24 hours') AS at
    WINDOW in_order AS (ORDER BY at)
  ), search AS (
    SELECT earlier AS lo, at AS hi, earlier_offset, utc_offset
    FROM sample
    WHERE utc_offset <> earlier_offset
    UNION ALL
    SELECT CASE WHEN is_before THEN mid ELSE lo END, CASE WHEN is_before THEN hi ELSE mid END,
           earlier_offset, utc_offset
    FROM search
    CROSS JOIN LATERAL (SELECT lo + (hi - lo) / 2 AS mid OFFSET 0) AS half
    CROSS JOIN LATERAL (
      SELECT mid AT TIME ZONE p_timezone - mid AT TIME ZONE 'UTC' = earlier_offset AS is_before
    ) AS side
    WHERE hi - lo >= interval '1 second'
  ), change AS (
    SELECT date_trunc('second', hi) AS at, utc_offset FROM search WHERE hi - lo < interval '1 second'
    UNION ALL
    SELECT NULL, utc_offset FROM sample WHERE earlier IS NULL
  )
  SELECT utc_offset, tstzrange(at, lead(at) OVER (ORDER BY at NULLS FIRST)) FROM change;
END
$$;
