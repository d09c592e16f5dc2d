-- Turns holds into appointments: the verb behind POST /api/booking/commit.
--
-- It takes the same lock as reserve. Without it a hold could expire while its commit is in flight, and a rival's
-- reserve would see neither a live hold nor an appointment yet: both would succeed.
--
-- A live hold has its room and is not compared with the capacity again; no count changes. An expired one is refused and
-- marked, so that it stays dead even if the clock steps back; with if_expired = 'rebook' its slot is decided anew, like
-- any other request for room, and the hold stays expired.
--
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, reservation_id, guest_name?, guest_email?,
--                  guest_phone?, notes?, guest_fault?, metadata, expected_version?, if_expired?, source, actor_kind,
--                  actor_id?, request_id?}]. operation_id (a uuid) becomes the id of the appointment and of its audit
--                  row; guest_fault is what is wrong with the guest's data, {field, message}
--   p_now          the clock, read after the locks
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
--   deferred               rebook only: it needs more rounds than booking.max_rounds
-- Locks   none of its own: the caller has the locks of the businesses
-- A retry has one effect, whatever its operation_id: the reservation is its own key.
CREATE FUNCTION booking.commit(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_open booking.commit_request[];
  v_wishes booking.claim_request[];
  v_decided record;
  v_rebooked booking.rebooking[];
  v_answers booking.outcome[];
BEGIN
  v_open := ARRAY(
    SELECT jsonb_populate_record(NULL::booking.commit_request, request || jsonb_build_object(
      'position', row_number() OVER (), 'business_id', b.business_id))
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN jsonb_array_elements(b.batch -> 'commit') AS request);

  v_answers := booking.commit_holds(v_open, NULL, p_now);
  v_open := ARRAY(
    SELECT request FROM unnest(v_open) AS request JOIN unnest(v_answers) AS answer USING (operation_id)
    WHERE (request).if_expired = 'rebook' AND answer.outcome = 'reservation_expired');
  RETURN QUERY
    SELECT * FROM unnest(v_answers) WHERE operation_id NOT IN (SELECT operation_id FROM unnest(v_open));

  FOR v_round IN 1 .. booking.max_rounds() LOOP
    EXIT WHEN cardinality(v_open) = 0;
    v_wishes := booking.rebook_wishes(v_open, p_now);
    v_decided := booking.decide(v_wishes, p_now);
    v_rebooked := ARRAY(
      SELECT ROW(w.operation_id, v_decided.outcomes[w.ordinality], v_decided.resource_ids[w.ordinality],
        v_decided.in_session[w.ordinality])::booking.rebooking
      FROM unnest(v_wishes) WITH ORDINALITY AS w);
    -- Those that are decided, and those that have nothing to wish for any more.
    v_answers := booking.commit_holds(ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (
        SELECT w.operation_id FROM unnest(v_rebooked) AS w WHERE w.outcome IS NULL)), v_rebooked, p_now);
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_open := ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_answers)));
  END LOOP;
  RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
END
$$;

-- What expired holds that are to be booked again ask room for: their windows as they were, and the pool of today, any
-- of it where any would have done. Nothing for a slot that is over, a service that is archived, a quantity that no
-- resource seats any more, or a hold that was booked again meanwhile.
CREATE FUNCTION booking.rebook_wishes(p_open booking.commit_request[], p_now timestamptz)
RETURNS booking.claim_request[] LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    SELECT ROW(open.position, r.business_id, open.operation_id, r.reservation_id::text, r.service_id, r.slot_start,
      r.slot_end, lower(r.occupied), upper(r.occupied), r.quantity,
      CASE WHEN (found.pool).has_resources THEN (found.pool).resource_ids WHEN r.resource_named THEN '{}' END,
      CASE WHEN r.resource_named THEN r.resource_id END,
      NULL, NULL, NULL, NULL, NULL, NULL, false)::booking.claim_request
    FROM unnest(p_open) AS open
    CROSS JOIN LATERAL (
      SELECT * FROM booking.reservations r
      WHERE r.reservation_id = open.reservation_id AND r.business_id = open.business_id OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT FROM booking.services s
      WHERE s.business_id = r.business_id AND s.service_id = r.service_id AND s.archived_at IS NULL OFFSET 0
    ) AS still_offered
    CROSS JOIN LATERAL (
      SELECT booking.find_pool(
        r.business_id, r.service_id, CASE WHEN r.resource_named THEN r.resource_id END, NULL) AS pool OFFSET 0
    ) AS found
    WHERE r.slot_end > p_now AND (r.quantity > (found.pool).largest) IS NOT TRUE AND NOT EXISTS (
      SELECT FROM booking.appointment_of_reservation(open.business_id, open.reservation_id)));
