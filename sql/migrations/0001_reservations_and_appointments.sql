-- Tenants, what they offer, who holds it and who has booked it.
--
-- Everything here can be distributed by business_id (Citus): it is the first column of every primary
-- key, unique constraint and foreign key, and there are no triggers and no sequences. sql/README.md
-- has the whole list of rules and the reasons.

-- Two roles, neither of which can log in. The owner owns every object and runs the verbs (they are
-- SECURITY DEFINER); the login of the service is made a member of holdfast_service, which may execute
-- the verbs and read the views and can't write a table. Roles belong to the cluster, not to this
-- database: another database may be making them at this very moment.
DO $$
DECLARE
  v_role text;
BEGIN
  FOREACH v_role IN ARRAY ARRAY['holdfast_owner', 'holdfast_service'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
    END IF;
  END LOOP;
EXCEPTION
  WHEN duplicate_object OR unique_violation THEN
    NULL;
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the migrating role % may not create the roles holdfast_owner and holdfast_service', current_user
      USING HINT = 'As an administrator: CREATE ROLE holdfast_owner NOLOGIN; CREATE ROLE holdfast_service NOLOGIN; '
        'GRANT holdfast_owner TO the migrating role; or give MIGRATION_DATABASE_URL a role with CREATEROLE.';
END
$$;

-- A role may only hand objects to a role that it is a member of. A superuser needs no grant.
DO $$
BEGIN
  IF NOT pg_has_role(current_user, 'holdfast_owner', 'SET') THEN
    EXECUTE format('GRANT holdfast_owner TO %I', current_user);
  END IF;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the migrating role % is not a member of holdfast_owner', current_user
      USING HINT = format('As an administrator: GRANT holdfast_owner TO %I', current_user);
END
$$;

-- Equality inside a gist index, for the backstop on resources below. Only core PostgreSQL is required:
-- where the extension is not there, or may not be made, the constraint is written without it.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'btree_gist') THEN
    CREATE EXTENSION IF NOT EXISTS btree_gist;
  END IF;
EXCEPTION
  WHEN insufficient_privilege THEN
    NULL;
END
$$;

GRANT USAGE ON SCHEMA booking TO holdfast_service;
GRANT USAGE, CREATE ON SCHEMA booking TO holdfast_owner;
SET LOCAL ROLE holdfast_owner;

