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

-- Decides one round of wishes: which of them fit, first come, first served. The rule against overbooking
-- is here and nowhere else.
--
-- Expired holds in the way become 'expired' first. That is a state, so that no later clock
-- revives them: their room is about to be given away.
--
--   p_wishes  one round, as booking.next_round gives them: wishes for equal windows are decided together,
--             and no two unequal windows of one service overlap
--   p_now     the clock, read after the lock
--
-- Returns the positions of the wishes that are granted. The caller makes the claims, under the same lock.
-- Locks  none of its own: the caller has the lock of the business (booking.lock_business)
CREATE OR REPLACE FUNCTION booking.choose(p_business_id text, p_wishes booking.wish[], p_now timestamptz)
RETURNS SETOF integer
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM booking.end_holds(p_business_id, ARRAY(
    SELECT in_the_way.reservation_id
    FROM (SELECT DISTINCT service_id, occupied FROM unnest(p_wishes)) AS wanted
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = wanted.service_id OFFSET 0
    ) AS s
    CROSS JOIN LATERAL booking.expired_during(
      p_business_id, wanted.service_id, s.longest_occupied_seconds, wanted.occupied, p_now) AS in_the_way),
    'expired', p_now);

  RETURN QUERY
  WITH wish AS MATERIALIZED (
    SELECT * FROM unnest(p_wishes)
  ), wanted AS MATERIALIZED (
    SELECT w.service_id, w.occupied, s.max_simultaneous_bookings AS capacity, s.longest_occupied_seconds
    FROM (SELECT DISTINCT service_id, occupied FROM wish) AS w
    CROSS JOIN LATERAL (
      SELECT * FROM booking.services s WHERE s.business_id = p_business_id AND s.service_id = w.service_id OFFSET 0
    ) AS s
  ), room AS MATERIALIZED (
    SELECT wanted.service_id, wanted.occupied, wanted.capacity - claimed.held - claimed.booked AS room
    FROM wanted CROSS JOIN LATERAL booking.fullest_instant(
      p_business_id, wanted.service_id, wanted.longest_occupied_seconds, wanted.occupied, p_now) AS claimed
  ), tried AS (
    SELECT wish.position, wish.service_id, wish.occupied,
           booking.taken(wish.quantity, room.room) OVER in_order AS taken
    FROM wish JOIN room ON room.service_id = wish.service_id AND room.occupied = wish.occupied
    WINDOW in_order AS (PARTITION BY wish.service_id, wish.occupied ORDER BY wish.position ROWS UNBOUNDED PRECEDING)
  ), compared AS (
    SELECT tried.position, tried.taken > lag(tried.taken, 1, 0::bigint) OVER in_order AS fits
    FROM tried
    WINDOW in_order AS (PARTITION BY tried.service_id, tried.occupied ORDER BY tried.position)
  )
  SELECT compared.position FROM compared WHERE compared.fits;
END
$$;
