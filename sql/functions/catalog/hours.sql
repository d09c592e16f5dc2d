-- The catalog: opening hours and closures. Outcomes, errors and locks as in businesses.sql.

-- Replaces the opening hours of a business and of all its resources; an empty list means always open. The hours of
-- archived resources stay, because the list that callers read and send back does not contain them. Body: {items}
--
--   p_hours  [{weekday, opens, closes, resource_id?}]: weekday 1 (Monday) to 7; opens and closes as HH:MM in local time
--            of the business, closes at most 24:00
-- Refusals  business_not_found; resource_unknown: body {position, resource_id}, the first entry (from 0) whose resource
--           does not exist or is archived
CREATE FUNCTION booking.put_opening_hours(p_business_id text, p_hours jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_unknown jsonb;
  v_last_position integer;
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT jsonb_build_object('position', item.position - 1, 'resource_id', item.entry ->> 'resource_id')
  INTO v_unknown
  FROM jsonb_array_elements(p_hours) WITH ORDINALITY AS item (entry, position)
  WHERE item.entry ->> 'resource_id' IS NOT NULL
    AND booking.missing_resource(p_business_id, jsonb_build_array(item.entry -> 'resource_id')) IS NOT NULL
  ORDER BY item.position LIMIT 1;
  IF FOUND THEN
    RETURN (NULL, 'resource_unknown', v_unknown)::booking.outcome;
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
    SELECT jsonb_build_object('items', coalesce(jsonb_agg(entry), '[]'))
    FROM booking.opening_hours(p_business_id) AS entry))::booking.outcome;
END
$$;

-- Creates or replaces a closure: a time at which the public cannot book. Existing claims stay.
--
--   p_from, p_to   instants; closed from p_from until just before p_to
--   p_resource_id  closes this resource only; NULL: the business
--   p_reason       shown to the business's own staff; may be NULL
-- Refusals  business_not_found; resource_unknown: it does not exist or is archived; validation_failed: body {field,
--           message}, the id belongs to a closure of an archived resource, which is restored together with its resource
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
    RETURN booking.invalid('closure_id', 'belongs to a closure of an archived resource; choose another id');
  END IF;
  INSERT INTO booking.closures (business_id, closure_id, resource_id, during, reason)
  VALUES (p_business_id, p_closure_id, p_resource_id, tstzrange(p_from, p_to), p_reason)
  ON CONFLICT ON CONSTRAINT closures_pkey DO UPDATE
  SET resource_id = excluded.resource_id, during = excluded.during, reason = excluded.reason;
  RETURN (NULL, CASE WHEN v_old.closure_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.closures(p_business_id, p_closure_id)))::booking.outcome;
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
