"""Seats: parties that take a resource whole, and sessions whose claims share one."""

from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at, commit_request, reserve_request
from tests.sql.catalog import delete_resource
from tests.sql.measuring import rolled_back
from tests.sql.requests import MAKE_REQUEST, names
from tests.sql.windows import counts

MINUTE = timedelta(minutes=1)
TTL = timedelta(minutes=15)
TABLES = {"two": 2, "four": 4, "six": 6}
ROOMS = {"hall": 4, "attic": 2}


def make_resources(database: TestDatabase, seats: dict[str, int]) -> None:
    """Makes resources with their seats."""
    for resource_id, number in seats.items():
        database.make_resource(resource_id, seats=number)


def make_table(database: TestDatabase, service_id: str = "table", seats: dict[str, int] | None = None) -> None:
    """Makes a service of tables, each for one party of at most its seats."""
    make_resources(database, seats or TABLES)
    database.make_service(service_id, resource_ids=[*(seats or TABLES)], max_simultaneous_bookings=None)


def too_many(largest: int) -> dict[str, Any]:
    """Returns the fault of a quantity that is larger than the largest resource."""
    return {"field": "quantity", "code": "too_many_for_a_resource", "parameters": {"max": largest}}


def make_yoga(
    database: TestDatabase, service_id: str = "yoga", seats: dict[str, int] | None = None, **settings: Any
) -> None:
    """Makes a service whose guests share a room."""
    make_resources(database, seats or ROOMS)
    shared = {"resource_sharing": "session", "max_simultaneous_bookings": None, "resource_ids": [*(seats or ROOMS)]}
    database.make_service(service_id, **{**shared, **settings})


def resources_or_refusals(outcomes: list[Outcome]) -> list[str | None]:
    """Returns the resource of each granted request, and the name of the outcome of the others."""
    return [outcome.body["resource_id"] if outcome.name == "done" else outcome.name for outcome in outcomes]


def reserve_yoga(database: TestDatabase, hour: float = 10, quantity: int = 1, **request: Any) -> Outcome:
    """Holds places in a session."""
    return database.reserve(hour, service_id="yoga", quantity=quantity, **request)


def move_to(hour: float, **members: Any) -> dict[str, Any]:
    """Returns the members of a change that moves an appointment to an hour."""
    return {"slot_start": at(hour).isoformat(), **members}


# Parties.


def test_a_party_gets_the_smallest_resource_that_seats_it(database: TestDatabase) -> None:
    """The smallest free resource that seats the party is given, even if a larger one has less work that day."""
    make_table(database)
    for hour, quantity, table in ((10, 1, "two"), (11, 2, "two"), (12, 3, "four"), (13, 4, "four"), (14, 5, "six")):
        assert resources_or_refusals([database.reserve(hour, service_id="table", quantity=quantity)]) == [table]
    assert resources_or_refusals([database.reserve(10, service_id="table", quantity=2)]) == ["four"]
    assert resources_or_refusals([database.reserve(10, service_id="table", quantity=2)]) == ["six"]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_two_parties_never_share_a_resource(database: TestDatabase, verb: str) -> None:
    """A party takes its resource whole, for equal and for overlapping windows, alone and in a batch."""
    make_table(database, seats={"six": 6})
    request = MAKE_REQUEST[verb]
    for quantity in (1, 2, 6):
        for hour in (10, 10.5):
            with rolled_back(database):
                requests = [request(at, service_id="table", quantity=q) for at, q in ((10, quantity), (hour, 1))]
                assert names(database.call(verb, requests)) == ["done", "slot_unavailable"]
                assert database.call(verb, [request(hour, service_id="table")])[0].name == "slot_unavailable"
                assert database.capacity(10, service_id="table")["available"] == 0


