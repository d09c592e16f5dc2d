"""The cost of a decision grows neither with history nor with claims on other days, whatever the planner knows."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.database import (
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.sql.erasures import erase_guest
from tests.sql.listings import availability
from tests.sql.lists import FIRST_PAGE, Place, list_holds, list_page
from tests.sql.measuring import compiled_in, reads_of
from tests.sql.requests import keyed_request

pytestmark = pytest.mark.new_database

ROWS = 4_000
# The indexes that a decision may use: for the counts of a slot, for the rows it names by id, and for one resource.
SLOT = {"occupancy_pkey", "idx_reservations_window"}
RESOURCE = {"idx_occupancy_resource"}
ONE_ROW = {
    "businesses_pkey",
    "slugs_pkey",
    "services_pkey",
    "reservations_pkey",
    "reservations_idempotency_key_key",
    "appointments_pkey",
    "appointments_reservation_id_key",
    "appointments_idempotency_key_key",
    "idx_appointments_guest_email",
    "idx_appointments_guest_phone",
    "audit_logs_pkey",
    "audit_logs_version_key",
    "api_keys_pkey",
    "client_bookings_pkey",
    "resources_pkey",
}
# The pool of a service, opening hours, current and future special hours and closures, and one page of the calendar.
A_FEW_ROWS = {
    "service_resources_pkey",
    "idx_opening_hours_resource",
    "idx_special_hours_resource",
    "idx_closures_resource",
    "idx_appointments_calendar",
}
# PostgreSQL itself reads these to check a constraint.
CHECKED = {"appointments_resource_excl"}
# The live holds of one client.
OF_CLIENT = {"idx_reservations_client_address", "idx_reservations_client_id"}
DUE = {"idx_reservations_expiry", "idx_reservations_ended", "idx_appointments_guest_retention"}
ROOMS = ["room-1", "room-2", "room-3"]
CAPACITY = 50
CROWD = 20
TEN = 10.0
SITUATIONS = pytest.mark.parametrize("situation", ["never analysed", "analysed while tiny", "analysed"])


def prepare(database: TestDatabase) -> None:
    """Makes services with and without a pool, one with a popular slot, and one whose slot is full of expired holds.

    All have opening hours. Autovacuum is off, so that the statistics change only when the test analyses the tables.
    """
    for (table,) in database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind = 'r'"
    ):
        database.rows(f"ALTER TABLE booking.{table} SET (autovacuum_enabled = off)")
    database.make_service(capacity=CAPACITY)
    database.make_service("suite", resource_ids=ROOMS)
    database.make_service("concert", capacity=10 * ROWS)
    database.make_service("limited", capacity=10 * ROWS, max_upcoming_per_guest=9)
    database.make_service("course", capacity=CROWD)
    database.put_hours(
        [
            {"weekday": weekday, "opens": "00:00", "closes": "24:00", "resource_id": resource_id}
            for weekday in range(1, 8)
            for resource_id in (None, *ROOMS)
        ]
    )
    for hour in (TEN - 0.5, TEN, TEN + 0.5):
        database.reserve(hour)
        database.commit(database.reserve(hour).id)
    for room in ROOMS:
        database.reserve(TEN - 1, service_id="suite", resource_id=room)
        database.book(TEN - 2, service_id="suite", resource_id=room)
    add_crowd(database, CROWD)
    database.rows("UPDATE booking.businesses SET guest_retention_days = 36500")


def add_crowd(database: TestDatabase, number: int) -> None:
    """Inserts live holds and appointments in one slot, and expired holds that fill the slot of another service."""
    for service_id, expires_after in (("concert", "1 hour"), ("course", "-1 minute")):
        database.rows(
            """
            INSERT INTO booking.reservations (business_id, reservation_id, service_id, slot_start, slot_end, occupied,
              quantity, status, expires_at, ttl_clamped, version, last_operation_id, created_at)
            SELECT 'salon', gen_random_uuid(), %s, %s, %s, tstzrange(%s, %s), 1, 'held', booking.now() + %s::interval,
              false, 1, gen_random_uuid(), booking.now()
            FROM generate_series(1, %s)
            """,
            *(service_id, at(TEN), at(TEN + 1), at(TEN), at(TEN + 1), expires_after, number),
        )
    database.rows(
        """
        WITH booked AS (
          INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
            quantity, status, version, metadata, source, created_at, updated_at)
          SELECT 'salon', gen_random_uuid(), 'concert', %s, %s, tstzrange(%s, %s), 1, 'confirmed', 1, '{}', 'online',
            booking.now(), booking.now()
          FROM generate_series(1, %s)
          RETURNING *
        )
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at FROM booked
        """,
        *(at(TEN), at(TEN + 1), at(TEN), at(TEN + 1), number),
    )
    database.rows(
        "UPDATE booking.services s SET max_simultaneous_bookings = (SELECT count(*) FROM booking.reservations r "
        "WHERE r.service_id = 'course') WHERE service_id = 'course'"
    )
    database.rows(
        "UPDATE booking.services SET longest_occupied_seconds = 3600 WHERE service_id IN ('concert', 'course')"
    )
    database.recount()


def add_history(database: TestDatabase) -> None:
    """Inserts a guest's past appointments of three services, one of them with a resource, and as many past closures."""
    now = database.value("SELECT booking.now()")
    for service_id, resource_id in (("cut", None), ("limited", None), ("suite", ROOMS[0])):
        database.rows(
            """
            INSERT INTO booking.appointments (business_id, appointment_id, reservation_id, service_id, resource_id,
              slot_start, slot_end, occupied, quantity, status, version, guest_email, guest_phone, metadata, source,
              idempotency_key, fingerprint, created_at, updated_at)
            SELECT 'salon', gen_random_uuid(), gen_random_uuid(), %s, %s, at, at + interval '1 hour',
              tstzrange(at, at + interval '1 hour'), 1, 'confirmed', 1, 'regular@example.com', '+49301', '{}', 'online',
              gen_random_uuid(), 'this', at, at
            FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (SELECT %s - n * interval '1 hour' AS at) AS slot
            """,
            service_id,
            resource_id,
            ROWS,
            now,
        )
    database.rows(
        """
        INSERT INTO booking.closures (business_id, closure_id, resource_id, during)
        SELECT 'salon', 'c' || n, CASE WHEN n %% 2 = 0 THEN 'room-1' END, tstzrange(at, at + interval '1 hour')
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (SELECT %s - n * interval '1 hour' AS at) AS slot
        """,
        ROWS,
        now,
    )
    database.rows(
        """
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at
        FROM booking.appointments WHERE slot_start < booking.now()
        """
    )


