-- Opening hours, special hours and closures: when a business and its resources are open.
--
-- The rule: an instant is open if the wall clock of the business shows an opening time at that instant. Hours therefore
-- stay local across a change of daylight saving time, an hour that the clock skips does not exist, and an hour that it
-- repeats is open in both passes. sql/time-zones.md has worked examples. Special hours replace the weekly hours of
-- their owner on whole local dates. Closures are instants.
--
-- The functions take many owners of hours at once, because a pool may have hundreds of resources and is checked under
-- the lock: the number of statements does not grow with it.
--
--   p_owner_ids  the owners of hours and closures: resource ids, and '' for the business itself. A resource's hours do
--                not replace those of the business: both apply, and a caller that needs both asks for both

-- Returns whether hours permit a slot.
--
-- Parameters
--   p_hours        the hours of one owner
--   p_closed       its closures
--   p_hours_apply  'throughout': the whole slot lies within the hours; 'ends': it starts while they are open and ends
--                  while they are open or at the moment when they close. A closure bars every slot that it overlaps
CREATE FUNCTION booking.is_open(p_hours tstzmultirange, p_closed tstzmultirange, p_hours_apply text, p_slot tstzrange)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT NOT p_closed && p_slot AND CASE p_hours_apply
    WHEN 'ends' THEN p_hours @> lower(p_slot)
      AND (p_hours @> upper(p_slot) OR p_hours @> upper(p_slot) - interval '1 microsecond')
    ELSE p_hours @> p_slot END
$$;

-- Returns how the opening hours apply to slots of a service: see booking.is_open.
CREATE FUNCTION booking.hours_apply(p_service booking.services)
RETURNS text LANGUAGE sql IMMUTABLE
AS $$
  SELECT coalesce(
    p_service.hours_apply, CASE WHEN p_service.duration_days IS NULL THEN 'throughout' ELSE 'ends' END)
$$;

