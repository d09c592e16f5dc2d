-- Drops every view and routine of the schema. The migration runner executes this before it creates the definitions of
-- its version, in the same transaction. So the database has exactly the definitions of the files, and a function may
-- change its return type.
--
-- Routines that belong to a type or an extension stay, and so do those that an object other than a routine or a view
-- depends on (an index, a constraint): these can only be replaced. A view outside of the schema (pg_rewrite) stops the
-- migration, with its name in the message.
DO $$
DECLARE
  v_views text := (
    SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
    WHERE c.relnamespace = 'booking'::regnamespace AND c.relkind = 'v');
  v_routines text;
BEGIN
  -- One statement for all views and one for all routines, because they depend on each other.
  IF v_views IS NOT NULL THEN
    EXECUTE 'DROP VIEW ' || v_views;
  END IF;
  SELECT string_agg(p.oid::regprocedure::text, ', ') INTO v_routines
  FROM pg_proc p
  WHERE p.pronamespace = 'booking'::regnamespace AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE (d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('i', 'e'))
      OR (d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
          AND d.classid NOT IN ('pg_proc'::regclass, 'pg_rewrite'::regclass)));
  IF v_routines IS NOT NULL THEN
    EXECUTE 'DROP ROUTINE ' || v_routines;
  END IF;
END
$$;
