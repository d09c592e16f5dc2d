"""What can be booked, and what is offered to those who were refused, as a frontend meets them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import psycopg
import pytest
from structlog.testing import capture_logs

from service.booking import alternatives
from service.booking.alternatives import Alternative, Alternatives, Wish
from service.database.connections import Database
from tests.database import TestDatabase, at
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

AVAILABILITY = "/api/booking/availability"
RESERVE = "/api/booking/reserve"


def query(start: float = 8, end: float = 12, **members: Any) -> dict[str, Any]:
    """A query for the slots of some hours of the Monday of the tests."""
    return {
        "businessId": "salon",
        "serviceId": "cut",
        "from": at(start).isoformat(),
        "to": at(end).isoformat(),
        **members,
    }


def written(hour: float) -> str:
    """An instant as it is answered."""
    return at(hour).isoformat().replace("+00:00", "Z")


def body(hour: float, **members: Any) -> dict[str, Any]:
    """A body for reserve."""
    return {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour).isoformat(), **members}


async def test_bookable_slots_are_listed_and_can_be_booked(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With who is free then; what was reserved by name is gone from the next listing."""
    database.make_service(resource_ids=["anna", "bea"])
    response = await client.get(AVAILABILITY, params=query(9, 11))
    assert response.status_code == 200
    assert response.json() == {
        "slots": [
            {
                "slotStart": written(hour),
                "slotEnd": written(hour + 1),
                "available": 2,
                "resourceIds": ["anna", "bea"],
            }
            for hour in (9, 10)
        ]
    }
    for slot in response.json()["slots"]:
        request = {"businessId": "salon", "serviceId": "cut", "slotStart": slot["slotStart"], "resourceId": "bea"}
        assert (await client.post(RESERVE, json=request)).status_code == 201
    left = (await client.get(AVAILABILITY, params=query(9, 11))).json()["slots"]
    assert [(slot["available"], slot["resourceIds"]) for slot in left] == [(1, ["anna"])] * 2
    assert (await client.get(AVAILABILITY, params=query(9, 11, resourceId="bea"))).json() == {"slots": []}


async def test_a_service_without_resources_has_none(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An empty list, not null; and only slots with room for all that is wanted."""
    database.make_service(capacity=3)
    database.reserve(9, quantity=2)
    slots = (await client.get(AVAILABILITY, params=query(9, 11, quantity=2))).json()["slots"]
    assert slots == [{"slotStart": written(10), "slotEnd": written(11), "available": 3, "resourceIds": []}]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"to": at(8.01, day=62).isoformat()}, "to"),
        ({"to": at(8).isoformat()}, "to"),
        ({"to": at(7).isoformat()}, "to"),
        ({"from": "2026-11-21"}, "from"),
        ({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T00:00:00Z"}, "to"),
        ({"from": None}, "from"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 2}, "quantity"),
        ({"resourceId": "no spaces"}, "resourceId"),
        ({"staffId": "anna"}, "staffId"),
    ],
)
async def test_what_cant_be_listed_is_named(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, Any], field: str
) -> None:
    """Each fault by its parameter."""
    database.make_service(resource_ids=["anna"])
    asked = {name: value for name, value in query(**members).items() if value is not None}
    response = await client.get(AVAILABILITY, params=asked)
    assert faulty_fields(response) == [field]


async def test_the_longest_listing_is_62_days(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Two months, whichever; also at both ends of time, where nothing can be booked."""
    database.make_service(slot_step_minutes=1440)
    response = await client.get(AVAILABILITY, params=query(8, 8 + 62 * 24))
    assert len(response.json()["slots"]) == 62
    for start, end in (("0001-01-01", "0001-03-01"), ("9999-11-01", "9999-12-31")):
        times = {"from": f"{start}T00:00:00Z", "to": f"{end}T00:00:00Z"}
        response = await client.get(AVAILABILITY, params={**query(), **times})
        assert (response.status_code, response.json()) == (200, {"slots": []})


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"serviceId": "perm"}, "SERVICE_NOT_FOUND"),
        ({"businessId": "nobody"}, "SERVICE_NOT_FOUND"),
        ({"resourceId": "cleo"}, "RESOURCE_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_not_found(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, Any], code: str
) -> None:
    """A listing without slots is not the same as one that can't be."""
    database.make_service(resource_ids=["anna"])
    response = await client.get(AVAILABILITY, params=query(**members))
    assert refusal(response) == (404, code)


