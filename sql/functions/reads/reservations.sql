-- Reads of reservations and of the room in a slot. They take no lock, and their result may be out of date when the
-- caller reads it: only the verbs decide.

-- Returns the room in one slot of a service: {capacity, held, booked, available}, or NULL if there is no such service.
-- held and booked are units at the fullest instant of the window from now on; of a slot that is over, of the whole
-- window. For a service with a pool, available is at most the free seats of the resources that the public can book
-- then.
CREATE FUNCTION booking.capacity(
  p_business_id text, p_service_id text, p_slot_start timestamptz, p_slot_end timestamptz)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'capacity', own.capacity, 'held', coalesce(held.quantity, 0),
      'booked', coalesce(fullest.claimed, 0) - coalesce(held.quantity, 0),
      'available', greatest(0, least(own.capacity - coalesce(fullest.claimed, 0), free.seats)))
    FROM booking.services AS s
    CROSS JOIN LATERAL booking.capacity_of(s) AS own
    CROSS JOIN LATERAL (
      SELECT p_slot_start - make_interval(mins => s.buffer_before_minutes) AS starts,
             p_slot_end + make_interval(mins => s.buffer_after_minutes) AS ends
    ) AS slot
    CROSS JOIN LATERAL (
      SELECT CASE WHEN slot.ends > v_now THEN greatest(slot.starts, v_now) ELSE slot.starts END AS starts
    ) AS counted_from
    LEFT JOIN LATERAL (
      SELECT level.at, level.claimed
      FROM booking.claim_levels(p_business_id, p_service_id, s.longest_occupied_seconds, own.counted_ids,
        counted_from.starts, slot.ends, NULL, v_now, NULL) AS level
      ORDER BY level.claimed DESC LIMIT 1
    ) AS fullest ON true
    CROSS JOIN LATERAL (
      SELECT sum(r.quantity) AS quantity
      FROM (
        SELECT r.* FROM booking.reservations r
        WHERE r.business_id = p_business_id AND r.service_id = p_service_id AND r.status = 'held'
          AND lower(r.occupied) <= fullest.at AND upper(r.occupied) > fullest.at
          AND lower(r.occupied) > fullest.at - make_interval(secs => s.longest_occupied_seconds)
          AND r.expires_at > v_now AND (own.counted_ids IS NULL OR coalesce(r.resource_id, '') = ANY (own.counted_ids))
        ORDER BY lower(r.occupied), r.expires_at
      ) AS r
    ) AS held
    CROSS JOIN LATERAL (
      SELECT booking.find_pool(
        p_business_id, p_service_id, NULL, tstzrange(p_slot_start, p_slot_end), booking.hours_apply(s),
        true) AS pool OFFSET 0
    ) AS lookup
    CROSS JOIN LATERAL (
      SELECT CASE WHEN (lookup.pool).has_resources THEN coalesce(sum(room), 0) END AS seats
      FROM booking.pool_room(
        p_business_id, p_service_id, (lookup.pool).resource_ids, slot.starts, slot.ends,
        s.resource_sharing = 'session', NULL, v_now) AS of_pool
      CROSS JOIN unnest(of_pool.rooms) AS room
    ) AS free
    WHERE s.business_id = p_business_id AND s.service_id = p_service_id AND s.archived_at IS NULL);
END
$$;