END
$$;

-- Makes the appointments of the holds that can be committed, and answers for all requests.
--   p_rebooked  what was decided about those whose hold has expired; NULL where that has not been asked yet
CREATE FUNCTION booking.commit_holds(p_open booking.commit_request[], p_rebooked booking.rebooking[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_answers booking.outcome[];
  v_ended record;
BEGIN
  WITH found AS MATERIALIZED (
    SELECT open.*, hold.r AS hold, earlier.a AS earlier, rebooked.outcome = 'granted' AS is_rebooked,
           CASE WHEN rebooked.outcome IS NULL THEN (hold.r).resource_id ELSE rebooked.resource_id END AS resource_id,
           coalesce(rebooked.in_session, (hold.r).in_session) AS in_session,
      CASE
        WHEN (earlier.a).appointment_id = open.operation_id THEN 'done'
        WHEN (earlier.a).appointment_id IS NOT NULL THEN 'replayed'
        WHEN open.guest_fault IS NOT NULL THEN 'validation_failed'
        WHEN (hold.r).reservation_id IS NULL THEN 'reservation_not_found'
        WHEN (hold.r).status = 'released' THEN 'reservation_released'
        WHEN rebooked.outcome = 'granted' THEN NULL
        WHEN p_rebooked IS NOT NULL THEN 'slot_unavailable'
        WHEN (hold.r).status <> 'held' OR (hold.r).expires_at <= p_now THEN 'reservation_expired'
        WHEN (hold.r).version <> open.expected_version THEN 'version_conflict'
      END AS outcome
    FROM unnest(p_open) AS open
    LEFT JOIN unnest(p_rebooked) AS rebooked USING (operation_id)
    LEFT JOIN LATERAL (
      SELECT r FROM booking.reservations r
      WHERE r.reservation_id = open.reservation_id AND r.business_id = open.business_id OFFSET 0
    ) AS hold ON true
    LEFT JOIN LATERAL (
      SELECT a FROM booking.appointment_of_reservation(open.business_id, open.reservation_id) AS a
    ) AS earlier ON true
  ), winner AS MATERIALIZED (
    -- Several commits of one hold make one appointment: the first to come makes it.
    SELECT DISTINCT ON (business_id, reservation_id) * FROM found
    WHERE outcome IS NULL ORDER BY business_id, reservation_id, position
  ), booked AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, reservation_id, service_id, resource_id, is_exclusive, slot_start, slot_end, occupied,
      quantity, status, version, guest_name, guest_email, guest_phone, notes, metadata, source, created_at, updated_at)
    SELECT business_id, operation_id, reservation_id, (hold).service_id, resource_id, NOT in_session, (hold).slot_start,
           (hold).slot_end, (hold).occupied, (hold).quantity, 'confirmed', 1, guest_name, guest_email, guest_phone,
           notes, metadata, source, p_now, p_now
    FROM winner
    RETURNING a
  ), audited AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT business_id, operation_id, operation_id, 1, 'created', actor_kind, actor_id,
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
  FROM found LEFT JOIN booked
    ON (booked.a).reservation_id = found.reservation_id AND (booked.a).business_id = found.business_id;

  -- What was booked again has ended before, and stays as it is.
  FOR v_ended IN
    SELECT CASE answer.outcome WHEN 'done' THEN 'committed' ELSE 'expired' END AS status,
           array_agg(request.business_id) AS business_ids, array_agg(request.reservation_id) AS reservation_ids
    FROM unnest(p_open) AS request JOIN unnest(v_answers) AS answer USING (operation_id)
    WHERE answer.outcome IN ('done', 'reservation_expired')
    GROUP BY 1
  LOOP
    PERFORM booking.end_holds(v_ended.business_ids, v_ended.reservation_ids, v_ended.status, p_now);
  END LOOP;
  RETURN v_answers;
END
$$;
