-- The rights of the generated functions. The service's role may call those that it may call on a node, and ask_node.
-- They run as their owner, which alone may log in to the nodes.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA booking FROM PUBLIC;
GRANT EXECUTE ON FUNCTION booking.ask_node(integer) TO holdfast_service;
DO $$
DECLARE
  v_function record;
BEGIN
  FOR v_function IN
    SELECT p.oid::regprocedure AS name,
           EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 'holdfast_service'::regrole) AS is_granted
    FROM pg_proc p WHERE p.pronamespace = 'booking'::regnamespace
  LOOP
    EXECUTE format('ALTER FUNCTION %s OWNER TO holdfast_owner', v_function.name);
    IF v_function.is_granted THEN
      EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', v_function.name);
    END IF;
  END LOOP;
END
$$;
