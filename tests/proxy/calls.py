"""The calls of the tests to a service on a proxy, and what they find on the nodes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import httpx2

from tests.acceptance.clients import Clients, guest, reserves, slot
from tests.proxy.installation import Installation
from tests.serving import ADMIN_TOKEN

ADMIN: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
BUSINESSES: Final = "/api/catalog/businesses"
# Of the businesses that tests make on the same nodes.
NUMBERS: Final = count(1)


def one_of_each(servers: Installation) -> list[str]:
    """Returns new ids, one of each partition."""
    number = next(NUMBERS)
    return [servers.business(partition, number) for partition in range(2)]


def settings(**members: Any) -> dict[str, Any]:
    """Returns the settings of a business."""
    return {"name": "Anywhere", "timezone": "Europe/Berlin", **members}


async def put(client: httpx2.AsyncClient, business_id: str, **members: Any) -> httpx2.Response:
    """Puts a business."""
    return await client.put(f"{BUSINESSES}/{business_id}", json=settings(**members), headers=ADMIN)


async def make_business(client: httpx2.AsyncClient, business_id: str, capacity: int = 1, **members: Any) -> str:
    """Makes a business with one service, by one call, and returns its id. Repeats a call that meets a connection to a
    node that was killed."""
    cut = {"name": "Cut", "durationMinutes": 60, "maxSimultaneousBookings": capacity, "maxAdvanceDays": 3660}
    document = settings(businessId=business_id, services={"cut": cut}, **members)
    answer = await client.put(f"{BUSINESSES}/{business_id}/document", json=document, headers=ADMIN)
    async with asyncio.timeout(30):
        while answer.status_code == 503:
            answer = await client.put(f"{BUSINESSES}/{business_id}/document", json=document, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return business_id


async def hold(client: httpx2.AsyncClient, business_id: str, hour: float = 10) -> str:
    """Reserves a slot, and returns the id of the hold."""
    [request] = reserves(client, 1, hour, businessId=business_id)
    answer = await client.send(request)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["reservationId"])


async def commit(client: httpx2.AsyncClient, reservation_id: str) -> httpx2.Response:
    """Commits a hold, named by its id alone."""
    return await client.post("/api/booking/commit", json=guest(reservation_id))


def partitions_with(servers: Installation, table: str, business_id: str) -> list[int]:
    """Returns the partitions whose node has rows of a business in a table."""
    query = f"SELECT FROM booking.{table} WHERE business_id = %s LIMIT 1"
    return [number for number, server in enumerate(servers.partitions) if servers.rows(server, query, business_id)]


def held(servers: Installation, business_id: str) -> dict[str, str]:
    """Returns the holds of a business, by the idempotency keys that made them, from all nodes."""
    query = "SELECT idempotency_key, reservation_id::text FROM booking.reservations WHERE business_id = %s"
    rows = [row for server in servers.partitions for row in servers.rows(server, query, business_id)]
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows)


@asynccontextmanager
async def load(
    client: httpx2.AsyncClient, servers: Installation, businesses: Sequence[str]
) -> AsyncIterator[list[Clients]]:
    """Makes two businesses and runs clients that reserve there; afterwards the nodes have exactly what was granted."""
    for business_id in businesses:
        await make_business(client, business_id, capacity=100_000)
    both = [Clients(client, slot(businessId=business_id)) for business_id in businesses]
    async with both[0].running(4, retry=True), both[1].running(4, retry=True):
        yield both
    for business_id, clients in zip(businesses, both, strict=True):
        assert [answer.text for answer in clients.unexpected] == []
        assert held(servers, business_id) == clients.acknowledged
