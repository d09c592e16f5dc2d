-- Finds the requests that would give a guest more upcoming appointments of a service than max_upcoming_per_guest: those
-- that are confirmed and have not begun, by whichever way they were booked. Two appointments are of one guest if they
-- have the same e-mail address, whatever the case of its letters, or the same phone number, as it is stored.
--
-- A request that only those ahead of it in the same call can bring to the limit is deferred: they may still be refused
-- for another reason, so the next call decides it by what they became. The first request of a call always has its
-- outcome, so the calls end.
--
-- Parameters
--   p_claims  in the order of their positions; those of services without a limit are left out
-- Returns  an outcome guest_limit_reached or deferred for each request that may not go on
--
-- The conditions are ranges in the order of their index, from p_now on: see lookups.sql. At most max_upcoming_per_guest
-- matching rows are read by each.
CREATE FUNCTION booking.guests_at_limit(p_claims booking.guest_claim[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    WITH request AS MATERIALIZED (
      SELECT c.*, service.max_upcoming_per_guest, by_email.number + by_phone.number AS upcoming
      FROM unnest(p_claims) AS c
      CROSS JOIN LATERAL booking.service_by_id(c.business_id, c.service_id) AS service
      CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM (
          SELECT FROM booking.appointments a
          WHERE a.business_id = c.business_id
            AND (booking.folded_email(a.guest_email), a.slot_start) > (booking.folded_email(c.guest_email), p_now)
            AND booking.folded_email(a.guest_email) <= booking.folded_email(c.guest_email)
            AND a.service_id = c.service_id AND a.status = 'confirmed'
          ORDER BY booking.folded_email(a.guest_email), a.slot_start LIMIT service.max_upcoming_per_guest) AS found
      ) AS by_email
      CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM (
          SELECT FROM booking.appointments a
          WHERE a.business_id = c.business_id AND (a.guest_phone, a.slot_start) > (c.guest_phone, p_now)
            AND a.guest_phone <= c.guest_phone AND a.service_id = c.service_id AND a.status = 'confirmed'
            -- Those with the same address are in by_email.
            AND (booking.folded_email(a.guest_email) = booking.folded_email(c.guest_email)) IS NOT TRUE
          ORDER BY a.guest_phone, a.slot_start LIMIT service.max_upcoming_per_guest) AS found
      ) AS by_phone
      WHERE service.max_upcoming_per_guest IS NOT NULL
    ), ranked_request AS (
      -- Those ahead that match in both are counted twice, which may defer a request without need.
      SELECT request.*, CASE WHEN guest_email IS NOT NULL THEN row_number() OVER (
          PARTITION BY business_id, service_id, booking.folded_email(guest_email) ORDER BY position) - 1 ELSE 0 END
        + CASE WHEN guest_phone IS NOT NULL THEN row_number() OVER (
          PARTITION BY business_id, service_id, guest_phone ORDER BY position) - 1 ELSE 0 END AS ahead
      FROM request WHERE upcoming < max_upcoming_per_guest
    )
    SELECT ROW(operation_id, 'guest_limit_reached', NULL)::booking.outcome
    FROM request WHERE upcoming >= max_upcoming_per_guest
    UNION ALL
    SELECT ROW(operation_id, 'deferred', NULL)::booking.outcome
    FROM ranked_request WHERE upcoming + ahead >= max_upcoming_per_guest);
END
$$;
