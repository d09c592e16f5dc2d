"""A rolling upgrade: the schema is the new version's while processes of the old version still serve."""

from datetime import timedelta

import httpx2
import pytest

from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.serving import ADMIN_TOKEN, CRON_SECRET

pytestmark = pytest.mark.anyio

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CRON = {"Authorization": f"Bearer {CRON_SECRET}"}
CATALOG = "/api/catalog/businesses/salon"
SETTINGS = {"name": "Cut", "durationMinutes": 60, "resourceIds": ["ada", "bo"]}


async def test_the_old_code_serves_on_a_newer_schema(database: TestDatabase, serve: Serve) -> None:
    """A process that was started before the migration, with plans of the old schema, keeps serving; one that is started
    after it does not replace the newer definitions."""
    database.make_resource("ada")
    database.make_resource("bo")
    before = serve()
    async with before.client() as client:
        await use_every_call(client, day=0)
        migrate_to_next_version(database)
        await use_every_call(client, day=1)
    after = serve()
    async with after.client() as client:
        await use_every_call(client, day=2)


def migrate_to_next_version(database: TestDatabase) -> None:
    """Simulates the migration of a later version: every table has one more column, and the definitions are newer."""
    tables = database.rows(
        "SELECT oid::regclass::text FROM pg_class "
        "WHERE relnamespace = 'booking'::regnamespace AND relkind = 'r' AND relname <> 'schema_migrations'"
    )
    assert len(tables) >= 12
    for (table,) in tables:
        database.rows(f"ALTER TABLE {table} ADD COLUMN made_later text DEFAULT 'new'")
    newer = "of newer files", [99, 0, 0]
    database.rows(
        "UPDATE booking.schema_migrations SET sha256 = %s, service_version = %s WHERE filename = 'definitions'", *newer
    )
    database.rows(
        "INSERT INTO booking.schema_migrations (filename, sha256, service_version) VALUES ('9999.sql', %s, %s)", *newer
    )


async def use_every_call(client: httpx2.AsyncClient, day: int) -> None:
    """Calls every verb and every kind of read at least once."""

    async def call(method: str, path: str, status: int, body: object = None) -> httpx2.Response:
        headers = CRON if path.startswith("/cron") else ADMIN
        response = await client.request(method, path, json=body, headers=headers)
        assert response.status_code == status, (method, path, response.text)
        return response

    def slot(hour: float) -> dict[str, str]:
        return {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour, day=day).isoformat()}

    guest = {"guestEmail": "ada@example.com"}
    assert (await client.get("/health/ready")).status_code == 200
    put = await client.put(f"{CATALOG}/services/cut", json=SETTINGS, headers=ADMIN)
    assert put.status_code in (200, 201)
    await call("PUT", f"{CATALOG}/opening-hours", 200, [{"weekday": day + 1, "opens": "00:00", "closes": "24:00"}])

    held = [(await call("POST", "/api/booking/reserve", 201, slot(hour))).json() for hour in (8, 10, 10, 12)]
    await call("POST", "/api/booking/reserve", 409, slot(10))
    ids = [hold["reservationId"] for hold in held]
    await call("POST", f"/api/booking/reservations/{ids[0]}/extend", 200, {"ttlMinutes": 30})
    await call("DELETE", f"/api/booking/reservations/{ids[3]}", 204)
    committed = (await call("POST", "/api/booking/commit", 201, {"reservationId": ids[1], **guest})).json()
    await call("POST", "/api/bookings", 201, {**slot(14), **guest})
    await call("POST", "/api/booking/appointments", 201, slot(15))

    appointment = f"/api/booking/appointments/{committed['appointmentId']}"
    moved = {"expectedVersion": 1, "slotStart": at(17, day=day).isoformat()}
    await call("PATCH", appointment, 200, moved)
    await call("POST", f"{appointment}/cancel", 200, {})
    await call("DELETE", f"{appointment}/guest", 204)
    assert len((await call("GET", f"{appointment}/audit", 200)).json()["items"]) == 4

    span = {"from": at(0, day=day).isoformat(), "to": (at(0, day=day) + timedelta(days=1)).isoformat()}
    ends = at(11, day=day).isoformat()
    for path, query in (
        ("/api/booking/availability", {"businessId": "salon", "serviceId": "cut", **span}),
        ("/api/booking/capacity", {**slot(10), "slotEnd": ends}),
        ("/api/booking/appointments", {"businessId": "salon", **span}),
    ):
        response = await client.get(path, params=query, headers=ADMIN)
        assert response.status_code == 200, (path, response.text)
    await call("POST", "/cron/cleanup-reservations", 200)
