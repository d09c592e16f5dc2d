-- What the service's own role may do: execute the verbs and read the views. It has no right on any table.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA booking FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
  booking.now(),
  booking.execute(jsonb, timestamptz),
  booking.reserve(text, jsonb, timestamptz),
  booking.commit(text, jsonb, timestamptz),
  booking.extend(text, jsonb, timestamptz),
  booking.release(text, jsonb, timestamptz),
  booking.purge(text, interval, integer, timestamptz),
  booking.due_businesses(interval),
  booking.count_due(interval),
  booking.record_purge(uuid, timestamptz, integer, integer, integer),
  booking.put_business(text, jsonb, timestamptz),
  booking.delete_business(text, timestamptz),
  booking.put_service(text, text, jsonb, timestamptz),
  booking.delete_service(text, text, timestamptz),
  booking.capacity(text, text, timestamptz, timestamptz),
  booking.business_of_reservation(uuid),
  booking.reservation(text, uuid),
  booking.find_overbooked_instants()
TO holdfast_service;

GRANT SELECT ON
  booking.business_catalog,
  booking.service_catalog,
  booking.overbooked_instants,
  booking.double_booked_resources,
  booking.audit_gaps,
  booking.reservation_health,
  booking.invariant_violations,
  booking.recent_invariant_violations,
  booking.clock_definition
TO holdfast_service;
