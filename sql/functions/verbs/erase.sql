-- Erases the personal data of one guest from the appointments of a business, in bounded steps: the caller repeats the
-- call until a step erases fewer than p_limit. Nothing else stores a guest's data: reservations and their fingerprints
-- hold slots, and the audit trail names fields without their contents.
--
-- Parameters
--   p_guest_email, p_guest_phone  one of them, normalised as it is stored; the other is NULL. The case of an address
--                                 does not matter
--   p_author  {actor_kind, actor_id?, request_id?}, for the audit rows
--   p_limit   at most this many appointments are erased
-- Returns one booking.outcome
--   done                body: {erased}, the number of appointments
--   business_not_found
-- Raises  as booking.lock_businesses
-- Locks   the business
CREATE FUNCTION booking.erase_guest(
  p_business_id text, p_guest_email text, p_guest_phone text, p_author jsonb, p_limit integer, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
SET enable_memoize = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_email text := booking.folded_email(p_guest_email);
  v_due booking.appointments[];
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  -- An erased appointment has left the index, so a step begins where the one before it ended.
  IF p_guest_email IS NOT NULL THEN
    v_due := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND booking.folded_email(a.guest_email) BETWEEN v_email AND v_email
      ORDER BY booking.folded_email(a.guest_email) LIMIT p_limit);
  ELSE
    v_due := ARRAY(
      SELECT a FROM booking.appointments a
      WHERE a.business_id = p_business_id AND a.guest_phone BETWEEN p_guest_phone AND p_guest_phone
      ORDER BY a.guest_phone LIMIT p_limit);
  END IF;
  RETURN (NULL, 'done', jsonb_build_object(
    'erased', booking.erase_appointments(v_due, p_author, v_now)))::booking.outcome;
END
$$;

-- Erases appointments as the action 'erase' of booking.change does, each with a new version and an audit row, and
-- returns their number. The caller holds the locks of their businesses.
--
--   p_due     the stored rows
--   p_author  as in booking.erase_guest
CREATE FUNCTION booking.erase_appointments(p_due booking.appointments[], p_author jsonb, p_now timestamptz)
RETURNS integer LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN (
    SELECT count(*) FROM booking.record_changes(ARRAY(
      SELECT ROW(row_number() OVER (), a.business_id, gen_random_uuid(), request.details, a,
        booking.with_changes(a, NULL, request.details), false, NULL, NULL, NULL)::booking.appointment_change
      FROM unnest(p_due) AS a
      CROSS JOIN (SELECT p_author || '{"action": "erase"}' AS details) AS request), p_now));
END
$$;
