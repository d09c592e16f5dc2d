-- Raises longest_occupied_seconds of the services and resources of the wishes that are granted, before claims of
-- that length are made: later scans for overlaps reach back that far and no farther.
--
-- Upserts of rows that exist, for the reason given in booking.end_holds: a business may have a thousand resources.
--
-- Locks  the rows of services and resources that it raises; the caller has the lock of the business
CREATE OR REPLACE FUNCTION booking.note_longest(p_business_id text, p_wishes booking.wish[], p_granted booking.grant[])
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  INSERT INTO booking.services
  SELECT (raised.s).*
  FROM (
    SELECT wish.service_id, max(ceil(extract(epoch FROM upper(wish.occupied) - lower(wish.occupied)))) AS seconds
    FROM unnest(p_granted) AS granted JOIN unnest(p_wishes) AS wish USING (position)
    GROUP BY wish.service_id
  ) AS longest
  CROSS JOIN LATERAL (
    SELECT jsonb_populate_record(s, jsonb_build_object('longest_occupied_seconds', longest.seconds)) AS s
    FROM booking.services s
    WHERE s.business_id = p_business_id AND s.service_id = longest.service_id
      AND s.longest_occupied_seconds < longest.seconds
    OFFSET 0
  ) AS raised
  ON CONFLICT (business_id, service_id) DO UPDATE
  SET longest_occupied_seconds = excluded.longest_occupied_seconds;

  INSERT INTO booking.resources
  SELECT (raised.r).*
  FROM (
    SELECT granted.resource_id, max(ceil(extract(epoch FROM upper(wish.occupied) - lower(wish.occupied)))) AS seconds
    FROM unnest(p_granted) AS granted JOIN unnest(p_wishes) AS wish USING (position)
    WHERE granted.resource_id IS NOT NULL
    GROUP BY granted.resource_id
  ) AS longest
  CROSS JOIN LATERAL (
    SELECT jsonb_populate_record(r, jsonb_build_object('longest_occupied_seconds', longest.seconds)) AS r
    FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = longest.resource_id
      AND r.longest_occupied_seconds < longest.seconds
    OFFSET 0
  ) AS raised
  ON CONFLICT (business_id, resource_id) DO UPDATE
  SET longest_occupied_seconds = excluded.longest_occupied_seconds;
END
$$;
