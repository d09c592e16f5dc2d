-- When something is open is looked up for many resources at a time: for each of them by index, and the same way for the
-- business itself, which stands in these indexes as '', because NULL is not equal to itself.
SET LOCAL ROLE holdfast_owner;

CREATE INDEX idx_opening_hours_resource ON booking.opening_hours (business_id, coalesce(resource_id, ''), weekday);

-- Closures of the past are kept, and must cost a decision nothing.
CREATE INDEX idx_closures_resource ON booking.closures (business_id, coalesce(resource_id, ''), upper(during));
DROP INDEX booking.idx_closures_end;
