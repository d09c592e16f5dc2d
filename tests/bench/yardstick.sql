-- The usual way to sell a slot once, as a yardstick: one call a request, one transaction a call.
--
-- A call locks the row of its business, sums what is claimed of the slot, and inserts the claim under its idempotency
-- key. Nothing else: no expiry, no replay, no audit, no alternatives. It shares nothing with the functions in sql/, so
-- that it stays the same when they change.
CREATE SCHEMA yardstick;
GRANT USAGE ON SCHEMA yardstick TO PUBLIC;

CREATE TABLE yardstick.businesses (
  business_id text PRIMARY KEY,
  capacity integer NOT NULL
);

CREATE TABLE yardstick.claims (
  business_id text NOT NULL,
  idempotency_key uuid NOT NULL,
  slot_start timestamptz NOT NULL,
  slot_end timestamptz NOT NULL,
  quantity integer NOT NULL,
  PRIMARY KEY (business_id, idempotency_key)
);
CREATE INDEX ON yardstick.claims (business_id, slot_start);

-- Replaces everything by so many businesses; sold_out: the first slot of each is claimed.
CREATE PROCEDURE yardstick.prepare(
  p_first_business integer, p_businesses integer, p_capacity integer, p_first_slot timestamptz, p_sold_out boolean)
LANGUAGE sql
AS $$
  TRUNCATE yardstick.businesses, yardstick.claims;
  INSERT INTO yardstick.businesses
  SELECT 'bench-' || number, p_capacity
  FROM generate_series(p_first_business, p_first_business + p_businesses - 1) AS number;
  INSERT INTO yardstick.claims
  SELECT business_id, gen_random_uuid(), p_first_slot, p_first_slot + interval '1 hour', capacity
  FROM yardstick.businesses WHERE p_sold_out
$$;

-- Whether the slot was claimed. The lock is taken in a statement of its own: the next one sees what its last owner wrote.
CREATE FUNCTION yardstick.reserve(p_business_id text, p_slot_start timestamptz, p_idempotency_key uuid)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
  c_length CONSTANT interval := '1 hour';
  v_capacity integer;
  v_claimed integer;
BEGIN
  SELECT capacity INTO STRICT v_capacity FROM yardstick.businesses
  WHERE business_id = p_business_id FOR NO KEY UPDATE;
  -- No claim is longer than an hour, which bounds the scan of the index from below.
  SELECT coalesce(sum(quantity), 0) INTO v_claimed FROM yardstick.claims
  WHERE business_id = p_business_id AND slot_start > p_slot_start - c_length
    AND slot_start < p_slot_start + c_length AND slot_end > p_slot_start;
  IF v_claimed >= v_capacity THEN
    RETURN false;
  END IF;
  INSERT INTO yardstick.claims (business_id, idempotency_key, slot_start, slot_end, quantity)
  VALUES (p_business_id, p_idempotency_key, p_slot_start, p_slot_start + c_length, 1);
  RETURN true;
END
$$;
