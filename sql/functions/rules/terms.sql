-- The terms of an appointment: until when its guest may cancel and move it. Verbs refuse by these instants, and answers
-- show them.

-- Returns the last instant at which a guest may cancel an appointment of a service.
CREATE FUNCTION booking.cancellable_until(p_service booking.services, p_slot_start timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT p_slot_start - make_interval(mins => p_service.cancellation_window_minutes) $$;

-- Returns how long before the start guests must move an appointment of a service: by default as they must cancel it.
CREATE FUNCTION booking.reschedule_window_minutes(p_service booking.services)
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(p_service.reschedule_window_minutes, p_service.cancellation_window_minutes) $$;

-- Returns the last instant at which a guest may move an appointment of a service.
CREATE FUNCTION booking.reschedulable_until(p_service booking.services, p_slot_start timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT p_slot_start - make_interval(mins => booking.reschedule_window_minutes(p_service)) $$;
