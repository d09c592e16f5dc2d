-- Counts of claims by window, seats of resources, and sessions that share a resource.
--
-- No process of the former version may run while this is applied: its verbs would make claims that are not counted, so
-- they are dropped here. The whole file is one transaction and holds a lock on the businesses: nothing is booked until
-- it ends. deploy/upgrade.md has the time that it takes. So what blocks reads and writes, or breaks the old code, is no
-- fault here:
-- squawk-ignore-file ban-drop-constraint, ban-drop-type, ban-drop-not-null
-- squawk-ignore-file adding-foreign-key-constraint, adding-serial-primary-key-field
SET LOCAL ROLE holdfast_owner;
SET LOCAL statement_timeout = 0;

LOCK TABLE booking.businesses IN EXCLUSIVE MODE;
DO $$
DECLARE
  v_verbs text := (
    SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc
    WHERE pronamespace = 'booking'::regnamespace
      AND proname IN ('execute', 'reserve', 'commit', 'extend', 'release', 'book', 'change', 'purge'));
BEGIN
  IF v_verbs IS NOT NULL THEN
    EXECUTE 'DROP FUNCTION ' || v_verbs;
  END IF;
END
$$;
DROP TYPE booking.wish, booking.grant, booking.slot_request, booking.commit_request CASCADE;

-- How many guests fit at once: the places of a table or a room, the pupils of a teacher.
ALTER TABLE booking.resources ADD COLUMN seats integer NOT NULL DEFAULT 1
  CONSTRAINT resources_seats_check CHECK (seats >= 1);

-- exclusive: a claim takes its resource whole. session: claims of one window share it, up to its seats.
ALTER TABLE booking.services
  ADD COLUMN resource_sharing text COLLATE "C" NOT NULL DEFAULT 'exclusive'
    CONSTRAINT services_resource_sharing_check CHECK (resource_sharing IN ('exclusive', 'session')),
  -- NULL: the seats of its resources together.
  ALTER COLUMN max_simultaneous_bookings DROP NOT NULL;

-- How much is claimed, by distinct window of a service and resource: what every decision reads instead of the claims.
-- It is written under the lock of the business, by whatever makes or frees a claim. A row goes with its last claim.
CREATE TABLE booking.occupancy (
  business_id text COLLATE "C" NOT NULL,
  service_id text COLLATE "C" NOT NULL,
  starts timestamptz NOT NULL,
  ends timestamptz NOT NULL CONSTRAINT occupancy_ends_check CHECK (ends > starts),
  -- '' for none: NULL can't be part of a key.
  resource_id text COLLATE "C" NOT NULL,
  -- The sum of the quantities of held reservations, expired or not, and of confirmed appointments. Freeing more than is
  -- claimed is refused here.
  claimed bigint NOT NULL CONSTRAINT occupancy_claimed_check CHECK (claimed > 0),
  -- No hold of this window expires earlier; NULL: there was none.
  next_expiry timestamptz,
  CONSTRAINT occupancy_pkey PRIMARY KEY (business_id, service_id, starts, ends, resource_id)
) WITH (fillfactor = 70); -- neither count nor expiry is indexed: with room on the page an update stays on it (HOT)
CREATE INDEX idx_occupancy_resource ON booking.occupancy (business_id, resource_id, starts) WHERE resource_id <> '';

-- The claims of before, business by business, by keys that have the business first.
DO $$
DECLARE
  v_business_id text;
  v_counted integer := 0;
  v_total integer := (SELECT count(*) FROM booking.businesses);
  v_reported_at timestamptz := clock_timestamp();
BEGIN
  FOR v_business_id IN SELECT business_id FROM booking.businesses ORDER BY business_id LOOP
    INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed, next_expiry)
    SELECT v_business_id, service_id, lower(occupied), upper(occupied), coalesce(resource_id, ''), sum(quantity),
           min(expires_at)
    FROM (
      SELECT service_id, resource_id, occupied, quantity, expires_at
      FROM booking.reservations WHERE business_id = v_business_id AND status = 'held'
      UNION ALL
      SELECT service_id, resource_id, occupied, quantity, NULL
      FROM booking.appointments WHERE business_id = v_business_id AND status = 'confirmed'
    ) AS claim
    GROUP BY service_id, occupied, resource_id;
    v_counted := v_counted + 1;
    IF v_counted = v_total OR clock_timestamp() > v_reported_at + interval '5 seconds' THEN
      RAISE INFO 'counted the claims of % of % businesses', v_counted, v_total;
      v_reported_at := clock_timestamp();
    END IF;
  END LOOP;
END
$$;

-- Keys that begin with the id serve the key and the look-up by id alone.
ALTER TABLE booking.audit_logs DROP CONSTRAINT audit_logs_appointment_id_fkey;
ALTER TABLE booking.appointments
  DROP CONSTRAINT appointments_pkey,
  ADD CONSTRAINT appointments_pkey PRIMARY KEY (appointment_id, business_id),
  -- A party has a quantity above one, and so has a booking for several in a session.
  DROP CONSTRAINT appointments_resource_id_check;
ALTER TABLE booking.audit_logs ADD CONSTRAINT audit_logs_appointment_id_fkey
  FOREIGN KEY (appointment_id, business_id) REFERENCES booking.appointments (appointment_id, business_id);
