-- The catalog as the service reads it.
CREATE OR REPLACE VIEW booking.business_catalog AS
  SELECT business_id, name, slug, timezone, country FROM booking.businesses;

CREATE OR REPLACE VIEW booking.service_catalog AS
  SELECT business_id, service_id, name, max_simultaneous_bookings, duration_minutes, max_duration_minutes,
         hold_ttl_minutes, max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes,
         buffer_before_minutes, buffer_after_minutes, min_notice_minutes, max_advance_days,
         cancellation_window_minutes, booking_enabled
  FROM booking.services WHERE archived_at IS NULL;
