-- The catalog: businesses. Every function of the catalog takes the lock of its business, because it changes what
-- the verbs decide by; none of them goes through a batch.
--
-- Outcomes, of these and of the other files here: 'created', 'done', or a refusal as in booking.outcome. A body
-- is what was put, as reads.sql has it. Raises as booking.lock_business.

-- Makes a business or replaces its settings.
--   p_business  {name, slug?, timezone, country}, complete
-- Refusals: timezone_unknown (to this PostgreSQL)
-- Raises HF003 where the slug belongs to another business, so that a business just made is undone with it
CREATE FUNCTION booking.put_business(p_business_id text, p_business jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_created boolean;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_business ->> 'timezone') THEN
    RETURN (NULL, 'timezone_unknown', NULL)::booking.outcome;
  END IF;

  INSERT INTO booking.businesses (business_id, name, timezone, country, created_at)
  VALUES (p_business_id, p_business ->> 'name', p_business ->> 'timezone', p_business ->> 'country', booking.now())
  ON CONFLICT ON CONSTRAINT businesses_pkey DO NOTHING;
  v_created := FOUND;
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RAISE EXCEPTION 'the business was deleted while its lock was waited for' USING ERRCODE = 'serialization_failure';
  END IF;

  -- The slug is taken by its own primary key: two businesses that want one slug at once wait for each other here. (Two
  -- that exchange their slugs at once may each wait for the other: PostgreSQL ends one of them, and that one is sent
  -- again.)
  DELETE FROM booking.slugs WHERE business_id = p_business_id AND slug IS DISTINCT FROM p_business ->> 'slug';
  IF p_business ->> 'slug' IS NOT NULL THEN
    INSERT INTO booking.slugs (slug, business_id) VALUES (p_business ->> 'slug', p_business_id)
    ON CONFLICT ON CONSTRAINT slugs_pkey DO UPDATE SET slug = excluded.slug
    WHERE slugs.business_id = p_business_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'the slug % belongs to another business', p_business ->> 'slug' USING ERRCODE = 'HF003';
    END IF;
  END IF;
  -- That may have taken until past the deadline, which is looked at once more.
  PERFORM booking.lock_business(p_business_id, p_deadline);

  UPDATE booking.businesses b
  SET name = p_business ->> 'name', slug = p_business ->> 'slug', timezone = p_business ->> 'timezone',
      country = p_business ->> 'country'
  WHERE b.business_id = p_business_id;
  RETURN (NULL, CASE WHEN v_created THEN 'created' ELSE 'done' END, (
    SELECT booking.business(p_business_id)))::booking.outcome;
END
$$;

-- Deletes a business that offers nothing and never booked anything, with its hours, closures and keys.
-- Refusals: business_not_found; business_in_use, where it has services, also archived ones, or resources
CREATE FUNCTION booking.delete_business(p_business_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  IF booking.lock_business(p_business_id, p_deadline) IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  -- An archived resource is nobody's any more once there is no service: only of a service was it ever claimed.
  IF EXISTS (SELECT FROM booking.services s WHERE s.business_id = p_business_id)
    OR EXISTS (SELECT FROM booking.resources r WHERE r.business_id = p_business_id AND r.archived_at IS NULL)
  THEN
    RETURN (NULL, 'business_in_use', NULL)::booking.outcome;
  END IF;
  DELETE FROM booking.slugs s WHERE s.business_id = p_business_id;
  -- That may have waited for somebody who wants the slug, until past the deadline, which is looked at once more.
  PERFORM booking.lock_business(p_business_id, p_deadline);
  DELETE FROM booking.api_keys k WHERE k.business_id = p_business_id;
  DELETE FROM booking.closures c WHERE c.business_id = p_business_id;
  DELETE FROM booking.opening_hours o WHERE o.business_id = p_business_id;
  DELETE FROM booking.resources r WHERE r.business_id = p_business_id;
  DELETE FROM booking.businesses b WHERE b.business_id = p_business_id;
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;
