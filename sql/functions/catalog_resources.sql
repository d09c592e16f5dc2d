-- The catalog: resources. Outcomes and errors as in catalog_businesses.sql.

-- The first id of a JSON array that is none of the business's resources, or that of an archived one; NULL if all are
-- there. The caller has the lock of the business, so that none is archived meanwhile.
CREATE OR REPLACE FUNCTION booking.missing_resource(p_business_id text, p_resource_ids jsonb)
RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT wanted.resource_id
  FROM jsonb_array_elements_text(p_resource_ids) WITH ORDINALITY AS wanted (resource_id, position)
  WHERE NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = wanted.resource_id AND r.archived_at IS NULL)
  ORDER BY wanted.position LIMIT 1
$$;

-- Whether a resource is archived; not where there is none, as of what is the business's own. The caller has its lock.
CREATE OR REPLACE FUNCTION booking.is_archived(p_business_id text, p_resource_id text)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NOT NULL)
$$;

-- Makes a resource or replaces its settings; one that was archived is back, with the pools and hours that it had.
--   p_resource  {name, kind, booking_enabled}, complete
-- Refusals: business_not_found
CREATE OR REPLACE FUNCTION booking.put_resource(
  p_business_id text, p_resource_id text, p_resource jsonb, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_is_new boolean;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  v_is_new := NOT EXISTS (
    SELECT FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id);
  INSERT INTO booking.resources (business_id, resource_id, name, kind, booking_enabled, created_at)
  VALUES (p_business_id, p_resource_id, p_resource ->> 'name', p_resource ->> 'kind',
          (p_resource ->> 'booking_enabled')::boolean, v_now)
  ON CONFLICT ON CONSTRAINT resources_pkey DO UPDATE
  SET name = excluded.name, kind = excluded.kind, booking_enabled = excluded.booking_enabled, archived_at = NULL;
  RETURN (NULL, CASE WHEN v_is_new THEN 'created' ELSE 'done' END, (
    SELECT booking.resources(p_business_id, p_resource_id)))::booking.outcome;
END
$$;

-- Takes a resource off the catalog. One that was ever held or booked, or that is in a pool or has hours or closures,
-- is archived: nothing new is given to it. It stays in its pools, so that a service that is only ever booked
-- together with a resource does not become one that is booked without.
-- Refusals: resource_not_found
CREATE OR REPLACE FUNCTION booking.delete_resource(p_business_id text, p_resource_id text, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
BEGIN
  IF NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id AND r.archived_at IS NULL) THEN
    RETURN (NULL, 'resource_not_found', NULL)::booking.outcome;
  END IF;
  IF EXISTS (SELECT FROM booking.reservations r WHERE r.business_id = p_business_id AND r.resource_id = p_resource_id)
    OR EXISTS (SELECT FROM booking.appointments a WHERE a.business_id = p_business_id AND a.resource_id = p_resource_id)
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
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
