-- What a slot of a service occupies: the slot and the service's buffers around it, as they are now.
CREATE OR REPLACE FUNCTION booking.occupied_by(p_service booking.services, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS tstzrange
LANGUAGE sql STABLE
AS $$
  SELECT tstzrange(
    p_slot_start - make_interval(mins => p_service.buffer_before_minutes),
    p_slot_end + make_interval(mins => p_service.buffer_after_minutes))
$$;
