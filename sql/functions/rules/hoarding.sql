-- Refuses what would give a client more live holds than it may have in a business: by its address, and by the id that a
-- trusted frontend gives it, of which the larger number counts, so that changing the id never gets around the address.
-- The requests before it in the call count as if they were granted: a client at its limit may be refused one too many,
-- and can ask again.
CREATE FUNCTION booking.hoarders(p_open booking.claim_request[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE sql STABLE
AS $$
  WITH asked AS MATERIALIZED (
    SELECT r.operation_id, r.business_id, r.position, r.attempt, r.fingerprint, client.*,
           -- Of equal requests of one attempt the first counts. Without a fingerprint no request is equal to another.
           r.fingerprint IS NULL OR row_number() OVER (
             PARTITION BY r.business_id, r.attempt, r.fingerprint ORDER BY r.position) = 1 AS leads
    FROM unnest(p_open) AS r
    CROSS JOIN LATERAL (SELECT
      r.details ->> 'client_address_hmac' AS address, r.details ->> 'client_id_hmac' AS id,
      (r.details ->> 'max_live_holds')::integer AS max_live_holds) AS client
  ), counted AS MATERIALIZED (
    SELECT client.*, greatest(
      (SELECT count(*) FROM (
        SELECT FROM booking.reservations r
        WHERE r.business_id = client.business_id AND r.ended_at IS NULL AND r.expires_at > p_now
          AND r.client_address_hmac BETWEEN client.address AND client.address
        ORDER BY r.client_address_hmac, r.expires_at LIMIT client.max_live_holds) AS of_address),
      (SELECT count(*) FROM (
        SELECT FROM booking.reservations r
        WHERE r.business_id = client.business_id AND r.ended_at IS NULL AND r.expires_at > p_now
          AND r.client_id_hmac BETWEEN client.id AND client.id
        ORDER BY r.client_id_hmac, r.expires_at LIMIT client.max_live_holds) AS of_id)) AS live
    FROM (SELECT DISTINCT business_id, address, id, max_live_holds FROM asked WHERE max_live_holds IS NOT NULL) AS client
  ), numbered AS (
    SELECT asked.*, greatest(
      CASE WHEN address IS NOT NULL THEN sum(leads::integer) OVER (PARTITION BY business_id, address ORDER BY position) END,
      CASE WHEN id IS NOT NULL THEN sum(leads::integer) OVER (PARTITION BY business_id, id ORDER BY position) END) AS nth
    FROM asked
  )
  SELECT ARRAY(
    -- Equal requests of one attempt share the answer of their first, from whatever address they come.
    SELECT ROW(equal.operation_id, 'too_many_holds', NULL)::booking.outcome
    FROM numbered
    JOIN counted
      ON counted.business_id = numbered.business_id AND counted.address IS NOT DISTINCT FROM numbered.address
      AND counted.id IS NOT DISTINCT FROM numbered.id AND counted.max_live_holds = numbered.max_live_holds
    JOIN asked AS equal
      ON equal.operation_id = numbered.operation_id
      OR equal.business_id = numbered.business_id AND equal.attempt = numbered.attempt
      AND equal.fingerprint = numbered.fingerprint
    WHERE numbered.leads AND counted.live + numbered.nth > numbered.max_live_holds)
$$;
