-- The catalog: businesses. Every function of the catalog that writes takes the lock of its business, because the verbs
-- decide by what it changes. The functions take one request each, not a batch.
--
-- They return one booking.outcome (the other files of this folder too): 'created', 'done', or a refusal. The body of
-- the first two is the stored entry as reads.sql returns it; a refusal has a body only where its function describes
-- one. A function that adds an entry refuses one beyond the limit of the business, limit_reached: see booking.over_limit.
-- Raises  as booking.lock_business

-- Creates a business or replaces its settings.
--
--   p_business  {name, slug?, timezone, country?, feed_past_days?, guest_retention_days?, description?, metadata?},
--               complete
-- Refusals  validation_failed: body of booking.fault, this PostgreSQL does not know the time zone
-- Raises    HF003  the slug is the slug or the id of another business, or the id of a new business is the slug of
--                  another one: callers name a business by either. An exception, so that it also undoes the creation
--                  of the business
--           40001  the business was deleted while this call waited for its lock
-- Locks     the business; then, of a new one, the slug that equals its id; then the row of its slug
CREATE FUNCTION booking.put_business(p_business_id text, p_business jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_created boolean;
  v_former_slug text;
BEGIN
  IF NOT booking.is_timezone_name(p_business ->> 'timezone') THEN
    RETURN booking.invalid('timezone', 'unknown_timezone');
  END IF;

  INSERT INTO booking.businesses (business_id, name, timezone, country, created_at)
  VALUES (p_business_id, p_business ->> 'name', p_business ->> 'timezone', p_business ->> 'country', booking.now())
  ON CONFLICT ON CONSTRAINT businesses_pkey DO NOTHING;
  v_created := FOUND;
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RAISE EXCEPTION 'the business was deleted while this call waited for its lock'
      USING ERRCODE = 'serialization_failure';
  END IF;

  -- Slugs are unique among all businesses, so this is the one lock beside that of the business. A call that sets a
  -- slug waits for another transaction that is inserting or deleting the same slug. Two businesses that exchange their
  -- slugs at the same moment can deadlock: PostgreSQL aborts one of the calls, and the service sends it again.
  IF v_created THEN
    -- Taken until the DELETE below: a call that gives this name to another business as its slug waits for this one, and
    -- then finds the new id.
    INSERT INTO booking.slugs (slug, business_id) VALUES (p_business_id, p_business_id)
    ON CONFLICT ON CONSTRAINT slugs_pkey DO NOTHING;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the id % is the slug of another business', p_business_id USING ERRCODE = 'HF003';
    END IF;
  END IF;
  SELECT CASE WHEN v_created THEN p_business_id ELSE b.slug END INTO v_former_slug
  FROM booking.businesses b WHERE b.business_id = p_business_id;
  DELETE FROM booking.slugs s
  WHERE s.slug = v_former_slug AND s.business_id = p_business_id AND s.slug IS DISTINCT FROM p_business ->> 'slug';
  IF p_business ->> 'slug' IS NOT NULL THEN
    PERFORM booking.claim_slug(p_business ->> 'slug', p_business_id);
  END IF;
  -- The wait for the slug may have lasted beyond the deadline, so it is checked again (the lock is held already).
  PERFORM booking.lock_business(p_business_id, p_deadline);

  UPDATE booking.businesses b
  SET name = p_business ->> 'name', slug = p_business ->> 'slug', timezone = p_business ->> 'timezone',
      country = p_business ->> 'country', feed_past_days = coalesce((p_business ->> 'feed_past_days')::integer, 400),
      guest_retention_days = (p_business ->> 'guest_retention_days')::integer,
      description = p_business ->> 'description', metadata = nullif(p_business -> 'metadata', 'null')
  WHERE b.business_id = p_business_id;
  -- Closures by date follow the time zone, and its rules as this server knows them now.
  UPDATE booking.closures c
  SET during = booking.range_of_dates(p_business ->> 'timezone', c.first_date, c.last_date)
  WHERE c.business_id = p_business_id AND c.first_date IS NOT NULL;
  RETURN (NULL, CASE WHEN v_created THEN 'created' ELSE 'done' END, (
    SELECT booking.business(p_business_id)))::booking.outcome;
END
$$;

-- Deletes a business that has no services, with its slug, opening and special hours, closures, keys and archived resources.
--
-- Refusals  business_not_found; business_in_use: it has services, archived ones included, or resources that are not
--           archived
-- Locks     the business; then the row of its slug
CREATE FUNCTION booking.delete_business(p_business_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  -- Archived resources do not count: all claims belong to a service, so without services a resource has no claims, and no
  -- bookings of clients were counted.
  IF EXISTS (SELECT FROM booking.services s WHERE s.business_id = p_business_id)
    OR EXISTS (SELECT FROM booking.resources r WHERE r.business_id = p_business_id AND r.archived_at IS NULL)
  THEN
    RETURN (NULL, 'business_in_use', NULL)::booking.outcome;
  END IF;
  DELETE FROM booking.slugs s
  USING booking.businesses b
  WHERE b.business_id = p_business_id AND s.slug = b.slug AND s.business_id = b.business_id;
  -- The wait for the slug may have lasted beyond the deadline, so it is checked again (the lock is held already).
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.api_keys k WHERE k.business_id = p_business_id;
  DELETE FROM booking.closures c WHERE c.business_id = p_business_id;
  DELETE FROM booking.opening_hours o WHERE o.business_id = p_business_id;
  DELETE FROM booking.special_hours h WHERE h.business_id = p_business_id;
  DELETE FROM booking.resources r WHERE r.business_id = p_business_id;
  DELETE FROM booking.businesses b WHERE b.business_id = p_business_id;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;

-- Returns the refusal of an entry beyond the limit of a business, or NULL: limit_reached, body {limit}. The limits are far
-- above what a business needs: they bound what an owner's key can store, and the work of decisions and lists. Archived
-- entries count.
--
--   p_kind   'services', 'resources', 'closures', 'special_hours', 'opening_hours' or 'api_keys' (revoked ones do not
--            count); 'list': the entries of a list that is put as a whole, of which one request has 500 at most. Archived
--            ones are not in it
--   p_count  how many the business would have
CREATE FUNCTION booking.over_limit(p_kind text, p_count bigint)
RETURNS booking.outcome LANGUAGE sql IMMUTABLE
AS $$
  SELECT ROW(NULL, 'limit_reached', jsonb_build_object('limit', kind.most))::booking.outcome
  FROM (VALUES
    ('services', 1000), ('resources', 2000), ('closures', 10000), ('special_hours', 5000), ('opening_hours', 5000),
    ('api_keys', 200), ('list', 500)) AS kind (name, most)
  WHERE kind.name = p_kind AND p_count > kind.most
$$;
