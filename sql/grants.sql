-- The rights of the service's role: it may execute these functions, and has no right on any table or view.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA booking FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
  booking.now(),
  booking.execute(text[], jsonb[], timestamptz),
  booking.erase_guest(text, text, text, jsonb, integer, timestamptz),
  booking.purge(text[], interval, integer, timestamptz),
  booking.due_businesses(interval),
  booking.record_purge(uuid, timestamptz, integer, integer, integer, integer),
  booking.reservation_health(),
  booking.invariant_violations(boolean),
  booking.clock_definition(),
  booking.applied_migrations(),
  booking.hourly_counts(integer),
  booking.busiest_businesses(integer, integer),
  booking.purge_runs(integer),
  booking.lock_waits(),
  booking.business(text),
  booking.businesses(),
  booking.services(text, text),
  booking.resources(text, text),
  booking.archived_names(text),
  booking.opening_hours(text),
  booking.closures(text, text),
  booking.document(text),
  booking.put_document(text, jsonb, boolean, timestamptz),
  booking.put_business(text, jsonb, timestamptz),
  booking.delete_business(text, timestamptz),
  booking.put_service(text, text, jsonb, timestamptz),
  booking.delete_service(text, text, timestamptz),
  booking.put_resource(text, text, jsonb, timestamptz),
  booking.delete_resource(text, text, timestamptz),
  booking.put_opening_hours(text, jsonb, timestamptz),
  booking.put_closure(text, text, jsonb, timestamptz),
  booking.delete_closure(text, text, timestamptz),
  booking.put_special_hours(text, text, jsonb, timestamptz),
  booking.delete_special_hours(text, text, timestamptz),
  booking.special_hours(text, text),
  booking.unknown_timezones(),
  booking.create_key(text, text, text, text, bytea, text, timestamptz),
  booking.revoke_key(text, text, timestamptz),
  booking.note_key_uses(text[], text[]),
  booking.keys(text),
  booking.live_key(text, text),
  booking.calendars(text),
  booking.feed_span(text),
  booking.calendar_feed(text, text, timestamptz, timestamptz, uuid, integer),
  booking.rotate_calendar(text, timestamptz),
  booking.capacity(text, text, timestamptz, timestamptz),
  booking.availability(text, text, timestamptz, timestamptz, integer, integer, integer, text, integer, uuid),
  booking.available_days(text, text, date, date, integer, integer, integer, text, uuid),
  booking.alternatives(text, text, timestamptz, timestamptz, integer, text, uuid),
  booking.reaches(text),
  booking.business_of_reservation(uuid),
  booking.reservation(text, uuid),
  booking.list_holds(
    text, timestamptz, timestamptz, text, text, timestamptz, timestamptz, uuid, integer),
  booking.holds_of_client(text, text),
  booking.business_of_appointment(uuid),
  booking.businesses_named(text[]),
  booking.claim_slug(text, text),
  booking.release_slug(text, text),
  booking.claimed_slugs(),
  booking.stray_slugs(),
  booking.public_catalogue(text),
  booking.appointment(text, uuid),
  booking.list_appointments(
    text, timestamptz, timestamptz, boolean, timestamptz, text, text, text, text, text, timestamptz, uuid, integer),
  booking.audit_trail(text, uuid, integer, integer)
TO holdfast_service;

-- The granted functions run with the rights of their owner, with a fixed search_path, so that no object of the caller
-- is found in place of one of ours, and without compilation (sql/README.md, "Plans"). booking.now() is left out: it
-- reads no table.
DO $$
DECLARE
  v_function regprocedure;
BEGIN
  FOR v_function IN
    SELECT p.oid FROM pg_proc p
    WHERE p.pronamespace = 'booking'::regnamespace AND p.oid <> 'booking.now()'::regprocedure
      AND EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 'holdfast_service'::regrole)
  LOOP
    EXECUTE format(
      'ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off', v_function);
  END LOOP;
END
$$;
