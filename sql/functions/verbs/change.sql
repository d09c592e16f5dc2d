-- Changes appointments: moves, edits, cancels and erases them. The verb behind PATCH, reschedule, cancel and the erasure
-- of a guest's data.
--
-- A round decides one change of each appointment, and at most one move of each business, because a move must see the
-- counts that the move before it left. Changes of one business are rare enough that this does not limit throughput.
--
-- Parameters
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, appointment_id, action, expected_version?,
--                              actor_kind, actor_id?, request_id?, set?, reason?}]. operation_id (a uuid) becomes the
--                              id of the audit row. action is
--                                'change'  set: {service_id?, slot_start?, slot_end?, resource_id?, quantity?, status?,
--                                          guest_name?, guest_email?, guest_phone?, notes?, metadata?}. slot_start
--                                          alone keeps the length, of a service by days the number of days; a new
--                                          service has its own length and buffers, and keeps the resource if that is
--                                          in its pool; resource_id null means any free resource; status confirmed
--                                          takes 'completed' and 'no_show' back
--                                'reschedule'  set: {slot_start, slot_end?, resource_id?}, as above
--                                'cancel'  reason is stored
--                                'erase'   removes the data that is or may be personal: guest, notes, reason, metadata
--                              A guest (actor_kind) is bound by the terms of the service, and the guest's moves by the
--                              rules for the public
-- Returns one booking.outcome for each request, in any order:
--   done                        the appointment as it is now. A request that changes no field changes nothing, not even
--                               the version; neither does cancelling a cancelled appointment. A move by the business has
--                               what booking.warnings returns
--   service_not_found           no such service, or it is archived and not the one that the appointment has
--   appointment_not_found
--   version_conflict            the version is not expected_version; body: {current_version}
--   appointment_ended           the appointment is cancelled, completed or no_show: its slot is final, and so is its
--                               status, but for the way back to 'confirmed' of the last two; body:
--                               {appointment_status}
--   appointment_not_started     completed and no_show are possible from the start of the slot on; body: {slot_start}
--   business_misconfigured      the new end depends on local time, and this server does not know the time zone of the
--                               business
--   cancellation_window_closed  body: {cancellable_until}
--   reschedule_window_closed    body: {reschedulable_until}
--   resource_not_found          the service has no such resource
--   slot_not_bookable           the public cannot book the new slot; body: {reason}, as in booking.claim
--   validation_failed           body of booking.fault
--   slot_unavailable            there is no room for the new slot, or for the old one of an appointment that is taken
--                               back, or the resource is not free; body: see booking.requested_slot
--   deferred                    the request needs more rounds than booking.max_rounds: not tried
-- Locks  none of its own; the caller holds the locks of the businesses
-- A retry with the same operation_id has one effect.
CREATE FUNCTION booking.change(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_open booking.appointment_change[];
  v_round booking.appointment_change[];
  v_moves booking.appointment_change[];
BEGIN
  v_open := ARRAY(
    SELECT ROW(row_number() OVER (), b.business_id, request ->> 'operation_id', request,
      NULL, NULL, NULL, NULL, NULL, NULL)::booking.appointment_change
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN jsonb_array_elements(b.batch -> 'change') AS request);

  FOR v_n IN 1 .. booking.max_rounds() LOOP
    EXIT WHEN cardinality(v_open) = 0;
    v_round := booking.judge_moves_of_guests(booking.judge_changes(v_open, p_now), p_now);
    -- Changes that free room are recorded before the moves of the round take room.
    RETURN QUERY SELECT * FROM booking.record_changes(
      ARRAY(SELECT c FROM unnest(v_round) AS c WHERE c.is_move IS NOT TRUE), p_now);
    v_moves := booking.decide_moves(v_round, p_now);
    RETURN QUERY SELECT * FROM booking.record_changes(v_moves, p_now);
    v_open := ARRAY(
      SELECT c FROM unnest(v_open) AS c WHERE c.operation_id NOT IN (SELECT r.operation_id FROM unnest(v_round) AS r));
  END LOOP;
  RETURN QUERY SELECT c.operation_id, 'deferred', NULL::jsonb FROM unnest(v_open) AS c;
END
$$;

-- Judges one round of changes: the first of each appointment, and of these every change that is no move and the first
-- move of each business. Returns them, refused ones with their outcome; one without an outcome can be made if it needs
-- no room or finds it.
CREATE FUNCTION booking.judge_changes(p_open booking.appointment_change[], p_now timestamptz)
RETURNS booking.appointment_change[] LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    WITH first_of_appointment AS (
      SELECT DISTINCT ON (c.business_id, c.details ->> 'appointment_id') c.*,
             (c.details ->> 'appointment_id')::uuid AS appointment_id
      FROM unnest(p_open) AS c
      ORDER BY c.business_id, c.details ->> 'appointment_id', c.position
    ), with_appointment AS MATERIALIZED (
      SELECT c.position, c.business_id, c.operation_id, c.details, old.a AS before, service.s AS service,
             booking.with_changes(old.a, service.s, c.details) AS after,
        CASE
          WHEN own.audit_id IS NOT NULL THEN 'done'
          WHEN (service.s).service_id IS NULL AND (c.details -> 'set') ? 'service_id' THEN 'service_not_found'
          WHEN (old.a).appointment_id IS NULL THEN 'appointment_not_found'
          WHEN c.details ->> 'action' = 'cancel' AND (old.a).status = 'cancelled' THEN 'done'
          WHEN (old.a).version <> (c.details ->> 'expected_version')::integer THEN 'version_conflict'
        END AS known_outcome
      FROM first_of_appointment AS c
      LEFT JOIN LATERAL (
        SELECT a FROM booking.appointment_by_id(c.business_id, c.appointment_id) AS a
      ) AS old ON true
      LEFT JOIN LATERAL (
        SELECT s FROM booking.service_by_id(
          c.business_id, coalesce(c.details -> 'set' ->> 'service_id', (old.a).service_id)) AS s
        WHERE s.service_id = (old.a).service_id OR s.archived_at IS NULL
      ) AS service ON true
      LEFT JOIN LATERAL (
        SELECT l.audit_id FROM booking.audit_logs l
        WHERE l.business_id = c.business_id AND l.audit_id BETWEEN c.operation_id AND c.operation_id ORDER BY l.audit_id
      ) AS own ON true
    ), with_refusal AS MATERIALIZED (
      SELECT with_appointment.*, CASE
          WHEN known_outcome IS NULL
          THEN booking.change_refusal(before, after, service, details, p_now)
        END AS refusal
      FROM with_appointment
    ), with_move AS MATERIALIZED (
      -- A change that needs room: of the service, slot, quantity or resource, or back to 'confirmed'.
      SELECT with_refusal.*, known_outcome IS NULL AND (refusal).outcome IS NULL AND (after).status = 'confirmed' AND (
          (before).status <> 'confirmed' OR (details -> 'set') ? 'resource_id'
          OR ((after).service_id, (after).occupied, (after).quantity)
            IS DISTINCT FROM ((before).service_id, (before).occupied, (before).quantity)) AS is_move
      FROM with_refusal
    ), with_pool AS MATERIALIZED (
      -- The resources that a move may get. An appointment keeps its resource unless it names another one, or is to get
      -- a new window or service on a resource that was archived or is not in the pool, or without one since before the
      -- service had a pool: then it gets one of the pool as it is now. A guest's move is always to a slot that the public
      -- can book, so it gets one of the pool also within the old window.
      SELECT with_move.*, CASE
          WHEN NOT is_move THEN NULL
          WHEN (after).resource_id = (before).resource_id AND (
            (before).status = 'confirmed' AND (after).occupied <@ (before).occupied
              AND (after).service_id = (before).service_id
              AND (details ->> 'actor_kind' <> 'guest' OR (after).occupied = (before).occupied) OR EXISTS (
              SELECT FROM booking.members(with_move.business_id, (with_move.after).service_id) AS m
              WHERE m.resource_id = (with_move.before).resource_id))
          THEN ROW(true, (SELECT r.seats FROM booking.resources r
            WHERE r.business_id = with_move.business_id AND r.resource_id = (with_move.before).resource_id),
            ARRAY[(before).resource_id], NULL)::booking.pool
          WHEN (before).resource_id IS NOT NULL OR (details -> 'set') ? 'resource_id'
            OR (after).service_id <> (before).service_id OR (before).status <> 'confirmed'
            OR NOT (after).occupied <@ (before).occupied
          THEN booking.find_pool(
            business_id, (after).service_id, details -> 'set' ->> 'resource_id',
            tstzrange((after).slot_start, (after).slot_end), booking.hours_apply(service), false)
        END AS pool
      FROM with_move
    ), with_outcome AS (
      SELECT with_pool.*, row_number() OVER (PARTITION BY business_id, is_move ORDER BY position) AS nth,
        CASE
          WHEN known_outcome IS NOT NULL THEN known_outcome
          WHEN (refusal).outcome IS NOT NULL THEN (refusal).outcome
          WHEN is_move AND details -> 'set' ->> 'resource_id' IS NOT NULL AND (pool).largest IS NULL
          THEN 'resource_not_found'
          WHEN is_move AND (after).quantity > (pool).largest THEN 'validation_failed'
        END AS outcome
      FROM with_pool
    )
    SELECT ROW(position, business_id, operation_id, details, before, after, is_move AND outcome IS NULL,
      (pool).resource_ids, outcome,
      CASE outcome
        WHEN 'done' THEN booking.appointment_body(before, service)
        WHEN 'version_conflict' THEN jsonb_build_object('current_version', (before).version)
        WHEN 'validation_failed' THEN coalesce((refusal).body, booking.too_many_for_a_resource((pool).largest))
        ELSE (refusal).body
      END)::booking.appointment_change
    FROM with_outcome
    WHERE nth = 1 OR is_move IS NOT TRUE);