async def test_a_refusal_offers_other_slots(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The same time with somebody else first; and each can be booked as it stands."""
    database.make_service(resource_ids=["anna", "bea"])
    assert (await client.post(RESERVE, json=body(10, resourceId="anna"))).status_code == 201
    response = await client.post(RESERVE, json=body(10, resourceId="anna"))
    assert response.status_code == 409
    offered = response.json()["alternatives"]
    assert len(offered) == 5
    assert offered[0] == {"slotStart": written(10), "slotEnd": written(11), "resourceIds": ["bea"]}
    assert offered[1] == {"slotStart": written(9), "slotEnd": written(10), "resourceIds": ["anna", "bea"]}
    for slot in offered:
        request = body(0, slotStart=slot["slotStart"], slotEnd=slot["slotEnd"], resourceId=slot["resourceIds"][0])
        assert (await client.post(RESERVE, json=request)).status_code == 201


class CountedDatabase(Database):
    """A database that counts what it is asked."""

    asked = 0

    async def fetch(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As the real one."""
        self.asked += 1
        return await super().fetch(name, *parameters)


@pytest.fixture
async def counted(database: TestDatabase) -> AsyncIterator[CountedDatabase]:
    """Connections to a salon whose slot at ten is taken."""
    database.make_service()
    database.reserve(10)
    counted = CountedDatabase(database.url, connections=4)
    await counted.open()
    yield counted
    await counted.close()


async def nearest(finder: Alternatives, hour: float = 10) -> list[Alternative]:
    """What is offered instead of an hour."""
    return await finder.nearest(Wish("salon", "cut", at(hour), None, 1, None))


async def test_a_stampede_for_one_slot_is_one_look_up(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who are refused the same meanwhile share it, and so do those of the next second; then it is made anew."""
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 60.0)
    finder = Alternatives(counted)
    answers = await asyncio.gather(*(nearest(finder) for _ in range(500)))
    assert counted.asked == 1
    assert all(answer == answers[0] and answer[0].slot_start == at(9) for answer in answers)
    database.reserve(9)
    assert (await nearest(finder))[0].slot_start == at(9)
    assert counted.asked == 1
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 0.0)
    finder = Alternatives(counted)
    assert (await nearest(finder))[0].slot_start == at(11)
    database.reserve(11)
    assert (await nearest(finder))[0].slot_start == at(8)


async def test_who_goes_away_takes_the_answer_from_nobody(counted: CountedDatabase) -> None:
    """The first who asked hangs up; the second, who waits for the same look-up, still gets it."""
    finder = Alternatives(counted)
    first = asyncio.create_task(nearest(finder))
    second = asyncio.create_task(nearest(finder))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0].slot_start == at(9)
    assert counted.asked == 1


async def test_no_more_wishes_are_remembered_than_there_is_room_for(
    counted: CountedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was asked for first is forgotten first."""
    monkeypatch.setattr(alternatives, "REMEMBERED", 2)
    finder = Alternatives(counted)
    for hour in (10, 11, 12):
        await nearest(finder, hour)
    await nearest(finder, 12)
    await nearest(finder, 11)
    assert counted.asked == 3
    await nearest(finder, 10)
    assert counted.asked == 4


async def test_a_refusal_stays_a_refusal_when_the_database_fails(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Whoever was refused is told so, without alternatives: one line says why, and nothing of what was asked."""
    database.make_service()
    database.reserve(10)
    database.rows("DROP FUNCTION booking.alternatives")
    with capture_logs() as lines:
        response = await client.post(RESERVE, json=body(10))
    assert (response.status_code, response.json()["alternatives"]) == (409, [])
    assert [line for line in lines if line["event"] == "alternatives_not_found"] == [
        {"event": "alternatives_not_found", "error": "42883", "log_level": "warning"}
    ]


async def test_a_refusal_does_not_wait_for_alternatives_for_long(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database is too slow it goes without; and whoever asks meanwhile waits no longer either."""
    monkeypatch.setattr(alternatives, "LOOK_UP_SECONDS", 0.2)
    finder = Alternatives(counted)
    with database.admin.transaction(), capture_logs() as lines:
        database.rows("LOCK TABLE booking.services")
        assert await asyncio.gather(*(nearest(finder, hour) for hour in range(8, 14))) == [[]] * 6
    assert {line["error"] for line in lines} == {"TimeoutError"}
    assert await nearest(Alternatives(counted)) != []


async def test_look_ups_leave_connections_to_others(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those for different slots share nothing: they take turns, so many at a time."""
    monkeypatch.setattr(alternatives, "LOOK_UP_SECONDS", 60.0)
    finder = Alternatives(counted)
    with psycopg.connect(database.admin_url) as lock:
        lock.execute("LOCK TABLE booking.services")
        looking = [asyncio.create_task(nearest(finder, hour)) for hour in range(8, 14)]
        await asyncio.to_thread(database.wait_until_blocked, alternatives.LOOK_UPS)
        assert counted.asked == alternatives.LOOK_UPS
    assert [] not in await asyncio.gather(*looking)


async def test_a_slot_that_was_found_full_is_listed_again_when_its_hold_expires(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Nobody has to purge first."""
    database.make_service()
    assert (await client.post(RESERVE, json=body(9, ttlMinutes=5))).status_code == 201
    assert (await client.get(AVAILABILITY, params=query(9, 10))).json() == {"slots": []}
    database.move_clock(timedelta(minutes=5))
    assert len((await client.get(AVAILABILITY, params=query(9, 10))).json()["slots"]) == 1
