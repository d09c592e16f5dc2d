-- Slots: at which instants the slots of a service begin, how long they are, and why the public may not book one.
-- Listings and verbs share these functions, so that listed slots can be booked.
--
-- The length of a service is a number of minutes, which are elapsed time, or of calendar days of the business: n days
-- end at the same local time n dates later, or at end_time. sql/time-zones.md has worked examples.

-- Returns the grid of a service on local dates from p_first to p_last: its start times, or steps from the beginning of
-- each entry of the business's hours. A service by days without either starts once on each date, when the business first
-- opens. Hours of resources do not shift the grid.
--
-- Returns
--   opens, closes  the first start, and the end before which booking.grid_step leads to further ones
--   residue        of the steps, modulo their distance. Entries of hours of a date that overlap are one row if they have
--                  steps in common: so a start is in one row, and a date has no more residues than a step has minutes
CREATE FUNCTION booking.grid(p_service booking.services, p_first date, p_last date)
RETURNS TABLE (day date, residue numeric, opens timestamp, closes timestamp) LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
  IF p_service.start_times IS NOT NULL THEN
    RETURN QUERY
    SELECT date.day, extract(epoch FROM time.of_day), date.day + time.of_day,
           date.day + time.of_day + interval '1 microsecond'
    FROM (SELECT p_first + n AS day FROM generate_series(0, p_last - p_first) AS n) AS date
    CROSS JOIN unnest(p_service.start_times) AS time (of_day);
  ELSIF coalesce(p_service.slot_step_minutes, p_service.duration_minutes) IS NULL THEN
    RETURN QUERY
    SELECT hours.day, 0::numeric, min(hours.day + hours.opens), min(hours.day + hours.opens) + interval '1 microsecond'
    FROM booking.local_hours(p_service.business_id, '{""}', p_first, p_last) AS hours
    GROUP BY hours.day;
  ELSE
    RETURN QUERY
    SELECT entry.day, entry.residue, lower(entry.during), upper(entry.during)
    FROM (
      SELECT hours.day, hours.residue,
             unnest(range_agg(tsrange(hours.day + hours.opens, hours.day + hours.closes))) AS during
      FROM (
        SELECT local.*, extract(epoch FROM local.opens) % extract(epoch FROM booking.grid_step(p_service)) AS residue
        FROM booking.local_hours(p_service.business_id, '{""}', p_first, p_last) AS local
      ) AS hours
      GROUP BY hours.day, hours.residue
    ) AS entry;
  END IF;
END
$$;

-- Returns the distance between the starts of one row of booking.grid; any if each has one start.
CREATE FUNCTION booking.grid_step(p_service booking.services)
RETURNS interval LANGUAGE sql IMMUTABLE
AS $$
  SELECT make_interval(mins => coalesce(p_service.slot_step_minutes, p_service.duration_minutes, 1440))
$$;

-- Returns the instants within p_starts (finite) at which slots of a service are listed, each once, and the local time as
-- which each counts. Steps of minutes follow the wall clock: they begin in both passes of a repeated hour, and
-- not at all in a skipped hour. Start times, and days, begin once: see booking.fixed_starts.
--
-- Parameters
--   p_timezone  the time zone of the business, known to this server
--   p_limit     steps of minutes: of each local date only this many before p_near, and this many from it on, the nearest;
--               if entries of hours overlap, up to this many for each of their residues. NULL: all
--   p_near      NULL: the first instant of p_starts
CREATE FUNCTION booking.listed_starts(
  p_service booking.services, p_timezone text, p_starts tstzmultirange, p_limit integer DEFAULT NULL,
  p_near timestamptz DEFAULT NULL)
RETURNS TABLE (at timestamptz, local timestamp) LANGUAGE plpgsql STABLE
AS $$
BEGIN
  IF p_service.start_times IS NOT NULL OR p_service.duration_days IS NOT NULL THEN
    RETURN QUERY SELECT * FROM booking.fixed_starts(p_service, p_timezone, p_starts);
  ELSE
    RETURN QUERY
    SELECT * FROM booking.stepped_starts(
      p_service, p_timezone, p_starts, p_limit, coalesce(p_near, lower(p_starts)));
  END IF;
END
$$;