DROP INDEX booking.idx_appointments_id;
DROP INDEX booking.idx_appointments_reservation_id;
DROP INDEX booking.appointments_reservation_id_key;
CREATE UNIQUE INDEX appointments_reservation_id_key ON booking.appointments (reservation_id, business_id)
  WHERE reservation_id IS NOT NULL;
DROP INDEX booking.idx_appointments_slot;
DROP INDEX booking.idx_appointments_resource;

ALTER TABLE booking.reservations
  DROP CONSTRAINT reservations_pkey,
  ADD CONSTRAINT reservations_pkey PRIMARY KEY (reservation_id, business_id),
  ADD COLUMN in_session boolean NOT NULL DEFAULT false,
  DROP CONSTRAINT reservations_resource_id_check;
DROP INDEX booking.idx_reservations_id;
DROP INDEX booking.idx_reservations_slot;
DROP INDEX booking.idx_reservations_resource;
-- The holds of one window in the order in which they expire.
CREATE INDEX idx_reservations_window ON booking.reservations (business_id, service_id, lower(occupied), expires_at)
  WHERE status = 'held';

-- The backstop of the first migration, for what is not in a session. An index of ten million appointments takes a
-- quarter of an hour to build, so it begins with those that are not over: the others were guarded when they were made.
ALTER TABLE booking.appointments ADD COLUMN is_exclusive boolean NOT NULL DEFAULT false;
ALTER TABLE booking.appointments ALTER COLUMN is_exclusive SET DEFAULT true;
UPDATE booking.appointments SET is_exclusive = true WHERE resource_id IS NOT NULL AND upper(occupied) > now();
ALTER TABLE booking.appointments DROP CONSTRAINT appointments_resource_excl;
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist') THEN
    ALTER TABLE booking.appointments ADD CONSTRAINT appointments_resource_excl
      EXCLUDE USING gist (business_id WITH =, resource_id WITH =, occupied WITH &&)
      WHERE (status = 'confirmed' AND resource_id IS NOT NULL AND is_exclusive) DEFERRABLE INITIALLY IMMEDIATE;
  ELSE
    ALTER TABLE booking.appointments ADD CONSTRAINT appointments_resource_excl
      EXCLUDE USING gist (
        booking.text_range(business_id, business_id, '[]') WITH &&,
        booking.text_range(resource_id, resource_id, '[]') WITH &&,
        occupied WITH &&)
      WHERE (status = 'confirmed' AND resource_id IS NOT NULL AND is_exclusive) DEFERRABLE INITIALLY IMMEDIATE;
  END IF;
END
$$;

-- The claim that a request replaces: what it occupies of its service, and of a resource ('' for none).
CREATE TYPE booking.own_claim AS (resource_id text, starts timestamptz, ends timestamptz, quantity integer);

-- A request for room, on its way through a verb.
--   position               its place in the call: first come, first served
--   attempt                requests of one attempt (an idempotency key, a hold) exclude each other: at most one is
--   granted starts, ends           the window: the slot and its buffers
--   resource_ids           the resources of which it needs one, NULL where its service has none
--   requested_resource_id  the one that was asked for by name
--   expires_at             of the hold that it would become; NULL for an appointment
--   details                the request as it came
--   own                    the claim that it replaces, which is not counted against it; NULL for a new claim
--   keeps_room             it needs nothing that its own claim does not have
CREATE TYPE booking.claim_request AS (
  position integer, business_id text, operation_id uuid, attempt text, service_id text, slot_start timestamptz,
  slot_end timestamptz, starts timestamptz, ends timestamptz, quantity integer, resource_ids text[],
  requested_resource_id text, expires_at timestamptz, ttl_clamped boolean, idempotency_key text, fingerprint text,
  details jsonb, own booking.own_claim, keeps_room boolean);

-- What is known of a request whose attempt has had an effect: what this very operation made, and what an earlier
-- request with its key made, with the fingerprint of that one.
CREATE TYPE booking.known_claim AS (request jsonb, own jsonb, fingerprint text, earlier jsonb);

-- What booking.find_pool returns.
CREATE TYPE booking.pool AS (has_resources boolean, largest integer, resource_ids text[], refusal text);

-- What booking.judge finds out about a slot, for all who ask for it.
CREATE TYPE booking.verdict AS (reason text, pool booking.pool);

-- Room that became free: a quantity of one window of a service and resource.
CREATE TYPE booking.freed_claim AS (
  business_id text, service_id text, resource_id text, occupied tstzrange, quantity integer);

-- A request to commit, on its way through the verb. guest_fault is what is wrong with the guest's data, {field,
-- message}.
CREATE TYPE booking.commit_request AS (
  position integer, business_id text, operation_id uuid, reservation_id uuid, guest_name text, guest_email text,
  guest_phone text, notes text, metadata jsonb, expected_version integer, if_expired text, source text, actor_kind text,
  actor_id text, request_id text, guest_fault jsonb);

-- What was decided about a commit that books an expired hold again; an outcome of NULL: nothing yet.
CREATE TYPE booking.rebooking AS (operation_id uuid, outcome text, resource_id text, in_session boolean);

-- A change of an appointment, on its way through the verb.
--   is_move       it needs room that it does not have
--   resource_ids  the resources of which a move needs one, NULL where it has none
CREATE TYPE booking.appointment_change AS (
  position integer, business_id text, operation_id uuid, details jsonb, before booking.appointments,
  after booking.appointments, is_move boolean, resource_ids text[], outcome text, body jsonb);
