-- Cleans up one business: holds past their expiry become expired, and reservations that ended longer ago
-- than the idempotency window are deleted. Nothing depends on it: an expired hold blocks nobody even if it
-- is never called. It takes the lock that commit and extend take, because otherwise a row could be marked
-- expired in the middle of its commit.
--
--   p_business_id  the tenant
--   p_retention    how long an ended reservation answers for its idempotency key
--   p_limit        how many rows to expire, and to delete, at most
--   p_deadline     as in booking.lock_business
--
-- Returns one row
--   expired, deleted  how many were
--   freed             [{service_id, resource_id}]: what has more room now for all to see; once for each service
--   busy              whether somebody else is at work in the business: then nothing was tried
-- Raises  as booking.lock_business
-- Locks   the business, without waiting
CREATE OR REPLACE FUNCTION booking.purge(
  p_business_id text, p_retention interval, p_limit integer, p_deadline timestamptz,
  OUT expired integer, OUT deleted integer, OUT freed jsonb, OUT busy boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_sort = off
AS $$
DECLARE
  v_now timestamptz;
BEGIN
  busy := booking.try_lock_business(p_business_id) IS FALSE;
  expired := 0;
  deleted := 0;
  freed := '[]';
  IF busy THEN
    RETURN;
  END IF;
  v_now := booking.lock_business(p_business_id, p_deadline);

  SELECT coalesce(sum(of_service.holds), 0),
         coalesce(jsonb_agg(jsonb_build_object(
           'service_id', of_service.service_id, 'resource_id', of_service.resource_id)), '[]')
  INTO expired, freed
  FROM (
    SELECT ended.service_id, min(ended.resource_id) AS resource_id, count(*) AS holds
    FROM booking.end_holds(p_business_id, ARRAY(
      SELECT reservation_id FROM booking.reservations
      WHERE business_id = p_business_id AND ended_at IS NULL AND expires_at <= v_now
      ORDER BY expires_at LIMIT p_limit), 'expired', v_now) AS ended
    GROUP BY ended.service_id
  ) AS of_service;

  DELETE FROM booking.reservations
  WHERE business_id = p_business_id AND reservation_id = ANY (ARRAY(
    SELECT reservation_id FROM booking.reservations
    WHERE business_id = p_business_id AND ended_at <= v_now - p_retention
    ORDER BY ended_at LIMIT p_limit));
  GET DIAGNOSTICS deleted = ROW_COUNT;
END
$$;

-- The businesses that have something to purge.
CREATE OR REPLACE FUNCTION booking.due_businesses(p_retention interval)
RETURNS TABLE (business_id text)
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  SELECT b.business_id FROM booking.businesses b
  CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
  WHERE EXISTS (
    SELECT FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at IS NULL AND r.expires_at <= clock.now)
  OR EXISTS (
    SELECT FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at <= clock.now - p_retention)
$$;

-- Writes down that a run of the purge has ended, for reservation health, and forgets the runs of last month.
CREATE OR REPLACE FUNCTION booking.record_purge(
  p_run_id uuid, p_started_at timestamptz, p_expired integer, p_deleted integer, p_remaining integer)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
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

-- How many reservations there are to purge.
CREATE OR REPLACE FUNCTION booking.count_due(p_retention interval)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
  -- Tenant by tenant, as the indexes are: the cost is that of what is due.
  SELECT coalesce(sum(expired.n + ended.n), 0)::bigint
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
$$;
