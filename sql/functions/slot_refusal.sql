-- Why the public may not book a slot of a service, whatever room there is: NULL, or one of 'not_online',
-- 'past', 'too_soon', 'too_far_ahead', 'too_long'. A slot that starts at this very instant is not past.
CREATE OR REPLACE FUNCTION booking.slot_refusal(
  p_service booking.services, p_slot_start timestamptz, p_slot_end timestamptz, p_now timestamptz)
RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN NOT p_service.booking_enabled THEN 'not_online'
    WHEN p_slot_start < p_now THEN 'past'
    WHEN p_slot_start < p_now + make_interval(mins => p_service.min_notice_minutes) THEN 'too_soon'
    -- Hours, not days: a day of an interval is 23 or 25 hours long where a DST change is.
    WHEN p_slot_start > p_now + make_interval(hours => 24 * p_service.max_advance_days) THEN 'too_far_ahead'
    WHEN p_slot_end > p_slot_start + make_interval(mins => p_service.max_duration_minutes) THEN 'too_long'
  END
$$;
