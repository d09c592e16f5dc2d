-- How long a business keeps the data of its guests after their slots; NULL: for ever.
--
-- The index is built under a lock that blocks bookings.
SET LOCAL ROLE holdfast_owner;
SET LOCAL statement_timeout = 0;

ALTER TABLE booking.businesses
  ADD COLUMN guest_retention_days integer,
  ADD CONSTRAINT businesses_guest_retention_days_check CHECK (guest_retention_days BETWEEN 1 AND 36500);

-- For the purge: an appointment leaves the index when it is erased. The condition is booking.holds_guest_data.
CREATE INDEX idx_appointments_guest_retention ON booking.appointments (business_id, slot_end)
  WHERE num_nonnulls(guest_name, guest_email, guest_phone, notes, cancellation_reason, fingerprint) > 0
    OR metadata <> '{}';

ALTER TABLE booking.maintenance_runs ADD COLUMN erased integer NOT NULL DEFAULT 0;
