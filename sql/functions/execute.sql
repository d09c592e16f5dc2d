-- Carries the batches of several businesses in one call, so that a round trip and an fsync are shared even
-- when the load is spread over tenants.
--
-- The lock of the first business is waited for, while nothing is held; the others' are taken only if they
-- are free, and what could not be had comes back as deferred. So there is no order of locks to get wrong
-- and no deadlock, and one tenant's stampede never stalls the rest. Whoever was deferred goes first next time.
--
-- The deadline is about getting the locks. A business whose lock was had in time is worked off, however long that takes; one
-- whose turn comes later is deferred. So a slow one costs the others a delay, and nobody what was granted.
--
--   p_batches   [{business_id, release?: […], commit?: […], extend?: […], change?: […], book?: […],
--               reserve?: […]}], the requests as the verbs take them, and run in this order: what makes room comes before
--               what takes it
--   p_deadline  as in booking.lock_business
--
-- Returns the outcomes of all requests, in any order; besides those of the verbs:
--   deferred     not tried, send it again: another transaction has the lock of this business, or its turn came after
--                the deadline; or else of a request, as booking.claim_slots and booking.commit say
--   lock_waited  of no operation: the lock of the first business was waited for; body: {seconds}
-- Raises  as booking.lock_business, while it waits for the first business: then nothing was done for any
-- Locks   the businesses of the batches
CREATE OR REPLACE FUNCTION booking.execute(p_batches jsonb, p_deadline timestamptz)
RETURNS SETOF booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  v_batch jsonb;
  v_business_id text;
  v_first boolean := true;
  v_has_lock boolean;
  v_asked_at timestamptz;
  v_deadline timestamptz;
BEGIN
  FOR v_batch IN SELECT * FROM jsonb_array_elements(p_batches) LOOP
    v_business_id := v_batch ->> 'business_id';
    v_has_lock := booking.try_lock_business(v_business_id);
    -- Looked at when the lock is had, not before: so no lock that came too late is ever worked under.
    IF v_has_lock IS FALSE OR clock_timestamp() >= p_deadline THEN
      IF NOT v_first THEN
        RETURN QUERY
          SELECT (request ->> 'operation_id')::uuid, 'deferred', NULL::jsonb
          FROM jsonb_each(v_batch - 'business_id') AS verb (name, requests)
          CROSS JOIN jsonb_array_elements(requests) AS request;
        CONTINUE;
      END IF;
      v_asked_at := clock_timestamp();
      v_has_lock := booking.lock_business(v_business_id, p_deadline) IS NOT NULL;
      RETURN QUERY SELECT NULL::uuid, 'lock_waited', jsonb_build_object(
        'seconds', extract(epoch FROM clock_timestamp() - v_asked_at));
    END IF;
    v_first := false;
    -- The verbs take the lock again, and where it was had in time they have no deadline any more.
    v_deadline := CASE WHEN v_has_lock THEN 'infinity' ELSE p_deadline END;
    IF v_batch ? 'release' THEN
      RETURN QUERY SELECT * FROM booking.release(v_business_id, v_batch -> 'release', v_deadline);
    END IF;
    IF v_batch ? 'commit' THEN
      RETURN QUERY SELECT * FROM booking.commit(v_business_id, v_batch -> 'commit', v_deadline);
    END IF;
    IF v_batch ? 'extend' THEN
      RETURN QUERY SELECT * FROM booking.extend(v_business_id, v_batch -> 'extend', v_deadline);
    END IF;
    IF v_batch ? 'change' THEN
      RETURN QUERY SELECT * FROM booking.change(v_business_id, v_batch -> 'change', v_deadline);
    END IF;
    IF v_batch ? 'book' THEN
      RETURN QUERY SELECT * FROM booking.book(v_business_id, v_batch -> 'book', v_deadline);
    END IF;
    IF v_batch ? 'reserve' THEN
      RETURN QUERY SELECT * FROM booking.reserve(v_business_id, v_batch -> 'reserve', v_deadline);
    END IF;
  END LOOP;
END
$$;
