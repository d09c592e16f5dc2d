"""max_upcoming_per_guest: how many confirmed appointments that have not begun a guest may have of a service."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at, book_request, commit_request
from tests.sql.changes import move
from tests.sql.requests import names

ADA: dict[str, Any] = {"guest_email": "ada@example.com", "guest_phone": "+4930123456"}
WAYS = pytest.mark.parametrize("way", ["book", "commit", "rebook"])


@pytest.fixture(autouse=True)
def limited(database: TestDatabase) -> None:
    """Makes a service whose guests may have two upcoming appointments."""
    make_limited(database, 2)


def make_limited(database: TestDatabase, limit: int | None, **settings: Any) -> None:
    """Puts the service with a limit."""
    database.make_service(**{"capacity": 9, **settings}, max_upcoming_per_guest=limit)


def booked(database: TestDatabase, way: str = "book", hour: float = 10, **members: Any) -> Outcome:
    """Books for a guest, by default Ada, in one of the ways that bind the public."""
    guest = {**ADA, **members}
    if way == "book":
        return database.book(hour, **guest)
    hold = database.reserve(hour, ttl_minutes=5).id
    if way == "commit":
        return database.commit(hold, **guest)
    now = database.freeze_clock()
    database.freeze_clock(now + timedelta(minutes=5))
    return database.commit(hold, if_expired="rebook", **guest)


@WAYS
def test_a_guest_has_as_many_as_the_service_allows(database: TestDatabase, way: str) -> None:
    """The refusal takes no room; another guest is not affected."""
    outcomes = [booked(database, way, hour) for hour in (10, 12, 14)]
    assert names(outcomes) == ["done", "done", "guest_limit_reached"]
    assert outcomes[2].body == {}
    assert database.capacity(14)["booked"] == 0
    assert booked(database, way, 14, guest_email="bob@example.com", guest_phone=None).name == "done"


@WAYS
@pytest.mark.parametrize(
    ("guest", "is_ada"),
    [
        (ADA, True),
        ({"guest_phone": None}, True),
        ({"guest_email": None}, True),
        ({"guest_email": "other@example.com"}, True),
        ({"guest_phone": "+4930999999"}, True),
        ({"guest_email": "ADA@example.com", "guest_phone": None}, True),
        ({"guest_email": "other@example.com", "guest_phone": None}, False),
        ({"guest_email": None, "guest_phone": "+4930999999"}, False),
    ],
    ids=str,
)
def test_a_guest_is_known_by_address_or_number(
    database: TestDatabase, way: str, guest: dict[str, Any], is_ada: bool
) -> None:
    """Either is enough, and a missing one equals nothing."""
    make_limited(database, 1)
    booked(database)
    assert booked(database, way, 12, **guest).name == ("guest_limit_reached" if is_ada else "done")


@WAYS
@pytest.mark.parametrize("guest", [{"guest_email": None}, {"guest_phone": None}], ids=str)
def test_a_guest_with_an_address_or_a_number_alone_is_known_by_it(
    database: TestDatabase, way: str, guest: dict[str, Any]
) -> None:
    """Also if no appointment of the guest has the other one."""
    make_limited(database, 1)
    assert booked(database, **guest).name == "done"
    assert booked(database, way, 12, **guest).name == "guest_limit_reached"


def test_appointments_by_address_and_by_number_are_counted_once_each(database: TestDatabase) -> None:
    """An appointment that matches in both counts as one."""
    make_limited(database, 3)
    booked(database, hour=8)
    booked(database, hour=10, guest_phone=None)
    assert booked(database, hour=12, guest_email="other@example.com").name == "done"
    assert booked(database, hour=14).name == "guest_limit_reached"


@pytest.mark.parametrize("way", ["book", "commit"])
@pytest.mark.parametrize("known_by", [{}, {"guest_email": None}], ids=["both", "number"])
def test_only_confirmed_ones_of_the_service_that_have_not_begun_count(
    database: TestDatabase, way: str, known_by: dict[str, Any]
) -> None:
    """Not those of other services and businesses, nor cancelled ones, nor those that have begun; a move keeps one."""
    make_limited(database, 1)
    database.make_service("perm")
    database.make_service(business_id="clinic")
    database.book(10, service_id="perm", **ADA)
    database.book(10, business_id="clinic", **ADA)
    guests: list[dict[str, Any]] = [{}, {"guest_email": None}]
    for guest in guests:
        cancelled = booked(database, hour=12, **guest).id
        database.change(cancelled, action="cancel")
    begun = booked(database, hour=10).id
    assert move(database, begun, 14).name == "done"
    assert booked(database, way, 16, **known_by).name == "guest_limit_reached"
    database.freeze_clock(at(14) - timedelta(microseconds=1))
    assert booked(database, way, 16, **known_by).name == "guest_limit_reached"
    database.freeze_clock(at(14))
    assert booked(database, way, 16, **known_by).name == "done"


@WAYS
def test_bookings_by_the_staff_count_and_are_not_refused(database: TestDatabase, way: str) -> None:
    """The business may book beyond its own limit."""
    for hour in (10, 12, 14):
        assert database.book(hour, manual=True, actor_kind="staff", **ADA).name == "done"
    assert booked(database, way, 16).name == "guest_limit_reached"


def test_a_booking_by_the_staff_is_not_refused_beside_one_of_the_public(database: TestDatabase) -> None:
    """In one call for the same guest, who is at the limit."""
    make_limited(database, 1)
    booked(database)
    requests = [book_request(12, manual=True, actor_kind="staff", **ADA), book_request(14, **ADA)]
    assert names(database.call("book", requests)) == ["done", "guest_limit_reached"]


def test_a_refused_hold_stays(database: TestDatabase) -> None:
    """It can be committed after a cancellation, or for another guest."""
    first = booked(database, hour=10).id
    booked(database, hour=12)
    holds = [database.reserve(hour).id for hour in (14, 16)]
    assert [database.commit(hold, **ADA).name for hold in holds] == ["guest_limit_reached"] * 2
    assert [database.status(hold) for hold in holds] == ["held", "held"]
    assert database.commit(holds[0], guest_email="bob@example.com").name == "done"
    database.change(first, action="cancel")
    assert database.commit(holds[1], **ADA).name == "done"


def test_an_expired_hold_that_is_refused_keeps_no_room(database: TestDatabase) -> None:
    """The limit is checked before the room is taken again."""
    make_limited(database, 1, capacity=1)
    booked(database, hour=10)
    assert booked(database, "rebook", 12).name == "guest_limit_reached"
    assert database.reserve(12).name == "done"


def test_an_expired_hold_of_a_guest_at_the_limit_is_left_to_the_purge(database: TestDatabase) -> None:
    """The refusal is not for the expiry. The purge ends the hold and reports its room, also if that is not in use."""
    make_limited(database, 1)
    booked(database, hour=10)
    assert booked(database, "rebook", 12).name == "guest_limit_reached"
    assert database.purge()[0] == 1
    assert database.capacity(12)["held"] == 0


def test_other_refusals_come_first(database: TestDatabase) -> None:
    """Those about the hold and about the slot; a lack of room comes after it."""
    make_limited(database, 1, capacity=1)
    booked(database, hour=10)
    hold = database.reserve(12).id
    assert database.commit(hold, expected_version=7, **ADA).name == "version_conflict"
    assert booked(database, hour=-24 * 60).name == "slot_not_bookable"
    assert booked(database, hour=10).name == "guest_limit_reached"
    database.release(hold)
    assert database.commit(hold, **ADA).name == "reservation_released"


def test_a_replay_is_not_refused(database: TestDatabase) -> None:
    """Neither by its operation nor by its key or hold, at the limit and above it."""
    make_limited(database, 1)
    keyed = book_request(10, idempotency_key="once", fingerprint="this", **ADA)
    hold = database.reserve(12).id
    committed = commit_request(hold, guest_email="bob@example.com")
    assert names([*database.call("book", [keyed]), *database.call("commit", [committed])]) == ["done", "done"]
    again = {**keyed, "operation_id": commit_request(hold)["operation_id"]}
    assert names(database.call("book", [keyed, again])) == ["done", "replayed"]
    assert names(database.call("commit", [committed, commit_request(hold, **ADA)])) == ["done", "replayed"]


def test_a_limit_that_is_lowered_binds_at_once(database: TestDatabase) -> None:
    """The appointments that exceed it stay; without a limit nothing is counted."""
    booked(database, hour=10)
    booked(database, hour=12)
    make_limited(database, 1)
    assert booked(database, hour=14).name == "guest_limit_reached"
    make_limited(database, None)
    assert booked(database, hour=14).name == "done"


# Batches.


@pytest.mark.parametrize("verb", ["book", "commit"])
def test_requests_of_one_guest_in_one_call_count_each_other(database: TestDatabase, verb: str) -> None:
    """Those that only the call itself brings to the limit are deferred, and decided by the next one."""
    booked(database, hour=8)
    others = [{"guest_email": f"{number}@example.com", "guest_phone": None} for number in range(2)]
    in_capitals = {"guest_email": "ADA@example.com", "guest_phone": None}
    guests = [ADA, others[0], in_capitals, others[1], {**ADA, "guest_email": None}]
    requests = [
        book_request(10 + n, **guest) if verb == "book" else commit_request(database.reserve(10 + n).id, **guest)
        for n, guest in enumerate(guests)
    ]
    outcomes = database.call(verb, requests)
    assert names(outcomes) == ["done", "done", "deferred", "done", "deferred"]
    assert names(database.call(verb, [requests[2], requests[4]])) == ["guest_limit_reached"] * 2


def test_requests_of_one_guest_for_two_services_are_independent(database: TestDatabase) -> None:
    """Each service has its own limit, in one call too."""
    make_limited(database, 1)
    database.make_service("perm", capacity=9, max_upcoming_per_guest=1)
    requests = [book_request(10, service_id=service_id, **ADA) for service_id in ("cut", "perm")]
    assert names(database.call("book", requests)) == ["done", "done"]


def test_a_request_is_not_refused_for_one_that_was_refused_itself(database: TestDatabase) -> None:
    """Ada's first request has no room, so that her second one, which waited for it, is granted."""
    make_limited(database, 1, capacity=1)
    database.book(10, guest_email="bob@example.com")
    requests = [book_request(10, **ADA), book_request(12, **ADA)]
    assert names(database.call("book", requests)) == ["slot_unavailable", "deferred"]
    assert names(database.call("book", requests[1:])) == ["done"]


def test_commits_and_bookings_in_one_call_count_each_other(database: TestDatabase) -> None:
    """In the order of the verbs, and over the businesses of the call."""
    make_limited(database, 1)
    database.make_service(business_id="clinic", capacity=9, max_upcoming_per_guest=1)
    batches = {}
    for business_id in ("salon", "clinic"):
        hold = database.reserve(10, business_id=business_id).id
        batches[business_id] = {"book": [book_request(12, **ADA)], "commit": [commit_request(hold, **ADA)]}
    outcomes = dict(
        database.rows(
            "SELECT operation_id::text, outcome FROM booking.execute(%s, %s::jsonb[], 'infinity')",
            list(batches),
            [json.dumps(batch) for batch in batches.values()],
        )
    )
    for batch in batches.values():
        assert outcomes[batch["commit"][0]["operation_id"]] == "done"
        assert outcomes[batch["book"][0]["operation_id"]] == "guest_limit_reached"
