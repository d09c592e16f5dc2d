-- Reads of the catalog. All but one leave out archived services and resources, and the hours and closures of archived
-- resources, which return together with their resource. Each function returns entries named by their columns, in the
-- order of the API's lists; no rows if the business or the entry does not exist. They take no lock.

-- Returns one business.
CREATE FUNCTION booking.business(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$ SELECT to_jsonb(b) - 'calendar_generation' FROM booking.businesses b WHERE b.business_id = p_business_id $$;

-- Returns the businesses that public calls name, by id or by slug: one row for each name, with NULL for the name of
-- none. An id precedes an equal slug of another business, which a database may have from before that was refused.
CREATE FUNCTION booking.businesses_named(p_names text[])
RETURNS TABLE (name text, business_id text) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN QUERY
  SELECT given.name, coalesce(
    (SELECT b.business_id FROM booking.businesses b WHERE b.business_id = given.name),
    (SELECT s.business_id FROM booking.slugs s WHERE s.slug = given.name))
  FROM unnest(p_names) AS given (name);
END
$$;

-- Returns all businesses, by id.
CREATE FUNCTION booking.businesses()
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$ SELECT to_jsonb(b) - 'calendar_generation' FROM booking.businesses b ORDER BY b.business_id $$;

-- Returns the services of a business by id, each with its pool; with p_service_id only that one. resource_ids are those
-- of booking.listed_pool, archived_resource_ids all archived ones.
CREATE FUNCTION booking.services(p_business_id text, p_service_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT to_jsonb(s) - '{longest_occupied_seconds,created_at,archived_at}'::text[] || jsonb_build_object(
    'start_times', (
      SELECT jsonb_agg(to_char(start, 'HH24:MI') ORDER BY start) FROM unnest(s.start_times) AS start),
    'end_time', to_char(s.end_time, 'HH24:MI'),
    'resource_ids', pool.listed,
    'archived_resource_ids', pool.archived)
  FROM booking.services s
  CROSS JOIN LATERAL booking.listed_pool(s.business_id, s.service_id) AS pool
  WHERE s.business_id = p_business_id
    AND (p_service_id IS NULL OR s.service_id = p_service_id) AND s.archived_at IS NULL
  ORDER BY s.service_id
$$;

-- Returns the pool of a service as the catalog lists it.
--
--   listed    the live resources or, if none is left, the archived ones: the service then needs a resource that it does
--             not have
--   archived  all archived ones
--   hidden    the archived ones that are not listed
CREATE FUNCTION booking.listed_pool(
  p_business_id text, p_service_id text, OUT listed text[], OUT archived text[], OUT hidden text[])
LANGUAGE sql STABLE
AS $$
  SELECT CASE WHEN pool.live = '{}' THEN pool.archived ELSE pool.live END, pool.archived,
         CASE WHEN pool.live = '{}' THEN '{}' ELSE pool.archived END
  FROM (
    SELECT coalesce(array_agg(m.resource_id ORDER BY m.resource_id) FILTER (WHERE NOT m.is_archived), '{}') AS live,
           coalesce(array_agg(m.resource_id ORDER BY m.resource_id) FILTER (WHERE m.is_archived), '{}') AS archived
    FROM (
      -- A join: booking.is_archived takes ten times as long for each resource.
      SELECT r.resource_id, r.archived_at IS NOT NULL AS is_archived
      FROM booking.service_resources p
      JOIN booking.resources r ON r.business_id = p_business_id AND r.resource_id = p.resource_id
      WHERE p.business_id = p_business_id AND p.service_id = p_service_id
    ) AS m
  ) AS pool
$$;

-- Returns the resources of a business by id; with p_resource_id only that one.
CREATE FUNCTION booking.resources(p_business_id text, p_resource_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT to_jsonb(r) - '{longest_occupied_seconds,last_assigned_at,created_at,archived_at,calendar_generation}'::text[]
  FROM booking.resources r
  WHERE r.business_id = p_business_id
    AND (p_resource_id IS NULL OR r.resource_id = p_resource_id) AND r.archived_at IS NULL
  ORDER BY r.resource_id
$$;

-- Returns the names of the archived services and resources of a business, by their ids.
CREATE FUNCTION booking.archived_names(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'services', (
      SELECT coalesce(jsonb_object_agg(s.service_id, s.name), '{}') FROM booking.services s
      WHERE s.business_id = p_business_id AND s.archived_at IS NOT NULL),
    'resources', (
      SELECT coalesce(jsonb_object_agg(r.resource_id, r.name), '{}') FROM booking.resources r
      WHERE r.business_id = p_business_id AND r.archived_at IS NOT NULL))
  FROM booking.businesses b WHERE b.business_id = p_business_id
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

-- Returns the closures of a business and of its resources, by their start; with p_closure_id only that one. A closure has
-- `from` and `to`, or `date` and `until`, as it was put; `until` is NULL for a single date.
CREATE FUNCTION booking.closures(p_business_id text, p_closure_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'business_id', c.business_id, 'closure_id', c.closure_id,
    'from', CASE WHEN c.first_date IS NULL THEN lower(c.during) END,
    'to', CASE WHEN c.first_date IS NULL THEN upper(c.during) END,
    'date', c.first_date, 'until', nullif(c.last_date, c.first_date),
    'resource_id', c.resource_id, 'reason', c.reason)
  FROM booking.closures c
  WHERE c.business_id = p_business_id AND (p_closure_id IS NULL OR c.closure_id = p_closure_id)
    AND NOT booking.is_archived(p_business_id, c.resource_id)
  ORDER BY lower(c.during), c.closure_id
$$;

-- Returns the special hours of a business and of its resources, by their first date; with p_special_hours_id only
-- those. `until` is NULL for a single date.
CREATE FUNCTION booking.special_hours(p_business_id text, p_special_hours_id text DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'business_id', h.business_id, 'special_hours_id', h.special_hours_id, 'date', h.first_date,
    'until', nullif(h.last_date, h.first_date), 'hours', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
        'opens', to_char(entry.opens, 'HH24:MI'), 'closes', to_char(entry.closes, 'HH24:MI')) ORDER BY entry.opens), '[]')
      FROM unnest(h.opens, h.closes) AS entry (opens, closes)),
    'resource_id', h.resource_id, 'name', h.name)
  FROM booking.special_hours h
  WHERE h.business_id = p_business_id AND (p_special_hours_id IS NULL OR h.special_hours_id = p_special_hours_id)
    AND NOT booking.is_archived(p_business_id, h.resource_id)
  ORDER BY h.first_date, h.special_hours_id
$$;

-- Returns the time zones of businesses that this server does not know, each with its number of businesses.
CREATE FUNCTION booking.unknown_timezones()
RETURNS TABLE (timezone text, businesses bigint) LANGUAGE sql STABLE
AS $$
  SELECT used.timezone, used.businesses
  FROM (SELECT b.timezone, count(*) AS businesses FROM booking.businesses b GROUP BY b.timezone) AS used
  WHERE NOT booking.is_timezone(used.timezone)
$$;
