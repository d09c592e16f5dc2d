-- Changes appointments of one business: moves, edits, cancels and erases them. The verb behind PATCH, cancel and the
-- erasure of a guest's data.
--
-- Each request is decided by itself, in its order, with a fixed number of statements: unlike claims on a popular slot,
-- changes don't come in crowds.
--
--   p_business_id  the tenant
--   p_requests     [{operation_id, appointment_id, action, expected_version?, actor_kind, actor_id?, request_id?,
--                  set?, reason?}]. operation_id (a uuid) becomes the id of the audit row. action is
--                    'change'  set: {slot_start?, slot_end?, resource_id?, quantity?, status?, guest_name?, guest_email?,
--                              guest_phone?, notes?, metadata?}; slot_start alone keeps the duration, and a
--                              resource_id of null means any free one
--                    'cancel'  with a reason; a guest (actor_kind) is held to the service's cancellation window
--                    'erase'   removes what is or may be personal: the guest, notes, the reason, metadata
--   p_deadline     as in booking.lock_business
--
-- Returns one booking.outcome for each request:
--   done                        the appointment as it is now. Where nothing differs nothing was changed, the
--                               version neither; nor where a cancelled one is cancelled again
--   appointment_not_found
--   version_conflict            the version is not expected_version; body: {current_version}
--   appointment_ended           it is cancelled, completed or no_show: its slot and status are final;
--                               body: {appointment_status}
--   cancellation_window_closed  body: {cancellable_until}
--   resource_not_found          the service has no such resource
--   validation_failed           body: {field, message}
--   slot_unavailable            no room, or the resource is not free; body: see booking.requested_slot
-- Raises  as booking.lock_business
-- Locks   the business
-- A retry with the same operation_id has one effect.
CREATE OR REPLACE FUNCTION booking.change(p_business_id text, p_requests jsonb, p_deadline timestamptz)
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
  v_request jsonb;
BEGIN
  FOR v_request IN SELECT * FROM jsonb_array_elements(p_requests) LOOP
    RETURN NEXT booking.change_one(p_business_id, v_request, v_now);
  END LOOP;
END
$$;

-- Decides one change and makes it.
CREATE OR REPLACE FUNCTION booking.change_one(p_business_id text, p_request jsonb, p_now timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_operation_id uuid := p_request ->> 'operation_id';
  v_old booking.appointments;
  v_new booking.appointments;
  v_refusal booking.outcome;
  v_placed record;
BEGIN
  SELECT * INTO v_old FROM booking.appointment_by_id(p_business_id, (p_request ->> 'appointment_id')::uuid);
  IF NOT FOUND THEN
    RETURN (v_operation_id, 'appointment_not_found', NULL)::booking.outcome;
  ELSIF (SELECT audit_id FROM booking.audit_of_operation(p_business_id, v_operation_id)) IS NOT NULL
    OR (p_request ->> 'action' = 'cancel' AND v_old.status = 'cancelled')
  THEN
    RETURN (v_operation_id, 'done', booking.appointment_body(v_old))::booking.outcome;
  ELSIF v_old.version <> (p_request ->> 'expected_version')::integer THEN
    RETURN (v_operation_id, 'version_conflict', jsonb_build_object('current_version', v_old.version))::booking.outcome;
  END IF;

  v_new := booking.with_changes(v_old, p_request);
  v_refusal := booking.change_refusal(v_old, v_new, p_request ->> 'actor_kind', p_now);
  IF v_refusal.outcome IS NULL AND v_new.status = 'confirmed' THEN
    SELECT * INTO v_placed FROM booking.place(v_old, v_new, p_request -> 'set', p_now);
    v_new := v_placed.moved;
    v_refusal := v_placed.refusal;
  END IF;
  IF v_refusal.outcome IS NOT NULL THEN
    RETURN (v_operation_id, v_refusal.outcome, v_refusal.body)::booking.outcome;
  END IF;

  IF v_new IS DISTINCT FROM v_old THEN
    v_new.version := v_old.version + 1;
    v_new.updated_at := p_now;
    PERFORM booking.record_change(v_old, v_new, p_request);
  END IF;
  RETURN (v_operation_id, 'done', booking.appointment_body(v_new))::booking.outcome;
END
$$;

-- An appointment with what a request would change of it. A slot that is moved keeps its length, if no other is given, and
-- its buffers as they were when it was made.
CREATE OR REPLACE FUNCTION booking.with_changes(p_old booking.appointments, p_request jsonb)
RETURNS booking.appointments
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_set jsonb := CASE p_request ->> 'action'
    WHEN 'cancel' THEN jsonb_build_object('status', 'cancelled', 'cancellation_reason', p_request ->> 'reason')
    -- The fingerprint too: it is a digest over the guest's data.
    WHEN 'erase' THEN '{"guest_name": null, "guest_email": null, "guest_phone": null, "notes": null,
      "cancellation_reason": null, "metadata": {}, "fingerprint": null}'
    ELSE p_request -> 'set'
  END;
  v_new booking.appointments := jsonb_populate_record(p_old, v_set);
