-- Reads of the catalog. They leave out archived services and resources, and the hours and closures of archived
-- resources, which return together with their resource. Each function returns entries named by their columns, in the
-- order of the API's lists; no rows if the business or the entry does not exist. They take no lock.

-- Returns one business.
CREATE FUNCTION booking.business(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$ SELECT to_jsonb(b) FROM booking.businesses b WHERE b.business_id = p_business_id $$;

-- Returns all businesses, by id.
CREATE FUNCTION booking.businesses()
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$ SELECT to_jsonb(b) FROM booking.businesses b ORDER BY b.business_id $$;

-- Returns the services of a business by id, each with its pool; with p_service_id only that one.
CREATE FUNCTION booking.services(p_business_id text, p_service_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT to_jsonb(s) - '{longest_occupied_seconds,created_at,archived_at}'::text[]
    || jsonb_build_object('resource_ids', ARRAY(
    SELECT m.resource_id FROM booking.members(s.business_id, s.service_id) AS m ORDER BY m.resource_id))
  FROM booking.services s
  WHERE s.business_id = p_business_id
    AND (p_service_id IS NULL OR s.service_id = p_service_id) AND s.archived_at IS NULL
  ORDER BY s.service_id
$$;

-- Returns the resources of a business by id; with p_resource_id only that one.
CREATE FUNCTION booking.resources(p_business_id text, p_resource_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT to_jsonb(r) - '{longest_occupied_seconds,created_at,archived_at}'::text[]
  FROM booking.resources r
  WHERE r.business_id = p_business_id
    AND (p_resource_id IS NULL OR r.resource_id = p_resource_id) AND r.archived_at IS NULL
  ORDER BY r.resource_id
$$;

-- Returns the opening hours of a business and then those of its resources, by weekday; opens and closes as HH:MM.
CREATE FUNCTION booking.opening_hours(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'business_id', o.business_id, 'weekday', o.weekday, 'opens', to_char(o.opens, 'HH24:MI'),
    'closes', to_char(o.closes, 'HH24:MI'), 'resource_id', o.resource_id)
  FROM booking.opening_hours o
  WHERE o.business_id = p_business_id AND NOT booking.is_archived(p_business_id, o.resource_id)
  ORDER BY o.resource_id NULLS FIRST, o.weekday, o.opens, o.closes
$$;

-- Returns the closures of a business and of its resources, by their start; with p_closure_id only that one.
CREATE FUNCTION booking.closures(p_business_id text, p_closure_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'business_id', c.business_id, 'closure_id', c.closure_id, 'from', lower(c.during), 'to', upper(c.during),
    'resource_id', c.resource_id, 'reason', c.reason)
  FROM booking.closures c
  WHERE c.business_id = p_business_id AND (p_closure_id IS NULL OR c.closure_id = p_closure_id)
    AND NOT booking.is_archived(p_business_id, c.resource_id)
  ORDER BY lower(c.during), c.closure_id
$$;
