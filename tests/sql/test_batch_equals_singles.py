"""One call with requests of all verbs has the effect of its requests one by one: equal outcomes, equal stored state."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import event
from hypothesis import strategies as st

from tests.database import Outcome, TestDatabase, at
from tests.sql.catalog import delete_resource, put_seats
from tests.sql.one_by_one import Batch, OneByOne, Request, execute, execute_all
from tests.sql.random_examples import random_examples

# Resources have distinct seats, so that the order in which they are tried never depends on the work of the day.
SEATS = {"small": 1, "middle": 2, "large": 4}
SERVICES: dict[str, dict[str, Any]] = {
    "cut": {"capacity": 2},
    "wash": {
        "capacity": 5,
        "buffer_before_minutes": 10,
        "buffer_after_minutes": 20,
        "cancellation_window_minutes": 120,
    },
    "table": {"resource_ids": [*SEATS], "max_simultaneous_bookings": None},
    "pair": {"resource_ids": ["small", "middle"], "capacity": 2},
    "yoga": {"resource_ids": ["middle", "large"], "resource_sharing": "session", "max_simultaneous_bookings": None},
    "swim": {"resource_ids": ["large"], "resource_sharing": "session", "capacity": 3, "buffer_after_minutes": 15},
}
# Two pairs of equal businesses: the left one gets a single call, the right one gets the requests one by one.
PAIRS = {"alpha": "alpha-1", "beta": "beta-1"}
# Changes of the catalog between requests: other seats, none (the resource is deleted), or other settings of a service.
CATALOG: list[tuple[str, int | dict[str, Any]]] = [
    ("middle", 0),
    ("large", 0),
    ("large", 3),
    ("large", 8),
    ("yoga", {"resource_sharing": "exclusive"}),
    ("table", {"resource_sharing": "session"}),
    ("pair", {"resource_ids": ["middle"]}),
    ("swim", {"resource_ids": [], "capacity": 3}),
    ("cut", {"resource_ids": ["small", "large"], "max_simultaneous_bookings": None}),
]

HALF_HOURS = st.sampled_from([-1, 1, 2, 2, 2, 3, 4, 4, 6])
SLOTS = st.tuples(HALF_HOURS, st.sampled_from([1, 2, 2, 2, 3, 4]))
QUANTITIES = st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4, 5])
# The index of the requested resource in the pool, or none.
NAMED = st.sampled_from([None] * 6 + [0, 1, 2])
VERSIONS = st.sampled_from([None] * 8 + [1, 2])
NUMBERS = st.integers(min_value=0, max_value=30)


@st.composite
def claims(draw: st.DrawFn) -> Request:
    """Draws the service, slot and quantity of a request, without its ids."""
    half, length = draw(SLOTS)
    return {
        "service": draw(NUMBERS),
        "slot_start": at(half / 2).isoformat(),
        "slot_end": at((half + length) / 2).isoformat(),
        "quantity": draw(QUANTITIES),
        "resource": draw(NAMED),
    }


@st.composite
def reserves(draw: st.DrawFn) -> Request:
    """Draws a request to hold, often with a key that another request uses too."""
    drawn = {**draw(claims()), "ttl_minutes": draw(st.sampled_from([5, 5, 30, 60]))}
    key = draw(st.sampled_from([None, None, None, "k", "l"]))
    return {**drawn, "idempotency_key": key, "fingerprint": repr(drawn)} if key else drawn


@st.composite
def books(draw: st.DrawFn) -> Request:
    """Draws a request to book on behalf of the business, which may also book the past."""
    drawn = {
        **draw(claims()),
        "manual": True,
        "guest_email": "guest@example.com",
        "metadata": {},
        "source": "manual",
        "actor_kind": "staff",
    }
    key = draw(st.sampled_from([None, None, None, "m", "n"]))
    return {**drawn, "idempotency_key": key, "fingerprint": repr(drawn)} if key else drawn


@st.composite
def commits(draw: st.DrawFn) -> Request:
    """Draws a commit of the nth hold, often with if_expired = 'rebook'."""
    return {
        "nth": draw(NUMBERS),
        "guest_email": "guest@example.com",
        "metadata": {},
        "source": "online",
        "actor_kind": "guest",
        "expected_version": draw(VERSIONS),
        "if_expired": draw(st.sampled_from([None, "rebook", "rebook", "rebook"])),
    }


@st.composite
def changes(draw: st.DrawFn) -> Request:
    """Draws a change of the nth appointment: an edit, a cancel, a move, another quantity or resource."""
    half, length = draw(SLOTS)
    start, end = {"slot_start": at(half / 2).isoformat()}, {"slot_end": at((half + length) / 2).isoformat()}
    members: dict[str, Any] = {}
    for part in draw(
        st.lists(st.sampled_from([start, start, {**start, **end}, "quantity", "resource", "notes"]), max_size=2)
    ):
        if part == "quantity":
            members["quantity"] = draw(QUANTITIES)
        elif part == "resource":
            members["resource_id"] = draw(st.sampled_from([None, *SEATS]))
        elif part == "notes":
            members["notes"] = draw(st.sampled_from(["late", "early"]))
        else:
            members |= part  # type: ignore[arg-type]
    ending = draw(st.sampled_from([None] * 5 + ["cancel", "cancel", "completed"]))
    if ending == "completed":
        members = {"status": "completed"}
    change = {"action": "cancel"} if ending == "cancel" else {"action": "change", "set": members}
    return {
        "nth": draw(NUMBERS),
        "actor_kind": draw(st.sampled_from(["staff", "guest"])),
        "expected_version": draw(VERSIONS),
        **change,
    }


@st.composite
def extends(draw: st.DrawFn) -> Request:
    """Draws an extend of the nth hold."""
    return {
        "nth": draw(NUMBERS),
        "ttl_minutes": draw(st.sampled_from([1, 20, 60])),
        "expected_version": draw(VERSIONS),
    }


releases = st.fixed_dictionaries({"nth": NUMBERS})
MAKERS: dict[str, st.SearchStrategy[Request]] = {
    "release": releases,
    "commit": commits(),
    "extend": extends(),
    "change": changes(),
    "book": books(),
    "reserve": reserves(),
}
# The steps of a history: mostly holds and bookings, some of the other verbs, and waiting.
STEPS = st.one_of(
    *[st.tuples(st.just(verb), MAKERS[verb]) for verb in ("reserve", "reserve", "book", "book", "commit", "change")],
    st.tuples(st.just("wait"), st.sampled_from([1, 6, 20])),
    st.tuples(st.just("catalog"), st.sampled_from(CATALOG)),
)
MIXES = st.lists(
    st.one_of(*[st.tuples(st.just(verb), maker) for verb, maker in MAKERS.items()]), min_size=2, max_size=24
)


class Twins:
    """Completes drawn requests so that both businesses of a pair get the same ids."""

    def __init__(self, services: list[str]) -> None:
        self._services = services
        self._made = 0
        self.holds: list[str] = []
        self.appointments: list[str] = []

    def complete(self, verb: str, drawn: Request) -> Request | None:
        """Returns a request with its ids, or None if no hold or appointment exists yet that it could refer to."""
        self._made += 1
        operation_id = str(UUID(int=self._made))
        request = {name: value for name, value in drawn.items() if value is not None}
        if "service" in drawn:
            request["service_id"] = self._services[request.pop("service") % len(self._services)]
            named = SERVICES[request["service_id"]].get("resource_ids", [])[request.pop("resource", 9) :]
            request |= {"resource_id": named[0]} if named else {}
        known = {"reserve": None, "book": None, "change": self.appointments}.get(verb, self.holds)
        if known is not None:
            if not known:
                return None
            name = "appointment_id" if verb == "change" else "reservation_id"
            request[name] = known[request.pop("nth") % len(known)]
        return {**request, "operation_id": operation_id}

    def remember(self, verb: str, request: Request) -> None:
        """Remembers the hold or appointment that a request may make, for later requests."""
        if verb == "reserve":
            self.holds.append(request["operation_id"])
        elif verb in ("book", "commit"):
            self.appointments.append(request["operation_id"])


@pytest.fixture
def twins(database: TestDatabase) -> TestDatabase:
    """Makes two pairs of equal businesses."""
    for business_id in (*PAIRS, *PAIRS.values()):
        database.make_business(business_id)
    return database


def reset(database: TestDatabase) -> datetime:
    """Deletes the claims of the previous example, restores the catalog, and freezes the clock."""
    database.forget_claims()
    for business_id in (*PAIRS, *PAIRS.values()):
        for resource_id, seats in SEATS.items():
            database.make_resource(resource_id, business_id=business_id, seats=seats)
        for service_id, service in SERVICES.items():
            assert database.put_service(service_id, business_id=business_id, **service).name in ("created", "done")
    for table in ("services", "resources"):
        database.rows(f"UPDATE booking.{table} SET longest_occupied_seconds = 0")  # noqa: S608
    return database.freeze_clock(at(0))


def change_catalog(database: TestDatabase, name: str, setting: int | dict[str, Any]) -> None:
    """Changes a resource or a service of all businesses; a refusal must be the same in all of them."""
    outcomes: list[str] = []
    for business_id in (*PAIRS, *PAIRS.values()):
        if isinstance(setting, dict):
            outcome = database.put_service(name, business_id=business_id, **{**SERVICES[name], **setting}).name
        elif setting == 0:
            outcome = delete_resource(database, name, business_id=business_id).name
        else:
            outcome = put_seats(database, name, setting, business_id=business_id).name
        outcomes.append(outcome)
    event(f"catalog: {outcomes[0]}")
    assert set(outcomes) == {outcomes[0]}


def set_rounds(database: TestDatabase, rounds: int) -> None:
    """Sets the number of rounds of a call; requests that need more are deferred."""
    # Replacing the function, even by an equal one, makes PostgreSQL plan the statements that call it again.
    if database.value("SELECT booking.max_rounds()") != rounds:
        database.rows(
            "CREATE OR REPLACE FUNCTION booking.max_rounds() RETURNS integer LANGUAGE sql IMMUTABLE "
            f"AS 'SELECT {rounds}'"
        )


def comparable(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Returns an outcome without the business, and without the version of an expired hold, which may be ended later. A
    call that frees more than the slots of its claims says so with each of them."""
    differing = {"business_id", "frees_more"} | ({"version"} if outcome.body.get("status") == "expired" else set())
    return outcome.name, {name: value for name, value in outcome.body.items() if name not in differing}


