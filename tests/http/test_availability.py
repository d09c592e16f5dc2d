"""Availability, and the alternatives that a refusal offers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import httpx2
import psycopg
import pytest
from structlog.testing import capture_logs

from service.booking import alternatives
from service.booking.alternatives import Alternatives
from service.booking.requests import RequestedSlot
from service.database.connections import Database
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot, timestamp
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

AVAILABILITY = "/api/booking/availability"
NOTHING: Final[dict[str, Any]] = {"slots": [], "nextFrom": None}
RESERVE = "/api/booking/reserve"


def query(start: float = 8, end: float = 12, **members: Any) -> dict[str, Any]:
    """Returns a query for the slots within some hours of the Monday of the tests."""
    return {
        "businessId": "salon",
        "serviceId": "cut",
        "from": at(start).isoformat(),
        "to": at(end).isoformat(),
        **members,
    }


async def test_bookable_slots_are_listed_and_can_be_booked(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A slot names its free resources; a resource that was reserved is missing from the next listing."""
    database.make_service(resource_ids=["anna", "bea"])
    response = await client.get(AVAILABILITY, params=query(9, 11))
    assert response.status_code == 200
    assert response.json() == {
        "slots": [
            {
                "slotStart": timestamp(at(hour)),
                "slotEnd": timestamp(at(hour + 1)),
                "available": 2,
                "maxQuantity": 1,
                "resourceIds": ["anna", "bea"],
            }
            for hour in (9, 10)
        ],
        "nextFrom": None,
    }
    for listed in response.json()["slots"]:
        request = slot(slotStart=listed["slotStart"], resourceId="bea")
        assert (await client.post(RESERVE, json=request)).status_code == 201
    left = (await client.get(AVAILABILITY, params=query(9, 11))).json()["slots"]
    assert [(listed["available"], listed["resourceIds"]) for listed in left] == [(1, ["anna"])] * 2
    assert (await client.get(AVAILABILITY, params=query(9, 11, resourceId="bea"))).json() == NOTHING


