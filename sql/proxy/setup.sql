-- The objects of the proxy beside its functions. `migrate` executes this as a superuser at the start of its transaction,
-- so each statement is repeatable. It locks out another process that does the same.
SELECT pg_advisory_xact_lock(1752132708);
SET LOCAL lock_timeout = '5s';
CREATE EXTENSION IF NOT EXISTS plproxy;
DO $$
DECLARE
  v_role text;
BEGIN
  FOREACH v_role IN ARRAY ARRAY['holdfast_owner', 'holdfast_service'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
    END IF;
  END LOOP;
END
$$;
CREATE SCHEMA IF NOT EXISTS booking;
GRANT USAGE ON SCHEMA booking TO holdfast_service;
GRANT USAGE, CREATE ON SCHEMA booking TO holdfast_owner;
-- The nodes, an option for each partition, and the login of the proxy there. Only the owner of the functions may use
-- them, so that the service's role can't read the password.
CREATE SERVER IF NOT EXISTS holdfast FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '');
GRANT USAGE ON FOREIGN SERVER holdfast TO holdfast_owner;
CREATE USER MAPPING IF NOT EXISTS FOR holdfast_owner SERVER holdfast;