def test_parties_in_a_batch_get_the_resources_that_they_get_one_by_one(database: TestDatabase) -> None:
    """A batch gives each party the resource that it gets one by one, in every order of the parties."""
    make_table(database)
    for quantities in permutations((6, 5, 2, 1)):
        requests = [reserve_request(10, service_id="table", quantity=quantity) for quantity in quantities]
        with rolled_back(database):
            one_by_one = resources_or_refusals([database.call("reserve", [request])[0] for request in requests])
        with rolled_back(database):
            assert resources_or_refusals(database.call("reserve", requests)) == one_by_one, quantities


@pytest.mark.parametrize("sharing", ["exclusive", "session"])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_party_larger_than_any_resource_is_invalid(database: TestDatabase, verb: str, sharing: str) -> None:
    """The refusal names the seats of the named resource, or of the largest one that is not archived."""
    make_table(database)
    database.put_service("table", resource_ids=[*TABLES], max_simultaneous_bookings=None, resource_sharing=sharing)
    request = MAKE_REQUEST[verb]
    for quantity, resource_id, largest in ((7, None, 6), (5, "four", 4), (3, "two", 2)):
        requested = request(10, service_id="table", quantity=quantity, resource_id=resource_id)
        [outcome] = database.call(verb, [requested])
        assert (outcome.name, outcome.body) == ("validation_failed", too_many(largest))
    assert delete_resource(database, "six").name == "done"
    [outcome] = database.call(verb, [request(10, service_id="table", quantity=5)])
    assert (outcome.name, outcome.body) == ("validation_failed", too_many(4))
    assert counts(database) == {}


def test_a_change_is_bound_by_the_seats_of_the_resource(database: TestDatabase) -> None:
    """A party that outgrows its resource is refused, unless the change asks for any resource."""
    make_table(database)
    appointment = database.book(10, service_id="table", quantity=2).id
    outcome = database.change(appointment, set={"quantity": 3})
    assert (outcome.name, outcome.body) == ("validation_failed", too_many(2))
    assert resources_or_refusals([database.change(appointment, set={"quantity": 3, "resource_id": None})]) == ["four"]
    assert database.change(appointment, set={"quantity": 7, "resource_id": None}).name == "validation_failed"
    database.book(10, service_id="table", quantity=6)
    assert database.change(appointment, set={"quantity": 5, "resource_id": None}).name == "slot_unavailable"
    assert resources_or_refusals([database.change(appointment, set={"quantity": 1})]) == ["four"]
    assert counts(database) == {("table", "four", 10.0, 11.0): 1, ("table", "six", 10.0, 11.0): 6}


def test_a_capacity_of_guests_binds_parties_too(database: TestDatabase) -> None:
    """A capacity of guests is compared with the quantities, even where a resource is free."""
    make_resources(database, TABLES)
    database.make_service("table", resource_ids=[*TABLES], capacity=7)
    batch = [reserve_request(10, service_id="table", quantity=quantity) for quantity in (4, 4, 3, 1)]
    assert resources_or_refusals(database.call("reserve", batch)) == [
        "four",
        "slot_unavailable",
        "six",
        "slot_unavailable",
    ]


# Sessions.


def test_claims_of_a_window_share_a_resource_up_to_its_seats(database: TestDatabase) -> None:
    """A session is filled up to the seats of its resource before the next resource is opened."""
    make_yoga(database)
    assert resources_or_refusals([reserve_yoga(database) for _ in range(7)]) == ["attic"] * 2 + ["hall"] * 4 + [
        "slot_unavailable"
    ]
    assert counts(database) == {("yoga", "attic", 10.0, 11.0): 2, ("yoga", "hall", 10.0, 11.0): 4}