-- Returns the business of a reservation, or NULL. A look-up by the id alone, which a router of several servers has to
-- send to all of them: callers that know the business pass it and do not need this. After the purge has deleted a
-- reservation, the appointment that it became still has its id.
CREATE FUNCTION booking.business_of_reservation(p_reservation_id uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
BEGIN
  RETURN coalesce(
    (SELECT r.business_id FROM booking.reservations r WHERE r.reservation_id = p_reservation_id),
    (SELECT a.business_id FROM booking.appointments a WHERE a.reservation_id = p_reservation_id));
END
$$;

-- Returns a page of the holds of a business that are live now and whose slot overlaps [p_from, p_to), by the start of their
-- window, then by expiry and hold_id. The bodies have no reservation id: it is the credential of the holder.
--
-- Parameters
--   p_from, p_to      NULL: no bound
--   p_service_id, p_resource_id  only these; NULL: all
--   p_after_starts, p_after_expires_at, p_after_hold_id  the place of the last hold of the page before; NULL: the first
--                     page
--   p_limit           rows
--
-- Each service is a range of its index that begins at the cursor and ends with the page.
CREATE FUNCTION booking.list_holds(
  p_business_id text, p_from timestamptz, p_to timestamptz, p_service_id text, p_resource_id text,
  p_after_starts timestamptz, p_after_expires_at timestamptz, p_after_hold_id uuid, p_limit integer)
RETURNS TABLE (starts timestamptz, expires_at timestamptz, hold_id uuid, body jsonb) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  v_now timestamptz := booking.now();
  v_from timestamptz := coalesce(p_from, '-infinity');
  v_to timestamptz := coalesce(p_to, 'infinity');
BEGIN
  RETURN QUERY
  SELECT hold.starts, hold.expires_at, hold.hold_id, hold.body
  FROM booking.services s
  CROSS JOIN LATERAL (
    SELECT lower(r.occupied) AS starts, r.expires_at, booking.hold_id(r.reservation_id) AS hold_id,
           booking.reservation_body(r, v_now) - '{reservation_id,status,ttl_clamped,version}'::text[]
             || jsonb_build_object('hold_id', booking.hold_id(r.reservation_id), 'created_at', r.created_at) AS body
    FROM booking.reservations r
    WHERE r.business_id = p_business_id AND r.service_id = s.service_id AND r.status = 'held'
      AND lower(r.occupied) >= greatest(
        p_after_starts, v_from - make_interval(secs => s.longest_occupied_seconds))
      AND lower(r.occupied) < v_to AND r.expires_at > v_now
      AND r.slot_start < v_to AND r.slot_end > v_from
      AND (p_resource_id IS NULL OR r.resource_id = p_resource_id)
      AND (p_after_starts IS NULL OR (lower(r.occupied), r.expires_at, booking.hold_id(r.reservation_id))
        > (p_after_starts, p_after_expires_at, p_after_hold_id))
    ORDER BY lower(r.occupied), r.expires_at, booking.hold_id(r.reservation_id) LIMIT p_limit
  ) AS hold
  WHERE s.business_id = p_business_id AND (p_service_id IS NULL OR s.service_id = p_service_id)
  ORDER BY hold.starts, hold.expires_at, hold.hold_id LIMIT p_limit;
END
$$;

-- Returns the name of a hold in lists, from which the id of its reservation cannot be computed.
CREATE FUNCTION booking.hold_id(p_reservation_id uuid)
RETURNS uuid LANGUAGE sql IMMUTABLE
AS $$ SELECT left(encode(sha256(uuid_send(p_reservation_id)), 'hex'), 32)::uuid $$;

-- Returns one reservation as its client sees it, or NULL.
CREATE FUNCTION booking.reservation(p_business_id text, p_reservation_id uuid)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN (
    SELECT booking.reservation_body(r, v_now) FROM booking.reservation_by_id(p_business_id, p_reservation_id) AS r);
END
$$;

-- Returns the live holds of a client in a business, those that end first, at most 100, as the client sees them.
--
--   p_client_id_hmac  the digest of the client's own id, with which the holds were made
CREATE FUNCTION booking.holds_of_client(p_business_id text, p_client_id_hmac text)
RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  RETURN QUERY
  SELECT booking.reservation_body(r, v_now) FROM booking.reservations r
  WHERE r.business_id = p_business_id AND r.ended_at IS NULL AND r.expires_at > v_now
    AND r.client_id_hmac BETWEEN p_client_id_hmac AND p_client_id_hmac
  ORDER BY r.client_id_hmac, r.expires_at
  LIMIT 100;
END
$$;
