-- Turns holds into appointments: the verb behind POST /api/booking/commit.
--
-- It takes the same lock as reserve. Without it a hold could expire while its commit is in flight, and a concurrent
-- reserve would see neither a live hold nor an appointment: both would succeed.
--
-- A live hold already has its room, so it is not compared with the capacity again, and no count changes. An expired
-- hold is refused and marked as expired, so that a clock that is set back does not revive it. With if_expired =
-- 'rebook' its slot is decided like a new request for room; the reservation stays expired.
--
-- Parameters
--   p_business_ids, p_batches  as in booking.execute; [{operation_id, reservation_id, guest_name?, guest_email?,
--                              guest_phone?, notes?, guest_fault?, metadata, expected_version?, if_expired?, source,
--                              actor_kind, actor_id?, request_id?, client_id_hmac?, max_live_holds?,
--                              max_daily_bookings?}]. operation_id (a uuid) becomes the id of the appointment and of its
--                              audit row; guest_fault is an error in the guest's data, as of booking.fault;
--                              client_id_hmac identifies the client, whose limits are those of booking.hoarders
-- Returns one booking.outcome for each request, in any order:
--   done                   the new appointment, or the appointment that this operation made before; with what
--                          booking.with_freed and booking.with_freed_hold add
--   replayed               the appointment that an earlier commit of this hold made; body: see booking.replayed_commit
--   validation_failed      the request has a guest_fault and is no replay; body: guest_fault. Not if the hold is unknown:
--                          a fault may depend on the country of the business, and must not reveal that it exists
--   reservation_not_found, reservation_released
--   reservation_expired    also with rebook, if the hold was shorter than a minute and the public can't book its slot
--                          (see booking.lasted_to_pay), or its client has booked too much on this day; body, if this
--                          call ended the hold: {freed}, see booking.freed_slot
--   version_conflict       the version of the hold is not expected_version; body: {current_version}
--   guest_limit_reached    the guest has as many upcoming appointments of the service as it allows; the hold stays
--   slot_unavailable       rebook only: there is no room, or the slot is over, or the service is archived; body: see
--                          booking.requested_slot, with what booking.with_freed_hold adds
--   deferred               the request depends on others of its guest in this call; rebook: or it needs more rounds than
--                          booking.max_rounds
-- Locks  none of its own; the caller holds the locks of the businesses
-- A retry has one effect, whatever its operation_id: the reservation id serves as the idempotency key.
CREATE FUNCTION booking.commit(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_requests booking.commit_request[];
  v_open booking.commit_request[];
  v_room_requests booking.claim_request[];
  v_decision record;
  v_rebookings booking.rebooking[];
  v_outcomes booking.outcome[];
  v_ended booking.reservations[];
BEGIN
  v_requests := ARRAY(
    SELECT jsonb_populate_record(NULL::booking.commit_request, request || jsonb_build_object(
      'position', row_number() OVER (), 'business_id', b.business_id))
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN jsonb_array_elements(b.batch -> 'commit') AS request);

  v_outcomes := booking.commit_holds(v_requests, NULL, p_now);
  v_open := ARRAY(
    SELECT request FROM unnest(v_requests) AS request JOIN unnest(v_outcomes) AS answer USING (operation_id)
    WHERE answer.outcome = 'limited' OR (
      (request).if_expired = 'rebook' AND answer.outcome = 'reservation_expired'
      AND booking.can_rebook((request).business_id, (request).reservation_id, p_now)));
  IF v_open <> '{}' THEN
    v_open := booking.within_limits(v_open, p_business_ids, p_batches, p_now);
  END IF;
  RETURN QUERY
    SELECT * FROM unnest(v_outcomes) WHERE operation_id NOT IN (SELECT operation_id FROM unnest(v_open));
  PERFORM booking.end_holds(array_agg(request.business_id), array_agg(request.reservation_id), 'expired', p_now)
  FROM unnest(v_requests) AS request JOIN unnest(v_outcomes) AS answer USING (operation_id)
  WHERE answer.outcome = 'reservation_expired' AND operation_id NOT IN (SELECT operation_id FROM unnest(v_open))
  HAVING count(*) > 0;
  IF v_open = '{}' THEN
    RETURN;
  END IF;

  -- Before the room of expired holds is decided, because a granted request is not refused any more.
  v_outcomes := booking.guests_at_limit(ARRAY(
    SELECT ROW(request.position, request.business_id, request.operation_id, r.service_id, request.guest_email,
      request.guest_phone)::booking.guest_claim
    FROM unnest(v_open) AS request
    CROSS JOIN LATERAL booking.reservation_by_id(request.business_id, request.reservation_id) AS r), p_now);
  RETURN QUERY SELECT * FROM unnest(v_outcomes);
  v_open := ARRAY(
    SELECT request FROM unnest(v_open) AS request
    WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_outcomes)));
  -- The expired hold of a guest at the limit stays as it is: the purge ends it, and announces the room.
  SELECT array_agg(ended) INTO v_ended
  FROM (
    SELECT array_agg(r.business_id) AS business_ids, array_agg(r.reservation_id) AS ids
    FROM unnest(v_open) AS request
    CROSS JOIN LATERAL booking.reservation_by_id(request.business_id, request.reservation_id) AS r
    WHERE r.expires_at <= p_now
    HAVING count(*) > 0
  ) AS expired
  CROSS JOIN LATERAL booking.end_holds(expired.business_ids, expired.ids, 'expired', p_now) AS ended;

  FOR v_round IN 1 .. booking.max_rounds() LOOP
    EXIT WHEN cardinality(v_open) = 0;
    v_room_requests := booking.rebook_requests(v_open, p_now);
    v_decision := booking.decide(v_room_requests, p_now);
    v_rebookings := ARRAY(
      SELECT ROW(w.operation_id, v_decision.outcomes[w.ordinality], v_decision.resource_ids[w.ordinality],
        v_decision.in_session[w.ordinality])::booking.rebooking
      FROM unnest(v_room_requests) WITH ORDINALITY AS w);
    -- The requests that were decided, and those that request no room (booking.rebook_requests left them out).
    v_outcomes := booking.commit_holds(ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (
        SELECT w.operation_id FROM unnest(v_rebookings) AS w WHERE w.outcome IS NULL)), v_rebookings, p_now);
    RETURN QUERY
      SELECT answer.operation_id, answer.outcome, booking.with_freed_hold(
        answer.outcome, booking.with_freed(answer.body, v_decision.freed), first_request.ended)
      FROM unnest(v_outcomes) AS answer
      LEFT JOIN (
        -- Of several requests with one hold the first one says it, as in a call of its own.
        SELECT DISTINCT ON (hold.business_id, hold.reservation_id) request.operation_id, hold AS ended
        FROM unnest(v_ended) AS hold JOIN unnest(v_open) AS request USING (business_id, reservation_id)
        ORDER BY hold.business_id, hold.reservation_id, request.position
      ) AS first_request USING (operation_id);
    v_open := ARRAY(
      SELECT request FROM unnest(v_open) AS request
      WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_outcomes)));
  END LOOP;
  RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
