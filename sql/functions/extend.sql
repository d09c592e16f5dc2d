-- Extends holds of one business: the verb behind POST /api/booking/reservations/{id}/extend.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, reservation_id, ttl_minutes, expected_version?}]. ttl_minutes counts from
--                  now and is cut to the service's maximum
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                     expires_at is the later of what it was and now + ttl; if that is what it
--                            was, nothing changed, not even the version
--   reservation_not_found, reservation_released, reservation_expired
--   reservation_committed
--   version_conflict         body: {current_version}
--   hold_lifetime_exceeded   now + ttl is past the end of the hold's total lifetime; body: {max_expires_at}.
--                            Nothing changed: a refused extend never renews
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry with the same operation_id has one effect, as long as the hold was not changed in between.
CREATE OR REPLACE FUNCTION booking.extend(p_business_id text, p_requests jsonb, p_deadline timestamptz)
RETURNS SETOF booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_nth bigint := 1;
BEGIN
  -- The nth extend of a hold is decided in the nth round, and sees what the ones before it did.
  LOOP
    RETURN QUERY
    WITH request AS MATERIALIZED (
      SELECT * FROM (
        SELECT r.*, row_number() OVER (PARTITION BY reservation_id ORDER BY position) AS nth
        FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (
          operation_id uuid, reservation_id uuid, ttl_minutes numeric, expected_version integer)) WITH ORDINALITY AS r (
          operation_id, reservation_id, ttl_minutes, expected_version, position)
      ) AS numbered
      WHERE nth = v_nth
    ), found AS MATERIALIZED (
      SELECT request.*, hold.r AS hold, v_now + booking.hold_ttl(s.hold_ttl_minutes, s.max_hold_ttl_minutes, request.ttl_minutes) AS wanted_until,
             request.ttl_minutes > s.max_hold_ttl_minutes AS ttl_clamped,
             (hold.r).created_at + make_interval(mins => s.max_hold_lifetime_minutes) AS max_expires_at
      FROM request
      LEFT JOIN LATERAL (
        SELECT r FROM booking.reservations r
        WHERE r.business_id = p_business_id AND r.reservation_id = request.reservation_id
        OFFSET 0
      ) AS hold ON true
      LEFT JOIN LATERAL (
        SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = (hold.r).service_id OFFSET 0
      ) AS s ON true
    ), judged AS MATERIALIZED (
      SELECT found.*,
        CASE
          WHEN (hold).reservation_id IS NULL THEN 'reservation_not_found'
          WHEN (hold).last_operation_id = operation_id THEN 'done'
          WHEN (hold).status IN ('released', 'committed') THEN 'reservation_' || (hold).status
          WHEN (hold).status = 'expired' OR (hold).expires_at <= v_now THEN 'reservation_expired'
          WHEN (hold).version <> expected_version THEN 'version_conflict'
          WHEN wanted_until > max_expires_at THEN 'hold_lifetime_exceeded'
          ELSE 'done'
        END AS outcome
      FROM found
    ), lapsed AS MATERIALIZED (
      -- Joined below only because a query that nobody reads is not run.
      SELECT reservation_id FROM booking.end_holds(
        p_business_id, ARRAY(SELECT reservation_id FROM judged WHERE outcome = 'reservation_expired'), 'expired', v_now)
    ), extended AS (
      -- An upsert of rows that exist, for the reason given in booking.end_holds.
      INSERT INTO booking.reservations AS r
      SELECT (changed).* FROM (
        SELECT jsonb_populate_record(hold, jsonb_build_object(
          'expires_at', wanted_until, 'ttl_clamped', ttl_clamped, 'last_operation_id', operation_id)) AS changed
        FROM judged
        WHERE outcome = 'done' AND wanted_until > (hold).expires_at AND (hold).last_operation_id <> operation_id
      ) AS extending
      ON CONFLICT (business_id, reservation_id) DO UPDATE
      SET expires_at = excluded.expires_at, ttl_clamped = excluded.ttl_clamped,
          last_operation_id = excluded.last_operation_id, version = r.version + 1
      RETURNING r
    )
    SELECT judged.operation_id, judged.outcome,
      CASE judged.outcome
        WHEN 'done' THEN booking.reservation_body(coalesce(extended.r, judged.hold), v_now)
        WHEN 'version_conflict' THEN jsonb_build_object('current_version', (judged.hold).version)
        WHEN 'hold_lifetime_exceeded' THEN jsonb_build_object('max_expires_at', judged.max_expires_at)
      END
    FROM judged
    LEFT JOIN extended ON (extended.r).reservation_id = judged.reservation_id
    LEFT JOIN lapsed ON lapsed.reservation_id = judged.reservation_id;
    EXIT WHEN NOT FOUND;
    v_nth := v_nth + 1;
  END LOOP;
END
$$;
