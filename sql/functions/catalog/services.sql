-- The catalog: services. Outcomes, errors and locks as in businesses.sql.

-- Creates a service or replaces its settings; an archived one is offered again.
--
--   p_service  the settings of booking.services by their columns' names, and resource_ids?: the pool. A setting that is
--              missing or null gets its default. Archived resources that booking.listed_pool does not list stay in the
--              pool, because callers do not see them in the list that they change; an empty list removes them too
-- Body      the service, with frees_more if expired holds were ended, also those of other services: the purge does not find
--           them any more
-- Refusals
--   business_not_found
--   validation_failed  body of booking.fault: the first resource that does not exist, or is archived and not in the
--                      listed pool; or a higher capacity than the resources of the pool, archived ones included, have
--                      seats, but not if neither the capacity nor the pool changes: the seats may have been lowered
--   capacity_in_use    more is claimed at some instant from now on than the new capacity, or several claims share a
--                      resource that is not to be shared any more; body as in booking.check_claims
CREATE FUNCTION booking.put_service(p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_outcome booking.outcome;
  v_has_ended_holds boolean := false;
  v_violation jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  IF NOT EXISTS (SELECT FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id) THEN
    v_outcome := booking.over_limit('services', (
      SELECT count(*) + 1 FROM booking.services s WHERE s.business_id = p_business_id));
    IF v_outcome.outcome IS NOT NULL THEN
      RETURN v_outcome;
    END IF;
  END IF;
  v_outcome := booking.write_service(p_business_id, p_service_id, p_service, v_now);
  IF v_outcome.outcome NOT IN ('created', 'done') THEN
    RETURN v_outcome;
  ELSIF booking.was_claimed(p_business_id, p_service_id) THEN
    v_has_ended_holds := booking.check_claims(p_business_id, p_service_id, NULL, v_now);
  END IF;
  RETURN (NULL, v_outcome.outcome, (
    SELECT booking.services(p_business_id, p_service_id))
    || CASE WHEN v_has_ended_holds THEN '{"frees_more": true}' ELSE '{}' END::jsonb)::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN -- the writes above are undone
    GET STACKED DIAGNOSTICS v_violation = PG_EXCEPTION_DETAIL;
    RETURN (NULL, 'capacity_in_use', v_violation)::booking.outcome;
END
$$;

-- Returns whether a service was ever claimed; if not, no claim is in the way of a change. longest_occupied_seconds is
-- raised with the first claim and never lowered.
CREATE FUNCTION booking.was_claimed(p_business_id text, p_service_id text)
RETURNS boolean LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM booking.services s
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.longest_occupied_seconds > 0)
$$;

