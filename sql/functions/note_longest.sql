-- Raises longest_occupied_seconds of the services and resources of the wishes that are granted, before claims of
-- that length are made: later scans for overlaps reach back that far and no farther.
-- Locks  the rows of services and resources that it raises; the caller has the lock of the business
CREATE OR REPLACE FUNCTION booking.note_longest(p_business_id text, p_wishes booking.wish[], p_granted booking.grant[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  UPDATE booking.services s
  SET longest_occupied_seconds = longest.seconds
  FROM (
    SELECT wish.service_id, max(ceil(extract(epoch FROM upper(wish.occupied) - lower(wish.occupied)))) AS seconds
    FROM unnest(p_granted) AS granted JOIN unnest(p_wishes) AS wish USING (position)
    GROUP BY wish.service_id
  ) AS longest
  WHERE s.business_id = p_business_id AND s.service_id = longest.service_id
    AND s.longest_occupied_seconds < longest.seconds;

  UPDATE booking.resources r
  SET longest_occupied_seconds = longest.seconds
  FROM (
    SELECT granted.resource_id, max(ceil(extract(epoch FROM upper(wish.occupied) - lower(wish.occupied)))) AS seconds
    FROM unnest(p_granted) AS granted JOIN unnest(p_wishes) AS wish USING (position)
    WHERE granted.resource_id IS NOT NULL
    GROUP BY granted.resource_id
  ) AS longest
  WHERE r.business_id = p_business_id AND r.resource_id = longest.resource_id
    AND r.longest_occupied_seconds < longest.seconds;
END
$$;
