-- Turns holds of one business into appointments: the verb behind POST /api/booking/commit.
--
-- It takes the same lock as reserve. Without it a hold could expire while its commit is in flight, and a
-- rival's reserve would see neither a live hold nor an appointment yet: both would succeed.
--
-- A live hold has its room and is not checked against the capacity again. An expired one is refused, and
-- marked, so that it stays dead even if the clock steps back; with if_expired = 'rebook' its slot is
-- decided anew, like any other wish (booking.choose), and the hold stays expired.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, reservation_id, guest_name?, guest_email?, guest_phone?, notes?, guest_fault?,
--                  metadata, expected_version?, if_expired?, source, actor_kind, actor_id?, request_id?}].
--                  operation_id (a uuid) becomes the id of the appointment and of its audit row; guest_fault is
--                  what is wrong with the guest's data, {field, message}
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request, in any order:
--   done                   the new appointment, or the one that this very operation made before
--   replayed               the appointment that an earlier commit of this hold made
--   validation_failed      it has a guest_fault, which is the body, and is no replay
--   reservation_not_found
--   reservation_released
--   reservation_expired
--   version_conflict       the hold's version is not expected_version; body: {current_version}
--   slot_unavailable       rebook only: no room any more, or the slot is over, or the service is archived;
--                          body: see booking.requested_slot
--   deferred               rebook only: not decided, as in booking.claim_slots
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry has one effect, whatever its operation_id: the reservation is its own key.
CREATE OR REPLACE FUNCTION booking.commit(p_business_id text, p_requests jsonb, p_deadline timestamptz)
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
  v_open booking.commit_request[];
  v_answers booking.outcome[];
  v_rounds integer := 0;
BEGIN
  v_open := ARRAY(
    SELECT jsonb_populate_record(NULL::booking.commit_request, request || jsonb_build_object('position', position))
    FROM jsonb_array_elements(p_requests) WITH ORDINALITY AS listed (request, position));

  v_answers := booking.commit_holds(p_business_id, v_open, NULL, v_now);
  v_open := ARRAY(
    SELECT request FROM unnest(v_open) AS request JOIN unnest(v_answers) AS answer USING (operation_id)
    WHERE (request).if_expired = 'rebook' AND answer.outcome = 'reservation_expired');
  RETURN QUERY
    SELECT * FROM unnest(v_answers)
    WHERE operation_id NOT IN (SELECT operation_id FROM unnest(v_open));

  WHILE cardinality(v_open) > 0 AND v_rounds < booking.max_rounds() LOOP
    v_rounds := v_rounds + 1;
    v_answers := booking.rebook_round(p_business_id, v_open, v_now);
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_open := ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_answers)));
  END LOOP;
  RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
END
$$;

