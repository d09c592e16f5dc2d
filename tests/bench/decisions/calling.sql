-- Makes the calls of a measurement beforehand, and then makes them, as the service's login, each timed by itself.

-- A call to booking.execute. Not compressed: reading it is part of the processor time that is measured.
CREATE UNLOGGED TABLE bench.prepared (number integer PRIMARY KEY, business_ids text[], batches jsonb[]);
ALTER TABLE bench.prepared ALTER COLUMN batches SET STORAGE EXTERNAL;
GRANT SELECT ON bench.prepared TO holdfast_service;

-- A request to reserve one unit, as the service sends it for a caller with an idempotency key.
CREATE FUNCTION bench.reserve_request(p_service_id text, p_slot_start timestamptz) RETURNS jsonb
LANGUAGE sql VOLATILE
AS $$
  SELECT jsonb_build_object(
    'operation_id', uuidv7(), 'service_id', p_service_id, 'slot_start', p_slot_start, 'slot_end', NULL,
    'quantity', 1, 'resource_id', NULL, 'ttl_minutes', NULL, 'idempotency_key', gen_random_uuid(),
    'fingerprint', md5(random()::text) || md5(random()::text))
$$;

-- Prepares calls with p_requests requests each, for random businesses (b1 … bN), services and slots of most of a year.
CREATE PROCEDURE bench.prepare_spread(p_calls integer, p_requests integer, p_businesses integer, p_services integer)
LANGUAGE sql
AS $$
  TRUNCATE bench.prepared;
  INSERT INTO bench.prepared
  SELECT number, array_agg(business_id), array_agg(jsonb_build_object('reserve', requests))
  FROM (
    SELECT number, business_id, jsonb_agg(bench.reserve_request(service_id, slot_start)) AS requests
    FROM (
      SELECT number, 'b' || 1 + floor(random() * p_businesses)::integer AS business_id,
             's' || 1 + floor(random() * p_services)::integer AS service_id,
             bench.first_slot() + make_interval(hours => floor(random() * 7500)::integer) AS slot_start
      FROM generate_series(1, p_calls) AS number CROSS JOIN generate_series(1, p_requests) AS request
    ) AS wish
    GROUP BY number, business_id
  ) AS batch
  GROUP BY number
$$;

-- Prepares calls with p_requests requests each for one service: for the first slot and the next ones, p_slots in turn.
CREATE PROCEDURE bench.prepare_slots(
  p_calls integer, p_requests integer, p_business_id text, p_service_id text, p_first_slot integer, p_slots integer)
LANGUAGE sql
AS $$
  TRUNCATE bench.prepared;
  INSERT INTO bench.prepared
  SELECT number, ARRAY[p_business_id], ARRAY[jsonb_build_object('reserve', jsonb_agg(
    bench.reserve_request(
      p_service_id, bench.first_slot() + make_interval(hours => p_first_slot + number % p_slots))))]
  FROM generate_series(1, p_calls) AS number CROSS JOIN generate_series(1, p_requests) AS request
  GROUP BY number
$$;

-- Makes the prepared calls from one number to another, each in a transaction of its own.
--   p_seconds  how long each took, from sending it to having its outcomes; the commit is not counted
--   p_done     how many requests were granted, in all
CREATE PROCEDURE bench.call_prepared(
  p_from integer, p_to integer, INOUT p_seconds double precision[] DEFAULT '{}', INOUT p_done bigint DEFAULT 0)
LANGUAGE plpgsql
AS $$
DECLARE
  v_call record;
  v_number integer;
  v_began_at timestamptz;
  v_done bigint;
BEGIN
  FOR v_number IN p_from..p_to LOOP
    SELECT business_ids, batches INTO v_call FROM bench.prepared WHERE number = v_number;
    v_began_at := clock_timestamp();
    SELECT count(*) FILTER (WHERE outcome = 'done') INTO v_done
    FROM booking.execute(v_call.business_ids, v_call.batches, v_began_at + interval '10 seconds');
    p_seconds := p_seconds || extract(epoch FROM clock_timestamp() - v_began_at)::double precision;
    p_done := p_done + v_done;
    COMMIT;
  END LOOP;
END
$$;

-- Reserves at a steady pace, one request a call: slots of one business and of the others in turn.
--   p_own_business  the one that has a purge: b1
--   p_began_at, p_seconds, p_own  of each call: when it began, how long it took, whether it was for p_own_business
CREATE PROCEDURE bench.stream(
  p_calls integer, p_per_second double precision, p_businesses integer, p_first_slot integer,
  INOUT p_began_at timestamptz[] DEFAULT '{}', INOUT p_seconds double precision[] DEFAULT '{}',
  INOUT p_own boolean[] DEFAULT '{}', INOUT p_done bigint DEFAULT 0)
LANGUAGE plpgsql
AS $$
DECLARE
  v_due_at timestamptz := clock_timestamp();
  v_began_at timestamptz;
  v_own boolean;
  v_business_id text;
  v_batch jsonb;
  v_done bigint;
BEGIN
  FOR v_call IN 1..p_calls LOOP
    v_own := v_call % 2 = 0;
    v_business_id := CASE WHEN v_own THEN 'b1' ELSE 'b' || 2 + v_call / 2 % (p_businesses - 1) END;
    v_batch := jsonb_build_object('reserve', jsonb_build_array(bench.reserve_request(
      's1', bench.first_slot() + make_interval(hours => p_first_slot + v_call))));
    COMMIT;
    PERFORM pg_sleep(extract(epoch FROM v_due_at - clock_timestamp()));
    COMMIT;
    v_began_at := clock_timestamp();
    SELECT count(*) FILTER (WHERE outcome = 'done') INTO v_done
    FROM booking.execute(ARRAY[v_business_id], ARRAY[v_batch], v_began_at + interval '10 seconds');
    p_began_at := p_began_at || v_began_at;
    p_seconds := p_seconds || extract(epoch FROM clock_timestamp() - v_began_at)::double precision;
    p_own := p_own || v_own;
    p_done := p_done + v_done;
    COMMIT;
    v_due_at := greatest(v_due_at, v_began_at - interval '1 second') + make_interval(secs => 1 / p_per_second);
  END LOOP;
END
$$;

-- How long it takes to list a month of a service, and how many slots there were.
CREATE PROCEDURE bench.list_month(
  p_business_id text, p_service_id text, p_calls integer, INOUT p_seconds double precision[] DEFAULT '{}',
  INOUT p_slots integer DEFAULT 0)
LANGUAGE plpgsql
AS $$
DECLARE
  v_from timestamptz := bench.first_slot();
  v_began_at timestamptz;
BEGIN
  FOR v_call IN 1..p_calls LOOP
    v_began_at := clock_timestamp();
    SELECT jsonb_array_length(body -> 'slots') INTO p_slots
    FROM booking.availability(
      p_business_id, p_service_id, v_from, v_from + interval '744 hours', NULL, NULL, 1, NULL, 2000);
    p_seconds := p_seconds || extract(epoch FROM clock_timestamp() - v_began_at)::double precision;
    COMMIT;
  END LOOP;
END
$$;

GRANT EXECUTE ON ALL ROUTINES IN SCHEMA bench TO holdfast_service;
