-- Locks businesses, checks the caller's deadline, and then reads the clock. Every verb begins with this call.
--
-- The lock of a business is its row in booking.businesses, FOR NO KEY UPDATE. There is one level of locks, and the
-- operations on one business are totally ordered. FOR NO KEY UPDATE does not conflict with the FOR KEY SHARE that
-- foreign keys take on the same row. A transaction that already holds the lock acquires it again without waiting.
--
-- Locking is a statement of its own, because under READ COMMITTED a statement reads the snapshot taken when it began. A
-- statement that waits for the lock and also counts would count the rows as they were before the wait, and oversell.
-- tests/concurrency/designs keeps the designs that overlook this, each with a test that shows it fail.
--
-- The call waits for the first business only, while it holds no lock, and takes the others with SKIP LOCKED. Two calls
-- therefore never wait for each other, in whatever order they list their businesses.
--
-- Parameters
--   p_business_ids  at least one id, no duplicates
--   p_deadline      instant of the server's clock; from then on the caller treats the call as failed
--   p_wait          whether to wait for the first business; false: SKIP LOCKED for the first one too
-- Returns
--   now             booking.now(), read after the last lock
--   ready           the businesses that the caller may work on: locked, or not existing
--   waited_seconds  how long the call waited for the first business; NULL if its lock was free
-- Raises
--   HF001  p_deadline has passed. The transaction writes nothing. A call whose connection was lost may still be waiting
--          for the lock, and must not grant a request that its caller has already reported as failed
--   HF002  the isolation level is not READ COMMITTED. Under REPEATABLE READ the snapshot is fixed for the whole
--          transaction, so the same lock oversells
--   55P03  lock_timeout expired. Two seconds apply where none is set and p_deadline is less than a minute away
-- Locks   one row of businesses each, until the end of the transaction
CREATE FUNCTION booking.lock_businesses(
  p_business_ids text[], p_deadline timestamptz, p_wait boolean DEFAULT true,
  OUT now timestamptz, OUT ready text[], OUT waited_seconds numeric)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_wait_began_at timestamptz;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the isolation level must be READ COMMITTED, not %', current_setting('transaction_isolation')
      USING ERRCODE = 'HF002', HINT = 'Remove default_transaction_isolation from the role or the database.';
  END IF;

  PERFORM FROM booking.businesses WHERE business_id = p_business_ids[1] FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND AND p_wait THEN
    -- A pooler in transaction mode does not carry the session's settings over, so lock_timeout may be unset.
    IF current_setting('lock_timeout') = '0' AND p_deadline < clock_timestamp() + interval '1 minute' THEN
      PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    v_wait_began_at := clock_timestamp();
    PERFORM FROM booking.businesses WHERE business_id = p_business_ids[1] FOR NO KEY UPDATE;
    IF FOUND THEN
      waited_seconds := extract(epoch FROM clock_timestamp() - v_wait_began_at);
    END IF;
  END IF;

  IF cardinality(p_business_ids) = 1 AND p_wait THEN
    ready := p_business_ids;
  ELSE
    ready := ARRAY(
      SELECT business.id FROM unnest(p_business_ids) AS business (id)
      LEFT JOIN LATERAL (
        SELECT true AS is_locked FROM booking.businesses b
        WHERE b.business_id = business.id FOR NO KEY UPDATE SKIP LOCKED
      ) AS try ON true
      WHERE try.is_locked OR NOT EXISTS (
        SELECT FROM booking.businesses b WHERE b.business_id = business.id OFFSET 0));
  END IF;

  -- clock_timestamp(), not booking.now(): the deadline is real time, and the tests move booking.now().
  IF clock_timestamp() >= p_deadline THEN
    RAISE EXCEPTION 'the deadline passed before the lock of the business was acquired' USING ERRCODE = 'HF001';
  END IF;
  now := booking.now();
END
$$;

-- Locks one business, waiting for it; the functions of the catalog begin with it.
--
-- Returns  booking.now(), read after the lock, or NULL if the business does not exist
-- Raises   as booking.lock_businesses
-- Locks    the business
CREATE FUNCTION booking.lock_business(p_business_id text, p_deadline timestamptz)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := (booking.lock_businesses(ARRAY[p_business_id], p_deadline)).now;
BEGIN
  IF EXISTS (SELECT FROM booking.businesses b WHERE b.business_id = p_business_id) THEN
    RETURN v_now;
  END IF;
  RETURN NULL;
END
$$;
