-- The proof of a holder in a commit, and random generations of calendar feeds.
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
