-- Closures by local dates, both inclusive. `during` is what they mean in the time zone of the business, so that a decision
-- reads instants as before; it is empty for dates that the clock of the business leaves out.
--
-- The new constraint accepts every row that the old one accepted, and closures are few, so it is checked at once.
-- squawk-ignore-file constraint-missing-not-valid
SET LOCAL ROLE holdfast_owner;

ALTER TABLE booking.closures
  ADD COLUMN first_date date,
  ADD COLUMN last_date date,
  DROP CONSTRAINT closures_during_check,
  ADD CONSTRAINT closures_during_check
    CHECK (CASE WHEN first_date IS NULL THEN NOT isempty(during) AND NOT upper_inf(during) ELSE NOT upper_inf(during) END),
  ADD CONSTRAINT closures_last_date_check
    CHECK ((first_date IS NULL) = (last_date IS NULL) AND last_date >= first_date);
