"""Every granted function, called with hostile arguments by the service's role: what a stolen login can do.

No call changes a row of another business, breaks an invariant, or changes an appointment without its version and audit
row, and each error is one that undoes the call and that the service knows. The functions come from the catalog of
PostgreSQL, and a new one needs arguments here.
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import (
    NO_DEADLINE,
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)

Snapshot = dict[str, Any]

# The classes of SQLSTATE that hostile arguments may cause: data exceptions, constraints, limits of PostgreSQL, timeouts
# and the functions' own. Among the others are internal errors (XX), faulty SQL (42) and plpgsql's own (P0).
EXPECTED_CLASSES: Final = {"21", "22", "23", "40", "54", "55", "57", "HF"}

HUGE: Final = "x" * 5000
# Values of every kind for a member of a JSON object; the objects of other businesses come on top.
MEMBERS: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1.5, 2**31 - 1, 10**30, "", "x", HUGE, "-infinity", "infinity", "NaN", "99999-01-01"),
    *([], [None], [[]], list(range(2000)), {}, {"x": {"y": None}}, "clinic", "2030-01-01T00:00:00Z"),
)
# Members that no request has, by the names of columns that callers must not reach.
UNKNOWN: Final[dict[str, Any]] = {
    "business_id": "clinic",
    "appointment_id": str(uuid4()),
    "version": 99,
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
    "archived_at": "2020-01-01T00:00:00Z",
    "ended_at": "infinity",
    "last_assigned_at": "infinity",
    "is_exclusive": False,
    "in_session": True,
    "occupied": "empty",
    "longest_occupied_seconds": -1,
    "position": -1,
    "calendar_generation": "1",
    "fingerprint": "x",
    "sha256": "x",
}
# By the type of a parameter.
ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "text": (None, "", "x", HUGE, "nobody", "'; DROP TABLE booking.services; --"),
    "text[]": (None, [], [None], ["nobody"], ["salon", "salon"], ["salon"] * 500, [HUGE], [["salon"], ["nobody"]]),
    "uuid": (None, str(uuid4())),
    "integer": (None, -1, 0, 1, 2**31 - 1, -(2**31)),
    "boolean": (None, True, False),
    "interval": (None, "0", "-100 years", "100000 years"),
    "date": (None, "infinity", "-infinity", "0001-01-01", "2030-01-01", "5874897-12-31"),
    "timestamp with time zone": (None, "infinity", "-infinity", "0001-01-01", "2030-01-01", "294276-12-31"),
    "bytea": (None, b"", b"x" * 32, b"x" * 100_000),
}
# By the name of a parameter: an argument that does no harm, so that the others are looked at.
USUAL: Final[dict[str, Any]] = {
    "p_business_id": "salon",
    "p_business_ids": ["salon"],
    "p_service_id": "cut",
    "p_resource_id": "anna",
    "p_deadline": NO_DEADLINE,
    "p_limit": 10,
    "p_quantity": 1,
    "p_key_id": "desk",
    "p_key_ids": ["desk"],
    "p_name": "Desk",
    "p_role": "staff",
    "p_sha256": b"x" * 32,
    "p_closure_id": "c",
    "p_special_hours_id": "s",
    "p_from": at(0),
    "p_to": at(24),
    "p_slot_start": at(10),
    "p_slot_end": at(11),
    "p_retention": "1 day",
    "p_run_id": str(uuid4()),
    "p_started_at": at(0),
    "p_overlapping": False,
}
HOURS: Final = {"weekday": 1, "opens": "09:00", "closes": "17:00", "resource_id": "anna"}
# By the name of the function: a complete JSON argument, whose members are then replaced.
DOCUMENTS: Final[dict[str, Any]] = {
    "put_business": {"name": "Salon", "slug": None, "timezone": "Europe/Berlin", "country": "DE", "feed_past_days": 1},
    "put_service": {
        "name": "Cut",
        "max_simultaneous_bookings": 2,
        "duration_minutes": 60,
        "hold_ttl_minutes": 15,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "min_notice_minutes": 0,
        "max_advance_days": 3660,
        "cancellation_window_minutes": 0,
        "booking_enabled": True,
        "resource_ids": ["anna", "bert"],
        "start_times": ["09:00"],
        "end_time": None,
        "metadata": {"x": 1},
        "resource_sharing": "exclusive",
    },
    "put_resource": {"name": "Anna", "kind": "staff", "booking_enabled": True, "seats": 1, "metadata": None},
    "put_opening_hours": [HOURS],
    "put_special_hours": {
        "date": "2030-12-24",
        "until": "2030-12-25",
        "hours": [{"opens": "09:00", "closes": "12:00"}],
    },
    "put_closure": {"from": at(30).isoformat(), "to": at(31).isoformat(), "resource_id": "anna", "reason": "r"},
    "erase_guest": {"actor_kind": "owner", "actor_id": "desk", "request_id": "r"},
}
DOCUMENTS["put_document"] = {
    **DOCUMENTS["put_business"],
    "resources": dict.fromkeys(("anna", "bert"), DOCUMENTS["put_resource"]),
    "services": {"cut": DOCUMENTS["put_service"]},
    "opening_hours": DOCUMENTS["put_opening_hours"],
    "special_hours": {"s": DOCUMENTS["put_special_hours"]},
    "closures": {"c": DOCUMENTS["put_closure"]},
}
GUEST: Final[dict[str, Any]] = {
    "guest_name": "Eve",
    "guest_phone": "+49301",
    "notes": "n",
    "request_id": "r",
    "actor_id": "a",
}
CLIENT: Final[dict[str, Any]] = {
    "client_address_hmac": "a",
    "client_id_hmac": "i",
    "max_live_holds": 9,
    "max_daily_bookings": 9,
}


@pytest.fixture
def town(database: TestDatabase) -> TestDatabase:
    """Makes two businesses with holds, appointments, hours and keys each."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, resource_ids=["anna", "bert"])
        database.make_service("class", business_id=business_id, capacity=100_000)
        database.put_closure("c", at(30), at(31), business_id=business_id)
        database.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)], business_id=business_id)
        key = "SELECT booking.create_key(%s, 'desk', 'Desk', 'owner', sha256('x'), NULL, 'infinity')"
        database.rows(key, business_id)
        for hour in (8, 12):
            request = {"service_id": "class", "business_id": business_id, **CLIENT}
            database.commit(database.reserve(hour, **request).id, business_id=business_id, guest_name="Ada")
            database.reserve(hour, **request)
            database.book(hour, manual=True, business_id=business_id)
    return database


