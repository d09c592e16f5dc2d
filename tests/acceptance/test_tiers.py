"""A pool of ten suites, requested as "any of ten" over HTTP at a service with several workers; a second pool is
unaffected."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.acceptance.clients import commits, guest, race, race_behind_lock, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.serving import ADMIN_TOKEN

pytestmark = pytest.mark.anyio

STANDARD = [f"standard-{number}" for number in range(1, 11)]
DELUXE = [f"deluxe-{number}" for number in range(1, 5)]

# The three calls that claim a suite.
WAYS = {
    "reserve": "/api/booking/reserve",
    "book": "/api/bookings",
    "create": "/api/booking/appointments",
}

MakeRequest = Callable[..., httpx2.Request]


@pytest.fixture
def kennel(database: TestDatabase) -> TestDatabase:
    """Makes a pool of ten standard suites and one of four deluxe ones."""
    database.make_service("standard", resource_ids=STANDARD)
    database.make_service("deluxe", resource_ids=DELUXE)
    return database


def request_maker(client: httpx2.AsyncClient, way: str) -> MakeRequest:
    """Returns a function that makes requests for a suite of a pool."""

    def make_request(tier: str = "standard", hour: float = 10, **members: Any) -> httpx2.Request:
        guests = {} if way == "reserve" else {"guestEmail": "guest@example.com"}
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if way == "create" else {}
        body = slot(hour, serviceId=tier, **guests, **members)
        return client.build_request("POST", WAYS[way], json=body, headers=headers)

    return make_request


def suites(answers: list[httpx2.Response]) -> list[str]:
    """Returns the granted suites, sorted."""
    return sorted(answer.json()["resourceId"] for answer in answers if answer.status_code == 201)


def assert_refused(answers: list[httpx2.Response]) -> None:
    """Checks that all other requests were refused, with alternatives."""
    for answer in answers:
        if answer.status_code != 201:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (409, "SLOT_UNAVAILABLE")
            assert problem["detail"] == "The selected time slot is no longer available"
            assert problem["alternatives"]


@pytest.mark.parametrize("way", WAYS)
async def test_of_twenty_guests_ten_get_a_suite_each(kennel: TestDatabase, serve: Serve, way: str) -> None:
    """All twenty requests are in flight before the first is decided. Ten get different suites, and the rest and all
    later ones are refused; concurrent requests for the deluxe pool get all of its suites."""
    async with serve(WORKERS=2).client(connections=24) as client:
        make_request = request_maker(client, way)
        # One of every six requests is for the other pool.
        requests = [make_request("deluxe") if number % 6 == 5 else make_request() for number in range(24)]
        answers = await race_behind_lock(client, requests, kennel)
        late = await race(client, [make_request()])
    deluxe, standard = answers[5::6], [answer for number, answer in enumerate(answers) if number % 6 != 5]
    assert (statuses(standard), statuses(deluxe), statuses(late)) == ({201: 10, 409: 10}, {201: 4}, {409: 1})
    assert suites(standard) == sorted(STANDARD)
    assert suites(deluxe) == sorted(DELUXE)
    assert_refused([*standard, *late])


@pytest.mark.parametrize("way", WAYS)
async def test_unsynchronised_requests_for_any_of_ten_get_each_of_the_ten(
    kennel: TestDatabase, serve: Serve, way: str
) -> None:
    """In eight rounds without a lock, two workers assign every suite exactly once."""
    async with serve(WORKERS=2).client(connections=20) as client:
        make_request = request_maker(client, way)
        for hour in range(8):
            answers = await race(client, [make_request(hour=hour) for _ in range(20)])
            assert statuses(answers) == {201: 10, 409: 10}
            assert suites(answers) == sorted(STANDARD)
            assert_refused(answers)
    assert kennel.violations() == {}


@pytest.mark.usefixtures("kennel")
async def test_requests_for_a_named_suite_and_for_any_share_ten(serve: Serve) -> None:
    """Half of a hundred guests name a suite: in any order, each suite is assigned once."""
    async with serve(WORKERS=2).client(connections=100) as client:
        make_request = request_maker(client, "book")
        for hour in range(3):
            requests = [
                make_request(hour=hour, resourceId=STANDARD[number % 10]) if number % 2 else make_request(hour=hour)
                for number in range(100)
            ]
            answers = await race(client, requests)
            assert statuses(answers) == {201: 10, 409: 90}
            assert suites(answers) == sorted(STANDARD)
            for number, answer in enumerate(answers):
                if number % 2 and answer.status_code == 201:
                    assert answer.json()["resourceId"] == STANDARD[number % 10]


async def test_stays_that_overlap_without_being_equal_share_ten(kennel: TestDatabase, serve: Serve) -> None:
    """Five different stays have one instant in common, at which at most ten suites are occupied."""
    async with serve(WORKERS=2).client(connections=30) as client:
        make_request = request_maker(client, "reserve")
        answers = await race_behind_lock(
            client, [make_request(hour=10 + number % 5 / 6) for number in range(30)], kennel
        )
    assert statuses(answers) == {201: 10, 409: 20}
    assert suites(answers) == sorted(STANDARD)


async def test_suites_are_kept_through_commit(kennel: TestDatabase, serve: Serve) -> None:
    """Ten holds become ten appointments in the same suites, while other requests are refused."""
    async with serve(WORKERS=2).client(connections=20) as client:
        make_request = request_maker(client, "reserve")
        holds = [answer.json() for answer in await race(client, [make_request() for _ in range(10)])]
        requests = commits(client, (guest(hold["reservationId"]) for hold in holds))
        answers = await race_behind_lock(client, [*requests, *(make_request() for _ in range(10))], kennel)
    assert statuses(answers) == {201: 10, 409: 10}
    assert [answer.json()["resourceId"] for answer in answers[:10]] == [hold["resourceId"] for hold in holds]
