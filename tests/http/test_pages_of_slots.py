"""The pages of a listing of slots, and the slots of each date."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from tests.database import MONDAY, TestDatabase, at
from tests.http.booking_calls import slot, timestamp
from tests.http.describing import Json
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

AVAILABILITY = "/api/booking/availability"
DAYS = "/api/booking/availability/days"
SERVICE = {"businessId": "salon", "serviceId": "cut"}


def a_day_service(database: TestDatabase, **settings: Any) -> None:
    """Puts a service of one calendar day."""
    by_days = {"duration_minutes": None, "min_duration_minutes": None, "max_duration_minutes": None, "duration_days": 1}
    database.make_service(**by_days | {"slot_step_minutes": None} | settings)


async def pages(client: httpx2.AsyncClient, query: Mapping[str, Any]) -> list[Json]:
    """Follows `nextFrom` to the last page, and returns all pages."""
    found: list[Json] = []
    start = query["from"]
    while start is not None and len(found) < 30:
        response = await client.get(AVAILABILITY, params={**SERVICE, **query, "from": start})
        assert response.status_code == 200, response.text
        found.append(response.json())
        start = found[-1]["nextFrom"]
    assert start is None
    return found


async def days(client: httpx2.AsyncClient, first: date, last: date, **members: Any) -> list[Json]:
    """Returns the dates from the first to the last."""
    query = {**SERVICE, "from": first.isoformat(), "to": last.isoformat(), **members}
    response = await client.get(DAYS, params=query)
    assert response.status_code == 200, response.text
    found: list[Json] = response.json()["days"]
    return found


@pytest.mark.parametrize("limit", [1, 7, 24])
async def test_pages_joined_are_the_whole_listing(
    client: httpx2.AsyncClient, database: TestDatabase, limit: int
) -> None:
    """No slot is missing or listed twice, and the last page has no `nextFrom`."""
    database.make_service()
    database.reserve(3)
    times = {"from": timestamp(at(0)), "to": timestamp(at(24))}
    [whole] = await pages(client, times)
    assert len(whole["slots"]) == 23
    paged = await pages(client, {**times, "limit": limit})
    assert [listed for page in paged for listed in page["slots"]] == whole["slots"]
    assert [len(page["slots"]) for page in paged[:-1]] == [limit] * (len(paged) - 1)
    assert paged[0]["nextFrom"] in (None, *(listed["slotStart"] for listed in whole["slots"]))


async def test_a_page_looks_at_62_days_and_the_pages_go_on_to_the_horizon(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Without `to`, the pages end at the horizon; a page in which all is closed is empty and has a `nextFrom`."""
    database.freeze_clock(at(0))
    database.make_service(slot_step_minutes=1440, max_advance_days=200)
    database.put_closure("winter", at(0), at(0, day=70))
    found = await pages(client, {"from": timestamp(at(0))})
    assert [len(page["slots"]) for page in found] == [0, 54, 62, 14]
    assert found[0]["nextFrom"] == timestamp(at(0, day=62))


