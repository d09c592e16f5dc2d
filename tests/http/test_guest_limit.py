"""maxUpcomingPerGuest over HTTP: for a commit, in one call and from the widget."""

import asyncio
from collections import Counter

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, book, by_token, cancel, commit, reserve, slot
from tests.http.conftest import ADMIN
from tests.http.refusals import refusal

pytestmark = pytest.mark.anyio


async def test_a_guest_at_the_limit_is_refused_in_every_public_way(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Addresses and numbers are compared as they are stored; the hold stays, and staff may book beyond the limit."""
    database.make_service(capacity=9, max_upcoming_per_guest=1)
    settings = {"name": "Salon", "slug": "salon", "country": "DE"}
    await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)
    booked = await book(client, guestPhone="030 123456")
    held = await reserve(client, 12)
    form = {"serviceId": "cut", "startTime": at(12).isoformat(), "firstName": "Ada", "email": "ada@EXAMPLE.com"}
    for response in (
        await client.post("/api/bookings", json=slot(12, guestPhone="+49 30 123456")),
        await commit(client, held["reservationId"], guestEmail="ada@example.com"),
        await client.post("/api/v1/public/salon/book", json={**form, "slotEnd": at(13).isoformat()}),
    ):
        body = response.json()
        code = body["error"]["code"] if "error" in body else body["code"]
        assert (response.status_code, code) == (409, "GUEST_LIMIT_REACHED")
    manual = await client.post(APPOINTMENTS, json=slot(12, guestEmail="ada@example.com"), headers=ADMIN)
    assert manual.status_code == 201
    assert (await client.get(f"/api/booking/reservations/{held['reservationId']}")).json()["status"] == "held"
    await cancel(client, booked, by_token(booked))
    await cancel(client, manual.json(), ADMIN)
    assert (await commit(client, held["reservationId"], guestEmail="ada@example.com")).status_code == 201


async def test_ten_commits_of_one_guest_at_once_get_as_many_as_allowed(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """They share calls; the requests of other guests that share them are granted."""
    database.make_service(capacity=30, max_upcoming_per_guest=2)
    holds = [(await reserve(client))["reservationId"] for _ in range(15)]
    mine = [commit(client, hold, guestEmail="ada@example.com", guestPhone="+4930123456") for hold in holds[:10]]
    others = [commit(client, hold, guestEmail=f"{hold}@example.com") for hold in holds[10:]]
    answers = await asyncio.gather(*mine, *others)
    assert Counter(response.status_code for response in answers[:10]) == {201: 2, 409: 8}
    assert {refusal(response) for response in answers[:10] if response.is_error} == {(409, "GUEST_LIMIT_REACHED")}
    assert {response.status_code for response in answers[10:]} == {201}
