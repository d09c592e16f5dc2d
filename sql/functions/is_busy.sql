-- Tries the lock of a business without waiting. Returns whether another transaction has it; if not, this
-- one has it from now on. A business that does not exist is not busy.
CREATE OR REPLACE FUNCTION booking.is_busy(p_business_id text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM FROM booking.businesses WHERE business_id = p_business_id FOR NO KEY UPDATE SKIP LOCKED;
  RETURN NOT FOUND AND EXISTS (SELECT FROM booking.businesses WHERE business_id = p_business_id);
END
$$;
