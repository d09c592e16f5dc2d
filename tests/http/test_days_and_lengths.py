"""Lengths over HTTP: calendar days, nights, and the bounds of what guests may ask for."""

from datetime import UTC, datetime
from typing import Any, Final

import httpx2
import pytest

from tests.database import TestDatabase
from tests.http.booking_calls import APPOINTMENTS
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

NEW_YEAR = datetime(2027, 1, 1, 8, tzinfo=UTC)
BY_DAYS: Final[Json] = {
    "duration_minutes": None,
    "min_duration_minutes": None,
    "max_duration_minutes": None,
    "slot_step_minutes": None,
    "duration_days": 1,
}
BY_MINUTES: Final[Json] = {"min_duration_minutes": None, "max_duration_minutes": None, "slot_step_minutes": None}
NIGHTS: Final[Json] = {"start_times": ["14:00"], "end_time": "11:00"}
AT_ONCE = {"guestEmail": "ada@example.com"}


@pytest.fixture
def service(database: TestDatabase) -> Json:
    """Starts the year, and names the service that the tests put."""
    database.freeze_clock(NEW_YEAR)
    return {"businessId": "salon", "serviceId": "cut"}


async def reserve(client: httpx2.AsyncClient, service: Json, start: str, end: str | None = None) -> httpx2.Response:
    """Requests a hold."""
    slot = {**service, "slotStart": start} | ({"slotEnd": end} if end else {})
    return await client.post("/api/booking/reserve", json=slot)


async def listed(
    client: httpx2.AsyncClient, service: Json, start: str, end: str, **query: Any
) -> list[tuple[str, str]]:
    """Returns the slots between two instants."""
    query = {**service, "from": start, "to": end, **query}
    response = await client.get("/api/booking/availability", params=query)
    assert response.status_code == 200, response.text
    return [(slot["slotStart"], slot["slotEnd"]) for slot in response.json()["slots"]]