BEGIN
  IF v_set ? 'slot_start' AND NOT v_set ? 'slot_end' THEN
    v_new.slot_end := v_new.slot_start + booking.elapsed(p_old.slot_start, p_old.slot_end);
  END IF;
  IF v_new.slot_start < v_new.slot_end THEN
    v_new.occupied := tstzrange(
      v_new.slot_start - booking.elapsed(lower(p_old.occupied), p_old.slot_start),
      v_new.slot_end + booking.elapsed(p_old.slot_end, upper(p_old.occupied)));
  END IF;
  RETURN v_new;
END
$$;

-- Why a change can't be made, whatever room there is; an outcome of NULL if it can.
CREATE OR REPLACE FUNCTION booking.change_refusal(
  p_old booking.appointments, p_new booking.appointments, p_actor_kind text, p_now timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_cancellable_until timestamptz;
BEGIN
  IF p_old.status <> 'confirmed' AND (p_new.status, p_new.slot_start, p_new.slot_end, p_new.resource_id, p_new.quantity)
    IS DISTINCT FROM (p_old.status, p_old.slot_start, p_old.slot_end, p_old.resource_id, p_old.quantity)
  THEN
    RETURN (NULL, 'appointment_ended', jsonb_build_object('appointment_status', p_old.status))::booking.outcome;
  ELSIF p_old.status = 'confirmed' AND p_new.status <> 'confirmed'
    AND (p_new.slot_start, p_new.slot_end, p_new.resource_id, p_new.quantity)
      IS DISTINCT FROM (p_old.slot_start, p_old.slot_end, p_old.resource_id, p_old.quantity)
  THEN
    RETURN booking.invalid('status', 'can''t be changed together with the slot, the resource or the quantity');
  ELSIF p_new.slot_end <= p_new.slot_start THEN
    RETURN booking.invalid('slot_end', 'slotEnd must be after slotStart');
  ELSIF p_new.slot_end > p_new.slot_start + interval '720 hours' AND p_new.occupied IS DISTINCT FROM p_old.occupied THEN
    RETURN booking.invalid('slot_end', 'must be at most 30 days after slotStart');
  ELSIF p_actor_kind = 'guest' AND p_new.status = 'cancelled' THEN
    SELECT p_old.slot_start - make_interval(mins => s.cancellation_window_minutes) INTO v_cancellable_until
    FROM booking.services s WHERE s.business_id = p_old.business_id AND s.service_id = p_old.service_id;
    IF p_now > v_cancellable_until THEN
      RETURN (NULL, 'cancellation_window_closed', jsonb_build_object(
        'cancellable_until', v_cancellable_until))::booking.outcome;
    END IF;
  END IF;
  RETURN NULL;
END
$$;

-- The outcome for a fault that only shows beside what is stored.
CREATE OR REPLACE FUNCTION booking.invalid(p_field text, p_message text)
RETURNS booking.outcome
LANGUAGE sql IMMUTABLE
AS $$
  SELECT (NULL, 'validation_failed', jsonb_build_object('field', p_field, 'message', p_message))::booking.outcome
$$;

-- Finds room for a confirmed appointment where it is wished to be, its own claim not counted against itself. Expired
-- holds in the way become 'expired', as in booking.choose.
--   p_set    the wish: a resource_id that is there and null means any free one
-- Returns
--   moved    the appointment with the resource that it gets: the one that it has, if that is free
--   refusal  'resource_not_found', 'validation_failed' or 'slot_unavailable', or an outcome of NULL
CREATE OR REPLACE FUNCTION booking.place(
  p_old booking.appointments, p_new booking.appointments, p_set jsonb, p_now timestamptz,
  OUT moved booking.appointments, OUT refusal booking.outcome)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_service booking.services;
  v_found record;
  v_pool text[] := CASE WHEN p_old.resource_id IS NOT NULL THEN ARRAY[p_old.resource_id::text] END;
  v_free text[];
  v_wish booking.wish;
BEGIN
  moved := p_new;
  IF p_set ? 'resource_id' AND p_set ->> 'resource_id' IS DISTINCT FROM p_old.resource_id THEN
    SELECT * INTO v_found
    FROM booking.find_pool(p_old.business_id, p_old.service_id, p_set ->> 'resource_id', NULL);
    IF p_set ->> 'resource_id' IS NOT NULL AND cardinality(v_found.named) = 0 THEN
      refusal := (NULL, 'resource_not_found', NULL)::booking.outcome;
      RETURN;
    END IF;
    v_pool := v_found.pool;
  END IF;
  IF v_pool IS NOT NULL AND p_new.quantity > 1 THEN
    refusal := (NULL, 'validation_failed', booking.quantity_of_resource())::booking.outcome;
    RETURN;
  END IF;
  -- What it has already needs no room: less of it is always to be had, whatever there is by now.
  IF p_new.occupied <@ p_old.occupied AND p_new.quantity <= p_old.quantity
    AND p_new.resource_id IS NOT DISTINCT FROM p_old.resource_id THEN
    RETURN;
  END IF;

  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_old.business_id AND s.service_id = p_old.service_id;
  IF v_pool IS NOT NULL THEN
    v_free := booking.free_resources(p_old.business_id, v_pool, p_new.occupied, p_now, p_old.appointment_id);
  END IF;
  IF cardinality(v_free) = 0
    OR NOT booking.fits(v_service, p_new.occupied, p_new.quantity, p_now, p_old.appointment_id)
  THEN
    refusal := (NULL, 'slot_unavailable', booking.requested_slot(
      p_old.service_id, p_new.slot_start, p_new.slot_end, p_new.quantity,
      CASE cardinality(v_pool) WHEN 1 THEN v_pool[1] END))::booking.outcome;
    RETURN;
  END IF;
  moved.resource_id := CASE WHEN p_old.resource_id = ANY (v_free) THEN p_old.resource_id ELSE v_free[1] END;

  v_wish := (1, NULL, p_old.service_id, p_new.occupied, p_new.quantity, ARRAY[moved.resource_id::text])::booking.wish;
  PERFORM booking.end_holds(
    p_old.business_id, booking.expired_in_the_way(p_old.business_id, ARRAY[v_wish], p_now), 'expired', p_now);
  PERFORM booking.note_longest(
    p_old.business_id, ARRAY[v_wish], ARRAY[(1, moved.resource_id)::booking.grant]);
END
$$;

-- Writes a change of an appointment, and its audit row. An upsert of a row that exists, for the reason in booking.end_holds.
CREATE OR REPLACE FUNCTION booking.record_change(
  p_old booking.appointments, p_new booking.appointments, p_request jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  INSERT INTO booking.appointments AS a SELECT p_new.*
  ON CONFLICT (business_id, appointment_id) DO UPDATE
  SET (resource_id, slot_start, slot_end, occupied, quantity, status, version, guest_name, guest_email, guest_phone,
       notes, metadata, cancellation_reason, fingerprint, updated_at)
    = (p_new.resource_id, p_new.slot_start, p_new.slot_end, p_new.occupied, p_new.quantity, p_new.status, p_new.version,
       p_new.guest_name, p_new.guest_email, p_new.guest_phone, p_new.notes, p_new.metadata, p_new.cancellation_reason,
       p_new.fingerprint, p_new.updated_at);

  INSERT INTO booking.audit_logs (
    business_id, audit_id, appointment_id, version, action, actor_kind, actor_id, changes, request_id, at)
  VALUES (
    p_old.business_id, (p_request ->> 'operation_id')::uuid, p_old.appointment_id, p_new.version,
    CASE
      WHEN p_request ->> 'action' = 'erase' THEN 'erased'
      WHEN p_new.status <> p_old.status THEN p_new.status
      WHEN (p_new.slot_start, p_new.slot_end, p_new.resource_id)
        IS DISTINCT FROM (p_old.slot_start, p_old.slot_end, p_old.resource_id) THEN 'rescheduled'
      ELSE 'changed'
    END,
    p_request ->> 'actor_kind', p_request ->> 'actor_id', booking.audit_changes(p_old, p_new), p_request ->> 'request_id',
    p_new.updated_at);
END
$$;
