-- When a business and its resources are open.
--
-- The one rule: an instant is open if the clock on the wall of the business shows an opening time then. So hours stay
-- local across a DST change, what the clock skips in spring is not there to be open, and what it repeats in autumn is
-- open in both passes. sql/time-zones.md has examples. Local time becomes instants in SQL only.
--
-- These functions are asked about many at a time, because a pool may have hundreds of resources and is asked about
-- under the lock: the number of statements does not grow with it.
--   p_whose  whose hours and closures: resources by their ids, and '' for the business's own. One level only: a
--            resource's hours don't replace the business's, both bind, and who needs both asks for both.

-- Those for whom all of a slot is within their weekly hours, and none of it in one of their closures; in order.
--   p_slot  finite
--
-- One statement where nobody has hours, which is the usual case; so what follows from hours has another.
CREATE FUNCTION booking.open_during(p_business_id text, p_whose text[], p_slot tstzrange)
RETURNS text[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_always text[];
  v_by_hours text[];
  -- A month is enough: hours that are the same every week, and that long without a break, never have one.
  v_month tstzrange := tstzrange(lower(p_slot), least(upper(p_slot), lower(p_slot) + interval '744 hours'));
BEGIN
  SELECT coalesce(array_agg(whose ORDER BY whose) FILTER (WHERE hours.weekday IS NULL), '{}'),
         array_agg(whose) FILTER (WHERE hours.weekday IS NOT NULL)
  INTO v_always, v_by_hours
  FROM unnest(p_whose) AS whose
  LEFT JOIN LATERAL (
    SELECT * FROM booking.closures_during(p_business_id, whose, p_slot) LIMIT 1
  ) AS closure ON true
  LEFT JOIN LATERAL (
    SELECT h.weekday FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = whose
    ORDER BY h.weekday LIMIT 1
  ) AS hours ON true
  WHERE closure.during IS NULL;
  IF v_by_hours IS NULL THEN
    RETURN v_always;
  END IF;
  RETURN ARRAY(
    SELECT unnest(v_always)
    UNION ALL
    SELECT stretch.whose
    FROM booking.open_stretches(p_business_id, v_by_hours, lower(v_month), upper(v_month)) AS stretch
    WHERE v_month <@ stretch.open
    ORDER BY 1);
END
$$;

-- When each of them is open: by their own weekly hours, without hours always, less their closures. Exact from p_from to
-- p_to, both finite; what it says about the time around them is not complete. Stretches that touch are one, so that
-- 09:00–24:00 and 00:00–02:00 are one night.
CREATE FUNCTION booking.open_stretches(p_business_id text, p_whose text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (whose text, open tstzmultirange) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
  v_first date := (p_from AT TIME ZONE v_timezone)::date - 1;
  v_days integer := (p_to AT TIME ZONE v_timezone)::date + 1 - v_first;
BEGIN
  RETURN QUERY
  WITH day AS MATERIALIZED (
    -- The days of the wall-clock, by each offset from UTC that it has meanwhile, as far as they are within the time. A
    -- day more is looked at on either side, because the clock may be set back at midnight.
    SELECT extract(isodow FROM v_first + n)::integer AS weekday, local.midnight, phase.during
    FROM booking.clock_phases(v_timezone, p_from, p_to) AS phase
    CROSS JOIN generate_series(0, v_days) AS n
    CROSS JOIN LATERAL (SELECT v_first + n - phase.utc_offset AS midnight) AS local
    WHERE phase.during * tstzrange(p_from, p_to)
      && tstzrange(local.midnight AT TIME ZONE 'UTC', (local.midnight + interval '24 hours') AT TIME ZONE 'UTC')
  )
  SELECT asked.whose, CASE WHEN hours.weekday IS NULL THEN '{(,)}' ELSE within.open END - coalesce((
      SELECT range_agg(closure.during)
      FROM booking.closures_during(p_business_id, asked.whose, tstzrange(p_from, p_to)) AS closure), '{}')
  FROM unnest(p_whose) AS asked (whose)
  LEFT JOIN LATERAL (
    SELECT h.weekday FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = asked.whose
    ORDER BY h.weekday LIMIT 1
  ) AS hours ON true
  CROSS JOIN LATERAL (
    SELECT coalesce(
      range_agg(day.during * tstzrange(
        (day.midnight + h.opens) AT TIME ZONE 'UTC', (day.midnight + h.closes) AT TIME ZONE 'UTC')),
      '{}') AS open
    FROM day
    CROSS JOIN LATERAL (
      -- In the order of its index, so that no other can be chosen: see sql/README.md.
      SELECT o.opens, o.closes FROM booking.opening_hours o
      WHERE o.business_id = p_business_id AND coalesce(o.resource_id, '') = asked.whose
        AND o.weekday BETWEEN day.weekday AND day.weekday
      ORDER BY o.weekday
    ) AS h
  ) AS within;
END
$$;

-- The closures of one of them that have any part of a time in common with it, in the order of their index.
CREATE FUNCTION booking.closures_during(p_business_id text, p_whose text, p_during tstzrange)
RETURNS TABLE (during tstzrange) LANGUAGE sql STABLE
AS $$
  SELECT c.during FROM booking.closures c
  WHERE c.business_id = p_business_id AND coalesce(c.resource_id, '') = p_whose
    AND upper(c.during) > lower(p_during) AND c.during && p_during
  ORDER BY upper(c.during)
$$;

-- The instants within p_starts (finite) at which the clock on the wall of the business shows midnight or any number of
-- steps after it. A step of more than a day leaves midnight alone.
CREATE FUNCTION booking.slot_grid(p_business_id text, p_step_minutes integer, p_starts tstzrange)
RETURNS SETOF timestamptz LANGUAGE plpgsql STABLE
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
CREATE FUNCTION booking.clock_phases(p_timezone text, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (utc_offset interval, during tstzrange) LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
DECLARE
  v_first timestamptz := p_from - interval '24 hours';
  v_last timestamptz := p_to + interval '24 hours';
BEGIN
  utc_offset := v_first AT TIME ZONE p_timezone - v_first AT TIME ZONE 'UTC';
  IF v_last - v_first <= interval '9 days' AND utc_offset = v_last AT TIME ZONE p_timezone - v_last AT TIME ZONE 'UTC' THEN
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