-- Returns the listed starts of a service by minutes without start times. Parameters as in booking.listed_starts.
--
-- Starts are generated only within p_starts, and counted before they are generated: the work grows with the ranges of
-- p_starts and with the starts that are returned, not with the starts of the grid.
CREATE FUNCTION booking.stepped_starts(
  p_service booking.services, p_timezone text, p_starts tstzmultirange, p_limit integer, p_near timestamptz)
RETURNS TABLE (at timestamptz, local timestamp) LANGUAGE sql STABLE
AS $$
  WITH part AS MATERIALIZED (
    SELECT phase.utc_offset, side.is_before, lower(piece) AS begins, upper(piece) AS ends, shown.first, shown.last
    FROM booking.clock_phases(p_timezone, lower(p_starts), upper(p_starts)) AS phase
    CROSS JOIN (VALUES (true, tstzrange(NULL, p_near)), (false, tstzrange(p_near, NULL))) AS side (is_before, during)
    CROSS JOIN LATERAL unnest(p_starts * tstzmultirange(phase.during * side.during)) AS piece
    CROSS JOIN LATERAL (
      SELECT lower(piece) AT TIME ZONE 'UTC' + phase.utc_offset
               + CASE WHEN lower_inc(piece) THEN interval '0' ELSE interval '1 microsecond' END AS first,
             upper(piece) AT TIME ZONE 'UTC' + phase.utc_offset
               - CASE WHEN upper_inc(piece) THEN interval '0' ELSE interval '1 microsecond' END AS last
    ) AS shown
  ), run AS MATERIALIZED (
    -- The steps of one row of the grid that begin within one part: opens + n steps, n from first to last.
    SELECT grid.day, grid.residue, grid.opens, part.utc_offset, part.is_before, part.begins, part.ends, step.first,
           step.last, step.last - step.first + 1 AS steps
    FROM (SELECT min(part.first)::date AS first, max(part.last)::date AS last FROM part) AS dates
    CROSS JOIN (SELECT extract(epoch FROM booking.grid_step(p_service)) AS seconds OFFSET 0) AS distance
    CROSS JOIN LATERAL booking.grid(p_service, dates.first, dates.last) AS grid
    JOIN (
      SELECT part.*, part.first::date + n AS day
      FROM part CROSS JOIN LATERAL generate_series(0, part.last::date - part.first::date) AS n
    ) AS part USING (day)
    CROSS JOIN LATERAL (
      SELECT greatest(0, ceil(extract(epoch FROM part.first - grid.opens) / distance.seconds))::integer AS first,
             floor(extract(epoch FROM least(part.last, grid.closes - interval '1 microsecond') - grid.opens)
               / distance.seconds)::integer AS last
    ) AS step
    WHERE step.first <= step.last
  ), counted AS (
    SELECT run.*, least(run.steps, p_limit - coalesce(sum(run.steps) OVER (
        PARTITION BY run.day, run.residue, run.is_before
        ORDER BY CASE WHEN run.is_before THEN p_near - run.ends ELSE run.begins - p_near END
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)) AS nearest
    FROM run
  )
  SELECT (start.local - counted.utc_offset) AT TIME ZONE 'UTC', start.local
  FROM counted
  CROSS JOIN LATERAL generate_series(0, counted.nearest::integer - 1) AS n
  CROSS JOIN LATERAL (
    SELECT counted.opens + booking.grid_step(p_service)
             * CASE WHEN counted.is_before THEN counted.last - n ELSE counted.first + n END AS local
  ) AS start
$$;

-- Returns the listed starts of a service with start times or of days. A start that the clock skips begins at the first
-- instant after the gap, and counts as the skipped time: so a day that begins at a skipped midnight ends at the next
-- midnight. Of several that begin at one instant the earliest counts. A date that is left out as a whole (by a change
-- of the zone) has no starts, and neither has one whose shortest slot would be over when it begins.
CREATE FUNCTION booking.fixed_starts(p_service booking.services, p_timezone text, p_starts tstzmultirange)
RETURNS TABLE (at timestamptz, local timestamp) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  -- A skipped start begins later than it says, and a repeated one is shown again later: by a day at most.
  v_first timestamp := lower(p_starts) AT TIME ZONE p_timezone - interval '24 hours';
  v_last timestamp := upper(p_starts) AT TIME ZONE p_timezone + interval '24 hours';
  v_locals timestamp[] := ARRAY(
    SELECT start.local
    FROM booking.grid(p_service, v_first::date, v_last::date) AS grid
    CROSS JOIN LATERAL generate_series(
      grid.opens, grid.closes - interval '1 microsecond', booking.grid_step(p_service)) AS start (local)
    WHERE start.local BETWEEN v_first AND v_last);
BEGIN
  RETURN QUERY
  SELECT DISTINCT ON (start.at) start.at, start.local
  FROM unnest(
    v_locals,
    booking.instants_of(p_timezone, v_locals),
    CASE WHEN p_service.duration_days IS NOT NULL THEN booking.instants_of(p_timezone, ARRAY(
      SELECT booking.local_end(p_service, l, booking.min_length(p_service)) FROM unnest(v_locals) AS l)) END
  ) AS start (local, at, shortest_end)
  WHERE start.at <@ p_starts AND (start.shortest_end > start.at) IS NOT FALSE
    AND ((start.at AT TIME ZONE p_timezone)::date = start.local::date
      OR (start.at - interval '1 microsecond') AT TIME ZONE p_timezone >= start.local::date)
  ORDER BY start.at, start.local;
END
$$;

-- Returns whether a slot of a service is listed at an instant.
CREATE FUNCTION booking.is_listed(p_service booking.services, p_timezone text, p_start timestamptz)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.listed_starts(p_service, p_timezone, tstzmultirange(tstzrange(p_start, p_start, '[]'))))
$$;

