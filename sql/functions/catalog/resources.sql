-- The catalog: resources. Outcomes and errors as in businesses.sql.

-- The first id of a JSON array that is none of the business's resources, or that of an archived one; NULL if all are
-- there. The caller has the lock of the business, so that none is archived meanwhile.
CREATE FUNCTION booking.missing_resource(p_business_id text, p_resource_ids jsonb)
RETURNS text LANGUAGE sql STABLE
AS $$
  SELECT wanted.resource_id
  FROM jsonb_array_elements_text(p_resource_ids) WITH ORDINALITY AS wanted (resource_id, position)
  WHERE NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = wanted.resource_id AND r.archived_at IS NULL)
  ORDER BY wanted.position LIMIT 1
$$;

-- Whether a resource is archived; not where there is none, as of what is the business's own. The caller has its lock.
CREATE FUNCTION booking.is_archived(p_business_id text, p_resource_id text)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NOT NULL)
$$;

-- Makes a resource or replaces its settings; one that was archived is back, with the pools and hours that it had.
--   p_resource  {name, kind, booking_enabled, seats?}, complete; without seats it has one
-- Refusals: business_not_found; capacity_in_use, where more is claimed in some window from now on than it would seat;
-- body: {slot_start, slot_end, claimed}, the first such window
CREATE FUNCTION booking.put_resource(p_business_id text, p_resource_id text, p_resource jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_seats integer := coalesce((p_resource ->> 'seats')::integer, 1);
  v_old booking.resources;
  v_in_the_way jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  SELECT * INTO v_old FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  PERFORM booking.end_all_expired(p_business_id, v_now);
  INSERT INTO booking.resources (business_id, resource_id, name, kind, booking_enabled, seats, created_at)
  VALUES (p_business_id, p_resource_id, p_resource ->> 'name', p_resource ->> 'kind',
          (p_resource ->> 'booking_enabled')::boolean, v_seats, v_now)
  ON CONFLICT ON CONSTRAINT resources_pkey DO UPDATE
  SET name = excluded.name, kind = excluded.kind, booking_enabled = excluded.booking_enabled, seats = excluded.seats,
      archived_at = NULL;
  IF v_seats < v_old.seats THEN
    v_in_the_way := booking.first_violation(p_business_id, NULL, p_resource_id);
  END IF;
  IF v_in_the_way IS NOT NULL THEN
    RAISE EXCEPTION 'more is claimed than that' USING ERRCODE = 'HF004'; -- undoes what was written
  END IF;
  RETURN (NULL, CASE WHEN v_old.resource_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.resources(p_business_id, p_resource_id)))::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN
    RETURN (NULL, 'capacity_in_use', v_in_the_way)::booking.outcome;
END
$$;

-- Takes a resource off the catalog. One that was ever held or booked, or that is in a pool or has hours or closures,
-- is archived: nothing new is given to it. It stays in its pools, so that a service that is only ever booked
-- together with a resource does not become one that is booked without.
-- Refusals: resource_not_found; capacity_in_use, where claims without a resource need its seats; body as in
-- put_resource
CREATE FUNCTION booking.delete_resource(p_business_id text, p_resource_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_resource booking.resources;
  v_in_the_way jsonb;
BEGIN
  SELECT * INTO v_resource FROM booking.resources r
  WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'resource_not_found', NULL)::booking.outcome;
  END IF;
  PERFORM booking.end_all_expired(p_business_id, v_now);
  -- It was raised before the first claim, and never lowered.
  IF v_resource.longest_occupied_seconds > 0
    OR EXISTS (
      SELECT FROM booking.service_resources p WHERE p.business_id = p_business_id AND p.resource_id = p_resource_id)
    OR EXISTS (SELECT FROM booking.opening_hours o WHERE o.business_id = p_business_id AND o.resource_id = p_resource_id)
    OR EXISTS (SELECT FROM booking.closures c WHERE c.business_id = p_business_id AND c.resource_id = p_resource_id)
  THEN
    UPDATE booking.resources r SET archived_at = v_now
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  ELSE
    DELETE FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  END IF;
  v_in_the_way := booking.first_violation(p_business_id, NULL, p_resource_id);
  IF v_in_the_way IS NOT NULL THEN
    RAISE EXCEPTION 'more is claimed than that' USING ERRCODE = 'HF004'; -- undoes what was written
  END IF;
  RETURN (NULL, 'done', NULL)::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN
    RETURN (NULL, 'capacity_in_use', v_in_the_way)::booking.outcome;
END
$$;
