-- Executes requests of any number of businesses and all verbs: one call, one transaction, one fsync. It is the only
-- entry to the verbs. The planner settings made here apply to everything that it calls (sql/README.md, "Plans").
--
-- Parameters
--   p_business_ids  no duplicates
--   p_batches       one for each business: {release?: […], commit?: […], extend?: […], change?: […], book?: […],
--                   reserve?: […]}, with the requests as their verbs describe them; at most 1,000 requests in a call.
--                   The verbs run in this order, so that requests that free room come before requests that take it
--   p_deadline      as in booking.lock_businesses
-- Returns one booking.outcome for each request, in any order. Besides the outcomes of the verbs:
--   deferred     not tried; the caller sends the request again, before newer ones. Another transaction holds the lock
--                of the business, or the request needs more rounds than booking.max_rounds
--   lock_waited  operation_id is NULL: the call waited for the lock of the first business; body: {seconds}
-- Raises  as booking.lock_businesses; nothing was written then
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
  v_verbs record;
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
  SELECT bool_or(batch ? 'release') AS release, bool_or(batch ? 'commit') AS commit,
         bool_or(batch ? 'extend') AS extend, bool_or(batch ? 'change') AS change,
         bool_or(batch ? 'book') AS book, bool_or(batch ? 'reserve') AS reserve
  INTO v_verbs FROM unnest(v_batches) AS batch;

  IF v_verbs.release THEN
    RETURN QUERY SELECT * FROM booking.release(v_ids, v_batches, v_now);
  END IF;
  IF v_verbs.commit THEN
    RETURN QUERY SELECT * FROM booking.commit(v_ids, v_batches, v_now);
  END IF;
  IF v_verbs.extend THEN
    RETURN QUERY SELECT * FROM booking.extend(v_ids, v_batches, v_now);
  END IF;
  IF v_verbs.change THEN
    RETURN QUERY SELECT * FROM booking.change(v_ids, v_batches, v_now);
  END IF;
  IF v_verbs.book THEN
    RETURN QUERY SELECT * FROM booking.claim('book', v_ids, v_batches, v_now, false);
  END IF;
  IF v_verbs.reserve THEN
    RETURN QUERY SELECT * FROM booking.claim('reserve', v_ids, v_batches, v_now, NOT (
      v_verbs.release OR v_verbs.commit OR v_verbs.extend OR v_verbs.change OR v_verbs.book));
  END IF;
END
$$;

-- Returns how many rounds a verb decides in one call, for all businesses in parallel; the requests left are deferred.
-- The limit bounds the time for which the locks are held.
CREATE FUNCTION booking.max_rounds()
RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT 16 $$;
