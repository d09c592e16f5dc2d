-- The catalog of a business as one document. Outcomes, errors and locks as in businesses.sql.

-- Returns the document of a business, as booking.put_document takes it; NULL if there is no such business.
CREATE FUNCTION booking.document(p_business_id text)
RETURNS jsonb LANGUAGE sql STABLE
AS $$
  SELECT booking.business(p_business_id) - 'created_at' || jsonb_build_object(
    'resources', (
      SELECT coalesce(jsonb_object_agg(r ->> 'resource_id', r - '{business_id,resource_id}'::text[]), '{}')
      FROM booking.resources(p_business_id) AS r),
    'services', (
      SELECT coalesce(jsonb_object_agg(
        s ->> 'service_id', s - '{business_id,service_id,archived_resource_ids}'::text[]), '{}')
      FROM booking.services(p_business_id) AS s),
    'opening_hours', (
      SELECT coalesce(jsonb_agg(o - 'business_id'), '[]') FROM booking.opening_hours(p_business_id) AS o),
    'special_hours', (
      SELECT coalesce(jsonb_object_agg(h ->> 'special_hours_id', h - '{business_id,special_hours_id}'::text[]), '{}')
      FROM booking.special_hours(p_business_id) AS h),
    'closures', (
      SELECT coalesce(jsonb_object_agg(c ->> 'closure_id', c - '{business_id,closure_id}'::text[]), '{}')
      FROM booking.closures(p_business_id) AS c))
$$;

-- Makes the catalog of a business equal to a document, all of it or nothing, and creates the business if need be.
-- Entries that the document lacks are deleted, or archived as their delete_ functions say.
--
--   p_document  the members of put_business, and resources, services, special_hours and closures: objects by id, each
--               entry as its put_ function takes it, complete; and opening_hours: a list as put_opening_hours takes it
--   p_dry_run   whether to undo everything at the end
-- Body      {changes: [{action, member, id}], warnings: [{code, member, id, …}]}: what was, or would be, created, changed
--           and removed; and the entries of closed_by_own_hours, and the affected_appointments of each changed closure
--           and special hours, where there are any. member is that of the document, or 'business'; id is NULL for
--           members that have no entries
-- Refusals  those of the functions that put and delete the entries, and validation_failed also for a resource in a pool
--           that is not in the document. Body: {member, id, body}, the entry and the body of the refusal
-- Raises    HF003, 40001  as booking.put_business
CREATE FUNCTION booking.put_document(
  p_business_id text, p_document jsonb, p_dry_run boolean, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline); -- NULL for a business that is to be created
  v_is_first boolean;
  v_former jsonb;
  v_step record;
  v_outcome booking.outcome;
  -- Arrays: each addition to a jsonb copies all of it.
  v_changes jsonb[] := '{}';
  v_bodies jsonb[] := '{}';
  v_created jsonb[] := '{}';
  -- Resources that have fewer seats now.
  v_fewer text[] := '{}';
  v_id text;
  v_warnings jsonb[];
  v_result jsonb;
