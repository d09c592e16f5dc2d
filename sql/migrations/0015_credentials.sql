-- The proof of a holder in a commit.
SET LOCAL ROLE holdfast_owner;

ALTER TYPE booking.commit_request ADD ATTRIBUTE client_id_hmac text;
