-- Calendar feeds: the appointments of a business or a resource for a calendar program.

-- Returns the feeds of a business: first that of the business (resource_id NULL), then one for each of its resources,
-- by id. No rows if the business does not exist.
--
--   name        of the business or the resource
--   generation  part of the input of the feeds' keys; see booking.rotate_calendar
CREATE FUNCTION booking.calendars(p_business_id text)
RETURNS TABLE (resource_id text, name text, generation text) LANGUAGE sql STABLE
AS $$
  SELECT NULL, b.name, b.calendar_generation FROM booking.businesses b WHERE b.business_id = p_business_id
  UNION ALL
  SELECT r.resource_id, r.name, r.calendar_generation FROM booking.resources r
  WHERE r.business_id = p_business_id AND r.archived_at IS NULL
  ORDER BY 1 NULLS FIRST
$$;

-- Returns the time zone of a business, and the time that its feeds cover. No row if the business does not exist.
--
--   since   the setting feed_past_days before now: appointments that ended before are in no feed
--   starts  no appointment of a feed begins before this instant, because it would be longer than any was
--   ends    no appointment ends after this instant
CREATE FUNCTION booking.feed_span(p_business_id text)
RETURNS TABLE (timezone text, since timestamptz, starts timestamptz, ends timestamptz) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_longest interval := booking.longest_claim(p_business_id);
BEGIN
  RETURN QUERY
  SELECT b.timezone, past.since, past.since - v_longest, greatest(v_now, last.slot_start + v_longest)
  FROM booking.businesses b
  CROSS JOIN LATERAL (SELECT v_now - make_interval(hours => 24 * b.feed_past_days) AS since) AS past
  LEFT JOIN LATERAL (
    SELECT a.slot_start FROM booking.appointments a WHERE a.business_id = p_business_id
    ORDER BY a.business_id DESC, a.slot_start DESC, a.appointment_id DESC LIMIT 1) AS last ON true
  WHERE b.business_id = p_business_id;
END
$$;

-- Returns a page of the business's appointments by start and id, for a feed. The body of those that are not in the feed
-- is NULL: cancelled and missed ones, and those of other resources.
--
--   p_resource_id  only this resource; NULL: all
--   p_since        only what ends after this instant
--   p_after_start, p_after_id  the last row of the page before; NULL: the first page
--   p_limit        rows, with those that have no body: it bounds the work of a page. Fewer rows: there are no more
CREATE FUNCTION booking.calendar_feed(
  p_business_id text, p_resource_id text, p_since timestamptz, p_after_start timestamptz, p_after_id uuid,
  p_limit integer)
RETURNS TABLE (slot_start timestamptz, appointment_id uuid, body jsonb) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_after_start timestamptz := coalesce(p_after_start, p_since - booking.longest_claim(p_business_id));
  v_after_id uuid := coalesce(p_after_id, '00000000-0000-0000-0000-000000000000');
BEGIN
  RETURN QUERY
  SELECT a.slot_start, a.appointment_id,
    CASE WHEN a.slot_end > p_since AND a.status IN ('confirmed', 'completed')
      AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    THEN jsonb_build_object(
      'appointment_id', a.appointment_id, 'slot_start', a.slot_start, 'slot_end', a.slot_end, 'quantity', a.quantity,
      'version', a.version, 'guest_name', a.guest_name, 'guest_email', a.guest_email, 'guest_phone', a.guest_phone,
      'notes', a.notes, 'updated_at', a.updated_at,
      'service_name', (
        SELECT s.name FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = a.service_id),
      'resource_name', (
        SELECT r.name FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = a.resource_id))
    END
  FROM booking.appointments a
  WHERE a.business_id = p_business_id AND (a.slot_start, a.appointment_id) > (v_after_start, v_after_id)
  ORDER BY a.slot_start, a.appointment_id
  LIMIT p_limit;
END
$$;

-- Invalidates the keys of all feeds of a business: the generations that they are derived from get new random values.
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
  UPDATE booking.businesses b SET calendar_generation = DEFAULT WHERE b.business_id = p_business_id;
  UPDATE booking.resources r SET calendar_generation = DEFAULT WHERE r.business_id = p_business_id;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
