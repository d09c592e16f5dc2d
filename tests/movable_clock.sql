-- Replaces the clock of the template database: it stands still at frozen_at, or runs ahead of the server's.
CREATE SCHEMA testing;
GRANT USAGE ON SCHEMA testing TO PUBLIC;
CREATE TABLE testing.clock (frozen_at timestamptz, ahead interval NOT NULL);
INSERT INTO testing.clock VALUES (NULL, '0');
GRANT SELECT ON testing.clock TO PUBLIC;
CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz
LANGUAGE sql VOLATILE
AS $$ SELECT coalesce(frozen_at, date_trunc('milliseconds', clock_timestamp() + ahead)) FROM testing.clock $$;
