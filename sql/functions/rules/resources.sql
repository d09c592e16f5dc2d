-- Finds the resources of a service that a request may get.
--
-- Parameters
--   p_resource_id  the resource that the request names; NULL for any
--   p_slot         the slot, for requests that opening hours, closures and booking_enabled bind; NULL for the others
--   p_hours_apply  as in booking.is_open; not read if p_slot is NULL
-- Returns
--   has_resources  whether the service has a pool, and so needs a resource for each claim
--   largest        the seats of the largest resource that the request can mean: in the pool, not archived, and the
--                  named one if one is named; NULL if there is none
--   resource_ids   of these, the ones that can serve the slot, free or not; NULL for a service without a pool
--   refusal        'not_online' or 'closed' if none of them can serve the slot; 'misconfigured' if that depends on hours
--                  and this server does not know the time zone of the business
CREATE FUNCTION booking.find_pool(
  p_business_id text, p_service_id text, p_resource_id text, p_slot tstzrange, p_hours_apply text)
RETURNS booking.pool LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_pool booking.pool;
  v_online text[];
BEGIN
  SELECT count(*) > 0, max(r.seats),
         coalesce(array_agg(r.resource_id) FILTER (WHERE r.booking_enabled OR p_slot IS NULL), '{}')
  INTO v_pool.has_resources, v_pool.largest, v_online
  FROM (
    SELECT m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id, m.resource_id
  ) AS member
  LEFT JOIN LATERAL (
    SELECT * FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = member.resource_id AND r.archived_at IS NULL
      AND (p_resource_id IS NULL OR r.resource_id = p_resource_id) OFFSET 0
  ) AS r ON true;
  IF NOT v_pool.has_resources THEN
    RETURN v_pool;
  END IF;
  v_online := array_remove(v_online, NULL);
  v_pool.resource_ids := CASE
    WHEN p_slot IS NULL THEN v_online
    ELSE booking.open_during(p_business_id, v_online, p_slot, p_hours_apply)
  END;
  v_pool.refusal := CASE
    WHEN v_pool.resource_ids IS NULL THEN 'misconfigured'
    WHEN v_pool.largest IS NULL OR cardinality(v_pool.resource_ids) > 0 THEN NULL
    WHEN cardinality(v_online) = 0 THEN 'not_online'
    ELSE 'closed'
  END;
  RETURN v_pool;
END
$$;
