-- When a business, or one of its resources, is open.
--
-- The one rule: an instant is open if the clock on the wall of the business shows an opening time then. So hours stay
-- local across a DST change, what the clock skips in spring is not there to be open, and what it repeats in autumn is
-- open in both passes. sql/time-zones.md has examples. Local time becomes instants in SQL only.

-- Whether all of a slot is within the weekly hours of the business (p_resource_id NULL) or of that resource, and
-- none of it in one of its closures. One level only: a resource's hours don't replace the business's, both bind.
--
--   p_slot  finite
--
-- Two look-ups where there are neither hours nor closures, which is why it is not one statement.
CREATE OR REPLACE FUNCTION booking.is_open(p_business_id text, p_resource_id text, p_slot tstzrange)
RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_end timestamptz;
BEGIN
  -- In the order of its index, so that no other can be chosen: see sql/README.md.
  PERFORM FROM booking.closures c
  WHERE c.business_id = p_business_id AND upper(c.during) > lower(p_slot)
    AND c.resource_id IS NOT DISTINCT FROM p_resource_id AND c.during && p_slot
  ORDER BY upper(c.during) LIMIT 1;
  IF FOUND THEN
    RETURN false;
  END IF;
  IF NOT EXISTS (
    SELECT FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND h.resource_id IS NOT DISTINCT FROM p_resource_id) THEN
    RETURN true;
  END IF;
  -- A month is enough: hours that are the same every week, and that long without a break, never have one.
  v_end := least(upper(p_slot), lower(p_slot) + interval '744 hours');
  RETURN tstzrange(lower(p_slot), v_end)
    <@ booking.open_stretches(p_business_id, p_resource_id, lower(p_slot), v_end);
END
$$;

-- When the business (p_resource_id NULL) or a resource is open by its own weekly hours. Exact from p_from to p_to, both
-- finite; what it says about the time around them is not complete. Without hours: always. Stretches that touch are one,
-- so that 09:00–24:00 and 00:00–02:00 are one night. Closures are not subtracted.
CREATE OR REPLACE FUNCTION booking.open_stretches(
  p_business_id text, p_resource_id text, p_from timestamptz, p_to timestamptz)
RETURNS tstzmultirange
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
  v_first date := (p_from AT TIME ZONE v_timezone)::date - 1;
  v_days integer := (p_to AT TIME ZONE v_timezone)::date + 1 - v_first;
BEGIN
  IF NOT EXISTS (
    SELECT FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND h.resource_id IS NOT DISTINCT FROM p_resource_id) THEN
    RETURN '{(,)}';
  END IF;
  -- A day more on either side, because the clock may be set back at midnight.
  RETURN (
    SELECT coalesce(
      range_agg(phase.during * tstzrange(
        (v_first + day + h.opens - phase.utc_offset) AT TIME ZONE 'UTC',
        (v_first + day + h.closes - phase.utc_offset) AT TIME ZONE 'UTC')),
      '{}')
    FROM booking.clock_phases(v_timezone, p_from, p_to) AS phase
    CROSS JOIN generate_series(0, v_days) AS day
    JOIN booking.opening_hours h ON h.weekday = extract(isodow FROM v_first + day)
    WHERE h.business_id = p_business_id AND h.resource_id IS NOT DISTINCT FROM p_resource_id);
END
$$;

-- The same, less the closures.
CREATE OR REPLACE FUNCTION booking.bookable_stretches(
  p_business_id text, p_resource_id text, p_from timestamptz, p_to timestamptz)
RETURNS tstzmultirange
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN booking.open_stretches(p_business_id, p_resource_id, p_from, p_to) - (
    SELECT coalesce(range_agg(closure.during), '{}')
    FROM (
      SELECT c.during FROM booking.closures c
      WHERE c.business_id = p_business_id AND upper(c.during) > p_from
        AND c.resource_id IS NOT DISTINCT FROM p_resource_id AND c.during && tstzrange(p_from, p_to)
      ORDER BY upper(c.during)
    ) AS closure);
END
$$;

-- The instants within p_starts (finite) at which the clock on the wall of the business shows midnight or any number of
-- steps after it. A step of more than a day leaves midnight alone.
CREATE OR REPLACE FUNCTION booking.slot_grid(p_business_id text, p_step_minutes integer, p_starts tstzrange)
RETURNS SETOF timestamptz
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
  v_first date := (lower(p_starts) AT TIME ZONE v_timezone)::date - 1;
  v_days integer := (upper(p_starts) AT TIME ZONE v_timezone)::date + 1 - v_first;
BEGIN
  RETURN QUERY
  SELECT tick.at
  FROM booking.clock_phases(v_timezone, lower(p_starts), upper(p_starts)) AS phase
  CROSS JOIN generate_series(0, v_days) AS day
  CROSS JOIN generate_series(0, 24 * 60 - 1, p_step_minutes) AS minute
  CROSS JOIN LATERAL (
    SELECT (v_first + day + make_interval(mins => minute) - phase.utc_offset) AT TIME ZONE 'UTC' AS at OFFSET 0
  ) AS tick
  WHERE tick.at <@ phase.during AND tick.at <@ p_starts;
END
$$;

-- The offsets from UTC that a time zone has from p_from to p_to, each with when it applies; the first and the last
-- without a bound. One row, but where a DST change is. A change is found by comparing the days, and then, to the
-- second, by halving: PostgreSQL tells the offset of an instant, but not when it changes.
--
-- Mostly there is none: within a week, a clock that shows the same at both ends was not changed. (No zone changes it
-- twice within nine days.)
CREATE OR REPLACE FUNCTION booking.clock_phases(p_timezone text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (utc_offset interval, during tstzrange)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_first timestamptz := p_from - interval '24 hours';
  v_last timestamptz := p_to + interval '24 hours';
BEGIN
  utc_offset := v_first AT TIME ZONE p_timezone - v_first AT TIME ZONE 'UTC';
  IF v_last - v_first <= interval '9 days' AND utc_offset = v_last AT TIME ZONE p_timezone - v_last AT TIME ZONE 'UTC' THEN
    during := tstzrange(NULL, NULL);
    RETURN NEXT;
  ELSE
    RETURN QUERY SELECT * FROM booking.clock_changes(p_timezone, p_from, p_to);
  END IF;
END
$$;

-- The same for any length of time.
CREATE OR REPLACE FUNCTION booking.clock_changes(p_timezone text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (utc_offset interval, during tstzrange)
LANGUAGE sql STABLE
AS $$
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
  SELECT utc_offset, tstzrange(at, lead(at) OVER (ORDER BY at NULLS FIRST)) FROM change
$$;
