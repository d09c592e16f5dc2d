-- The catalog: services. Outcomes and errors as in businesses.sql.

-- Makes a service or replaces its settings; one that was archived is offered again.
--   p_service  every setting of booking.services by its column's name, complete, and resource_ids?: the pool, which
--              replaces the former one. resource_sharing may be missing: exclusive
-- Refusals: business_not_found; resource_unknown; body: {resource_id}, the first that is not there, or archived;
-- validation_failed; body: {field, message}, where a service without resources has no capacity of its own;
-- capacity_in_use, where more is claimed at some instant from now on than the new capacity, or more than one claim
-- shares a resource that is not to be shared any more; body: {slot_start, slot_end, claimed}, the first such time.
CREATE FUNCTION booking.put_service(p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_pool jsonb := coalesce(p_service -> 'resource_ids', '[]');
  v_old booking.services;
  v_new booking.services;
  v_missing text;
  v_in_the_way jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  v_missing := booking.missing_resource(p_business_id, v_pool);
  IF v_missing IS NOT NULL THEN
    RETURN (NULL, 'resource_unknown', jsonb_build_object('resource_id', v_missing))::booking.outcome;
  END IF;
  SELECT * INTO v_old FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  v_new := jsonb_populate_record(NULL::booking.services, '{"resource_sharing": "exclusive"}' || p_service ||
    jsonb_build_object('business_id', p_business_id, 'service_id', p_service_id, 'archived_at', NULL,
      'longest_occupied_seconds', coalesce(v_old.longest_occupied_seconds, 0),
      'created_at', coalesce(v_old.created_at, v_now)));
  IF v_new.max_simultaneous_bookings IS NULL AND v_pool = '[]' THEN
    RETURN booking.invalid('max_simultaneous_bookings', 'is needed where there are no resources');
  END IF;

  PERFORM booking.end_all_expired(p_business_id, v_now);
  INSERT INTO booking.services AS s SELECT v_new.*
  ON CONFLICT ON CONSTRAINT services_pkey DO UPDATE
  SET (name, max_simultaneous_bookings, duration_minutes, max_duration_minutes, hold_ttl_minutes,
       max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes, buffer_before_minutes,
       buffer_after_minutes, min_notice_minutes, max_advance_days, cancellation_window_minutes, booking_enabled,
       resource_sharing, archived_at)
    = (v_new.name, v_new.max_simultaneous_bookings, v_new.duration_minutes, v_new.max_duration_minutes,
       v_new.hold_ttl_minutes, v_new.max_hold_ttl_minutes, v_new.max_hold_lifetime_minutes,
       v_new.slot_step_minutes, v_new.buffer_before_minutes, v_new.buffer_after_minutes, v_new.min_notice_minutes,
       v_new.max_advance_days, v_new.cancellation_window_minutes, v_new.booking_enabled, v_new.resource_sharing, NULL);

  -- Archived members stay: they are not in the list that callers read and put back, and without them a service of
  -- theirs alone would be sold with nobody to serve it.
  DELETE FROM booking.service_resources p
  WHERE p.business_id = p_business_id AND p.service_id = p_service_id AND NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p.resource_id AND r.archived_at IS NOT NULL);
  INSERT INTO booking.service_resources (business_id, service_id, resource_id)
  SELECT p_business_id, p_service_id, member.resource_id
  FROM jsonb_array_elements_text(v_pool) AS member (resource_id);

  v_in_the_way := booking.first_violation(p_business_id, p_service_id, NULL);
  IF v_in_the_way IS NOT NULL THEN
    RAISE EXCEPTION 'more is claimed than that' USING ERRCODE = 'HF004'; -- undoes what was written
  END IF;
  RETURN (NULL, CASE WHEN v_old.service_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.services(p_business_id, p_service_id)))::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN
    RETURN (NULL, 'capacity_in_use', v_in_the_way)::booking.outcome;
END
$$;

-- The first time from now on at which a service, or a service of a resource, is overbooked, or a resource of theirs is
-- double-booked: {slot_start, slot_end, claimed}, or NULL. No change of the catalog may lead to one.
--   p_service_id, p_resource_id  one of the two; the other is NULL
CREATE FUNCTION booking.first_violation(p_business_id text, p_service_id text, p_resource_id text)
RETURNS jsonb LANGUAGE sql VOLATILE
AS $$
  SELECT jsonb_build_object('slot_start', found.at, 'slot_end', found.until, 'claimed', found.claimed)
  FROM (
    SELECT m.service_id, m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND (m.service_id = p_service_id OR m.resource_id = p_resource_id)
    UNION SELECT p_service_id, p_resource_id
  ) AS concerned
  CROSS JOIN LATERAL (
    SELECT o.at, o.until, o.claimed FROM booking.overbooked_instants o
    WHERE o.business_id = p_business_id AND o.service_id = concerned.service_id
    UNION ALL
    SELECT lower(d.at), upper(d.at), d.claimed FROM booking.double_booked_resources d
    WHERE d.business_id = p_business_id AND d.resource_id = concerned.resource_id
  ) AS found
  ORDER BY found.at LIMIT 1
$$;

-- Ends all holds of a business that have expired: to say that there is room enough for a change of the catalog acts on
-- their expiry, and no later clock may revive them.
CREATE FUNCTION booking.end_all_expired(p_business_id text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_expired uuid[] := ARRAY(
    SELECT r.reservation_id FROM booking.reservations r
    WHERE r.business_id = p_business_id AND r.ended_at IS NULL AND r.expires_at <= p_now);
BEGIN
  PERFORM booking.end_holds(array_fill(p_business_id, ARRAY[cardinality(v_expired)]), v_expired, 'expired', p_now);
END
$$;

-- Takes a service off the catalog. One that was ever reserved or booked is archived: nothing new is held on it, its
-- holds can still be committed. It keeps its pool.
-- Refusals: service_not_found
CREATE FUNCTION booking.delete_service(p_business_id text, p_service_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_service booking.services;
BEGIN
  SELECT * INTO v_service FROM booking.services s
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL;
  IF NOT FOUND THEN
    RETURN (NULL, 'service_not_found', NULL)::booking.outcome;
  END IF;
  -- It was raised before the first claim, and never lowered.
  IF v_service.longest_occupied_seconds > 0 THEN
    UPDATE booking.services s SET archived_at = v_now
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  ELSE
    DELETE FROM booking.service_resources p WHERE p.business_id = p_business_id AND p.service_id = p_service_id;
    DELETE FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  END IF;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
