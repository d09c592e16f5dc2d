-- The claims of this moment: live holds and confirmed appointments.
CREATE VIEW booking.claims AS
  SELECT r.business_id, r.service_id, r.resource_id, r.reservation_id AS claim_id, r.occupied, r.quantity
  FROM booking.reservations r
  WHERE r.status = 'held' AND r.expires_at > booking.now()
  UNION ALL
  SELECT a.business_id, a.service_id, a.resource_id, a.appointment_id, a.occupied, a.quantity
  FROM booking.appointments a
  WHERE a.status = 'confirmed';
