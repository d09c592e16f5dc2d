-- Warnings: the rules for the public that do not bind the business itself, where its own bookings break them.

-- Returns {warnings: [{code, resource_id?}]} for an appointment that the business made or moved, by code; an empty object
-- if it breaks no rule. The codes are the reasons of booking.slot_refusal; 'closed', with the resource whose hours or
-- closures do not permit the slot, or without one for those of the business; and 'misconfigured' if that depends on
-- local time and this server does not know the time zone. A service or resource that the public cannot book at all is no
-- reason to warn.
--
--   p_before  the appointment before its change: rules about its start or length are checked only if these or the service
--             have changed, and none if its slot and resource have not either; NULL for a new one
CREATE FUNCTION booking.warnings(p_before booking.appointments, p_after booking.appointments, p_now timestamptz)
RETURNS jsonb LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_is_new_start boolean := (p_after.service_id, p_after.slot_start)
    IS DISTINCT FROM (p_before.service_id, p_before.slot_start);
  v_is_new_length boolean := (p_after.service_id, booking.elapsed(p_after.slot_start, p_after.slot_end))
    IS DISTINCT FROM (p_before.service_id, booking.elapsed(p_before.slot_start, p_before.slot_end));
  v_owners text[] := array_remove(ARRAY['', p_after.resource_id], NULL);
  v_open text[];
  v_service booking.services;
  v_timezone text;
  v_needs_timezone boolean;
  v_warnings jsonb;
BEGIN
  IF NOT v_is_new_start AND NOT v_is_new_length AND p_after.resource_id IS NOT DISTINCT FROM p_before.resource_id THEN
    RETURN '{}';
  END IF;
  SELECT * INTO v_service FROM booking.service_by_id(p_after.business_id, p_after.service_id);
  v_service.booking_enabled := true;
  v_open := booking.open_during(p_after.business_id, v_owners, tstzrange(p_after.slot_start, p_after.slot_end),
    booking.hours_apply(v_service));
  v_needs_timezone := v_service.duration_days IS NOT NULL OR v_service.starts_on_grid;
  IF v_needs_timezone THEN
    v_timezone := booking.timezone_of(p_after.business_id);
    -- When a day ends depends on its start, so a move can break the rule that a slot of the same length kept before.
    v_is_new_length := v_is_new_length OR v_is_new_start AND v_service.duration_days IS NOT NULL
      AND booking.length_refusal(v_service, v_timezone, p_before.slot_start, p_before.slot_end) IS NULL;
  END IF;
  SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('code', warning.code, 'resource_id', warning.resource_id))
    ORDER BY warning.code, warning.resource_id NULLS FIRST)
  INTO v_warnings
  FROM (
    SELECT booking.start_refusal(v_service, p_after.slot_start, p_now) AS code, NULL AS resource_id
    WHERE v_is_new_start
    UNION
    SELECT booking.length_refusal(v_service, v_timezone, p_after.slot_start, p_after.slot_end), NULL
    WHERE v_is_new_length AND (v_service.duration_days IS NULL OR v_timezone IS NOT NULL)
    UNION
    SELECT booking.grid_refusal(v_service, v_timezone, p_after.slot_start), NULL
    WHERE v_is_new_start AND v_timezone IS NOT NULL
    UNION
    SELECT 'misconfigured', NULL WHERE v_open IS NULL OR (v_needs_timezone AND v_timezone IS NULL)
    UNION
    SELECT 'closed', nullif(owner, '') FROM unnest(v_owners) AS owner WHERE owner <> ALL (v_open)
  ) AS warning
  WHERE warning.code IS NOT NULL;
  RETURN CASE WHEN v_warnings IS NULL THEN '{}' ELSE jsonb_build_object('warnings', v_warnings) END;
END
$$;