def add_other_days(database: TestDatabase) -> None:
    """Inserts live holds of the service on later days, ten for each hour, each with a key."""
    database.rows(
        """
        INSERT INTO booking.reservations (business_id, reservation_id, service_id, slot_start, slot_end, occupied,
          quantity, status, expires_at, ttl_clamped, version, idempotency_key, fingerprint, last_operation_id,
          created_at, client_address_hmac, client_id_hmac)
        SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'), 1,
          'held', booking.now() + interval '1 hour', false, 1, 'key ' || n, 'this', gen_random_uuid(), booking.now(),
          'address ' || n %% 100, 'id ' || n %% 100
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (SELECT %s + n / 10 * interval '1 hour' AS at) AS slot
        """,
        ROWS,
        at(24),
    )


def add_other_resources(database: TestDatabase) -> None:
    """Inserts a thousand resources of other services, each with opening hours and a future closure."""
    database.rows(
        "INSERT INTO booking.resources (business_id, resource_id, name, kind, booking_enabled, created_at) "
        "SELECT 'salon', 'r' || n, 'r' || n, 'room', true, booking.now() FROM generate_series(1, 1000) AS n"
    )
    database.rows(
        "INSERT INTO booking.opening_hours (business_id, position, resource_id, weekday, opens, closes) "
        "SELECT 'salon', 100 + n, 'r' || n, 1, '09:00', '17:00' FROM generate_series(1, 1000) AS n"
    )
    database.rows(
        "INSERT INTO booking.closures (business_id, closure_id, resource_id, during) "
        "SELECT 'salon', 'r' || n, 'r' || n, tstzrange(%s, %s) FROM generate_series(1, 1000) AS n",
        at(24 * 60),
        at(24 * 61),
    )


