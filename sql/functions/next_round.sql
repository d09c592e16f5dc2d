-- Of the wishes that are still open, those that can be decided together: of each attempt the first, and of
-- the windows that stand in each other's way the one that came first. Wishes for equal windows go together. What is
-- left waits for the next round and sees the claims of this one.
--
-- A window is a time on a service, and the pool that serves it. Two windows stand in each other's way where they
-- overlap in time and share the service or a resource, without being equal.
--
-- There is always at least one: among the firsts of their attempts, the window that came first waits for
-- nobody. So the loop over the rounds ends.
CREATE OR REPLACE FUNCTION booking.next_round(p_open booking.wish[])
RETURNS booking.wish[]
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  IF cardinality(p_open) = 1 THEN
    RETURN p_open;
  END IF;
  RETURN (
    WITH front AS MATERIALIZED (
      SELECT wish, (wish).position, (wish).service_id, (wish).occupied, (wish).pool,
             min((wish).position) OVER (PARTITION BY (wish).service_id, (wish).occupied, (wish).pool) AS window_position
      FROM (SELECT DISTINCT ON (attempt) wish FROM unnest(p_open) AS wish ORDER BY attempt, position) AS first_of_attempt
    )
    SELECT array_agg(wish ORDER BY position)
    FROM front
    WHERE NOT EXISTS (
      SELECT FROM front AS earlier
      WHERE earlier.window_position < front.window_position
        AND earlier.occupied && front.occupied
        AND (earlier.service_id = front.service_id OR earlier.pool && front.pool))
  );
END
$$;

-- How many rounds one call decides; what is left then is given back as deferred, and goes first in the next one. On a slot
-- with fifty thousand live holds a round takes up to 60 ms: sixteen take a second under the lock, and all that a batch may
-- hold would take longer than a statement may.
CREATE OR REPLACE FUNCTION booking.max_rounds()
RETURNS integer
LANGUAGE sql IMMUTABLE
AS $$ SELECT 16 $$;
