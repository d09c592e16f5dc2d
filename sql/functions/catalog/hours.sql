-- The catalog: opening hours, special hours and closures. Outcomes, errors and locks as in businesses.sql.

-- Replaces the opening hours of a business and of all its resources; an empty list means always open. The hours of
-- archived resources stay, because the list that callers read and send back does not contain them.
--
--   p_hours  [{weekday, opens, closes, resource_id?}]: weekday 1 (Monday) to 7; opens and closes as HH:MM in local time
--            of the business, closes at most 24:00
-- Body      {items, closed_by_own_hours}: the entries, and see booking.closed_by_own_hours
-- Refusals  business_not_found; validation_failed: body of booking.fault, the first entry whose resource does not exist
--           or is archived; its field is the position of the entry (from 0) and resource_id
CREATE FUNCTION booking.put_opening_hours(p_business_id text, p_hours jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_last_position integer;
  v_refusal booking.outcome;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT refusal.* INTO v_refusal
  FROM jsonb_array_elements(p_hours) WITH ORDINALITY AS item (entry, position)
  CROSS JOIN LATERAL booking.unknown_resource(
    p_business_id, item.position - 1 || '.resource_id', item.entry ->> 'resource_id') AS refusal
  ORDER BY item.position LIMIT 1;
  IF FOUND THEN
    RETURN v_refusal;
  END IF;
  v_refusal := booking.over_limit('opening_hours', jsonb_array_length(p_hours) + (
    SELECT count(*) FROM booking.opening_hours o
    WHERE o.business_id = p_business_id AND booking.is_archived(p_business_id, o.resource_id)));
  IF v_refusal.outcome IS NOT NULL THEN
    RETURN v_refusal;
  END IF;

  DELETE FROM booking.opening_hours o
  WHERE o.business_id = p_business_id AND NOT booking.is_archived(p_business_id, o.resource_id);
  SELECT coalesce(max(o.position), 0) INTO v_last_position
  FROM booking.opening_hours o WHERE o.business_id = p_business_id;
  INSERT INTO booking.opening_hours (business_id, position, resource_id, weekday, opens, closes)
  SELECT p_business_id, v_last_position + item.position, item.entry ->> 'resource_id',
         (item.entry ->> 'weekday')::integer, (item.entry ->> 'opens')::time, (item.entry ->> 'closes')::time
  FROM jsonb_array_elements(p_hours) WITH ORDINALITY AS item (entry, position);
  RETURN (NULL, 'done', (
    SELECT jsonb_build_object('items', coalesce(jsonb_agg(entry), '[]'),
      'closed_by_own_hours', booking.closed_by_own_hours(p_business_id))
    FROM booking.opening_hours(p_business_id) AS entry))::booking.outcome;
END
$$;

-- Returns the resources that their own weekly hours close on weekdays on which the business is open, by id:
-- [{resource_id, weekdays}]. A resource with hours on one weekday has none on the others, which its owner may not intend.
CREATE FUNCTION booking.closed_by_own_hours(p_business_id text)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object('resource_id', closed.resource_id, 'weekdays', closed.weekdays)
    ORDER BY closed.resource_id), '[]')
  FROM (
    SELECT own.resource_id, jsonb_agg(weekday ORDER BY weekday) AS weekdays
    FROM (
      SELECT coalesce(array_agg(o.weekday), '{1,2,3,4,5,6,7}') AS weekdays FROM booking.opening_hours o
      WHERE o.business_id = p_business_id AND o.resource_id IS NULL
    ) AS business
    CROSS JOIN (
      SELECT o.resource_id, array_agg(o.weekday) AS weekdays FROM booking.opening_hours o
      WHERE o.business_id = p_business_id AND o.resource_id IS NOT NULL
        AND NOT booking.is_archived(p_business_id, o.resource_id)
      GROUP BY o.resource_id
    ) AS own
    CROSS JOIN generate_series(1, 7) AS weekday
    WHERE weekday = ANY (business.weekdays) AND weekday <> ALL (own.weekdays)
    GROUP BY own.resource_id
  ) AS closed
$$;

