"""Every index has a statement of the product that needs it, and that statement scans it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from tests.database import TestDatabase, at
from tests.sql.catalog import delete_resource, put_special_hours
from tests.sql.measuring import reads_of, rolled_back

HISTORY = 20_000
APPOINTMENT = str(UUID(int=1))
HOLD = str(UUID(int=2))


@dataclass(frozen=True)
class Use:
    """The purpose of an index, and a call that scans it; none if the index only guards a constraint."""

    reason: str
    call: Callable[[TestDatabase], object] | None = None


def put_slug(database: TestDatabase) -> None:
    """Puts the business with a slug."""
    business = {"name": "Salon", "slug": "hair", "timezone": "Europe/Berlin", "country": "DE"}
    database.rows("SELECT booking.put_business('salon', %s, 'infinity')", json.dumps(business))


def record_purge(database: TestDatabase) -> None:
    """Records a run of the purge."""
    database.rows("SELECT booking.record_purge(gen_random_uuid(), now(), 0, 0, 0, 0)")


def list_day(database: TestDatabase) -> None:
    """Lists the appointments of the Monday of the tests."""
    list_appointments(database, p_from=at(0), p_to=at(24))


def list_appointments(database: TestDatabase, **parameters: object) -> None:
    """Lists a page of appointments; a parameter that is not given is NULL."""
    [(names,)] = database.rows("SELECT proargnames FROM pg_proc WHERE oid = 'booking.list_appointments'::regproc")
    values = {"p_business_id": "salon", "p_overlapping": False, "p_limit": 10, **parameters}
    arguments = ", ".join(f"{name} => %s" for name in names)
    database.rows(f"SELECT booking.list_appointments({arguments})", *map(values.get, names))


def reserve_as_client(database: TestDatabase) -> None:
    """Holds a slot for a client whose live holds are limited."""
    database.reserve(12, max_live_holds=5, client_address_hmac="address", client_id_hmac="id")


USES: dict[str, Use] = {
    "api_keys_pkey": Use(
        "the look-up of a key", lambda database: database.rows("SELECT booking.live_key('salon', 'key')")
    ),
    "appointments_pkey": Use(
        "an appointment by its id", lambda database: database.change(APPOINTMENT, set={"notes": "x"})
    ),
    "appointments_idempotency_key_key": Use(
        "the appointment that a key made", lambda database: database.book(12, idempotency_key="k", fingerprint="f")
    ),
    "appointments_reservation_id_key": Use("the appointment of a hold", lambda database: database.commit(HOLD)),
    "appointments_resource_excl": Use(
        "the backstop against two places at once", lambda database: database.book(12, service_id="suite")
    ),
    "idx_appointments_calendar": Use("the calendar, by start and id", list_day),
    "idx_appointments_changes": Use(
        "the appointments that changed since", lambda database: list_appointments(database, p_updated_since=at(-1000))
    ),
    "idx_appointments_guest_email": Use(
        "the appointments of a guest", lambda database: list_appointments(database, p_guest_email="guest@example.com")
    ),
    "idx_appointments_guest_phone": Use(
        "the appointments of a guest", lambda database: list_appointments(database, p_guest_phone="+4930123456")
    ),
    "idx_appointments_guest_retention": Use("the guests' data to erase", lambda database: database.purge()),
    "idx_appointments_updated": Use(
        "audit gaps of the last hour", lambda database: database.rows("SELECT booking.invariant_violations(true)")
    ),
    "audit_logs_pkey": Use("a retry of a change", lambda database: database.change(APPOINTMENT, set={"notes": "x"})),
    "audit_logs_version_key": Use(
        "the trail of an appointment",
        lambda database: database.rows("SELECT booking.audit_trail('salon', %s)", APPOINTMENT),
    ),
    "businesses_pkey": Use("the lock of a business", lambda database: database.reserve(12)),
    "client_bookings_pkey": Use("the places that a client booked today", reserve_as_client),
    "closures_pkey": Use("a closure by its id", lambda database: database.put_closure("closure", at(30), at(31))),
    "idx_closures_resource": Use("the closures that are not over", lambda database: database.reserve(12)),
    "maintenance_runs_pkey": Use("a run that is recorded twice", record_purge),
    "idx_maintenance_runs_finished": Use(
        "the last run", lambda database: database.rows("SELECT booking.reservation_health()")
    ),
    "occupancy_pkey": Use("the windows of a service", lambda database: database.reserve(12)),
    "idx_occupancy_resource": Use(
        "the windows of a resource", lambda database: database.reserve(12, service_id="suite")
    ),
    "opening_hours_pkey": Use("the order of the opening hours, which is unique"),
    "idx_opening_hours_resource": Use("the opening hours of a resource", lambda database: database.reserve(12)),
    "reservations_pkey": Use("a hold by its id", lambda database: database.release(HOLD)),
    "reservations_idempotency_key_key": Use(
        "the hold that a key made", lambda database: database.reserve(12, idempotency_key="k", fingerprint="f")
    ),
    "idx_reservations_expiry": Use("what has expired", lambda database: database.purge()),
    "idx_reservations_ended": Use("what may be deleted", lambda database: database.purge()),
    "idx_reservations_client_address": Use("the live holds of an address", reserve_as_client),
    "idx_reservations_client_id": Use("the live holds of a client", reserve_as_client),
    "idx_reservations_window": Use("the expired holds of a window", lambda database: database.reserve(11, quantity=5)),
    "resources_pkey": Use("a resource by its id", lambda database: database.reserve(12, service_id="suite")),
    "schema_migrations_pkey": Use("no migration is applied twice; the table has a dozen rows, read as a whole"),
    "service_resources_pkey": Use("the pool of a service", lambda database: database.reserve(12, service_id="suite")),
    "idx_service_resources_resource": Use(
        "the services of a resource",
        delete_resource,
    ),
    "services_pkey": Use("a service by its id", lambda database: database.reserve(12)),
    "special_hours_pkey": Use(
        "special hours by their id", lambda database: put_special_hours(database, "party", "2030-12-31", [])
    ),
    "idx_special_hours_resource": Use("the special hours that are not over", lambda database: database.reserve(12)),
    "slugs_pkey": Use(
        "the business of a slug", lambda database: database.rows("SELECT booking.businesses_named('{hair}')")
    ),
}


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business that has at least one row in each table."""
    put_slug(database)
    database.make_service(capacity=5)
    database.make_service("suite", resource_ids=["anna", "bert"])
    database.put_hours([(1, "00:00", "24:00")])
    database.put_closure("closure", at(30), at(31))
    put_special_hours(database, "party", "2030-12-31", [])
    database.rows("SELECT booking.create_key('salon', 'key', 'key', 'owner', %s, NULL, 'infinity')", b"x" * 32)
    database.rows("UPDATE booking.businesses SET guest_retention_days = 400")
    record_purge(database)
    database.reserve(11, ttl_minutes=1)
    database.move_clock(timedelta(minutes=2))
    database.book(10, operation_id=APPOINTMENT)
    database.reserve(10, operation_id=HOLD)
    return database


