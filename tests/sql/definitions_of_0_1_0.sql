-- The functions and views that version 0.1.0 leaves in a database, as far as a later version can trip over them: names,
-- arguments, results, and what the views depend on. The functions do nothing.
--
-- Made from the catalog of a database that version 0.1.0 had migrated: pg_get_function_arguments,
-- pg_get_function_result, pg_get_viewdef.

CREATE FUNCTION booking.alternatives(p_business_id text, p_service_id text, p_slot_start timestamp with time zone, p_slot_end timestamp with time zone, p_quantity integer, p_resource_id text, p_except uuid DEFAULT NULL::uuid)
RETURNS TABLE(slot_start timestamp with time zone, slot_end timestamp with time zone, resource_ids text[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.answer_round(p_open booking.slot_request[], p_round booking.wish[], p_made booking.outcome[])
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.appointment(p_business_id text, p_appointment_id uuid)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.appointment_body(a booking.appointments)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.appointment_by_id(p_business_id text, p_appointment_id uuid)
RETURNS SETOF booking.appointments LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.appointment_by_key(p_business_id text, p_idempotency_key text)
RETURNS SETOF booking.appointments LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.appointment_of_reservation(p_business_id text, p_reservation_id uuid)
RETURNS SETOF booking.appointments LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.audit_changes(p_before booking.appointments, p_after booking.appointments)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.audit_of_operation(p_business_id text, p_operation_id uuid)
RETURNS SETOF booking.audit_logs LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.audit_trail(p_business_id text, p_appointment_id uuid)
RETURNS SETOF jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.availability(p_business_id text, p_service_id text, p_starts tstzrange, p_quantity integer, p_resource_id text)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.book(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.book_granted(p_business_id text, p_open booking.slot_request[], p_granted booking."grant"[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.bookable_slots(p_service booking.services, p_has_resources boolean, p_named text[], p_starts timestamp with time zone[], p_length interval, p_quantity integer, p_now timestamp with time zone, p_except uuid)
RETURNS TABLE(slot_start timestamp with time zone, slot_end timestamp with time zone, available integer, resource_ids text[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.bookable_stretches(p_business_id text, p_whose text[], p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS TABLE(whose text, open tstzmultirange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.business_of_appointment(p_appointment_id uuid)
RETURNS text LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.business_of_reservation(p_reservation_id uuid)
RETURNS text LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.business_of_slug(p_slug text)
RETURNS text LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.calendar_feed(p_business_id text, p_resource_id text, p_past interval, p_ahead interval, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.calendars(p_business_id text)
RETURNS TABLE(resource_id text, name text, generation integer) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.capacity(p_business_id text, p_service_id text, p_slot_start timestamp with time zone, p_slot_end timestamp with time zone)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.change(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.change_one(p_business_id text, p_request jsonb, p_now timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.change_refusal(p_old booking.appointments, p_new booking.appointments, p_actor_kind text, p_now timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.choose(p_business_id text, p_wishes booking.wish[], p_now timestamp with time zone)
RETURNS SETOF booking."grant" LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.claim_levels(p_business_id text, p_service_id text, p_longest_seconds bigint, p_now timestamp with time zone)
RETURNS TABLE(at timestamp with time zone, until timestamp with time zone, claimed bigint) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.claim_slots(p_business_id text, p_kind text, p_requests jsonb, p_now timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.claims_during(p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamp with time zone, p_except uuid DEFAULT NULL::uuid)
RETURNS TABLE(occupied tstzrange, quantity integer, is_hold boolean) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.clock_changes(p_timezone text, p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS TABLE(utc_offset interval, during tstzrange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.clock_phases(p_timezone text, p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS TABLE(utc_offset interval, during tstzrange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.closures_during(p_business_id text, p_whose text, p_during tstzrange)
RETURNS TABLE(during tstzrange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.commit(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.commit_holds(p_business_id text, p_open booking.commit_request[], p_rebooked booking."grant"[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.count_due(p_retention interval)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.create_key(p_business_id text, p_key_id text, p_name text, p_role text, p_sha256 bytea, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.delete_business(p_business_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.delete_closure(p_business_id text, p_closure_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.delete_resource(p_business_id text, p_resource_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.delete_service(p_business_id text, p_service_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.due_businesses(p_retention interval)
RETURNS TABLE(business_id text) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.elapsed(p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS interval LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.end_holds(p_business_id text, p_reservation_ids uuid[], p_status text, p_now timestamp with time zone)
RETURNS SETOF booking.reservations LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.execute(p_batches jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.expired_during(p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamp with time zone)
RETURNS TABLE(reservation_id uuid) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.expired_in_the_way(p_business_id text, p_wishes booking.wish[], p_now timestamp with time zone)
RETURNS uuid[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.extend(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.find_overbooked_instants()
RETURNS TABLE(business_id text, service_id text, at timestamp with time zone, until timestamp with time zone, claimed bigint, capacity integer) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.find_pool(p_business_id text, p_service_id text, p_resource_id text, p_slot tstzrange, OUT has_resources boolean, OUT named text[], OUT pool text[], OUT refusal text)
RETURNS record LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.fits(p_service booking.services, p_window tstzrange, p_quantity integer, p_now timestamp with time zone, p_except uuid DEFAULT NULL::uuid)
RETURNS boolean LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.free_resources(p_business_id text, p_pool text[], p_window tstzrange, p_now timestamp with time zone, p_except uuid DEFAULT NULL::uuid)
RETURNS text[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.fullest_instant(p_business_id text, p_service_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamp with time zone, p_except uuid DEFAULT NULL::uuid)
RETURNS TABLE(held bigint, booked bigint) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.fullest_instants(p_service booking.services, p_windows tstzrange[], p_now timestamp with time zone, p_except uuid)
RETURNS TABLE(during tstzrange, claimed bigint) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.hoarders(p_business_id text, p_open booking.slot_request[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.hold_granted(p_business_id text, p_open booking.slot_request[], p_granted booking."grant"[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.hold_ttl(p_default_minutes integer, p_max_minutes integer, p_ttl_minutes numeric)
RETURNS interval LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.invalid(p_field text, p_message text)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.is_archived(p_business_id text, p_resource_id text)
RETURNS boolean LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.is_open(p_business_id text, p_slot tstzrange)
RETURNS boolean LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.judge_slots(p_business_id text, p_open booking.slot_request[], p_now timestamp with time zone, OUT bookable booking.slot_request[], OUT answers booking.outcome[])
RETURNS record LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.keys(p_business_id text)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.known_appointments(p_business_id text, p_requests booking.slot_request[])
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.known_reservations(p_business_id text, p_requests booking.slot_request[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.list_appointments(p_business_id text, p_from timestamp with time zone, p_to timestamp with time zone, p_resource_id text, p_status text, p_after_start timestamp with time zone, p_after_id uuid, p_limit integer)
RETURNS SETOF jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.live_holds(p_business_id text, p_address_hmac text, p_id_hmac text, p_limit integer, p_now timestamp with time zone)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.live_key(p_business_id text, p_key_id text)
RETURNS TABLE(role text, sha256 bytea) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.local_day(p_business_id text, p_instant timestamp with time zone)
RETURNS tstzrange LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.lock_business(p_business_id text, p_deadline timestamp with time zone)
RETURNS timestamp with time zone LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.max_rounds()
RETURNS integer LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.missing_resource(p_business_id text, p_resource_ids jsonb)
RETURNS text LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.next_round(p_open booking.wish[])
RETURNS booking.wish[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.note_longest(p_business_id text, p_wishes booking.wish[], p_granted booking."grant"[])
RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.now()
RETURNS timestamp with time zone LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.occupied_by(p_service booking.services, p_slot_start timestamp with time zone, p_slot_end timestamp with time zone)
RETURNS tstzrange LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.open_during(p_business_id text, p_whose text[], p_slot tstzrange)
RETURNS text[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.open_stretches(p_business_id text, p_whose text[], p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS TABLE(whose text, open tstzmultirange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.place(p_old booking.appointments, p_new booking.appointments, p_set jsonb, p_now timestamp with time zone, OUT moved booking.appointments, OUT refusal booking.outcome)
RETURNS record LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.purge(p_business_id text, p_retention interval, p_limit integer, p_deadline timestamp with time zone, OUT expired integer, OUT deleted integer, OUT freed jsonb, OUT busy boolean)
RETURNS record LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.put_business(p_business_id text, p_business jsonb, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.put_closure(p_business_id text, p_closure_id text, p_from timestamp with time zone, p_to timestamp with time zone, p_resource_id text, p_reason text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.put_opening_hours(p_business_id text, p_hours jsonb, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.put_resource(p_business_id text, p_resource_id text, p_resource jsonb, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.put_service(p_business_id text, p_service_id text, p_service jsonb, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.quantity_of_resource()
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.read_slot_requests(p_business_id text, p_requests jsonb)
RETURNS booking.slot_request[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.rebook_round(p_business_id text, p_open booking.commit_request[], p_now timestamp with time zone)
RETURNS booking.outcome[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.record_change(p_old booking.appointments, p_new booking.appointments, p_request jsonb)
RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.record_purge(p_run_id uuid, p_started_at timestamp with time zone, p_expired integer, p_deleted integer, p_remaining integer)
RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.release(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.requested_slot(p_service_id text, p_slot_start timestamp with time zone, p_slot_end timestamp with time zone, p_quantity integer, p_resource_id text)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.reservation(p_business_id text, p_reservation_id uuid)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.reservation_body(r booking.reservations, p_now timestamp with time zone)
RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.reservation_by_key(p_business_id text, p_idempotency_key text)
RETURNS SETOF booking.reservations LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.reserve(p_business_id text, p_requests jsonb, p_deadline timestamp with time zone)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.reserve_one(p_business_id text, p_request jsonb, p_now timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.resource_claims_during(p_business_id text, p_resource_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamp with time zone, p_except uuid DEFAULT NULL::uuid)
RETURNS TABLE(occupied tstzrange) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.resource_expired_during(p_business_id text, p_resource_id text, p_longest_seconds bigint, p_window tstzrange, p_now timestamp with time zone)
RETURNS TABLE(reservation_id uuid) LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.rest_of(p_window tstzrange, p_now timestamp with time zone)
RETURNS tstzrange LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.revoke_key(p_business_id text, p_key_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.rotate_calendar(p_business_id text, p_deadline timestamp with time zone)
RETURNS booking.outcome LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.slot_grid(p_business_id text, p_step_minutes integer, p_starts tstzrange)
RETURNS SETOF timestamp with time zone LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.slot_refusal(p_service booking.services, p_slot_start timestamp with time zone, p_slot_end timestamp with time zone, p_now timestamp with time zone)
RETURNS text LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.still_open(p_open booking.slot_request[], p_answers booking.outcome[])
RETURNS booking.slot_request[] LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.take_if_it_fits(p_taken bigint, p_quantity integer, p_room bigint)
RETURNS bigint LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.try_lock_business(p_business_id text)
RETURNS boolean LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION booking.with_changes(p_old booking.appointments, p_request jsonb)
RETURNS booking.appointments LANGUAGE plpgsql AS 'BEGIN END';

CREATE AGGREGATE booking.taken(quantity integer, room bigint) (
  SFUNC = booking.take_if_it_fits, STYPE = bigint, INITCOND = '0');

CREATE VIEW booking.business_catalog AS
 SELECT business_id,
    name,
    slug,
    timezone,
    country
   FROM booking.businesses;

CREATE VIEW booking.resource_catalog AS
 SELECT business_id,
    resource_id,
    name,
    kind,
    booking_enabled
   FROM booking.resources
  WHERE archived_at IS NULL;

CREATE VIEW booking.service_catalog AS
 SELECT s.business_id,
    s.service_id,
    s.name,
    s.max_simultaneous_bookings,
    s.duration_minutes,
    s.max_duration_minutes,
    s.hold_ttl_minutes,
    s.max_hold_ttl_minutes,
    s.max_hold_lifetime_minutes,
    s.slot_step_minutes,
    s.buffer_before_minutes,
    s.buffer_after_minutes,
    s.min_notice_minutes,
    s.max_advance_days,
    s.cancellation_window_minutes,
    s.booking_enabled,
    pool.resource_ids
   FROM booking.services s
     CROSS JOIN LATERAL ( SELECT COALESCE(array_agg(p.resource_id ORDER BY p.resource_id), '{}'::text[]) AS resource_ids
           FROM booking.service_resources p
             JOIN booking.resources r ON r.business_id = p.business_id AND r.resource_id = p.resource_id
          WHERE p.business_id = s.business_id AND p.service_id = s.service_id AND r.archived_at IS NULL) pool
  WHERE s.archived_at IS NULL;

CREATE VIEW booking.opening_hours_catalog AS
 SELECT o.business_id,
    o.weekday,
    to_char(o.opens::interval, 'HH24:MI'::text) AS opens,
    to_char(o.closes::interval, 'HH24:MI'::text) AS closes,
    o.resource_id
   FROM booking.opening_hours o
     LEFT JOIN booking.resources r ON r.business_id = o.business_id AND r.resource_id = o.resource_id
  WHERE r.archived_at IS NULL;

CREATE VIEW booking.closure_catalog AS
 SELECT c.business_id,
    c.closure_id,
    lower(c.during) AS "from",
    upper(c.during) AS "to",
    c.resource_id,
    c.reason
   FROM booking.closures c
     LEFT JOIN booking.resources r ON r.business_id = c.business_id AND r.resource_id = c.resource_id
  WHERE r.archived_at IS NULL;

CREATE VIEW booking.claims AS
 SELECT r.business_id,
    r.service_id,
    r.resource_id,
    r.reservation_id AS claim_id,
    r.occupied,
    r.quantity
   FROM booking.reservations r
  WHERE r.status = 'held'::text AND r.expires_at > booking.now()
UNION ALL
 SELECT a.business_id,
    a.service_id,
    a.resource_id,
    a.appointment_id AS claim_id,
    a.occupied,
    a.quantity
   FROM booking.appointments a
  WHERE a.status = 'confirmed'::text;

CREATE VIEW booking.overbooked_instants AS
 SELECT business_id,
    service_id,
    at,
    until,
    claimed,
    capacity
   FROM booking.find_overbooked_instants() find_overbooked_instants(business_id, service_id, at, until, claimed, capacity);

CREATE VIEW booking.double_booked_resources AS
 SELECT business_id,
    resource_id,
    claim_id,
    ( SELECT other.claim_id
           FROM booking.claims other
          WHERE other.business_id = taken.business_id AND other.resource_id = taken.resource_id AND other.claim_id <> taken.claim_id AND other.occupied && taken.occupied
          ORDER BY (lower(other.occupied))
         LIMIT 1) AS other_claim_id,
    tstzrange(lower(occupied), LEAST(upper(occupied), busy_until)) AS at
   FROM ( SELECT c.business_id,
            c.service_id,
            c.resource_id,
            c.claim_id,
            c.occupied,
            c.quantity,
            max(upper(c.occupied)) OVER (PARTITION BY c.business_id, c.resource_id ORDER BY (lower(c.occupied)), c.claim_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
           FROM booking.claims c
             CROSS JOIN ( SELECT booking.now() AS now
                 OFFSET 0) clock
          WHERE c.resource_id IS NOT NULL AND upper(c.occupied) > clock.now) taken
  WHERE lower(occupied) < busy_until;

CREATE VIEW booking.audit_gaps AS
 SELECT a.business_id,
    a.appointment_id,
    a.updated_at,
    a.version,
    trail.versions
   FROM booking.appointments a
     LEFT JOIN LATERAL ( SELECT array_agg(l.version ORDER BY l.version) AS versions
           FROM booking.audit_logs l
          WHERE l.business_id = a.business_id AND l.appointment_id = a.appointment_id) trail ON true
  WHERE trail.versions IS DISTINCT FROM (ARRAY( SELECT generate_series(1, a.version) AS generate_series));

CREATE VIEW booking.invariant_violations AS
 SELECT 'overbooked_instants'::text AS invariant,
    count(*) AS violations
   FROM booking.overbooked_instants
UNION ALL
 SELECT 'double_booked_resources'::text AS invariant,
    count(*) AS violations
   FROM booking.double_booked_resources
UNION ALL
 SELECT 'audit_gaps'::text AS invariant,
    count(*) AS violations
   FROM booking.audit_gaps;

CREATE VIEW booking.recent_invariant_violations AS
 SELECT 'overbooked_instants'::text AS invariant,
    count(*) AS violations
   FROM booking.overbooked_instants
UNION ALL
 SELECT 'double_booked_resources'::text AS invariant,
    count(*) AS violations
   FROM booking.double_booked_resources
UNION ALL
 SELECT 'audit_gaps'::text AS invariant,
    count(*) AS violations
   FROM booking.audit_gaps,
    ( SELECT booking.now() AS now
         OFFSET 0) clock
  WHERE audit_gaps.updated_at > (clock.now - '01:00:00'::interval);

CREATE VIEW booking.reservation_health AS
 SELECT clock.now,
    ( SELECT count(*) AS count
           FROM booking.reservations r
          WHERE r.ended_at IS NULL AND r.expires_at > clock.now) AS live,
    due.expired_unpurged,
    due.oldest_expired_at,
    last_run.finished_at AS last_purge_at,
    ended.committed AS committed_last_hour,
    ended.ended AS ended_last_hour
   FROM ( SELECT booking.now() AS now
         OFFSET 0) clock
     CROSS JOIN LATERAL ( SELECT count(*) AS expired_unpurged,
            min(r.expires_at) AS oldest_expired_at
           FROM booking.reservations r
          WHERE r.ended_at IS NULL AND r.expires_at <= clock.now) due
     LEFT JOIN LATERAL ( SELECT m.finished_at
           FROM booking.maintenance_runs m
          WHERE m.business_id = '*'::text
          ORDER BY m.finished_at DESC
         LIMIT 1) last_run ON true
     CROSS JOIN LATERAL ( SELECT count(*) FILTER (WHERE r.status = 'committed'::text) AS committed,
            count(*) AS ended
           FROM booking.reservations r
          WHERE r.ended_at > (clock.now - '01:00:00'::interval)) ended;

CREATE VIEW booking.clock_definition AS
 SELECT btrim(p.prosrc) AS body,
    l.lanname::text AS language,
    p.proconfig AS settings
   FROM pg_proc p
     JOIN pg_language l ON l.oid = p.prolang
  WHERE p.oid = 'booking.now()'::regprocedure::oid;
