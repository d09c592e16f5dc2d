"""A client that asks for long lists without end: those of others, keys and probes do not wait behind them."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from service.process.pools import LIST_CONNECTIONS
from tests.database import TestDatabase, at
from tests.http.booking_calls import timestamp
from tests.http.conftest import ADMIN, client_of, running_app

pytestmark = pytest.mark.anyio

DATES = {"serviceId": "cut", "from": "2027-01-11", "to": "2027-01-12"}
APPOINTMENTS = {"from": timestamp(at(0)), "to": timestamp(at(24))}


@pytest.fixture
async def clients(database: TestDatabase) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Makes two clients, at different addresses, of a service whose lists of some businesses take as long as
    the lock is held."""
    for business_id in ("salon", *(f"slow-{number}" for number in range(LIST_CONNECTIONS + 1))):
        database.make_service(business_id=business_id)
    database.rows("ALTER FUNCTION booking.available_days RENAME TO quick_days")
    database.rows(
        """
        CREATE FUNCTION booking.available_days(
          p_business_id text, p_service_id text, p_first date, p_last date, p_minutes integer, p_days integer,
          p_quantity integer, p_resource_id text, p_except uuid)
        RETURNS booking.outcome LANGUAGE sql SECURITY DEFINER AS $$
          SELECT pg_advisory_xact_lock_shared(1) WHERE p_business_id <> 'salon';
          SELECT booking.quick_days($1, $2, $3, $4, $5, $6, $7, $8, $9)
        $$
        """
    )
    async with (
        running_app(database) as app,
        client_of(app, "192.0.2.1") as greedy,
        client_of(app, "192.0.2.2") as other,
    ):
        greedy.timeout = other.timeout = 60
        yield greedy, other


async def test_a_client_leaves_lists_for_the_others(
    clients: tuple[httpx2.AsyncClient, httpx2.AsyncClient], database: TestDatabase
) -> None:
    """Whatever businesses it asks about. Keys and probes have connections of their own."""
    greedy, other = clients
    made = await other.post("/api/catalog/businesses/salon/keys", json={"name": "x", "role": "staff"}, headers=ADMIN)
    key = {"Authorization": f"Bearer {made.json()['key']}"}
    database.rows("SELECT pg_advisory_lock(1)")
    asked = [
        asyncio.create_task(greedy.get("/api/booking/availability/days", params=DATES | {"businessId": f"slow-{n}"}))
        for n in range(LIST_CONNECTIONS + 1)
        for _ in range(5)
    ]
    await asyncio.to_thread(database.wait_until_blocked)
    answers = [
        await other.get("/api/booking/availability/days", params=DATES | {"businessId": "salon"}),
        await other.get("/api/booking/appointments", params=APPOINTMENTS | {"businessId": "salon"}, headers=key),
        await other.get("/health/ready"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert not any(task.done() for task in asked)
    database.rows("SELECT pg_advisory_unlock(1)")
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
