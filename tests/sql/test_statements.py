"""The number of statements of a batch grows with its rounds, and not with its requests."""

from collections.abc import Callable
from typing import Any

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
from tests.sql.measuring import statements_of
from tests.sql.requests import keyed_request

pytestmark = pytest.mark.new_database

# The look-ups of each window: its pool, and its closures and opening hours.
LOOK_UPS = 2
PAST = -24 * 90


def test_statements_do_not_grow_with_the_number_of_requests(database: TestDatabase) -> None:
    """Fifty requests for one window are decided by as many statements as two."""
    database.make_service(capacity=1000)
    database.make_service("suite", resource_ids=[f"room-{number}" for number in range(60)])
    database.make_service("limited", capacity=1000, max_upcoming_per_guest=500)

    def hold() -> str:
        return database.reserve(20).id

    def appointment(service_id: str = "cut", hour: float = 22) -> str:
        return database.book(hour, service_id=service_id, manual=True).id

    def batch(name: str, size: int) -> Callable[[], object]:
        one_hold = hold()
        make: dict[str, Callable[[], dict[str, Any]]] = {
            "reserve": lambda: reserve_request(10),
            "reserve by one key": lambda: keyed_request(f"key {size}"),
            "reserve any of many": lambda: reserve_request(10, service_id="suite"),
            "book": lambda: book_request(10),
            "book any of many": lambda: book_request(12, service_id="suite"),
            "book of guests": lambda: book_request(10, service_id="limited"),
            "commit": lambda: commit_request(hold()),
            "commit of guests": lambda: commit_request(database.reserve(20, service_id="limited").id),
            "commit of one hold": lambda: commit_request(one_hold),
            "extend": lambda: extend_request(hold()),
            "release": lambda: release_request(hold()),
            "change": lambda: change_request(appointment(), set={"notes": "by the window"}),
            "change to no_show": lambda: change_request(appointment(hour=PAST), set={"status": "no_show"}),
            "change by cancelling": lambda: change_request(appointment("suite"), action="cancel"),
        }
        requests = [make[name]() for _ in range(size)]
        return lambda: database.call(name.partition(" ")[0], requests)

    reserving = ("reserve", "reserve by one key", "reserve any of many")
    changing = ("change", "change to no_show", "change by cancelling")
    booking = ("book", "book any of many", "book of guests")
    committing = ("commit", "commit of guests", "commit of one hold", "extend", "release")
    for name in (*reserving, *booking, *committing, *changing):
        batch(name, 3)()
        statements_of_few, statements_of_many = (
            statements_of(database, batch(name, 2)),
            statements_of(database, batch(name, 50)),
        )
        assert 0 < statements_of_many <= statements_of_few, name


@pytest.mark.parametrize("verb", ["book", "commit"])
def test_a_service_without_a_limit_for_guests_takes_no_statement_for_it(database: TestDatabase, verb: str) -> None:
    """The count of the guest's appointments is made for services with a limit alone."""
    database.make_service(capacity=1000)
    database.make_service("limited", capacity=1000, max_upcoming_per_guest=500)
    counted = {}
    for service_id in ("cut", "cut", "limited", "limited"):
        hold = database.reserve(10, service_id=service_id).id
        request = commit_request(hold) if verb == "commit" else book_request(10, service_id=service_id)
        counted[service_id] = statements_of(database, lambda request=request: database.call(verb, [request]))  # type: ignore[misc]
    assert counted["cut"] < counted["limited"]


def test_statements_grow_with_the_number_of_rounds_only(database: TestDatabase) -> None:
    """Overlapping windows that are not equal take a round each, with any number of requests for each of them."""
    database.make_service(capacity=1000)

    def statements(windows: int, requests: int) -> int:
        batch = [reserve_request(10 + number % windows / 100) for number in range(requests)]
        return statements_of(database, lambda: database.call("reserve", batch))

    statements(1, 2)
    one, two, three = (statements(windows, 6) for windows in (1, 2, 3))
    assert one < two < three
    assert three - two <= two - one
    assert [statements(windows, 60) for windows in (1, 2, 3)] == [one, two, three]


def test_windows_apart_from_each_other_share_a_round(database: TestDatabase) -> None:
    """A batch of windows that do not overlap takes one round, and only the look-ups are made for each window."""
    database.make_service(capacity=1000)
    statements_of(database, lambda: database.call("reserve", [reserve_request(hour) for hour in (1, 1)]))
    statements_together = statements_of(
        database, lambda: database.call("reserve", [reserve_request(1) for _ in range(20)])
    )
    statements_apart = statements_of(
        database, lambda: database.call("reserve", [reserve_request(hour) for hour in range(20)])
    )
    assert statements_apart <= statements_together + 19 * LOOK_UPS


def test_statements_do_not_grow_with_the_number_of_resources(database: TestDatabase) -> None:
    """Opening hours, free resources and expired holds are each determined for the whole pool."""
    # Both pools have equal resources left for each request, so that their work decides.
    for size in (6, 40):
        business_id = f"of-{size}"
        rooms = [f"room-{number}" for number in range(size)]
        database.make_service(business_id=business_id, resource_ids=rooms)
        database.put_hours(
            [
                {"weekday": weekday, "opens": "00:00", "closes": "24:00", "resource_id": room}
                for weekday in range(1, 8)
                for room in (None, *rooms[::2])
            ],
            business_id=business_id,
        )
        for room in rooms[::3]:
            database.put_closure(f"closed-{room}", at(15), at(16), room, business_id)

    # As after earlier claims: the first claim of a service or resource takes a statement to raise its reach.
    for table in ("services", "resources"):
        database.rows(f"UPDATE booking.{table} SET longest_occupied_seconds = 3600")  # noqa: S608

    def statements(size: int) -> int:
        batch = [reserve_request(hour) for hour in (10, 10, 12)]
        return statements_of(database, lambda: database.call("reserve", batch, business_id=f"of-{size}"))

    statements(6)
    statements_of_few, statements_of_many = statements(6), statements(40)
    assert 0 < statements_of_many <= statements_of_few