async def test_a_day_without_an_hour_leaves_the_next_day_whole(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """The clock goes forward on Sunday: it has 23 hours, and Monday is listed and granted."""
    database.make_service(resource_ids=["van"], capacity=1, **BY_DAYS)
    sunday = await reserve(client, service, "2027-03-28T00:00:00+01:00")
    assert (sunday.status_code, sunday.json()["slotEnd"]) == (201, "2027-03-28T22:00:00.000Z")
    monday = ("2027-03-28T22:00:00.000Z", "2027-03-29T22:00:00.000Z")
    assert await listed(client, service, "2027-03-28T22:00:00.000Z", "2027-03-29T22:00:00.000Z") == [monday]
    granted = await reserve(client, service, "2027-03-29T00:00:00+02:00")
    assert (granted.status_code, granted.json()["slotEnd"]) == (201, monday[1])
    again = await reserve(client, service, *monday)
    assert refusal(again) == (409, "SLOT_UNAVAILABLE")
    offered = [(slot["slotStart"], slot["slotEnd"]) for slot in again.json()["alternatives"]]
    assert ("2027-03-26T23:00:00.000Z", "2027-03-27T23:00:00.000Z") in offered
    assert all(start < end <= "2027-03-27T23:00:00.000Z" or start >= monday[1] for start, end in offered)


async def test_a_day_with_an_hour_twice_leaves_no_gap(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """In autumn Sunday has 25 hours, and the days around it meet."""
    database.make_service(resource_ids=["van"], capacity=1, **BY_DAYS)
    days = await listed(client, service, "2027-10-29T22:00:00.000Z", "2027-11-01T23:00:00.000Z")
    assert days == [
        ("2027-10-29T22:00:00.000Z", "2027-10-30T22:00:00.000Z"),
        ("2027-10-30T22:00:00.000Z", "2027-10-31T23:00:00.000Z"),
        ("2027-10-31T23:00:00.000Z", "2027-11-01T23:00:00.000Z"),
    ]
    for start, end in days:
        assert (await reserve(client, service, start, end)).status_code == 201


async def test_24_hours_are_no_day_where_the_clock_changes(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """They end an hour into the next date."""
    database.make_service(resource_ids=["van"], capacity=1, **BY_DAYS | {"max_duration_days": 2})
    refused = await reserve(client, service, "2027-03-28T00:00:00+01:00", "2027-03-29T01:00:00+02:00")
    assert (refused.status_code, refused.json()["reason"]) == (422, "off_grid")


async def test_nights_are_listed_at_their_start_and_follow_each_other(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """From 14:00 to 11:00 of the next day: one a date, and nothing else."""
    database.make_service(resource_ids=["room"], capacity=1, **BY_DAYS, **NIGHTS)
    database.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    nights = [(f"2027-02-0{day}T14:00:00.000Z", f"2027-02-0{day + 1}T11:00:00.000Z") for day in range(1, 8)]
    assert await listed(client, service, "2027-02-01T00:00:00.000Z", "2027-02-08T00:00:00.000Z") == nights
    for start in ("2027-02-01T14:00:00.000Z", "2027-02-02T14:00:00.000Z", "2027-01-31T14:00:00.000Z"):
        assert (await reserve(client, service, start)).status_code == 201
    assert await listed(client, service, "2027-02-01T00:00:00.000Z", "2027-02-08T00:00:00.000Z") == nights[2:]


async def test_a_stay_ends_as_a_number_of_nights_does(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """Any other end is off the grid, within the bounds and outside. The business itself may book up to 366 days."""
    database.make_service(
        resource_ids=["room"], capacity=1, **BY_DAYS | NIGHTS | {"duration_days": 2, "max_duration_days": 4}
    )
    start = "2027-02-01T14:00:00+01:00"
    for end, reason in (
        ("2027-02-03T12:00:00+01:00", "off_grid"),
        ("2027-02-06T12:00:00+01:00", "off_grid"),
        ("2027-02-06T11:00:00+01:00", "too_long"),
        ("2027-02-02T11:00:00+01:00", "too_short"),
    ):
        refused = await reserve(client, service, start, end)
        assert (refused.status_code, refused.json()["reason"]) == (422, reason), end
    stay = await reserve(client, service, start, "2027-02-05T11:00:00+01:00")
    assert stay.status_code == 201
    own = {**service, "slotStart": "2027-03-01T15:00:00+01:00"}
    for end, status in (("2028-03-01T11:00:00+01:00", 201), ("2029-06-01T11:00:00+01:00", 400)):
        booked = await client.post(APPOINTMENTS, json={**own, "slotEnd": end}, headers=ADMIN)
        assert booked.status_code == status, booked.text
    assert faulty_fields(booked) == ["slotEnd"]


async def test_the_guests_of_a_night_are_those_who_are_in_the_house(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """Their stay began before the day that is asked for, and ends after it."""
    database.make_service(resource_ids=["room"], capacity=1, **BY_DAYS | NIGHTS | {"max_duration_days": 14})
    stay = {"slotStart": "2027-02-01T14:00:00+01:00", "slotEnd": "2027-02-05T11:00:00+01:00"}
    booked = (await client.post("/api/bookings", json={**service, **stay, **AT_ONCE})).json()
    day = {"businessId": "salon", "from": "2027-02-03T00:00:00+01:00", "to": "2027-02-04T00:00:00+01:00"}
    starting = (await client.get(APPOINTMENTS, params=day, headers=ADMIN)).json()["items"]
    staying = (await client.get(APPOINTMENTS, params=day | {"overlapping": "true"}, headers=ADMIN)).json()["items"]
    assert (starting, [guest["appointmentId"] for guest in staying]) == ([], [booked["appointmentId"]])


async def test_a_moved_stay_keeps_its_number_of_nights(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """Also across a change of the clocks; a new end may be given too."""
    database.make_service(resource_ids=["room"], capacity=1, **BY_DAYS | NIGHTS | {"max_duration_days": 14})
    stay = {"slotStart": "2027-02-01T14:00:00+01:00", "slotEnd": "2027-02-04T11:00:00+01:00"}
    booked = (await client.post("/api/bookings", json={**service, **stay, **AT_ONCE})).json()
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    moved = {"expectedVersion": 1, "slotStart": "2027-03-26T14:00:00+01:00"}
    response = await client.patch(address, json=moved, headers=ADMIN)
    assert (response.status_code, response.json()["slotEnd"]) == (200, "2027-03-29T09:00:00.000Z")
    longer = {"expectedVersion": 2, "slotEnd": "2027-03-31T11:00:00+02:00"}
    assert (await client.patch(address, json=longer, headers=ADMIN)).status_code == 200


@pytest.mark.parametrize("call", ["reserve", "book", "widget"])
async def test_a_length_beyond_the_bounds_is_refused(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json, call: str
) -> None:
    """They are the duration itself, unless the owner allows others."""
    database.make_service(**BY_MINUTES | {"duration_minutes": 45})
    database.rows("INSERT INTO booking.slugs (slug, business_id) VALUES ('rosa', 'salon')")
    for end, reason in (("10:01", "too_short"), ("10:44", "too_short"), ("10:46", "too_long"), ("10:45", None)):
        start, end = "2027-01-11T10:00:00.000Z", f"2027-01-11T{end}:00.000Z"
        slot = {**service, "slotStart": start, "slotEnd": end}
        form = {"serviceId": "cut", "startTime": start, "slotEnd": end, "firstName": "Ada", "lastName": "Example"}
        path, body = {
            "reserve": ("/api/booking/reserve", slot),
            "book": ("/api/bookings", {**slot, **AT_ONCE}),
            "widget": ("/api/v1/public/rosa/book", {**form, "email": "ada@example.com"}),
        }[call]
        response = await client.post(path, json=body)
        found = response.json().get("error", response.json())
        assert (response.status_code, found.get("reason")) == (422 if reason else 201, reason), end
    a_day_later = await reserve(client, service, "2027-01-12T10:00:00.000Z", "2027-01-13T10:00:00.000Z")
    assert (a_day_later.status_code, a_day_later.json()["reason"]) == (422, "too_long")


async def test_a_guest_gets_the_length_that_was_listed_or_a_refusal(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """The owner changes the length between the listing and the booking."""
    database.make_service(**BY_MINUTES | {"duration_minutes": 30})
    times = ("2027-01-11T10:00:00.000Z", "2027-01-11T11:00:00.000Z")
    [shown, later] = await listed(client, service, *times)
    database.put_service(**BY_MINUTES | {"duration_minutes": 45, "min_duration_minutes": 30})
    granted = await reserve(client, service, *shown)
    assert (granted.status_code, granted.json()["slotEnd"]) == (201, shown[1])
    database.put_service(**BY_MINUTES | {"duration_minutes": 45})
    refused = await reserve(client, service, *later)
    assert (refused.status_code, refused.json()["reason"]) == (422, "too_short")


async def test_a_start_between_the_listed_ones_can_be_barred(
    client: httpx2.AsyncClient, database: TestDatabase, service: Json
) -> None:
    """With a grid that binds, what is offered instead lies on it; the business itself books where it wants."""
    database.make_service(**BY_MINUTES | {"duration_minutes": 60, "starts_on_grid": True})
    off = await reserve(client, service, "2027-01-11T10:30:00.000Z")
    assert (off.status_code, off.json()["reason"]) == (422, "off_grid")
    own = {**service, "slotStart": "2027-01-11T10:30:00.000Z"}
    assert (await client.post(APPOINTMENTS, json=own, headers=ADMIN)).status_code == 201
    refused = await reserve(client, service, "2027-01-11T11:00:00.000Z")
    assert refused.status_code == 409
    offered = refused.json()["alternatives"]
    assert len(offered) == 5
    assert all(slot["slotStart"].endswith(":00:00.000Z") for slot in offered)
