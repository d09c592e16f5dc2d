-- What guests may do without the business: until when they may move an appointment (NULL: until when they may cancel
-- it), and how many upcoming ones each may have (NULL: any number).
SET LOCAL ROLE holdfast_owner;

ALTER TABLE booking.services
  ADD COLUMN reschedule_window_minutes integer,
  ADD COLUMN max_upcoming_per_guest integer,
  ADD CONSTRAINT services_reschedule_window_minutes_check CHECK (reschedule_window_minutes >= 0),
  ADD CONSTRAINT services_max_upcoming_per_guest_check CHECK (max_upcoming_per_guest >= 1);

-- A request to book for a guest: see rules/guest_limit.sql.
CREATE TYPE booking.guest_claim AS (
  "position" integer,
  business_id text,
  operation_id uuid,
  service_id text,
  guest_email text,
  guest_phone text
);
