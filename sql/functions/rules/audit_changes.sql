-- What the audit row of a change says: each field that differs, with its value before and after. What is or may be
-- personal (the guest, notes, the reason, the caller's metadata) appears by name only, so that the trail may outlive
-- an erasure. The reservation is not named at all: its id is the credential of its holder.
--   p_before  NULL for a new appointment
CREATE FUNCTION booking.audit_changes(p_before booking.appointments, p_after booking.appointments)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT coalesce(jsonb_object_agg(field, CASE
    WHEN field IN ('guest_name', 'guest_email', 'guest_phone', 'notes', 'metadata', 'cancellation_reason') THEN '{}'::jsonb
    ELSE jsonb_build_object('before', before -> field, 'after', after) END), '{}')
  FROM jsonb_each(booking.appointment_body(p_after)) AS changed (field, after)
  CROSS JOIN booking.appointment_body(p_before) AS before
  WHERE field NOT IN ('appointment_id', 'reservation_id', 'business_id', 'version', 'created_at', 'updated_at')
    AND coalesce(before -> field, 'null') IS DISTINCT FROM after
    AND NOT (field = 'metadata' AND after = '{}' AND p_before.metadata IS NULL)
$$;
