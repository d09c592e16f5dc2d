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

-- Returns one appointment, or NULL.
CREATE FUNCTION booking.appointment(p_business_id text, p_appointment_id uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off
AS $$
BEGIN
  RETURN (
    SELECT booking.appointment_body(a, s)
    FROM booking.appointment_by_id(p_business_id, p_appointment_id) AS a
    CROSS JOIN LATERAL booking.service_by_id(a.business_id, a.service_id) AS s);
END
$$;

-- Returns a page of the business's appointments: by change if p_updated_since is given, else by start; then by id.
--
-- Parameters
--   p_from, p_to      the slot starts in [p_from, p_to) or, with p_overlapping, overlaps it. NULL: no bound
--   p_updated_since   changed at this instant or later, in milliseconds
--   p_resource_id, p_service_id, p_status, p_guest_email, p_guest_phone  only these; NULL: all
--   p_after_at, p_after_id  the last appointment of the page before: its updated_at if p_updated_since is given, else its
--                     slot_start; and its id. NULL: the first page
--   p_limit           appointments
-- Returns the appointments, fewer than p_limit if their text has more than 480,000 bytes, and at least one; and behind
-- them NULL if there is a next page.
--
-- Each list is a range of one index that begins at the cursor, so a page reads no row of the pages before it. By change,
-- an appointment that is changed between two pages moves behind the cursor: it is listed again as it is now, and none is
-- missed. The other conditions are checked row by row.
CREATE FUNCTION booking.list_appointments(
  p_business_id text, p_from timestamptz, p_to timestamptz, p_overlapping boolean, p_updated_since timestamptz,
  p_resource_id text, p_service_id text, p_status text, p_guest_email text, p_guest_phone text,
  p_after_at timestamptz, p_after_id uuid, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_from timestamptz := coalesce(CASE
    WHEN p_overlapping THEN p_from - booking.longest_claim(p_business_id, p_service_id) ELSE p_from END, '-infinity');
  v_to timestamptz := coalesce(p_to, 'infinity');
  v_ends_after timestamptz := CASE WHEN p_overlapping THEN p_from END;
  -- A list begins after a place of its index. On the first page that is the last possible one before its lower bound.
  v_after_at timestamptz := greatest(
    p_after_at, coalesce(date_trunc('milliseconds', p_updated_since), v_from) - interval '1 microsecond');
  v_after_id uuid := coalesce(p_after_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  v_email text := booking.folded_email(p_guest_email);
  -- One more than the page shows whether there is a next one.
  v_found booking.appointments[];
BEGIN
  IF p_updated_since IS NOT NULL THEN
    v_found := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND (a.updated_at, a.appointment_id) > (v_after_at, v_after_id)
        AND a.slot_start >= v_from AND a.slot_start < v_to
        AND booking.is_wanted(a, v_ends_after, p_resource_id, p_service_id, p_status, p_guest_email, p_guest_phone)
      ORDER BY a.updated_at, a.appointment_id LIMIT p_limit + 1);
  ELSIF p_guest_email IS NOT NULL THEN
    v_found := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND booking.folded_email(a.guest_email) <= v_email
        AND (booking.folded_email(a.guest_email), a.slot_start, a.appointment_id) > (v_email, v_after_at, v_after_id)
        AND (booking.folded_email(a.guest_email), a.slot_start) < (v_email, v_to)
        AND booking.is_wanted(a, v_ends_after, p_resource_id, p_service_id, p_status, NULL, p_guest_phone)
      ORDER BY booking.folded_email(a.guest_email), a.slot_start, a.appointment_id LIMIT p_limit + 1);
  ELSIF p_guest_phone IS NOT NULL THEN
    v_found := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND a.guest_phone <= p_guest_phone
        AND (a.guest_phone, a.slot_start, a.appointment_id) > (p_guest_phone, v_after_at, v_after_id)
        AND (a.guest_phone, a.slot_start) < (p_guest_phone, v_to)
        AND booking.is_wanted(a, v_ends_after, p_resource_id, p_service_id, p_status, NULL, NULL)
      ORDER BY a.guest_phone, a.slot_start, a.appointment_id LIMIT p_limit + 1);
  ELSE
    v_found := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND (a.slot_start, a.appointment_id) > (v_after_at, v_after_id)
        AND a.slot_start < v_to
        AND booking.is_wanted(a, v_ends_after, p_resource_id, p_service_id, p_status, NULL, NULL)
      ORDER BY a.slot_start, a.appointment_id LIMIT p_limit + 1);
  END IF;
  RETURN QUERY
  SELECT CASE WHEN place <= p_limit AND (place = 1 OR bytes <= 480000) THEN body END
  FROM (
    SELECT listed.body, listed.place, octet_length(listed.body::text) AS length,
           sum(octet_length(listed.body::text)) OVER (ORDER BY listed.place) AS bytes
    FROM (
      SELECT booking.appointment_body(a, s) AS body, row_number() OVER () AS place
      FROM unnest(v_found) AS a CROSS JOIN LATERAL booking.service_by_id(a.business_id, a.service_id) AS s
    ) AS listed
  ) AS page
  -- The appointment before this one is on the page.
  WHERE place <= 2 OR bytes - length <= 480000
  ORDER BY place;
