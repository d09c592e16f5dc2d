-- The public catalogue: what frontends show of a business. Its members are listed one by one, so that a new column is not
-- public by itself. As in reads.sql, no function takes a lock.

-- Returns the public catalogue of a business, {business, services, resources}; no row if the business does not exist.
--
--   services   those that the public can book, by id: see booking.public_service
--   resources  those that the public can book through one of the services, by id
--
-- Without statistics PostgreSQL expects a pool of one resource, and would compare each place in a pool with each resource
-- of the business: so nested loops are switched off.
CREATE FUNCTION booking.public_catalogue(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
SET enable_nestloop = off
AS $$
  WITH pool AS MATERIALIZED (
    -- All at once: 200 pools of 500 resources, looked up one by one, took three times as long.
    SELECT p.service_id, coalesce(max(r.seats), 0) AS largest,
           coalesce(array_agg(r.resource_id ORDER BY r.resource_id) FILTER (WHERE r.resource_id IS NOT NULL), '{}')
             AS resource_ids
    FROM booking.service_resources p
    LEFT JOIN booking.resources r ON r.business_id = p_business_id AND r.resource_id = p.resource_id
      AND r.booking_enabled AND r.archived_at IS NULL
    WHERE p.business_id = p_business_id
    GROUP BY p.service_id
  ), offered AS MATERIALIZED (
    SELECT s.service_id, pool.resource_ids,
           booking.public_service(s, coalesce(pool.resource_ids, '{}'), pool.largest) AS body
    FROM booking.services s
    LEFT JOIN pool USING (service_id)
    WHERE s.business_id = p_business_id AND s.booking_enabled AND s.archived_at IS NULL
  )
  SELECT jsonb_build_object(
    'business', jsonb_build_object(
      'business_id', b.business_id, 'name', b.name, 'slug', b.slug, 'timezone', b.timezone, 'country', b.country,
      'description', b.description, 'metadata', b.metadata),
    'services', (SELECT coalesce(jsonb_agg(o.body ORDER BY o.service_id), '[]') FROM offered AS o),
    'resources', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
        'resource_id', r.resource_id, 'name', r.name, 'kind', r.kind, 'seats', r.seats, 'description', r.description,
        'metadata', r.metadata) ORDER BY r.resource_id), '[]')
      FROM booking.resources r
      WHERE r.business_id = p_business_id AND r.resource_id IN (SELECT unnest(o.resource_ids) FROM offered AS o)))
  FROM booking.businesses b
  WHERE b.business_id = p_business_id
$$;

-- Returns a service as the public catalogue shows it: with the defaults of the settings that were left out, and NULL for
-- those that do not apply.
--
--   p_resource_ids  the resources of the service that the public can book, by id; '{}' without a pool
--   p_largest       the seats of the largest one; 0 if the pool has none, NULL without a pool
-- Returns  max_quantity: the largest quantity that a claim can have; 0 if the pool has no resource for the public
CREATE FUNCTION booking.public_service(p_service booking.services, p_resource_ids text[], p_largest integer)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'service_id', p_service.service_id,
    'name', p_service.name,
    'description', p_service.description,
    'metadata', p_service.metadata,
    'duration_minutes', p_service.duration_minutes,
    'min_duration_minutes', coalesce(p_service.min_duration_minutes, p_service.duration_minutes),
    'max_duration_minutes', coalesce(p_service.max_duration_minutes, p_service.duration_minutes),
    'duration_days', p_service.duration_days,
    'min_duration_days', coalesce(p_service.min_duration_days, p_service.duration_days),
    'max_duration_days', coalesce(p_service.max_duration_days, p_service.duration_days),
    'start_times', (
      SELECT jsonb_agg(to_char(start, 'HH24:MI') ORDER BY start) FROM unnest(p_service.start_times) AS start),
    'end_time', to_char(p_service.end_time, 'HH24:MI'),
    'slot_step_minutes', CASE WHEN p_service.start_times IS NULL
      THEN coalesce(p_service.slot_step_minutes, p_service.duration_minutes) END,
    'starts_on_grid', p_service.starts_on_grid,
    'min_notice_minutes', p_service.min_notice_minutes,
    'max_advance_days', p_service.max_advance_days,
    'cancellation_window_minutes', p_service.cancellation_window_minutes,
    'reschedule_window_minutes', booking.reschedule_window_minutes(p_service),
    'max_upcoming_per_guest', p_service.max_upcoming_per_guest,
    'hold_ttl_minutes', p_service.hold_ttl_minutes,
    'resource_sharing', p_service.resource_sharing,
    'max_quantity', least(coalesce(p_service.max_simultaneous_bookings, p_largest, 1), p_largest),
    'resource_ids', to_jsonb(p_resource_ids))
$$;
