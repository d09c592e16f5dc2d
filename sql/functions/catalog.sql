-- Reads of the catalog. What is archived is not in it, nor are the hours and closures of a resource that is: they are
-- back when the resource is. Each returns the entries by their columns' names, in the order of the lists; none if there
-- is no such business, or no such entry in it. They take no lock.

-- One business.
CREATE OR REPLACE FUNCTION booking.business(p_business_id text)
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$ SELECT booking.business_body(b) FROM booking.businesses b WHERE b.business_id = p_business_id $$;

-- All businesses, by id.
CREATE OR REPLACE FUNCTION booking.businesses()
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$ SELECT booking.business_body(b) FROM booking.businesses b ORDER BY b.business_id $$;

-- A business as the catalog has it.
CREATE OR REPLACE FUNCTION booking.business_body(p_business booking.businesses)
RETURNS jsonb
LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'business_id', p_business.business_id, 'name', p_business.name, 'slug', p_business.slug,
    'timezone', p_business.timezone, 'country', p_business.country)
$$;

-- The services of a business by id, each with its pool; with p_service_id only that one.
CREATE OR REPLACE FUNCTION booking.services(p_business_id text, p_service_id text DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  SELECT to_jsonb(listed) FROM (
    SELECT s.business_id, s.service_id, s.name, s.max_simultaneous_bookings, s.duration_minutes, s.max_duration_minutes,
           s.hold_ttl_minutes, s.max_hold_ttl_minutes, s.max_hold_lifetime_minutes, s.slot_step_minutes,
           s.buffer_before_minutes, s.buffer_after_minutes, s.min_notice_minutes, s.max_advance_days,
           s.cancellation_window_minutes, s.booking_enabled,
           ARRAY(
             SELECT p.resource_id FROM booking.service_resources p
             WHERE p.business_id = p_business_id AND p.service_id = s.service_id
               AND NOT booking.is_archived(p_business_id, p.resource_id)
             ORDER BY p.resource_id) AS resource_ids
    FROM booking.services s
    WHERE s.business_id = p_business_id AND (p_service_id IS NULL OR s.service_id = p_service_id)
      AND s.archived_at IS NULL
  ) AS listed
  ORDER BY listed.service_id
$$;

-- The resources of a business by id; with p_resource_id only that one.
CREATE OR REPLACE FUNCTION booking.resources(p_business_id text, p_resource_id text DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  SELECT jsonb_build_object(
    'business_id', r.business_id, 'resource_id', r.resource_id, 'name', r.name, 'kind', r.kind,
    'booking_enabled', r.booking_enabled)
  FROM booking.resources r
  WHERE r.business_id = p_business_id AND (p_resource_id IS NULL OR r.resource_id = p_resource_id)
    AND r.archived_at IS NULL
  ORDER BY r.resource_id
$$;

-- The opening hours of a business, then those of its resources, through the week; opens and closes as HH:MM.
CREATE OR REPLACE FUNCTION booking.opening_hours(p_business_id text)
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  SELECT jsonb_build_object(
    'business_id', o.business_id, 'weekday', o.weekday, 'opens', to_char(o.opens, 'HH24:MI'),
    'closes', to_char(o.closes, 'HH24:MI'), 'resource_id', o.resource_id)
  FROM booking.opening_hours o
  WHERE o.business_id = p_business_id AND NOT booking.is_archived(p_business_id, o.resource_id)
  ORDER BY o.resource_id NULLS FIRST, o.weekday, o.opens, o.closes
$$;

-- The closures of a business and of its resources, by their beginning; with p_closure_id only that one.
CREATE OR REPLACE FUNCTION booking.closures(p_business_id text, p_closure_id text DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  SELECT jsonb_build_object(
    'business_id', c.business_id, 'closure_id', c.closure_id, 'from', lower(c.during), 'to', upper(c.during),
    'resource_id', c.resource_id, 'reason', c.reason)
  FROM booking.closures c
  WHERE c.business_id = p_business_id AND (p_closure_id IS NULL OR c.closure_id = p_closure_id)
    AND NOT booking.is_archived(p_business_id, c.resource_id)
  ORDER BY lower(c.during), c.closure_id
$$;
