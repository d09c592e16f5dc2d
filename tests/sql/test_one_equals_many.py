"""A batch has the outcomes of its requests one by one: the rounds that decide it change no outcome."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.database import TestDatabase, at, reserve_request
from tests.sql.catalog import delete_service
from tests.sql.random_examples import random_examples
from tests.sql.requests import MAKE_REQUEST, keyed_request, names

# Few values, so that requests conflict with each other: half hours of one morning, and five services.
HALF_HOURS = st.sampled_from([-1, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8])
SERVICES = {
    "one": {"capacity": 1},
    "few": {"capacity": 3, "buffer_before_minutes": 10, "buffer_after_minutes": 20},
    "noticed": {"capacity": 2, "min_notice_minutes": 90, "max_duration_minutes": 120, "duration_minutes": 45},
    "offline": {"capacity": 2, "booking_enabled": False},
    "archived": {"capacity": 2},
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a request for a part of the morning, often with a key that another request uses too."""
    hour = draw(HALF_HOURS) / 2
    key = draw(st.sampled_from([None, None, None, "k", "l"]))
    drawn: dict[str, Any] = {
        "service_id": draw(st.sampled_from([*SERVICES, *["few"] * 6, *["one"] * 2, "unknown"])),
        "quantity": draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4])),
        "ttl_minutes": draw(st.none() | st.sampled_from([0.5, 10, 60, 61])),
        "slot_start": at(hour).isoformat(),
        "slot_end": draw(st.none() | st.just(at(hour + draw(st.integers(min_value=1, max_value=5)) / 2).isoformat())),
    }
    if key is None:
        return reserve_request(**drawn)
    return keyed_request(key, fingerprint=repr(drawn), **drawn)


# The step after a request: time passes, or the hold is committed or released.
THEN = st.sampled_from(["nothing", "commit", "release", "a minute", "half an hour"])
HISTORIES = st.lists(st.tuples(requests(), THEN), min_size=4, max_size=10)


def booked(hour: float) -> tuple[dict[str, Any], str]:
    """Returns a booked hour that takes two of three units."""
    return reserve_request(hour, service_id="few", quantity=2), "commit"


@pytest.fixture
def alone_and_together(database: TestDatabase) -> TestDatabase:
    """Makes two equal businesses."""
    for business_id in ("alone", "together"):
        for service_id, service in SERVICES.items():
            database.make_service(service_id, business_id=business_id, **service)
        database.reserve(1, service_id="archived", business_id=business_id)
        delete_service(database, "archived", business_id=business_id)
    return database


@random_examples(200, history=HISTORIES)
@example([booked(1), booked(3), (reserve_request(1, 3, service_id="few", quantity=1), "nothing")])
@example([booked(1), booked(3), (reserve_request(1, 3, service_id="few", quantity=2), "nothing")])
def test_a_request_has_the_same_outcome_alone_and_in_a_batch(
    alone_and_together: TestDatabase, history: list[tuple[dict[str, Any], str]]
) -> None:
    """Outcomes and stored rows are equal after any history of holds, bookings, expiries and releases."""
    database = alone_and_together
    reset(database)
    now = database.freeze_clock(at(0))
    for request, step in history:
        unrelated = reserve_request(service_id="unknown")
        [alone] = database.call("reserve", [request], business_id="alone")
        [together, _] = database.call("reserve", [request, unrelated], business_id="together")
        assert alone.name == together.name
        assert comparable(alone.body) == comparable(together.body)
        now = take_step(database, alone.body.get("reservation_id"), step, now)
    assert stored_state(database, "alone", now) == stored_state(database, "together", now)


def reset(database: TestDatabase) -> None:
    """Deletes the claims of the previous example."""
    database.forget_claims()


def take_step(database: TestDatabase, hold: str | None, step: str, now: datetime) -> datetime:
    """Takes the same step in both businesses, and returns the time after it."""
    if hold and step in ("commit", "release"):
        for business_id in ("alone", "together"):
            getattr(database, step)(hold, business_id=business_id)
    minutes = {"a minute": 1, "half an hour": 30}.get(step, 0)
    return database.freeze_clock(now + timedelta(minutes=minutes))


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a reservation without the business, and, if it is expired, without its version, which may differ. A batch
    that frees more than its slots says so with each of its claims."""
    differing = {"business_id", "frees_more"} | ({"version"} if body.get("status") == "expired" else set())
    return {name: value for name, value in body.items() if name not in differing}


def stored_state(database: TestDatabase, business_id: str, now: datetime) -> list[tuple[Any, ...]]:
    """Returns the reservations of a business as they appear at a time, without the columns that may differ."""
    return database.rows(
        "SELECT to_jsonb(r) - ARRAY['business_id', 'status', 'ended_at', 'version'], "
        "booking.reservation_body(r, %s) ->> 'status' FROM booking.reservations r "
        "WHERE business_id = %s ORDER BY reservation_id",
        now,
        business_id,
    )


# Three resources serve both services, and one serves the first only; the second has two units.
POOLS: dict[str, dict[str, Any]] = {
    "cut": {"resource_ids": ["anna", "bert", "cleo", "dora"], "buffer_after_minutes": 30},
    "perm": {"resource_ids": ["bert", "cleo", "dora"], "capacity": 2},
}
pooled = st.fixed_dictionaries(
    {"service_id": st.sampled_from([*POOLS]), "hour": st.sampled_from([1, 1.5, 2, 3]), "hours": st.sampled_from([1, 2])}
)


@pytest.fixture
def pools_alone_and_together(database: TestDatabase) -> TestDatabase:
    """Makes two equal businesses whose services share their resources, and freezes the clock."""
    for business_id in ("alone", "together"):
        for service_id, service in POOLS.items():
            database.make_service(service_id, business_id=business_id, **service)
    database.freeze_clock(at(0))
    return database


@random_examples(
    100,
    history=st.lists(st.tuples(pooled, st.sampled_from([None, None, "anna", "bert", "cleo"]), THEN), max_size=6),
    claim_members=pooled,
    number=st.integers(min_value=1, max_value=6),
    verb=st.sampled_from(["reserve", "book"]),
)
def test_as_many_get_a_resource_one_by_one_as_in_a_batch(
    pools_alone_and_together: TestDatabase,
    history: list[tuple[dict[str, Any], str | None, str]],
    claim_members: dict[str, Any],
    number: int,
    verb: str,
) -> None:
    """Both get the same resources, each request a free one, after any history."""
    database = pools_alone_and_together
    reset(database)
    now = database.freeze_clock(at(0))
    for drawn, resource_id, step in history:
        request = reserve_request(**drawn, resource_id=resource_id)
        for business_id in ("alone", "together"):
            [outcome] = database.call("reserve", [request], business_id=business_id)
        now = take_step(database, outcome.body.get("reservation_id"), step, now)

    make = MAKE_REQUEST[verb]
    requests = [make(**claim_members) for _ in range(number)]
    alone = [database.call(verb, [request], business_id="alone")[0] for request in requests]
    together = database.call(verb, requests, business_id="together")
    assert names(alone) == names(together)
    assert [comparable(outcome.body) for outcome in alone] == [comparable(outcome.body) for outcome in together]
    resource_ids = [outcome.body["resource_id"] for outcome in together if outcome.name == "done"]
    assert None not in resource_ids
    assert len(set(resource_ids)) == len(resource_ids)
    assert database.rows("SELECT * FROM booking.double_booked_resources") == []
