-- New claims on slots of one business: what booking.reserve and booking.book have in common.
--
-- Known attempts are answered from their rows, what can't be booked is refused, and the rest is decided round by
-- round (booking.next_round, booking.choose). Each round is a fixed number of statements, however many requests
-- there are.
--
--   p_kind      what the claims become: 'reservation' or 'appointment'
--   p_requests  those of the verb, in the order in which they came
--   p_now       the clock, read after the lock; NULL if there is no such business
--
-- Returns one booking.outcome for each request, in any order: those that the verb names, and
--   service_not_found       no such business or service, or it is archived
--   resource_not_found      the service has no such resource
--   validation_failed       something is wrong with the guest's data, or the service has resources, and one claim is one
--                           of them; body: {field, message}
--   slot_not_bookable       body: {reason}, see booking.slot_refusal
--   slot_unavailable        no room, or no resource is free
--   deferred                its round would be one more than booking.max_rounds: not tried, send it again, before others
-- Locks  none of its own: the caller has the lock of the business
CREATE OR REPLACE FUNCTION booking.claim_slots(p_business_id text, p_kind text, p_requests jsonb, p_now timestamptz)
RETURNS SETOF booking.outcome
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_open booking.slot_request[] := booking.read_slot_requests(p_business_id, p_requests);
  v_answers booking.outcome[];
  v_round booking.wish[];
  v_granted booking.grant[];
  v_made booking.outcome[];
  v_rounds integer := 0;
BEGIN
  v_answers := CASE p_kind
    WHEN 'reservation' THEN booking.known_reservations(p_business_id, v_open, p_now)
    ELSE booking.known_appointments(p_business_id, v_open)
  END;
  RETURN QUERY SELECT * FROM unnest(v_answers);
  v_open := booking.still_open(v_open, v_answers);

  SELECT judged.bookable, judged.answers INTO v_open, v_answers
  FROM booking.judge_slots(p_business_id, v_open, p_now) AS judged;
  RETURN QUERY SELECT * FROM unnest(v_answers);

  IF EXISTS (SELECT FROM unnest(v_open) AS request WHERE (request).details ->> 'max_live_holds' IS NOT NULL) THEN
    v_answers := booking.hoarders(p_business_id, v_open, p_now);
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_open := booking.still_open(v_open, v_answers);
  END IF;

  WHILE cardinality(v_open) > 0 AND v_rounds < booking.max_rounds() LOOP
    v_rounds := v_rounds + 1;
    -- Of equal requests with one idempotency key only the first wishes for room: forty copies of one are one decision.
    v_round := booking.next_round(ARRAY(
      SELECT ROW(position, attempt, service_id, occupied, quantity, pool)::booking.wish FROM unnest(v_open) WHERE leads));
    v_granted := ARRAY(SELECT booking.choose(p_business_id, v_round, p_now));
    PERFORM booking.note_longest(p_business_id, v_round, v_granted);
    v_made := CASE p_kind
      WHEN 'reservation' THEN booking.hold_granted(p_business_id, v_open, v_granted, p_now)
      ELSE booking.book_granted(p_business_id, v_open, v_granted, p_now)
    END;
    v_answers := booking.answer_round(v_open, v_round, v_made);
    IF cardinality(v_answers) = 0 THEN
      RAISE EXCEPTION 'a round of claims answered nobody'; -- a defect, and better seen than waited for under the lock
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_answers);
    v_open := booking.still_open(v_open, v_answers);
  END LOOP;
  RETURN QUERY SELECT operation_id, 'deferred', NULL::jsonb FROM unnest(v_open);
END
$$;

-- The requests as they came, with what follows from their service. Where there is no such service, occupied is NULL. Who
-- leads is left open.
CREATE OR REPLACE FUNCTION booking.read_slot_requests(p_business_id text, p_requests jsonb)
RETURNS booking.slot_request[]
LANGUAGE sql STABLE
AS $$
  SELECT ARRAY(
    SELECT ROW(request.position, asked.operation_id, attempt.name, NULL, asked.service_id,
      asked.slot_start, slot.ends, booking.occupied_by(offered.s, asked.slot_start, slot.ends),
      asked.quantity, NULL, asked.idempotency_key, asked.fingerprint, request.details)::booking.slot_request
    FROM jsonb_array_elements(p_requests) WITH ORDINALITY AS request (details, position)
    CROSS JOIN LATERAL jsonb_to_record(request.details) AS asked (
      operation_id uuid, service_id text, slot_start timestamptz, slot_end timestamptz, quantity integer,
      idempotency_key text, fingerprint text)
    CROSS JOIN LATERAL (SELECT coalesce('key ' || asked.idempotency_key, asked.operation_id::text) AS name) AS attempt
    LEFT JOIN LATERAL (
      SELECT s FROM booking.services s
      WHERE s.business_id = p_business_id AND s.service_id = asked.service_id AND s.archived_at IS NULL
      OFFSET 0
    ) AS offered ON true
    CROSS JOIN LATERAL (
      SELECT coalesce(asked.slot_end, asked.slot_start + make_interval(mins => (offered.s).duration_minutes)) AS ends
    ) AS slot)
