-- Locks businesses and then reads the clock. Every verb begins with it.
--
-- The lock is the row of the business, FOR NO KEY UPDATE: one level of locks, and a total order of the operations of
-- one business. It does not conflict with the FOR KEY SHARE that foreign keys take on the same row. A transaction that
-- has the lock gets it again at once.
--
-- Locking is a statement of its own. A statement sees the snapshot taken when it began: if the same statement waited
-- for the lock and then counted, it would count the rows as they were before the wait. tests/concurrency keeps the
-- designs that overlook this, and shows each of them failing.
--
-- The first business is waited for while nothing is held, the others are taken only if they are free: so no two calls
-- wait for each other, in whatever order they name their businesses.
--
--   p_business_ids  at least one, none twice
--   p_deadline      an instant of the server's clock after which the caller has given up
--   p_wait          whether the first is waited for
--
-- Returns
--   now             booking.now(), read after the last lock
--   ready           the businesses that may be worked on: locked, or not there at all
--   waited_seconds  how long the first was waited for; NULL if it was free
-- Raises  HF001  the deadline has passed. Nothing was written, and nothing will be: a call whose connection was lost
--                may still wait for the lock, and must not grant what its caller was told had failed
--         HF002  the isolation level is not READ COMMITTED. Under REPEATABLE READ the snapshot is taken once for the
--                transaction, and the very same lock oversells
--         55P03  lock_timeout; two seconds where none is set and the deadline is near
-- Locks   businesses, a row each, until the end of the transaction
CREATE FUNCTION booking.lock_businesses(
  p_business_ids text[], p_deadline timestamptz, p_wait boolean DEFAULT true,
  OUT now timestamptz, OUT ready text[], OUT waited_seconds numeric)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_asked_at timestamptz;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'reservations are decided under READ COMMITTED, not under %', current_setting('transaction_isolation')
      USING ERRCODE = 'HF002', HINT = 'Remove default_transaction_isolation from the role or the database.';
  END IF;

  PERFORM FROM booking.businesses WHERE business_id = p_business_ids[1] FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND AND p_wait THEN
    -- Behind a pooler in transaction mode a session's settings are missing.
    IF current_setting('lock_timeout') = '0' AND p_deadline < clock_timestamp() + interval '1 minute' THEN
      PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    v_asked_at := clock_timestamp();
    PERFORM FROM booking.businesses WHERE business_id = p_business_ids[1] FOR NO KEY UPDATE;
    IF FOUND THEN
      waited_seconds := extract(epoch FROM clock_timestamp() - v_asked_at);
    END IF;
  END IF;

  IF cardinality(p_business_ids) = 1 AND p_wait THEN
    ready := p_business_ids;
  ELSE
    ready := ARRAY(
      SELECT asked.id FROM unnest(p_business_ids) AS asked (id)
      LEFT JOIN LATERAL (
        SELECT true AS is_locked FROM booking.businesses b WHERE b.business_id = asked.id FOR NO KEY UPDATE SKIP LOCKED
      ) AS free ON true
      WHERE free.is_locked OR NOT EXISTS (
        SELECT FROM booking.businesses b WHERE b.business_id = asked.id OFFSET 0));
  END IF;

  -- By the server's real clock, not booking.now(): tests move that one.
  IF clock_timestamp() >= p_deadline THEN
    RAISE EXCEPTION 'the deadline passed before the lock of the business was obtained' USING ERRCODE = 'HF001';
  END IF;
  now := booking.now();
END
$$;

-- Locks one business and waits for it, as the catalog does. Returns booking.now(), or NULL: there is no such business.
-- Raises and locks as booking.lock_businesses.
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
