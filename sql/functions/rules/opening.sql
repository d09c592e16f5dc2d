-- Opening hours and closures: when a business and its resources are open.
--
-- The rule: an instant is open if the wall clock of the business shows an opening time at that instant. Hours therefore
-- stay local across a change of daylight saving time, an hour that the clock skips does not exist, and an hour that it
-- repeats is open in both passes. sql/time-zones.md has worked examples. Local time becomes instants in SQL only.
--
-- The functions take many owners of hours at once, because a pool may have hundreds of resources and is checked under
-- the lock: the number of statements does not grow with it.
--
--   p_owner_ids  the owners of hours and closures: resource ids, and '' for the business itself. A resource's hours do
--                not replace those of the business: both apply, and a caller that needs both asks for both

-- Returns the owners for which the whole slot lies within their weekly hours and outside their closures, in order.
--
--   p_slot  finite bounds
--
-- An owner without hours is always open, which is the usual case and takes one statement; hours take a second one.
CREATE FUNCTION booking.open_during(p_business_id text, p_owner_ids text[], p_slot tstzrange)
RETURNS text[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_always_open text[];
  v_with_hours text[];
  -- 31 days suffice: hours repeat every week, so hours without a gap for a month never have one.
  v_month tstzrange := tstzrange(lower(p_slot), least(upper(p_slot), lower(p_slot) + interval '744 hours'));
BEGIN
  SELECT coalesce(array_agg(owner_id ORDER BY owner_id) FILTER (WHERE hours.weekday IS NULL), '{}'),
         array_agg(owner_id) FILTER (WHERE hours.weekday IS NOT NULL)
  INTO v_always_open, v_with_hours
  FROM unnest(p_owner_ids) AS owner_id
  LEFT JOIN LATERAL (
    SELECT * FROM booking.closures_during(p_business_id, owner_id, p_slot) LIMIT 1
  ) AS closure ON true
  LEFT JOIN LATERAL (
    SELECT h.weekday FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner_id
    ORDER BY h.weekday LIMIT 1
  ) AS hours ON true
  WHERE closure.during IS NULL;
  IF v_with_hours IS NULL THEN
    RETURN v_always_open;
  END IF;
  RETURN ARRAY(
    SELECT unnest(v_always_open)
    UNION ALL
    SELECT period.whose
    FROM booking.open_stretches(p_business_id, v_with_hours, lower(v_month), upper(v_month)) AS period
    WHERE v_month <@ period.open
    ORDER BY 1);
END
$$;

-- Returns when each owner is open: its weekly hours (an owner without hours is always open) minus its closures. Exact
-- within [p_from, p_to), both finite; incomplete outside. Adjacent hours are joined: 09:00–24:00 and 00:00–02:00 of the
-- next day are one period.
CREATE FUNCTION booking.open_stretches(p_business_id text, p_owner_ids text[], p_from timestamptz, p_to timestamptz)
RETURNS TABLE (whose text, open tstzmultirange) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
  v_first date := (p_from AT TIME ZONE v_timezone)::date - 1;
  v_days integer := (p_to AT TIME ZONE v_timezone)::date + 1 - v_first;
BEGIN
  RETURN QUERY
  WITH day AS MATERIALIZED (
    -- The local days, one row for each UTC offset that applies during them, as far as they overlap [p_from, p_to). One
    -- more day on either side is tried, because the clock may be set back at midnight.
    SELECT extract(isodow FROM v_first + n)::integer AS weekday, local.midnight, phase.during
    FROM booking.clock_phases(v_timezone, p_from, p_to) AS phase
    CROSS JOIN generate_series(0, v_days) AS n
    CROSS JOIN LATERAL (SELECT v_first + n - phase.utc_offset AS midnight) AS local
    WHERE phase.during * tstzrange(p_from, p_to)
      && tstzrange(local.midnight AT TIME ZONE 'UTC', (local.midnight + interval '24 hours') AT TIME ZONE 'UTC')
  )
  SELECT owner.id, CASE WHEN hours.weekday IS NULL THEN '{(,)}' ELSE weekly.open END - coalesce((
      SELECT range_agg(closure.during)
      FROM booking.closures_during(p_business_id, owner.id, tstzrange(p_from, p_to)) AS closure), '{}')
  FROM unnest(p_owner_ids) AS owner (id)
  LEFT JOIN LATERAL (
    SELECT h.weekday FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner.id
    ORDER BY h.weekday LIMIT 1
  ) AS hours ON true
  CROSS JOIN LATERAL (
    SELECT coalesce(
      range_agg(day.during * tstzrange(
        (day.midnight + h.opens) AT TIME ZONE 'UTC', (day.midnight + h.closes) AT TIME ZONE 'UTC')),
      '{}') AS open
    FROM day
    CROSS JOIN LATERAL (
      -- Ordered by its index, so that the planner cannot choose another one (sql/README.md).
      SELECT o.opens, o.closes FROM booking.opening_hours o
      WHERE o.business_id = p_business_id AND coalesce(o.resource_id, '') = owner.id
        AND o.weekday BETWEEN day.weekday AND day.weekday
      ORDER BY o.weekday
    ) AS h
  ) AS weekly;
END
$$;

-- Returns the closures of one owner that overlap p_during, in the order of their index.
CREATE FUNCTION booking.closures_during(p_business_id text, p_owner_id text, p_during tstzrange)
RETURNS TABLE (during tstzrange) LANGUAGE sql STABLE
AS $$
  SELECT c.during FROM booking.closures c
  WHERE c.business_id = p_business_id AND coalesce(c.resource_id, '') = p_owner_id
    AND upper(c.during) > lower(p_during) AND c.during && p_during
  ORDER BY upper(c.during)
$$;

-- Returns the instants within p_starts (finite) at which the wall clock of the business shows midnight or a multiple of
-- p_step_minutes after it. A step of more than a day leaves midnight only.
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

-- Returns the UTC offsets that a time zone has from p_from to p_to, each with the range of instants in which it
-- applies; the first and the last range are unbounded. That is one row unless the clock changes in between.
--
-- PostgreSQL gives the offset of an instant, but not the instants at which the offset changes. So the offsets of
-- successive days are compared, and a change is located to the second by bisection.
--
-- The short cut: if the offset is equal at both ends of at most nine days, the clock did not change. No time zone
-- changes its offset and back within nine days.
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
