-- Plants what a measurement needs, past the verbs: businesses and services as copies of a template, and claims in bulk.
--
-- Every claim is counted in booking.occupancy, and its service's longest_occupied_seconds is raised. All slots are an
-- hour long and have no buffers, so that a window is its slot.
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO holdfast_service;

-- The first slot of a measurement: three days ahead, at midnight in UTC.
CREATE FUNCTION bench.first_slot() RETURNS timestamptz
LANGUAGE sql STABLE
AS $$ SELECT date_trunc('day', now(), 'UTC') + interval '72 hours' $$;

-- Copies the business and the service `template`, which the product's verbs made: businesses b1, b2, …, each with
-- services s1, s2, …
CREATE PROCEDURE bench.plant_services(p_businesses integer, p_services integer)
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO booking.businesses
  SELECT copy.*
  FROM booking.businesses AS template
  CROSS JOIN generate_series(1, p_businesses) AS business
  CROSS JOIN LATERAL jsonb_populate_record(template, jsonb_build_object('business_id', 'b' || business)) AS copy
  WHERE template.business_id = 'template';

  INSERT INTO booking.services
  SELECT copy.*
  FROM booking.services AS template
  CROSS JOIN generate_series(1, p_businesses) AS business
  CROSS JOIN generate_series(1, p_services) AS service
  CROSS JOIN LATERAL jsonb_populate_record(
    template, jsonb_build_object('business_id', 'b' || business, 'service_id', 's' || service)) AS copy
  WHERE template.business_id = 'template';
END
$$;

-- Raises longest_occupied_seconds, as the verbs do before they make a claim.
CREATE PROCEDURE bench.note_hours()
LANGUAGE sql
AS $$
  UPDATE booking.services SET longest_occupied_seconds = 3600 WHERE longest_occupied_seconds < 3600
$$;

-- Plants p_holds holds of one unit each, on p_slots consecutive slots in turn.
CREATE PROCEDURE bench.plant_holds(
  p_business_id text, p_service_id text, p_slots integer, p_holds integer, p_expires_at timestamptz)
LANGUAGE sql
AS $$
  WITH made AS (
    INSERT INTO booking.reservations (
      business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
      ttl_clamped, version, last_operation_id, created_at)
    SELECT p_business_id, uuidv7(), p_service_id, slot.starts, slot.ends, tstzrange(slot.starts, slot.ends), 1,
           'held', p_expires_at, false, 1, uuidv7(), p_expires_at - interval '15 minutes'
    FROM generate_series(1, p_holds) AS hold
    CROSS JOIN LATERAL (SELECT bench.first_slot() + make_interval(hours => hold % p_slots) AS starts) AS start
    CROSS JOIN LATERAL (SELECT starts, starts + interval '1 hour' AS ends) AS slot
    RETURNING slot_start, slot_end, quantity
  )
  INSERT INTO booking.occupancy AS o (business_id, service_id, resource_id, starts, ends, claimed, next_expiry)
  SELECT p_business_id, p_service_id, '', slot_start, slot_end, sum(quantity), p_expires_at
  FROM made GROUP BY slot_start, slot_end
  ON CONFLICT (business_id, service_id, starts, ends, resource_id) DO UPDATE
  SET claimed = o.claimed + excluded.claimed, next_expiry = least(o.next_expiry, excluded.next_expiry);
  CALL bench.note_hours()
$$;

-- Plants p_bookings confirmed appointments of one unit each, on p_slots consecutive slots in turn.
CREATE PROCEDURE bench.plant_bookings(p_business_id text, p_service_id text, p_slots integer, p_bookings integer)
LANGUAGE sql
AS $$
  WITH made AS (
    INSERT INTO booking.appointments (
      business_id, appointment_id, service_id, slot_start, slot_end, occupied, quantity, status, version, metadata,
      source, created_at, updated_at)
    SELECT p_business_id, uuidv7(), p_service_id, slot.starts, slot.ends, tstzrange(slot.starts, slot.ends), 1,
           'confirmed', 1, '{}', 'online', now(), now()
    FROM generate_series(1, p_bookings) AS booking
    CROSS JOIN LATERAL (SELECT bench.first_slot() + make_interval(hours => booking % p_slots) AS starts) AS start
    CROSS JOIN LATERAL (SELECT starts, starts + interval '1 hour' AS ends) AS slot
    RETURNING slot_start, slot_end, quantity
  )
  INSERT INTO booking.occupancy AS o (business_id, service_id, resource_id, starts, ends, claimed)
  SELECT p_business_id, p_service_id, '', slot_start, slot_end, sum(quantity) FROM made GROUP BY slot_start, slot_end
  ON CONFLICT (business_id, service_id, starts, ends, resource_id) DO UPDATE
  SET claimed = o.claimed + excluded.claimed;
  CALL bench.note_hours()