-- Returns the owners whose hours and closures permit a slot, in order. NULL if that depends on hours and the server
-- does not know the time zone of the business.
--
--   p_slot  finite bounds
--
-- An owner without hours is always open, which is the usual case and takes one statement; hours take a second one. Of a
-- long slot whose ends only have to lie within the hours, those in between are not read: a year costs as little as a
-- night.
CREATE FUNCTION booking.open_during(p_business_id text, p_owner_ids text[], p_slot tstzrange, p_hours_apply text)
RETURNS text[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_open text[];
  v_with_hours text[];
  v_timezone text;
BEGIN
  SELECT coalesce(array_agg(owner.id ORDER BY owner.id) FILTER (WHERE NOT owner.has_hours), '{}'),
         array_agg(owner.id) FILTER (WHERE owner.has_hours)
  INTO v_open, v_with_hours
  FROM booking.hours_owners(p_business_id, p_owner_ids, p_slot) AS owner
  LEFT JOIN LATERAL (
    SELECT * FROM booking.closures_during(p_business_id, owner.id, p_slot) LIMIT 1
  ) AS closure ON true
  WHERE closure.during IS NULL;
  IF v_with_hours IS NULL THEN
    RETURN v_open;
  END IF;
  v_timezone := booking.timezone_of(p_business_id);
  IF v_timezone IS NULL THEN
    RETURN NULL;
  ELSIF p_hours_apply = 'ends' AND upper(p_slot) - lower(p_slot) > interval '7 days' THEN
    RETURN ARRAY(
      SELECT unnest(v_open)
      UNION ALL (
        SELECT period.owner_id
        FROM unnest(ARRAY[
          tstzrange(lower(p_slot), lower(p_slot), '[]'),
          tstzrange(upper(p_slot) - interval '1 microsecond', upper(p_slot), '[]')]) AS part
        CROSS JOIN LATERAL booking.open_hours(p_business_id, v_timezone, v_with_hours, part) AS period
        WHERE period.hours && part
        GROUP BY period.owner_id HAVING count(*) = 2)
      ORDER BY 1);
  END IF;
  RETURN ARRAY(
    SELECT unnest(v_open)
    UNION ALL
    SELECT period.owner_id
    FROM booking.open_hours(p_business_id, v_timezone, v_with_hours, p_slot) AS period
    WHERE booking.is_open(period.hours, '{}', p_hours_apply, p_slot)
    ORDER BY 1);
END
$$;

-- Returns each owner, and whether it has weekly hours, or special hours on a date that may lie within p_during (a local
-- date begins at most a day before or after that of UTC).
CREATE FUNCTION booking.hours_owners(p_business_id text, p_owner_ids text[], p_during tstzrange)
RETURNS TABLE (id text, has_hours boolean) LANGUAGE sql STABLE
AS $$
  SELECT owner.id, weekly.weekday IS NOT NULL
    OR coalesce(special.first_date <= (upper(p_during) AT TIME ZONE 'UTC')::date + 1, false)
  FROM unnest(p_owner_ids) AS owner (id)
  LEFT JOIN LATERAL (
    -- Ordered by its index, so that the planner cannot choose another one (sql/README.md). So are the next ones.
    SELECT h.weekday FROM booking.opening_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner.id
    ORDER BY h.weekday LIMIT 1
  ) AS weekly ON true
  LEFT JOIN LATERAL (
    SELECT h.first_date FROM booking.special_hours h
    WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner.id
      AND h.last_date >= (lower(p_during) AT TIME ZONE 'UTC')::date - 1
    ORDER BY h.last_date LIMIT 1
  ) AS special ON true
$$;

-- Returns the special hours of one owner on dates from p_first to p_last. Their dates do not overlap, so none after the
-- first of them that ends on p_last or later can begin by then: those are not read.
CREATE FUNCTION booking.special_hours_during(p_business_id text, p_owner_id text, p_first date, p_last date)
RETURNS SETOF booking.special_hours LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.special_hours h
  WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = p_owner_id
    AND h.last_date >= p_first AND h.first_date <= p_last AND h.last_date <= coalesce((
      SELECT later.last_date FROM booking.special_hours later
      WHERE later.business_id = p_business_id AND coalesce(later.resource_id, '') = p_owner_id
        AND later.last_date >= p_last
      ORDER BY later.last_date LIMIT 1), p_last)
  ORDER BY h.last_date
$$;

-- Returns the hours of each owner on local dates, from p_first to p_last: those of its special hours for that date, else
-- those of its week, else the whole day if it has no weekly hours. A date on which it is closed has no row.
CREATE FUNCTION booking.local_hours(p_business_id text, p_owner_ids text[], p_first date, p_last date)
RETURNS TABLE (owner_id text, day date, opens time, closes time) LANGUAGE sql STABLE
AS $$
  SELECT owner.id, p_first + entry.nth, entry.opens, entry.closes
  FROM unnest(p_owner_ids) AS owner (id)
  CROSS JOIN (SELECT extract(isodow FROM p_first)::integer AS of_first OFFSET 0) AS weekday
  CROSS JOIN LATERAL (
    SELECT ARRAY(
      SELECT h FROM booking.opening_hours h
      WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner.id
        AND (h.weekday + 7 - weekday.of_first) % 7 <= p_last - p_first
      ORDER BY h.weekday) AS week, ARRAY(
      SELECT h FROM booking.special_hours_during(p_business_id, owner.id, p_first, p_last) AS h) AS specials OFFSET 0
  ) AS known
  CROSS JOIN LATERAL (
    SELECT coalesce(range_agg(daterange(h.first_date, h.last_date, '[]')), '{}') AS dates
    FROM unnest(known.specials) AS h
  ) AS special
  CROSS JOIN LATERAL (
    SELECT nth, h.opens, h.closes
    FROM unnest(known.week) AS h
    CROSS JOIN LATERAL generate_series((h.weekday + 7 - weekday.of_first) % 7, p_last - p_first, 7) AS nth
    WHERE NOT special.dates @> p_first + nth
    UNION ALL
    SELECT nth, '00:00', '24:00' FROM generate_series(0, p_last - p_first) AS nth
    WHERE known.week = '{}' AND NOT special.dates @> p_first + nth AND (
      SELECT h.weekday FROM booking.opening_hours h
      WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = owner.id
      ORDER BY h.weekday LIMIT 1) IS NULL
    UNION ALL
    SELECT nth, hours.opens, hours.closes
    FROM unnest(known.specials) AS h
    CROSS JOIN LATERAL generate_series(
      greatest(h.first_date, p_first) - p_first, least(h.last_date, p_last) - p_first) AS nth
    CROSS JOIN LATERAL unnest(h.opens, h.closes) AS hours (opens, closes)
  ) AS entry
$$;

-- Returns when owners with hours are open by them, each that is open at some time. Exact within p_during, which is
-- finite, and at its bounds; not to be read elsewhere. Adjacent hours are joined: 09:00–24:00 and 00:00–02:00 of the
-- next day are one period.
--
--   p_timezone  the time zone of the business, known to this server
CREATE FUNCTION booking.open_hours(p_business_id text, p_timezone text, p_owner_ids text[], p_during tstzrange)
RETURNS TABLE (owner_id text, hours tstzmultirange) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  -- One more day on either side is tried, because the clock may be set back at midnight.
  v_first date := (lower(p_during) AT TIME ZONE p_timezone)::date - 1;
  v_last date := (upper(p_during) AT TIME ZONE p_timezone)::date + 1;
BEGIN
  RETURN QUERY
  SELECT entry.owner_id, range_agg(phase.during * tstzrange(
    (entry.day + entry.opens - phase.utc_offset) AT TIME ZONE 'UTC',
    (entry.day + entry.closes - phase.utc_offset) AT TIME ZONE 'UTC'))
  FROM booking.clock_phases(p_timezone, lower(p_during), upper(p_during)) AS phase
  -- The dates that the clock shows in this phase; in the first and the last one all others, too.
  CROSS JOIN LATERAL (
    SELECT greatest(v_first, (lower(phase.during) AT TIME ZONE 'UTC' + phase.utc_offset)::date) AS first,
           least(v_last, (upper(phase.during) AT TIME ZONE 'UTC' + phase.utc_offset)::date) AS last OFFSET 0
  ) AS shown
  CROSS JOIN LATERAL booking.local_hours(p_business_id, p_owner_ids, shown.first, shown.last) AS entry
  GROUP BY entry.owner_id;
END
$$;

-- Returns when each owner is open by its hours, and its closures. Exact as booking.open_hours.
CREATE FUNCTION booking.open_periods(p_business_id text, p_owner_ids text[], p_during tstzrange)
RETURNS TABLE (owner_id text, hours tstzmultirange, closed tstzmultirange) LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text := (SELECT b.timezone FROM booking.businesses b WHERE b.business_id = p_business_id);
  v_with_hours text[] := ARRAY(
    SELECT owner.id FROM booking.hours_owners(p_business_id, p_owner_ids, p_during) AS owner WHERE owner.has_hours);
BEGIN
  RETURN QUERY
  SELECT owner.id,
         CASE WHEN owner.id = ANY (v_with_hours) THEN coalesce(by_hours.hours, '{}') ELSE '{(,)}' END,
         coalesce((
           SELECT range_agg(closure.during)
           FROM booking.closures_during(p_business_id, owner.id, p_during) AS closure), '{}')
  FROM unnest(p_owner_ids) AS owner (id)
  LEFT JOIN booking.open_hours(p_business_id, v_timezone, v_with_hours, p_during) AS by_hours
    ON by_hours.owner_id = owner.id;
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
