"""A tier of suites is a service whose capacity is its suites: "any of ten" finds each of the ten, over HTTP, at a
service with several workers, and another tier is none the worse for it."""

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

# The three ways to a suite, each with its address.
WAYS = {
    "reserve": "/api/booking/reserve",
    "book": "/api/bookings",
    "create": "/api/booking/appointments",
}

Ask = Callable[..., httpx2.Request]


@pytest.fixture
def kennel(database: TestDatabase) -> TestDatabase:
    """Ten standard suites and four deluxe ones."""
    database.make_service("standard", resource_ids=STANDARD)
    database.make_service("deluxe", resource_ids=DELUXE)
    return database


def asking(client: httpx2.AsyncClient, way: str) -> Ask:
    """Makes requests for a suite of a tier."""

    def ask(tier: str = "standard", hour: float = 10, **members: Any) -> httpx2.Request:
        guests = {} if way == "reserve" else {"guestEmail": "guest@example.com"}
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if way == "create" else {}
        body = slot(hour, serviceId=tier, **guests, **members)
        return client.build_request("POST", WAYS[way], json=body, headers=headers)

    return ask


def suites(answers: list[httpx2.Response]) -> list[str]:
    """Those that were granted, sorted."""
    return sorted(answer.json()["resourceId"] for answer in answers if answer.status_code == 201)


def assert_refused(answers: list[httpx2.Response]) -> None:
    """All that were not granted were told so, and what they can have instead."""
    for answer in answers:
        if answer.status_code != 201:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (409, "SLOT_UNAVAILABLE")
            assert problem["detail"] == "The selected time slot is no longer available"
            assert problem["alternatives"]


@pytest.mark.parametrize("way", WAYS)
async def test_of_twenty_guests_ten_get_a_suite_each(kennel: TestDatabase, serve: Serve, way: str) -> None:
    """All twenty are in flight before the first is decided. Ten get ten different suites, the eleventh and all later
    ones are refused; and the guests of the deluxe tier, who come at the same time, get all of theirs."""
    async with serve(WORKERS=2).client(connections=24) as client:
        ask = asking(client, way)
        # One guest of the other tier among every six.
        requests = [ask("deluxe") if number % 6 == 5 else ask() for number in range(24)]
        answers = await race_behind_lock(client, requests, kennel)
        late = await race(client, [ask()])
    deluxe, standard = answers[5::6], [answer for number, answer in enumerate(answers) if number % 6 != 5]
    assert (statuses(standard), statuses(deluxe), statuses(late)) == ({201: 10, 409: 10}, {201: 4}, {409: 1})
    assert suites(standard) == sorted(STANDARD)
    assert suites(deluxe) == sorted(DELUXE)
    assert_refused([*standard, *late])


@pytest.mark.parametrize("way", WAYS)
async def test_any_of_ten_finds_each_of_the_ten_whoever_is_quick(kennel: TestDatabase, serve: Serve, way: str) -> None:
    """Eight times, and nobody waits for anybody: two workers, each with the requests that came to it."""
    async with serve(WORKERS=2).client(connections=20) as client:
        ask = asking(client, way)
        for hour in range(8):
            answers = await race(client, [ask(hour=hour) for _ in range(20)])
            assert statuses(answers) == {201: 10, 409: 10}
            assert suites(answers) == sorted(STANDARD)
            assert_refused(answers)
    assert kennel.violations() == {}


@pytest.mark.usefixtures("kennel")
async def test_those_who_want_one_suite_and_those_who_take_any_share_ten(serve: Serve) -> None:
    """A hundred guests, half of whom insist: whoever comes first, in the end each suite has one guest."""
    async with serve(WORKERS=2).client(connections=100) as client:
        ask = asking(client, "book")
        for hour in range(3):
            requests = [
                ask(hour=hour, resourceId=STANDARD[number % 10]) if number % 2 else ask(hour=hour)
                for number in range(100)
            ]
            answers = await race(client, requests)
            assert statuses(answers) == {201: 10, 409: 90}
            assert suites(answers) == sorted(STANDARD)
            for number, answer in enumerate(answers):
                if number % 2 and answer.status_code == 201:
                    assert answer.json()["resourceId"] == STANDARD[number % 10]


async def test_stays_that_overlap_without_being_equal_share_ten(kennel: TestDatabase, serve: Serve) -> None:
    """Five different stays that have one instant in common: at that instant there are ten suites, and no more."""
    async with serve(WORKERS=2).client(connections=30) as client:
        ask = asking(client, "reserve")
        answers = await race_behind_lock(client, [ask(hour=10 + number % 5 / 6) for number in range(30)], kennel)
    assert statuses(answers) == {201: 10, 409: 20}
    assert suites(answers) == sorted(STANDARD)


async def test_suites_are_kept_through_commit(kennel: TestDatabase, serve: Serve) -> None:
    """Ten holds become ten appointments in the very suites that were held, while others keep asking in vain."""
    async with serve(WORKERS=2).client(connections=20) as client:
        ask = asking(client, "reserve")
        holds = [answer.json() for answer in await race(client, [ask() for _ in range(10)])]
        requests = commits(client, (guest(hold["reservationId"]) for hold in holds))
        answers = await race_behind_lock(client, [*requests, *(ask() for _ in range(10))], kennel)
    assert statuses(answers) == {201: 10, 409: 10}
    assert [answer.json()["resourceId"] for answer in answers[:10]] == [hold["resourceId"] for hold in holds]