$$;

-- Those of the requests that have no answer yet.
CREATE OR REPLACE FUNCTION booking.still_open(p_open booking.slot_request[], p_answers booking.outcome[])
RETURNS booking.slot_request[]
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE cardinality(p_answers)
    WHEN 0 THEN p_open
    WHEN cardinality(p_open) THEN '{}'
    ELSE ARRAY(
      SELECT request FROM unnest(p_open) AS request
      WHERE (request).operation_id NOT IN (SELECT operation_id FROM unnest(p_answers)))
  END
$$;

-- Refuses what can't be booked, whatever room there is, and finds the pools of the rest, and who of them leads. Opening
-- hours, notice, the past and bookingEnabled bind all but those who act for the business (manual).
CREATE OR REPLACE FUNCTION booking.judge_slots(
  p_business_id text, p_open booking.slot_request[], p_now timestamptz,
  OUT bookable booking.slot_request[], OUT answers booking.outcome[])
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  WITH asked AS MATERIALIZED (
    SELECT request.position, request.attempt, request.fingerprint, request.service_id, request.slot_start,
           request.slot_end, request.quantity, request.details ->> 'resource_id' AS resource_id,
           request.details -> 'guest_fault' AS guest_fault,
           (request.details ->> 'manual')::boolean IS NOT TRUE AS is_public
    FROM unnest(p_open) AS request
  ), verdict AS MATERIALIZED (
    -- Once for each different question: many ask for the same slot.
    SELECT question.*, found.has_resources, found.named, found.pool,
           (offered.s).service_id IS NOT NULL AS is_offered, coalesce(unbookable.refusal, found.refusal) AS refusal
    FROM (SELECT DISTINCT service_id, slot_start, slot_end, resource_id, is_public FROM asked) AS question
    LEFT JOIN LATERAL (
      SELECT s FROM booking.services s
      WHERE s.business_id = p_business_id AND s.service_id = question.service_id AND s.archived_at IS NULL
      OFFSET 0
    ) AS offered ON true
    CROSS JOIN LATERAL (
      SELECT CASE WHEN question.is_public THEN coalesce(
        booking.slot_refusal(offered.s, question.slot_start, question.slot_end, p_now),
        CASE WHEN NOT booking.is_open(
          p_business_id, tstzrange(question.slot_start, question.slot_end)) THEN 'closed' END) END AS refusal
      OFFSET 0
    ) AS unbookable
    -- The hours of the resources matter only where the slot is not refused already.
    CROSS JOIN LATERAL booking.find_pool(
      p_business_id, question.service_id, question.resource_id,
      CASE WHEN question.is_public AND unbookable.refusal IS NULL
        THEN tstzrange(question.slot_start, question.slot_end) END) AS found
  ), judged AS (
    SELECT asked.position, asked.attempt, asked.fingerprint, asked.guest_fault, verdict.pool, verdict.refusal,
      CASE
        WHEN asked.guest_fault IS NOT NULL THEN 'validation_failed'
        WHEN NOT verdict.is_offered THEN 'service_not_found'
        WHEN asked.resource_id IS NOT NULL AND cardinality(verdict.named) = 0 THEN 'resource_not_found'
        WHEN verdict.has_resources AND asked.quantity > 1 THEN 'validation_failed'
        WHEN verdict.refusal IS NOT NULL THEN 'slot_not_bookable'
      END AS outcome
    FROM asked JOIN verdict
      ON verdict.service_id = asked.service_id AND verdict.slot_start = asked.slot_start
      AND verdict.slot_end IS NOT DISTINCT FROM asked.slot_end
      AND verdict.resource_id IS NOT DISTINCT FROM asked.resource_id AND verdict.is_public = asked.is_public
  ), led AS (
    -- Only now: what is refused here leads nobody. Without a fingerprint a request is like no other.
    SELECT judged.*, judged.fingerprint IS NULL OR row_number() OVER (
      PARTITION BY judged.outcome, judged.attempt, judged.fingerprint ORDER BY judged.position) = 1 AS leads
    FROM judged
  )
  SELECT
    coalesce(array_agg(ROW(request.position, request.operation_id, request.attempt, led.leads, request.service_id,
      request.slot_start, request.slot_end, request.occupied, request.quantity, led.pool, request.idempotency_key,
      request.fingerprint, request.details)::booking.slot_request) FILTER (WHERE led.outcome IS NULL), '{}'),
    coalesce(array_agg(ROW(request.operation_id, led.outcome,
      CASE led.outcome
        WHEN 'slot_not_bookable' THEN jsonb_build_object('reason', led.refusal)
        WHEN 'validation_failed' THEN coalesce(led.guest_fault, booking.quantity_of_resource())
      END)::booking.outcome) FILTER (WHERE led.outcome IS NOT NULL), '{}')
  INTO bookable, answers
  FROM unnest(p_open) AS request JOIN led USING (position);
