"""The terms of an appointment: until when its guest may cancel and move it, in each answer that has the appointment."""

from datetime import timedelta

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import (
    APPOINTMENTS,
    book,
    cancel,
    change,
    commit,
    create,
    list_day,
    read,
    reserve,
    slot,
    timestamp,
)
from tests.http.conftest import ADMIN
from tests.http.describing import Json

pytestmark = pytest.mark.anyio


def terms(appointment: Json) -> tuple[str, str]:
    """Returns until when the guest may cancel, and move, an appointment."""
    return appointment["cancellableUntil"], appointment["reschedulableUntil"]


async def test_each_answer_with_an_appointment_has_its_terms(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """All four ways to book, replays, and the reads and changes of staff."""
    database.make_service(capacity=9, cancellation_window_minutes=120, reschedule_window_minutes=30)
    await client.put(
        "/api/catalog/businesses/salon", json={"name": "Salon", "slug": "salon", "country": "DE"}, headers=ADMIN
    )
    expected = timestamp(at(8)), timestamp(at(9.5))
    held = await reserve(client)
    widget = {"serviceId": "cut", "startTime": at(10).isoformat(), "firstName": "Ada", "email": "ada@example.com"}
    for path, body, headers in (
        ("/api/booking/commit", {"reservationId": held["reservationId"], "guestEmail": "ada@example.com"}, {}),
        ("/api/bookings", slot(guestEmail="ada@example.com"), {"Idempotency-Key": "once"}),
        (APPOINTMENTS, slot(), ADMIN | {"Idempotency-Key": "manual"}),
        ("/api/v1/public/salon/book", widget, {"Idempotency-Key": "widget"}),
    ):
        for status in (201, 200):
            response = await client.post(path, json=body, headers=headers)
            assert response.status_code == status
            booked = response.json().get("data", response.json())
            assert terms(booked) == expected, path
    assert terms(await read(client, booked)) == expected
    assert {terms(item) for item in (await list_day(client))["items"]} == {expected}
    moved = await change(client, booked, {"expectedVersion": 1, "slotStart": at(14).isoformat()})
    assert terms(moved.json()) == (timestamp(at(12)), timestamp(at(13.5)))
    assert terms((await cancel(client, booked, ADMIN)).json()) == terms(moved.json())


@pytest.mark.parametrize(
    ("settings", "cancellable", "reschedulable"),
    [
        ({}, at(10), at(10)),
        ({"cancellation_window_minutes": 120}, at(8), at(8)),
        ({"cancellation_window_minutes": 120, "reschedule_window_minutes": 0}, at(8), at(10)),
        ({"reschedule_window_minutes": 1440}, at(10), at(10, day=-1)),
        ({"cancellation_window_minutes": 366 * 24 * 60}, at(10, day=-366), at(10, day=-366)),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
async def test_the_terms_follow_the_settings(
    client: httpx2.AsyncClient, database: TestDatabase, settings: Json, cancellable: object, reschedulable: object
) -> None:
    """The window to move is by default the one to cancel, and an instant that is past is shown as it is."""
    database.make_service(**settings)
    expected = timestamp(cancellable), timestamp(reschedulable)  # type: ignore[arg-type]
    assert terms(await book(client)) == expected


async def test_the_terms_are_those_of_the_present_settings(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The answer shows what a verb would decide now: the owner's change applies to earlier appointments too."""
    database.make_service()
    held = await reserve(client)
    booked = (await commit(client, held["reservationId"])).json()
    manual = await create(client, 12)
    database.make_service(cancellation_window_minutes=60, reschedule_window_minutes=90)
    assert terms(await read(client, booked)) == (timestamp(at(9)), timestamp(at(8.5)))
    assert terms(await read(client, manual)) == (timestamp(at(11)), timestamp(at(10.5)))
    database.freeze_clock(at(9) + timedelta(milliseconds=1))
    refused = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert refused.json()["cancellableUntil"] == terms(booked | (await read(client, booked)))[0]
