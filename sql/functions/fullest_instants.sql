-- What booking.fullest_instant says, held and booked together, of what is left of many windows of a service at once. What
-- began before p_now and has not ended lasts at p_now: so the fullest instant of a window is never one that is over, and
-- the windows need not be cut.
--   p_windows  all of one length, whole seconds, none twice, and none that is over
--   p_except   an appointment that is not counted; NULL: none
--
-- Every claim is read once. Its edges and those of the windows are put in order, and the sum of the edges' steps is how
-- much is claimed from there on. To find the highest within each window without going through it again, time is cut
-- into bins as long as a window: so each window is the rest of the bin that it starts in and the beginning of the
-- next one. The highest so far, counted from the far end of the one and from the near end of the other, is one pass
-- each.
CREATE OR REPLACE FUNCTION booking.fullest_instants(
  p_service booking.services, p_windows tstzrange[], p_now timestamptz, p_except uuid)
RETURNS TABLE (during tstzrange, claimed bigint)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_all tstzrange := (SELECT tstzrange(min(lower(w)), max(upper(w))) FROM unnest(p_windows) AS w);
  v_length interval := booking.elapsed(lower(p_windows[1]), upper(p_windows[1]));
BEGIN
  RETURN QUERY
  WITH edge AS (
    SELECT step.at, step.quantity, NULL::tstzrange AS probe, false AS is_end
    FROM booking.claims_during(
      p_service.business_id, p_service.service_id, p_service.longest_occupied_seconds, booking.rest_of(v_all, p_now),
      p_now, p_except) AS claim
    CROSS JOIN LATERAL (
      VALUES (lower(claim.occupied), claim.quantity), (upper(claim.occupied), -claim.quantity)
    ) AS step (at, quantity)
    UNION ALL
    SELECT bound.at, 0, w, bound.is_end
    FROM unnest(p_windows) AS w CROSS JOIN LATERAL (VALUES (lower(w), false), (upper(w), true)) AS bound (at, is_end)
  ), level AS (
    -- Equal instants count together: intervals are half-open.
    SELECT edge.at, edge.probe, edge.is_end, sum(edge.quantity) OVER (ORDER BY edge.at) AS claimed,
           date_bin(v_length, edge.at, lower(v_all)) AS bin
    FROM edge
  ), highest AS (
    SELECT level.probe, CASE
      -- The end of a window comes before everything else at its instant, and is no part of the window itself.
      WHEN level.is_end THEN max(level.claimed) FILTER (WHERE NOT level.is_end) OVER (
        PARTITION BY level.bin ORDER BY level.at, level.is_end DESC ROWS UNBOUNDED PRECEDING)
      ELSE max(level.claimed) OVER (PARTITION BY level.bin ORDER BY level.at DESC)
    END AS claimed
    FROM level
  )
  SELECT highest.probe, max(highest.claimed) FROM highest WHERE highest.probe IS NOT NULL GROUP BY highest.probe;
END
$$;
