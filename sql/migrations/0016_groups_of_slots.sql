-- Slots that a listing computes at once: those that have a length in common, or an end.
SET LOCAL ROLE holdfast_owner;

CREATE TYPE booking.slot_group AS (
  length interval,
  ends timestamptz
);