class Login:
    """The service's login, which calls functions and notes their SQLSTATEs."""

    def __init__(self, database: TestDatabase) -> None:
        self.sqlstates: set[str] = set()
        self.calls = 0
        self._connection = database.connect()
        # Reads of huge ranges are cut short, as the service does it.
        self._connection.execute("SET statement_timeout = '150ms'")

    def call(self, function: str, arguments: list[Any]) -> None:
        """Calls a function. An error must be of a class that the arguments explain."""
        self.calls += 1
        text = f"SELECT * FROM booking.{function}({', '.join(['%s'] * len(arguments))})"  # noqa: S608 — names of functions
        sqlstate = None
        try:
            self._connection.execute(text.encode(), arguments).fetchall()
        except psycopg.Error as error:
            sqlstate, message = error.sqlstate or "none", str(error)
        if sqlstate:
            assert sqlstate[:2] in EXPECTED_CLASSES, (function, arguments, sqlstate, message)
            self.sqlstates.add(sqlstate)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@pytest.fixture
def login(town: TestDatabase) -> Iterator[Login]:
    """Connects with the service's rights."""
    login = Login(town)
    yield login
    login.close()


def rows_of_the_clinic(database: TestDatabase) -> Snapshot:
    """Returns a digest of the clinic's rows, by table."""
    tables = database.rows(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'booking' AND column_name = "
        "'business_id' AND table_name IN (SELECT relname FROM pg_class WHERE relkind = 'r')"
    )
    digest = (
        "SELECT '{0}', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM booking.{0} t WHERE business_id = 'clinic'"
    )
    return dict(database.rows(" UNION ALL ".join(digest.format(table) for (table,) in tables)))


def appointments(database: TestDatabase) -> Snapshot:
    """Returns the version and a digest of each appointment of the salon."""
    rows = database.rows(
        "SELECT appointment_id, version, md5(a::text) FROM booking.appointments a WHERE business_id = 'salon'"
    )
    return {str(appointment_id): (version, digest) for appointment_id, version, digest in rows}


def check_nothing_is_broken(database: TestDatabase, clinic: Snapshot, before: Snapshot, call: object) -> None:
    """Compares the rows with those before the calls. The audit trail itself is compared by an invariant."""
    assert rows_of_the_clinic(database) == clinic, call
    assert database.violations() == {}, call
    after = appointments(database)
    assert before.keys() <= after.keys(), call
    for appointment_id, (version, digest) in before.items():
        assert after[appointment_id][0] > version or after[appointment_id] == (version, digest), call


def mutations(document: Any) -> Iterator[Any]:
    """Yields variants of a JSON object, or of the object in a list: another value for each member, and unknown ones."""
    if isinstance(document, list):
        yield from ([variant] for variant in mutations(document[0]))
        yield from ([], document * 3, [None], [1], {"items": document})
        return
    for member in document:
        yield {name: value for name, value in document.items() if name != member}
        yield from ({**document, member: value} for value in MEMBERS)
    yield {**UNKNOWN, **document}
    yield {**document, **UNKNOWN}
    yield {}


