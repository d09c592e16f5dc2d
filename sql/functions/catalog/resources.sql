-- The catalog: resources. Outcomes, errors and locks as in businesses.sql.

-- Returns the refusal of a field that names an archived resource, or none of the business; no row if it names another
-- one, or NULL. The caller holds the lock of the business, so that none is archived in the meantime.
CREATE FUNCTION booking.unknown_resource(p_business_id text, p_field text, p_resource_id text)
RETURNS SETOF booking.outcome LANGUAGE sql STABLE
AS $$
  SELECT refusal.*
  FROM booking.invalid(p_field, 'unknown_resource', jsonb_build_object('resourceId', p_resource_id)) AS refusal
  WHERE p_resource_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NULL)
$$;

-- Returns whether a resource is archived; false for NULL (the business itself) and for an id that does not exist. The
-- caller holds the lock of the business, unless it only reads.
CREATE FUNCTION booking.is_archived(p_business_id text, p_resource_id text)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NOT NULL)
$$;

-- Creates a resource or replaces its settings. An archived one is restored, with its pools, hours and closures, and with
-- a new calendar feed.
--
--   p_resource  {name, kind, booking_enabled, seats?, description?, metadata?}, complete; seats is 1 if missing
-- Refusals  business_not_found; capacity_in_use: more is claimed in some window from now on than the new seats allow;
--           body as in booking.check_claims; limit_reached also for one whose hours or pools would be too many to put
CREATE FUNCTION booking.put_resource(p_business_id text, p_resource_id text, p_resource jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_has_fewer_seats boolean := booking.has_fewer_seats(p_business_id, p_resource_id, p_resource);
  v_outcome booking.outcome := booking.over_limit(
    'list', booking.longest_list_with_archived(p_business_id, p_resource_id));
  v_violation jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  ELSIF NOT EXISTS (
    SELECT FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id)
  THEN
    v_outcome := booking.over_limit('resources', (
      SELECT count(*) + 1 FROM booking.resources r WHERE r.business_id = p_business_id));
  END IF;
  IF v_outcome.outcome IS NOT NULL THEN
    RETURN v_outcome;
  END IF;
  v_outcome := booking.write_resource(p_business_id, p_resource_id, p_resource, v_now);
  IF v_has_fewer_seats THEN
    PERFORM booking.check_claims(p_business_id, NULL, p_resource_id, v_now);
  END IF;
  RETURN (NULL, v_outcome.outcome, (SELECT booking.resources(p_business_id, p_resource_id)))::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN -- the writes above are undone
    GET STACKED DIAGNOSTICS v_violation = PG_EXCEPTION_DETAIL;
    RETURN (NULL, 'capacity_in_use', v_violation)::booking.outcome;
END
$$;

-- Returns how many entries the longest list has to which an archived resource comes back when it is restored: the opening
-- hours, if it has some, and its pools. NULL for another resource. The caller holds the lock of the business.
--
-- A document needs no such limit: it restores a resource first, and then puts the lists that it has.
CREATE FUNCTION booking.longest_list_with_archived(p_business_id text, p_resource_id text)
RETURNS bigint LANGUAGE sql STABLE
AS $$
  SELECT greatest((
      SELECT count(*) FROM booking.opening_hours o
      WHERE o.business_id = p_business_id
        AND (o.resource_id = p_resource_id OR NOT booking.is_archived(p_business_id, o.resource_id))
      HAVING bool_or(o.resource_id = p_resource_id)
    ), (
      SELECT max(1 + live.number)
      FROM booking.service_resources p
      CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM booking.service_resources other
        JOIN booking.resources r ON r.business_id = p_business_id AND r.resource_id = other.resource_id
        WHERE other.business_id = p_business_id AND other.service_id = p.service_id AND r.archived_at IS NULL
      ) AS live
      WHERE p.business_id = p_business_id AND p.resource_id = p_resource_id))
  WHERE booking.is_archived(p_business_id, p_resource_id)
$$;

-- Returns whether a resource, archived or not, has more seats than those that it is to be put with. The caller holds the
-- lock of the business.
CREATE FUNCTION booking.has_fewer_seats(p_business_id text, p_resource_id text, p_resource jsonb)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id
      AND r.seats > coalesce((p_resource ->> 'seats')::integer, 1))
$$;

-- Does the work of booking.put_resource without the checks of the limits and of the claims, and returns its outcome without
-- the resource. The caller holds the lock of the business, and checks the claims if booking.has_fewer_seats.
CREATE FUNCTION booking.write_resource(p_business_id text, p_resource_id text, p_resource jsonb, p_now timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_old booking.resources;
BEGIN
  SELECT * INTO v_old FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  INSERT INTO booking.resources (
    business_id, resource_id, name, kind, booking_enabled, seats, description, metadata, created_at)
  VALUES (p_business_id, p_resource_id, p_resource ->> 'name', p_resource ->> 'kind',
          (p_resource ->> 'booking_enabled')::boolean, coalesce((p_resource ->> 'seats')::integer, 1),
          p_resource ->> 'description', nullif(p_resource -> 'metadata', 'null'), p_now)
  ON CONFLICT ON CONSTRAINT resources_pkey DO UPDATE
  SET name = excluded.name, kind = excluded.kind, booking_enabled = excluded.booking_enabled, seats = excluded.seats,
      description = excluded.description, metadata = excluded.metadata, archived_at = NULL,
      -- The feed of a resource that was deleted stays closed: the one that is put may be another person's.
      calendar_generation = CASE WHEN v_old.archived_at IS NULL
        THEN v_old.calendar_generation ELSE excluded.calendar_generation END;
  RETURN (NULL, CASE WHEN v_old.resource_id IS NULL THEN 'created' ELSE 'done' END, NULL)::booking.outcome;
END
$$;

-- Removes a resource from the catalog. It is archived, not deleted, if it was ever claimed, is in a pool, or has hours
-- or closures: it then gets no new claim, but stays in its pools, so that a service that needs a resource does not turn
-- into one that needs none.
--
-- Refusals  resource_not_found; capacity_in_use: claims without a resource need its seats; body as in
--           booking.check_claims
CREATE FUNCTION booking.delete_resource(p_business_id text, p_resource_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_resource booking.resources;
  v_violation jsonb;
BEGIN
  SELECT * INTO v_resource FROM booking.resources r
  WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'resource_not_found', NULL)::booking.outcome;
  END IF;
  -- longest_occupied_seconds is raised with the first claim and never lowered: 0 means never claimed.
  IF v_resource.longest_occupied_seconds > 0
    OR EXISTS (
      SELECT FROM booking.service_resources p WHERE p.business_id = p_business_id AND p.resource_id = p_resource_id)
    OR EXISTS (
      SELECT FROM booking.opening_hours o WHERE o.business_id = p_business_id AND o.resource_id = p_resource_id)
    OR EXISTS (SELECT FROM booking.closures c WHERE c.business_id = p_business_id AND c.resource_id = p_resource_id)
    OR EXISTS (
      SELECT FROM booking.special_hours h WHERE h.business_id = p_business_id AND h.resource_id = p_resource_id)
  THEN
    UPDATE booking.resources r SET archived_at = v_now
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  ELSE
    DELETE FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id;
  END IF;
  PERFORM booking.check_claims(p_business_id, NULL, p_resource_id, v_now);
  RETURN (NULL, 'done', NULL)::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN -- the writes above are undone
    GET STACKED DIAGNOSTICS v_violation = PG_EXCEPTION_DETAIL;
    RETURN (NULL, 'capacity_in_use', v_violation)::booking.outcome;
END
$$;
