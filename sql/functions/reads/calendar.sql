-- Calendar feeds: the appointments of a business or a resource for a calendar program.

-- Returns the feeds of a business: first that of the business (resource_id NULL), then one for each of its resources,
-- by id. No rows if the business does not exist.
--
--   name        of the business or the resource
--   generation  part of the input of the feeds' keys; see booking.rotate_calendar
CREATE FUNCTION booking.calendars(p_business_id text)
RETURNS TABLE (resource_id text, name text, generation integer) LANGUAGE sql STABLE
AS $$
  SELECT NULL, b.name, b.calendar_generation FROM booking.businesses b WHERE b.business_id = p_business_id
  UNION ALL
  SELECT r.resource_id, r.name, b.calendar_generation
  FROM booking.businesses b JOIN booking.resources r ON r.business_id = b.business_id
  WHERE b.business_id = p_business_id AND r.archived_at IS NULL
  ORDER BY 1 NULLS FIRST
$$;

-- Returns the appointments of a feed by start: confirmed and completed ones.
--
--   p_resource_id    only this resource; NULL: all
--   p_past, p_ahead  how far the feed reaches back and ahead of now
--   p_limit          rows. If there are more, upcoming appointments come before past ones, and the nearest of each are
--                    kept
-- The cost depends on the appointments of the business in that time, not on its history.
CREATE FUNCTION booking.calendar_feed(
  p_business_id text, p_resource_id text, p_past interval, p_ahead interval, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN QUERY
  WITH ahead AS MATERIALIZED (
    SELECT * FROM booking.appointments a
    WHERE a.business_id = p_business_id AND a.slot_start >= v_now AND a.slot_start < v_now + p_ahead
      AND a.status IN ('confirmed', 'completed') AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    ORDER BY a.slot_start, a.appointment_id
    LIMIT p_limit
  ), past AS MATERIALIZED (
    SELECT * FROM booking.appointments a
    WHERE a.business_id = p_business_id AND a.slot_start >= v_now - p_past AND a.slot_start < v_now
      AND a.status IN ('confirmed', 'completed') AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    ORDER BY a.slot_start DESC, a.appointment_id DESC
    LIMIT p_limit - (SELECT count(*) FROM ahead)
  )
  SELECT jsonb_build_object(
    'appointment_id', a.appointment_id, 'slot_start', a.slot_start, 'slot_end', a.slot_end, 'quantity', a.quantity,
    'version', a.version, 'guest_name', a.guest_name, 'guest_email', a.guest_email, 'guest_phone', a.guest_phone,
    'notes', a.notes, 'service_name', s.name, 'resource_name', r.name, 'updated_at', a.updated_at)
  FROM (SELECT * FROM past UNION ALL SELECT * FROM ahead) AS a
  JOIN booking.services s ON s.business_id = p_business_id AND s.service_id = a.service_id
  LEFT JOIN booking.resources r ON r.business_id = p_business_id AND r.resource_id = a.resource_id
  ORDER BY a.slot_start, a.appointment_id;
END
$$;

-- Invalidates the keys of all feeds of a business by incrementing the generation that they are derived from.
--
-- Refusals  business_not_found
-- Raises    as booking.lock_business
-- Locks     the business
CREATE FUNCTION booking.rotate_calendar(p_business_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  UPDATE booking.businesses b SET calendar_generation = b.calendar_generation + 1
  WHERE b.business_id = p_business_id;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
