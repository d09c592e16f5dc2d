-- Raises services.longest_occupied_seconds to the longest of the wishes, before a claim of that length is
-- made: later scans for overlaps reach back that far and no farther.
-- Locks  the rows of services that it raises; the caller has the lock of the business
CREATE OR REPLACE FUNCTION booking.note_longest(p_business_id text, p_wishes booking.wish[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  UPDATE booking.services s
  SET longest_occupied_seconds = longest.seconds
  FROM (
    SELECT service_id, max(ceil(extract(epoch FROM upper(occupied) - lower(occupied)))) AS seconds
    FROM unnest(p_wishes) GROUP BY service_id
  ) AS longest
  WHERE s.business_id = p_business_id AND s.service_id = longest.service_id
    AND s.longest_occupied_seconds < longest.seconds;
END
$$;
