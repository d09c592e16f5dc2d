-- The catalog: services. Outcomes, errors and locks as in businesses.sql.

-- Creates a service or replaces its settings; an archived one is offered again.
--
--   p_service  the settings of booking.services by their columns' names, and resource_ids?: the pool, which replaces
--              the former one. A setting that is missing or null gets its default. An empty pool removes archived
--              resources too, so that the service needs none any more
-- Refusals
--   business_not_found
--   resource_unknown   body {resource_id}: the first that does not exist, or is archived and not in the pool already
--   validation_failed  body {field, message}: more capacity than the resources of the pool have seats
--   capacity_in_use    more is claimed at some instant from now on than the new capacity, or several claims share a
--                      resource that is not to be shared any more; body {slot_start, slot_end, claimed}, the first such
--                      time
CREATE FUNCTION booking.put_service(p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_pool jsonb := coalesce(p_service -> 'resource_ids', '[]');
  v_old booking.services;
  v_new booking.services;
  v_missing text;
  v_seats bigint;
  v_violation jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  -- An archived resource may stay in a pool, because a pool without another one is read as its archived ones.
  v_missing := booking.missing_resource(p_business_id, v_pool - ARRAY(
    SELECT p.resource_id FROM booking.service_resources p
    WHERE p.business_id = p_business_id AND p.service_id = p_service_id));
  IF v_missing IS NOT NULL THEN
    RETURN (NULL, 'resource_unknown', jsonb_build_object('resource_id', v_missing))::booking.outcome;
  END IF;
  SELECT * INTO v_old FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  v_new := jsonb_populate_record(
    NULL::booking.services, '{"resource_sharing": "exclusive", "starts_on_grid": false}' || p_service ||
    jsonb_build_object('business_id', p_business_id, 'service_id', p_service_id, 'archived_at', NULL,
      'longest_occupied_seconds', coalesce(v_old.longest_occupied_seconds, 0),
      'created_at', coalesce(v_old.created_at, v_now)));
  PERFORM booking.end_all_expired(p_business_id, v_now);
  INSERT INTO booking.services AS s SELECT v_new.*
  ON CONFLICT ON CONSTRAINT services_pkey DO UPDATE
  SET (name, max_simultaneous_bookings, duration_minutes, min_duration_minutes, max_duration_minutes, duration_days,
       min_duration_days, max_duration_days, start_times, end_time, starts_on_grid, hours_apply, hold_ttl_minutes,
       max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes, buffer_before_minutes,
       buffer_after_minutes, min_notice_minutes, max_advance_days, cancellation_window_minutes, booking_enabled,
       resource_sharing, archived_at)
    = (v_new.name, v_new.max_simultaneous_bookings, v_new.duration_minutes, v_new.min_duration_minutes,
       v_new.max_duration_minutes, v_new.duration_days, v_new.min_duration_days, v_new.max_duration_days,
       v_new.start_times, v_new.end_time, v_new.starts_on_grid, v_new.hours_apply, v_new.hold_ttl_minutes,
       v_new.max_hold_ttl_minutes, v_new.max_hold_lifetime_minutes, v_new.slot_step_minutes,
       v_new.buffer_before_minutes, v_new.buffer_after_minutes, v_new.min_notice_minutes, v_new.max_advance_days,
       v_new.cancellation_window_minutes, v_new.booking_enabled, v_new.resource_sharing, NULL);

  -- Archived members stay in a pool that has others: the list that callers read and send back does not contain them,
  -- and they return together with their resource.
  DELETE FROM booking.service_resources p
  WHERE p.business_id = p_business_id AND p.service_id = p_service_id
    AND (v_pool = '[]' OR NOT booking.is_archived(p_business_id, p.resource_id));
  INSERT INTO booking.service_resources (business_id, service_id, resource_id)
  SELECT p_business_id, p_service_id, member.resource_id
  FROM jsonb_array_elements_text(v_pool) AS member (resource_id)
  ON CONFLICT ON CONSTRAINT service_resources_pkey DO NOTHING;
  SELECT sum(r.seats) INTO v_seats
  FROM booking.service_resources p
  JOIN booking.resources r ON r.business_id = p.business_id AND r.resource_id = p.resource_id
  WHERE p.business_id = p_business_id AND p.service_id = p_service_id;
  IF v_new.max_simultaneous_bookings > v_seats THEN
    RAISE EXCEPTION 'the pool has fewer seats than the capacity' USING ERRCODE = 'HF004'; -- rolls back to BEGIN
  END IF;

  v_violation := booking.first_violation(p_business_id, p_service_id, NULL);
  IF v_violation IS NOT NULL THEN
    RAISE EXCEPTION 'the claims exceed the new capacity' USING ERRCODE = 'HF004'; -- rolls back to BEGIN
  END IF;
  RETURN (NULL, CASE WHEN v_old.service_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.services(p_business_id, p_service_id)))::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN
    IF v_violation IS NULL THEN
      RETURN booking.invalid('max_simultaneous_bookings', format(
        'must be at most %s: the resources of this service have no more seats', v_seats));
    END IF;
    RETURN (NULL, 'capacity_in_use', v_violation)::booking.outcome;
END
$$;

-- Returns the first time from now on at which a service is overbooked or a resource double-booked, for the given
-- service and the resources of its pool, or for the given resource and the services that it serves: {slot_start,
-- slot_end, claimed}, or NULL. A change of the catalog that causes one is refused.
--
--   p_service_id, p_resource_id  one of the two; the other is NULL
CREATE FUNCTION booking.first_violation(p_business_id text, p_service_id text, p_resource_id text)
RETURNS jsonb LANGUAGE sql VOLATILE
AS $$
  SELECT jsonb_build_object('slot_start', violation.at, 'slot_end', violation.until, 'claimed', violation.claimed)
  FROM (
    SELECT m.service_id, m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND (m.service_id = p_service_id OR m.resource_id = p_resource_id)
    UNION SELECT p_service_id, p_resource_id
  ) AS affected_pair
  CROSS JOIN LATERAL (
    SELECT o.at, o.until, o.claimed FROM booking.overbooked_instants o
    WHERE o.business_id = p_business_id AND o.service_id = affected_pair.service_id
    UNION ALL
    SELECT lower(d.at), upper(d.at), d.claimed FROM booking.double_booked_resources d
    WHERE d.business_id = p_business_id AND d.resource_id = affected_pair.resource_id
  ) AS violation
  ORDER BY violation.at LIMIT 1
$$;

-- Ends all expired holds of a business. A change of the catalog that fits only because they have expired acts on their
-- expiry, so a clock that is set back must not revive them.
--
-- Locks  none of its own; the caller holds the lock of the business
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

-- Removes a service from the catalog. One that was ever claimed is archived: it gets no new claim, its holds can still
-- be committed, and it keeps its pool.
--
-- Refusals  service_not_found
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
  -- longest_occupied_seconds is raised with the first claim and never lowered: 0 means never claimed.
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
