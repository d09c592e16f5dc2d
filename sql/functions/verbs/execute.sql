-- Runs requests of any number of businesses and of all verbs: one call, one transaction, one fsync. It is the one way
-- to the verbs, and planner settings are made here, for everything below (sql/README.md has the reasons).
--
--   p_business_ids  none twice
--   p_batches       for each of them {release?: […], commit?: […], extend?: […], change?: […], book?: […], reserve?:
--                   […]}, with the requests as their verbs take them. The verbs run in this order: what frees room
--                   comes before what takes it
--   p_deadline      as in booking.lock_businesses
--
-- Returns the outcomes of all requests, in any order. Besides those of the verbs:
--   deferred     not tried, and to be sent again before others: another transaction has the lock of the business, or
--                the request needs more rounds than booking.max_rounds
--   lock_waited  of no operation: the lock of the first business was waited for; body: {seconds}
-- Raises  as booking.lock_businesses: then nothing was done
-- Locks   the businesses
CREATE FUNCTION booking.execute(p_business_ids text[], p_batches jsonb[], p_deadline timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
SET enable_memoize = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_lock record := booking.lock_businesses(p_business_ids, p_deadline);
  v_now timestamptz := v_lock.now;
  v_ids text[] := p_business_ids;
  v_batches jsonb[] := p_batches;
  v_asked record;
BEGIN
  IF v_lock.waited_seconds IS NOT NULL THEN
    RETURN NEXT (NULL, 'lock_waited', jsonb_build_object('seconds', v_lock.waited_seconds))::booking.outcome;
  END IF;
  IF cardinality(v_lock.ready) < cardinality(p_business_ids) THEN
    RETURN QUERY
      SELECT (request ->> 'operation_id')::uuid, 'deferred', NULL::jsonb
      FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
      CROSS JOIN jsonb_each(b.batch) AS verb (name, requests)
      CROSS JOIN jsonb_array_elements(verb.requests) AS request
      WHERE b.business_id <> ALL (v_lock.ready);
    SELECT array_agg(b.business_id), array_agg(b.batch) INTO v_ids, v_batches
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    WHERE b.business_id = ANY (v_lock.ready);
  END IF;
  SELECT bool_or(batch ? 'release') AS release, bool_or(batch ? 'commit') AS commit, bool_or(batch ? 'extend') AS extend,
         bool_or(batch ? 'change') AS change, bool_or(batch ? 'book') AS book, bool_or(batch ? 'reserve') AS reserve
  INTO v_asked FROM unnest(v_batches) AS batch;

  IF v_asked.release THEN
    RETURN QUERY SELECT * FROM booking.release(v_ids, v_batches, v_now);
  END IF;
  IF v_asked.commit THEN
    RETURN QUERY SELECT * FROM booking.commit(v_ids, v_batches, v_now);
  END IF;
  IF v_asked.extend THEN
    RETURN QUERY SELECT * FROM booking.extend(v_ids, v_batches, v_now);
  END IF;
  IF v_asked.change THEN
    RETURN QUERY SELECT * FROM booking.change(v_ids, v_batches, v_now);
  END IF;
  IF v_asked.book THEN
    RETURN QUERY SELECT * FROM booking.claim('book', v_ids, v_batches, v_now, false);
  END IF;
  IF v_asked.reserve THEN
    RETURN QUERY SELECT * FROM booking.claim('reserve', v_ids, v_batches, v_now, NOT (
      v_asked.release OR v_asked.commit OR v_asked.extend OR v_asked.change OR v_asked.book));
  END IF;
END
$$;

-- How many rounds a verb decides in one call, all businesses in parallel. What is left is deferred: a bound on the time
-- under the locks.
CREATE FUNCTION booking.max_rounds()
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT 16 $$;