END
$$;

-- Refuses what would give a client more live holds than it may have. The requests before it in the batch count as if they
-- were granted: who is at the limit may be refused one too many, and can ask again.
CREATE OR REPLACE FUNCTION booking.hoarders(p_business_id text, p_open booking.slot_request[], p_now timestamptz)
RETURNS booking.outcome[]
LANGUAGE sql STABLE
AS $$
  WITH asked AS MATERIALIZED (
    SELECT request.operation_id, request.position, request.attempt, request.fingerprint, request.leads,
           client.address, client.id, client.max_live_holds
    FROM unnest(p_open) AS request
    CROSS JOIN LATERAL (SELECT
      request.details ->> 'client_address_hmac' AS address, request.details ->> 'client_id_hmac' AS id,
      (request.details ->> 'max_live_holds')::integer AS max_live_holds) AS client
  ), counted AS MATERIALIZED (
    SELECT client.*, booking.live_holds(p_business_id, client.address, client.id, client.max_live_holds, p_now) AS live
    FROM (SELECT DISTINCT address, id, max_live_holds FROM asked WHERE max_live_holds IS NOT NULL) AS client
  ), numbered AS (
    SELECT asked.*, greatest(
      CASE WHEN address IS NOT NULL THEN sum(leads::integer) OVER (PARTITION BY address ORDER BY position) END,
      CASE WHEN id IS NOT NULL THEN sum(leads::integer) OVER (PARTITION BY id ORDER BY position) END) AS nth
    FROM asked
  )
  SELECT ARRAY(
    -- Equal requests of one attempt share the fate of their first, from whatever address they come.
    SELECT ROW(equal.operation_id, 'too_many_holds', NULL)::booking.outcome
    FROM numbered
    JOIN counted
      ON counted.address IS NOT DISTINCT FROM numbered.address AND counted.id IS NOT DISTINCT FROM numbered.id
      AND counted.max_live_holds = numbered.max_live_holds
    JOIN asked AS equal
      ON equal.operation_id = numbered.operation_id
      OR equal.attempt = numbered.attempt AND equal.fingerprint = numbered.fingerprint
    WHERE numbered.leads AND counted.live + numbered.nth > numbered.max_live_holds)
$$;

-- The outcomes of the requests that a round has decided; the others have to wait for a later round, and see what
-- this one granted.
--   p_made  what became of those that were granted
--
-- If the first of an attempt is granted, the equal ones are replays, and a different request with the same key is
-- refused; if not, that request has its own turn, because a refusal keeps no key.
CREATE OR REPLACE FUNCTION booking.answer_round(
  p_open booking.slot_request[], p_round booking.wish[], p_made booking.outcome[])
RETURNS booking.outcome[]
LANGUAGE sql IMMUTABLE
AS $$
  WITH open AS MATERIALIZED (
    SELECT * FROM unnest(p_open)
  ), decided AS (
    SELECT open.operation_id, open.operation_id = leader.operation_id AS leads,
           open.operation_id = leader.operation_id OR coalesce(open.fingerprint = leader.fingerprint, false) AS equal,
           made.operation_id IS NOT NULL AS granted, made.body
    FROM unnest(p_round) AS wish
    JOIN open AS leader USING (position)
    JOIN open ON open.attempt = leader.attempt
    LEFT JOIN unnest(p_made) AS made ON made.operation_id = leader.operation_id
  )
  SELECT ARRAY(
    SELECT ROW(operation_id,
      CASE
        WHEN NOT granted THEN 'slot_unavailable'
        WHEN leads THEN 'done'
        WHEN equal THEN 'replayed'
        ELSE 'idempotency_key_reused'
      END,
      CASE WHEN granted AND equal THEN body END)::booking.outcome
    FROM decided
    WHERE granted OR equal)
$$;
