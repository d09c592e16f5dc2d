-- Reads for those who run the service: what happened hour by hour, and what waits now. Each concerns all businesses, and
-- takes no lock. Where several servers hold the businesses, the caller adds up the rows of all of them.

-- Returns the events of claims since an instant: a hold was 'made', 'committed', 'released' or 'expired', an appointment
-- was 'booked', with a hold or without. A hold that has expired counts from then on, whether it was purged or not.
--
-- Each business is read by ranges of its indexes: the cost is proportional to the live holds, and to the holds that ended
-- and the appointments that changed since p_since. Bitmap scans are off for the callers, because the index by
-- updated_at alone gives whole ranges of blocks.
CREATE FUNCTION booking.claim_events(p_since timestamptz, p_now timestamptz)
RETURNS TABLE (business_id text, at timestamptz, event text) LANGUAGE sql STABLE
AS $$
  SELECT b.business_id, happened.at, happened.event
  FROM booking.businesses b
  CROSS JOIN LATERAL (
    SELECT r.created_at, r.status, r.expires_at, r.ended_at FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at >= p_since
    UNION ALL
    SELECT r.created_at, CASE WHEN r.expires_at <= p_now THEN 'expired' END, r.expires_at, NULL
    FROM booking.reservations r
    WHERE r.business_id = b.business_id AND r.ended_at IS NULL
    OFFSET 0
  ) AS hold
  CROSS JOIN LATERAL (
    VALUES (hold.created_at, 'made'),
           (CASE WHEN hold.status = 'expired' THEN hold.expires_at ELSE hold.ended_at END, hold.status)
  ) AS happened (at, event)
  WHERE happened.at >= p_since
  UNION ALL
  SELECT b.business_id, booked.at, 'booked'
  FROM booking.businesses b
  CROSS JOIN LATERAL (
    SELECT a.created_at AS at FROM booking.appointments a
    WHERE a.business_id = b.business_id AND a.updated_at >= p_since AND a.created_at >= p_since
    OFFSET 0
  ) AS booked
$$;

-- Returns the beginning of the first of the last p_hours hours in UTC, of which the last one is not over yet.
CREATE FUNCTION booking.first_hour(p_hours integer, p_now timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE
AS $$ SELECT date_trunc('hour', p_now, 'UTC') - make_interval(hours => p_hours - 1) $$;

-- Returns the numbers of events of each of the last hours, the current one included, in their order. Holds are counted as
-- far back as ended reservations are kept: see booking.purge.
--
--   p_hours  from 1
CREATE FUNCTION booking.hourly_counts(p_hours integer)
RETURNS TABLE (
  hour timestamptz, made bigint, committed bigint, released bigint, expired bigint, booked bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
  v_since timestamptz := booking.first_hour(p_hours, v_now);
BEGIN
  RETURN QUERY
  SELECT h.hour, coalesce(c.made, 0), coalesce(c.committed, 0), coalesce(c.released, 0), coalesce(c.expired, 0),
         coalesce(c.booked, 0)
  FROM generate_series(v_since, v_now, interval '1 hour') AS h (hour)
  LEFT JOIN (
    SELECT date_trunc('hour', e.at, 'UTC') AS hour,
           count(*) FILTER (WHERE e.event = 'made') AS made,
           count(*) FILTER (WHERE e.event = 'committed') AS committed,
           count(*) FILTER (WHERE e.event = 'released') AS released,
           count(*) FILTER (WHERE e.event = 'expired') AS expired,
           count(*) FILTER (WHERE e.event = 'booked') AS booked
    FROM booking.claim_events(v_since, v_now) AS e
    GROUP BY 1
  ) AS c USING (hour)
  ORDER BY h.hour;
END
$$;

-- Returns the businesses with the most holds made and appointments booked in the last hours, the current one included.
--
--   p_hours  from 1
--   p_limit  at most this many businesses
CREATE FUNCTION booking.busiest_businesses(p_hours integer, p_limit integer)
RETURNS TABLE (business_id text, name text, made bigint, booked bigint) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN QUERY
  SELECT busy.business_id, b.name, busy.made, busy.booked
  FROM (
    SELECT e.business_id, count(*) FILTER (WHERE e.event = 'made') AS made,
           count(*) FILTER (WHERE e.event = 'booked') AS booked
    FROM booking.claim_events(booking.first_hour(p_hours, v_now), v_now) AS e
    WHERE e.event IN ('made', 'booked')
    GROUP BY e.business_id
    ORDER BY count(*) DESC, e.business_id LIMIT p_limit
  ) AS busy
  JOIN booking.businesses b USING (business_id)
  ORDER BY busy.made + busy.booked DESC, busy.business_id;
END
$$;

-- Returns the last runs of the purge, the latest first; p_limit of them at most. Without those that ended in the future,
-- as in booking.reservation_health.
CREATE FUNCTION booking.purge_runs(p_limit integer)
RETURNS TABLE (
  run_id uuid, started_at timestamptz, finished_at timestamptz, expired integer, deleted integer, erased integer,
  remaining integer)
LANGUAGE sql VOLATILE
AS $$
  SELECT m.run_id, m.started_at, m.finished_at, m.expired, m.deleted, m.erased, m.remaining
  FROM booking.maintenance_runs m
  CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
  WHERE m.business_id = '*' AND m.finished_at <= clock.now ORDER BY m.finished_at DESC LIMIT p_limit
$$;

-- Returns the businesses whose lock is waited for now, those that are waited for longest first.
--
-- A session that waits for a row holds or awaits a lock of the row's place (locktype tuple), from which the row is found.
--
--   waiting       sessions that wait
--   seconds       how long the first of them has waited
--   blocker_pids  the sessions that hold the lock; 0 for a prepared transaction
CREATE FUNCTION booking.lock_waits()
RETURNS TABLE (business_id text, waiting bigint, seconds double precision, blocker_pids integer[])
LANGUAGE sql VOLATILE
AS $$
  WITH known_lock AS MATERIALIZED (SELECT * FROM pg_locks), waiter AS (
    SELECT row_lock.page, row_lock.tuple, row_lock.pid, row_lock.granted AS is_first, awaited.waitstart
    FROM known_lock row_lock
    JOIN known_lock awaited ON awaited.pid = row_lock.pid AND NOT awaited.granted
    WHERE row_lock.locktype = 'tuple' AND row_lock.relation = 'booking.businesses'::regclass
      AND row_lock.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
  )
  SELECT b.business_id, count(*), coalesce(extract(epoch FROM clock_timestamp() - min(w.waitstart)), 0)::double precision,
         ARRAY(SELECT DISTINCT pid FROM unnest(pg_blocking_pids(min(w.pid) FILTER (WHERE w.is_first))) AS pid)
  FROM waiter w
  CROSS JOIN LATERAL (
    SELECT * FROM booking.businesses b WHERE b.ctid = format('(%s,%s)', w.page, w.tuple)::tid
  ) AS b
  GROUP BY b.business_id
  ORDER BY 3 DESC
$$;
