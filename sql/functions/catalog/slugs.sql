-- Slugs: names by which public calls find a business, unique among all businesses. So a slug is the one lock beside that
-- of a business. Behind a proxy it is claimed on the server that a business with this id would be on, which need not be
-- that of its business (sql/proxy/merged.sql).

-- Gives a slug to a business. Repeated, it changes nothing. It waits for another transaction that inserts or deletes the
-- same slug.
--
-- Raises  HF003  the slug is the slug or the id of another business
-- Locks   the row of the slug
CREATE FUNCTION booking.claim_slug(p_slug text, p_business_id text)
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  INSERT INTO booking.slugs (slug, business_id) VALUES (p_slug, p_business_id)
  ON CONFLICT ON CONSTRAINT slugs_pkey DO UPDATE SET slug = excluded.slug
  WHERE slugs.business_id = p_business_id;
  IF NOT FOUND OR p_slug <> p_business_id AND EXISTS (
    SELECT FROM booking.businesses b WHERE b.business_id = p_slug)
  THEN
    RAISE EXCEPTION 'the slug % belongs to another business', p_slug USING ERRCODE = 'HF003';
  END IF;
END
$$;

-- Takes a slug from a business that has another one now, or none. Without effect if this server has the business, and it
-- has this slug.
--
-- Locks  the row of the slug
CREATE FUNCTION booking.release_slug(p_slug text, p_business_id text)
RETURNS void LANGUAGE sql VOLATILE
AS $$
  DELETE FROM booking.slugs s
  WHERE s.slug = p_slug AND s.business_id = p_business_id AND NOT EXISTS (
    SELECT FROM booking.businesses b WHERE b.business_id = p_business_id AND b.slug = p_slug)
$$;

-- Returns the slugs that are claimed, each with its business.
CREATE FUNCTION booking.claimed_slugs()
RETURNS TABLE (slug text, business_id text) LANGUAGE sql STABLE
AS $$ SELECT s.slug, s.business_id FROM booking.slugs s $$;

-- Returns the slugs that are claimed for a business that does not have them, or that a business has and that do not lead
-- to it. On one server there is none, because one transaction changes both.
CREATE FUNCTION booking.stray_slugs()
RETURNS TABLE (slug text, business_id text) LANGUAGE sql STABLE
AS $$
  WITH business AS MATERIALIZED (
    SELECT b ->> 'business_id' AS id, b ->> 'slug' AS slug FROM booking.businesses() AS b
  ), named AS MATERIALIZED (
    SELECT n.name, n.business_id
    FROM booking.businesses_named(ARRAY(SELECT b.slug FROM business AS b WHERE b.slug IS NOT NULL)) AS n
  )
  SELECT c.slug, c.business_id
  FROM booking.claimed_slugs() AS c
  WHERE NOT EXISTS (SELECT FROM business AS b WHERE b.id = c.business_id AND b.slug = c.slug)
  UNION
  SELECT b.slug, b.id
  FROM business AS b JOIN named ON named.name = b.slug
  WHERE named.business_id IS DISTINCT FROM b.id
$$;