-- Decides one round of the expired holds that are to be booked again, and books those that still fit.
-- Returns the outcomes of the requests that this decides; the others wait for a later round.
CREATE OR REPLACE FUNCTION booking.rebook_round(p_business_id text, p_open booking.commit_request[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_wishes booking.wish[];
  v_round booking.wish[];
  v_deciding booking.commit_request[];
  v_granted booking.grant[];
BEGIN
  v_wishes := ARRAY(
    SELECT ROW(open.position, r.reservation_id::text, r.service_id, r.occupied, r.quantity,
      CASE
        WHEN found.has_resources AND r.quantity = 1 THEN found.pool
        WHEN found.has_resources OR r.resource_named THEN '{}'
      END)::booking.wish
    FROM unnest(p_open) AS open
    CROSS JOIN LATERAL (
      SELECT * FROM booking.reservations r
      WHERE r.business_id = p_business_id AND r.reservation_id = open.reservation_id
      OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT FROM booking.services s
      WHERE s.business_id = p_business_id AND s.service_id = r.service_id AND s.archived_at IS NULL
      OFFSET 0
    ) AS still_offered
    -- The pool as it is today, and any of it where any would have done.
    CROSS JOIN LATERAL booking.find_pool(
      p_business_id, r.service_id, CASE WHEN r.resource_named THEN r.resource_id END, NULL) AS found
    WHERE r.slot_end > p_now);
  v_round := booking.next_round(v_wishes);
  -- Those of this round, and those that have nothing to wish for any more.
  v_deciding := ARRAY(
    SELECT request FROM unnest(p_open) AS request
    WHERE (request).reservation_id::text IN (SELECT attempt FROM unnest(v_round))
      OR (request).reservation_id::text NOT IN (SELECT attempt FROM unnest(v_wishes)));
  v_granted := ARRAY(SELECT booking.choose(p_business_id, v_round, p_now));
  PERFORM booking.note_longest(p_business_id, v_round, v_granted);
  RETURN booking.commit_holds(p_business_id, v_deciding, v_granted, p_now);
END
$$;

-- Makes the appointments of the holds that can be committed, and answers for all.
--   p_rebooked  those requests whose expired hold has been granted its room again, and the resource that it gets now;
--               NULL where that has not been decided yet
CREATE OR REPLACE FUNCTION booking.commit_holds(
  p_business_id text, p_open booking.commit_request[], p_rebooked booking.grant[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_answers booking.outcome[];
BEGIN
  WITH found AS MATERIALIZED (
    SELECT open.*, hold.r AS hold, earlier.a AS earlier, rebooked.position IS NOT NULL AS is_rebooked,
           CASE WHEN rebooked.position IS NULL THEN (hold.r).resource_id ELSE rebooked.resource_id END AS resource_id,
      CASE
        WHEN (earlier.a).appointment_id = open.operation_id THEN 'done'
        WHEN (earlier.a).appointment_id IS NOT NULL THEN 'replayed'
        WHEN open.guest_fault IS NOT NULL THEN 'validation_failed'
        WHEN (hold.r).reservation_id IS NULL THEN 'reservation_not_found'
        WHEN (hold.r).status = 'released' THEN 'reservation_released'
        WHEN rebooked.position IS NOT NULL THEN NULL
        WHEN p_rebooked IS NOT NULL THEN 'slot_unavailable'
        WHEN (hold.r).status <> 'held' OR (hold.r).expires_at <= p_now THEN 'reservation_expired'
        WHEN (hold.r).version <> open.expected_version THEN 'version_conflict'
      END AS outcome
    FROM unnest(p_open) AS open
    LEFT JOIN unnest(p_rebooked) AS rebooked USING (position)
    LEFT JOIN LATERAL (
      SELECT r FROM booking.reservations r
      WHERE r.business_id = p_business_id AND r.reservation_id = open.reservation_id
      OFFSET 0
    ) AS hold ON true
    LEFT JOIN LATERAL (
      SELECT a FROM booking.appointment_of_reservation(p_business_id, open.reservation_id) AS a
    ) AS earlier ON true
  ), winner AS MATERIALIZED (
    -- Several commits of one hold make one appointment: the first to come makes it.
    SELECT DISTINCT ON (reservation_id) * FROM found WHERE outcome IS NULL ORDER BY reservation_id, position
  ), committed AS MATERIALIZED (
    SELECT reservation_id
    FROM booking.end_holds(p_business_id, ARRAY(SELECT reservation_id FROM winner), 'committed', p_now)
  ), booked AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, reservation_id, service_id, resource_id, slot_start, slot_end, occupied, quantity,
      status, version, guest_name, guest_email, guest_phone, notes, metadata, source, created_at, updated_at)
    SELECT p_business_id, operation_id, reservation_id, (hold).service_id, resource_id, (hold).slot_start,
           (hold).slot_end, (hold).occupied, (hold).quantity, 'confirmed', 1, guest_name, guest_email, guest_phone,
           notes, metadata, source, p_now, p_now
    FROM winner
    WHERE reservation_id IN (SELECT reservation_id FROM committed) OR is_rebooked
    RETURNING a
  ), audited AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT p_business_id, operation_id, operation_id, 1, 'created', actor_kind, actor_id,
           booking.audit_changes(NULL, booked.a), request_id, p_now
    FROM booked JOIN winner ON winner.operation_id = (booked.a).appointment_id
  )
  SELECT array_agg(ROW(
    found.operation_id,
    CASE
      WHEN (booked.a).appointment_id = found.operation_id THEN 'done'
      WHEN (booked.a).appointment_id IS NOT NULL THEN 'replayed'
      ELSE found.outcome
    END,
    CASE
      WHEN (booked.a).appointment_id IS NOT NULL THEN booking.appointment_body(booked.a)
      WHEN (found.earlier).appointment_id IS NOT NULL THEN booking.appointment_body(found.earlier)
      WHEN found.outcome = 'validation_failed' THEN found.guest_fault
      WHEN found.outcome = 'version_conflict' THEN jsonb_build_object('current_version', (found.hold).version)
      WHEN found.outcome = 'slot_unavailable' THEN booking.requested_slot(
        (found.hold).service_id, (found.hold).slot_start, (found.hold).slot_end, (found.hold).quantity,
        CASE WHEN (found.hold).resource_named THEN (found.hold).resource_id END)
    END)::booking.outcome)
  INTO v_answers
  FROM found LEFT JOIN booked ON (booked.a).reservation_id = found.reservation_id;

  PERFORM booking.end_holds(p_business_id, ARRAY(
    SELECT (request).reservation_id FROM unnest(p_open) AS request JOIN unnest(v_answers) AS answer USING (operation_id)
    WHERE answer.outcome = 'reservation_expired'), 'expired', p_now);
  RETURN v_answers;
END
$$;
