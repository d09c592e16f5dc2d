-- Creates the roles and the database. An administrator runs it once, before the first migration.
--
--   MIGRATOR_PASSWORD=… SERVICE_PASSWORD=… psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql "$ADMINISTRATOR_URL"
--
--   holdfast_owner     owns every object, can't log in
--   holdfast_service   may execute the granted functions, can't read or write a table, can't log in
--   holdfast_migrator  MIGRATION_DATABASE_URL: owns the database; used by `migrate` only
--   holdfast           DATABASE_URL: a member of holdfast_service
\getenv migrator_password MIGRATOR_PASSWORD
\getenv service_password SERVICE_PASSWORD

CREATE ROLE holdfast_owner NOLOGIN;
CREATE ROLE holdfast_service NOLOGIN;
CREATE ROLE holdfast_migrator LOGIN PASSWORD :'migrator_password' IN ROLE holdfast_owner;
CREATE ROLE holdfast LOGIN PASSWORD :'service_password' IN ROLE holdfast_service;

-- The service sets these for each of its sessions. Behind a pooler in transaction mode a session setting would reach
-- other clients, so there the role has to have them.
ALTER ROLE holdfast SET timezone = 'UTC';
ALTER ROLE holdfast SET lock_timeout = '2s';
ALTER ROLE holdfast SET statement_timeout = '5s';
ALTER ROLE holdfast SET idle_in_transaction_session_timeout = '10s';
SELECT current_setting('server_version_num')::integer >= 170000 AS has_transaction_timeout \gset
\if :has_transaction_timeout
ALTER ROLE holdfast SET transaction_timeout = '10s';
\endif

-- A server that was set up without a locale has another encoding, and so would the database. And its locale, C, knows no
-- letters beyond ASCII: MÜLLER@example.com and müller@example.com would be two guests.
SELECT CASE WHEN datctype IN ('C', 'POSIX') THEN 'LC_CTYPE ''C.UTF-8''' ELSE '' END AS letters
FROM pg_database WHERE datname = 'template0' \gset
CREATE DATABASE holdfast OWNER holdfast_migrator ENCODING 'UTF8' :letters TEMPLATE template0;
REVOKE ALL ON DATABASE holdfast FROM PUBLIC;
GRANT CONNECT ON DATABASE holdfast TO holdfast;