def test_a_session_that_has_begun_is_filled_before_another_is_opened(database: TestDatabase) -> None:
    """A session that has begun is filled first, even if another resource is smaller or has less work that day."""
    make_yoga(database, seats={"hall": 4, "attic": 2, "cellar": 2})
    assert resources_or_refusals([reserve_yoga(database, quantity=q) for q in (3, 1, 1, 1, 2)]) == [
        "hall",
        "hall",
        "attic",
        "attic",
        "cellar",
    ]
    assert resources_or_refusals(
        [reserve_yoga(database, 12, resource_id="cellar"), reserve_yoga(database, 12), reserve_yoga(database, 12)]
    ) == [
        "cellar",
        "cellar",
        "attic",
    ]


def test_a_group_that_does_not_fit_opens_the_smallest_session_that_seats_it(database: TestDatabase) -> None:
    """A group is never split over two sessions, and a smaller request after it still fills the first one."""
    make_yoga(database)
    assert resources_or_refusals([reserve_yoga(database, quantity=q) for q in (1, 2, 1, 3, 2)]) == [
        "attic",
        "hall",
        "attic",
        "slot_unavailable",
        "hall",
    ]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_batch_fills_sessions_as_its_requests_would_one_by_one(database: TestDatabase, verb: str) -> None:
    """A batch fills sessions like its requests one by one, in every order, in empty and in begun windows."""
    make_yoga(database, seats={"hall": 4, "attic": 2, "loft": 3})
    request = MAKE_REQUEST[verb]
    for begun in (0, 1, 3):
        for quantities in set(permutations((3, 1, 2, 1, 4))):
            requests = [request(10, service_id="yoga", quantity=quantity) for quantity in quantities]
            with rolled_back(database):
                if begun:
                    reserve_yoga(database, quantity=begun)
                one_by_one = resources_or_refusals([database.call(verb, [request])[0] for request in requests])
            with rolled_back(database):
                if begun:
                    reserve_yoga(database, quantity=begun)
                assert resources_or_refusals(database.call(verb, requests)) == one_by_one, (begun, quantities)


def test_a_resource_with_a_session_serves_no_other_window_or_service(database: TestDatabase) -> None:
    """A session blocks its resource for other windows and services that overlap it, and not for adjacent ones."""
    make_yoga(database, seats={"hall": 4})
    make_yoga(database, "dance", seats={"hall": 4})
    make_table(database, "dinner", seats={"hall": 4})
    for claim in (database.reserve, database.book):
        with rolled_back(database):
            claim(10, service_id="yoga")
            for hour, hours in ((9.5, 1), (10.5, 1), (9, 3), (10.25, 0.5), (10, 1.5)):
                assert database.reserve(hour, hours, service_id="yoga").name == "slot_unavailable"
            for service_id in ("dance", "dinner"):
                for hour in (9.5, 10, 10.5):
                    assert database.reserve(hour, service_id=service_id).name == "slot_unavailable"
            assert (
                names([reserve_yoga(database), reserve_yoga(database, 9), database.book(11, service_id="dance")])
                == ["done"] * 3
            )


def test_one_batch_never_mixes_windows_or_services_on_a_resource(database: TestDatabase) -> None:
    """In one batch the first request opens the session, and only requests of its window and service join it."""
    make_yoga(database, seats={"hall": 4})
    make_yoga(database, "dance", seats={"hall": 4})
    requested = [
        (10, "yoga"),
        (10, "dance"),
        (10.5, "yoga"),
        (10, "yoga"),
        (11, "dance"),
        (10.5, "dance"),
        (11, "yoga"),
    ]
    outcomes = database.call("reserve", [reserve_request(hour, service_id=service) for hour, service in requested])
    assert [outcome.name == "done" for outcome in outcomes] == [True, False, False, True, True, False, False]


def test_buffers_are_part_of_the_window_of_a_session(database: TestDatabase) -> None:
    """Claims share a session only if their buffers were equal when they were made."""
    make_yoga(database, seats={"hall": 4}, buffer_after_minutes=15)
    assert reserve_yoga(database).name == "done"
    make_yoga(database, seats={"hall": 4}, buffer_after_minutes=0)
    assert reserve_yoga(database).name == "slot_unavailable"
    make_yoga(database, seats={"hall": 4}, buffer_after_minutes=15)
    assert reserve_yoga(database).name == "done"