END
$$;

-- Returns the body of a rebook with the room that the end of its hold leaves, which nothing else announces: the purge does
-- not find the hold any more. The appointment has frees_more if it took another resource; a refusal has {freed}, see
-- booking.freed_slot.
--
--   p_ended  the hold, if this call ended it
CREATE FUNCTION booking.with_freed_hold(p_outcome text, p_body jsonb, p_ended booking.reservations)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN p_ended.reservation_id IS NULL THEN p_body
    WHEN p_outcome = 'slot_unavailable' THEN p_body || jsonb_build_object('freed', booking.freed_slot(p_ended))
    WHEN p_outcome = 'done' AND p_body ->> 'resource_id' IS DISTINCT FROM p_ended.resource_id
    THEN p_body || '{"frees_more": true}'
    ELSE p_body END
$$;

-- Returns whether a hold lasted long enough for its guest to pay. An expired one is booked again although the notice, the
-- hours or booking_enabled forbid the slot by now. A shorter one would be a free option to book it, until the purge
-- deletes the hold, so the rules for the public bind its rebook.
CREATE FUNCTION booking.lasted_to_pay(p_created_at timestamptz, p_expires_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE
AS $$ SELECT p_expires_at >= p_created_at + interval '1 minute' $$;

-- Returns whether an expired hold may be booked again, whatever room there is: see booking.lasted_to_pay.
CREATE FUNCTION booking.can_rebook(p_business_id text, p_reservation_id uuid, p_now timestamptz)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN booking.lasted_to_pay(r.created_at, r.expires_at) THEN true
    ELSE booking.slot_refusal(s, booking.timezone_of(p_business_id), r.slot_start, r.slot_end, p_now) IS NULL
      AND booking.open_during(
        p_business_id, '{""}', tstzrange(r.slot_start, r.slot_end), booking.hours_apply(s)) = '{""}'
  END
  FROM booking.reservation_by_id(p_business_id, p_reservation_id) AS r
  CROSS JOIN LATERAL booking.service_by_id(p_business_id, r.service_id) AS s
$$;

-- Returns the requests without those that would book an expired hold again above the daily limit of its client. A live
-- hold was counted when it was made; one that expires at once would be a way around the limit.
--
--   p_business_ids, p_batches  as in booking.commit, with the limits
CREATE FUNCTION booking.within_limits(
  p_open booking.commit_request[], p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS booking.commit_request[] LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_hoarders booking.outcome[] := booking.hoarders(ARRAY(
    SELECT ROW(request.position, r.business_id, request.operation_id, NULL, NULL, NULL, NULL, NULL, NULL, r.quantity, NULL,
      NULL, NULL, NULL, NULL, NULL, sent || jsonb_build_object(
        'client_address_hmac', r.client_address_hmac, 'client_id_hmac', r.client_id_hmac),
      NULL, NULL)::booking.claim_request
    FROM unnest(p_business_ids, p_batches) AS b (business_id, batch)
    CROSS JOIN jsonb_array_elements(b.batch -> 'commit') AS sent
    JOIN unnest(p_open) AS request ON request.operation_id = (sent ->> 'operation_id')::uuid
    CROSS JOIN LATERAL booking.reservation_by_id(request.business_id, request.reservation_id) AS r
    WHERE sent ->> 'max_daily_bookings' IS NOT NULL AND (r.status <> 'held' OR r.expires_at <= p_now)), p_now);
BEGIN
  RETURN ARRAY(
    SELECT request FROM unnest(p_open) AS request
    WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(v_hoarders)));
END
$$;

-- Returns requests for the room of expired holds that are to be booked again: with the windows as they were, the pool
-- as it is now, and any resource of it unless the hold names one; none if it is not known which are open. Leaves out a
-- live hold, a slot that is over, an archived service, and a hold that was booked again in the meantime.
CREATE FUNCTION booking.rebook_requests(p_open booking.commit_request[], p_now timestamptz)
RETURNS booking.claim_request[] LANGUAGE plpgsql STABLE
AS $$
BEGIN
  RETURN ARRAY(
    SELECT ROW(request.position, r.business_id, request.operation_id, r.reservation_id::text, r.service_id,
      r.slot_start, r.slot_end, lower(r.occupied), upper(r.occupied), r.quantity,
      CASE WHEN (lookup.pool).has_resources OR r.resource_named THEN coalesce((lookup.pool).resource_ids, '{}') END,
      CASE WHEN r.resource_named THEN r.resource_id END,
      NULL, NULL, NULL, NULL, NULL, NULL, false)::booking.claim_request
    FROM unnest(p_open) AS request
    CROSS JOIN LATERAL booking.reservation_by_id(request.business_id, request.reservation_id) AS r
    CROSS JOIN LATERAL booking.service_by_id(r.business_id, r.service_id) AS service
    CROSS JOIN LATERAL (
      SELECT booking.find_pool(
        r.business_id, r.service_id, CASE WHEN r.resource_named THEN r.resource_id END,
        tstzrange(r.slot_start, r.slot_end), booking.hours_apply(service),
        NOT booking.lasted_to_pay(r.created_at, r.expires_at)) AS pool OFFSET 0
    ) AS lookup
    WHERE service.archived_at IS NULL AND (r.status <> 'held' OR r.expires_at <= p_now) AND r.slot_end > p_now
      AND NOT EXISTS (
        SELECT FROM booking.appointment_of_reservation(request.business_id, request.reservation_id)));
END
$$;

-- Makes the appointments of the holds that can be committed, and returns the outcomes of all requests. It ends no expired
-- hold: the caller does.
--
--   p_rebooked  the decisions about expired holds; NULL: not decided yet. Expired holds are refused then, and the
--               outcome of those whose service limits the appointments of a guest is 'limited'
CREATE FUNCTION booking.commit_holds(p_open booking.commit_request[], p_rebooked booking.rebooking[], p_now timestamptz)
RETURNS booking.outcome[] LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_outcomes booking.outcome[];
  -- The holds of the new appointments whose clients are known.
  v_counted booking.reservations[];
BEGIN
  WITH judged_request AS MATERIALIZED (
    SELECT request.*, request, hold.r AS hold, earlier.a AS earlier, service.s AS service,
           CASE WHEN rebooking.outcome IS NULL THEN (hold.r).resource_id ELSE rebooking.resource_id END AS resource_id,
           coalesce(rebooking.in_session, (hold.r).in_session) AS in_session,
      CASE
        WHEN (earlier.a).appointment_id = request.operation_id THEN 'done'
        WHEN (earlier.a).appointment_id IS NOT NULL THEN 'replayed'
        WHEN (hold.r).reservation_id IS NULL THEN 'reservation_not_found'
        WHEN request.guest_fault IS NOT NULL THEN 'validation_failed'
        WHEN (hold.r).status = 'released' THEN 'reservation_released'
        WHEN rebooking.outcome = 'granted' THEN NULL
        WHEN (hold.r).status <> 'held' OR (hold.r).expires_at <= p_now
        THEN CASE WHEN p_rebooked IS NULL THEN 'reservation_expired' ELSE 'slot_unavailable' END
        WHEN (hold.r).version <> request.expected_version THEN 'version_conflict'
        WHEN p_rebooked IS NULL AND (service.s).max_upcoming_per_guest IS NOT NULL THEN 'limited'
      END AS outcome
    FROM unnest(p_open) AS request
    LEFT JOIN unnest(p_rebooked) AS rebooking USING (operation_id)
    LEFT JOIN LATERAL (
      SELECT r FROM booking.reservation_by_id(request.business_id, request.reservation_id) AS r
    ) AS hold ON true
    LEFT JOIN LATERAL (
      SELECT a FROM booking.appointment_of_reservation(request.business_id, request.reservation_id) AS a
    ) AS earlier ON true
    LEFT JOIN LATERAL (
      SELECT s FROM booking.service_by_id(
        request.business_id, coalesce((earlier.a).service_id, (hold.r).service_id)) AS s
    ) AS service ON true
  ), first_commit AS MATERIALIZED (
    -- Several commits of one hold make one appointment: the first request makes it, the others are replays.
    SELECT DISTINCT ON (business_id, reservation_id) * FROM judged_request
    WHERE outcome IS NULL ORDER BY business_id, reservation_id, position
  ), new_appointment AS (
    INSERT INTO booking.appointments AS a (
      business_id, appointment_id, reservation_id, service_id, resource_id, is_exclusive, slot_start, slot_end,
      occupied, quantity, status, version, guest_name, guest_email, guest_phone, notes, metadata, source, created_at,
      updated_at)
    SELECT business_id, operation_id, reservation_id, (hold).service_id, resource_id, NOT in_session, (hold).slot_start,
           (hold).slot_end, (hold).occupied, (hold).quantity, 'confirmed', 1, guest_name, guest_email, guest_phone,
           notes, metadata, source, p_now, p_now
    FROM first_commit
    RETURNING a
  ), new_audit_row AS (
    INSERT INTO booking.audit_logs (
      business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
    SELECT business_id, operation_id, operation_id, 1, 'created', actor_kind, actor_id,
           booking.audit_changes(NULL, new_appointment.a), request_id, p_now
    FROM new_appointment JOIN first_commit ON first_commit.operation_id = (new_appointment.a).appointment_id
  )
  SELECT array_agg(ROW(
    j.operation_id,
    CASE
      WHEN (new_appointment.a).appointment_id = j.operation_id THEN 'done'
      WHEN (new_appointment.a).appointment_id IS NOT NULL THEN 'replayed'
      ELSE j.outcome
    END,
    CASE
      WHEN (new_appointment.a).appointment_id = j.operation_id
      THEN booking.appointment_body(new_appointment.a, j.service)
      WHEN j.outcome = 'done' THEN booking.appointment_body(j.earlier, j.service)
      WHEN (new_appointment.a).appointment_id IS NOT NULL
      THEN booking.replayed_commit(new_appointment.a, j.service, j.hold, j.request)
      WHEN (j.earlier).appointment_id IS NOT NULL THEN booking.replayed_commit(j.earlier, j.service, j.hold, j.request)
      WHEN j.outcome = 'validation_failed' THEN j.guest_fault
      WHEN j.outcome = 'reservation_expired' AND (j.hold).status = 'held'
      THEN jsonb_build_object('freed', booking.freed_slot(j.hold))
      WHEN j.outcome = 'version_conflict' THEN jsonb_build_object('current_version', (j.hold).version)
      WHEN j.outcome = 'slot_unavailable' THEN booking.requested_slot(
        (j.hold).service_id, (j.hold).slot_start, (j.hold).slot_end, (j.hold).quantity,
        CASE WHEN (j.hold).resource_named THEN (j.hold).resource_id END)
    END)::booking.outcome),
    array_agg(j.hold) FILTER (WHERE
      (new_appointment.a).appointment_id = j.operation_id AND (j.hold).client_address_hmac IS NOT NULL)
  INTO v_outcomes, v_counted
  FROM judged_request AS j LEFT JOIN new_appointment
    ON (new_appointment.a).reservation_id = j.reservation_id AND (new_appointment.a).business_id = j.business_id;

  IF v_counted IS NOT NULL THEN
    PERFORM booking.count_bookings(
      array_agg(r.business_id), array_agg(r.quantity), array_agg(r.client_address_hmac), array_agg(r.client_id_hmac), p_now)
    FROM unnest(v_counted) AS r;
  END IF;
  -- A reservation that was booked again has ended before: end_holds leaves it as it is.
  PERFORM booking.end_holds(array_agg(request.business_id), array_agg(request.reservation_id), 'committed', p_now)
  FROM unnest(p_open) AS request JOIN unnest(v_outcomes) AS answer USING (operation_id)
  WHERE answer.outcome = 'done'
  HAVING count(*) > 0;
  RETURN v_outcomes;
END
$$;

-- Returns the body of a replayed commit: the appointment for the holder, and {appointment_id, status} for other callers,
-- who may have learned the id of the hold. The holder's request has the client's id of the hold, or repeats all guest
-- data as the appointment has them. After the purge has deleted the hold (NULL), its id alone names a past booking.
CREATE FUNCTION booking.replayed_commit(
  a booking.appointments, p_service booking.services, p_hold booking.reservations, p_request booking.commit_request)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN p_hold.reservation_id IS NOT NULL AND (
      p_hold.client_id_hmac = p_request.client_id_hmac
      OR (a.guest_name, a.guest_email, a.guest_phone, a.notes, a.metadata) IS NOT DISTINCT FROM (
        p_request.guest_name, p_request.guest_email, p_request.guest_phone, p_request.notes, p_request.metadata))
    THEN booking.appointment_body(a, p_service)
    ELSE jsonb_build_object('appointment_id', a.appointment_id, 'status', a.status)
  END
$$;