END
$$;

-- Returns whether a list contains an appointment. NULL: no condition.
CREATE FUNCTION booking.is_wanted(
  p_appointment booking.appointments, p_ends_after timestamptz, p_resource_id text, p_service_id text, p_status text,
  p_guest_email text, p_guest_phone text)
RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$
  SELECT (p_ends_after IS NULL OR p_appointment.slot_end > p_ends_after)
    AND (p_resource_id IS NULL OR p_appointment.resource_id = p_resource_id)
    AND (p_service_id IS NULL OR p_appointment.service_id = p_service_id)
    AND (p_status IS NULL OR p_appointment.status = p_status)
    AND (p_guest_email IS NULL OR booking.folded_email(p_appointment.guest_email) = booking.folded_email(p_guest_email))
    AND (p_guest_phone IS NULL OR p_appointment.guest_phone = p_guest_phone)
$$;

-- Returns the appointments whose slot overlaps [p_from, p_to), in any order.
CREATE FUNCTION booking.overlapping_appointments(p_business_id text, p_from timestamptz, p_to timestamptz)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT * FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.slot_start > p_from - booking.longest_claim(p_business_id)
    AND a.slot_start < p_to AND a.slot_end > p_from
$$;

-- Returns the length of the longest window ever claimed in a business, or in one of its services: an appointment that
-- overlaps an instant began at most that long before.
CREATE FUNCTION booking.longest_claim(p_business_id text, p_service_id text DEFAULT NULL)
RETURNS interval LANGUAGE sql STABLE
AS $$
  SELECT make_interval(secs => coalesce(max(s.longest_occupied_seconds), 0))
  FROM booking.services s
  WHERE s.business_id = p_business_id AND (p_service_id IS NULL OR s.service_id = p_service_id)
$$;

-- Returns the audit rows of one appointment by version, at most p_limit behind the version p_after: {at, actor: {kind, id,
-- name}, action, version, changes, request_id}. name is that of the actor's key, as it is now.
CREATE FUNCTION booking.audit_trail(
  p_business_id text, p_appointment_id uuid, p_after integer DEFAULT 0, p_limit integer DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off
AS $$
BEGIN
  RETURN QUERY
  SELECT jsonb_build_object(
    'at', l.at, 'actor', jsonb_build_object('kind', l.actor_kind, 'id', l.actor_id, 'name', k.name),
    'action', l.action, 'version', l.version, 'changes', l.changes, 'request_id', l.request_id)
  FROM booking.audit_logs l
  LEFT JOIN booking.api_keys k ON k.business_id = l.business_id AND k.key_id = l.actor_id
  WHERE l.business_id = p_business_id AND l.appointment_id = p_appointment_id AND l.version > p_after
  ORDER BY l.appointment_id, l.version LIMIT p_limit;
END
$$;