def test_a_capacity_below_the_seats_binds_sessions(database: TestDatabase) -> None:
    """A capacity below the sum of the seats limits all sessions together."""
    make_yoga(database, max_simultaneous_bookings=5)
    batch = [reserve_request(10, service_id="yoga", quantity=quantity) for quantity in (3, 3, 2)]
    assert resources_or_refusals(database.call("reserve", batch)) == ["hall", "slot_unavailable", "attic"]
    assert database.capacity(10, service_id="yoga") == {"capacity": 5, "held": 5, "booked": 0, "available": 0}


def test_a_named_resource_is_joined_or_refused(database: TestDatabase) -> None:
    """A request that names a resource joins its session or is refused, even if other resources have room."""
    make_yoga(database)
    outcomes = [
        reserve_yoga(database, quantity=q, resource_id=name) for q, name in ((2, "hall"), (1, "attic"), (2, "hall"))
    ]
    assert resources_or_refusals(outcomes) == ["hall", "attic", "hall"]
    assert resources_or_refusals([reserve_yoga(database, resource_id="hall"), reserve_yoga(database)]) == [
        "slot_unavailable",
        "attic",
    ]


# The life of claims in a session.


def test_a_commit_keeps_its_place_in_the_session(database: TestDatabase) -> None:
    """Commits of all holds of a session beside an appointment violate no constraint."""
    make_yoga(database, seats={"hall": 4})
    holds = [reserve_yoga(database).id for _ in range(3)]
    assert database.book(10, service_id="yoga").name == "done"
    assert names(database.call("commit", [commit_request(hold) for hold in holds])) == ["done"] * 3
    assert reserve_yoga(database).name == "slot_unavailable"
    assert counts(database) == {("yoga", "hall", 10.0, 11.0): 4}


def test_a_session_ends_with_its_last_claim(database: TestDatabase) -> None:
    """Each ended claim gives back its seats, and the last one gives back the resource."""
    make_yoga(database, seats={"hall": 2})
    make_table(database, "dinner", seats={"hall": 2})
    hold, booked = reserve_yoga(database).id, database.book(10, service_id="yoga").id
    assert reserve_yoga(database).name == "slot_unavailable"
    database.release(hold)
    assert database.reserve(10.5, service_id="dinner").name == "slot_unavailable"
    assert reserve_yoga(database, quantity=2).name == "slot_unavailable"
    database.change(booked, action="cancel")
    assert database.reserve(10.5, service_id="dinner", quantity=2).name == "done"


def test_a_move_joins_the_session_of_its_new_window(database: TestDatabase) -> None:
    """A move joins the session of its new window up to the seats, and its own claim is not counted against it."""
    make_yoga(database, seats={"hall": 4})
    first, second = (database.book(hour, service_id="yoga", quantity=2).id for hour in (10, 14))
    assert database.change(first, set=move_to(10.5)).name == "done"
    assert reserve_yoga(database, 10.5).name == "done"
    assert database.change(first, set=move_to(11)).name == "slot_unavailable"
    assert database.change(second, set=move_to(10.5)).name == "slot_unavailable"
    assert database.change(second, set=move_to(10.5, quantity=1)).name == "done"
    assert reserve_yoga(database, 10.5).name == "slot_unavailable"
    assert database.change(first, set={"quantity": 3}).name == "slot_unavailable"
    assert database.change(first, set={"quantity": 1}).name == "done"
    assert database.change(first, set={"quantity": 2}).name == "done"
    assert counts(database) == {("yoga", "hall", 10.5, 11.5): 4}


