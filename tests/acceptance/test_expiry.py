"""The expiry of a hold over HTTP, without a purge: its slot goes to the commit or to a rival, never to both."""

import random
from datetime import datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest

from tests.acceptance.clients import commits, guest, race, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio

SECOND = 1 / 60
SLOTS = 24


async def hold(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> dict[str, Any]:
    """Holds a slot and returns the reservation."""
    answer = await client.post("/api/booking/reserve", json=slot(hour, **members))
    assert answer.status_code == 201
    reservation: dict[str, Any] = answer.json()
    return reservation


async def expired_hold(client: httpx2.AsyncClient, database: TestDatabase) -> dict[str, Any]:
    """Holds a slot for a second, and freezes the clock at its expiry."""
    database.freeze_clock()
    held = await hold(client, ttlMinutes=SECOND)
    database.move_clock(timedelta(seconds=1))
    return held


async def rebook(client: httpx2.AsyncClient, reservation_id: str) -> httpx2.Response:
    """Commits a hold, or books its slot if the hold has expired."""
    return await client.post("/api/booking/commit", json=guest(reservation_id, ifExpired="rebook"))


async def contend(client: httpx2.AsyncClient, hour: float) -> tuple[int, int]:
    """Holds a slot for a second, and commits it at its expiry while a rival requests it. Returns the statuses of both.

    The commit is sent within a tenth of a second of the expiry. The rival starts before it and repeats its request
    until the slot is committed or its own.
    """
    held = await hold(client, hour, ttlMinutes=SECOND)
    offset_seconds = random.uniform(-0.1, 0.1)
    statuses: dict[str, int] = {}

    async def commit() -> None:
        await anyio.sleep(held["expiresInSeconds"] + offset_seconds)
        answer = await client.post("/api/booking/commit", json=guest(held["reservationId"]))
        statuses["commit"] = answer.status_code

    async def rival() -> None:
        await anyio.sleep(held["expiresInSeconds"] - 0.1)
        while statuses.get("commit") != 201:
            answer = await client.post("/api/booking/reserve", json=slot(hour))
            statuses["rival"] = answer.status_code
            if answer.status_code != 409:
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        tasks.start_soon(rival)
    return statuses["commit"], statuses["rival"]


async def test_at_its_expiry_a_slot_goes_to_the_commit_or_to_a_rival(database: TestDatabase, serve: Serve) -> None:
    """The first of both at the boundary gets it; it never goes to both or to neither."""
    database.make_service()
    ends: list[tuple[int, int]] = []
    async with serve(WORKERS=2).client(connections=2 * SLOTS) as client:

        async def run(hour: float) -> None:
            ends.append(await contend(client, hour))

        async with anyio.create_task_group() as tasks:
            for hour in range(SLOTS):
                tasks.start_soon(run, hour)
    committed, rivals = (201, 409), (410, 201)
    assert [end for end in ends if end not in (committed, rivals)] == []
    assert database.rows("SELECT count(*) FROM booking.maintenance_runs") == [(0,)]


async def test_an_expired_hold_frees_its_slot_without_a_purge(database: TestDatabase, serve: Serve) -> None:
    """At its expiry the slot is bookable, to the microsecond, and a commit of the hold is refused."""
    database.make_service()
    async with serve().client() as client:
        first = await expired_hold(client, database)
        second = await hold(client)
        late = await client.post("/api/booking/commit", json=guest(first["reservationId"]))
        booked = await client.post("/api/booking/commit", json=guest(second["reservationId"]))
        seen = await client.get(f"/api/booking/reservations/{first['reservationId']}")
    assert (late.status_code, late.json()["code"]) == (410, "RESERVATION_EXPIRED")
    assert booked.status_code == 201
    assert (seen.json()["status"], seen.json()["expiresInSeconds"]) == ("expired", 0)


@pytest.mark.parametrize(("early_microseconds", "commit_status", "rival_status"), [(1, 201, 409), (0, 410, 201)])
async def test_the_boundary_is_an_instant(
    database: TestDatabase, serve: Serve, early_microseconds: int, commit_status: int, rival_status: int
) -> None:
    """A microsecond before its expiry a hold can be committed and blocks its slot; at its expiry it can do neither, in
    any order of requests."""
    database.make_service()
    database.freeze_clock()
    async with serve().client() as client:
        ten, noon = await hold(client, 10), await hold(client, 12)
        assert ten["expiresAt"] == noon["expiresAt"]
        expires_at = datetime.fromisoformat(ten["expiresAt"])
        database.freeze_clock(expires_at - timedelta(microseconds=early_microseconds))
        answers = [
            await client.post("/api/booking/commit", json=guest(ten["reservationId"])),
            await client.post("/api/booking/reserve", json=slot(10)),
            await client.post("/api/booking/reserve", json=slot(12)),
            await client.post("/api/booking/commit", json=guest(noon["reservationId"])),
        ]
    assert [answer.status_code for answer in answers] == [commit_status, rival_status, rival_status, commit_status]


async def test_a_late_payment_books_the_slot_if_it_is_still_free(database: TestDatabase, serve: Serve) -> None:
    """The rebooking follows the rules of every booking, and the hold stays expired."""
    database.make_service()
    async with serve().client() as client:
        held = await expired_hold(client, database)
        booked = await rebook(client, held["reservationId"])
        again = await rebook(client, held["reservationId"])
        seen = await client.get(f"/api/booking/reservations/{held['reservationId']}")
    assert (booked.status_code, again.status_code) == (201, 200)
    assert booked.text == again.text
    assert seen.json()["status"] == "expired"


async def test_a_late_payment_does_not_take_the_slot_of_a_rival(database: TestDatabase, serve: Serve) -> None:
    """The rebooking is refused, and the rival's hold can still be committed."""
    database.make_service()
    async with serve().client() as client:
        held = await expired_hold(client, database)
        rivals = await hold(client)
        refused = await rebook(client, held["reservationId"])
        booked = await client.post("/api/booking/commit", json=guest(rivals["reservationId"]))
    assert (refused.status_code, refused.json()["code"]) == (409, "SLOT_UNAVAILABLE")
    assert booked.status_code == 201


async def test_late_payments_and_new_guests_share_the_capacity(database: TestDatabase, serve: Serve) -> None:
    """Rebookings are decided with all other requests: together they never exceed the capacity."""
    database.make_service(capacity=5)
    database.freeze_clock()
    async with serve(WORKERS=2).client(connections=25) as client:
        held = [await hold(client, ttlMinutes=SECOND) for _ in range(5)]
        database.move_clock(timedelta(seconds=1))
        late = commits(client, (guest(one["reservationId"], ifExpired="rebook") for one in held))
        answers = await race(client, [*reserves(client, 10), *late, *reserves(client, 10)])
    assert statuses(answers) == {201: 5, 409: 20}
