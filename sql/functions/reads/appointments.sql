-- Reads of appointments. They take no lock and see everything that was committed before they began.

-- Returns the business of an appointment, or NULL. A look-up by the id alone: see booking.business_of_reservation.
CREATE FUNCTION booking.business_of_appointment(p_appointment_id uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
BEGIN
  RETURN (SELECT a.business_id FROM booking.appointments a WHERE a.appointment_id = p_appointment_id);
END
$$;

-- Returns the business that has a slug, or NULL.
CREATE FUNCTION booking.business_of_slug(p_slug text)
RETURNS text LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN (SELECT s.business_id FROM booking.slugs s WHERE s.slug = p_slug);
END
$$;

-- Returns one appointment, or NULL.
CREATE FUNCTION booking.appointment(p_business_id text, p_appointment_id uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off
AS $$
BEGIN
  RETURN (SELECT booking.appointment_body(a) FROM booking.appointment_by_id(p_business_id, p_appointment_id) AS a);
END
$$;

-- Returns a page of the business's calendar: the appointments whose slot starts in [p_from, p_to), by start and then by
-- id.
--
--   p_resource_id, p_status    only these; NULL: all
--   p_after_start, p_after_id  the last appointment of the page before; NULL: the first page
--   p_limit                    rows
CREATE FUNCTION booking.list_appointments(
  p_business_id text, p_from timestamptz, p_to timestamptz, p_resource_id text, p_status text,
  p_after_start timestamptz, p_after_id uuid, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN QUERY
  SELECT booking.appointment_body(a)
  FROM booking.appointments a
  WHERE a.business_id = p_business_id
    AND a.slot_start >= greatest(p_from, p_after_start) AND a.slot_start < p_to
    AND (p_after_start IS NULL OR (a.slot_start, a.appointment_id) > (p_after_start, p_after_id))
    AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    AND (p_status IS NULL OR a.status = p_status)
  ORDER BY a.slot_start, a.appointment_id
  LIMIT p_limit;
END
$$;

-- Returns the audit rows of one appointment by version: {at, actor: {kind, id}, action, version, changes, request_id}.
CREATE FUNCTION booking.audit_trail(p_business_id text, p_appointment_id uuid)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off
AS $$
BEGIN
  RETURN QUERY
  SELECT jsonb_build_object(
    'at', l.at, 'actor', jsonb_build_object('kind', l.actor_kind, 'id', l.actor_id), 'action', l.action,
    'version', l.version, 'changes', l.changes, 'request_id', l.request_id)
  FROM booking.audit_logs l
  WHERE l.business_id = p_business_id AND l.appointment_id = p_appointment_id
  ORDER BY l.appointment_id, l.version;
END
$$;
