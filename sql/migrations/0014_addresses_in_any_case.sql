-- One guest writes an e-mail address in several ways: appointments are found by it whatever the case of its letters.
--
-- The index is built under a lock that blocks bookings.
SET LOCAL ROLE holdfast_owner;
SET LOCAL statement_timeout = 0;

DROP INDEX booking.idx_appointments_guest_email;
CREATE INDEX idx_appointments_guest_email
  ON booking.appointments (business_id, lower(guest_email), slot_start, appointment_id)
  WHERE guest_email IS NOT NULL;
