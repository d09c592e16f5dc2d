-- Who holds: so that nobody can hoard slots. Digests under a secret of the service, which nobody can read an address from.
SET LOCAL ROLE holdfast_owner;

ALTER TABLE booking.reservations
  ADD COLUMN client_address_hmac text COLLATE "C",
  ADD COLUMN client_id_hmac text COLLATE "C";

CREATE INDEX idx_reservations_client_address ON booking.reservations (business_id, client_address_hmac, expires_at)
  WHERE ended_at IS NULL AND client_address_hmac IS NOT NULL;
CREATE INDEX idx_reservations_client_id ON booking.reservations (business_id, client_id_hmac, expires_at)
  WHERE ended_at IS NULL AND client_id_hmac IS NOT NULL;
