-- Adds to refusals of booking.hoarders when to ask again: after the seconds until the first live hold of the client ends.
-- Only holds that this call grants itself may be all that it has: then until the first of them could end.
--
-- Parameters
--   p_open      the requests; details.client_address_hmac and details.client_id_hmac identify the client
--   p_outcomes  the outcomes of booking.hoarders
-- Returns  the outcomes; too_many_holds with the body {retry_after_seconds}, 1 or more
CREATE FUNCTION booking.until_a_hold_ends(
  p_open booking.claim_request[], p_outcomes booking.outcome[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE sql STABLE
AS $$
  SELECT o.operation_id, o.outcome, CASE WHEN o.outcome = 'too_many_holds' THEN jsonb_build_object(
    'retry_after_seconds', ceil(extract(epoch FROM coalesce(
      least(of_address.expires_at, of_id.expires_at), of_call.expires_at) - p_now))) END
  FROM unnest(p_outcomes) AS o
  JOIN unnest(p_open) AS r ON r.operation_id = o.operation_id
  LEFT JOIN LATERAL (
    SELECT h.expires_at FROM booking.reservations h
    WHERE h.business_id = r.business_id AND h.ended_at IS NULL AND h.expires_at > p_now
      AND h.client_address_hmac BETWEEN r.details ->> 'client_address_hmac' AND r.details ->> 'client_address_hmac'
    ORDER BY h.client_address_hmac, h.expires_at LIMIT 1
  ) AS of_address ON true
  LEFT JOIN LATERAL (
    SELECT h.expires_at FROM booking.reservations h
    WHERE h.business_id = r.business_id AND h.ended_at IS NULL AND h.expires_at > p_now
      AND h.client_id_hmac BETWEEN r.details ->> 'client_id_hmac' AND r.details ->> 'client_id_hmac'
    ORDER BY h.client_id_hmac, h.expires_at LIMIT 1
  ) AS of_id ON true
  CROSS JOIN LATERAL (
    SELECT min(q.expires_at) AS expires_at FROM unnest(p_open) AS q
    WHERE q.business_id = r.business_id AND (
      q.details ->> 'client_address_hmac' = r.details ->> 'client_address_hmac'
      OR q.details ->> 'client_id_hmac' = r.details ->> 'client_id_hmac')
  ) AS of_call
$$;