BEGIN
  SELECT jsonb_build_object('member', 'services', 'id', pool.service_id, 'body', booking.fault(
    'resource_ids', 'unknown_resource', jsonb_build_object('resourceId', pool.resource_id))) INTO v_result
  FROM booking.pools_outside(p_business_id, p_document) AS pool;
  IF FOUND THEN
    RETURN (NULL, 'validation_failed', v_result)::booking.outcome;
  END IF;
  -- The business and the resources first: a resource that is restored has its hours, closures and pools again, which the
  -- other steps must find.
  FOREACH v_is_first IN ARRAY ARRAY[true, false] LOOP
    -- Read once for each: PostgreSQL inlines booking.document_steps, and would read it for each mention.
    v_former := booking.document(p_business_id);
    FOR v_step IN
      SELECT * FROM booking.document_steps(v_former, p_document) AS step
      WHERE (step.place <= 2) = v_is_first
      ORDER BY step.place, step.id
    LOOP
      IF v_step.member = 'resources' AND booking.has_fewer_seats(p_business_id, v_step.id, v_step.entry) THEN
        v_fewer := array_append(v_fewer, v_step.id);
      END IF;
      v_outcome := booking.take_step(p_business_id, v_step.member, v_step.id, v_step.entry);
      IF v_outcome.outcome NOT IN ('created', 'done') THEN
        RAISE EXCEPTION 'an entry of the document was refused' USING ERRCODE = 'HF004', DETAIL = jsonb_build_object(
          'outcome', v_outcome.outcome,
          'body', jsonb_build_object('member', v_step.member, 'id', v_step.id, 'body', v_outcome.body));
      ELSIF v_step.member = 'business' AND v_step.action = 'created' AND v_outcome.outcome = 'done' THEN
        RAISE EXCEPTION 'the business was created while this call ran' USING ERRCODE = 'serialization_failure';
      END IF;
      IF v_outcome.outcome = 'created' THEN
        v_created := v_created || jsonb_build_object('member', v_step.member, 'id', v_step.id);
      END IF;
      IF v_step.action <> 'replaced' THEN
        v_changes := v_changes || jsonb_build_object('action', v_step.action, 'member', v_step.member, 'id', v_step.id);
        v_bodies := array_append(v_bodies, v_outcome.body);
      END IF;
    END LOOP;
  END LOOP;
  SELECT jsonb_build_object('outcome', beyond.outcome, 'body', beyond.body) INTO v_result
  FROM booking.first_beyond_limit(p_business_id, v_created) AS beyond;
  IF FOUND THEN
    RAISE EXCEPTION 'an entry of the document was refused' USING ERRCODE = 'HF004', DETAIL = v_result;
  END IF;
  -- After all entries: other resources of a pool may get the seats that these give up.
  FOREACH v_id IN ARRAY v_fewer LOOP
    BEGIN
      PERFORM booking.check_claims(p_business_id, NULL, v_id, v_now);
    EXCEPTION
      WHEN SQLSTATE 'HF004' THEN
        GET STACKED DIAGNOSTICS v_result = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION 'an entry of the document was refused' USING ERRCODE = 'HF004', DETAIL = jsonb_build_object(
          'outcome', 'capacity_in_use',
          'body', jsonb_build_object('member', 'resources', 'id', v_id, 'body', v_result));
    END;
  END LOOP;
  v_warnings := ARRAY(
    SELECT unnest(booking.step_warnings(p_business_id, step.change ->> 'member', step.change ->> 'id', step.body))
    FROM unnest(v_changes, v_bodies) WITH ORDINALITY AS step (change, body, position)
    ORDER BY step.position);
  v_result := jsonb_build_object('changes', to_jsonb(v_changes), 'warnings', to_jsonb(v_warnings));
  IF p_dry_run THEN
    RAISE EXCEPTION 'a dry run' USING ERRCODE = 'HF004', DETAIL = jsonb_build_object('outcome', 'done', 'body', v_result);
  END IF;
  RETURN (NULL, 'done', v_result)::booking.outcome;
EXCEPTION
  WHEN SQLSTATE 'HF004' THEN -- the writes above are undone
    GET STACKED DIAGNOSTICS v_result = PG_EXCEPTION_DETAIL;
    RETURN (NULL, v_result ->> 'outcome', v_result -> 'body')::booking.outcome;
END
$$;