def stored_state(database: TestDatabase, business_id: str) -> dict[str, list[Any]]:
    """Returns the stored rows of a business, without the columns that may differ between equal businesses."""
    queries = {
        "reservations": "SELECT to_jsonb(r) - ARRAY['business_id', 'status', 'version', 'ended_at'], now.status, "
        "CASE WHEN now.status <> 'expired' THEN version END FROM booking.reservations r CROSS JOIN LATERAL ("
        "SELECT booking.reservation_body(r, booking.now()) ->> 'status' AS status) AS now "
        "WHERE business_id = %s ORDER BY reservation_id",
        "appointments": "SELECT to_jsonb(a) - 'business_id' FROM booking.appointments a WHERE business_id = %s "
        "ORDER BY appointment_id",
        "audit logs": "SELECT to_jsonb(l) - 'business_id' FROM booking.audit_logs l WHERE business_id = %s "
        "ORDER BY audit_id",
        "claims": "SELECT service_id, resource_id, occupied, sum(quantity) FROM booking.claims WHERE business_id = %s "
        "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        "counts": "SELECT * FROM (SELECT service_id, resource_id, starts, ends, claimed - coalesce(("
        "SELECT sum(r.quantity) FROM booking.reservations r WHERE r.business_id = o.business_id "
        "AND r.service_id = o.service_id AND coalesce(r.resource_id, '') = o.resource_id AND r.status = 'held' "
        "AND r.occupied = tstzrange(o.starts, o.ends) AND r.expires_at <= booking.now()), 0) AS live "
        "FROM booking.occupancy o WHERE business_id = %s) AS w WHERE live > 0 ORDER BY 1, 2, 3, 4",
        "services": "SELECT service_id, longest_occupied_seconds FROM booking.services WHERE business_id = %s "
        "ORDER BY service_id",
        "resources": "SELECT resource_id, longest_occupied_seconds FROM booking.resources WHERE business_id = %s "
        "ORDER BY resource_id",
    }
    return {name: database.rows(query, business_id) for name, query in queries.items()}


@random_examples(
    120,
    services=st.lists(st.sampled_from([*SERVICES]), min_size=1, max_size=3, unique=True),
    history=st.lists(STEPS, min_size=8, max_size=20),
    mixes=st.tuples(MIXES, st.just([]) | MIXES),
    rounds=st.sampled_from([2, 16, 16]),
)
def test_a_call_has_the_effect_of_its_requests_one_by_one(
    twins: TestDatabase,
    services: list[str],
    history: list[tuple[str, Any]],
    mixes: tuple[list[tuple[str, Request]], ...],
    rounds: int,
) -> None:
    """Requests of all verbs for two businesses in one call, with repeated keys, and with enough or too few rounds."""
    database = twins
    now = reset(database)
    set_rounds(database, 16)
    requests_of_twins = Twins(services)
    for verb, drawn in history:
        if verb == "wait":
            now = database.freeze_clock(now + timedelta(minutes=drawn))
            continue
        if verb == "catalog":
            change_catalog(database, *drawn)
            continue
        request = requests_of_twins.complete(verb, drawn)
        if request is None:
            continue
        outcomes = [
            execute(database, {business_id: {verb: [request]}})[business_id, request["operation_id"]]
            for pair in PAIRS.items()
            for business_id in pair
        ]
        assert len({str(comparable(outcome)) for outcome in outcomes}) == 1
        if outcomes[0].name == "done":
            requests_of_twins.remember(verb, request)

    batches: dict[str, Batch] = {}
    for business_id, mix in zip(PAIRS, mixes, strict=True):
        # Commits are drawn before changes, because a change may refer to the appointment of a commit of the same call.
        batch: Batch = {}
        known = list(requests_of_twins.appointments)
        for verb, drawn in sorted(mix, key=lambda pair: pair[0] == "change"):
            request = requests_of_twins.complete(verb, drawn)
            if request is not None:
                batch.setdefault(verb, []).append(request)
                if verb == "commit":
                    requests_of_twins.remember(verb, request)
        requests_of_twins.appointments = known
        batches[business_id] = batch

    set_rounds(database, rounds)
    outcomes_of_call = execute_all(database, {name: batch for name, batch in batches.items() if batch})
    for left, right in PAIRS.items():
        singles = OneByOne(database, right)
        singles.run(batches[left])
        operation_ids = [request["operation_id"] for requests in batches[left].values() for request in requests]
        assert {name: comparable(outcomes_of_call[left, name]) for name in operation_ids} == {
            name: comparable(singles.outcomes[name]) for name in operation_ids
        }
        assert stored_state(database, left) == stored_state(database, right)
        for name in operation_ids:
            event(outcomes_of_call[left, name].name)
    assert database.violations() == {}
