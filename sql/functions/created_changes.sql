-- What the audit row of a new appointment says: each field with its value before (none) and after. What is
-- personal (the guest, the notes) appears by name only, so that the trail may outlive an erasure.
CREATE OR REPLACE FUNCTION booking.created_changes(a booking.appointments)
RETURNS jsonb
LANGUAGE sql STABLE
AS $$
  SELECT jsonb_object_agg(field, CASE
    WHEN field IN ('guest_name', 'guest_email', 'guest_phone', 'notes') THEN '{}'::jsonb
    ELSE jsonb_build_object('before', NULL, 'after', value) END)
  FROM jsonb_each(jsonb_strip_nulls(booking.appointment_body(a) - ARRAY[
    'appointment_id', 'business_id', 'version', 'metadata', 'created_at', 'updated_at'])) AS changed (field, value)
$$;
