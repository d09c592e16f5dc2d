-- The catalog: services. Outcomes and errors as in catalog_businesses.sql.

-- Makes a service or replaces its settings; one that was archived is offered again.
--   p_service  every setting of booking.services by its column's name, complete, and resource_ids?: the pool,
--              which replaces the former one
-- Refusals: business_not_found; resource_unknown; body: {resource_id}, the first that is not there, or
-- archived; capacity_in_use, where more is claimed at some instant from now on than the new capacity; body:
-- {slot_start, slot_end, claimed}, the first such stretch of time.
CREATE OR REPLACE FUNCTION booking.put_service(
  p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
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

  -- Judging that there is room enough acts on the expiry of what has expired: no later clock may revive it.
  PERFORM booking.end_holds(p_business_id, ARRAY(
    SELECT reservation_id FROM booking.expired_during(
      p_business_id, p_service_id, v_old.longest_occupied_seconds, tstzrange(v_now, 'infinity'), v_now)),
    'expired', v_now);

  SELECT jsonb_build_object('slot_start', level.at, 'slot_end', level.until, 'claimed', level.claimed)
  INTO v_in_the_way
  FROM booking.claim_levels(p_business_id, p_service_id, v_old.longest_occupied_seconds, v_now) AS level
  WHERE level.claimed > (p_service ->> 'max_simultaneous_bookings')::integer
  ORDER BY level.at LIMIT 1;
  IF FOUND THEN
    RETURN (NULL, 'capacity_in_use', v_in_the_way)::booking.outcome;
  END IF;

  v_new := jsonb_populate_record(NULL::booking.services, p_service || jsonb_build_object(
    'business_id', p_business_id, 'service_id', p_service_id, 'archived_at', NULL,
    'longest_occupied_seconds', coalesce(v_old.longest_occupied_seconds, 0),
    'created_at', coalesce(v_old.created_at, v_now)));
  INSERT INTO booking.services AS s SELECT v_new.*
  ON CONFLICT ON CONSTRAINT services_pkey DO UPDATE
  SET (name, max_simultaneous_bookings, duration_minutes, max_duration_minutes, hold_ttl_minutes,
       max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes, buffer_before_minutes,
       buffer_after_minutes, min_notice_minutes, max_advance_days, cancellation_window_minutes, booking_enabled,
       archived_at)
    = (v_new.name, v_new.max_simultaneous_bookings, v_new.duration_minutes, v_new.max_duration_minutes,
       v_new.hold_ttl_minutes, v_new.max_hold_ttl_minutes, v_new.max_hold_lifetime_minutes,
       v_new.slot_step_minutes, v_new.buffer_before_minutes, v_new.buffer_after_minutes, v_new.min_notice_minutes,
       v_new.max_advance_days, v_new.cancellation_window_minutes, v_new.booking_enabled, NULL);

  -- Archived members stay: they are not in the list that callers read and put back, and without them a service of
  -- theirs alone would be sold with nobody to serve it.
  DELETE FROM booking.service_resources p
  WHERE p.business_id = p_business_id AND p.service_id = p_service_id AND NOT EXISTS (
    SELECT FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = p.resource_id AND r.archived_at IS NOT NULL);
  INSERT INTO booking.service_resources (business_id, service_id, resource_id)
  SELECT p_business_id, p_service_id, member.resource_id
  FROM jsonb_array_elements_text(v_pool) AS member (resource_id);
  RETURN (NULL, CASE WHEN v_old.service_id IS NULL THEN 'created' ELSE 'done' END, (
    SELECT booking.services(p_business_id, p_service_id)))::booking.outcome;
END
$$;

-- Takes a service off the catalog. One that was ever reserved or booked is archived: nothing new is held
-- on it, its holds can still be committed. It keeps its pool.
-- Refusals: service_not_found
CREATE OR REPLACE FUNCTION booking.delete_service(p_business_id text, p_service_id text, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
BEGIN
  IF NOT EXISTS (
    SELECT FROM booking.services s
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL) THEN
    RETURN (NULL, 'service_not_found', NULL)::booking.outcome;
  END IF;
  IF EXISTS (SELECT FROM booking.reservations r WHERE r.business_id = p_business_id AND r.service_id = p_service_id)
    OR EXISTS (SELECT FROM booking.appointments a WHERE a.business_id = p_business_id AND a.service_id = p_service_id)
  THEN
    UPDATE booking.services s SET archived_at = v_now
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  ELSE
    DELETE FROM booking.service_resources p WHERE p.business_id = p_business_id AND p.service_id = p_service_id;
    DELETE FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  END IF;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
