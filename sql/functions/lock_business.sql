-- Takes the lock of one business and then reads the clock. Every verb begins with it. A transaction that has the lock gets
-- it again at once.
--
-- The lock is the business's own row, FOR NO KEY UPDATE: one level of locks, and so no order to get
-- wrong, and the operations of one business have a total order. It does not stand in the way of the
-- FOR KEY SHARE that foreign keys take on the same row.
--
-- It has to be a statement of its own. A statement sees the snapshot taken when it began: if the same
-- statement waited for the lock and then counted, it would count the rows as they were before the wait.
-- tests/concurrency keeps the designs that overlook this, and shows each of them failing.
--
--   p_business_id  the tenant
--   p_deadline     an instant of the server's clock, after which the caller has given up
--
-- Returns booking.now(), or NULL if there is no such business.
-- Raises  HF001  the deadline has passed. Nothing was written, and nothing will be: a call whose
--                connection was lost can wait for the lock, wake up and grant what its caller was
--                long told had failed.
--         HF002  the isolation level is not READ COMMITTED. Under REPEATABLE READ the snapshot is
--                taken once for the whole transaction, and the very same lock oversells.
--         55P03  lock_timeout; two seconds where none is set and the deadline is near
-- Locks   businesses, one row, until the end of the transaction
CREATE OR REPLACE FUNCTION booking.lock_business(p_business_id text, p_deadline timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'reservations are decided under READ COMMITTED, not under %', current_setting('transaction_isolation')
      USING ERRCODE = 'HF002', HINT = 'Remove default_transaction_isolation from the role or the database.';
  END IF;

  -- Behind a pooler in transaction mode a session's settings are not there. A caller that gives up does not wait on.
  IF current_setting('lock_timeout') = '0' AND p_deadline < clock_timestamp() + interval '1 minute' THEN
    PERFORM set_config('lock_timeout', '2s', true);
  END IF;

  PERFORM FROM booking.businesses WHERE business_id = p_business_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;

  -- Elapsed time is the server's real clock, not booking.now(): tests move that one.
  IF clock_timestamp() >= p_deadline THEN
    RAISE EXCEPTION 'the deadline passed before the lock of the business was obtained'
      USING ERRCODE = 'HF001';
  END IF;
  RETURN booking.now();
END
$$;

-- Tries the lock of a business without waiting.
--
-- Returns whether this transaction has it now, or NULL if there is no such business.
-- Locks   businesses, one row, until the end of the transaction. No deadline is looked at: whoever has one looks at it
--         afterwards.
CREATE OR REPLACE FUNCTION booking.try_lock_business(p_business_id text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM FROM booking.businesses WHERE business_id = p_business_id FOR NO KEY UPDATE SKIP LOCKED;
  RETURN CASE
    WHEN FOUND THEN true
    WHEN EXISTS (SELECT FROM booking.businesses WHERE business_id = p_business_id) THEN false
  END;
END
$$;
