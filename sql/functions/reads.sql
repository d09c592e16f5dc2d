-- Reads. They take no lock, and what they say may have changed by the time it is read: only the verbs decide.

-- The room in one slot of a service: {capacity, held, booked, available}, held and booked at the fullest
-- instant of the slot and its buffers from now on; of a slot that is over, at the fullest that it had. Of a service with
-- resources no more is available than there are resources that are free then and that the public can book. NULL if there
-- is no such service.
CREATE OR REPLACE FUNCTION booking.capacity(
  p_business_id text, p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'capacity', s.max_simultaneous_bookings, 'held', claimed.held, 'booked', claimed.booked,
      'available', greatest(0, least(
        s.max_simultaneous_bookings - claimed.held - claimed.booked,
        CASE WHEN found.has_resources
          THEN cardinality(booking.free_resources(p_business_id, found.pool, slot.occupied, v_now)) END)))
    FROM booking.services s
    CROSS JOIN LATERAL (SELECT booking.occupied_by(s, p_slot_start, p_slot_end) AS occupied) AS slot
    CROSS JOIN LATERAL (
      SELECT coalesce(nullif(booking.rest_of(slot.occupied, v_now), 'empty'), slot.occupied) AS during
    ) AS counted
    CROSS JOIN LATERAL booking.fullest_instant(
      p_business_id, p_service_id, s.longest_occupied_seconds, counted.during, v_now) AS claimed
    CROSS JOIN LATERAL booking.find_pool(
      p_business_id, p_service_id, NULL, tstzrange(p_slot_start, p_slot_end)) AS found
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL);
END
$$;

-- The business of a reservation, or NULL. By its id alone: with several servers this would have to ask each, so
-- callers who know the business say so and don't need it. An appointment remembers its reservation when
-- the purge has deleted it.
CREATE OR REPLACE FUNCTION booking.business_of_reservation(p_reservation_id uuid)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
AS $$
BEGIN
  RETURN coalesce(
    (SELECT r.business_id FROM booking.reservations r WHERE r.reservation_id = p_reservation_id),
    (SELECT a.business_id FROM booking.appointments a WHERE a.reservation_id = p_reservation_id));
END
$$;

-- One reservation as its holder sees it, or NULL.
CREATE OR REPLACE FUNCTION booking.reservation(p_business_id text, p_reservation_id uuid)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN (
    SELECT booking.reservation_body(r, v_now) FROM booking.reservations r
    WHERE r.business_id = p_business_id AND r.reservation_id = p_reservation_id);
END
$$;
