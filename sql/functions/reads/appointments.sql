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

-- Returns a page of the business's appointments, by start and then by id.
--
-- Parameters
--   p_from, p_to      the slot starts in [p_from, p_to) or, with p_overlapping, overlaps it. Either may be NULL if
--                     p_updated_since, p_guest_email or p_guest_phone is given: no bound
--   p_updated_since   changed at this instant or later, in milliseconds
--   p_resource_id, p_service_id, p_status, p_guest_email, p_guest_phone  only these; NULL: all
--   p_after_start, p_after_id  the last appointment of the page before; NULL: the first page
--   p_limit           rows
--
-- Each of the three ways to look for appointments has its index: by guest, by change, by slot.
CREATE FUNCTION booking.list_appointments(
  p_business_id text, p_from timestamptz, p_to timestamptz, p_overlapping boolean, p_updated_since timestamptz,
  p_resource_id text, p_service_id text, p_status text, p_guest_email text, p_guest_phone text,
  p_after_start timestamptz, p_after_id uuid, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN QUERY
  SELECT booking.appointment_body(a)
  FROM (
    SELECT * FROM booking.appointments_of_email(p_business_id, p_guest_email) WHERE p_guest_email IS NOT NULL
    UNION ALL
    SELECT * FROM booking.appointments_of_phone(p_business_id, p_guest_phone)
    WHERE p_guest_email IS NULL AND p_guest_phone IS NOT NULL
    UNION ALL
    SELECT * FROM booking.changed_appointments(p_business_id, p_updated_since)
    WHERE num_nonnulls(p_guest_email, p_guest_phone) = 0 AND p_updated_since IS NOT NULL
  ) AS a
  WHERE num_nonnulls(p_guest_email, p_guest_phone, p_updated_since) > 0
    AND (p_guest_email IS NULL OR a.guest_email = p_guest_email)
    AND (p_guest_phone IS NULL OR a.guest_phone = p_guest_phone)
    AND (p_updated_since IS NULL OR a.updated_at >= date_trunc('milliseconds', p_updated_since))
    AND (p_from IS NULL OR CASE WHEN p_overlapping THEN a.slot_end > p_from ELSE a.slot_start >= p_from END)
    AND (p_to IS NULL OR a.slot_start < p_to)
    AND (p_after_start IS NULL OR (a.slot_start, a.appointment_id) > (p_after_start, p_after_id))
    AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    AND (p_service_id IS NULL OR a.service_id = p_service_id)
    AND (p_status IS NULL OR a.status = p_status)
  ORDER BY a.slot_start, a.appointment_id
  LIMIT p_limit;
  IF num_nonnulls(p_guest_email, p_guest_phone, p_updated_since) > 0 THEN
    RETURN;
  END IF;
  RETURN QUERY
  SELECT booking.appointment_body(a)
  FROM booking.appointments_between(p_business_id, greatest(p_after_start, CASE
    WHEN p_overlapping THEN p_from - booking.longest_claim(p_business_id) ELSE p_from END), p_to) AS a
  WHERE (NOT p_overlapping OR a.slot_end > p_from)
    AND (p_after_start IS NULL OR (a.slot_start, a.appointment_id) > (p_after_start, p_after_id))
    AND (p_resource_id IS NULL OR a.resource_id = p_resource_id)
    AND (p_service_id IS NULL OR a.service_id = p_service_id)
    AND (p_status IS NULL OR a.status = p_status)
  LIMIT p_limit;
END
$$;

-- Returns the appointments whose slot starts in [p_from, p_to), in the order of their index.
CREATE FUNCTION booking.appointments_between(p_business_id text, p_from timestamptz, p_to timestamptz)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.slot_start >= p_from AND a.slot_start < p_to
  ORDER BY a.slot_start, a.appointment_id
$$;

-- Returns the appointments whose slot overlaps [p_from, p_to), by start and id.
CREATE FUNCTION booking.overlapping_appointments(p_business_id text, p_from timestamptz, p_to timestamptz)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments_between(
    p_business_id, p_from - booking.longest_claim(p_business_id), p_to) AS a
  WHERE a.slot_end > p_from
$$;

-- Returns the length of the longest window ever claimed in a business.
CREATE FUNCTION booking.longest_claim(p_business_id text)
RETURNS interval LANGUAGE sql STABLE
AS $$
  SELECT make_interval(secs => coalesce(max(s.longest_occupied_seconds), 0))
  FROM booking.services s WHERE s.business_id = p_business_id
$$;

-- Return the appointments of a guest, and those that changed since an instant, in the order of their indexes.
CREATE FUNCTION booking.appointments_of_email(p_business_id text, p_guest_email text)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.guest_email BETWEEN p_guest_email AND p_guest_email
  ORDER BY a.guest_email, a.slot_start
$$;

CREATE FUNCTION booking.appointments_of_phone(p_business_id text, p_guest_phone text)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.guest_phone BETWEEN p_guest_phone AND p_guest_phone
  ORDER BY a.guest_phone, a.slot_start
$$;

CREATE FUNCTION booking.changed_appointments(p_business_id text, p_since timestamptz)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.updated_at >= date_trunc('milliseconds', p_since)
  ORDER BY a.updated_at, a.appointment_id
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
