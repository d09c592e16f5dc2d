-- The catalog as the service reads it. What is archived is not in it, nor are the hours and closures of a resource
-- that is: they are back when the resource is.
CREATE OR REPLACE VIEW booking.business_catalog AS
  SELECT business_id, name, slug, timezone, country FROM booking.businesses;

CREATE OR REPLACE VIEW booking.resource_catalog AS
  SELECT business_id, resource_id, name, kind, booking_enabled FROM booking.resources WHERE archived_at IS NULL;

CREATE OR REPLACE VIEW booking.service_catalog AS
  SELECT s.business_id, s.service_id, s.name, s.max_simultaneous_bookings, s.duration_minutes, s.max_duration_minutes,
         s.hold_ttl_minutes, s.max_hold_ttl_minutes, s.max_hold_lifetime_minutes, s.slot_step_minutes,
         s.buffer_before_minutes, s.buffer_after_minutes, s.min_notice_minutes, s.max_advance_days,
         s.cancellation_window_minutes, s.booking_enabled, pool.resource_ids
  FROM booking.services s
  CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(p.resource_id ORDER BY p.resource_id), '{}') AS resource_ids
    FROM booking.service_resources p
    JOIN booking.resources r ON r.business_id = p.business_id AND r.resource_id = p.resource_id
    WHERE p.business_id = s.business_id AND p.service_id = s.service_id AND r.archived_at IS NULL
  ) AS pool
  WHERE s.archived_at IS NULL;

CREATE OR REPLACE VIEW booking.opening_hours_catalog AS
  SELECT o.business_id, o.weekday, to_char(o.opens, 'HH24:MI') AS opens, to_char(o.closes, 'HH24:MI') AS closes,
         o.resource_id
  FROM booking.opening_hours o
  LEFT JOIN booking.resources r ON r.business_id = o.business_id AND r.resource_id = o.resource_id
  WHERE r.archived_at IS NULL;

CREATE OR REPLACE VIEW booking.closure_catalog AS
  SELECT c.business_id, c.closure_id, lower(c.during) AS "from", upper(c.during) AS "to", c.resource_id, c.reason
  FROM booking.closures c
  LEFT JOIN booking.resources r ON r.business_id = c.business_id AND r.resource_id = c.resource_id
  WHERE r.archived_at IS NULL;
