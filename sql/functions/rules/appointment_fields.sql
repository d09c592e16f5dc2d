-- Returns the stored members of an appointment that answers show.
CREATE FUNCTION booking.appointment_fields(a booking.appointments)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'appointment_id', a.appointment_id,
    'reservation_id', a.reservation_id,
    'business_id', a.business_id,
    'service_id', a.service_id,
    'resource_id', a.resource_id,
    'slot_start', a.slot_start,
    'slot_end', a.slot_end,
    'quantity', a.quantity,
    'status', a.status,
    'version', a.version,
    'guest_name', a.guest_name,
    'guest_email', a.guest_email,
    'guest_phone', a.guest_phone,
    'notes', a.notes,
    'metadata', a.metadata,
    'source', a.source,
    'created_at', a.created_at,
    'updated_at', a.updated_at,
    'cancellation_reason', a.cancellation_reason)
$$;

-- Returns the `changes` of an audit row: {field: {before, after}} for each field that differs. Fields that are or may
-- be personal (guest, notes, cancellation reason, metadata) have an empty object instead of values, so that the audit
-- trail can outlive an erasure. The reservation id never appears, because it is the credential of the hold's client.
--
--   p_before  NULL for a new appointment
CREATE FUNCTION booking.audit_changes(p_before booking.appointments, p_after booking.appointments)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT coalesce(jsonb_object_agg(field, CASE
    WHEN field IN ('guest_name', 'guest_email', 'guest_phone', 'notes', 'metadata', 'cancellation_reason')
    THEN '{}'::jsonb
    ELSE jsonb_build_object('before', before -> field, 'after', after) END), '{}')
  FROM jsonb_each(booking.appointment_fields(p_after)) AS member (field, after)
  CROSS JOIN booking.appointment_fields(p_before) AS before
  WHERE field NOT IN ('appointment_id', 'reservation_id', 'business_id', 'version', 'created_at', 'updated_at')
    AND coalesce(before -> field, 'null') IS DISTINCT FROM after
    AND NOT (field = 'metadata' AND after = '{}' AND p_before.metadata IS NULL)
$$;

-- Returns whether an appointment has data that an erasure removes. The condition of idx_appointments_guest_retention,
-- word for word, because the planner uses the index for this condition only.
CREATE FUNCTION booking.holds_guest_data(p_appointment booking.appointments)
RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$
  SELECT num_nonnulls(
      p_appointment.guest_name, p_appointment.guest_email, p_appointment.guest_phone, p_appointment.notes,
      p_appointment.cancellation_reason, p_appointment.fingerprint) > 0
    OR p_appointment.metadata <> '{}'
$$;
