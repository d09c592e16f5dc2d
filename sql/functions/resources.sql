-- The resources of a service, as a request may have them.

-- Who can serve a slot of a service.
--   p_resource_id  the one that was asked for by name; NULL for any
--   p_slot         the slot, where opening hours, closures and bookingEnabled bind; NULL where they don't
-- Returns
--   has_resources  whether the service is only ever booked together with a resource
--   named          those that the request can mean: of the pool, not archived, and the named one if one is named
--   pool           of these, those that can serve the slot, free or not
--   refusal        why the pool is empty though some are named: 'not_online' or 'closed'
CREATE OR REPLACE FUNCTION booking.find_pool(
  p_business_id text, p_service_id text, p_resource_id text, p_slot tstzrange,
  OUT has_resources boolean, OUT named text[], OUT pool text[], OUT refusal text)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_members text[] := ARRAY(
    SELECT m.resource_id FROM booking.service_resources m
    WHERE m.business_id = p_business_id AND m.service_id BETWEEN p_service_id AND p_service_id
    ORDER BY m.service_id, m.resource_id);
  v_online text[];
BEGIN
  has_resources := cardinality(v_members) > 0;
  IF NOT has_resources THEN
    named := '{}';
    RETURN;
  END IF;
  SELECT coalesce(array_agg(r.resource_id), '{}'),
         coalesce(array_agg(r.resource_id) FILTER (WHERE r.booking_enabled OR p_slot IS NULL), '{}')
  INTO named, v_online
  FROM unnest(v_members) AS member (resource_id)
  CROSS JOIN LATERAL (
    SELECT * FROM booking.resources r
    WHERE r.business_id = p_business_id AND r.resource_id = member.resource_id AND r.archived_at IS NULL
    OFFSET 0
  ) AS r
  WHERE p_resource_id IS NULL OR member.resource_id = p_resource_id;

  pool := CASE WHEN p_slot IS NULL THEN v_online ELSE booking.open_during(p_business_id, v_online, p_slot) END;
  refusal := CASE
    WHEN cardinality(named) = 0 OR cardinality(pool) > 0 THEN NULL
    WHEN cardinality(v_online) = 0 THEN 'not_online'
    ELSE 'closed'
  END;
END
$$;

-- Of a pool, the resources that nothing claims during a window, those first that are booked least on its day.
--   p_window  what the claim would occupy, buffers included
--   p_except  an appointment that is not counted: the one that is about to be moved
-- The day is that of the business's wall-clock, and booked least means the fewest claims.
CREATE OR REPLACE FUNCTION booking.free_resources(
  p_business_id text, p_pool text[], p_window tstzrange, p_now timestamptz, p_except uuid DEFAULT NULL)
RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_day tstzrange := booking.local_day(p_business_id, lower(p_window));
BEGIN
  RETURN ARRAY(
    SELECT r.resource_id
    FROM unnest(p_pool) AS candidate (resource_id)
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = candidate.resource_id
      OFFSET 0
    ) AS r
    CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE claim.occupied && v_day) AS that_day,
             count(*) FILTER (WHERE claim.occupied && p_window) AS in_the_way
      FROM booking.resource_claims_during(
        p_business_id, r.resource_id, r.longest_occupied_seconds, range_merge(v_day, p_window), p_now, p_except) AS claim
    ) AS claims
    WHERE claims.in_the_way = 0
    ORDER BY claims.that_day, r.resource_id);
END
$$;

-- The day of an instant by the wall-clock of a business: 23 or 25 hours long where a DST change is.
CREATE OR REPLACE FUNCTION booking.local_day(p_business_id text, p_instant timestamptz)
RETURNS tstzrange
LANGUAGE sql STABLE
AS $$
  SELECT tstzrange(midnight AT TIME ZONE b.timezone, (midnight + interval '1 day') AT TIME ZONE b.timezone)
  FROM booking.businesses b
  CROSS JOIN LATERAL (SELECT date_trunc('day', p_instant AT TIME ZONE b.timezone) AS midnight) AS local
  WHERE b.business_id = p_business_id
$$;

-- What is wrong with a quantity above 1 on a service with resources.
CREATE OR REPLACE FUNCTION booking.quantity_of_resource()
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
  SELECT jsonb_build_object('field', 'quantity', 'message', 'must be 1: this service is booked one resource at a time')
$$;
