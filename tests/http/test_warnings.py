"""Staff who book or move into closed hours are warned in the answer."""

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, book, change, create, read, slot, timestamp
from tests.http.conftest import ADMIN

pytestmark = pytest.mark.anyio

LUNCH = 11


@pytest.fixture(autouse=True)
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a salon with a lunch break, in Berlin."""
    database.make_service(resource_ids=["anna"])
    database.put_hours([(1, "08:00", "12:00"), (1, "14:00", "18:00")])
    return database


async def test_staff_are_warned_and_guests_refused(client: httpx2.AsyncClient) -> None:
    """In the lunch break; a later read of the appointment has no warnings."""
    refused = await client.post("/api/bookings", json=slot(LUNCH, guestEmail="ada@example.com"))
    assert (refused.status_code, refused.json()["reason"]) == (422, "closed")
    made = await create(client, LUNCH)
    assert made["warnings"] == [{"code": "closed"}]
    assert "warnings" not in await read(client, made)
    assert "warnings" not in await book(client, 9)


async def test_a_move_names_what_it_breaks(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """Each warning has its code, and that of a resource names it."""
    salon.put_closure("trip", at(9), at(10), "anna")
    made = await create(client, 14)
    assert "warnings" not in made
    moved = await change(client, made, {"expectedVersion": 1, "slotStart": timestamp(at(LUNCH))})
    assert (moved.status_code, moved.json()["warnings"]) == (200, [{"code": "closed"}])
    moved = await change(client, made, {"expectedVersion": 2, "slotStart": timestamp(at(9))})
    assert moved.json()["warnings"] == [{"code": "closed", "resourceId": "anna"}]
    edited = await change(client, made, {"expectedVersion": 3, "notes": "by the window"})
    assert "warnings" not in edited.json()
    cancelled = await client.post(f"{APPOINTMENTS}/{made['appointmentId']}/cancel", json={}, headers=ADMIN)
    assert "warnings" not in cancelled.json()