-- Returns the slots of a service that are listed, without regard to room, hours and notice.
--
-- Parameters
--   p_length, p_days  their length: elapsed time or, for a service by days, calendar days; the other one is NULL
--   the others        as in booking.listed_starts
CREATE FUNCTION booking.listed_slots(
  p_service booking.services, p_timezone text, p_starts tstzmultirange, p_length interval, p_days integer,
  p_limit integer DEFAULT NULL, p_near timestamptz DEFAULT NULL)
RETURNS TABLE (slot_start timestamptz, slot_end timestamptz) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_starts timestamptz[];
  v_locals timestamp[];
BEGIN
  SELECT array_agg(start.at), array_agg(start.local) INTO v_starts, v_locals
  FROM booking.listed_starts(p_service, p_timezone, p_starts, p_limit, p_near) AS start;
  IF p_service.duration_days IS NULL THEN
    RETURN QUERY SELECT start, start + p_length FROM unnest(v_starts) AS start;
  ELSE
    RETURN QUERY
    SELECT slot.starts, slot.ends
    FROM unnest(v_starts, booking.instants_of(
      p_timezone, ARRAY(SELECT booking.local_end(p_service, l, p_days) FROM unnest(v_locals) AS l)))
      AS slot (starts, ends);
  END IF;
END
$$;

-- Returns the local end of a slot of p_days calendar days that starts at the local time p_start: at end_time of the
-- service, else at the same local time, p_days dates later; one date earlier if end_time is later than the start.
CREATE FUNCTION booking.local_end(p_service booking.services, p_start timestamp, p_days integer)
RETURNS timestamp LANGUAGE sql IMMUTABLE
AS $$
  SELECT p_start::date + p_days - CASE WHEN p_service.end_time > p_start::time THEN 1 ELSE 0 END
    + coalesce(p_service.end_time, p_start::time)
$$;

-- Returns the local time as which the start of a slot of days counts: what the wall clock shows, or the skipped time of
-- a listed start (booking.fixed_starts).
CREATE FUNCTION booking.counted_start(p_service booking.services, p_timezone text, p_start timestamptz)
RETURNS timestamp LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_shown timestamp := p_start AT TIME ZONE p_timezone;
BEGIN
  -- Most starts follow no gap, and need no look-up.
  IF (p_start - interval '1 second') AT TIME ZONE p_timezone + interval '1 second' < v_shown THEN
    RETURN coalesce((
      SELECT start.local
      FROM booking.fixed_starts(p_service, p_timezone, tstzmultirange(tstzrange(p_start, p_start, '[]'))) AS start),
      v_shown);
  END IF;
  RETURN v_shown;
END
$$;

