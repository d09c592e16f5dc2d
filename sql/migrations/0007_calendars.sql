-- Lengths in calendar days, start times, special hours, and the settings that may be left out.
--
-- A setting that was left out is stored as NULL, and its default is computed from the other settings where it is used:
-- so it follows them, and a catalog that is read can be written back without a change.
--
-- The indexes of appointments are built under a lock that blocks bookings. No process of an older version reads a NULL
-- here, because all of them are stopped for the upgrade (deploy/upgrade.md):
-- squawk-ignore-file ban-drop-not-null
SET LOCAL ROLE holdfast_owner;
SET LOCAL statement_timeout = 0;

ALTER TABLE booking.businesses ALTER COLUMN country DROP NOT NULL;

ALTER TABLE booking.services
  ALTER COLUMN duration_minutes DROP NOT NULL,
  ALTER COLUMN max_duration_minutes DROP NOT NULL,
  ALTER COLUMN max_hold_ttl_minutes DROP NOT NULL,
  ALTER COLUMN max_hold_lifetime_minutes DROP NOT NULL,
  ALTER COLUMN slot_step_minutes DROP NOT NULL,
  ADD COLUMN duration_days integer,
  ADD COLUMN min_duration_minutes integer,
  ADD COLUMN min_duration_days integer,
  ADD COLUMN max_duration_days integer,
  -- Local times of the business. start_times replaces slot_step_minutes; end_time belongs to a length in days.
  ADD COLUMN start_times time[],
  ADD COLUMN end_time time,
  ADD COLUMN starts_on_grid boolean NOT NULL DEFAULT false,
  ADD COLUMN hours_apply text COLLATE "C",
  -- The length, its bounds and its end have one unit.
  ADD CONSTRAINT services_duration_check CHECK (CASE WHEN duration_days IS NULL
    THEN duration_minutes IS NOT NULL AND num_nonnulls(min_duration_days, max_duration_days, end_time) = 0
    ELSE num_nonnulls(duration_minutes, min_duration_minutes, max_duration_minutes) = 0 END),
  ADD CONSTRAINT services_duration_days_check CHECK (duration_days BETWEEN 1 AND 366),
  ADD CONSTRAINT services_min_duration_minutes_check
    CHECK (min_duration_minutes >= 1 AND min_duration_minutes <= duration_minutes),
  ADD CONSTRAINT services_min_duration_days_check CHECK (min_duration_days >= 1 AND min_duration_days <= duration_days),
  ADD CONSTRAINT services_max_duration_days_check CHECK (max_duration_days >= duration_days AND max_duration_days <= 366),
  ADD CONSTRAINT services_start_times_check CHECK (cardinality(start_times) >= 1),
  ADD CONSTRAINT services_hours_apply_check CHECK (hours_apply = ANY (ARRAY['throughout', 'ends']));

-- A length that is left out is the duration from now on. Of the services of before the public could book shorter slots
-- too: their shortest one stays a minute, and their longest one is what they have stored.
UPDATE booking.services SET min_duration_minutes = 1;

-- When a resource was last given to a claim, for an even distribution of work.
ALTER TABLE booking.resources ADD COLUMN last_assigned_at timestamptz NOT NULL DEFAULT '-infinity';

-- Hours that replace the weekly ones on local dates, both inclusive. Opens and closes are parallel arrays; empty ones
-- close. The dates of one owner (a resource, or the business) never overlap.
CREATE TABLE booking.special_hours (
  business_id text COLLATE "C" NOT NULL,
  special_hours_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C",
  first_date date NOT NULL,
  last_date date NOT NULL,
  opens time[] NOT NULL,
  closes time[] NOT NULL,
  name text,
  CONSTRAINT special_hours_pkey PRIMARY KEY (business_id, special_hours_id),
  CONSTRAINT special_hours_business_id_fkey FOREIGN KEY (business_id) REFERENCES booking.businesses (business_id),
  CONSTRAINT special_hours_resource_id_fkey FOREIGN KEY (business_id, resource_id)
    REFERENCES booking.resources (business_id, resource_id),
  CONSTRAINT special_hours_special_hours_id_check CHECK (special_hours_id ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$'),
  CONSTRAINT special_hours_last_date_check CHECK (last_date >= first_date),
  CONSTRAINT special_hours_closes_check CHECK (cardinality(opens) = cardinality(closes))
);
CREATE INDEX idx_special_hours_resource
  ON booking.special_hours (business_id, coalesce(resource_id, ''), last_date);

-- The lists of an owner: what changed since, and the bookings of a guest.
CREATE INDEX idx_appointments_changes ON booking.appointments (business_id, updated_at, appointment_id);
CREATE INDEX idx_appointments_guest_email
  ON booking.appointments (business_id, guest_email, slot_start, appointment_id) WHERE guest_email IS NOT NULL;
CREATE INDEX idx_appointments_guest_phone
  ON booking.appointments (business_id, guest_phone, slot_start, appointment_id) WHERE guest_phone IS NOT NULL;

-- What a listing needs of the catalog: see booking.begin_listing.
CREATE TYPE booking.listing AS (
  service booking.services, timezone text, pool text[], length interval, days integer, outcome text, body jsonb);

-- A window of a service with a pool, and a resource that was given to one: see booking.assign.
CREATE TYPE booking.pool_window AS (
  "position" integer, business_id text, service_id text, starts timestamptz, ends timestamptz, quantities integer[],
  room bigint, resource_ids text[], is_shared boolean, keeps_resource boolean, own booking.own_claim);
CREATE TYPE booking.given_resource AS (
  business_id text, resource_id text, during tstzrange, assigned_at timestamptz);
