-- Deletes, on a node that is a copy of another, the businesses of other partitions. No service may run on it meanwhile.
--
--   psql --set ON_ERROR_STOP=1 --set partitions=2 --set partition=1 --file sql/proxy/prune.sql "$NODE_URL"
--
--   partitions, partition  their number, and that of this node
BEGIN;
CREATE TEMPORARY TABLE elsewhere ON COMMIT DROP AS
SELECT b.business_id FROM booking.businesses b
WHERE booking.partition(b.business_id) & :partitions - 1 <> :partition;

DELETE FROM booking.audit_logs AS a USING elsewhere AS e WHERE a.business_id = e.business_id;
DELETE FROM booking.appointments AS a USING elsewhere AS e WHERE a.business_id = e.business_id;
DELETE FROM booking.reservations AS r USING elsewhere AS e WHERE r.business_id = e.business_id;
DELETE FROM booking.occupancy AS o USING elsewhere AS e WHERE o.business_id = e.business_id;
DELETE FROM booking.client_bookings AS c USING elsewhere AS e WHERE c.business_id = e.business_id;
DELETE FROM booking.service_resources AS p USING elsewhere AS e WHERE p.business_id = e.business_id;
DELETE FROM booking.opening_hours AS o USING elsewhere AS e WHERE o.business_id = e.business_id;
DELETE FROM booking.special_hours AS h USING elsewhere AS e WHERE h.business_id = e.business_id;
DELETE FROM booking.closures AS c USING elsewhere AS e WHERE c.business_id = e.business_id;
DELETE FROM booking.api_keys AS k USING elsewhere AS e WHERE k.business_id = e.business_id;
DELETE FROM booking.services AS s USING elsewhere AS e WHERE s.business_id = e.business_id;
DELETE FROM booking.resources AS r USING elsewhere AS e WHERE r.business_id = e.business_id;
-- A slug stays on the node of its own hash, where it is looked up.
DELETE FROM booking.slugs AS s USING elsewhere AS e
WHERE s.business_id = e.business_id AND booking.partition(s.slug) & :partitions - 1 <> :partition;
DELETE FROM booking.businesses AS b USING elsewhere AS e WHERE b.business_id = e.business_id;
COMMIT;
