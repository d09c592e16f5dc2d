-- Whether a quantity fits beside the claims on one window, from now on, which booking.choose decides for many. If it does,
-- the caller ends the expired holds in the way before it gives their room away.
--
-- The sum of all claims of the window is never below their peak: mostly it already says yes.
--   p_except  an appointment that is not counted: the one that is about to be moved
CREATE OR REPLACE FUNCTION booking.fits(
  p_service booking.services, p_window tstzrange, p_quantity integer, p_now timestamptz, p_except uuid DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_rest tstzrange := booking.rest_of(p_window, p_now);
  v_claimed bigint;
BEGIN
  SELECT coalesce(sum(quantity), 0) INTO v_claimed
  FROM booking.claims_during(
    p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, v_rest, p_now, p_except);
  IF v_claimed + p_quantity > p_service.max_simultaneous_bookings THEN
    SELECT held + booked INTO v_claimed
    FROM booking.fullest_instant(
      p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, v_rest, p_now, p_except);
    IF v_claimed + p_quantity > p_service.max_simultaneous_bookings THEN
      RETURN false;
    END IF;
  END IF;
  RETURN true;
END
$$;