def add_other_slugs(database: TestDatabase) -> None:
    """Inserts the slugs of a thousand businesses."""
    database.rows("INSERT INTO booking.slugs SELECT 's' || n, 'b' || n FROM generate_series(1, 1000) AS n")


def grow(database: TestDatabase, situation: str) -> None:
    """Fills the tables; the planner has no statistics, those of the small tables, or current ones."""
    if situation == "analysed while tiny":
        database.rows("ANALYZE")
    add_history(database)
    add_other_days(database)
    add_other_resources(database)
    add_other_slugs(database)
    add_crowd(database, ROWS)
    if situation == "analysed":
        database.rows("VACUUM ANALYZE")


def check_bounds_of_slots(database: TestDatabase) -> None:
    """Checks that counts and expired holds of a window are read by a range of one index, bounded on both sides.

    The plans are those under the settings of the verbs and of the reads.
    """
    a_slot = ("business_id =", "service_id =", "starts <", "starts >")
    a_day_of_a_resource = ("business_id =", "resource_id >=", "resource_id <=", "starts <", "starts >")
    a_window = ("business_id =", "service_id =", "lower(occupied) >=", "lower(occupied) <=", "expires_at <=")
    expected = {
        "service_windows": ("occupancy_pkey", a_slot),
        "resource_windows": ("idx_occupancy_resource", a_day_of_a_resource),
        "expired_quantity": ("idx_reservations_window", a_window),
    }
    for function, (index, bounds) in expected.items():
        query = body_of(database, function)
        for caller in ("execute", "availability", "capacity"):
            scans = [
                node
                for node in plan_nodes(plan_of(database, query, caller))
                if {"Relation Name", "Index Name"} & node.keys()
            ]
            assert [scan.get("Index Name") for scan in scans] == [index], (function, caller)
            for bound in bounds:
                assert bound in scans[0]["Index Cond"], (function, caller)


def body_of(database: TestDatabase, function: str) -> str:
    """Returns the query of an SQL function, with its parameters numbered and typed."""
    [(body, names, types)] = database.rows(
        "SELECT prosrc, proargnames, ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) AS t) "
        "FROM pg_proc WHERE pronamespace = 'booking'::regnamespace AND proname = %s",
        function,
    )
    query: str = body
    # The names of the result columns come after the names of the parameters.
    for number, (name, parameter_type) in enumerate(zip(names, types, strict=False), 1):
        query = re.sub(rf"\b{name}\b", f"(${number}::{parameter_type})", query)
    return query


def plan_of(database: TestDatabase, query: str, caller: str) -> dict[str, Any]:
    """Returns the plan of a query under the settings of a granted function."""
    query = f"EXPLAIN (FORMAT json, GENERIC_PLAN) {query}"
    settings = database.value("SELECT proconfig FROM pg_proc WHERE oid = %s::regproc", f"booking.{caller}")
    with database.admin.transaction():
        for name, value in (setting.split("=", 1) for setting in settings):
            database.rows("SELECT set_config(%s, %s, true)", name, value)
        [(explained,)] = database.admin.execute(query.encode()).fetchall()
    plan: dict[str, Any] = explained[0]["Plan"]
    return plan


def plan_nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns all nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in plan_nodes(child))]


@SITUATIONS
def test_the_rows_and_blocks_that_a_call_reads_do_not_grow(database: TestDatabase, situation: str) -> None:
    """Past appointments, claims on other days, claims of the same slot and other resources add no cost to any call.

    This holds for statements planned before these rows existed, and for statements planned afterwards. The ranges of
    the indexes are bounded on both sides, which the number of rows read can't show of a range that happens to be empty.
    """
    prepare(database)
    calls = {f"{name} of {size}": call for size in (1, 2) for name, call in calls_with(database, size).items()}
    before = {name: reads_of(database, call) for name, call in calls.items()}
    grow(database, situation)
    for plans in ("made before", "made anew"):
        if plans == "made anew":
            database.rows("DISCARD PLANS")
        for name, call in calls.items():
            after = reads_of(database, call)
            # The rolled-back measurements left some dead entries in the indexes.
            assert after.rows <= before[name].rows + 100, (name, plans)
            # A larger index is one or two levels deeper, which costs some blocks more for each look-up.
            assert after.blocks <= 3 * before[name].blocks + 10, (name, plans)
            assert after.indexes <= ONE_ROW | A_FEW_ROWS | SLOT | RESOURCE | OF_CLIENT | DUE | CHECKED, (name, plans)
            assert after.whole_tables == set(), (name, plans)
    check_bounds_of_slots(database)


