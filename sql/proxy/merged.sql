-- The functions of which the proxy merges the rows of several nodes into those of one database, and those that set a slug.
-- `migrate` executes this file in the proxy database. Each function calls a generated one, named like itself with
-- `_of_nodes`, which has the same parameters and returns the rows of all nodes that it asks. Headers are at the functions
-- of the nodes.

CREATE FUNCTION booking.business_of_reservation(p_reservation_id uuid)
RETURNS text LANGUAGE sql VOLATILE
AS $$ SELECT min(id) FROM booking.business_of_reservation_of_nodes(p_reservation_id) AS id $$;

CREATE FUNCTION booking.business_of_appointment(p_appointment_id uuid)
RETURNS text LANGUAGE sql VOLATILE
AS $$ SELECT min(id) FROM booking.business_of_appointment_of_nodes(p_appointment_id) AS id $$;

CREATE FUNCTION booking.businesses()
RETURNS SETOF jsonb LANGUAGE sql VOLATILE
AS $$ SELECT b FROM booking.businesses_of_nodes() AS b ORDER BY (b ->> 'business_id') COLLATE "C" $$;

CREATE FUNCTION booking.purge(
  p_business_ids text[], p_retention interval, p_limit integer, p_deadline timestamptz,
  OUT expired integer, OUT deleted integer, OUT erased integer, OUT freed jsonb, OUT busy text[])
LANGUAGE sql VOLATILE
AS $$
  WITH purged AS MATERIALIZED (
    SELECT * FROM booking.purge_of_nodes(p_business_ids, p_retention, p_limit, p_deadline)
  )
  SELECT sum(p.expired)::integer, sum(p.deleted)::integer, sum(p.erased)::integer,
         (SELECT coalesce(jsonb_agg(service), '[]') FROM purged AS q CROSS JOIN jsonb_array_elements(q.freed) AS service),
         ARRAY(SELECT unnest(q.busy) FROM purged AS q)
  FROM purged AS p
$$;

-- Every node records the run: it deletes counts of former days then.
CREATE FUNCTION booking.record_purge(
  p_run_id uuid, p_started_at timestamptz, p_expired integer, p_deleted integer, p_erased integer, p_remaining integer)
RETURNS void LANGUAGE sql VOLATILE
AS $$
  SELECT FROM booking.record_purge_of_nodes(p_run_id, p_started_at, p_expired, p_deleted, p_erased, p_remaining)
$$;

CREATE FUNCTION booking.note_key_uses(p_business_ids text[], p_key_ids text[])
RETURNS void LANGUAGE sql VOLATILE
AS $$ SELECT FROM booking.note_key_uses_of_nodes(p_business_ids, p_key_ids) $$;

-- The last purge is that of the node that was left out longest.
CREATE FUNCTION booking.reservation_health()
RETURNS TABLE (
  now timestamptz, live bigint, expired_unpurged bigint, oldest_expired_at timestamptz, last_purge_at timestamptz,
  committed_last_hour bigint, ended_last_hour bigint)
LANGUAGE sql VOLATILE
AS $$
  SELECT max(h.now), sum(h.live)::bigint, sum(h.expired_unpurged)::bigint, min(h.oldest_expired_at),
         min(h.last_purge_at), sum(h.committed_last_hour)::bigint, sum(h.ended_last_hour)::bigint
  FROM booking.reservation_health_of_nodes() AS h
$$;

CREATE FUNCTION booking.invariant_violations(p_recent boolean)
RETURNS TABLE (invariant text, violations bigint) LANGUAGE sql VOLATILE
AS $$
  SELECT v.invariant, sum(v.violations)::bigint
  FROM booking.invariant_violations_of_nodes(p_recent) WITH ORDINALITY AS v (invariant, violations, place)
  GROUP BY v.invariant ORDER BY min(v.place)
$$;

CREATE FUNCTION booking.unknown_timezones()
RETURNS TABLE (timezone text, businesses bigint) LANGUAGE sql VOLATILE
AS $$
  SELECT z.timezone, sum(z.businesses)::bigint FROM booking.unknown_timezones_of_nodes() AS z GROUP BY z.timezone
$$;

-- Returns each definition that a node has.
CREATE FUNCTION booking.clock_definition()
RETURNS TABLE (body text, language text, settings text[]) LANGUAGE sql VOLATILE
AS $$ SELECT DISTINCT c.body, c.language, c.settings FROM booking.clock_definition_of_nodes() AS c $$;