-- Returns the refusal of the first service or resource that a document created beyond the limit of its business: no row,
-- or one. All of a kind are counted once, because a count for each of them would take time with the square of their number.
--
--   p_created  {member, id} of each entry that was not even archived before, in their order
CREATE FUNCTION booking.first_beyond_limit(p_business_id text, p_created jsonb[])
RETURNS TABLE (outcome text, body jsonb) LANGUAGE sql VOLATILE
AS $$
  SELECT refusal.outcome, jsonb_build_object('member', kind.name, 'id', created.ids[
    cardinality(created.ids) + 1 - (kind.number - (refusal.body ->> 'limit')::integer)], 'body', refusal.body)
  FROM (
    SELECT 'resources' AS name, count(*) AS number FROM booking.resources r WHERE r.business_id = p_business_id
    UNION ALL
    SELECT 'services', count(*) FROM booking.services s WHERE s.business_id = p_business_id
  ) AS kind
  CROSS JOIN LATERAL booking.over_limit(kind.name, kind.number) AS refusal
  CROSS JOIN LATERAL (
    SELECT ARRAY(SELECT entry ->> 'id' FROM unnest(p_created) AS entry WHERE entry ->> 'member' = kind.name) AS ids
  ) AS created
  WHERE refusal.outcome IS NOT NULL AND created.ids <> '{}'
  ORDER BY kind.name LIMIT 1
$$;

-- Returns the first service of a document, by id, whose pool names a resource of the catalog that the document lacks:
-- no row, or one. A pool that lost its resources is read as its archived ones; whether one of these can stay, put_service
-- decides.
CREATE FUNCTION booking.pools_outside(p_business_id text, p_document jsonb)
RETURNS TABLE (service_id text, resource_id text) LANGUAGE sql STABLE
AS $$
  SELECT service.id, pool.resource_id
  FROM jsonb_each(p_document -> 'services') AS service (id, entry)
  CROSS JOIN LATERAL jsonb_array_elements_text(service.entry -> 'resource_ids') AS pool (resource_id)
  WHERE NOT (p_document -> 'resources') ? pool.resource_id AND NOT booking.is_archived(p_business_id, pool.resource_id)
  ORDER BY service.id, pool.resource_id LIMIT 1
$$;

-- Returns the steps from one document to another, one for each entry that differs, to be taken by place and id. An entry
-- may need what another one gives up, or refer to it:
-- - resources are put (place 2) before the services, hours and closures that name them, and removed last: once nothing
--   refers to a resource, it is deleted instead of archived;
-- - services and closures are removed before others are put, which count towards the limits of the business;
-- - special hours that change are deleted before any are put (action 'replaced'), because others may take their dates.
--
--   p_former  NULL: the business does not exist
--   entry     NULL: to be deleted
CREATE FUNCTION booking.document_steps(p_former jsonb, p_document jsonb)
RETURNS TABLE (place integer, member text, id text, action text, entry jsonb) LANGUAGE sql STABLE
AS $$
  WITH entries (name, put_at, removed_at) AS (
    VALUES ('resources', 2, 10), ('services', 4, 3), ('special_hours', 7, 6), ('closures', 9, 8)
  ), former AS (
    SELECT e.name, each.id, each.entry FROM entries AS e CROSS JOIN LATERAL jsonb_each(p_former -> e.name) AS each (id, entry)
  ), wanted AS (
    SELECT e.name, each.id, CASE e.name
      -- Instants as booking.closures writes them.
      WHEN 'closures' THEN each.entry || jsonb_build_object(
        'from', (each.entry ->> 'from')::timestamptz, 'to', (each.entry ->> 'to')::timestamptz)
      ELSE each.entry END AS entry
    FROM entries AS e CROSS JOIN LATERAL jsonb_each(p_document -> e.name) AS each (id, entry)
  ), difference AS (
    SELECT name, id, former.entry AS former, wanted.entry AS wanted
    FROM former FULL JOIN wanted USING (name, id)
    WHERE former.entry IS NULL OR wanted.entry IS NULL OR former.entry || wanted.entry <> former.entry
  )
  SELECT 1, 'business', NULL, CASE WHEN p_former IS NULL THEN 'created' ELSE 'changed' END, settings.entry
  FROM (SELECT p_document - '{resources,services,opening_hours,special_hours,closures}'::text[] AS entry) AS settings
  WHERE p_former IS NULL OR p_former || settings.entry <> p_former
  UNION ALL
  SELECT e.put_at, d.name, d.id, CASE WHEN d.former IS NULL THEN 'created' ELSE 'changed' END, d.wanted
  FROM difference AS d JOIN entries AS e USING (name) WHERE d.wanted IS NOT NULL
  UNION ALL
  SELECT e.removed_at, d.name, d.id, CASE WHEN d.wanted IS NULL THEN 'removed' ELSE 'replaced' END, NULL
  FROM difference AS d JOIN entries AS e USING (name)
  WHERE d.former IS NOT NULL AND (d.wanted IS NULL OR d.name = 'special_hours')
  UNION ALL
  SELECT 5, 'opening_hours', NULL, 'changed', p_document -> 'opening_hours'
  FROM (SELECT jsonb_agg(hours ORDER BY hours) AS week FROM jsonb_array_elements(p_former -> 'opening_hours') AS hours)
    AS former
  CROSS JOIN (
    SELECT jsonb_agg(hours ORDER BY hours) AS week FROM jsonb_array_elements(p_document -> 'opening_hours') AS hours
  ) AS wanted
  WHERE former.week IS DISTINCT FROM wanted.week