async def test_a_slot_without_resources_has_an_empty_list(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The list is not null, and only slots with room for the whole quantity are listed."""
    database.make_service(capacity=3)
    database.reserve(9, quantity=2)
    slots = (await client.get(AVAILABILITY, params=query(9, 11, quantity=2))).json()["slots"]
    room = {"available": 3, "maxQuantity": 3, "resourceIds": []}
    assert slots == [{"slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11)), **room}]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"to": at(8).isoformat()}, "to"),
        ({"to": at(7).isoformat()}, "to"),
        ({"from": "2026-11-21"}, "from"),
        ({"from": None}, "from"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 2}, "quantity"),
        ({"limit": 0}, "limit"),
        ({"limit": 2001}, "limit"),
        ({"durationMinutes": 0}, "durationMinutes"),
        ({"durationMinutes": 43_201}, "durationMinutes"),
        ({"durationDays": 1}, "durationDays"),
        ({"durationMinutes": 60, "durationDays": 1}, "durationDays"),
        ({"resourceId": "no spaces"}, "resourceId"),
        ({"staffId": "anna"}, "staffId"),
    ],
)
async def test_a_faulty_availability_query_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, Any], field: str
) -> None:
    """Each fault names its parameter."""
    database.make_service(resource_ids=["anna"])
    parameters = {name: value for name, value in query(**members).items() if value is not None}
    response = await client.get(AVAILABILITY, params=parameters)
    assert faulty_fields(response) == [field]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"serviceId": "perm"}, "SERVICE_NOT_FOUND"),
        ({"businessId": "nobody"}, "SERVICE_NOT_FOUND"),
        ({"resourceId": "cleo"}, "RESOURCE_NOT_FOUND"),
    ],
)
async def test_an_unknown_service_or_resource_is_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, members: dict[str, Any], code: str
) -> None:
    """The answer differs from an empty listing."""
    database.make_service(resource_ids=["anna"])
    response = await client.get(AVAILABILITY, params=query(**members))
    assert refusal(response) == (404, code)


async def test_a_refusal_offers_other_slots(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The same time with another resource comes first, and each alternative can be booked as it is."""
    database.make_service(resource_ids=["anna", "bea"])
    assert (await client.post(RESERVE, json=slot(10, resourceId="anna"))).status_code == 201
    response = await client.post(RESERVE, json=slot(10, resourceId="anna"))
    assert response.status_code == 409
    offered = response.json()["alternatives"]
    assert len(offered) == 5
    assert offered[0] == {"slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11)), "resourceIds": ["bea"]}
    assert offered[1] == {"slotStart": timestamp(at(9)), "slotEnd": timestamp(at(10)), "resourceIds": ["anna", "bea"]}
    for offer in offered:
        times = {"slotStart": offer["slotStart"], "slotEnd": offer["slotEnd"]}
        request = slot(**times, resourceId=offer["resourceIds"][0])
        assert (await client.post(RESERVE, json=request)).status_code == 201


async def test_a_refusal_offers_no_slot_that_was_taken_since_the_last_one(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A caller who takes what a refusal offers is not offered it again, though answers are reused for a second."""
    database.make_service()
    assert (await client.post(RESERVE, json=slot(10))).status_code == 201
    for _ in range(4):
        response = await client.post(RESERVE, json=slot(10))
        assert response.status_code == 409
        offer = response.json()["alternatives"][0]
        request = slot(slotStart=offer["slotStart"], slotEnd=offer["slotEnd"])
        assert (await client.post(RESERVE, json=request)).status_code == 201


class CountedDatabase(Database):
    """Counts its queries."""

    queries = 0

    async def fetch(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Counts the query, and runs it."""
        self.queries += 1
        return await super().fetch(name, *parameters)


@pytest.fixture
async def counted(database: TestDatabase) -> AsyncIterator[CountedDatabase]:
    """Connects to a salon whose slot at ten is occupied."""
    database.make_service()
    database.reserve(10)
    counted = CountedDatabase(database.url, connections=4)
    await counted.open()
    yield counted
    await counted.close()


async def nearest(finder: Alternatives, hour: float = 10) -> list[dict[str, Any]]:
    """Finds alternatives to an hour."""
    return await finder.nearest("salon", RequestedSlot("cut", at(hour), None, 1, None))


async def test_concurrent_lookups_for_one_slot_are_a_single_flight(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that are refused the same slot share one lookup, whose result is valid for a second; then it is made
    again."""
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 60.0)
    finder = Alternatives(counted)
    answers = await asyncio.gather(*(nearest(finder) for _ in range(500)))
    assert counted.queries == 1
    assert all(answer == answers[0] and answer[0]["slotStart"] == timestamp(at(9)) for answer in answers)
    database.reserve(9)
    assert (await nearest(finder))[0]["slotStart"] == timestamp(at(9))
    assert counted.queries == 1
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 0.0)
    finder = Alternatives(counted)
    assert (await nearest(finder))[0]["slotStart"] == timestamp(at(11))
    database.reserve(11)
    assert (await nearest(finder))[0]["slotStart"] == timestamp(at(8))


async def test_a_change_renews_the_answers_about_its_business(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change callers share one new lookup. Answers about other businesses stay, but where all are dropped."""
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 60.0)
    finder = Alternatives(counted)
    await nearest(finder)
    for business_id, lookups in (("salon", 2), ("spa", 2), (None, 3), ("salon", 4)):
        finder.forget(business_id)
        await asyncio.gather(*(nearest(finder) for _ in range(50)))
        assert counted.queries == lookups
    database.reserve(9)
    finder.forget("salon")
    assert (await nearest(finder))[0]["slotStart"] == timestamp(at(11))


async def test_a_stream_of_changes_renews_few_answers(
    counted: CountedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each refusal follows a change, lookups are made anew at a limited rate; beyond it, answers are reused."""
    monkeypatch.setattr(alternatives, "VALID_SECONDS", 60.0)
    monkeypatch.setattr(alternatives, "RENEWALS_A_SECOND", 0.0)
    finder = Alternatives(counted)
    for _ in range(alternatives.RENEWALS + 50):
        finder.forget("salon")
        assert (await nearest(finder))[0]["slotStart"] == timestamp(at(9))
    assert counted.queries == 1 + alternatives.RENEWALS


async def test_a_cancelled_caller_does_not_cancel_the_shared_lookup(counted: CountedDatabase) -> None:
    """The caller that started the lookup leaves; the second one still gets the result."""
    finder = Alternatives(counted)
    first = asyncio.create_task(nearest(finder))
    second = asyncio.create_task(nearest(finder))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0]["slotStart"] == timestamp(at(9))
    assert counted.queries == 1


async def test_the_number_of_cached_lookups_is_bounded(
    counted: CountedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lookup that was made first is evicted first."""
    monkeypatch.setattr(alternatives, "REMEMBERED", 2)
    finder = Alternatives(counted)
    for hour in (10, 11, 12):
        await nearest(finder, hour)
    await nearest(finder, 12)
    await nearest(finder, 11)
    assert counted.queries == 3
    await nearest(finder, 10)
    assert counted.queries == 4


async def test_a_refusal_stays_a_refusal_when_the_database_fails(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The caller gets the refusal without alternatives; one log line has the error and nothing of the request."""
    database.make_service()
    database.reserve(10)
    database.rows("DROP FUNCTION booking.alternatives")
    with capture_logs() as lines:
        response = await client.post(RESERVE, json=slot(10))
    assert (response.status_code, response.json()["alternatives"]) == (409, [])
    assert [line for line in lines if line["event"] == "alternatives_not_found"] == [
        {"event": "alternatives_not_found", "error": "42883", "log_level": "warning"}
    ]


async def test_a_slow_lookup_of_alternatives_is_given_up(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal goes out without alternatives after the timeout, also for callers that join the lookup later."""
    monkeypatch.setattr(alternatives, "LOOK_UP_SECONDS", 0.2)
    finder = Alternatives(counted)
    with database.admin.transaction(), capture_logs() as lines:
        database.rows("LOCK TABLE booking.services")
        assert await asyncio.gather(*(nearest(finder, hour) for hour in range(8, 14))) == [[]] * 6
    assert {line["error"] for line in lines} == {"TimeoutError"}
    monkeypatch.undo()
    assert await nearest(Alternatives(counted)) != []


async def test_lookups_of_alternatives_leave_connections_to_others(
    counted: CountedDatabase, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lookups for different slots cannot be shared, so the number of concurrent ones is limited."""
    monkeypatch.setattr(alternatives, "LOOK_UP_SECONDS", 60.0)
    finder = Alternatives(counted)
    with psycopg.connect(database.admin_url) as lock:
        lock.execute("LOCK TABLE booking.services")
        looking = [asyncio.create_task(nearest(finder, hour)) for hour in range(8, 14)]
        await asyncio.to_thread(database.wait_until_blocked, alternatives.LOOK_UPS)
        assert counted.queries == alternatives.LOOK_UPS
    assert [] not in await asyncio.gather(*looking)


async def test_a_full_slot_is_listed_again_when_its_hold_expires(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Expiry does not wait for a purge."""
    database.make_service()
    assert (await client.post(RESERVE, json=slot(9, ttlMinutes=5))).status_code == 201
    assert (await client.get(AVAILABILITY, params=query(9, 10))).json() == NOTHING
    database.move_clock(timedelta(minutes=5))
    assert len((await client.get(AVAILABILITY, params=query(9, 10))).json()["slots"]) == 1
