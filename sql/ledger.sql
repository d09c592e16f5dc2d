-- The objects that the migration runner needs before the first migration: the schema, and the ledger of the applied
-- files. The runner executes this at the start of every transaction, so each statement must be repeatable.
CREATE SCHEMA IF NOT EXISTS booking;
CREATE TABLE IF NOT EXISTS booking.schema_migrations (
  filename text COLLATE "C" NOT NULL,
  sha256 text COLLATE "C" NOT NULL,
  service_version integer[] NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT schema_migrations_pkey PRIMARY KEY (filename)
);
