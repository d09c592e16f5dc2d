"""A PUT accepts what GET gave, and changes nothing then: so a client can read an entry, change a member, and put it."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
CUT = f"{SALON}/services/cut"
HOURS = f"{SALON}/opening-hours"
NINE_TO_FIVE = {"weekday": 1, "opens": "09:00", "closes": "17:00"}
# A null within metadata is data, and so is the difference between 1 and 1.0.
DESCRIBED: Json = {
    "description": "Grüße\n",
    "metadata": {"": None, "from_": 1, "a": {"b": [1, 1.0, 1e-7, "ß", None, {}]}, "large": 10**30},
}

# Entries of the catalog: the least that each can be put with, and one with every member.
ENTRIES: list[tuple[str, Json]] = [
    (SALON, {"name": "Salon"}),
    (
        SALON,
        {
            "name": "Salon",
            "slug": "rosa",
            "timezone": "Europe/Berlin",
            "country": "DE",
            "feedPastDays": 0,
            "guestRetentionDays": 30,
            **DESCRIBED,
        },
    ),
    (f"{SALON}/resources/chair", {"name": "Chair"}),
    (f"{SALON}/resources/chair", {"name": "Chair", "kind": "chair", "bookingEnabled": False, "seats": 3, **DESCRIBED}),
    (CUT, {"name": "Cut", "durationMinutes": 45}),
    (CUT, {"name": "Cut", "durationMinutes": 45, "resourceIds": ["anna"]}),
    (CUT, {"name": "Stay", "durationDays": 1}),
    (
        CUT,
        {
            "name": "Stay",
            "durationDays": 2,
            "minDurationDays": 1,
            "maxDurationDays": 14,
            "startTimes": ["09:00", "14:00"],
            "endTime": "11:00",
            "startsOnGrid": True,
            "hoursApply": "throughout",
            "maxSimultaneousBookings": 2,
            "resourceSharing": "session",
            "resourceIds": ["anna", "ben"],
            "holdTtlMinutes": 20,
            "maxHoldTtlMinutes": 30,
            "maxHoldLifetimeMinutes": 90,
            "slotStepMinutes": 15,
            "bufferBeforeMinutes": 1,
            "bufferAfterMinutes": 2,
            "minNoticeMinutes": 3,
            "maxAdvanceDays": 4,
            "cancellationWindowMinutes": 5,
            "rescheduleWindowMinutes": 6,
            "maxUpcomingPerGuest": 7,
            "bookingEnabled": False,
            **DESCRIBED,
        },
    ),
    (CUT, {"name": "Cut", "durationMinutes": 45, "minDurationMinutes": 30, "maxDurationMinutes": 60}),
    (f"{SALON}/special-hours/easter", {"date": "2027-03-28", "hours": []}),
    (
        f"{SALON}/special-hours/easter",
        {
            "date": "2027-03-28",
            "until": "2027-03-29",
            "resourceId": "anna",
            "name": "Easter",
            "hours": [{"opens": "09:00", "closes": "12:00"}, {"opens": "13:00", "closes": "24:00"}],
        },
    ),
    (f"{SALON}/closures/away", {"from": timestamp(at(10)), "to": timestamp(at(12))}),
    (f"{SALON}/closures/away", {"date": "2027-03-28", "until": "2027-03-29", "resourceId": "anna"}),
    (
        f"{SALON}/closures/away",
        {"from": timestamp(at(10)), "to": timestamp(at(12)), "resourceId": "anna", "reason": "Training"},
    ),
]


@pytest.fixture
async def catalog(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.AsyncClient:
    """Sends the administrator's token, to a salon with two members of staff."""
    database.make_resource("anna")
    database.make_resource("ben")
    client.headers.update(ADMIN)
    return client


