-- The claims of one service that occupy any part of a window: live holds and confirmed appointments.
-- This is the predicate; every decision, every listing and every count of room goes through it.
--
--   p_longest_seconds  the longest span ever claimed on the service (services.longest_occupied_seconds).
--                      A claim that overlaps the window cannot have begun earlier than that before it,
--                      so the scan is a short range of an index, whatever the history.
--   p_window           half-open: a claim that ends where the window starts is not in it. Whoever decides gives
--                      booking.rest_of it
--   p_now              a hold at or past its expires_at is no claim
--   p_except           an appointment that is not counted: the one that is about to be moved
--
-- Each half is sorted as its index is, and the verbs switch sorting off: so no plan is left but the range of
-- that index, whatever the planner believes about tables that were small a minute ago (sql/README.md).
--
-- STABLE, so that it is inlined into the statement that uses it and reads that statement's snapshot.
-- The functions that decide are VOLATILE and begin that statement after they have the lock.
CREATE OR REPLACE FUNCTION booking.claims_during(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamptz,
  p_except uuid DEFAULT NULL)
RETURNS TABLE (occupied tstzrange, quantity integer, is_hold boolean)
LANGUAGE sql STABLE
AS $$
  (SELECT r.occupied, r.quantity, true
  FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.service_id = p_service_id AND r.status = 'held'
    AND lower(r.occupied) < upper(p_window)
    AND lower(r.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND r.occupied && p_window
    AND r.expires_at > p_now
  ORDER BY lower(r.occupied))
  UNION ALL
  (SELECT a.occupied, a.quantity, false
  FROM booking.appointments a
  WHERE a.business_id = p_business_id AND a.service_id = p_service_id AND a.status = 'confirmed'
    AND lower(a.occupied) < upper(p_window)
    AND lower(a.occupied) > lower(p_window) - make_interval(secs => p_longest_seconds)
    AND a.occupied && p_window
    AND a.appointment_id IS DISTINCT FROM p_except
  ORDER BY lower(a.occupied))
$$;

-- What of a window is not over yet: that is all that room is looked for in, and empty if all of it is over. What has ended
-- is in nobody's way, though it is a claim until somebody says what became of it.
CREATE OR REPLACE FUNCTION booking.rest_of(p_window tstzrange, p_now timestamptz)
RETURNS tstzrange
LANGUAGE sql IMMUTABLE
AS $$ SELECT p_window * tstzrange(p_now, NULL) $$;
