-- The catalog: businesses and what they offer. Each function takes the lock of its business, because it
-- changes what the verbs decide by; none of them goes through a batch.
--
-- Outcomes: 'created', 'done', or a refusal as in booking.outcome. Raises as booking.lock_business.

-- Makes a business or replaces its settings.
--   p_business  {name, slug?, timezone, country}, complete
-- Refusals: timezone_unknown (to this PostgreSQL)
-- Raises HF003 where the slug belongs to another business, so that a business just made is undone with it
CREATE OR REPLACE FUNCTION booking.put_business(p_business_id text, p_business jsonb, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_created boolean;
  v_row booking.businesses;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_business ->> 'timezone') THEN
    RETURN (NULL, 'timezone_unknown', NULL)::booking.outcome;
  END IF;

  INSERT INTO booking.businesses (business_id, name, timezone, country, created_at)
  VALUES (p_business_id, p_business ->> 'name', p_business ->> 'timezone', p_business ->> 'country', booking.now())
  ON CONFLICT ON CONSTRAINT businesses_pkey DO NOTHING;
  v_created := FOUND;
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RAISE EXCEPTION 'the business was deleted while its lock was waited for' USING ERRCODE = 'serialization_failure';
  END IF;

  -- The slug is taken by its own primary key: two businesses that want one slug at once wait for each other here.
  DELETE FROM booking.slugs WHERE business_id = p_business_id AND slug IS DISTINCT FROM p_business ->> 'slug';
  IF p_business ->> 'slug' IS NOT NULL THEN
    INSERT INTO booking.slugs (slug, business_id) VALUES (p_business ->> 'slug', p_business_id)
    ON CONFLICT ON CONSTRAINT slugs_pkey DO UPDATE SET slug = excluded.slug
    WHERE slugs.business_id = p_business_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the slug % belongs to another business', p_business ->> 'slug' USING ERRCODE = 'HF003';
    END IF;
  END IF;

  UPDATE booking.businesses b
  SET name = p_business ->> 'name', slug = p_business ->> 'slug', timezone = p_business ->> 'timezone',
      country = p_business ->> 'country'
  WHERE b.business_id = p_business_id
  RETURNING * INTO v_row;
  RETURN (NULL, CASE WHEN v_created THEN 'created' ELSE 'done' END, to_jsonb(v_row))::booking.outcome;
END
$$;

-- Makes a service or replaces its settings; one that was archived is offered again.
--   p_service  every setting of booking.services by its column's name, complete
-- Refusals: business_not_found; capacity_in_use, where more is claimed at some instant from now on than the
-- new capacity; body: {slot_start, slot_end, claimed}, the first such stretch of time.
CREATE OR REPLACE FUNCTION booking.put_service(
  p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_old booking.services;
  v_new booking.services;
  v_in_the_way jsonb;
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
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
  IF v_old.service_id IS NULL THEN
    INSERT INTO booking.services SELECT v_new.*;
    RETURN (NULL, 'created', to_jsonb(v_new))::booking.outcome;
  END IF;
  UPDATE booking.services s
  SET (name, max_simultaneous_bookings, duration_minutes, max_duration_minutes, hold_ttl_minutes,
       max_hold_ttl_minutes, max_hold_lifetime_minutes, slot_step_minutes, buffer_before_minutes,
       buffer_after_minutes, min_notice_minutes, max_advance_days, cancellation_window_minutes, booking_enabled,
       archived_at)
    = (v_new.name, v_new.max_simultaneous_bookings, v_new.duration_minutes, v_new.max_duration_minutes,
       v_new.hold_ttl_minutes, v_new.max_hold_ttl_minutes, v_new.max_hold_lifetime_minutes,
       v_new.slot_step_minutes, v_new.buffer_before_minutes, v_new.buffer_after_minutes, v_new.min_notice_minutes,
       v_new.max_advance_days, v_new.cancellation_window_minutes, v_new.booking_enabled, NULL)
  WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  RETURN (NULL, 'done', to_jsonb(v_new))::booking.outcome;
END
$$;

-- Takes a service off the catalog. One that was ever reserved or booked is archived: nothing new is held
-- on it, its holds can still be committed.
-- Refusals: service_not_found
CREATE OR REPLACE FUNCTION booking.delete_service(p_business_id text, p_service_id text, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
    DELETE FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = p_service_id;
  END IF;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;

-- Deletes a business that offers nothing and never booked anything.
-- Refusals: business_not_found; business_in_use
CREATE OR REPLACE FUNCTION booking.delete_business(p_business_id text, p_deadline timestamptz)
RETURNS booking.outcome
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  IF EXISTS (SELECT FROM booking.services s WHERE s.business_id = p_business_id) THEN
    RETURN (NULL, 'business_in_use', NULL)::booking.outcome;
  END IF;
  DELETE FROM booking.slugs s WHERE s.business_id = p_business_id;
  DELETE FROM booking.businesses b WHERE b.business_id = p_business_id;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