$$;

-- Takes one step of booking.document_steps. The lock is held: the deadline, which limits the wait for it, has been kept.
CREATE FUNCTION booking.take_step(p_business_id text, p_member text, p_id text, p_entry jsonb)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF p_entry IS NULL THEN
    RETURN CASE p_member
      WHEN 'resources' THEN booking.delete_resource(p_business_id, p_id, 'infinity')
      WHEN 'services' THEN booking.delete_service(p_business_id, p_id, 'infinity')
      WHEN 'special_hours' THEN booking.delete_special_hours(p_business_id, p_id, 'infinity')
      WHEN 'closures' THEN booking.delete_closure(p_business_id, p_id, 'infinity') END;
  END IF;
  RETURN CASE p_member
    WHEN 'business' THEN booking.put_business(p_business_id, p_entry, 'infinity')
    -- Its claims are checked at the end of the document.
    WHEN 'resources' THEN booking.write_resource(p_business_id, p_id, p_entry, booking.now())
    WHEN 'services' THEN CASE WHEN booking.was_claimed(p_business_id, p_id)
      THEN booking.put_service(p_business_id, p_id, p_entry, 'infinity')
      ELSE booking.write_service(p_business_id, p_id, p_entry, booking.now()) END
    WHEN 'opening_hours' THEN booking.put_opening_hours(p_business_id, p_entry, 'infinity')
    WHEN 'special_hours' THEN booking.put_special_hours(p_business_id, p_id, p_entry, 'infinity')
    WHEN 'closures' THEN booking.put_closure(p_business_id, p_id, p_entry, 'infinity') END;
END
$$;

-- Returns the warnings of booking.put_document for one step, by the body of its outcome: an array.
--
-- The appointments that special hours affect are looked up anew, after all steps: the night of a booking may be two
-- entries, and when the first of them was put, the other one was missing.
CREATE FUNCTION booking.step_warnings(p_business_id text, p_member text, p_id text, p_body jsonb)
RETURNS jsonb[] LANGUAGE sql VOLATILE
AS $$
  SELECT coalesce(array_agg(warning || jsonb_build_object('member', p_member, 'id', p_id)), '{}')
  FROM (
    SELECT closed || '{"code": "closed_by_own_hours"}' AS warning
    FROM jsonb_array_elements(p_body -> 'closed_by_own_hours') AS closed
    UNION ALL
    SELECT jsonb_build_object('code', 'appointments_affected', 'affected_appointments', affected.found)
    FROM (
      SELECT CASE p_member
        WHEN 'special_hours' THEN booking.affected_by_hours(p_business_id, p_body ->> 'resource_id',
          (p_body ->> 'date')::date, coalesce(p_body ->> 'until', p_body ->> 'date')::date)
        ELSE p_body -> 'affected_appointments' END AS found
    ) AS affected
    WHERE (affected.found ->> 'count')::integer > 0
  ) AS of_step
$$;