async def test_a_page_has_512_kilobytes_at_most(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The page ends before its limit, and the next one goes on where it ends. A slot names 50 of its resources."""
    pool = [f"{number:0>64}" for number in range(60)]
    database.make_service(resource_ids=pool, slot_step_minutes=1)
    times = {"from": timestamp(at(0)), "to": timestamp(at(6))}
    found = await pages(client, {**times, "limit": 2000})
    assert len(found) > 1
    assert [len(page["slots"]) < 2000 for page in found] == [True] * len(found)
    assert all(len(json.dumps(page, separators=(",", ":"))) <= 512_000 for page in found)
    starts = [listed["slotStart"] for page in found for listed in page["slots"]]
    assert starts == [timestamp(at(minute / 60)) for minute in range(360)]
    assert {(len(listed["resourceIds"]), listed["available"]) for listed in found[0]["slots"]} == {(50, 60)}


async def test_the_first_free_slot_is_a_page_of_one(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """`from` may be past: nothing is listed that has begun."""
    database.freeze_clock(at(9))
    database.make_service()
    database.reserve(9, 2)
    response = await client.get(AVAILABILITY, params={**SERVICE, "from": timestamp(at(0, day=-400)), "limit": 1})
    [first] = response.json()["slots"]
    assert first["slotStart"] == timestamp(at(11))


async def test_no_slot_is_listed_at_either_end_of_time(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An instant that can be written can be asked for."""
    database.make_service()
    for start, end in (("0001-01-01", "0001-03-01"), ("0001-01-01", "0001-01-02"), ("9999-11-01", "9999-12-31")):
        times = {"from": f"{start}T00:00:00Z", "to": f"{end}T00:00:00Z"}
        assert await pages(client, times) == [{"slots": [], "nextFrom": None}]


async def test_a_length_of_the_service_can_be_chosen(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A slot of the listing can be booked with its `slotEnd`; a length beyond the service's names its parameter."""
    database.make_service(min_duration_minutes=30, max_duration_minutes=120, slot_step_minutes=60)
    database.reserve(12)
    times = {"from": timestamp(at(10)), "to": timestamp(at(14))}
    [page] = await pages(client, {**times, "durationMinutes": 120})
    [first, last] = page["slots"]
    assert (first["slotStart"], first["slotEnd"]) == (timestamp(at(10)), timestamp(at(12)))
    assert last["slotStart"] == timestamp(at(13))
    chosen = slot(slotStart=last["slotStart"], slotEnd=last["slotEnd"])
    assert (await client.post("/api/booking/reserve", json=chosen)).status_code == 201
    too_long = await client.get(AVAILABILITY, params={**SERVICE, **times, "durationMinutes": 121})
    assert faulty_fields(too_long) == ["durationMinutes"]


async def test_days_are_listed_and_counted_by_the_clock_of_the_business(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Each date has the slots that start on it, and the first one's start, a null where there is none."""
    a_day_service(database, start_times=["14:00"], end_time="11:00", max_duration_days=3)
    first = MONDAY.date()
    taken = datetime.fromisoformat((await days(client, first, first))[0]["firstSlotStart"])
    assert (taken.hour, taken.minute) in ((12, 0), (13, 0))
    request = slot(slotStart=taken.isoformat())
    assert (await client.post("/api/booking/reserve", json=request)).status_code == 201
    found = await days(client, first - timedelta(days=1), first + timedelta(days=1))
    assert [(day["date"], day["slots"]) for day in found] == [
        ((first + timedelta(days=n)).isoformat(), count) for n, count in ((-1, 1), (0, 0), (1, 1))
    ]
    assert found[1]["firstSlotStart"] is None
    of_two = await days(client, first - timedelta(days=1), first + timedelta(days=1), durationDays=2)
    assert [day["slots"] for day in of_two] == [0, 0, 1]


async def test_the_slots_of_a_date_are_those_of_the_listing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With a quantity and a resource too; up to a hundred are counted."""
    database.make_resource("anna", seats=2)
    database.make_resource("bea")
    database.make_service(resource_ids=["anna", "bea"], capacity=3, slot_step_minutes=10)
    database.reserve(12, 5, resource_id="anna", quantity=2)
    first = MONDAY.date()
    for members in ({}, {"quantity": 2}, {"resourceId": "bea"}, {"resourceId": "anna", "quantity": 2}):
        listed = [
            datetime.fromisoformat(entry["slotStart"])
            for page in await pages(client, {"from": timestamp(at(-3)), "to": timestamp(at(51)), **members})
            for entry in page["slots"]
        ]
        for day in await days(client, first, first + timedelta(days=1), **members):
            starts = [start for start in listed if local_date(start) == day["date"]]
            assert day["slots"] == min(len(starts), 100)
            assert datetime.fromisoformat(day["firstSlotStart"]) == min(starts)


def local_date(instant: datetime) -> str:
    """Returns the date in Berlin."""
    return instant.astimezone(ZoneInfo("Europe/Berlin")).date().isoformat()


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"from": "2027-01-01T00:00:00Z"}, "from"),
        ({"from": "2027-02-30"}, "from"),
        ({"from": "1798761600"}, "from"),
        ({"from": "0001-01-01", "to": "0001-01-02"}, "from,to"),
        ({"to": "2026-12-31"}, "to"),
        ({"to": "2028-01-02"}, "to"),
        ({"to": "3000-01-01"}, "to"),
        ({"to": None}, "to"),
        ({"limit": 5}, "limit"),
        ({"quantity": 2}, "quantity"),
        ({"durationDays": 1}, "durationDays"),
        ({"durationMinutes": 61}, "durationMinutes"),
    ],
)
async def test_a_faulty_query_of_days_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, Any], field: str
) -> None:
    """The dates are local ones, 366 at most."""
    database.make_service(resource_ids=["anna"], max_duration_minutes=60)
    query = {**SERVICE, "from": "2027-01-01", "to": "2027-01-31", **members}
    response = await client.get(DAYS, params={name: value for name, value in query.items() if value is not None})
    assert faulty_fields(response) == field.split(",")


async def test_a_year_of_days_is_counted(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A leap year, both ends included."""
    database.freeze_clock(datetime(2027, 12, 1, tzinfo=UTC))
    database.make_service(slot_step_minutes=1440)
    found = await days(client, date(2028, 1, 1), date(2028, 12, 31))
    assert len(found) == 366
    assert {day["slots"] for day in found} == {1}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"serviceId": "perm"}, "SERVICE_NOT_FOUND"),
        ({"businessId": "nobody"}, "SERVICE_NOT_FOUND"),
        ({"resourceId": "cleo"}, "RESOURCE_NOT_FOUND"),
    ],
)
async def test_days_of_an_unknown_service_or_resource_are_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, str], code: str
) -> None:
    """The answer differs from dates without slots."""
    database.make_service(resource_ids=["anna"])
    query = {**SERVICE, "from": "2027-01-01", "to": "2027-01-31", **members}
    assert refusal(await client.get(DAYS, params=query)) == (404, code)


async def test_a_listing_needs_a_time_zone_that_the_server_knows(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It is refused with a code of its own; the owner's next put repairs it."""
    database.make_service()
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    slots = await client.get(AVAILABILITY, params={**SERVICE, "from": timestamp(at(0))})
    assert refusal(slots) == (422, "BUSINESS_MISCONFIGURED")
    counted = await client.get(DAYS, params={**SERVICE, "from": "2027-01-01", "to": "2027-01-31"})
    assert refusal(counted) == (422, "BUSINESS_MISCONFIGURED")
