-- Finds the requests that would give a client more places in a business than its limits allow. A client is counted by its
-- address and by its own id, each for itself: a new id does not reset the count of the address.
--
-- A request that fits by itself counts as granted for the requests behind it in the same call. A client at its limit may
-- therefore be refused one request too many, which it can send again.
--
-- Parameters
--   p_open  requests to reserve or to book. details.max_live_holds limits the places that a client holds, and
--           details.max_daily_bookings those that it holds and has booked on this day (none: not counted);
--           details.client_address_hmac and details.client_id_hmac identify the client
-- Returns  an outcome too_many_holds or too_many_bookings for each refused request; at most max_live_holds holds are read
--          for each client
CREATE FUNCTION booking.hoarders(p_open booking.claim_request[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE sql STABLE
AS $$
  WITH request AS MATERIALIZED (
    SELECT r.operation_id, r.business_id, r.position, r.attempt, r.fingerprint, r.quantity, client.*,
           -- Bookings do not expire.
           CASE WHEN r.expires_at IS NOT NULL THEN limits.live_holds END AS max_held,
           limits.live_holds AS max_live_holds, limits.daily_bookings AS max_taken,
           -- The first of several equal requests of one attempt is their leader and counts. Requests are equal if
           -- their fingerprints are; a request without a fingerprint equals no other.
           r.fingerprint IS NULL OR rank() OVER (
             PARTITION BY r.business_id, r.attempt, r.fingerprint ORDER BY r.position) = 1 AS is_leader
    FROM unnest(p_open) AS r
    CROSS JOIN LATERAL (SELECT
      (r.details ->> 'max_live_holds')::integer AS live_holds,
      (r.details ->> 'max_daily_bookings')::integer AS daily_bookings) AS limits
    CROSS JOIN LATERAL (VALUES
      (false, r.details ->> 'client_address_hmac'), (true, r.details ->> 'client_id_hmac')) AS client (by_id, name)
    WHERE client.name IS NOT NULL
  ), client_places AS MATERIALIZED (
    -- Each name is looked up in the one index that can have it.
    SELECT client.*,
      (SELECT coalesce(sum(quantity), 0) FROM (
        SELECT r.quantity FROM booking.reservations r
        WHERE NOT client.by_id AND r.business_id = client.business_id AND r.ended_at IS NULL AND r.expires_at > p_now
          AND r.client_address_hmac BETWEEN client.name AND client.name
        ORDER BY r.client_address_hmac, r.expires_at LIMIT client.max_live_holds) AS of_address)
      + (SELECT coalesce(sum(quantity), 0) FROM (
        SELECT r.quantity FROM booking.reservations r
        WHERE client.by_id AND r.business_id = client.business_id AND r.ended_at IS NULL AND r.expires_at > p_now
          AND r.client_id_hmac BETWEEN client.name AND client.name
        ORDER BY r.client_id_hmac, r.expires_at LIMIT client.max_live_holds) AS of_id) AS held,
      coalesce((
        SELECT b.places FROM booking.client_bookings b
        WHERE b.business_id = client.business_id AND b.day = booking.utc_day(p_now) AND b.client_hmac = client.name
      ), 0) AS booked
    FROM (SELECT DISTINCT business_id, by_id, name, max_live_holds FROM request) AS client
  ), limited_request AS (
    SELECT request.*, p.held, p.booked, coalesce(p.held + request.quantity <= request.max_held, true)
             AND coalesce(p.held + p.booked + request.quantity <= request.max_taken, true) AS fits
    FROM request JOIN client_places AS p
      ON p.business_id = request.business_id AND p.by_id = request.by_id AND p.name = request.name
      AND p.max_live_holds IS NOT DISTINCT FROM request.max_live_holds
  ), ranked_request AS (
    SELECT limited_request.*, quantity + coalesce(sum(CASE WHEN is_leader AND fits THEN quantity END) OVER (
             PARTITION BY business_id, by_id, name ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
             AS requested
    FROM limited_request
  ), refused_request AS (
    SELECT operation_id, business_id, attempt, fingerprint, bool_or(held + requested > max_held) AS holds_too_many
    FROM ranked_request
    WHERE is_leader AND (held + requested > max_held OR held + booked + requested > max_taken)
    GROUP BY operation_id, business_id, attempt, fingerprint
  )
  SELECT ARRAY(
    -- Equal requests of one attempt get the outcome of their leader, whatever their own client is.
    SELECT ROW(r.operation_id, CASE WHEN refused.holds_too_many THEN 'too_many_holds' ELSE 'too_many_bookings' END,
      NULL)::booking.outcome
    FROM refused_request AS refused
    JOIN unnest(p_open) AS r
      ON r.operation_id = refused.operation_id
      OR r.business_id = refused.business_id AND r.attempt = refused.attempt AND r.fingerprint = refused.fingerprint)
$$;

-- Adds to refusals of booking.hoarders when to ask again: after the seconds until the first live hold of the client ends.
-- Only holds that this call grants itself may be all that it has: then until the first of them could end.
--
--   p_open      as in booking.hoarders
--   p_outcomes  its outcomes
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

-- Adds the places of new bookings to the counts of their clients: to the address and the own id of each.
--
-- Parameters  of each booking: its business, its places, and the names of its client, of which some may be NULL
CREATE FUNCTION booking.count_bookings(
  p_business_ids text[], p_places integer[], p_address_hmacs text[], p_id_hmacs text[], p_now timestamptz)
RETURNS void LANGUAGE sql VOLATILE
AS $$
  INSERT INTO booking.client_bookings AS c (business_id, day, client_hmac, places)
  SELECT b.business_id, booking.utc_day(p_now), client.name, sum(b.places)
  FROM unnest(p_business_ids, p_places, p_address_hmacs, p_id_hmacs) AS b (business_id, places, address, id)
  CROSS JOIN LATERAL (VALUES (b.address), (b.id)) AS client (name)
  WHERE b.address IS NOT NULL AND client.name IS NOT NULL
  GROUP BY b.business_id, client.name
  ON CONFLICT ON CONSTRAINT client_bookings_pkey DO UPDATE SET places = c.places + excluded.places
$$;

-- Returns the day in which bookings are counted.
CREATE FUNCTION booking.utc_day(p_now timestamptz)
RETURNS date LANGUAGE sql IMMUTABLE
AS $$ SELECT (p_now AT TIME ZONE 'UTC')::date $$;
