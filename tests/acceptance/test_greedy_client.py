"""One client does all that it may, and more, against a running service: the memory of the process stays where it was,
and the calls of another business, from another address, succeed."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from service.http.connections import CONNECTIONS_OF_ADDRESS
from tests.acceptance.clients import guest, slot
from tests.acceptance.conftest import Serve
from tests.attacks import ATTACKS, GREEDY, close, send_all
from tests.database import TestDatabase
from tests.processes import peak_bytes, resident_bytes
from tests.serving import ADMIN_TOKEN, NO_CERTIFICATES, ServiceProcess

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read in /proc"),
]

MAX_GROWTH_BYTES = 50 * 1024 * 1024
ROUNDS = 2


@pytest.fixture
def service(serve: Serve, database: TestDatabase) -> ServiceProcess:
    """Runs one process, with limits, and a business besides that of the other client."""
    database.make_service(capacity=1000)
    database.make_service(business_id=GREEDY, slot_step_minutes=1, resource_ids=[f"r{n:02}" for n in range(40)])
    return serve(RATE_LIMIT_ENABLED=True)


@asynccontextmanager
async def client_at(service: ServiceProcess, address: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Makes a client of the service at an address of its own."""
    transport = httpx2.AsyncHTTPTransport(local_address=address, verify=NO_CERTIFICATES)
    async with httpx2.AsyncClient(transport=transport, base_url=service.url, timeout=30) as client:
        yield client


async def use_all(client: httpx2.AsyncClient, key: dict[str, str], hour: float) -> list[int]:
    """Makes a call of each kind, and returns the statuses."""
    listing = {"businessId": "salon", "serviceId": "cut", "from": "2027-01-11T00:00:00Z", "limit": "20"}
    held = await client.post("/api/booking/reserve", json=slot(hour))
    commit = await client.post("/api/booking/commit", json=guest(held.json()["reservationId"]))
    return [
        held.status_code,
        commit.status_code,
        (await client.get("/api/booking/availability", params=listing)).status_code,
        (await client.get(commit.headers["location"], headers=key)).status_code,
        (await client.get("/api/catalog/businesses/salon/services", headers=key)).status_code,
        (await client.get("/health/ready")).status_code,
    ]


async def test_a_greedy_client_changes_nothing_for_another(service: ServiceProcess) -> None:
    """Each attack while the other client makes its calls, and all attacks in the memory of one process."""
    async with client_at(service, "127.0.0.2") as client:
        admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        made = await client.post(
            "/api/catalog/businesses/salon/keys", json={"name": "x", "role": "staff"}, headers=admin
        )
        key = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await client.get("/openapi.json")).status_code == 200
        good = await use_all(client, key, 0)
        assert good == [201, 201, 200, 200, 200, 200]
        before = resident_bytes(service.process.pid)
        opened: list[socket.socket] = []
        for position, (name, (count, request)) in enumerate(ATTACKS.items()):
            opened += await send_all(service.port, [request(number) for number in range(count)])
            for number in range(ROUNDS):
                assert await use_all(client, key, 1 + position + number / 10) == good, name
            if len(opened) > CONNECTIONS_OF_ADDRESS:
                close(opened)
        close(opened)
        assert peak_bytes(service.process.pid) - before <= MAX_GROWTH_BYTES
