-- What the runner of the migrations needs before the first of them: the schema and the ledger of what was applied.
CREATE SCHEMA IF NOT EXISTS booking;
CREATE TABLE IF NOT EXISTS booking.schema_migrations (
  filename text COLLATE "C" NOT NULL,
  sha256 text COLLATE "C" NOT NULL,
  service_version integer[] NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT schema_migrations_pkey PRIMARY KEY (filename)
);
