-- How much of a service is claimed at the fullest instant of a window: the peak, not the count. Two
-- back-to-back claims of an hour inside a window of two use one unit, not two.
--
-- Parameters as in booking.claims_during. Returns one row: what is held and what is booked then.
--
-- Claims that all share an instant (the usual case: everybody wants the same slot) just add up, in one pass that keeps
-- nothing. Only otherwise the window is swept: +quantity where a claim begins, -quantity where it ends, and at the same
-- instant ends before beginnings, because intervals are half-open.
CREATE OR REPLACE FUNCTION booking.fullest_instant(
  p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamptz,
  p_except uuid DEFAULT NULL)
RETURNS TABLE (held bigint, booked bigint)
LANGUAGE sql STABLE
AS $$
  WITH total AS MATERIALIZED (
    SELECT coalesce(sum(quantity) FILTER (WHERE is_hold), 0) AS held,
           coalesce(sum(quantity) FILTER (WHERE NOT is_hold), 0) AS booked,
           coalesce(max(lower(occupied)) < min(upper(occupied)), true) AS share_an_instant
    FROM booking.claims_during(p_business_id, p_service_id, p_longest_seconds, p_window, p_now, p_except)
  )
  SELECT held, booked FROM total WHERE share_an_instant
  UNION ALL
  SELECT swept.held, swept.booked
  FROM total CROSS JOIN LATERAL (
    SELECT coalesce(sum(step) FILTER (WHERE is_hold) OVER so_far, 0) AS held,
           coalesce(sum(step) FILTER (WHERE NOT is_hold) OVER so_far, 0) AS booked,
           sum(step) OVER so_far AS level
    FROM booking.claims_during(p_business_id, p_service_id, p_longest_seconds, p_window, p_now, p_except)
    CROSS JOIN LATERAL (
      VALUES (greatest(lower(occupied), lower(p_window)), quantity), (upper(occupied), -quantity)
    ) AS edge (at, step)
    WHERE NOT total.share_an_instant
    WINDOW so_far AS (ORDER BY at, step ROWS UNBOUNDED PRECEDING)
    ORDER BY level DESC LIMIT 1
  ) AS swept
$$;