-- Creates or replaces a closure: a time at which the public cannot book. Existing claims stay.
--
--   p_closure  {from, to, resource_id?, reason?}: closed from one instant until just before another one; or
--              {date, until?, resource_id?, reason?}: closed on local dates, as YYYY-MM-DD, both included. It closes
--              resource_id only, or the business. reason is shown to the business's own staff
-- Body      the closure, and affected_appointments: those that overlap it, see booking.affected_appointments
-- Refusals  business_not_found; business_misconfigured: dates, but this server does not know the time zone of the
--           business; validation_failed: body of booking.fault, the resource does not exist or is archived, or the id
--           belongs to a closure of an archived resource, which is restored together with its resource
CREATE FUNCTION booking.put_closure(
  p_business_id text, p_closure_id text, p_closure jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_resource_id text := p_closure ->> 'resource_id';
  v_first date := p_closure ->> 'date';
  v_last date := coalesce(p_closure ->> 'until', p_closure ->> 'date');
  v_during tstzrange;
  v_old booking.closures;
  v_refusal booking.outcome;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT * INTO v_refusal FROM booking.unknown_resource(p_business_id, 'resource_id', v_resource_id);
  IF FOUND THEN
    RETURN v_refusal;
  END IF;
  SELECT * INTO v_old FROM booking.closures c WHERE c.business_id = p_business_id AND c.closure_id = p_closure_id;
  IF booking.is_archived(p_business_id, v_old.resource_id) THEN
    RETURN booking.invalid('closure_id', 'id_of_archived');
  END IF;
  v_during := CASE
    WHEN v_first IS NULL THEN tstzrange((p_closure ->> 'from')::timestamptz, (p_closure ->> 'to')::timestamptz)
    ELSE booking.range_of_dates(booking.timezone_of(p_business_id), v_first, v_last) END;
  IF v_during IS NULL THEN
    RETURN (NULL, 'business_misconfigured', NULL)::booking.outcome;
  END IF;
  IF v_old.closure_id IS NULL THEN
    v_refusal := booking.over_limit('closures', (
      SELECT count(*) + 1 FROM booking.closures c WHERE c.business_id = p_business_id));
    IF v_refusal.outcome IS NOT NULL THEN
      RETURN v_refusal;
    END IF;
  END IF;

  INSERT INTO booking.closures (business_id, closure_id, resource_id, during, first_date, last_date, reason)
  VALUES (p_business_id, p_closure_id, v_resource_id, v_during, v_first, v_last, p_closure ->> 'reason')
  ON CONFLICT ON CONSTRAINT closures_pkey DO UPDATE
  SET resource_id = excluded.resource_id, during = excluded.during, first_date = excluded.first_date,
      last_date = excluded.last_date, reason = excluded.reason;
  RETURN (NULL, CASE WHEN v_old.closure_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.closures(p_business_id, p_closure_id)) || jsonb_build_object(
      'affected_appointments', booking.affected_appointments(p_business_id, v_resource_id, v_during, '{}'))
  )::booking.outcome;
END
$$;