CREATE TABLE booking.businesses (
  business_id text COLLATE "C" NOT NULL
    CONSTRAINT businesses_business_id_check CHECK (business_id ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$'),
  name text NOT NULL,
  slug text COLLATE "C",
  timezone text NOT NULL,
  country text NOT NULL,
  created_at timestamptz NOT NULL,
  CONSTRAINT businesses_pkey PRIMARY KEY (business_id)
);
COMMENT ON TABLE booking.businesses IS 'The tenants. The row is the lock of the business: see sql/README.md.';

-- The one table whose key does not start with the tenant: what finds the tenant. On Citus a reference table.
CREATE TABLE booking.slugs (
  slug text COLLATE "C" NOT NULL,
  business_id text COLLATE "C" NOT NULL,
  CONSTRAINT slugs_pkey PRIMARY KEY (slug)
);

CREATE TABLE booking.services (
  business_id text COLLATE "C" NOT NULL,
  service_id text COLLATE "C" NOT NULL
    CONSTRAINT services_service_id_check CHECK (service_id ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$'),
  name text NOT NULL,
  max_simultaneous_bookings integer NOT NULL
    CONSTRAINT services_max_simultaneous_bookings_check CHECK (max_simultaneous_bookings >= 1),
  duration_minutes integer NOT NULL
    CONSTRAINT services_duration_minutes_check CHECK (duration_minutes >= 1),
  max_duration_minutes integer NOT NULL
    CONSTRAINT services_max_duration_minutes_check CHECK (max_duration_minutes >= duration_minutes),
  hold_ttl_minutes integer NOT NULL
    CONSTRAINT services_hold_ttl_minutes_check CHECK (hold_ttl_minutes >= 1),
  max_hold_ttl_minutes integer NOT NULL
    CONSTRAINT services_max_hold_ttl_minutes_check CHECK (max_hold_ttl_minutes >= hold_ttl_minutes),
  max_hold_lifetime_minutes integer NOT NULL
    CONSTRAINT services_max_hold_lifetime_minutes_check CHECK (max_hold_lifetime_minutes >= max_hold_ttl_minutes),
  slot_step_minutes integer NOT NULL
    CONSTRAINT services_slot_step_minutes_check CHECK (slot_step_minutes >= 1),
  buffer_before_minutes integer NOT NULL
    CONSTRAINT services_buffer_before_minutes_check CHECK (buffer_before_minutes >= 0),
  buffer_after_minutes integer NOT NULL
    CONSTRAINT services_buffer_after_minutes_check CHECK (buffer_after_minutes >= 0),
  min_notice_minutes integer NOT NULL
    CONSTRAINT services_min_notice_minutes_check CHECK (min_notice_minutes >= 0),
  max_advance_days integer NOT NULL
    CONSTRAINT services_max_advance_days_check CHECK (max_advance_days BETWEEN 0 AND 3660),
  cancellation_window_minutes integer NOT NULL
    CONSTRAINT services_cancellation_window_minutes_check CHECK (cancellation_window_minutes >= 0),
  booking_enabled boolean NOT NULL,
  -- The longest span ever claimed on this service. Scans for overlaps start this far before their
  -- window: it is raised under the lock before a longer claim is made, and never lowered. Whole
  -- seconds, not an interval: an interval of days would be 23 or 25 hours long where a DST change is.
  longest_occupied_seconds bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  archived_at timestamptz,
  CONSTRAINT services_pkey PRIMARY KEY (business_id, service_id),
  CONSTRAINT services_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id)
);

-- What can be in one place at a time: a member of staff, a suite, a room.
CREATE TABLE booking.resources (
  business_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C" NOT NULL
    CONSTRAINT resources_resource_id_check CHECK (resource_id ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$'),
  name text NOT NULL,
  kind text COLLATE "C" NOT NULL,
  booking_enabled boolean NOT NULL,
  -- As in services, and for the same reason.
  longest_occupied_seconds bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  archived_at timestamptz,
  CONSTRAINT resources_pkey PRIMARY KEY (business_id, resource_id),
  CONSTRAINT resources_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id)
);

-- The pool of a service. A service that has rows here is only ever booked together with one of its resources.
CREATE TABLE booking.service_resources (
  business_id text COLLATE "C" NOT NULL,
  service_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C" NOT NULL,
  CONSTRAINT service_resources_pkey PRIMARY KEY (business_id, service_id, resource_id),
  CONSTRAINT service_resources_service_id_fkey FOREIGN KEY (business_id, service_id)
    REFERENCES booking.services (business_id, service_id),
  CONSTRAINT service_resources_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id)
);
CREATE INDEX idx_service_resources_resource ON booking.service_resources (business_id, resource_id);

