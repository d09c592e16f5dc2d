-- Drops every view and every routine of the schema. The runner of the migrations executes this before it creates those
-- of its version, in the same transaction: so the database has none that the files don't have, and a function may
-- return another type than its predecessor.
--
-- Left are the routines that belong to a type or an extension, and those that an index, a constraint or anything else
-- than a routine depends on: they can only be replaced.
DO $$
DECLARE
  v_views text := (
    SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
    WHERE c.relnamespace = 'booking'::regnamespace AND c.relkind = 'v');
  v_routines text;
BEGIN
  -- One statement for all of a kind: they depend on each other.
  IF v_views IS NOT NULL THEN
    EXECUTE 'DROP VIEW ' || v_views;
  END IF;
  SELECT string_agg(p.oid::regprocedure::text, ', ') INTO v_routines
  FROM pg_proc p
  WHERE p.pronamespace = 'booking'::regnamespace AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE (d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('i', 'e'))
      OR (d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid <> 'pg_proc'::regclass));
  IF v_routines IS NOT NULL THEN
    EXECUTE 'DROP ROUTINE ' || v_routines;
  END IF;
END
$$;
