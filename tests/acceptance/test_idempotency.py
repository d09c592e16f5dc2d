"""Equal requests at the same time, over HTTP, at a service with several workers: they have one effect."""

import httpx2
import pytest

from tests.acceptance.clients import commits, guest, race, race_behind_lock, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio

KEY = "one-attempt"


def assert_one_was_first(answers: list[httpx2.Response]) -> None:
    """Checks that one answer is the first result and that all others are replays."""
    assert statuses(answers) == {201: 1, 200: len(answers) - 1}
    for answer in answers:
        assert answer.headers.get("idempotency-replayed") == (None if answer.status_code == 201 else "true")


@pytest.mark.parametrize("in_header", [True, False], ids=["header", "body"])
async def test_forty_equal_requests_at_once_make_one_hold(
    database: TestDatabase, serve: Serve, in_header: bool
) -> None:
    """There is room for every copy, and still only one hold is made."""
    database.make_service(capacity=40)
    async with serve(WORKERS=2).client(connections=40) as client:
        if in_header:
            client.headers["Idempotency-Key"] = KEY
        requests = reserves(client, 40) if in_header else reserves(client, 40, idempotencyKey=KEY)
        answers = await race_behind_lock(client, requests, database)
    assert_one_was_first(answers)
    bodies = [answer.json() for answer in answers]
    assert len({(body["reservationId"], body["expiresAt"], body["version"]) for body in bodies}) == 1
    assert database.rows("SELECT idempotency_key, version FROM booking.reservations") == [(KEY, 1)]


async def test_forty_unsynchronised_equal_requests_make_one_hold(database: TestDatabase, serve: Serve) -> None:
    """In ten rounds without a lock, some are answered before others are sent."""
    database.make_service(capacity=40)
    async with serve(WORKERS=2).client(connections=40) as client:
        for number in range(10):
            assert_one_was_first(await race(client, reserves(client, 40, number, idempotencyKey=f"attempt-{number}")))
    assert database.value("SELECT count(*) FROM booking.reservations") == 10


async def test_equal_keys_of_different_requests_at_once_make_one_hold(database: TestDatabase, serve: Serve) -> None:
    """Of two attempts under one key, one is granted, and every copy of the other is refused."""
    database.make_service(capacity=40)
    async with serve(WORKERS=2).client(connections=40) as client:
        requests = [
            *reserves(client, 20, hour=10, idempotencyKey=KEY),
            *reserves(client, 20, hour=12, idempotencyKey=KEY),
        ]
        answers = await race_behind_lock(client, requests, database)
    assert statuses(answers) == {201: 1, 200: 19, 422: 20}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 422} == {"IDEMPOTENCY_KEY_REUSED"}
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


@pytest.mark.parametrize("behind_lock", [True, False], ids=["all in flight", "free"])
async def test_eight_commits_of_one_hold_at_once_make_one_appointment(
    database: TestDatabase, serve: Serve, behind_lock: bool
) -> None:
    """The id of the hold is the idempotency key: all answers have the first commit's appointment."""
    database.make_service()
    async with serve(WORKERS=2).client() as client:
        hold = (await client.post("/api/booking/reserve", json=slot())).json()
        requests = commits(client, (guest(hold["reservationId"], guestName="Ada") for _ in range(8)))
        answers = await (race_behind_lock(client, requests, database) if behind_lock else race(client, requests))
    assert_one_was_first(answers)
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["cancellationToken"]
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    assert database.rows("SELECT action, version FROM booking.audit_logs") == [("created", 1)]
