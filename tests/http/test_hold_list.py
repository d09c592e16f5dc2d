"""The list of live holds, for the calendar of a business."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import commit, reserve, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

HOLDS = "/api/booking/reservations"


async def listed(client: httpx2.AsyncClient, **query: Any) -> Json:
    """Returns a page of the salon's live holds."""
    response = await client.get(HOLDS, params={"businessId": "salon", **query}, headers=ADMIN)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def test_live_holds_are_listed_without_their_credential(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """With the id of a reservation one can commit, extend and release it: no answer or cursor contains it."""
    database.make_service(capacity=5)
    database.freeze_clock()
    held = [await reserve(client, hour) for hour in (9, 10, 10)]
    page = await listed(client, limit=2)
    rest = await listed(client, limit=2, cursor=page["nextCursor"])
    holds = page["items"] + rest["items"]
    assert rest["nextCursor"] is None
    assert [hold["slotStart"] for hold in holds] == [reservation["slotStart"] for reservation in held]
    shared = {"businessId", "serviceId", "resourceId", "slotStart", "slotEnd", "quantity", "expiresAt"}
    for hold, reservation in zip(holds, held, strict=True):
        assert hold.keys() == shared | {"holdId", "createdAt", "expiresInSeconds"}
        assert {name: hold[name] for name in shared} == {name: reservation[name] for name in shared}
    for reservation in held:
        assert reservation["reservationId"] not in str([page, rest])
        own = f"{HOLDS}/{reservation['reservationId']}"
        assert (await client.get(own)).status_code == 200
    for hold in holds:
        assert refusal(await client.get(f"{HOLDS}/{hold['holdId']}")) == (404, "RESERVATION_NOT_FOUND")
        assert refusal(await commit(client, hold["holdId"])) == (404, "RESERVATION_NOT_FOUND")
    await commit(client, held[0]["reservationId"])
    assert len((await listed(client))["items"]) == 2


async def test_a_list_has_what_overlaps_its_range(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """By slot, service and resource; without a range, all of the business."""
    database.make_service(capacity=5)
    database.make_service("perm", resource_ids=["anna"])
    for hour in (9, 10, 34):
        await reserve(client, hour)
    await reserve(client, 10, serviceId="perm")

    async def number(**query: Any) -> int:
        return len((await listed(client, **query))["items"])

    assert await number() == 4
    assert await number(**{"from": timestamp(at(9.5)), "to": timestamp(at(10))}) == 1
    assert await number(**{"from": timestamp(at(10))}) == 3
    assert await number(serviceId="perm") == await number(resourceId="anna") == 1
    assert await number(serviceId="nothing") == 0


async def test_the_list_needs_a_key_of_the_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Any role of the business may read it."""
    database.make_service()
    database.make_business("clinic")
    readonly, stranger = await make_key(client, "readonly"), await make_key(client, "owner", "clinic")
    query = {"businessId": "salon"}
    assert refusal(await client.get(HOLDS, params=query)) == (401, "UNAUTHORIZED")
    response = await client.get(HOLDS, params=query, headers=bearer(stranger["key"]))
    assert refusal(response) == (404, "BUSINESS_NOT_FOUND")
    assert (await client.get(HOLDS, params=query, headers=bearer(readonly["key"]))).status_code == 200
    unknown = await client.get(HOLDS, params={"businessId": "nobody"}, headers=ADMIN)
    assert refusal(unknown) == (404, "BUSINESS_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": timestamp(at(1)), "to": timestamp(at(1))}, "to"),
        ({"from": "2027-01-11"}, "from"),
        ({"limit": "501"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "MjAyNy0wMS0wMVQxMDowMDowMCswMDowMCAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA"}, "cursor"),
        ({"status": "held"}, "status"),
    ],
)
async def test_a_faulty_query_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, query: dict[str, str], field: str
) -> None:
    """The answer is a 400 with the parameter."""
    database.make_service()
    response = await client.get(HOLDS, params={"businessId": "salon", **query}, headers=ADMIN)
    assert faulty_fields(response) == [field]
