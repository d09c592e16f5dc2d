"""Races of a booking widget's users for one slot, at a service with several workers: one gets it.

It is the counterpart of tests/load/widget_booking.js and needs no load generator.
"""

from typing import Any

import httpx2
import pytest

from tests.acceptance.clients import race, race_behind_lock, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.serving import ADMIN_TOKEN

pytestmark = pytest.mark.anyio

BUSINESS = "/api/catalog/businesses/salon"
BOOK = "/api/v1/public/salon-rosa/book"


async def open_salon(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Makes a salon with a slug and two resources."""
    database.make_service(resource_ids=["rosa", "maria"])
    settings = {"name": "Salon Rosa", "slug": "salon-rosa", "country": "DE"}
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await client.put(BUSINESS, json=settings, headers=bearer)).is_success


def forms(client: httpx2.AsyncClient, count: int, **members: Any) -> list[httpx2.Request]:
    """Makes a form for each of a number of users, who all want ten o'clock with Rosa."""
    wish = {"serviceId": "cut", "staffId": "rosa", "startTime": at(10).isoformat(), **members}
    return [
        client.build_request(
            "POST",
            BOOK,
            json={**wish, "firstName": "User", "lastName": str(number), "email": f"user{number}@example.com"},
        )
        for number in range(count)
    ]


def assert_booked(answers: list[httpx2.Response], number: int = 1) -> None:
    """Checks that this number was booked, and that all others got TIME_CONFLICT with alternatives."""
    assert statuses(answers) == {201: number, 400: len(answers) - number}
    for answer in answers:
        body = answer.json()
        if answer.status_code == 201:
            assert body["success"] is True
            assert body["data"]["status"] == "confirmed"
        else:
            assert body["success"] is False
            assert body["error"] == {
                "code": "TIME_CONFLICT",
                "message": "This time slot is no longer available",
            }
            assert body["alternatives"]


@pytest.mark.parametrize("behind_lock", [True, False], ids=["all in flight", "free"])
async def test_of_a_hundred_users_one_gets_rosa_at_ten(database: TestDatabase, serve: Serve, behind_lock: bool) -> None:
    """The successful answer has the only appointment."""
    async with serve(WORKERS=2).client(connections=100) as client:
        await open_salon(client, database)
        requests = forms(client, 100)
        answers = await (race_behind_lock(client, requests, database) if behind_lock else race(client, requests))
    assert_booked(answers)
    [data] = [answer.json()["data"] for answer in answers if answer.status_code == 201]
    [booked] = database.rows("SELECT appointment_id::text, resource_id, guest_email FROM booking.appointments")
    assert booked == (data["appointmentId"], "rosa", data["guestEmail"])


async def test_without_a_named_resource_each_one_is_booked_once(database: TestDatabase, serve: Serve) -> None:
    """Of a hundred users one is booked with Rosa and one with Maria."""
    async with serve(WORKERS=2).client(connections=100) as client:
        await open_salon(client, database)
        answers = await race(client, forms(client, 100, staffId=None))
    assert_booked(answers, 2)
    assert sorted(a.json()["data"]["resourceId"] for a in answers if a.status_code == 201) == ["maria", "rosa"]


async def test_forty_copies_of_one_form_make_one_booking(database: TestDatabase, serve: Serve) -> None:
    """A widget sends the same key each time that its user presses the button."""
    async with serve(WORKERS=2).client(connections=40, **{"Idempotency-Key": "one-attempt"}) as client:
        await open_salon(client, database)
        [form] = forms(client, 1)
        copies = [client.build_request("POST", BOOK, content=form.content, headers=form.headers) for _ in range(40)]
        answers = await race_behind_lock(client, copies, database)
    assert statuses(answers) == {201: 1, 200: 39}
    assert len({answer.text for answer in answers}) == 1
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