-- Does the work of booking.put_service without the checks of the limit and of the claims, and returns its outcome without
-- the service. The caller holds the lock of the business, and checks the claims if booking.was_claimed.
CREATE FUNCTION booking.write_service(p_business_id text, p_service_id text, p_service jsonb, p_now timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  -- Without metadata, whose nulls are data of the caller.
  v_settings jsonb := jsonb_strip_nulls(p_service - 'metadata');
  v_ids jsonb := coalesce(v_settings -> 'resource_ids', '[]');
  v_old booking.services;
  v_old_pool record;
  v_new booking.services;
  v_new_pool text[];
  v_seats bigint;
  v_refusal booking.outcome;
BEGIN
  SELECT * INTO v_old FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  SELECT * INTO v_old_pool FROM booking.listed_pool(p_business_id, p_service_id);
  SELECT refusal.* INTO v_refusal
  FROM jsonb_array_elements_text(v_ids - v_old_pool.listed) WITH ORDINALITY AS item (resource_id, position)
  CROSS JOIN LATERAL booking.unknown_resource(p_business_id, 'resource_ids', item.resource_id) AS refusal
  ORDER BY item.position LIMIT 1;
  IF FOUND THEN
    RETURN v_refusal;
  END IF;
  v_new := jsonb_populate_record(
    NULL::booking.services, '{"resource_sharing": "exclusive", "starts_on_grid": false}' || v_settings ||
    jsonb_build_object('business_id', p_business_id, 'service_id', p_service_id, 'archived_at', NULL,
      'metadata', p_service -> 'metadata', 'longest_occupied_seconds', coalesce(v_old.longest_occupied_seconds, 0),
      'created_at', coalesce(v_old.created_at, p_now)));
  v_new.start_times := nullif(ARRAY(SELECT DISTINCT unnest(v_new.start_times) ORDER BY 1), '{}');
  v_new_pool := ARRAY(
    SELECT jsonb_array_elements_text(v_ids)
    UNION
    SELECT unnest(v_old_pool.hidden) WHERE v_ids <> '[]');
  SELECT sum(r.seats) INTO v_seats
  FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = ANY (v_new_pool);
  IF v_new.max_simultaneous_bookings > v_seats AND (
    v_new.max_simultaneous_bookings = v_old.max_simultaneous_bookings
    AND v_new_pool @> (v_old_pool.listed || v_old_pool.hidden)
    AND v_new_pool <@ (v_old_pool.listed || v_old_pool.hidden)) IS NOT TRUE
  THEN
    RETURN booking.invalid('max_simultaneous_bookings', 'more_than_seats', jsonb_build_object('max', v_seats));
  END IF;

  INSERT INTO booking.services AS s SELECT v_new.*
  ON CONFLICT ON CONSTRAINT services_pkey DO UPDATE
  SET (name, max_simultaneous_bookings, duration_minutes, min_duration_minutes, max_duration_minutes, duration_days,
       min_duration_days, max_duration_days, start_times, end_time, starts_on_grid, hours_apply, hold_ttl_minutes,
       max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes, buffer_before_minutes,
       buffer_after_minutes, min_notice_minutes, max_advance_days, cancellation_window_minutes,
       reschedule_window_minutes, max_upcoming_per_guest, booking_enabled, resource_sharing, description, metadata, archived_at)
    = (v_new.name, v_new.max_simultaneous_bookings, v_new.duration_minutes, v_new.min_duration_minutes,
       v_new.max_duration_minutes, v_new.duration_days, v_new.min_duration_days, v_new.max_duration_days,
       v_new.start_times, v_new.end_time, v_new.starts_on_grid, v_new.hours_apply, v_new.hold_ttl_minutes,
       v_new.max_hold_ttl_minutes, v_new.max_hold_lifetime_minutes, v_new.slot_step_minutes,
       v_new.buffer_before_minutes, v_new.buffer_after_minutes, v_new.min_notice_minutes, v_new.max_advance_days,
       v_new.cancellation_window_minutes, v_new.reschedule_window_minutes, v_new.max_upcoming_per_guest,
       v_new.booking_enabled, v_new.resource_sharing, v_new.description, v_new.metadata, NULL);
  DELETE FROM booking.service_resources p
  WHERE p.business_id = p_business_id AND p.service_id = p_service_id AND p.resource_id <> ALL (v_new_pool);
  INSERT INTO booking.service_resources (business_id, service_id, resource_id)
  SELECT p_business_id, p_service_id, unnest(v_new_pool)
  ON CONFLICT ON CONSTRAINT service_resources_pkey DO NOTHING;
  RETURN (NULL, CASE WHEN v_old.service_id IS NULL THEN 'created' ELSE 'done' END, NULL)::booking.outcome;
END
$$;

-- Removes a service from the catalog. One that was ever claimed is archived: it gets no new claim, its holds can still
-- be committed, and it keeps its pool.
--
-- Refusals  service_not_found
CREATE FUNCTION booking.delete_service(p_business_id text, p_service_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
BEGIN
  PERFORM FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'service_not_found', NULL)::booking.outcome;
  END IF;
  IF booking.was_claimed(p_business_id, p_service_id) THEN
    UPDATE booking.services s SET archived_at = v_now
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  ELSE
    DELETE FROM booking.service_resources p WHERE p.business_id = p_business_id AND p.service_id = p_service_id;
    DELETE FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  END IF;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