CREATE TABLE booking.reservations (
  business_id text COLLATE "C" NOT NULL,
  reservation_id uuid NOT NULL,
  service_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C",
  -- Whether that one was asked for, or any would do: what to look for if the hold expires and is booked again.
  resource_named boolean NOT NULL DEFAULT false,
  slot_start timestamptz NOT NULL,
  slot_end timestamptz NOT NULL,
  occupied tstzrange NOT NULL,
  quantity integer NOT NULL CONSTRAINT reservations_quantity_check CHECK (quantity >= 1),
  status text COLLATE "C" NOT NULL
    CONSTRAINT reservations_status_check CHECK (status IN ('held', 'committed', 'released', 'expired')),
  expires_at timestamptz NOT NULL,
  ttl_clamped boolean NOT NULL,
  version integer NOT NULL,
  idempotency_key text COLLATE "C",
  fingerprint text COLLATE "C",
  last_operation_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT reservations_pkey PRIMARY KEY (business_id, reservation_id),
  CONSTRAINT reservations_service_id_fkey FOREIGN KEY (business_id, service_id)
    REFERENCES booking.services (business_id, service_id),
  CONSTRAINT reservations_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id),
  CONSTRAINT reservations_resource_id_check CHECK (resource_id IS NULL OR quantity = 1),
  CONSTRAINT reservations_slot_check CHECK (slot_start < slot_end AND occupied @> tstzrange(slot_start, slot_end)),
  CONSTRAINT reservations_ended_at_check CHECK ((status = 'held') = (ended_at IS NULL))
);
-- Partial, so that nothing but a look-up by key is ever planned over it.
CREATE UNIQUE INDEX reservations_idempotency_key_key ON booking.reservations (business_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX idx_reservations_id ON booking.reservations (reservation_id);
CREATE INDEX idx_reservations_slot ON booking.reservations (business_id, service_id, lower(occupied)) WHERE status = 'held';
CREATE INDEX idx_reservations_resource ON booking.reservations (business_id, resource_id, lower(occupied))
  WHERE status = 'held' AND resource_id IS NOT NULL;
-- For the purge. Led by the tenant, because it works tenant by tenant and must not read the others' due rows.
-- Live holds are said to be live in another way than above, though it means the same, so that no plan ever
-- takes this index for a decision: that would read all live holds of the business instead of one slot's.
CREATE INDEX idx_reservations_expiry ON booking.reservations (business_id, expires_at) WHERE ended_at IS NULL;
CREATE INDEX idx_reservations_ended ON booking.reservations (business_id, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE booking.appointments (
  business_id text COLLATE "C" NOT NULL,
  appointment_id uuid NOT NULL,
  -- No foreign key: the purge deletes the reservation, the appointment stays.
  reservation_id uuid,
  service_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C",
  slot_start timestamptz NOT NULL,
  slot_end timestamptz NOT NULL,
  occupied tstzrange NOT NULL,
  quantity integer NOT NULL CONSTRAINT appointments_quantity_check CHECK (quantity >= 1),
  status text COLLATE "C" NOT NULL
    CONSTRAINT appointments_status_check CHECK (status IN ('confirmed', 'cancelled', 'completed', 'no_show')),
  version integer NOT NULL,
  guest_name text,
  guest_email text,
  guest_phone text,
  notes text,
  metadata jsonb NOT NULL,
  source text COLLATE "C" NOT NULL,
  cancellation_reason text,
  idempotency_key text COLLATE "C",
  fingerprint text COLLATE "C",
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  CONSTRAINT appointments_pkey PRIMARY KEY (business_id, appointment_id),
  CONSTRAINT appointments_service_id_fkey FOREIGN KEY (business_id, service_id)
    REFERENCES booking.services (business_id, service_id),
  CONSTRAINT appointments_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id),
  CONSTRAINT appointments_resource_id_check CHECK (resource_id IS NULL OR quantity = 1),
  CONSTRAINT appointments_slot_check CHECK (slot_start < slot_end AND occupied @> tstzrange(slot_start, slot_end))
);
CREATE UNIQUE INDEX appointments_reservation_id_key ON booking.appointments (business_id, reservation_id)
  WHERE reservation_id IS NOT NULL;
CREATE UNIQUE INDEX appointments_idempotency_key_key ON booking.appointments (business_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX idx_appointments_id ON booking.appointments (appointment_id);
CREATE INDEX idx_appointments_reservation_id ON booking.appointments (reservation_id);
CREATE INDEX idx_appointments_slot ON booking.appointments (business_id, service_id, lower(occupied))
  WHERE status = 'confirmed';
CREATE INDEX idx_appointments_resource ON booking.appointments (business_id, resource_id, lower(occupied))
  WHERE status = 'confirmed' AND resource_id IS NOT NULL;
-- The owner's calendar, page by page.
CREATE INDEX idx_appointments_calendar ON booking.appointments (business_id, slot_start, appointment_id);

-- For the check of what changed lately: appointments lie about in the order in which they were made.
CREATE INDEX idx_appointments_updated ON booking.appointments USING brin (updated_at);

-- The backstop that no code path can forget: one resource is never confirmed in two places at once.
-- DEFERRABLE INITIALLY IMMEDIATE, because otherwise moving 10→11 and 11→12 in one statement is refused
-- by the order of the rows. Where there is no btree_gist (the embedded server has none), a value is
-- written as the range that holds it alone.
CREATE TYPE booking.text_range AS RANGE (subtype = text, collation = "C");
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist') THEN
    ALTER TABLE booking.appointments ADD CONSTRAINT appointments_resource_excl
      EXCLUDE USING gist (business_id WITH =, resource_id WITH =, occupied WITH &&)
      WHERE (status = 'confirmed' AND resource_id IS NOT NULL) DEFERRABLE INITIALLY IMMEDIATE;
  ELSE
    ALTER TABLE booking.appointments ADD CONSTRAINT appointments_resource_excl
      EXCLUDE USING gist (
        booking.text_range(business_id, business_id, '[]') WITH &&,
        booking.text_range(resource_id, resource_id, '[]') WITH &&,
        occupied WITH &&)
      WHERE (status = 'confirmed' AND resource_id IS NOT NULL) DEFERRABLE INITIALLY IMMEDIATE;
  END IF;
END
$$;

-- One row per change of an appointment, made in the same transaction. audit_id is the operation id that
-- the service made before the call, so that a call whose answer was lost can be recognised.
CREATE TABLE booking.audit_logs (
  business_id text COLLATE "C" NOT NULL,
  audit_id uuid NOT NULL,
  appointment_id uuid NOT NULL,
  version integer NOT NULL,
  action text COLLATE "C" NOT NULL,
  actor_kind text COLLATE "C" NOT NULL,
  actor_id text COLLATE "C",
  changes jsonb NOT NULL,
  request_id text,
  at timestamptz NOT NULL,
  CONSTRAINT audit_logs_pkey PRIMARY KEY (business_id, audit_id),
  CONSTRAINT audit_logs_version_key UNIQUE (business_id, appointment_id, version),
  CONSTRAINT audit_logs_appointment_id_fkey FOREIGN KEY (business_id, appointment_id)
    REFERENCES booking.appointments (business_id, appointment_id)
);

-- One row per run of the purge. A run goes over every business: its business_id is '*', which no tenant can be called.
CREATE TABLE booking.maintenance_runs (
  business_id text COLLATE "C" NOT NULL,
  run_id uuid NOT NULL,
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL,
  expired integer NOT NULL,
  deleted integer NOT NULL,
  remaining integer NOT NULL,
  CONSTRAINT maintenance_runs_pkey PRIMARY KEY (business_id, run_id)
);
CREATE INDEX idx_maintenance_runs_finished ON booking.maintenance_runs (business_id, finished_at);

-- What every verb answers for each of its requests. Outcomes are data, not exceptions: the refusal of
-- one request never undoes its neighbours.
--   operation_id  whose outcome it is
--   outcome       'done', 'replayed', 'deferred', or the refusal: the code of the HTTP API in lower case
--   body          the reservation or appointment, or what there is to say about the refusal
CREATE TYPE booking.outcome AS (operation_id uuid, outcome text, body jsonb);

-- What a request asks room for: a quantity of one service, during the slot and its buffers.
--   position  the place of its request in the batch: first come, first served
--   attempt   wishes of one attempt (one idempotency key, one hold) exclude each other: at most one is granted
--   pool      the resources of which it needs one, whichever is free; NULL where the service has none
CREATE TYPE booking.wish AS (
  position integer, attempt text, service_id text, occupied tstzrange, quantity integer, pool text[]);

-- A wish that came true, by its position, and the resource that it got.
CREATE TYPE booking.grant AS (position integer, resource_id text);

-- A request for a new claim, as booking.reserve and booking.book work on it.
--   leads    the first of the requests of its attempt that are equal to it; the others share its fate
--   details  the request as it came
CREATE TYPE booking.slot_request AS (
  position integer, operation_id uuid, attempt text, leads boolean, service_id text, slot_start timestamptz,
  slot_end timestamptz, occupied tstzrange, quantity integer, pool text[], idempotency_key text, fingerprint text,
  details jsonb);

-- A request to commit, as the verb works on it.
CREATE TYPE booking.commit_request AS (
  position integer, operation_id uuid, reservation_id uuid, guest_name text, guest_email text, guest_phone text,
  notes text, metadata jsonb, expected_version integer, if_expired text, source text, actor_kind text,
  actor_id text, request_id text);
