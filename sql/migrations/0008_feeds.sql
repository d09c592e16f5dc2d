-- How much of the past a calendar feed has.
SET LOCAL ROLE holdfast_owner;

ALTER TABLE booking.businesses ADD COLUMN feed_past_days integer NOT NULL DEFAULT 400
  CONSTRAINT businesses_feed_past_days_check CHECK (feed_past_days BETWEEN 0 AND 3660);