def test_the_pools_of_the_public_catalogue_are_joined_at_once(database: TestDatabase) -> None:
    """Without statistics, PostgreSQL would compare each place in a pool with each resource."""
    database.make_service(resource_ids=ROOMS)
    plan = plan_of(database, body_of(database, "public_catalogue"), "public_catalogue")
    kinds = {node["Node Type"] for node in plan_nodes(plan)}
    assert "Nested Loop" not in kinds
    assert kinds & {"Hash Join", "Merge Join"}


def test_no_plan_of_a_call_is_compiled(database: TestDatabase) -> None:
    """Up to PostgreSQL 17, a plan node that is disabled and can't be avoided has an estimated cost of 1e10.

    A plan of that cost is compiled at each execution: a second for a statement of milliseconds.
    """
    prepare(database)
    for size in (1, 2):
        for name, call in calls_with(database, size).items():
            assert compiled_in(database, call) == [], (name, size)


def calls_with(database: TestDatabase, size: int) -> dict[str, Callable[[], object]]:
    """Returns a call of each kind with a number of requests, and makes the claims that the calls need."""
    now = database.freeze_clock()
    expired = [database.reserve(TEN, ttl_minutes=1).id for _ in range(size)]
    database.freeze_clock(now + timedelta(minutes=1))
    holds = [database.reserve(TEN + 2).id for _ in range(size)]
    resent = [keyed_request(f"{number} of {size}") for number in range(size)]
    booked = [outcome.id for outcome in database.call("reserve", resent)]
    database.call("commit", [commit_request(hold) for hold in booked])
    suites = [database.book(TEN + 3 + size + n, service_id="suite", resource_id=ROOMS[0]).id for n in range(size)]
    plain = [database.book(TEN + 3, guest_email="plain@example.com", guest_phone="+4930123456").id for _ in range(size)]
    popular = [database.reserve(TEN, service_id="concert").id for _ in range(size)]
    limited = [database.reserve(TEN, service_id="limited").id for _ in range(size)]
    regular: dict[str, Any] = {"guest_email": "regular@example.com", "guest_phone": "+49301"}
    concerts = [database.book(TEN, service_id="concert").id for _ in range(size)]
    booked_by_key = [book_request(TEN + 4, idempotency_key=f"b {n} of {size}", fingerprint="this") for n in range(size)]
    database.call("book", booked_by_key)

    def changes(ids: list[str], **request: Any) -> Callable[[], object]:
        return lambda: database.call("change", [change_request(appointment, **request) for appointment in ids])

    def erasure(member: str, value: str) -> Callable[[], object]:
        return lambda: erase_guest(database, limit=size, **{member: value})

    def page(since: datetime, after: Place = FIRST_PAGE) -> Callable[[], object]:
        return lambda: list_page(database, 5, after, since=since, until=at(24 * 365))

    client: dict[str, Any] = {"client_address_hmac": "address", "client_id_hmac": "id", "max_live_holds": 2}
    for _ in range(size):
        database.reserve(TEN, service_id="concert", **client)

    def call(verb: str, requests: list[dict[str, Any]]) -> Callable[[], object]:
        return lambda: database.call(verb, requests)

    return {
        "reserve": call("reserve", [keyed_request(f"new {number}") for number in range(size)]),
        "reserve any": call("reserve", [reserve_request(TEN, service_id="suite") for _ in range(size)]),
        "reserve by name": call(
            "reserve", [reserve_request(TEN, service_id="suite", resource_id=ROOMS[0]) for _ in range(size)]
        ),
        "too many holds": call("reserve", [reserve_request(TEN, **client) for _ in range(2 * size)]),
        "own holds": lambda: database.rows("SELECT booking.holds_of_client('salon', 'id')"),
        "named": lambda: database.rows("SELECT booking.businesses_named(%s)", ["salon", "hair", "nobody"][-size:]),
        "refused any": call("reserve", [reserve_request(TEN - 1, service_id="suite") for _ in range(size)]),
        "book": call("book", [book_request(TEN, idempotency_key=f"new {n}", fingerprint="f") for n in range(size)]),
        "book any": call("book", [book_request(TEN, service_id="suite") for _ in range(size)]),
        "booked before": call("book", [{**book, "operation_id": str(uuid4())} for book in booked_by_key]),
        "change": changes(suites, set={"notes": "by the window"}),
        "move": changes(plain, set={"slot_start": at(TEN).isoformat()}),
        "move any": changes(suites, set={"slot_start": at(TEN).isoformat(), "resource_id": None}),
        "cancel": changes(suites, action="cancel"),
        "erase": changes(suites, action="erase"),
        "erase a guest": erasure("guest_email", "plain@example.com"),
        "erase by phone": erasure("guest_phone", "+4930123456"),
        "first page": page(at(-24 * 3650)),
        "page of a day": page(at(0)),
        "next page": page(at(0), (at(TEN + 3), plain[0])),
        "holds": lambda: list_holds(database, 5, since=at(0), until=at(24 * 365)),
        "holds of a day": lambda: list_holds(database, 5, since=at(24), until=at(48)),
        "next holds": lambda: list_holds(database, 5, (at(TEN), now, uuid4()), since=at(0), until=at(24 * 365)),
        "one appointment": lambda: database.value("SELECT booking.appointment('salon', %s)", plain[0]),
        "its trail": lambda: database.rows("SELECT booking.audit_trail('salon', %s)", plain[0]),
        "its business": lambda: database.value("SELECT booking.business_of_appointment(%s)", plain[0]),
        "refused": call("reserve", [reserve_request(TEN, quantity=CAPACITY) for _ in range(size)]),
        "replayed": call("reserve", [keyed_request(f"{number} of {size}") for number in range(size)]),
        "sent again": call("reserve", resent),
        "commit": call("commit", [commit_request(hold) for hold in holds]),
        "commit of a guest": call("commit", [commit_request(hold, **regular) for hold in limited]),
        "book of a guest": call("book", [book_request(TEN, service_id="limited", **regular) for _ in range(size)]),
        "committed before": call("commit", [commit_request(hold) for hold in booked]),
        "reserve popular": call("reserve", [reserve_request(TEN, service_id="concert") for _ in range(size)]),
        "book popular": call("book", [book_request(TEN, service_id="concert") for _ in range(size)]),
        "overlap popular": call("reserve", [reserve_request(TEN + 0.5, service_id="concert") for _ in range(size)]),
        "refused popular": call(
            "reserve", [reserve_request(TEN, service_id="concert", quantity=10 * ROWS) for _ in range(size)]
        ),
        "commit popular": call("commit", [commit_request(hold) for hold in popular]),
        "extend popular": call("extend", [extend_request(hold) for hold in popular]),
        "release popular": call("release", [release_request(hold) for hold in popular]),
        "cancel popular": changes(concerts, action="cancel"),
        "reserve expired": call("reserve", [reserve_request(TEN, service_id="course") for _ in range(size)]),
        "book expired": call("book", [book_request(TEN, service_id="course") for _ in range(size)]),
        "listed popular": lambda: availability(database, at(TEN - 2), at(TEN + 2), service_id="concert"),
        "rebook": call("commit", [commit_request(hold, if_expired="rebook") for hold in expired]),
        "extend": call("extend", [extend_request(hold) for hold in holds]),
        "release": call("release", [release_request(hold) for hold in holds]),
        "purge": lambda: database.purge(limit=10),
        "capacity": lambda: database.capacity(TEN),
        "reservation": lambda: database.value("SELECT booking.reservation('salon', %s)", holds[0]),
        "business": lambda: database.value("SELECT booking.business_of_reservation(%s)", holds[0]),
    }
