-- Returns an appointment with the terms of its service: the body of outcomes and the API's appointment.
CREATE FUNCTION booking.appointment_body(a booking.appointments, p_service booking.services)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT booking.appointment_fields(a) || jsonb_build_object(
    'cancellable_until', booking.cancellable_until(p_service, a.slot_start),
    'reschedulable_until', booking.reschedulable_until(p_service, a.slot_start))
$$;

-- Returns the body of slot_unavailable for requests that do not contain the slot themselves (commit, change), so that
-- the service can look for alternatives to it.
CREATE FUNCTION booking.requested_slot(
  p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz, p_quantity integer, p_resource_id text)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object('service_id', p_service_id, 'slot_start', p_slot_start, 'slot_end', p_slot_end,
    'quantity', p_quantity, 'resource_id', p_resource_id)
$$;
