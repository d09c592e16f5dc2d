-- The proof of a holder in a commit, random generations of calendar feeds, the bookings of clients, and the use
-- of keys.
--
-- Two columns of the catalog are rewritten, under a lock that blocks bookings for as long.
-- squawk-ignore-file changing-column-type, ban-drop-default, adding-field-with-default
SET LOCAL ROLE holdfast_owner;

ALTER TYPE booking.commit_request ADD ATTRIBUTE client_id_hmac text;

-- A generation is never used again: a number would begin at 1 for a business that is deleted and made again, and the
-- addresses of its former feeds would open the new ones. The addresses in use stay as they are.
ALTER TABLE booking.businesses
  ALTER COLUMN calendar_generation DROP DEFAULT,
  ALTER COLUMN calendar_generation TYPE text COLLATE "C" USING calendar_generation::text,
  ALTER COLUMN calendar_generation SET DEFAULT gen_random_uuid()::text;
ALTER TABLE booking.resources
  ADD COLUMN calendar_generation text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text;
UPDATE booking.resources r SET calendar_generation = b.calendar_generation
FROM booking.businesses b WHERE b.business_id = r.business_id AND r.archived_at IS NULL;

-- The places that each client booked on a day (UTC), for the limit of bookings of a client. record_purge deletes those of
-- former days. No foreign key: a verb that adds to a count holds the lock of the business.
CREATE TABLE booking.client_bookings (
  business_id text COLLATE "C" NOT NULL,
  day date NOT NULL,
  client_hmac text COLLATE "C" NOT NULL,
  places bigint NOT NULL CONSTRAINT client_bookings_places_check CHECK (places > 0),
  CONSTRAINT client_bookings_pkey PRIMARY KEY (business_id, day, client_hmac)
) WITH (fillfactor = 70);

-- created_by is the id of the key that made it; NULL: the administrator, or made before this migration.
ALTER TABLE booking.api_keys ADD COLUMN created_by text COLLATE "C", ADD COLUMN last_used_at timestamptz;