def granted(database: TestDatabase) -> list[tuple[str, list[str], list[str]]]:
    """Returns the name of each granted function, with the names and types of its parameters."""
    return database.rows(
        """
        SELECT p.proname::text, (coalesce(p.proargnames, '{}'))[1:p.pronargs]::text[],
               ARRAY(SELECT format_type(type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS t (type, place)
                     ORDER BY place)
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname IN ('sql', 'plpgsql')
        WHERE p.pronamespace = 'booking'::regnamespace AND has_function_privilege('holdfast_test', p.oid, 'EXECUTE')
        ORDER BY 1
        """
    )


def foreign_ids(database: TestDatabase) -> list[str]:
    """Returns the ids of an appointment and of a live hold of the clinic."""
    return [
        str(database.value(f"SELECT {name}_id FROM booking.{name}s WHERE business_id = 'clinic' {which} LIMIT 1"))  # noqa: S608 — constants
        for name, which in (("appointment", ""), ("reservation", "AND status = 'held'"))
    ]


def arguments_of(function: str, names: list[str], types: list[str], ids: list[str]) -> Iterator[list[Any]]:
    """Yields lists of arguments for a function: each parameter with each hostile value, then JSON documents."""
    usual: list[Any] = []
    for name, kind in zip(names, types, strict=True):
        if kind in ("jsonb", "jsonb[]"):
            usual.append(Jsonb(DOCUMENTS[function]) if kind == "jsonb" else [])
        else:
            usual.append(USUAL.get(name, ids[0] if kind == "uuid" else ARGUMENTS[kind][0]))
    yield usual
    yield [None] * len(usual)
    for place, kind in enumerate(types):
        values: list[Any] = [*ARGUMENTS.get(kind, ()), *(ids if kind == "uuid" else ())]
        if kind == "jsonb":
            variants = list(mutations(DOCUMENTS[function]))
            # The list of time zones takes 40 ms to read.
            variants = variants[::6] if function == "put_business" else variants
            values = [None, *map(Jsonb, (None, 1, "x", [], {}, [[1]], *variants))]
        for value in values:
            yield [*usual[:place], value, *usual[place + 1 :]]


def test_no_granted_function_does_harm(town: TestDatabase, login: Login) -> None:
    """Each function of the grants is called, with each of its parameters hostile in turn. See below for the verbs."""
    functions = [entry for entry in granted(town) if entry[0] != "execute"]
    assert len(functions) > 45
    clinic, ids = rows_of_the_clinic(town), foreign_ids(town)
    for function, names, types in functions:
        before = appointments(town)
        for arguments in arguments_of(function, names, types, ids):
            login.call(function, arguments)
        check_nothing_is_broken(town, clinic, before, function)
    assert login.calls > 1000
    assert {sqlstate[:2] for sqlstate in login.sqlstates} >= {"22", "23"}


def hold(database: TestDatabase) -> str:
    """Makes a hold in the salon, and returns its id."""
    return database.reserve(9, service_id="class").id


def requests_of(database: TestDatabase) -> dict[str, dict[str, Any]]:
    """Returns a complete request of each verb, for the salon."""
    held = hold(database)
    booked = database.book(14, manual=True, resource_id="anna").id
    changes = {"slot_start": at(15).isoformat(), "slot_end": at(16).isoformat(), "resource_id": "bert", "quantity": 1}
    more = {"status": "confirmed", "guest_email": "eve@example.com", "metadata": {"x": 1}}
    slot = {"service_id": "class", "idempotency_key": "k", "fingerprint": "f", "resource_id": None, **CLIENT}
    return {
        "reserve": reserve_request(10, ttl_minutes=5, **slot),
        "book": book_request(10, guest_fault=None, manual=True, **slot, **GUEST),
        "commit": commit_request(held, expected_version=1, if_expired="rebook", client_id_hmac="i", **GUEST),
        "extend": extend_request(held, 20, expected_version=1),
        "release": release_request(held),
        "change": change_request(booked, expected_version=None, reason="r", set={**changes, **more, **GUEST}),
    }


def verbs(database: TestDatabase) -> set[str]:
    """Returns the verbs that booking.execute runs, by its text."""
    return set(re.findall(r"batch \? '(\w+)'", database.value("SELECT prosrc FROM pg_proc WHERE proname = 'execute'")))


VERBS: Final = ("reserve", "book", "commit", "extend", "release", "change")


