-- Reads for operations, over the whole database. They take no lock.

-- Returns the reservation health: aggregates only, one row. The two counts of the last hour are of reservations that
-- ended in it, and give the conversion. A run of the purge that ended in the future, before the clock was set back, is
-- not counted: until that time came, no process would purge, and no operator would be informed.
CREATE FUNCTION booking.reservation_health()
RETURNS TABLE (
  now timestamptz, live bigint, expired_unpurged bigint, oldest_expired_at timestamptz, last_purge_at timestamptz,
  committed_last_hour bigint, ended_last_hour bigint)
LANGUAGE sql VOLATILE
AS $$
  SELECT
    clock.now,
    (SELECT count(*) FROM booking.reservations r WHERE r.ended_at IS NULL AND r.expires_at > clock.now),
    due.expired_unpurged,
    due.oldest_expired_at,
    last_run.finished_at,
    ended.committed,
    ended.ended
  FROM (SELECT booking.now() AS now OFFSET 0) AS clock
  CROSS JOIN LATERAL (
    SELECT count(*) AS expired_unpurged, min(r.expires_at) AS oldest_expired_at
    FROM booking.reservations r WHERE r.ended_at IS NULL AND r.expires_at <= clock.now
  ) AS due
  LEFT JOIN LATERAL (
    SELECT m.finished_at FROM booking.maintenance_runs m
    WHERE m.business_id = '*' AND m.finished_at <= clock.now ORDER BY m.finished_at DESC LIMIT 1
  ) AS last_run ON true
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE r.status = 'committed') AS committed, count(*) AS ended
    FROM booking.reservations r WHERE r.ended_at > clock.now - interval '1 hour'
  ) AS ended
$$;

-- Returns the number of violations of each invariant that SQL can check by itself: the rows of its view.
--
--   p_recent  true: of the audit trail only changes of the last hour, of the counts only windows from now on; false:
--             the whole history, which is slow
CREATE FUNCTION booking.invariant_violations(p_recent boolean)
RETURNS TABLE (invariant text, violations bigint) LANGUAGE sql VOLATILE
AS $$
  SELECT 'overbooked_instants', count(*) FROM booking.overbooked_instants
  UNION ALL
  SELECT 'double_booked_resources', count(*) FROM booking.double_booked_resources
  UNION ALL
  SELECT 'miscounted_windows', count(*)
  FROM booking.find_miscounted(CASE WHEN p_recent THEN booking.now() ELSE '-infinity' END)
  UNION ALL
  SELECT 'audit_gaps', count(*)
  FROM booking.audit_gaps
  CROSS JOIN (
    SELECT CASE WHEN p_recent THEN booking.now() - interval '1 hour' ELSE '-infinity' END AS instant OFFSET 0) AS since
  WHERE updated_at > since.instant
$$;

-- Returns the definition of booking.now(). The service compares it with the shipped one, to find a clock that was
-- replaced.
CREATE FUNCTION booking.clock_definition()
RETURNS TABLE (body text, language text, settings text[]) LANGUAGE sql STABLE
AS $$
  SELECT btrim(p.prosrc), l.lanname::text, p.proconfig
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
  WHERE p.oid = 'booking.now()'::regprocedure
$$;

-- Returns the migrations and definitions that were applied to this database.
CREATE FUNCTION booking.applied_migrations()
RETURNS TABLE (filename text, sha256 text, service_version integer[]) LANGUAGE sql STABLE
AS $$ SELECT m.filename, m.sha256, m.service_version FROM booking.schema_migrations m $$;
