-- Purges businesses, in bounded steps: holds that have expired become 'expired', reservations that ended longer ago
-- than the idempotency window are deleted. Nothing depends on it: an expired hold blocks nobody even if it is never
-- called. It takes the lock that commit and extend take: otherwise a row could expire in the middle of its commit.
-- Planning anew would be half of a short step.
--
--   p_business_ids  none twice
--   p_retention     how long an ended reservation answers for its idempotency key
--   p_limit         how many rows to expire, and to delete, at most
--   p_deadline      as in booking.lock_businesses
--
-- Returns one row
--   expired, deleted  how many were
--   freed             [{business_id, service_id, resource_id}], each service once: what has more room for all to see
--   busy              the businesses that another transaction has locked: there nothing was tried
-- Raises  as booking.lock_businesses
-- Locks   the businesses, without waiting
CREATE FUNCTION booking.purge(
  p_business_ids text[], p_retention interval, p_limit integer, p_deadline timestamptz,
  OUT expired integer, OUT deleted integer, OUT freed jsonb, OUT busy text[])
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
SET enable_memoize = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_lock record := booking.lock_businesses(p_business_ids, p_deadline, false);
  v_now timestamptz := v_lock.now;
  v_due_businesses text[];
  v_due_holds uuid[];
BEGIN
  -- What a crash undoes is purged again: nobody has to wait for the disk, least of all with the locks.
  PERFORM set_config('synchronous_commit', 'off', true);
  busy := ARRAY(SELECT id FROM unnest(p_business_ids) AS id WHERE id <> ALL (v_lock.ready));

  SELECT array_agg(due.business_id), array_agg(due.reservation_id) INTO v_due_businesses, v_due_holds
  FROM (
    SELECT r.business_id, r.reservation_id
    FROM unnest(v_lock.ready) AS b (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.reservations r
      WHERE r.business_id = b.id AND r.ended_at IS NULL AND r.expires_at <= v_now
      ORDER BY r.expires_at LIMIT p_limit
    ) AS r
    LIMIT p_limit
  ) AS due;
  SELECT coalesce(sum(of_service.holds), 0),
         coalesce(jsonb_agg(jsonb_build_object('business_id', of_service.business_id,
           'service_id', of_service.service_id, 'resource_id', of_service.resource_id)), '[]')
  INTO expired, freed
  FROM (
    SELECT ended.business_id, ended.service_id, min(ended.resource_id) AS resource_id, count(*) AS holds
    FROM booking.end_holds(v_due_businesses, v_due_holds, 'expired', v_now) AS ended
    GROUP BY ended.business_id, ended.service_id
  ) AS of_service;

  DELETE FROM booking.reservations AS r
  USING (
    SELECT old.business_id, old.reservation_id
    FROM unnest(v_lock.ready) AS b (id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.reservations r
      WHERE r.business_id = b.id AND r.ended_at <= v_now - p_retention
      ORDER BY r.ended_at LIMIT p_limit
    ) AS old
    LIMIT p_limit
  ) AS old
  WHERE r.reservation_id = old.reservation_id AND r.business_id = old.business_id;
  GET DIAGNOSTICS deleted = ROW_COUNT;
END
$$;

-- How much there is to purge in each business that has something.
CREATE FUNCTION booking.due_businesses(p_retention interval)
RETURNS TABLE (business_id text, due bigint) LANGUAGE sql VOLATILE
AS $$
  -- Business by business, as the indexes are: the cost is that of what is due.
  SELECT b.business_id, expired.n + ended.n
  FROM booking.businesses b
  CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
  CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at IS NULL AND r.expires_at <= clock.now
  ) AS expired
  CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at <= clock.now - p_retention
  ) AS ended
  WHERE expired.n + ended.n > 0
$$;

-- Records that a run of the purge has ended, for reservation health, and forgets the runs of last month.
CREATE FUNCTION booking.record_purge(
  p_run_id uuid, p_started_at timestamptz, p_expired integer, p_deleted integer, p_remaining integer)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  INSERT INTO booking.maintenance_runs (business_id, run_id, started_at, finished_at, expired, deleted, remaining)
  VALUES ('*', p_run_id, p_started_at, v_now, p_expired, p_deleted, p_remaining)
  ON CONFLICT ON CONSTRAINT maintenance_runs_pkey DO NOTHING;  -- sent again after a lost answer
  DELETE FROM booking.maintenance_runs WHERE business_id = '*' AND finished_at < v_now - interval '30 days';
END
$$;