@pytest.mark.parametrize(("start", "end"), [(10, 10.5), (10.5, 11)], ids=["a later start", "an earlier end"])
def test_a_claim_leaves_its_session_before_its_window_shrinks(database: TestDatabase, start: float, end: float) -> None:
    """A shorter window of a shared session is another window on its resource; one that is alone may shrink."""
    make_yoga(database, seats={"hall": 4})
    first, second = (database.book(10, service_id="yoga").body["appointment_id"] for _ in range(2))
    shorter = {"slot_start": at(start).isoformat(), "slot_end": at(end).isoformat()}
    assert database.change(first, set=shorter).name == "slot_unavailable"
    assert database.change(second, action="cancel").name == "done"
    assert database.change(first, set=shorter).name == "done"
    assert counts(database) == {("yoga", "hall", start, end): 1}


def test_a_move_to_another_resource_joins_its_session(database: TestDatabase) -> None:
    """A change joins the session of the named resource; a change to any resource keeps the current one if it can."""
    make_yoga(database)
    appointment = database.book(10, service_id="yoga", resource_id="hall").id
    reserve_yoga(database, resource_id="attic")
    assert resources_or_refusals([database.change(appointment, set={"resource_id": "attic"})]) == ["attic"]
    assert resources_or_refusals([database.change(appointment, set={"resource_id": None, "quantity": 2})]) == ["hall"]
    assert resources_or_refusals([database.change(appointment, set=move_to(12, resource_id=None))]) == ["hall"]


def test_a_rebook_joins_the_current_session_of_its_window(database: TestDatabase) -> None:
    """A rebook joins a session of its own window that has a seat left, and no session of another window."""
    make_yoga(database, seats={"hall": 2})
    holds = [reserve_yoga(database, hour).id for hour in (10, 10, 14)]
    database.move_clock(TTL)
    assert names([reserve_yoga(database), reserve_yoga(database, 14.5)]) == ["done", "done"]
    outcomes = [database.commit(hold, if_expired="rebook") for hold in holds]
    assert names(outcomes) == ["done", "slot_unavailable", "slot_unavailable"]
    assert counts(database) == {("yoga", "hall", 10.0, 11.0): 2, ("yoga", "hall", 14.5, 15.5): 1}


def test_expired_holds_of_a_session_give_back_their_seats(database: TestDatabase) -> None:
    """Expired holds of a session are ended as far as seats are needed; a live hold keeps other windows out."""
    make_yoga(database, seats={"hall": 4})
    now = database.freeze_clock()
    holds = [reserve_yoga(database, ttl_minutes=1).id for _ in range(3)]
    live = reserve_yoga(database, ttl_minutes=30).id
    database.freeze_clock(now + 2 * MINUTE)
    assert database.reserve(10.5, service_id="yoga").name == "slot_unavailable"
    assert reserve_yoga(database, quantity=2, ttl_minutes=30).name == "done"
    assert [database.status(hold) for hold in holds].count("expired") == 2
    assert reserve_yoga(database, quantity=2).name == "slot_unavailable"
    assert database.status(live) == "held"
    database.freeze_clock(now)
    assert database.violations() == {}
    assert reserve_yoga(database).name == "slot_unavailable"


def test_expired_holds_of_one_session_give_no_seats_of_another(database: TestDatabase) -> None:
    """Each resource has the expired holds of its own session subtracted, though both sessions have one window."""
    make_yoga(database)
    now = database.freeze_clock()
    for resource_id, minutes in (("attic", 1), ("attic", 1), ("hall", 1), ("hall", 60), ("hall", 60), ("hall", 60)):
        assert reserve_yoga(database, resource_id=resource_id, ttl_minutes=minutes).name == "done"
    database.freeze_clock(now + 2 * MINUTE)
    outcomes = [reserve_yoga(database, quantity=quantity, resource_id="hall") for quantity in (2, 1)]
    assert names(outcomes) == ["slot_unavailable", "done"]
    assert reserve_yoga(database, quantity=2).body["resource_id"] == "attic"
    assert reserve_yoga(database).name == "slot_unavailable"


