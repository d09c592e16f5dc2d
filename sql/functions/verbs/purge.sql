-- Purges businesses in bounded steps: marks expired holds as 'expired', deletes reservations that ended longer ago than
-- p_retention, and erases the guests' data of appointments whose slots ended guest_retention_days ago. No
-- decision depends on the purge: an expired hold takes no room even if the purge never runs. It takes the lock that
-- commit and extend take, because otherwise a hold could be marked as expired in the middle of its commit.
--
-- Generic plans are forced, because planning would take half of the time of a short step.
--
-- Parameters
--   p_business_ids  no duplicates
--   p_retention     for how long an ended reservation answers for its idempotency key
--   p_limit         at most this many rows are expired, as many deleted, and as many erased
--   p_deadline      as in booking.lock_businesses
-- Returns one row
--   expired, deleted, erased  the numbers of rows
--   freed             [{business_id, service_id, resource_id}], one for each service that has more room now;
--                     resource_id is one of the freed resources
--   busy              the businesses whose lock another transaction holds: not purged
-- Raises  as booking.lock_businesses
-- Locks   the businesses, without waiting
CREATE FUNCTION booking.purge(
  p_business_ids text[], p_retention interval, p_limit integer, p_deadline timestamptz,
  OUT expired integer, OUT deleted integer, OUT erased integer, OUT freed jsonb, OUT busy text[])
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
SET enable_memoize = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_lock record := booking.lock_businesses(p_business_ids, p_deadline, false);
  v_now timestamptz := v_lock.now;
  v_due_businesses text[];
  v_due_holds uuid[];
  v_overdue booking.appointments[];
BEGIN
  -- A purge that a crash undoes runs again, so its commit need not wait for the disk while it holds the locks.
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
  SELECT coalesce(sum(per_service.holds), 0),
         coalesce(jsonb_agg(jsonb_build_object('business_id', per_service.business_id,
           'service_id', per_service.service_id, 'resource_id', per_service.resource_id)), '[]')
  INTO expired, freed
  FROM (
    SELECT ended_hold.business_id, ended_hold.service_id, min(ended_hold.resource_id) AS resource_id, count(*) AS holds
    FROM booking.end_holds(v_due_businesses, v_due_holds, 'expired', v_now) AS ended_hold
    GROUP BY ended_hold.business_id, ended_hold.service_id
  ) AS per_service;

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

  v_overdue := ARRAY(
    SELECT overdue
    FROM unnest(v_lock.ready) AS b (id)
    CROSS JOIN LATERAL booking.overdue_appointments(b.id, v_now, p_limit) AS overdue
    LIMIT p_limit);
  erased := 0;
  IF cardinality(v_overdue) > 0 THEN
    erased := booking.erase_appointments(v_overdue, '{"actor_kind": "system"}', v_now);
  END IF;
END
$$;

-- Returns the appointments, at most p_limit, whose slots ended so long ago that the business no longer keeps their
-- guests' data, and that still have some. Days are of 24 hours.
CREATE FUNCTION booking.overdue_appointments(p_business_id text, p_now timestamptz, p_limit integer)
RETURNS SETOF booking.appointments LANGUAGE sql STABLE
AS $$
  SELECT old.*
  FROM booking.businesses b
  CROSS JOIN LATERAL (
    SELECT * FROM booking.appointments a
    WHERE a.business_id = p_business_id
      AND a.slot_end <= p_now - make_interval(hours => 24 * b.guest_retention_days) AND booking.holds_guest_data(a)
    ORDER BY a.slot_end LIMIT p_limit
  ) AS old
  WHERE b.business_id = p_business_id AND b.guest_retention_days IS NOT NULL
$$;

-- Returns the businesses that have something to purge, each with the number of rows; of appointments at most 10,000, so
-- that the call stays short when a business with a long history begins to limit the retention.
--
-- A generic plan is forced: planning looks up the helper functions, which fails in a transaction that is open while the
-- definitions are replaced.
CREATE FUNCTION booking.due_businesses(p_retention interval)
RETURNS TABLE (business_id text, due bigint) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  -- The indexes begin with the business, so the cost is proportional to the rows that are due.
  RETURN QUERY
  SELECT b.business_id, expired.n + ended.n + overdue.n
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
  CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM booking.overdue_appointments(b.business_id, clock.now, 10000)
  ) AS overdue
  WHERE expired.n + ended.n + overdue.n > 0;
END
$$;

-- Records a finished run of the purge, for booking.reservation_health, and deletes the records that are older than 30
-- days, and the counts of clients' bookings on former days, which no decision reads.
CREATE FUNCTION booking.record_purge(
  p_run_id uuid, p_started_at timestamptz, p_expired integer, p_deleted integer, p_erased integer,
  p_remaining integer)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  INSERT INTO booking.maintenance_runs (business_id, run_id, started_at, finished_at, expired, deleted, erased, remaining)
  VALUES ('*', p_run_id, p_started_at, v_now, p_expired, p_deleted, p_erased, p_remaining)
  ON CONFLICT ON CONSTRAINT maintenance_runs_pkey DO NOTHING;  -- the service repeats the call if its answer is lost
  DELETE FROM booking.maintenance_runs WHERE business_id = '*' AND finished_at < v_now - interval '30 days';
  DELETE FROM booking.client_bookings c USING booking.businesses b
  WHERE c.business_id = b.business_id AND c.day < booking.utc_day(v_now);
END
$$;
