-- A replay gets its first result, whatever is found wrong with the guest's data by then: so a request to commit may bring
-- along what is, {field, message}, for the verb to answer with if it is no replay.
SET LOCAL ROLE holdfast_owner;

ALTER TYPE booking.commit_request ADD ATTRIBUTE guest_fault jsonb;