def add_history(database: TestDatabase) -> None:
    """Inserts appointments whose last change was long ago, and analyses the table."""
    database.rows(
        """
        INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
          quantity, status, version, metadata, source, created_at, updated_at)
        SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'), 1,
          'completed', 1, '{}', 'online', at, at
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (
          SELECT booking.now() - interval '1 year' + n * interval '1 minute' AS at) AS slot
        """,
        HISTORY,
    )
    database.rows("ANALYZE booking.appointments")


def test_each_index_is_listed_with_its_use(database: TestDatabase) -> None:
    """An unused index costs every write, so that each index is listed with the statement that needs it."""
    existing = {name for (name,) in database.rows("SELECT indexname FROM pg_indexes WHERE schemaname = 'booking'")}
    assert existing - USES.keys() == set(), "an index without a use"
    assert USES.keys() - existing == set(), "a use without its index"


@pytest.mark.new_database
def test_each_index_is_scanned_by_the_call_that_needs_it(salon: TestDatabase) -> None:
    """The database has a history, and the planner has no hints other than the settings of the functions."""
    scanned = set()
    with rolled_back(salon):
        add_history(salon)
        for name, use in USES.items():
            if use.call and name in reads_of(salon, partial(use.call, salon)).indexes:
                scanned.add(name)
    assert {name for name, use in USES.items() if use.call} - scanned == set()


def test_an_index_that_no_call_needs_is_unique(database: TestDatabase) -> None:
    """Such an index guards a constraint."""
    unique = dict(database.rows("SELECT indexrelid::regclass::text, indisunique FROM pg_index"))
    assert [name for name, use in USES.items() if not use.call and not unique[f"booking.{name}"]] == []
