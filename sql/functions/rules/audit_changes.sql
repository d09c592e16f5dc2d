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