-- Returns when slots end that start at p_start, by their number of calendar days, from p_first to p_last days.
--
-- A start in the second pass of a repeated hour can come after the first end, which is in the first pass. It then ends
-- as the next number of days does.
CREATE FUNCTION booking.ends_of_days(
  p_service booking.services, p_timezone text, p_start timestamptz, p_first integer, p_last integer)
RETURNS TABLE (days integer, ends timestamptz) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_local timestamp := booking.counted_start(p_service, p_timezone, p_start);
  v_ends timestamptz[] := booking.instants_of(p_timezone, ARRAY(
    SELECT booking.local_end(p_service, v_local, n) FROM generate_series(p_first, p_last + 1) AS n));
BEGIN
  RETURN QUERY
  SELECT p_first + n - 1, CASE WHEN v_ends[n] > p_start THEN v_ends[n] ELSE v_ends[n + 1] END
  FROM generate_series(1, p_last - p_first + 1) AS n;
END
$$;

-- Returns the end of a slot of p_days calendar days that starts at p_start.
CREATE FUNCTION booking.end_of_days(
  p_service booking.services, p_timezone text, p_start timestamptz, p_days integer)
RETURNS timestamptz LANGUAGE sql STABLE
AS $$
  SELECT slot.ends FROM booking.ends_of_days(p_service, p_timezone, p_start, p_days, p_days) AS slot
$$;

