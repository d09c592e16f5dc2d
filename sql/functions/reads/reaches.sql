-- Reads what the watchers of slots need to know of a claim: which services it concerns, and which of their slots. Takes no
-- lock.

-- Returns the services of a business, archived ones included, with what they need to tell how far a claim reaches.
--
--   is_listed       whether its slots are listed: it is not archived
--   resource_ids    its pool
--   before, after   its buffers
--   longest_slot    of the public; days are counted with two hours for a change of the clock, as in Antarctica/Troll
--   longest_window  the longest one that was ever claimed
CREATE FUNCTION booking.reaches(p_business_id text)
RETURNS TABLE (
  service_id text, is_listed boolean, resource_ids text[], before interval, after interval, longest_slot interval,
  longest_window interval)
LANGUAGE sql STABLE
AS $$
  SELECT s.service_id, s.archived_at IS NULL,
         ARRAY(SELECT p.resource_id FROM booking.service_resources p
               WHERE p.business_id = p_business_id AND p.service_id = s.service_id),
         make_interval(mins => s.buffer_before_minutes), make_interval(mins => s.buffer_after_minutes),
         CASE WHEN s.duration_days IS NULL THEN make_interval(mins => booking.max_length(s))
         ELSE make_interval(hours => 24 * booking.max_length(s) + 2) END,
         make_interval(secs => s.longest_occupied_seconds)
  FROM booking.services s
  WHERE s.business_id = p_business_id
$$;
