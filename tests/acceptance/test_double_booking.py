"""Races for one slot over HTTP, at a service with several workers: exactly the capacity is granted.

It is the counterpart of tests/load/double_booking.js and needs no load generator.
"""

import httpx2
import pytest

from tests.acceptance.clients import race, race_behind_lock, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at

pytestmark = pytest.mark.anyio


def assert_refused(answer: httpx2.Response) -> None:
    """Checks that an answer is the one refusal that a race may give."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "SLOT_UNAVAILABLE"
    assert problem["detail"] == "The selected time slot is no longer available"
    assert 1 <= len(problem["alternatives"]) <= 5


def assert_granted_exactly(answers: list[httpx2.Response], capacity: int) -> None:
    """Checks that exactly the capacity was granted, in different holds, and that every other answer is the refusal."""
    assert statuses(answers) == {201: capacity, 409: len(answers) - capacity}
    granted = [answer.json() for answer in answers if answer.status_code == 201]
    assert len({hold["reservationId"] for hold in granted}) == capacity
    for answer in answers:
        if answer.status_code == 409:
            assert_refused(answer)


def count_holds(database: TestDatabase, hour: float = 10) -> int:
    """Counts the holds of a slot."""
    count: int = database.value(
        "SELECT count(*) FROM booking.reservations WHERE status = 'held' AND slot_start = %s", at(hour)
    )
    return count


@pytest.mark.parametrize("capacity", [1, 10])
async def test_of_a_hundred_users_exactly_the_capacity_gets_the_slot(
    database: TestDatabase, serve: Serve, capacity: int
) -> None:
    """There are as many successes as places, conflicts for all others, and no errors."""
    database.make_service(capacity=capacity)
    async with serve(WORKERS=2).client(connections=100) as client:
        answers = await race(client, reserves(client, 100))
    assert_granted_exactly(answers, capacity)
    assert count_holds(database) == capacity


async def test_of_ten_requests_for_two_places_eight_get_the_refusal(database: TestDatabase, serve: Serve) -> None:
    """The refusal has the wording for users."""
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
            assert count_holds(database, hour) == 5


async def test_two_hundred_requests_in_flight_at_one_time_are_all_answered(
    database: TestDatabase, serve: Serve
) -> None:
    """All of them wait at the lock before the first is decided, so the outcome does not depend on timing."""
    database.make_service(capacity=5)
    async with serve(WORKERS=2).client(connections=200) as client:
        answers = await race_behind_lock(client, reserves(client, 200), database)
        room = await client.get("/api/booking/capacity", params=slot())
    assert_granted_exactly(answers, 5)
    assert room.json() == {"capacity": 5, "held": 5, "booked": 0, "available": 0}
