-- Finds the requests that would give a client more live holds in a business than its limit. A client is counted by its
-- address and by the id that a trusted front end assigns to it, and the larger count applies: a new id does not reset
-- the count of the address.
--
-- A request counts as granted for the requests behind it in the same call. A client at its limit may therefore be
-- refused one request too many, which it can send again.
--
-- Parameters
--   p_open  requests to reserve; details.max_live_holds is the limit (none: not counted), details.client_address_hmac
--           and details.client_id_hmac identify the client
-- Returns  an outcome too_many_holds for each refused request; at most max_live_holds rows are read for each client
CREATE FUNCTION booking.hoarders(p_open booking.claim_request[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE sql STABLE
AS $$
  WITH request AS MATERIALIZED (
    SELECT r.operation_id, r.business_id, r.position, r.attempt, r.fingerprint, client.*,
           -- The first of several equal requests of one attempt is their leader and counts. Requests are equal if
           -- their fingerprints are; a request without a fingerprint equals no other.
           r.fingerprint IS NULL OR row_number() OVER (
             PARTITION BY r.business_id, r.attempt, r.fingerprint ORDER BY r.position) = 1 AS is_leader
    FROM unnest(p_open) AS r
    CROSS JOIN LATERAL (SELECT
      r.details ->> 'client_address_hmac' AS address, r.details ->> 'client_id_hmac' AS id,
      (r.details ->> 'max_live_holds')::integer AS max_live_holds) AS client
  ), client_holds AS MATERIALIZED (
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
        ORDER BY r.client_id_hmac, r.expires_at LIMIT client.max_live_holds) AS of_id)) AS live_holds
    FROM (
      SELECT DISTINCT business_id, address, id, max_live_holds FROM request WHERE max_live_holds IS NOT NULL
    ) AS client
  ), ranked_request AS (
    SELECT request.*, greatest(
      CASE WHEN address IS NOT NULL THEN
        sum(is_leader::integer) OVER (PARTITION BY business_id, address ORDER BY position) END,
      CASE WHEN id IS NOT NULL THEN
        sum(is_leader::integer) OVER (PARTITION BY business_id, id ORDER BY position) END) AS nth
    FROM request
  )
  SELECT ARRAY(
    -- Equal requests of one attempt get the outcome of their leader, whatever their own client is.
    SELECT ROW(equal_request.operation_id, 'too_many_holds', NULL)::booking.outcome
    FROM ranked_request AS ranked
    JOIN client_holds AS held
      ON held.business_id = ranked.business_id AND held.address IS NOT DISTINCT FROM ranked.address
      AND held.id IS NOT DISTINCT FROM ranked.id AND held.max_live_holds = ranked.max_live_holds
    JOIN request AS equal_request
      ON equal_request.operation_id = ranked.operation_id
      OR equal_request.business_id = ranked.business_id AND equal_request.attempt = ranked.attempt
      AND equal_request.fingerprint = ranked.fingerprint
    WHERE ranked.is_leader AND held.live_holds + ranked.nth > ranked.max_live_holds)
$$;
