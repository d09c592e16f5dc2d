-- API keys, with which programs act for a business. The table stores the SHA-256 of a key; the service shows the key
-- itself once, and never passes it here. create_key and revoke_key take the lock of the business.
--
-- Outcomes: 'done', or a refusal. Raises as booking.lock_business.

-- Creates a key, and deletes the oldest revoked keys, so that a business has 1000 of those at most.
--
--   p_key_id      identifies the key within its business; not secret
--   p_role        'owner', 'staff' or 'readonly'
--   p_sha256      SHA-256 of the whole key, 32 bytes
--   p_created_by  the key that made it; NULL: the administrator
-- Refusals  business_not_found; limit_reached: see booking.over_limit
-- Locks     the business
CREATE FUNCTION booking.create_key(
  p_business_id text, p_key_id text, p_name text, p_role text, p_sha256 bytea, p_created_by text,
  p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
  v_refusal booking.outcome := booking.over_limit('api_keys', (
    SELECT count(*) + 1 FROM booking.api_keys k WHERE k.business_id = p_business_id AND k.revoked_at IS NULL));
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  IF v_refusal.outcome IS NOT NULL THEN
    RETURN v_refusal;
  END IF;
  DELETE FROM booking.api_keys k
  WHERE k.business_id = p_business_id AND k.key_id IN (
    SELECT old.key_id FROM booking.api_keys old
    WHERE old.business_id = p_business_id AND old.revoked_at IS NOT NULL
    ORDER BY old.revoked_at DESC, old.key_id OFFSET 1000);
  INSERT INTO booking.api_keys (business_id, key_id, name, role, sha256, created_by, created_at)
  VALUES (p_business_id, p_key_id, p_name, p_role, p_sha256, p_created_by, v_now);
  RETURN (NULL, 'done', NULL)::booking.outcome;
END
$$;

-- Revokes a key for good. A key that was revoked before keeps its revoked_at.
--
-- Refusals  business_not_found; key_not_found
-- Locks     the business
CREATE FUNCTION booking.revoke_key(p_business_id text, p_key_id text, p_deadline timestamptz)
RETURNS booking.outcome LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_now timestamptz := booking.lock_business(p_business_id, p_deadline);
BEGIN
  IF v_now IS NULL THEN
    RETURN (NULL, 'business_not_found', NULL)::booking.outcome;
  END IF;
  UPDATE booking.api_keys k SET revoked_at = coalesce(k.revoked_at, v_now)
  WHERE k.business_id = p_business_id AND k.key_id = p_key_id;
  RETURN (NULL, CASE WHEN FOUND THEN 'done' ELSE 'key_not_found' END, NULL)::booking.outcome;
END
$$;

-- Returns the keys of a business, revoked ones included, oldest first: {key_id, name, role, created_at, created_by,
-- last_used_at, revoked_at}, never their hashes. Takes no lock.
CREATE FUNCTION booking.keys(p_business_id text)
RETURNS SETOF jsonb LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'key_id', k.key_id, 'name', k.name, 'role', k.role, 'created_at', k.created_at, 'created_by', k.created_by,
    'last_used_at', k.last_used_at, 'revoked_at', k.revoked_at)
  FROM booking.api_keys k WHERE k.business_id = p_business_id ORDER BY k.created_at, k.key_id
$$;

-- Returns the role and hash of a key: one row, or none if the key is unknown or revoked. The caller compares the hashes
-- in constant time. Takes no lock: a revocation is effective from its commit.
CREATE FUNCTION booking.live_key(p_business_id text, p_key_id text)
RETURNS TABLE (role text, sha256 bytea) LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
BEGIN
  RETURN QUERY
    SELECT k.role, k.sha256 FROM booking.api_keys k
    WHERE k.business_id = p_business_id AND k.key_id = p_key_id AND k.revoked_at IS NULL;
END
$$;

-- Notes that keys were used, at most once in five minutes for each of them. A key that another transaction is changing is
-- left out: it is used again, or was revoked.
--
--   p_business_ids, p_key_ids  of each key
CREATE FUNCTION booking.note_key_uses(p_business_ids text[], p_key_ids text[])
RETURNS void LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
  v_now timestamptz := booking.now();
BEGIN
  UPDATE booking.api_keys k SET last_used_at = v_now
  FROM (
    SELECT used.business_id, used.key_id
    FROM unnest(p_business_ids, p_key_ids) AS used (business_id, key_id)
    CROSS JOIN LATERAL (
      SELECT FROM booking.api_keys k
      WHERE k.business_id = used.business_id AND k.key_id = used.key_id
        AND (k.last_used_at > v_now - interval '5 minutes') IS NOT TRUE
      FOR NO KEY UPDATE SKIP LOCKED
    ) AS due
  ) AS due
  WHERE k.business_id = due.business_id AND k.key_id = due.key_id;
END
$$;