-- Returns the end of a slot as a verb reads it: the requested end, else the length of the service after the start.
--
--   p_timezone  the time zone of the business; NULL: unknown to this server. The end of a slot of days is then NULL
CREATE FUNCTION booking.slot_end(
  p_service booking.services, p_timezone text, p_start timestamptz, p_end timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN p_end IS NOT NULL THEN p_end
    WHEN p_service.duration_days IS NULL THEN p_start + make_interval(mins => p_service.duration_minutes)
    WHEN p_timezone IS NOT NULL
    THEN booking.end_of_days(p_service, p_timezone, p_start, p_service.duration_days)
  END
$$;

-- Returns how many calendar days a slot of a service by days has.
--
--   days      the least number of days that ends when the slot ends, or later. Several numbers end at one instant where
--             the clock leaves out a date, or all of a first day: then the least one that the service has
--   complete  the greatest number of days that ends when the slot ends, or earlier
--   is_exact  whether the slot ends as a number of days does
--   kept      how many days its guest keeps in a move: days or, if the slot ends as no number of days does (the end time
--             of the service has changed, or staff chose the end), those that end nearest; NULL: none within half a day
CREATE FUNCTION booking.days_of(
  p_service booking.services, p_timezone text, p_start timestamptz, p_end timestamptz,
  OUT days integer, OUT complete integer, OUT is_exact boolean, OUT kept integer)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_start timestamp := booking.counted_start(p_service, p_timezone, p_start);
  -- The number of days that ends on the date of p_end. Gaps and repetitions of the clock change it by two at most.
  v_days integer := (p_end AT TIME ZONE p_timezone)::date - booking.local_end(p_service, v_start, 0)::date;
BEGIN
  SELECT min(slot.days) FILTER (WHERE slot.ends >= p_end),
         coalesce(max(slot.days) FILTER (WHERE slot.ends <= p_end), 0),
         (array_agg(slot.days ORDER BY greatest(slot.ends - p_end, p_end - slot.ends), slot.days)
           FILTER (WHERE greatest(slot.ends - p_end, p_end - slot.ends) < interval '12 hours'))[1]
  INTO days, complete, kept
  FROM booking.ends_of_days(p_service, p_timezone, p_start, greatest(1, v_days - 1), greatest(1, v_days + 2)) AS slot;
  is_exact := days <= complete;
  days := greatest(days, least(complete, booking.min_length(p_service)));
  kept := CASE WHEN is_exact THEN days ELSE kept END;
END
$$;

-- Returns why the public may not book a slot of a service, whatever its length, whatever room there is and whenever it
-- is open: NULL (it may), 'not_online', 'past', 'too_soon' or 'too_far_ahead'. A slot that starts exactly at p_now is
-- not past.
CREATE FUNCTION booking.start_refusal(p_service booking.services, p_slot_start timestamptz, p_now timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN NOT p_service.booking_enabled THEN 'not_online'
    WHEN p_slot_start < p_now THEN 'past'
    WHEN p_slot_start < p_now + make_interval(mins => p_service.min_notice_minutes) THEN 'too_soon'
    -- Hours, not days: adding an interval of days adds 23 or 25 hours where the clock changes.
    WHEN p_slot_start > p_now + make_interval(hours => 24 * p_service.max_advance_days) THEN 'too_far_ahead'
  END
$$;

-- Returns the shortest slot of a service that the public may book, in the unit of the service: minutes or calendar days.
CREATE FUNCTION booking.min_length(p_service booking.services)
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$
  SELECT coalesce(
    p_service.min_duration_minutes, p_service.duration_minutes, p_service.min_duration_days, p_service.duration_days)
$$;

-- Returns the longest slot of a service that the public may book, in the unit of the service.
CREATE FUNCTION booking.max_length(p_service booking.services)
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$
  SELECT coalesce(
    p_service.max_duration_minutes, p_service.duration_minutes, p_service.max_duration_days, p_service.duration_days)
$$;

-- Returns why the public may not book a slot of this length: NULL, 'too_short', 'too_long', or 'off_grid' for a slot of
-- a service by days that ends at another instant than a number of days ends, however short or long it is.
CREATE FUNCTION booking.length_refusal(
  p_service booking.services, p_timezone text, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN p_service.duration_days IS NOT NULL
    THEN booking.days_refusal(p_service, p_timezone, p_slot_start, p_slot_end)
    WHEN p_slot_end < p_slot_start + make_interval(mins => booking.min_length(p_service)) THEN 'too_short'
    WHEN p_slot_end > p_slot_start + make_interval(mins => booking.max_length(p_service)) THEN 'too_long'
  END
$$;

-- Returns what booking.length_refusal returns for a service by days.
CREATE FUNCTION booking.days_refusal(
  p_service booking.services, p_timezone text, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS text LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_slot record := booking.days_of(p_service, p_timezone, p_slot_start, p_slot_end);
BEGIN
  RETURN CASE
    WHEN NOT v_slot.is_exact THEN 'off_grid'
    WHEN v_slot.complete < booking.min_length(p_service) THEN 'too_short'
    WHEN v_slot.days > booking.max_length(p_service) THEN 'too_long'
  END;
END
$$;

-- Returns why the public may not book a slot of a service, whatever room there is and whenever it is open: NULL (it
-- may), a reason of booking.start_refusal or booking.length_refusal, 'off_grid' for a start that is not listed if the
-- service starts on its grid only, or 'misconfigured'.
--
--   p_timezone  read only for a service by days or on its grid; NULL: unknown to this server
CREATE FUNCTION booking.slot_refusal(
  p_service booking.services, p_timezone text, p_slot_start timestamptz, p_slot_end timestamptz, p_now timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT coalesce(
    booking.start_refusal(p_service, p_slot_start, p_now),
    CASE WHEN p_timezone IS NULL AND (p_service.duration_days IS NOT NULL OR p_service.starts_on_grid)
    THEN 'misconfigured' END,
    booking.length_refusal(p_service, p_timezone, p_slot_start, p_slot_end),
    booking.grid_refusal(p_service, p_timezone, p_slot_start))
$$;

-- Returns 'off_grid' for a start that is not listed, if the service starts on its grid only; else NULL.
CREATE FUNCTION booking.grid_refusal(p_service booking.services, p_timezone text, p_slot_start timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT CASE WHEN p_service.starts_on_grid AND NOT booking.is_listed(p_service, p_timezone, p_slot_start)
    THEN 'off_grid' END
$$;

-- Returns the longest slot of a service that the business itself may book: 30 days, or 366 calendar days. A decision
-- reads all windows that may reach into its own, so one long claim makes every decision of its service slower.
CREATE FUNCTION booking.longest_slot(p_service booking.services)
RETURNS interval LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN p_service.duration_days IS NULL THEN interval '720 hours' ELSE interval '8809 hours' END $$;

-- Returns the fault of a slot that is longer than anybody may book, or NULL.
CREATE FUNCTION booking.too_long_a_slot(p_service booking.services, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS jsonb LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_slot_end > p_slot_start + booking.longest_slot(p_service) THEN booking.fault(
    'slot_end', 'too_far_after', jsonb_build_object(
      'field', 'slotStart', 'maxDays', CASE WHEN p_service.duration_days IS NULL THEN 30 ELSE 366 END)) END
$$;
