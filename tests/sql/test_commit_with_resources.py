"""Claims with a resource after they were made: expiry, commit and rebook."""

from datetime import timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, at, commit_request, reserve_request
from tests.sql.catalog import delete_resource, put_seats
from tests.sql.requests import granted_resources, names

TTL = timedelta(minutes=15)


@pytest.mark.parametrize("size", [1, 2])
def test_the_resource_of_an_expired_hold_is_given_to_another_service(database: TestDatabase, size: int) -> None:
    """No purge is needed, and the hold stays expired if the clock steps back."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    now = database.freeze_clock()
    expired = database.reserve(10).id
    database.freeze_clock(now + TTL)
    requests = [reserve_request(10.5, service_id="perm") for _ in range(size)]
    assert names(database.call("reserve", requests)) == ["done"] + ["slot_unavailable"] * (size - 1)
    database.freeze_clock(now)
    assert database.status(expired) == "expired"
    assert database.commit(expired).name == "reservation_expired"
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"


@pytest.mark.parametrize("size", [1, 2])
def test_a_request_for_any_resource_ends_the_expired_hold_of_the_one_it_gets(database: TestDatabase, size: int) -> None:
    """The only free resource has an expired hold of another service, which is marked as expired."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert"])
    expired = database.reserve(10, service_id="perm").id
    database.move_clock(TTL)
    database.book(10, resource_id="anna")
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(size)])
    assert granted_resources(outcomes) == ["bert"]
    assert database.status(expired) == "expired"


def test_a_commit_keeps_the_resource(database: TestDatabase) -> None:
    """The resource may have been archived meanwhile."""
    database.make_service(resource_ids=["anna", "bert"])
    holds = [database.reserve(10, resource_id=resource_id) for resource_id in ("bert", "anna")]
    delete_resource(database, "bert")
    outcomes = database.call("commit", [commit_request(hold.id) for hold in holds])
    assert granted_resources(outcomes) == ["bert", "anna"]
    assert database.reserve(10).name == "slot_unavailable"


@pytest.fixture
def expired(database: TestDatabase) -> str:
    """A hold of Anna at ten that has just expired."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    hold = database.reserve(10, resource_id="anna").id
    database.freeze_clock(now + TTL)
    return hold


def test_a_rebook_keeps_the_named_resource(database: TestDatabase, expired: str) -> None:
    """The hold was made for Anna by name."""
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("done", "anna")


def test_a_rebook_is_refused_when_the_resource_is_taken(database: TestDatabase, expired: str) -> None:
    """The refusal has the resource; whether another one will do is for the caller to decide."""
    rival = database.reserve(10.5, service_id="perm", resource_id="anna").id
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable", "anna")
    assert database.status(rival) == "held"
    database.release(rival)
    assert database.commit(expired, if_expired="rebook").name == "done"


def test_a_rebook_of_any_resource_gets_a_free_one(database: TestDatabase) -> None:
    """The rebook is refused if no resource is free, and the refusal has no resource."""
    database.make_service(resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    holds = [database.reserve(10).id, database.reserve(10).id]
    database.freeze_clock(now + TTL)
    database.book(10, resource_id="anna")
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in holds])
    assert names(outcomes) == ["done", "slot_unavailable"]
    assert (outcomes[0].body["resource_id"], outcomes[1].body["resource_id"]) == ("bert", None)
    assert database.rows("SELECT resource_id FROM booking.reservations ORDER BY resource_id") == [("anna",), ("bert",)]


def test_a_rebook_is_refused_when_the_resource_is_archived(database: TestDatabase, expired: str) -> None:
    """A rebook is a new claim, and succeeds after the resource was put again."""
    delete_resource(database, "anna")
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"
    database.make_resource("anna")
    assert database.commit(expired, if_expired="rebook").name == "done"


@pytest.mark.parametrize("resource_sharing", ["exclusive", "session"])
def test_a_rebook_is_refused_when_no_resource_has_the_seats_any_more(
    database: TestDatabase, resource_sharing: str
) -> None:
    """The pool has more seats in all than the party needs, and the refusal takes none of them."""
    for resource_id in ("anna", "bert"):
        database.make_resource(resource_id, seats=3)
    settings: dict[str, Any] = {"resource_sharing": resource_sharing, "max_simultaneous_bookings": None}
    database.make_service(resource_ids=["anna", "bert"], **settings)
    now = database.freeze_clock()
    hold = database.reserve(10, quantity=3).id
    database.freeze_clock(now + TTL)
    for resource_id in ("anna", "bert"):
        put_seats(database, resource_id, 2)
    assert database.commit(hold, if_expired="rebook").name == "slot_unavailable"
    assert names(database.reserve(10, quantity=2) for _ in range(3)) == ["done", "done", "slot_unavailable"]


def test_a_rebook_of_a_named_resource_is_refused_when_the_service_has_no_pool(
    database: TestDatabase, expired: str
) -> None:
    """There is room, but the hold was made for Anna by name."""
    database.put_service(capacity=2)
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"


def test_a_rebook_above_the_seats_is_refused_when_the_service_got_a_pool(database: TestDatabase) -> None:
    """No resource has seats for the quantity of the hold."""
    database.make_service(capacity=2)
    hold = database.reserve(10, quantity=2).id
    database.move_clock(TTL)
    database.make_service(resource_ids=["anna", "bert"])
    assert database.commit(hold, if_expired="rebook").name == "slot_unavailable"


@pytest.mark.parametrize("sharing", ["exclusive", "session"])
def test_a_rebook_shares_its_resource_as_the_service_does_by_then(database: TestDatabase, sharing: str) -> None:
    """The constraint on exclusive appointments guards one that was made from the hold of a session too."""
    before = {"exclusive": "session", "session": "exclusive"}[sharing]
    database.make_service(resource_ids=["room"], resource_sharing=before)
    hold = database.reserve(10).id
    database.move_clock(TTL)
    database.make_service(resource_ids=["room"], resource_sharing=sharing)
    assert database.commit(hold, if_expired="rebook").name == "done"
    assert database.value("SELECT is_exclusive FROM booking.appointments") == (sharing == "exclusive")


def test_a_rebook_is_not_bound_by_closures(database: TestDatabase, expired: str) -> None:
    """The guest has paid; opening hours and closures bind only new requests of the public."""
    database.put_closure("ill", at(0), at(24), "anna")
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("done", "anna")


def test_rebooks_of_one_resource_in_one_batch_are_decided_in_order(database: TestDatabase, expired: str) -> None:
    """The holds came through two services: the first rebook gets the resource."""
    other = database.reserve(10, service_id="perm", resource_id="anna").id
    database.move_clock(TTL)
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in (other, expired)])
    assert names(outcomes) == ["done", "slot_unavailable"]
