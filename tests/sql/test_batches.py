"""Many requests in one call: the order in which they are decided, and their independence of each other."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.database import TestDatabase, at, book_request, commit_request, reserve_request
from tests.sql.requests import MAKE_REQUEST, keyed_request, names


def test_first_come_first_served_within_a_window(database: TestDatabase) -> None:
    """The position in the batch decides, and neither the ids nor the order in which rows are read."""
    database.make_service(capacity=4)
    requests = [reserve_request(10, operation_id=str(UUID(int=number))) for number in range(10, 0, -1)]
    assert names(database.call("reserve", requests)) == ["done"] * 4 + ["slot_unavailable"] * 6


@pytest.mark.parametrize("verb", MAKE_REQUEST)
def test_a_large_request_does_not_stop_a_smaller_one_behind_it(database: TestDatabase, verb: str) -> None:
    """One that does not fit leaves the room: otherwise a requested unit would stay unsold."""
    database.make_service(capacity=5)
    requests = [MAKE_REQUEST[verb](10, quantity=quantity) for quantity in (3, 3, 2, 1)]
    assert names(database.call(verb, requests)) == ["done", "slot_unavailable", "done", "slot_unavailable"]


def test_a_batch_counts_the_claims_that_were_there_before_it(database: TestDatabase) -> None:
    """Holds and appointments count, in the same window and in overlapping ones."""
    database.make_service(capacity=5)
    database.commit(database.reserve(9.5, quantity=2).id)
    database.reserve(10.5)
    requests = [reserve_request(10), reserve_request(10, quantity=2), reserve_request(10), reserve_request(11)]
    assert names(database.call("reserve", requests)) == ["done", "done", "slot_unavailable", "done"]
    assert database.capacity(10)["available"] == 0


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([(10, 1), (10.5, 1), (11, 1)], ["done", "slot_unavailable", "done"]),
        ([(10.5, 1), (10, 1), (11, 1)], ["done", "slot_unavailable", "slot_unavailable"]),
        ([(10, 3), (10, 1), (11, 1), (13, 1)], ["done", "slot_unavailable", "slot_unavailable", "done"]),
        ([(10, 1), (11, 1), (10, 3), (12, 1)], ["done", "done", "slot_unavailable", "done"]),
        ([(10, 1), (10.5, 1), (10, 1), (10.5, 1)], ["done"] + ["slot_unavailable"] * 3),
    ],
)
def test_windows_that_overlap_are_decided_in_order(
    database: TestDatabase, windows: list[tuple[float, float]], expected: list[str]
) -> None:
    """A request sees the grants of the requests before it; a refused request takes no room."""
    database.make_service(capacity=1)
    outcomes = database.call("reserve", [reserve_request(hour, hours) for hour, hours in windows])
    assert names(outcomes) == expected


@pytest.mark.parametrize("is_manual", [[False, True], [True, False]])
def test_the_public_and_the_business_have_verdicts_of_their_own(database: TestDatabase, is_manual: list[bool]) -> None:
    """Requests for one slot, of which the closure binds the public only; the granted one gets a resource."""
    database.make_service(resource_ids=["anna"])
    database.put_closure("holidays", at(0), at(24))
    outcomes = database.call("book", [book_request(10, manual=manual) for manual in is_manual])
    expected = {False: ("slot_not_bookable", None), True: ("done", "anna")}
    assert [(outcome.name, outcome.body.get("resource_id")) for outcome in outcomes] == [
        expected[manual] for manual in is_manual
    ]


# The number of rounds of a call: see booking.max_rounds.
ROUNDS = 16


def test_a_call_has_a_bounded_number_of_rounds(database: TestDatabase) -> None:
    """Each round of a slot with many claims costs milliseconds under the lock.

    The other requests are deferred in their order, without effect, and are decided when they are sent again.
    """
    database.make_service(capacity=ROUNDS + 5)
    holds = [
        reserve_request(10 + number / 60, idempotency_key=str(number), fingerprint="f") for number in range(ROUNDS + 6)
    ]
    same = reserve_request(10)
    outcomes = database.call("reserve", [*holds, same])
    assert names(outcomes) == ["done"] * ROUNDS + ["deferred"] * 6 + ["done"]
    outcomes = database.call("reserve", holds)
    assert names(outcomes) == ["done"] * (ROUNDS + 4) + ["slot_unavailable"] * 2
    assert database.value("SELECT count(*) FROM booking.reservations") == ROUNDS + 5


def test_a_call_has_a_bounded_number_of_rounds_of_rebooks(database: TestDatabase) -> None:
    """The rebook of an expired hold takes a round like any other claim."""
    database.make_service(capacity=ROUNDS + 1)
    database.freeze_clock(at(0))
    holds = [database.reserve(10 + number / 60, ttl_minutes=1).id for number in range(ROUNDS + 1)]
    database.freeze_clock(at(0.1))
    commits = [commit_request(hold, if_expired="rebook") for hold in holds]
    assert names(database.call("commit", commits)) == ["done"] * ROUNDS + ["deferred"]
    assert names(database.call("commit", commits)) == ["done"] * (ROUNDS + 1)


def test_services_of_one_batch_are_decided_in_the_same_round(database: TestDatabase) -> None:
    """Equal and overlapping windows of different services are independent."""
    for service_id in ("cut", "perm", "colour"):
        database.make_service(service_id)
    requests = [reserve_request(10, service_id=service_id) for service_id in ("cut", "perm", "colour", "perm")]
    requests += [reserve_request(10.5, service_id="colour")]
    assert names(database.call("reserve", requests)) == ["done", "done", "done", "slot_unavailable", "slot_unavailable"]


@pytest.mark.parametrize("capacity", [1, 100])
def test_forty_equal_requests_with_one_key_are_one_hold(database: TestDatabase, capacity: int) -> None:
    """Duplicate requests of one attempt make one hold, whether there is room for one or for all of them."""
    database.make_service(capacity=capacity)
    database.freeze_clock()
    outcomes = database.call("reserve", [keyed_request("k") for _ in range(40)])
    assert names(outcomes) == ["done"] + ["replayed"] * 39
    assert all(outcome.body == outcomes[0].body for outcome in outcomes)
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


def test_equal_requests_without_a_key_are_separate_holds(database: TestDatabase) -> None:
    """Only a key marks two requests as one attempt."""
    database.make_service(capacity=100)
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(40)])
    assert names(outcomes) == ["done"] * 40
    assert len({outcome.id for outcome in outcomes}) == 40


def test_a_key_of_an_earlier_hold_is_answered_within_a_batch(database: TestDatabase) -> None:
    """A replay is answered before any rule about room, and takes no room."""
    database.make_service(capacity=2)
    held = database.call("reserve", [keyed_request("k")])[0]
    outcomes = database.call("reserve", [keyed_request("k"), reserve_request(10), keyed_request("k", "that")])
    assert names(outcomes) == ["replayed", "done", "idempotency_key_reused"]
    assert outcomes[0].id == held.id


def test_a_different_request_with_the_same_key_in_one_batch_is_refused(database: TestDatabase) -> None:
    """The first request keeps the key, and a different one is refused."""
    database.make_service(capacity=5)
    requests = [keyed_request("k"), keyed_request("k", "that", 15), keyed_request("k"), keyed_request("k", "that", 15)]
    outcomes = database.call("reserve", requests)
    assert names(outcomes) == ["done", "idempotency_key_reused", "replayed", "idempotency_key_reused"]
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


def test_a_refused_request_does_not_keep_its_key_from_another_one_of_the_batch(database: TestDatabase) -> None:
    """A refusal for lack of room, or for a slot in the past, leaves the key to the next request."""
    database.make_service(capacity=1)
    database.reserve(10)
    requests = [
        keyed_request("k"),
        keyed_request("k", "that", 15),
        keyed_request("k"),
        keyed_request("k", "late", -999),
    ]
    outcomes = database.call("reserve", requests)
    assert names(outcomes) == ["slot_unavailable", "done", "slot_unavailable", "slot_not_bookable"]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_key_without_a_fingerprint_is_never_replayed(database: TestDatabase, verb: str) -> None:
    """Requests are equal only if their fingerprints are, so that a request without one equals no other."""
    database.make_service(capacity=2)
    make = MAKE_REQUEST[verb]
    requests = [make(hour, idempotency_key="k") for hour in (-999, 10, 10, 12)]
    outcomes = ["slot_not_bookable", "done", "idempotency_key_reused", "idempotency_key_reused"]
    assert names(database.call(verb, requests)) == outcomes
    assert database.call(verb, [make(10, idempotency_key="k")])[0].name == "idempotency_key_reused"
    requests = [make(10, idempotency_key="l", quantity=quantity) for quantity in (2, 1)]
    assert names(database.call(verb, requests)) == ["slot_unavailable", "done"]


def test_requests_without_a_fingerprint_count_separately_towards_the_limit_of_a_client(database: TestDatabase) -> None:
    """None of them shares the outcome of another one, and each is answered once."""
    database.make_service(capacity=5)
    client: dict[str, Any] = {"client_address_hmac": "a", "max_live_holds": 1, "idempotency_key": "k"}
    outcomes = database.call("reserve", [reserve_request(10, **client) for _ in range(3)])
    assert names(outcomes) == ["done", "too_many_holds", "too_many_holds"]


def test_the_first_undecided_request_of_an_attempt_decides_it(database: TestDatabase) -> None:
    """The public can't book a slot in the past, and the staff can, with the same key and for the same slot.

    The refusal of the first request does not affect the second one.
    """
    database.freeze_clock(at(12))
    database.make_service()
    keyed: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "f"}
    requests = [
        book_request(10, **keyed),
        book_request(10, **keyed, manual=True),
        book_request(10, **keyed, manual=True),
    ]
    assert names(database.call("book", requests)) == ["slot_not_bookable", "done", "replayed"]


def test_an_invalid_request_is_refused_by_itself(database: TestDatabase) -> None:
    """Outcomes are data: the refusal of one request never aborts the others."""
    database.make_service(capacity=2)
    database.make_service("closed", booking_enabled=False)
    requests = [
        reserve_request(10),
        reserve_request(10, service_id="nothing"),
        reserve_request(10, service_id="closed"),
        reserve_request(10, quantity=3),
        reserve_request(-24 * 100),
        reserve_request(10),
    ]
    expected = ["done", "service_not_found", "slot_not_bookable", "slot_unavailable", "slot_not_bookable", "done"]
    assert names(database.call("reserve", requests)) == expected


def test_a_batch_that_raises_has_no_effect(database: TestDatabase) -> None:
    """The other requests can be sent again one by one under the same operation ids, and are decided anew."""
    database.make_service(capacity=5)
    good = [reserve_request(10), reserve_request(10)]
    bad = reserve_request(10, quantity=0)
    with pytest.raises(psycopg.errors.CheckViolation):
        database.call("reserve", [good[0], bad, good[1]])
    assert database.value("SELECT count(*) FROM booking.reservations") == 0
    assert [names(database.call("reserve", [request])) for request in good] == [["done"], ["done"]]


def test_rounds_of_rebooks_are_decided_in_order(database: TestDatabase) -> None:
    """The rebook of an expired hold takes a round like any other claim."""
    database.make_service(capacity=1)
    database.freeze_clock(at(0))
    expired = []
    for hour in (10, 10.5, 11):
        expired.append(database.reserve(hour, ttl_minutes=1).id)
        database.freeze_clock(at(0.1) if hour == 10 else at(0.2) if hour == 10.5 else at(0.3))
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in expired])
    assert names(outcomes) == ["done", "slot_unavailable", "done"]
