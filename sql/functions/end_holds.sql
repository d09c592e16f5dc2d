-- Ends holds of one business: the one place where a hold becomes 'committed', 'released' or 'expired'. What has
-- ended already stays as it is, and what has expired is not released any more.
--
-- It is written as an upsert of rows that exist, because that finds them by primary key by construction. A
-- plain UPDATE leaves the planner the choice to read the whole business instead, and while it knows
-- little of the table it takes it (sql/README.md).
--
--   p_now  the clock, read after the lock
-- Returns the holds that were ended, as they are now.
-- Locks  none of its own: the caller has the lock of the business
CREATE OR REPLACE FUNCTION booking.end_holds(
  p_business_id text, p_reservation_ids uuid[], p_status text, p_now timestamptz)
RETURNS SETOF booking.reservations
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF coalesce(cardinality(p_reservation_ids), 0) = 0 THEN
    RETURN;
  END IF;
  RETURN QUERY
  INSERT INTO booking.reservations AS r
  SELECT held.*
  FROM (SELECT DISTINCT id FROM unnest(p_reservation_ids) AS id) AS ending
  CROSS JOIN LATERAL (
    SELECT * FROM booking.reservations h
    WHERE h.business_id = p_business_id AND h.reservation_id = ending.id
    OFFSET 0
  ) AS held
  WHERE held.status = 'held'
  ON CONFLICT (business_id, reservation_id) DO UPDATE
  SET status = CASE WHEN p_status = 'released' AND r.expires_at <= p_now THEN 'expired' ELSE p_status END,
      ended_at = p_now, version = r.version + 1
  RETURNING r.*;
END
$$;