-- Deletes a closure. A closure of an archived resource is not in the catalog, and so not found.
--
-- Refusals  closure_not_found
CREATE FUNCTION booking.delete_closure(p_business_id text, p_closure_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.closures c
  WHERE c.business_id = p_business_id AND c.closure_id = p_closure_id
    AND NOT booking.is_archived(p_business_id, c.resource_id);
  RETURN (NULL, CASE WHEN FOUND THEN 'done' ELSE 'closure_not_found' END, NULL)::booking.outcome;
END
$$;

-- Creates or replaces special hours: they replace the weekly hours of their owner on local dates. Existing claims stay.
--
--   p_special_hours  {date, until?, hours: [{opens, closes}], resource_id?, name?}: dates as YYYY-MM-DD, both included;
--                    hours as in put_opening_hours, which may overlap there and here; an empty list closes
-- Body      the special hours, and affected_appointments: those that overlap these dates, and that the hours of the owner
--           do not permit any more; none if the server does not know the time zone of the business
-- Refusals  business_not_found; validation_failed: body of booking.fault, the resource does not exist or is archived,
--           the dates overlap other special hours of the same owner, an entry closes before it opens, or the id belongs
--           to special hours of an archived resource
CREATE FUNCTION booking.put_special_hours(
  p_business_id text, p_special_hours_id text, p_special_hours jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_resource_id text := p_special_hours ->> 'resource_id';
  v_first date := p_special_hours ->> 'date';
  v_last date := coalesce(p_special_hours ->> 'until', p_special_hours ->> 'date');
  v_hours jsonb := p_special_hours -> 'hours';
  v_old booking.special_hours;
  v_other text;
  v_refusal booking.outcome;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT * INTO v_refusal FROM booking.unknown_resource(p_business_id, 'resource_id', v_resource_id);
  IF FOUND THEN
    RETURN v_refusal;
  END IF;
  SELECT * INTO v_old FROM booking.special_hours h
  WHERE h.business_id = p_business_id AND h.special_hours_id = p_special_hours_id;
  IF booking.is_archived(p_business_id, v_old.resource_id) THEN
    RETURN booking.invalid('special_hours_id', 'id_of_archived');
  END IF;
  SELECT h.special_hours_id INTO v_other FROM booking.special_hours h
  WHERE h.business_id = p_business_id AND coalesce(h.resource_id, '') = coalesce(v_resource_id, '')
    AND h.special_hours_id <> p_special_hours_id AND h.last_date >= v_first AND h.first_date <= v_last
  ORDER BY h.last_date LIMIT 1;
  IF FOUND THEN
    RETURN booking.invalid('date', 'dates_taken', jsonb_build_object('specialHoursId', v_other));
  END IF;
  -- The backstop of a check constraint, which cannot compare the elements of arrays: an entry that ends before it begins
  -- is no range, and every request that reads it would fail.
  IF EXISTS (
    SELECT FROM jsonb_array_elements(v_hours) AS entry WHERE (entry ->> 'opens')::time >= (entry ->> 'closes')::time)
  THEN
    RETURN booking.invalid('hours', 'closes_too_early');
  END IF;
  IF v_old.special_hours_id IS NULL THEN
    v_refusal := booking.over_limit('special_hours', (
      SELECT count(*) + 1 FROM booking.special_hours h WHERE h.business_id = p_business_id));
    IF v_refusal.outcome IS NOT NULL THEN
      RETURN v_refusal;
    END IF;
  END IF;

  INSERT INTO booking.special_hours (
    business_id, special_hours_id, resource_id, first_date, last_date, opens, closes, name)
  VALUES (
    p_business_id, p_special_hours_id, v_resource_id, v_first, v_last,
    ARRAY(SELECT (entry ->> 'opens')::time FROM jsonb_array_elements(v_hours) AS entry ORDER BY 1),
    ARRAY(SELECT (entry ->> 'closes')::time FROM jsonb_array_elements(v_hours) AS entry
          ORDER BY (entry ->> 'opens')::time, 1),
    p_special_hours ->> 'name')
  ON CONFLICT ON CONSTRAINT special_hours_pkey DO UPDATE
  SET resource_id = excluded.resource_id, first_date = excluded.first_date, last_date = excluded.last_date,
      opens = excluded.opens, closes = excluded.closes, name = excluded.name;
  RETURN (NULL, CASE WHEN v_old.special_hours_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.special_hours(p_business_id, p_special_hours_id)) || jsonb_build_object(
      'affected_appointments', booking.affected_by_hours(p_business_id, v_resource_id, v_first, v_last))
  )::booking.outcome;
END
$$;

-- Deletes special hours: the weekly hours apply again. Those of an archived resource are not in the catalog, and so not
-- found.
--
-- Refusals  special_hours_not_found
CREATE FUNCTION booking.delete_special_hours(p_business_id text, p_special_hours_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.special_hours h
  WHERE h.business_id = p_business_id AND h.special_hours_id = p_special_hours_id
    AND NOT booking.is_archived(p_business_id, h.resource_id);
  RETURN (NULL, CASE WHEN FOUND THEN 'done' ELSE 'special_hours_not_found' END, NULL)::booking.outcome;
END
$$;

-- Returns the affected appointments of special hours: see booking.put_special_hours.
--
-- Hours are computed date by date, and special hours may be for centuries: so they are computed from now on and up to the
-- last appointment only.
CREATE FUNCTION booking.affected_by_hours(p_business_id text, p_resource_id text, p_first date, p_last date)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_during tstzrange := booking.range_of_dates(booking.timezone_of(p_business_id), p_first, p_last);
  v_longest interval := booking.longest_claim(p_business_id);
  v_from timestamptz := greatest(lower(v_during), booking.now());
  v_to timestamptz := (
    SELECT a.slot_start + v_longest FROM booking.appointments a
    WHERE a.business_id = p_business_id AND a.slot_start < upper(v_during)
    ORDER BY a.slot_start DESC, a.appointment_id DESC LIMIT 1);
BEGIN
  IF (v_from < v_to) IS NOT TRUE THEN -- no appointment overlaps these dates
    RETURN '{"count": 0, "items": []}';
  END IF;
  RETURN booking.affected_appointments(p_business_id, p_resource_id, v_during, (
    SELECT period.hours FROM booking.open_periods(
      p_business_id, ARRAY[coalesce(p_resource_id, '')], tstzrange(v_from - v_longest, v_to)) AS period));
END
$$;

-- Returns the confirmed appointments from now on that overlap a time and lie outside of hours: {count, items:
-- [{appointment_id, service_id, resource_id, slot_start, slot_end, version}]}, the first 100 by start.
--
--   p_resource_id  only those of this resource; NULL: all of the business
--   p_during       NULL: none
--   p_hours        see booking.is_open
CREATE FUNCTION booking.affected_appointments(
  p_business_id text, p_resource_id text, p_during tstzrange, p_hours tstzmultirange)
RETURNS jsonb LANGUAGE sql VOLATILE
AS $$
  SELECT jsonb_build_object('count', count(*), 'items', coalesce(jsonb_agg(jsonb_build_object(
    'appointment_id', a.appointment_id, 'service_id', a.service_id, 'resource_id', a.resource_id,
    'slot_start', a.slot_start, 'slot_end', a.slot_end, 'version', a.version) ORDER BY a.place)
    FILTER (WHERE a.place <= 100), '[]'))
  FROM (
    SELECT hit.*, row_number() OVER (ORDER BY hit.slot_start, hit.appointment_id) AS place
    FROM booking.overlapping_appointments(
      p_business_id, greatest(lower(p_during), booking.now()), upper(p_during)) AS hit
    JOIN booking.services AS s ON s.business_id = hit.business_id AND s.service_id = hit.service_id
    WHERE hit.status = 'confirmed' AND (p_resource_id IS NULL OR hit.resource_id = p_resource_id)
      AND NOT booking.is_open(p_hours, '{}', booking.hours_apply(s), tstzrange(hit.slot_start, hit.slot_end))
  ) AS a
$$;
