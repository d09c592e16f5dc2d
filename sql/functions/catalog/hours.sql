-- The catalog: opening hours and closures. Outcomes and errors as in businesses.sql.

-- Replaces all opening hours of a business and of its resources. None: always open. Those of archived resources stay:
-- they are not in the list that callers read and put back. Body: {items}
--   p_hours  [{weekday, opens, closes, resource_id?}]: weekday 1 (Monday) to 7, opens and closes as HH:MM in the
--            wall-clock time of the business
-- Refusals: business_not_found; resource_unknown; body: {position, resource_id}: the first of the list, from 0,
-- whose resource is not there, or archived
CREATE FUNCTION booking.put_opening_hours(p_business_id text, p_hours jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_missing jsonb;
  v_kept integer;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT jsonb_build_object('position', listed.position - 1, 'resource_id', listed.entry ->> 'resource_id')
  INTO v_missing
  FROM jsonb_array_elements(p_hours) WITH ORDINALITY AS listed (entry, position)
  WHERE listed.entry ->> 'resource_id' IS NOT NULL
    AND booking.missing_resource(p_business_id, jsonb_build_array(listed.entry -> 'resource_id')) IS NOT NULL
  ORDER BY listed.position LIMIT 1;
  IF FOUND THEN
    RETURN (NULL, 'resource_unknown', v_missing)::booking.outcome;
  END IF;

  DELETE FROM booking.opening_hours o
  WHERE o.business_id = p_business_id AND NOT booking.is_archived(p_business_id, o.resource_id);
  SELECT coalesce(max(o.position), 0) INTO v_kept FROM booking.opening_hours o WHERE o.business_id = p_business_id;
  INSERT INTO booking.opening_hours (business_id, position, resource_id, weekday, opens, closes)
  SELECT p_business_id, v_kept + listed.position, listed.entry ->> 'resource_id', (listed.entry ->> 'weekday')::integer,
         (listed.entry ->> 'opens')::time, (listed.entry ->> 'closes')::time
  FROM jsonb_array_elements(p_hours) WITH ORDINALITY AS listed (entry, position);
  RETURN (NULL, 'done', (
    SELECT jsonb_build_object('items', coalesce(jsonb_agg(entry), '[]'))
    FROM booking.opening_hours(p_business_id) AS entry))::booking.outcome;
END
$$;

-- Makes a closure or replaces it.
--   p_from, p_to   instants; it is closed from the one until before the other
--   p_resource_id  closes this resource alone; NULL: the business
--   p_reason       for the business's own people, or NULL
-- Refusals: business_not_found; resource_unknown, also where it is archived; validation_failed; body: {field, message},
-- where the id is that of a closure of an archived resource, which is back when the resource is
CREATE FUNCTION booking.put_closure(
  p_business_id text, p_closure_id text, p_from timestamptz, p_to timestamptz, p_resource_id text, p_reason text,
  p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_old booking.closures;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  IF p_resource_id IS NOT NULL
    AND booking.missing_resource(p_business_id, jsonb_build_array(p_resource_id)) IS NOT NULL THEN
    RETURN (NULL, 'resource_unknown', NULL)::booking.outcome;
  END IF;

  SELECT * INTO v_old FROM booking.closures c WHERE c.business_id = p_business_id AND c.closure_id = p_closure_id;
  IF booking.is_archived(p_business_id, v_old.resource_id) THEN
    RETURN booking.invalid('closure_id', 'is that of a closure of an archived resource: choose another one');
  END IF;
  INSERT INTO booking.closures (business_id, closure_id, resource_id, during, reason)
  VALUES (p_business_id, p_closure_id, p_resource_id, tstzrange(p_from, p_to), p_reason)
  ON CONFLICT ON CONSTRAINT closures_pkey DO UPDATE
  SET resource_id = excluded.resource_id, during = excluded.during, reason = excluded.reason;
  RETURN (NULL, CASE WHEN v_old.closure_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.closures(p_business_id, p_closure_id)))::booking.outcome;
END
$$;

-- Takes a closure off the catalog; not one of an archived resource, which is not in it.
-- Refusals: closure_not_found
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
