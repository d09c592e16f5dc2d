-- Distributes the schema over a Citus cluster, by tenant. Once, after the first `migrate`, as a superuser on the
-- coordinator; deploy/scaling.md says when that is worth it, and what else changes. Nothing in the service needs it.
--
-- Citus and btree_gist come before the first migration, on every node: without btree_gist the backstop on
-- resources is written in a way that can't be distributed.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist') THEN
    RAISE EXCEPTION 'appointments_resource_excl was made without btree_gist and can''t be distributed'
      USING HINT = 'Begin with an empty database that has the extensions citus and btree_gist, and migrate that.';
  END IF;
END
$$;

-- Tables. What finds the tenant is small and read by everybody: a copy on each node. schema_migrations stays on the
-- coordinator. Referenced tables come before those that reference them, and all share the shards of their business.
SELECT create_reference_table('booking.slugs');
SELECT create_distributed_table('booking.businesses', 'business_id');
SELECT create_distributed_table('booking.services', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.resources', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.service_resources', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.opening_hours', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.closures', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.api_keys', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.reservations', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.appointments', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.audit_logs', 'business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_table('booking.maintenance_runs', 'business_id', colocate_with := 'booking.businesses');

-- Functions of one tenant: each call runs whole on the node of its business. What is called from inside them is on
-- every node already. These stay on the coordinator: put_business and delete_business, which write the slugs of all nodes
-- in the same transaction; execute, which works on several businesses and is not called any more; and
-- whatever asks all of them.
SELECT create_distributed_function('booking.reserve(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.commit(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.extend(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.release(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.book(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.change(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.purge(text, interval, integer, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.put_service(text, text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.delete_service(text, text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.put_resource(text, text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.delete_resource(text, text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.put_opening_hours(text, jsonb, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.put_closure(text, text, timestamptz, timestamptz, text, text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.delete_closure(text, text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.create_key(text, text, text, text, bytea, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.revoke_key(text, text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.keys(text)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.live_key(text, text)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.calendars(text)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.calendar_feed(text, text, interval, interval, integer)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.rotate_calendar(text, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.capacity(text, text, timestamptz, timestamptz)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.availability(text, text, tstzrange, integer, text)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.alternatives(text, text, timestamptz, timestamptz, integer, text, uuid)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.reservation(text, uuid)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.appointment(text, uuid)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.list_appointments(text, timestamptz, timestamptz, text, text, timestamptz, uuid, integer)', 'p_business_id', colocate_with := 'booking.businesses');
SELECT create_distributed_function('booking.audit_trail(text, uuid)', 'p_business_id', colocate_with := 'booking.businesses');
