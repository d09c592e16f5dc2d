-- Adds up quantities in their order, leaving out each one that no longer fits: a large request that does
-- not fit does not stop a smaller one behind it. As a window aggregate it says for every row how much has
-- been taken so far; a row was taken where that rose.
--   p_room  what there is to take, the same in every row; may be negative
CREATE OR REPLACE FUNCTION booking.take_if_it_fits(p_taken bigint, p_quantity integer, p_room bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE WHEN p_taken + p_quantity <= p_room THEN p_taken + p_quantity ELSE p_taken END $$;

CREATE OR REPLACE AGGREGATE booking.taken(quantity integer, room bigint) (
  SFUNC = booking.take_if_it_fits, STYPE = bigint, INITCOND = '0');

-- Decides one round of wishes: which of them fit, first come, first served. This is the rule against overbooking;
-- booking.fits is the same for a single wish (tests/sql/test_one_equals_many.py compares the two).
--
-- A wish with a pool takes one of its resources that are free, the next one in the order of booking.free_resources:
-- all of them are tried before it is refused, and work is spread over them.
--
-- Expired holds in the way become 'expired' first. That is a state, so that no later clock
-- revives them: their room is about to be given away.
--
--   p_wishes  one round, as booking.next_round gives them: wishes for equal windows are decided together,
--             and no two unequal windows of one service, or with a resource in common, overlap
--   p_now     the clock, read after the lock
--
-- Returns the wishes that are granted. The caller makes the claims, under the same lock.
-- Locks  none of its own: the caller has the lock of the business (booking.lock_business)
CREATE OR REPLACE FUNCTION booking.choose(p_business_id text, p_wishes booking.wish[], p_now timestamptz)
RETURNS SETOF booking.grant
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.end_holds(p_business_id, booking.expired_in_the_way(p_business_id, p_wishes, p_now), 'expired', p_now);

  RETURN QUERY
  WITH wish AS MATERIALIZED (
    SELECT w.*, min(w.position) OVER (PARTITION BY w.service_id, w.occupied, w.pool) AS window_position
    FROM unnest(p_wishes) AS w
  ), room AS MATERIALIZED (
    SELECT first.window_position, free.resource_ids,
           least(s.max_simultaneous_bookings - claimed.held - claimed.booked, cardinality(free.resource_ids)) AS room
    FROM wish AS first
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = first.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL booking.fullest_instant(
      p_business_id, first.service_id, s.longest_occupied_seconds, booking.rest_of(first.occupied, p_now), p_now
    ) AS claimed
    CROSS JOIN LATERAL (
      SELECT CASE WHEN first.pool IS NOT NULL
        THEN booking.free_resources(p_business_id, first.pool, first.occupied, p_now) END AS resource_ids
      OFFSET 0
    ) AS free
    WHERE first.position = first.window_position
  ), tried AS (
    SELECT wish.position, wish.window_position, room.resource_ids,
           booking.taken(wish.quantity, room.room) OVER in_order AS taken
    FROM wish JOIN room USING (window_position)
    WINDOW in_order AS (PARTITION BY wish.window_position ORDER BY wish.position ROWS UNBOUNDED PRECEDING)
  ), compared AS (
    SELECT tried.*, tried.taken > lag(tried.taken, 1, 0::bigint) OVER in_order AS fits
    FROM tried
    WINDOW in_order AS (PARTITION BY tried.window_position ORDER BY tried.position)
  )
  -- With a pool every quantity is one: the nth that fits takes the nth that is free.
  SELECT compared.position, compared.resource_ids[compared.taken] FROM compared WHERE compared.fits;
END
$$;

-- The holds that have expired but still stand as held, on the services or the resources of these wishes, during them.
CREATE OR REPLACE FUNCTION booking.expired_in_the_way(p_business_id text, p_wishes booking.wish[], p_now timestamptz)
RETURNS uuid[]
LANGUAGE sql STABLE
AS $$
  SELECT ARRAY(
    SELECT expired.reservation_id
    FROM (SELECT DISTINCT service_id, occupied FROM unnest(p_wishes)) AS wanted
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = wanted.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL booking.expired_during(
      p_business_id, wanted.service_id, s.longest_occupied_seconds, wanted.occupied, p_now) AS expired
    UNION ALL
    SELECT expired.reservation_id
    FROM (
      SELECT DISTINCT candidate, wish.occupied FROM unnest(p_wishes) AS wish CROSS JOIN unnest(wish.pool) AS candidate
    ) AS wanted
    CROSS JOIN LATERAL (
      SELECT * FROM booking.resources r WHERE r.business_id = p_business_id AND r.resource_id = wanted.candidate OFFSET 0
    ) AS r
    CROSS JOIN LATERAL booking.resource_expired_during(
      p_business_id, r.resource_id, r.longest_occupied_seconds, wanted.occupied, p_now) AS expired)
$$;
