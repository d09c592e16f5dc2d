-- Appointments are found by an e-mail address alike in all locales: the index has the expression of
-- booking.folded_email, which PostgreSQL inlines.
--
-- The index is built under a lock that blocks bookings.
SET LOCAL ROLE holdfast_owner;
SET LOCAL statement_timeout = 0;

DROP INDEX booking.idx_appointments_guest_email;
CREATE INDEX idx_appointments_guest_email
  ON booking.appointments (
    business_id, translate(lower(translate(guest_email, 'İI', 'ii')), 'ς', 'σ'), slot_start, appointment_id)
  WHERE guest_email IS NOT NULL;
