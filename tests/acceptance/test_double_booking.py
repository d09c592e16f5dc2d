"""Many clients want one slot, over HTTP, at a service with several workers: exactly the capacity gets it.

The twin of tests/load/double_booking.js, so that no load generator is needed to know.
"""

import httpx2
import pytest

from tests.acceptance.clients import race, race_behind_lock, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at

pytestmark = pytest.mark.anyio


def assert_refused(answer: httpx2.Response) -> None:
    """The one refusal that a race may give."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "SLOT_UNAVAILABLE"
    assert problem["detail"] == "The selected time slot is no longer available"
    assert 1 <= len(problem["alternatives"]) <= 5


def assert_granted_exactly(answers: list[httpx2.Response], capacity: int) -> None:
    """As many as there is room for have holds of their own, all others were refused, and nothing else happened."""
    assert statuses(answers) == {201: capacity, 409: len(answers) - capacity}
    granted = [answer.json() for answer in answers if answer.status_code == 201]
    assert len({hold["reservationId"] for hold in granted}) == capacity
    for answer in answers:
        if answer.status_code == 409:
            assert_refused(answer)


def held(database: TestDatabase, hour: float = 10) -> int:
    """How many rows hold the slot."""
    count: int = database.value(
        "SELECT count(*) FROM booking.reservations WHERE status = 'held' AND slot_start = %s", at(hour)
    )
    return count


@pytest.mark.parametrize("capacity", [1, 10])
async def test_of_a_hundred_users_exactly_the_capacity_gets_the_slot(
    database: TestDatabase, serve: Serve, capacity: int
) -> None:
    """One success and ninety-nine conflicts, or ten and ninety, and no errors: the promise of the product."""
    database.make_service(capacity=capacity)
    async with serve(WORKERS=2).client(connections=100) as client:
        answers = await race(client, reserves(client, 100))
    assert_granted_exactly(answers, capacity)
    assert held(database) == capacity


async def test_of_ten_requests_for_two_places_eight_are_told_that_the_slot_is_gone(
    database: TestDatabase, serve: Serve
) -> None:
    """The losers are told in words that users know."""
    database.make_service(capacity=2)
    async with serve(WORKERS=2).client() as client:
        answers = await race(client, reserves(client, 10))
    assert_granted_exactly(answers, 2)


@pytest.mark.parametrize("max_batch", [128, 1])
async def test_ten_slots_in_a_row_are_each_granted_five_times_to_a_hundred_clients(
    database: TestDatabase, serve: Serve, max_batch: int
) -> None:
    """Two workers race each other in the database, in batches and with a transaction for each request."""
    database.make_service(capacity=5)
    async with serve(WORKERS=2, MAX_BATCH=max_batch).client(connections=100) as client:
        for hour in range(10):
            assert_granted_exactly(await race(client, reserves(client, 100, hour)), 5)
            assert held(database, hour) == 5


async def test_two_hundred_requests_in_flight_at_one_time_are_all_answered(
    database: TestDatabase, serve: Serve
) -> None:
    """All of them wait at the lock before the first is decided: nothing about it depends on who is quick."""
    database.make_service(capacity=5)
    async with serve(WORKERS=2).client(connections=200) as client:
        answers = await race_behind_lock(client, reserves(client, 200), database)
        room = await client.get("/api/booking/capacity", params=slot())
    assert_granted_exactly(answers, 5)
    assert room.json() == {"capacity": 5, "held": 5, "booked": 0, "available": 0}
