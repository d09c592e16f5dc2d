-- What operations read about reservations: aggregates only, one row. Conversion is over the holds that ended
-- within the last hour.
CREATE OR REPLACE VIEW booking.reservation_health AS
  SELECT
    clock.now,
    (SELECT count(*) FROM booking.reservations r WHERE r.ended_at IS NULL AND r.expires_at > clock.now) AS live,
    due.expired_unpurged,
    due.oldest_expired_at,
    last_run.finished_at AS last_purge_at,
    ended.committed AS committed_last_hour,
    ended.ended AS ended_last_hour
  FROM (SELECT booking.now() AS now OFFSET 0) AS clock
  CROSS JOIN LATERAL (
    SELECT count(*) AS expired_unpurged, min(r.expires_at) AS oldest_expired_at
    FROM booking.reservations r WHERE r.ended_at IS NULL AND r.expires_at <= clock.now
  ) AS due
  LEFT JOIN LATERAL (
    SELECT m.finished_at FROM booking.maintenance_runs m
    WHERE m.business_id = '*' ORDER BY m.finished_at DESC LIMIT 1
  ) AS last_run ON true
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE r.status = 'committed') AS committed, count(*) AS ended
    FROM booking.reservations r WHERE r.ended_at > clock.now - interval '1 hour'
  ) AS ended;

-- The clock as it is defined: anything but the shipped definition does not tell the time.
CREATE OR REPLACE VIEW booking.clock_definition AS
  SELECT btrim(p.prosrc) AS body, l.lanname::text AS language, p.proconfig AS settings
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
  WHERE p.oid = 'booking.now()'::regprocedure;
