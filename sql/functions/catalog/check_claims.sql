-- The check of a change of the catalog: one after which the claims would break an invariant is refused.

-- Ends the expired holds of a business, and checks that its claims fit the catalog as the caller has changed it.
--
--   p_service_id, p_resource_id  what was changed: one of the two; the other is NULL
-- Returns  whether it ended holds
-- Raises  HF004 if the claims do not fit. The DETAIL is the body of capacity_in_use: {slot_start, slot_end, claimed},
--         the first time that they do not. The caller catches the error, which undoes its change
-- Locks   none of its own; the caller holds the lock of the business
CREATE FUNCTION booking.check_claims(p_business_id text, p_service_id text, p_resource_id text, p_now timestamptz)
RETURNS boolean LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_expired uuid[] := ARRAY(
    SELECT r.reservation_id FROM booking.reservations r
    WHERE r.business_id = p_business_id AND r.ended_at IS NULL AND r.expires_at <= p_now);
  v_violation jsonb;
BEGIN
  -- A change that fits only because holds have expired acts on their expiry, so a clock that is set back must not
  -- revive them.
  PERFORM booking.end_holds(array_fill(p_business_id, ARRAY[cardinality(v_expired)]), v_expired, 'expired', p_now);
  v_violation := booking.first_violation(p_business_id, p_service_id, p_resource_id);
  IF v_violation IS NOT NULL THEN
    RAISE EXCEPTION 'the claims exceed the new capacity' USING ERRCODE = 'HF004', DETAIL = v_violation;
  END IF;
  RETURN v_expired <> '{}';
END
$$;

-- Returns the first time from now on at which a service is overbooked or a resource double-booked, for the given
-- service and the resources of its pool and its claims, or for the given resource and the services that it serves:
-- {slot_start, slot_end, claimed}, or NULL.
--
--   p_service_id, p_resource_id  as in booking.check_claims
CREATE FUNCTION booking.first_violation(p_business_id text, p_service_id text, p_resource_id text)
RETURNS jsonb LANGUAGE sql VOLATILE
AS $$
  SELECT jsonb_build_object('slot_start', violation.at, 'slot_end', violation.until, 'claimed', violation.claimed)
  FROM (
    SELECT m.service_id, m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND (m.service_id = p_service_id OR m.resource_id = p_resource_id)
    UNION SELECT p_service_id, p_resource_id
    UNION
    -- The service may have claims on resources that are not in its pool any more.
    SELECT p_service_id, (w.o).resource_id
    FROM booking.service_by_id(p_business_id, p_service_id) AS s
    CROSS JOIN (SELECT booking.now() AS now OFFSET 0) AS clock
    CROSS JOIN LATERAL booking.service_windows(p_business_id, p_service_id, s.longest_occupied_seconds, NULL, clock.now,
      'infinity', NULL, clock.now, 0) AS w
    WHERE (w.o).resource_id <> ''
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
