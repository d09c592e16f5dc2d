-- How many live holds a client has in one business, up to a limit: by its address, and by the id that a trusted
-- frontend gives it. The larger of the two counts, so that changing the id never gets around the address.
--   p_address_hmac, p_id_hmac  digests; NULL where there is none
--   p_limit                    no more are counted: whoever asks wants to know whether there are that many
CREATE OR REPLACE FUNCTION booking.live_holds(
  p_business_id text, p_address_hmac text, p_id_hmac text, p_limit integer, p_now timestamptz)
RETURNS bigint
LANGUAGE sql STABLE
AS $$
  SELECT greatest(
    (SELECT count(*) FROM (
      SELECT FROM booking.reservations r
      WHERE r.business_id = p_business_id AND r.ended_at IS NULL AND r.expires_at > p_now
        AND r.client_address_hmac BETWEEN p_address_hmac AND p_address_hmac
      ORDER BY r.client_address_hmac, r.expires_at LIMIT p_limit) AS of_address),
    (SELECT count(*) FROM (
      SELECT FROM booking.reservations r
      WHERE r.business_id = p_business_id AND r.ended_at IS NULL AND r.expires_at > p_now
        AND r.client_id_hmac BETWEEN p_id_hmac AND p_id_hmac
      ORDER BY r.client_id_hmac, r.expires_at LIMIT p_limit) AS of_id))
$$;