async def put(client: httpx2.AsyncClient, path: str, body: Any, status: int = 200) -> Any:
    """Puts an entry, and returns the answer."""
    response = await client.put(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def get(client: httpx2.AsyncClient, path: str) -> Json:
    """Reads an entry."""
    response = await client.get(path)
    assert response.status_code == 200, response.text
    entry: Json = response.json()
    return entry


@pytest.mark.parametrize(("path", "settings"), ENTRIES)
async def test_a_put_of_an_answer_changes_nothing(catalog: httpx2.AsyncClient, path: str, settings: Json) -> None:
    """What GET gave can be put, and so can the answer of the PUT: defaults stay defaults."""
    answer = (await catalog.put(path, json=settings)).json()
    read = await get(catalog, path)
    assert {name: read[name] for name in settings} == settings
    assert {name: answer[name] for name in read} == read
    assert await put(catalog, path, read) == answer
    assert await put(catalog, path, answer) == answer
    assert await get(catalog, path) == read


@pytest.mark.parametrize(
    ("path", "settings", "member"),
    [
        (SALON, {"name": "Salon"}, "businessId"),
        (CUT, {"name": "Cut", "durationMinutes": 45}, "businessId"),
        (CUT, {"name": "Cut", "durationMinutes": 45}, "serviceId"),
        (f"{SALON}/resources/anna", {"name": "Anna"}, "businessId"),
        (f"{SALON}/resources/anna", {"name": "Anna"}, "resourceId"),
        (f"{SALON}/special-hours/easter", {"date": "2027-03-28", "hours": []}, "specialHoursId"),
        (f"{SALON}/closures/away", {"from": timestamp(at(10)), "to": timestamp(at(12))}, "closureId"),
    ],
)
async def test_a_member_that_disagrees_with_the_path_is_refused(
    catalog: httpx2.AsyncClient, path: str, settings: Json, member: str
) -> None:
    """The body was probably meant for another entry. A key of the business gets the same answer."""
    owner = bearer((await make_key(catalog, "owner"))["key"])
    for headers in (ADMIN, owner):
        response = await catalog.put(path, json={**settings, member: "other"}, headers=headers)
        assert faulty_fields(response) == [member]


async def test_a_closure_keeps_the_milliseconds_that_it_shows(
    catalog: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """What is stored is what GET gives, so that a PUT of it changes nothing, by itself and in a document."""
    path, stored = f"{SALON}/closures/away", "SELECT during::text FROM booking.closures"
    await put(catalog, path, {"from": "2027-01-11T10:00:00.0015Z", "to": "2027-01-11T10:00:00.0029Z"}, 201)
    before = database.value(stored)
    [read] = (await get(catalog, f"{SALON}/closures"))["items"]
    await put(catalog, path, read)
    assert database.value(stored) == before
    assert (await put(catalog, f"{SALON}/document", await get(catalog, f"{SALON}/document")))["changes"] == []


async def test_a_closure_of_less_than_a_millisecond_is_refused(catalog: httpx2.AsyncClient) -> None:
    """It would end when it begins, as answers show it, and could not be put back."""
    times = {"from": "2027-01-11T10:00:00.0011Z", "to": "2027-01-11T10:00:00.0019Z"}
    assert faulty_fields(await catalog.put(f"{SALON}/closures/away", json=times)) == ["to"]


async def test_opening_hours_are_put_as_they_are_read(catalog: httpx2.AsyncClient) -> None:
    """GET gives the list in `items`; it is accepted in this form and bare."""
    await put(catalog, HOURS, [NINE_TO_FIVE, {**NINE_TO_FIVE, "resourceId": "anna"}])
    read = await get(catalog, HOURS)
    assert await put(catalog, HOURS, read) == read | {"closedByOwnHours": []}
    assert await put(catalog, HOURS, read["items"]) == read | {"closedByOwnHours": []}
    for faulty, fields in (
        ({**NINE_TO_FIVE, "opens": "18:00"}, ["1.closes"]),
        ({**NINE_TO_FIVE, "resourceId": "nobody"}, ["1.resourceId"]),
    ):
        assert faulty_fields(await catalog.put(HOURS, json={"items": [NINE_TO_FIVE, faulty]})) == fields
    others: list[Json] = [{"items": [], "more": 1}, {"hours": []}, {"items": None}, {"items": {}}]
    for body in others:
        assert refusal(await catalog.put(HOURS, json=body)) == (400, "VALIDATION_FAILED")
    assert await get(catalog, HOURS) == read


async def test_a_resource_is_added_to_what_was_read(catalog: httpx2.AsyncClient) -> None:
    """The capacity that was left out follows the pool, so that the new resource is booked beside the others."""
    await put(catalog, CUT, {"name": "Cut", "durationMinutes": 60, "resourceIds": ["anna"]}, 201)
    read = await get(catalog, CUT)
    await put(catalog, CUT, {**read, "resourceIds": [*read["resourceIds"], "ben"]})
    held = [await catalog.post("/api/booking/reserve", json=slot()) for _ in range(2)]
    assert {response.json()["resourceId"] for response in held} == {"anna", "ben"}


async def test_a_service_that_lost_its_resources_says_so(catalog: httpx2.AsyncClient) -> None:
    """An empty pool makes it a service without resources, which can be booked at once; the earlier booking stays."""
    await put(catalog, CUT, {"name": "Cut", "durationMinutes": 60, "resourceIds": ["anna"]}, 201)
    booked = await catalog.post("/api/booking/appointments", json=slot(9))
    assert (await catalog.delete(f"{SALON}/resources/anna")).status_code == 204
    read = await get(catalog, CUT)
    assert (read["resourceIds"], read["archivedResourceIds"]) == (["anna"], ["anna"])
    assert refusal(await catalog.post("/api/booking/reserve", json=slot())) == (409, "SLOT_UNAVAILABLE")
    assert await put(catalog, CUT, read) == read

    repaired = await put(catalog, CUT, {**read, "resourceIds": []})
    assert (repaired["resourceIds"], repaired["archivedResourceIds"]) == ([], [])
    held = await catalog.post("/api/booking/reserve", json=slot())
    assert (held.status_code, held.json()["resourceId"]) == (201, None)
    kept = await get(catalog, f"/api/booking/appointments/{booked.json()['appointmentId']}")
    assert kept["resourceId"] == "anna"


async def test_an_archived_resource_is_listed_apart(catalog: httpx2.AsyncClient) -> None:
    """While the pool has another one, `resourceIds` has that alone."""
    await put(catalog, CUT, {"name": "Cut", "durationMinutes": 60, "resourceIds": ["anna", "ben"]}, 201)
    await catalog.delete(f"{SALON}/resources/anna")
    read = await get(catalog, CUT)
    assert (read["resourceIds"], read["archivedResourceIds"]) == (["ben"], ["anna"])
    assert await put(catalog, CUT, read) == read


async def test_a_class_of_eight_shares_its_teacher(catalog: httpx2.AsyncClient) -> None:
    """A capacity of eight with a pool of one seat is refused. A session of eight seats is granted to eight guests, and
    the teacher gives no other class meanwhile."""
    yoga = {"name": "Yoga", "durationMinutes": 60, "maxSimultaneousBookings": 8, "resourceIds": ["anna"]}
    response = await catalog.put(CUT, json=yoga)
    assert faulty_fields(response) == ["maxSimultaneousBookings"]
    assert refusal(await catalog.get(CUT)) == (404, "SERVICE_NOT_FOUND")

    await put(catalog, f"{SALON}/resources/anna", {"name": "Anna", "seats": 8})
    await put(catalog, CUT, {**yoga, "resourceSharing": "session"}, 201)
    pilates = {"name": "Pilates", "durationMinutes": 60, "resourceIds": ["anna"]}
    await put(catalog, f"{SALON}/services/pilates", pilates, 201)
    for _ in range(8):
        held = await catalog.post("/api/booking/reserve", json=slot(9))
        assert (held.status_code, held.json()["resourceId"]) == (201, "anna")
    for body in (slot(9), slot(9.5, serviceId="pilates")):
        assert refusal(await catalog.post("/api/booking/reserve", json=body)) == (409, "SLOT_UNAVAILABLE")


async def test_fewer_seats_than_are_claimed_are_refused(catalog: httpx2.AsyncClient) -> None:
    """The refusal names the first slot in the way."""
    await put(catalog, f"{SALON}/resources/anna", {"name": "Anna", "seats": 4})
    await put(catalog, CUT, {"name": "Dinner", "durationMinutes": 60, "resourceIds": ["anna"]}, 201)
    assert (await catalog.post("/api/booking/reserve", json=slot(quantity=4))).status_code == 201
    response = await catalog.put(f"{SALON}/resources/anna", json={"name": "Anna", "seats": 3})
    assert refusal(response) == (409, "CAPACITY_IN_USE")
    assert (response.json()["slotStart"], response.json()["claimed"]) == (timestamp(at(10)), 4)


async def test_a_business_without_a_country_needs_international_numbers(catalog: httpx2.AsyncClient) -> None:
    """A number without its country's code is refused, because there is no country to take it for."""
    await put(catalog, SALON, {"name": "Salon"})
    await put(catalog, CUT, {"name": "Cut", "durationMinutes": 60}, 201)
    national = await catalog.post("/api/bookings", json=slot(guestPhone="030 1234567"))
    assert faulty_fields(national) == ["guestPhone"]
    international = await catalog.post("/api/bookings", json=slot(guestPhone="+49 30 1234567"))
    assert (international.status_code, international.json()["guestPhone"]) == (201, "+49301234567")