def test_all_verbs_are_called(database: TestDatabase) -> None:
    """The list of the test below is complete."""
    assert verbs(database) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_does_harm(town: TestDatabase, login: Login, verb: str) -> None:
    """Each verb is called with each member of its request hostile in turn, and with the ids of another business."""
    request = requests_of(town)[verb]
    clinic, ids, before = rows_of_the_clinic(town), foreign_ids(town), appointments(town)

    def send(*requests: Any, business_ids: Any = ("salon",)) -> None:
        login.call("execute", [list(business_ids), [Jsonb({verb: list(requests)})], NO_DEADLINE])

    variants = list(mutations(request))
    if verb == "change":
        variants += [{**request, "set": variant} for variant in mutations(request["set"])]
        variants += [{**request, "action": action} for action in ("cancel", "erase", "drop")]
    variants += [{**request, f"{name}_id": value} for name in ("appointment", "reservation") for value in ids]
    for variant in variants:
        # With ids of its own, unless they are what is hostile: else all but the first would be repetitions.
        own = {"operation_id": str(uuid4()), "idempotency_key": str(uuid4())}
        if "reservation_id" in request:
            own["reservation_id"] = hold(town)
        send({**variant, **{name: own[name] for name in own if name in request and variant.get(name) == request[name]}})
    check_nothing_is_broken(town, clinic, before, verb)

    before = appointments(town)
    many = [{**request, "operation_id": str(uuid4()), "idempotency_key": None} for _ in range(50)]
    send(*many)
    send(*[request] * 3)
    send(*many[:2], business_ids=[None])
    send(*many[:2], business_ids=["salon", "salon"])
    send(*many[:2], business_ids=[])
    batches: tuple[Any, ...] = (None, 1, [], {verb: {}}, {verb: 1}, {verb: [1, [], "x", None]}, {"other": [request]})
    for batch in batches:
        login.call("execute", [["salon"], [Jsonb(batch)], NO_DEADLINE])
    check_nothing_is_broken(town, clinic, before, verb)


def test_no_relation_is_open_to_the_login(database: TestDatabase) -> None:
    """The login has no right on any table, view or column, and can create nothing in the schema."""
    open_relations = database.rows(
        "SELECT c.relname, privilege FROM pg_class c "
        "CROSS JOIN unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege "
        "WHERE c.relnamespace = 'booking'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p') AND "
        "(has_any_column_privilege('holdfast_test', c.oid, privilege) "
        " OR has_table_privilege('holdfast_test', c.oid, 'DELETE, TRUNCATE, TRIGGER'))"
    )
    assert open_relations == []
    assert not database.value("SELECT has_schema_privilege('holdfast_test', 'booking', 'CREATE')")
    assert not database.value("SELECT has_database_privilege('holdfast_test', current_database(), 'CREATE')")


# By table: the columns that its put sets, which its header names.
SETTINGS: Final = {
    "businesses": "name slug timezone country feed_past_days guest_retention_days description metadata",
    "resources": "name kind booking_enabled seats description metadata",
    "services": (
        "name max_simultaneous_bookings duration_minutes min_duration_minutes max_duration_minutes duration_days "
        "min_duration_days max_duration_days start_times end_time starts_on_grid hours_apply hold_ttl_minutes "
        "max_hold_ttl_minutes max_hold_lifetime_minutes slot_step_minutes buffer_before_minutes buffer_after_minutes "
        "min_notice_minutes max_advance_days cancellation_window_minutes reschedule_window_minutes "
        "max_upcoming_per_guest booking_enabled resource_sharing description metadata"
    ),
}
OTHER_VALUES: Final = {"text": "other", "timestamp with time zone": "2020-01-01T00:00:00Z", "bigint": 7}


@pytest.mark.parametrize(
    ("put", "table"), [("put_service", "services"), ("put_resource", "resources"), ("put_business", "businesses")]
)
def test_a_put_sets_no_column_that_it_does_not_name(database: TestDatabase, put: str, table: str) -> None:
    """Members by the names of all other columns have no effect, whether the entry is new or known."""
    database.freeze_clock(at(0))
    database.make_business()
    columns = database.rows(
        "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        f"booking.{table}",
    )
    internal = {name: OTHER_VALUES[kind] for name, kind in columns if name not in SETTINGS[table].split()}
    assert "business_id" in internal
    place = ["salon"] if table == "businesses" else ["salon", "new"]
    document = DOCUMENTS[put] | ({"resource_ids": []} if put == "put_service" else {})
    rows = []
    for members in (document, {**document, **internal}):
        if table != "businesses":
            database.rows(f"DELETE FROM booking.{table}")  # noqa: S608 — a constant
        for _ in range(2):
            database.rows(f"SELECT booking.{put}({'%s, ' * len(place)} %s, 'infinity')", *place, Jsonb(members))
            stored = database.value(f"SELECT to_jsonb(t) - 'calendar_generation' FROM booking.{table} t")  # noqa: S608 — a constant
            assert "other" not in database.value(f"SELECT t::text FROM booking.{table} t")  # noqa: S608 — a constant
            rows.append(stored)
    assert rows == rows[:1] * 4
