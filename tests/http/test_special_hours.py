"""Special hours of the catalog, and the appointments that special hours and closures affect."""

from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import create, slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
SPECIAL_HOURS = f"{SALON}/special-hours"
EASTER = f"{SPECIAL_HOURS}/easter"
CLOSED = {"date": "2027-03-28", "hours": []}
NONE_AFFECTED = {"count": 0, "items": []}
# The Monday of the tests, in the time zone of the salon.
MONDAY = at(0).date().isoformat()


async def put(client: httpx2.AsyncClient, path: str, body: Any, status: int = 201) -> Json:
    """Puts an entry of the catalog, and returns the answer."""
    response = await client.put(path, json=body, headers=ADMIN)
    assert response.status_code == status, response.text
    answer: Json = response.json()
    return answer


async def test_special_hours_come_and_go(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """PUT answers 201 for new ones and 200 for replaced ones, DELETE 204; GET returns what was put."""
    assert refusal(await client.put(EASTER, json=CLOSED, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")
    assert refusal(await client.get(SPECIAL_HOURS, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")
    database.make_resource("anna")
    hours = [{"opens": "14:00", "closes": "24:00"}, {"opens": "09:00", "closes": "12:30"}]
    new = {"date": "2027-03-28", "until": "2027-03-29", "hours": hours, "resourceId": "anna", "name": "Easter"}
    stored = {"businessId": "salon", "specialHoursId": "easter", **new, "hours": hours[::-1]}
    assert await put(client, EASTER, new) == {**stored, "affectedAppointments": NONE_AFFECTED}
    assert (await client.get(EASTER, headers=ADMIN)).json() == stored
    replaced = await put(client, EASTER, CLOSED | {"until": "2027-03-28"}, 200)
    assert replaced == {
        "businessId": "salon",
        "specialHoursId": "easter",
        "date": "2027-03-28",
        "until": None,
        "hours": [],
        "resourceId": None,
        "name": None,
        "affectedAppointments": NONE_AFFECTED,
    }
    del replaced["affectedAppointments"]
    assert (await client.get(SPECIAL_HOURS, headers=ADMIN)).json() == {"items": [replaced]}
    assert (await client.delete(EASTER, headers=ADMIN)).status_code == 204
    assert refusal(await client.delete(EASTER, headers=ADMIN)) == (404, "SPECIAL_HOURS_NOT_FOUND")
    assert refusal(await client.get(EASTER, headers=ADMIN)) == (404, "SPECIAL_HOURS_NOT_FOUND")


async def test_special_hours_are_listed_by_their_date(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Their ids do not matter for the order."""
    database.make_business()
    for name, date in (("b", "2027-03-28"), ("c", "2027-01-01"), ("a", "2027-12-24")):
        await put(client, f"{SPECIAL_HOURS}/{name}", {"date": date, "hours": []})
    items = (await client.get(SPECIAL_HOURS, headers=ADMIN)).json()["items"]
    assert [item["specialHoursId"] for item in items] == ["c", "b", "a"]


async def test_guests_book_within_the_special_hours(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """They replace the weekly hours on their dates; Berlin is an hour ahead of UTC."""
    database.make_service()
    week = [{"weekday": 1, "opens": "09:00", "closes": "17:00"}]
    await put(client, f"{SALON}/opening-hours", week, 200)
    await put(client, EASTER, {"date": MONDAY, "hours": [{"opens": "19:00", "closes": "21:00"}]})
    closed = await client.post("/api/booking/reserve", json=slot(9))
    assert (closed.status_code, closed.json()["reason"]) == (422, "closed")
    assert (await client.post("/api/booking/reserve", json=slot(18))).status_code == 201
    assert (await client.delete(EASTER, headers=ADMIN)).status_code == 204
    assert (await client.post("/api/booking/reserve", json=slot(9))).status_code == 201


async def test_dates_of_one_owner_do_not_overlap(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Another resource, or the business itself, may have special hours on the same dates."""
    database.make_resource("anna")
    await put(client, EASTER, CLOSED)
    response = await client.put(f"{SPECIAL_HOURS}/other", json=CLOSED, headers=ADMIN)
    assert faulty_fields(response) == ["date"]
    assert "easter" in response.text
    await put(client, f"{SPECIAL_HOURS}/other", {**CLOSED, "resourceId": "anna"})


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"date": "2027-02-29"}, ["date"]),
        ({"date": "2027-03-28T00:00:00Z"}, ["date"]),
        ({"date": 20_270_328}, ["date"]),
        ({"date": "0027-03-28"}, ["date"]),
        ({"date": None}, ["date"]),
        ({"until": "2027-03-27"}, ["until"]),
        ({"until": "tomorrow"}, ["until"]),
        ({"hours": None}, ["hours"]),
        ({"hours": [{"opens": "09:00"}]}, ["hours.0.closes"]),
        ({"hours": [{"opens": "09:00", "closes": "08:00"}]}, ["hours.0.closes"]),
        ({"hours": [{"opens": "09:00", "closes": "12:00", "weekday": 1}]}, ["hours.0.weekday"]),
        ({"resourceId": "nobody"}, ["resourceId"]),
        ({"name": ""}, ["name"]),
        ({"reason": "Easter"}, ["reason"]),
    ],
)
async def test_faulty_special_hours_name_their_field(
    client: httpx2.AsyncClient, database: TestDatabase, body: dict[str, Any], fields: list[str]
) -> None:
    """The answer is a 400 with the field, and nothing is stored."""
    database.make_business()
    assert faulty_fields(await client.put(EASTER, json=CLOSED | body, headers=ADMIN)) == fields
    assert (await client.get(SPECIAL_HOURS, headers=ADMIN)).json() == {"items": []}


@pytest.mark.parametrize(
    "times",
    [
        [("09:00", "12:00"), ("12:00", "13:00")],
        [("09:00", "12:00"), ("11:30", "13:00")],
        [("09:00", "11:00"), ("09:00", "13:00"), ("10:15", "12:00")],
    ],
)
async def test_hours_that_touch_or_overlap_mean_the_same_in_a_week_and_on_a_date(
    client: httpx2.AsyncClient, database: TestDatabase, times: list[tuple[str, str]]
) -> None:
    """It is open in each of them, and the grid of slots begins anew with each. They are read in order, and put again as
    they are read."""
    database.make_service(slot_step_minutes=60)
    hours = [{"opens": opens, "closes": closes} for opens, closes in times]
    first, last = (timestamp(at(hour).replace(tzinfo=ZoneInfo("Europe/Berlin"))) for hour in (0, 24))
    day = {"businessId": "salon", "serviceId": "cut", "from": first, "to": last}

    async def starts() -> list[str]:
        listing = (await client.get("/api/booking/availability", params=day)).json()
        return [listed["slotStart"] for listed in listing["slots"]]

    week = [{"weekday": 1, **entry} for entry in hours]
    assert (await client.put(f"{SALON}/opening-hours", json=week[::-1], headers=ADMIN)).status_code == 200
    by_week = await starts()
    assert len(by_week) >= 4
    await client.delete(f"{SALON}/opening-hours", headers=ADMIN)
    assert len(await starts()) > len(by_week)
    assert (await put(client, EASTER, {"date": MONDAY, "hours": hours[::-1]}))["hours"] == hours
    assert await starts() == by_week
    document = (await client.get(f"{SALON}/document", headers=ADMIN)).json()
    assert (await put(client, f"{SALON}/document", document, 200))["changes"] == []


async def test_a_put_names_the_appointments_that_it_affects(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A closure: those in its time; special hours: those that they do not permit. Only confirmed ones, only in the
    answer of the PUT, and the appointments stay."""
    database.make_service(capacity=3)
    early, late, cancelled = [await create(client, hour) for hour in (10, 15, 15)]
    address = f"/api/booking/appointments/{cancelled['appointmentId']}"
    await client.patch(address, json={"expectedVersion": 1, "status": "cancelled"}, headers=ADMIN)
    shown = {name: late[name] for name in ("appointmentId", "serviceId", "slotStart", "slotEnd", "version")}
    shown["resourceId"] = None

    closure = {"from": timestamp(at(12)), "to": timestamp(at(24))}
    answer = await put(client, f"{SALON}/closures/afternoon", closure)
    assert answer["affectedAppointments"] == {"count": 1, "items": [shown]}
    assert "affectedAppointments" not in (await client.get(f"{SALON}/closures/afternoon", headers=ADMIN)).json()

    mornings = {"date": MONDAY, "hours": [{"opens": "08:00", "closes": "13:00"}]}
    answer = await put(client, EASTER, mornings)
    assert answer["affectedAppointments"] == {"count": 1, "items": [shown]}
    answer = await put(client, EASTER, {"date": MONDAY, "hours": []}, 200)
    assert answer["affectedAppointments"]["count"] == 2
    assert [item["appointmentId"] for item in answer["affectedAppointments"]["items"]] == [
        early["appointmentId"],
        late["appointmentId"],
    ]
    assert (await client.get(f"/api/booking/appointments/{late['appointmentId']}", headers=ADMIN)).status_code == 200