$$;

-- The past: confirmed appointments of the last ten years, and holds that ended within the last day.
--
-- Half of them are of service s1 of business b1, the others of all services of all other businesses in turn. They are
-- written in the order of time and of their ids, as they came about, and in parts, each a transaction, so that ten million
-- need no more memory or temporary files than a part. Foreign keys are not checked: that would double the time.
CREATE PROCEDURE bench.plant_past(p_businesses integer, p_services integer, p_appointments integer, p_ended_holds integer)
LANGUAGE plpgsql
AS $$
DECLARE
  c_part CONSTANT integer := 250000;
  c_hours CONSTANT integer := 10 * 365 * 24;
  v_first integer;
BEGIN
  PERFORM set_config('session_replication_role', 'replica', false);
  FOR v_first IN SELECT generate_series(1, p_appointments, c_part) LOOP
    WITH made AS (
      INSERT INTO booking.appointments (
        business_id, appointment_id, service_id, slot_start, slot_end, occupied, quantity, status, version, metadata,
        source, guest_name, guest_email, created_at, updated_at)
      SELECT owner.business_id, bench.ordered_id(n), owner.service_id, slot.starts, slot.ends,
             tstzrange(slot.starts, slot.ends), 1, 'confirmed', 1, '{}', 'online', 'Guest ' || n,
             'guest' || n || '@example.com', slot.starts, slot.starts
      FROM generate_series(v_first, least(v_first + c_part - 1, p_appointments)) AS n
      CROSS JOIN LATERAL bench.owner_of(n, p_businesses, p_services) AS owner
      CROSS JOIN LATERAL (
        SELECT date_trunc('hour', now()) - make_interval(
          hours => 2 + c_hours - (n::bigint * c_hours / p_appointments)::integer) AS starts
      ) AS start
      CROSS JOIN LATERAL (SELECT starts, starts + interval '1 hour' AS ends) AS slot
      RETURNING business_id, service_id, slot_start, slot_end, quantity
    )
    INSERT INTO booking.occupancy AS o (business_id, service_id, resource_id, starts, ends, claimed)
    SELECT business_id, service_id, '', slot_start, slot_end, sum(quantity)
    FROM made GROUP BY business_id, service_id, slot_start, slot_end
    ON CONFLICT (business_id, service_id, starts, ends, resource_id) DO UPDATE
    SET claimed = o.claimed + excluded.claimed;
    COMMIT;
  END LOOP;

  -- They occupy nothing any more: no row of occupancy.
  FOR v_first IN SELECT generate_series(1, p_ended_holds, c_part) LOOP
    INSERT INTO booking.reservations (
      business_id, reservation_id, service_id, slot_start, slot_end, occupied, quantity, status, expires_at,
      ttl_clamped, version, idempotency_key, fingerprint, last_operation_id, created_at, ended_at)
    SELECT owner.business_id, bench.ordered_id(n), owner.service_id, slot.starts, slot.ends,
           tstzrange(slot.starts, slot.ends), 1, (ARRAY['committed', 'released', 'expired'])[1 + n % 3],
           ended.at + interval '5 minutes', false, 1, 'past-' || n, md5(n::text), uuidv7(),
           ended.at - interval '10 minutes', ended.at
    FROM generate_series(v_first, least(v_first + c_part - 1, p_ended_holds)) AS n
    CROSS JOIN LATERAL bench.owner_of(n, p_businesses, p_services) AS owner
    CROSS JOIN LATERAL (SELECT now() - make_interval(secs => 86000 - n::bigint * 85000 / p_ended_holds) AS at) AS ended
    CROSS JOIN LATERAL (
      SELECT bench.first_slot() + make_interval(hours => (n * 7919::bigint % 8000)::integer) AS starts
    ) AS start
    CROSS JOIN LATERAL (SELECT starts, starts + interval '1 hour' AS ends) AS slot;
    COMMIT;
  END LOOP;
  PERFORM set_config('session_replication_role', 'origin', false);
  CALL bench.note_hours();
END
$$;

-- Ids in the order of their numbers, as those of the service are in the order of time.
CREATE FUNCTION bench.ordered_id(p_number integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$ SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(p_number), 12, '0'))::uuid $$;

CREATE FUNCTION bench.owner_of(p_number integer, p_businesses integer, p_services integer)
RETURNS TABLE (business_id text, service_id text)
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_number % 2 = 0 THEN 'b1' ELSE 'b' || 2 + p_number / 2 % (p_businesses - 1) END,
         CASE WHEN p_number % 2 = 0 THEN 's1' ELSE 's' || 1 + p_number / 2 / (p_businesses - 1) % p_services END
$$;