def test_a_session_whose_holds_have_all_expired_gives_back_its_resource(database: TestDatabase) -> None:
    """A session of expired holds only is ended as a whole when another window or service gets its resource."""
    make_yoga(database, seats={"hall": 40})
    make_table(database, "dinner", seats={"hall": 40})
    now = database.freeze_clock()
    for hour in (10, 14):
        for _ in range(40):
            assert reserve_yoga(database, hour, ttl_minutes=1).name == "done"
    database.freeze_clock(now + 2 * MINUTE)
    assert reserve_yoga(database, 10.5).name == "done"
    assert counts(database) == {("yoga", "hall", 10.5, 11.5): 1, ("yoga", "hall", 14.0, 15.0): 40}
    assert database.book(14, service_id="dinner", quantity=40).name == "done"
    assert counts(database) == {("yoga", "hall", 10.5, 11.5): 1, ("dinner", "hall", 14.0, 15.0): 40}
    database.freeze_clock(now)
    assert database.violations() == {}


CLAIMS: dict[str, Callable[[TestDatabase], Outcome]] = {
    "hold": reserve_yoga,
    "appointment": lambda database: database.book(10, service_id="yoga"),
    "commit": lambda database: database.commit(reserve_yoga(database).id),
}


@pytest.mark.parametrize("first", CLAIMS)
@pytest.mark.parametrize("second", CLAIMS)
def test_claims_of_every_kind_share_a_session(database: TestDatabase, first: str, second: str) -> None:
    """Claims of every kind share a session of two seats, and a third claim is refused."""
    make_yoga(database, seats={"hall": 2})
    outcomes = [CLAIMS[first](database), CLAIMS[second](database)]
    assert (names(outcomes), reserve_yoga(database).name) == (["done", "done"], "slot_unavailable")


# The reach of searches for overlaps.


@pytest.mark.parametrize("verb", ["reserve", "book", "move", "rebook"])
@pytest.mark.parametrize("sharing", ["exclusive", "session"])
def test_a_long_claim_blocks_the_resource_that_it_got(database: TestDatabase, verb: str, sharing: str) -> None:
    """A long claim of the second resource of its pool blocks that resource for another service, deep inside it."""
    make_yoga(database, "long", seats={"attic": 2, "hall": 4}, resource_sharing=sharing)
    make_table(database, "short", seats={"hall": 4})
    long = {"service_id": "long", "quantity": 3}
    if verb == "reserve":
        outcome = database.reserve(0, 72, **long)
    elif verb == "book":
        outcome = database.book(0, 72, **long)
    elif verb == "move":
        appointment = database.book(100, 1, **long).id
        outcome = database.change(appointment, set={"slot_start": at(0).isoformat(), "slot_end": at(72).isoformat()})
    else:
        hold = database.reserve(0, 72, **long).id
        database.move_clock(TTL)
        outcome = database.commit(hold, if_expired="rebook")
    assert resources_or_refusals([outcome]) == ["hall"]
    assert [database.reserve(hour, service_id="short").name for hour in (70, 72)] == ["slot_unavailable", "done"]
    assert database.value("SELECT longest_occupied_seconds FROM booking.resources WHERE resource_id = 'attic'") == 0


def test_an_open_resource_comes_before_a_session_of_a_closed_one(database: TestDatabase) -> None:
    """The business may book both; a session that has begun on the closed one is filled last."""
    make_yoga(database, seats={"anna": 5, "bert": 5})
    database.put_closure("away", at(0), at(24), resource_id="anna")
    requests: list[dict[str, Any]] = [{"resource_id": "anna"}, {}, {}, {"quantity": 4}]
    outcomes = [database.book(10, service_id="yoga", manual=True, **request) for request in requests]
    assert resources_or_refusals(outcomes) == ["anna", "bert", "bert", "anna"]