-- Returns what every node has.
CREATE FUNCTION booking.applied_migrations()
RETURNS TABLE (filename text, sha256 text, service_version integer[]) LANGUAGE sql VOLATILE
AS $$
  SELECT m.filename, m.sha256, m.service_version FROM booking.applied_migrations_of_nodes() AS m
  GROUP BY m.filename, m.sha256, m.service_version
  HAVING count(*) = (SELECT count(*) FROM booking.asked_partitions())
$$;

-- Slugs. The node of a business can keep a slug unique among its own businesses only. So the slug is claimed first on the
-- node that a business with this id would be on: there it is compared with the ids and the slugs of all businesses, and
-- public calls look it up there. Each step is a transaction of its own. A call that ends between them leaves a claim
-- without its business, which blocks the slug for others; `check` reports it (stray_slugs). deploy/scaling.md has the
-- statement that releases it.

-- Locks the business among the calls of this proxy that set slugs, claims its new slug, and returns the former one. A
-- slug in the partition of its business is left to the function of the node.
--
--   p_dry_run  whether only to check that the slug is free
-- Raises  HF003  as booking.claim_slug
CREATE FUNCTION booking.change_slug(p_business_id text, p_slug text, p_dry_run boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(booking.partition(p_business_id));
  IF p_slug IS NULL OR booking.share_partition(p_slug, p_business_id) THEN
    NULL;
  ELSIF NOT p_dry_run THEN
    PERFORM booking.claim_slug(p_slug, p_business_id);
  ELSIF (SELECT n.business_id <> p_business_id FROM booking.businesses_named(ARRAY[p_slug]) AS n) THEN
    RAISE EXCEPTION 'the slug % belongs to another business', p_slug USING ERRCODE = 'HF003';
  END IF;
  RETURN (SELECT b ->> 'slug' FROM booking.business(p_business_id) AS b);
END
$$;

-- Releases slugs of a business, other than the one that it has now.
CREATE FUNCTION booking.settle_slugs(p_business_id text, VARIADIC p_slugs text[])
RETURNS void LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_slug text;
  v_kept text := (SELECT b ->> 'slug' FROM booking.business(p_business_id) AS b);
BEGIN
  FOREACH v_slug IN ARRAY p_slugs LOOP
    IF v_slug IS DISTINCT FROM v_kept AND v_slug IS NOT NULL THEN
      PERFORM booking.release_slug(v_slug, p_business_id);
    END IF;
  END LOOP;
END
$$;

CREATE FUNCTION booking.put_business(p_business_id text, p_business jsonb, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_slug text := p_business ->> 'slug';
  v_former text := booking.change_slug(p_business_id, v_slug);
  v_outcome booking.outcome;
BEGIN
  SELECT * INTO v_outcome FROM booking.put_business_of_nodes(p_business_id, p_business, p_deadline);
  PERFORM booking.settle_slugs(p_business_id, v_former, v_slug);
  RETURN v_outcome;
EXCEPTION
  WHEN SQLSTATE 'HF001' OR SQLSTATE 'HF003' OR lock_not_available OR transaction_rollback THEN
    -- Of the node: nothing was written there.
    PERFORM booking.settle_slugs(p_business_id, v_slug);
    RAISE;
END
$$;

CREATE FUNCTION booking.put_document(
  p_business_id text, p_document jsonb, p_dry_run boolean, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_slug text := p_document ->> 'slug';
  v_former text := booking.change_slug(p_business_id, v_slug, p_dry_run);
  v_outcome booking.outcome;
BEGIN
  SELECT * INTO v_outcome FROM booking.put_document_of_nodes(p_business_id, p_document, p_dry_run, p_deadline);
  IF NOT p_dry_run THEN
    PERFORM booking.settle_slugs(p_business_id, v_former, v_slug);
  END IF;
  RETURN v_outcome;
EXCEPTION
  WHEN SQLSTATE 'HF001' OR SQLSTATE 'HF003' OR lock_not_available OR transaction_rollback THEN
    -- Of the node: nothing was written there.
    PERFORM booking.settle_slugs(p_business_id, v_slug);
    RAISE;
END
$$;

CREATE FUNCTION booking.delete_business(p_business_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_former text := booking.change_slug(p_business_id, NULL);
  v_outcome booking.outcome;
BEGIN
  SELECT * INTO v_outcome FROM booking.delete_business_of_nodes(p_business_id, p_deadline);
  PERFORM booking.settle_slugs(p_business_id, v_former);
  RETURN v_outcome;
END
$$;