END
$$;

-- Judges the moves of guests in a round by the rules for the public, as booking.judge judges a reserve of the new slot.
-- Returns the round, with the resources that the public can have, and the refused moves with their outcome.
--
-- A request that leaves slot and resource as they are moves nothing, and is not judged. One for an unknown resource is,
-- because other refusals come before that.
CREATE FUNCTION booking.judge_moves_of_guests(p_round booking.appointment_change[], p_now timestamptz)
RETURNS booking.appointment_change[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_business_ids text[];
  v_batches jsonb[];
  v_verdict record;
BEGIN
  SELECT array_agg(b.business_id), array_agg(b.batch) INTO v_business_ids, v_batches
  FROM (
    SELECT c.business_id, jsonb_build_object('reserve', jsonb_agg(jsonb_build_object(
      'operation_id', c.operation_id, 'service_id', (c.before).service_id, 'slot_start', (c.after).slot_start,
      'slot_end', (c.after).slot_end, 'quantity', (c.after).quantity, 'resource_id',
      CASE WHEN cardinality(c.resource_ids) = 1 THEN c.resource_ids[1] ELSE c.details -> 'set' ->> 'resource_id' END
    ))) AS batch
    FROM unnest(p_round) AS c
    WHERE c.details ->> 'actor_kind' = 'guest' AND (c.is_move OR c.outcome = 'resource_not_found')
      AND ((c.after).slot_start, (c.after).slot_end, (c.after).resource_id)
        IS DISTINCT FROM ((c.before).slot_start, (c.before).slot_end, (c.before).resource_id)
    GROUP BY c.business_id
  ) AS b;
  IF v_business_ids IS NULL THEN
    RETURN p_round;
  END IF;
  v_verdict := booking.judge('reserve', v_business_ids, v_batches, '{}', p_now);
  RETURN ARRAY(
    SELECT CASE
      WHEN refused.outcome = 'service_not_found' -- archived: the appointment stays, and the public cannot book
      THEN ROW(c.position, c.business_id, c.operation_id, c.details, c.before, c.after, false, NULL,
        'slot_not_bookable', '{"reason": "not_online"}')::booking.appointment_change
      WHEN refused.outcome IS NOT NULL
      THEN ROW(c.position, c.business_id, c.operation_id, c.details, c.before, c.after, false, NULL,
        refused.outcome, refused.body)::booking.appointment_change
      WHEN allowed.operation_id IS NOT NULL
      THEN ROW(c.position, c.business_id, c.operation_id, c.details, c.before, c.after, true, allowed.resource_ids,
        NULL, NULL)::booking.appointment_change
      ELSE c END
    FROM unnest(p_round) AS c
    LEFT JOIN unnest(v_verdict.refusals) AS refused ON refused.operation_id = c.operation_id
    LEFT JOIN unnest(v_verdict.open) AS allowed ON allowed.operation_id = c.operation_id);
END
$$;

-- Returns an appointment with the changes of a request applied, for the members listed here and no others. A moved slot
-- keeps its length (booking.moved_end) unless the request gives slot_end, and its buffers as they were when the claim was
-- made; with another service it gets the length and the buffers of that one.
--
--   p_service  the service of the changed appointment
CREATE FUNCTION booking.with_changes(
  p_before booking.appointments, p_service booking.services, p_details jsonb)
RETURNS booking.appointments LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_after booking.appointments := p_before;
  v_set jsonb := p_details -> 'set';
BEGIN
  IF p_details ->> 'action' = 'cancel' THEN
    v_after.status := 'cancelled';
    v_after.cancellation_reason := p_details ->> 'reason';
    RETURN v_after;
  ELSIF p_details ->> 'action' = 'erase' THEN
    v_set := '{"guest_name": null, "guest_email": null, "guest_phone": null, "notes": null, "metadata": {}}';
    v_after.cancellation_reason := NULL;
    v_after.fingerprint := NULL; -- a digest that includes the guest's data
  END IF;
  SELECT s.service_id, s.slot_start, s.slot_end, s.resource_id, s.quantity, s.status, s.guest_name, s.guest_email,
         s.guest_phone, s.notes, s.metadata
  INTO v_after.service_id, v_after.slot_start, v_after.slot_end, v_after.resource_id, v_after.quantity,
       v_after.status, v_after.guest_name, v_after.guest_email, v_after.guest_phone, v_after.notes, v_after.metadata
  FROM jsonb_populate_record(p_before, v_set) AS s;
  IF v_after.service_id <> p_before.service_id THEN
    IF NOT v_set ? 'slot_end' THEN
      v_after.slot_end := booking.slot_end(
        p_service, booking.timezone_of(p_before.business_id), v_after.slot_start, NULL);
    END IF;
    IF v_after.slot_start < v_after.slot_end THEN
      v_after.occupied := tstzrange(
        v_after.slot_start - make_interval(mins => p_service.buffer_before_minutes),
        v_after.slot_end + make_interval(mins => p_service.buffer_after_minutes));
    END IF;
    RETURN v_after;
  END IF;
  IF v_after.slot_start <> p_before.slot_start AND NOT v_set ? 'slot_end' THEN
    v_after.slot_end := booking.moved_end(
      p_service, p_before, v_after.slot_start, p_details ->> 'actor_kind' = 'guest');
  END IF;
  IF v_after.slot_start < v_after.slot_end THEN
    v_after.occupied := tstzrange(
      v_after.slot_start - booking.elapsed(lower(p_before.occupied), p_before.slot_start),
      v_after.slot_end + booking.elapsed(p_before.slot_end, upper(p_before.occupied)));
  END IF;
  RETURN v_after;
END
$$;

-- Returns the end of a moved slot: as many calendar days later, if the service is by days and the old slot had a whole
-- number of them, else the same elapsed time. A guest, who can get whole days only, keeps the nearest number of them:
-- three nights stay three nights after the time of the check-out has changed. NULL if that depends on a time zone that
-- this server does not know.
CREATE FUNCTION booking.moved_end(
  p_service booking.services, p_before booking.appointments, p_start timestamptz, p_is_guest boolean)
RETURNS timestamptz LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_timezone text;
  v_old record;
BEGIN
  IF p_service.duration_days IS NOT NULL THEN
    v_timezone := booking.timezone_of(p_service.business_id);
    IF v_timezone IS NULL THEN
      RETURN NULL;
    END IF;
    v_old := booking.days_of(p_service, v_timezone, p_before.slot_start, p_before.slot_end);
    IF v_old.is_exact OR p_is_guest AND v_old.kept IS NOT NULL THEN
      RETURN booking.end_of_days(p_service, v_timezone, p_start, v_old.kept);
    END IF;
  END IF;
  RETURN p_start + booking.elapsed(p_before.slot_start, p_before.slot_end);
END
$$;

-- Returns the refusal of a change that cannot be made whatever room there is, with a NULL outcome if it can be made.
CREATE FUNCTION booking.change_refusal(
  p_before booking.appointments, p_after booking.appointments, p_service booking.services, p_details jsonb,
  p_now timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_is_guest boolean := p_details ->> 'actor_kind' = 'guest';
  v_is_moved boolean :=
    (p_after.service_id, p_after.slot_start, p_after.slot_end, p_after.resource_id, p_after.quantity) IS DISTINCT FROM
    (p_before.service_id, p_before.slot_start, p_before.slot_end, p_before.resource_id, p_before.quantity);
  v_is_taken_back boolean := p_before.status IN ('completed', 'no_show') AND p_after.status = 'confirmed'
    AND NOT v_is_moved;
  v_cancellable_until timestamptz := booking.cancellable_until(p_service, p_before.slot_start);
  v_reschedulable_until timestamptz := booking.reschedulable_until(p_service, p_before.slot_start);
BEGIN
  IF p_before.status <> 'confirmed' AND NOT v_is_taken_back
    AND (v_is_moved OR p_after.status <> p_before.status OR p_details ->> 'action' = 'reschedule')
  THEN
    RETURN (NULL, 'appointment_ended', jsonb_build_object('appointment_status', p_before.status))::booking.outcome;
  ELSIF p_before.status = 'confirmed' AND p_after.status <> 'confirmed' AND v_is_moved THEN
    RETURN booking.invalid(
      'status', 'not_with', '{"fields": ["serviceId", "slotStart", "slotEnd", "resourceId", "quantity"]}');
  ELSIF p_before.status = 'confirmed' AND p_after.status IN ('completed', 'no_show') AND p_now < p_before.slot_start THEN
    RETURN (NULL, 'appointment_not_started', jsonb_build_object('slot_start', p_before.slot_start))::booking.outcome;
  ELSIF v_is_guest AND v_is_moved AND p_now > v_reschedulable_until THEN
    RETURN (NULL, 'reschedule_window_closed', jsonb_build_object(
      'reschedulable_until', v_reschedulable_until))::booking.outcome;
  ELSIF p_after.slot_end IS NULL THEN
    RETURN (NULL, 'business_misconfigured', NULL)::booking.outcome;
  ELSIF p_after.slot_end <= p_after.slot_start THEN
    RETURN booking.invalid('slot_end', 'not_after', '{"field": "slotStart"}');
  ELSIF (p_after.service_id, p_after.occupied) <> (p_before.service_id, p_before.occupied)
    AND booking.too_long_a_slot(p_service, p_after.slot_start, p_after.slot_end) IS NOT NULL
  THEN
    RETURN (NULL, 'validation_failed', booking.too_long_a_slot(
      p_service, p_after.slot_start, p_after.slot_end))::booking.outcome;
  ELSIF v_is_guest AND p_after.status = 'cancelled' AND p_now > v_cancellable_until THEN
    RETURN (NULL, 'cancellation_window_closed', jsonb_build_object(
      'cancellable_until', v_cancellable_until))::booking.outcome;
  END IF;
  RETURN NULL;
END
$$;

-- Decides the moves of a round. The claim of the appointment itself is not counted against its move, and a move that
-- needs no more than this claim keeps its room, even if the capacity was lowered in the meantime. Returns the decided
-- moves: each with the resource that it gets, or refused.
CREATE FUNCTION booking.decide_moves(p_round booking.appointment_change[], p_now timestamptz)
RETURNS booking.appointment_change[] LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_moves booking.appointment_change[] := ARRAY(SELECT c FROM unnest(p_round) AS c WHERE c.is_move);
  v_decision record := booking.decide(ARRAY(
    SELECT ROW(c.position, c.business_id, c.operation_id, c.operation_id::text, (c.after).service_id,
      (c.after).slot_start, (c.after).slot_end, lower((c.after).occupied), upper((c.after).occupied),
      (c.after).quantity, c.resource_ids, NULL, NULL, NULL, NULL, NULL, NULL,
      booking.own_claim_of(c.before),
      (c.before).status = 'confirmed' AND (c.after).service_id = (c.before).service_id
        AND (c.after).occupied <@ (c.before).occupied
        AND (c.after).quantity <= (c.before).quantity
        AND (c.after).resource_id IS NOT DISTINCT FROM (c.before).resource_id
        AND ((c.before).resource_id <> ALL (c.resource_ids)) IS NOT TRUE)::booking.claim_request
    FROM unnest(v_moves) AS c), p_now);
BEGIN
  RETURN ARRAY(
    SELECT CASE v_decision.outcomes[n]
      WHEN 'granted' THEN ROW(c.position, c.business_id, c.operation_id, c.details, c.before,
        jsonb_populate_record(c.after, jsonb_build_object('resource_id', v_decision.resource_ids[n], 'is_exclusive',
          CASE WHEN (v_decision.resource_ids[n], (c.after).occupied, (c.after).service_id)
            IS DISTINCT FROM ((c.before).resource_id, (c.before).occupied, (c.before).service_id)
              OR (c.before).status <> 'confirmed'
          THEN NOT v_decision.in_session[n] ELSE (c.before).is_exclusive END)),
        true, c.resource_ids, NULL,
        booking.with_freed(jsonb_build_object('business_id', c.business_id), CASE
          -- Its service has no pool any more: the answer does not name the resource that the appointment leaves.
          WHEN (c.before).resource_id IS NOT NULL AND v_decision.resource_ids[n] IS NULL THEN ARRAY[c.business_id]
          ELSE v_decision.freed END))::booking.appointment_change
      ELSE ROW(c.position, c.business_id, c.operation_id, c.details, c.before, c.after, true, c.resource_ids,
        'slot_unavailable', booking.requested_slot(
          (c.after).service_id, (c.after).slot_start, (c.after).slot_end, (c.after).quantity,
          CASE cardinality(c.resource_ids) WHEN 1 THEN c.resource_ids[1] END))::booking.appointment_change
    END
    FROM generate_subscripts(v_moves, 1) AS n CROSS JOIN LATERAL (SELECT (v_moves[n]).*) AS c
    WHERE v_decision.outcomes[n] IS NOT NULL);
END
$$;

-- Writes the changes of a round that were not refused and that differ from the stored row, with their audit rows, and
-- frees the room of appointments that were moved or ended. Returns the outcomes of the round.
CREATE FUNCTION booking.record_changes(p_round booking.appointment_change[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_changes booking.appointment_change[] := ARRAY(
    SELECT ROW(c.position, c.business_id, c.operation_id, c.details, c.before,
      jsonb_populate_record(c.after, jsonb_build_object('version', (c.before).version + 1, 'updated_at', p_now)),
      c.is_move, c.resource_ids, c.outcome, c.body)::booking.appointment_change
    FROM unnest(p_round) AS c
    WHERE c.outcome IS NULL AND c.after IS DISTINCT FROM c.before);
BEGIN
  -- An upsert of rows that exist: ON CONFLICT always finds them through the primary key. An UPDATE could be planned
  -- over another index that contains the id.
  INSERT INTO booking.appointments AS a SELECT (c.after).* FROM unnest(v_changes) AS c
  ON CONFLICT (appointment_id, business_id) DO UPDATE
  SET (service_id, resource_id, is_exclusive, slot_start, slot_end, occupied, quantity, status, version, guest_name,
       guest_email, guest_phone, notes, metadata, cancellation_reason, fingerprint, updated_at)
    = (excluded.service_id, excluded.resource_id, excluded.is_exclusive, excluded.slot_start, excluded.slot_end,
       excluded.occupied, excluded.quantity, excluded.status, excluded.version, excluded.guest_name, excluded.guest_email,
       excluded.guest_phone, excluded.notes, excluded.metadata, excluded.cancellation_reason, excluded.fingerprint,
       excluded.updated_at);

  INSERT INTO booking.audit_logs (
    business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
  SELECT c.business_id, c.operation_id, (c.after).appointment_id, (c.after).version,
    CASE
      WHEN c.details ->> 'action' = 'erase' THEN 'erased'
      WHEN (c.after).status <> (c.before).status THEN (c.after).status
      WHEN ((c.after).slot_start, (c.after).slot_end, (c.after).resource_id)
        IS DISTINCT FROM ((c.before).slot_start, (c.before).slot_end, (c.before).resource_id) THEN 'rescheduled'
      ELSE 'changed'
    END,
    c.details ->> 'actor_kind', c.details ->> 'actor_id', booking.audit_changes(c.before, c.after),
    c.details ->> 'request_id', p_now
  FROM unnest(v_changes) AS c;

  PERFORM booking.free_claims(ARRAY(
    SELECT ROW(c.business_id, (c.before).service_id, (c.before).resource_id, (c.before).occupied, (c.before).quantity
      )::booking.freed_claim
    FROM unnest(p_round) AS c
    WHERE c.outcome IS NULL AND (c.before).status = 'confirmed' AND (c.is_move OR (c.after).status <> 'confirmed')));
  RETURN QUERY
    SELECT c.operation_id, coalesce(c.outcome, 'done'),
           CASE WHEN c.outcome IS NULL
             THEN coalesce(c.body, '{}') || booking.appointment_body(coalesce(written.after, c.after), service.s) || CASE
               WHEN c.is_move AND c.details ->> 'actor_kind' <> 'guest'
               THEN booking.warnings(c.before, c.after, p_now) ELSE '{}' END
             ELSE c.body END
    FROM unnest(p_round) AS c
    LEFT JOIN unnest(v_changes) AS written ON written.operation_id = c.operation_id
    LEFT JOIN LATERAL (
      SELECT s FROM booking.service_by_id(c.business_id, (c.after).service_id) AS s
    ) AS service ON true;
END
$$;
