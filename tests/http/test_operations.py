"""Probes, reservation health, and the scheduler's call."""

from datetime import timedelta

import httpx2
import pytest

from service.booking import cleanup
from tests.database import TestDatabase
from tests.http.conftest import ADMIN, CRON
from tests.http.keys import bearer, make_key
from tests.http.refusals import refusal
from tests.shipped_clock import restore_clock

pytestmark = pytest.mark.anyio

PATHS = ["/cron/cleanup-reservations", "/api/cron/cleanup-reservations"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_scheduler_purges(client: httpx2.AsyncClient, database: TestDatabase, path: str, method: str) -> None:
    """Expired holds are marked, and what ended before the idempotency window is deleted."""
    database.make_service(capacity=5)
    old = database.reserve(10).id
    database.release(old)
    database.move_clock(timedelta(hours=24))
    due = database.reserve(10).id
    database.move_clock(timedelta(minutes=15))
    live = database.reserve(12).id
    response = await client.request(method, path, headers=CRON)
    assert response.status_code == 200
    report = response.json()
    assert {key: report[key] for key in ("expired", "deleted", "remaining")} == {
        "expired": 1,
        "deleted": 1,
        "remaining": 0,
    }
    assert report["durationMs"] >= 0
    assert [database.status(hold) for hold in (old, due, live)] == [None, "expired", "held"]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic cron", "cron", "Bearer \u00e4"]
)
async def test_the_cron_secret_is_required(client: httpx2.AsyncClient, authorization: str | None) -> None:
    """401, in whatever way the secret is missing."""
    headers = [(b"Authorization", authorization.encode())] if authorization is not None else []
    response = await client.post(PATHS[0], headers=headers)
    assert refusal(response) == (401, "UNAUTHORIZED")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_administrator_may_purge_and_no_business_may(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The purge is about all businesses. A key is told that its role is too small, which no other key of it cures."""
    database.make_business()
    assert (await client.post(PATHS[0], headers=ADMIN)).status_code == 200
    owner = await make_key(client, "owner")
    response = await client.post(PATHS[0], headers=bearer(owner["key"]))
    assert refusal(response) == (403, "FORBIDDEN")


async def test_a_busy_business_is_left_for_the_next_run(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The purge waits for nobody; what it could not do, it says."""
    database.make_service()
    database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    with database.locked():
        report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (0, 1)
    report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (1, 0)


async def test_a_run_goes_on_until_nothing_is_due(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many holds one business has left behind, and however few one transaction takes."""
    monkeypatch.setattr(cleanup, "_STEP_ROWS", 2)
    database.make_service(capacity=5)
    for _ in range(5):
        database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (5, 0)


async def test_the_probes_answer(client: httpx2.AsyncClient) -> None:
    """Live and ready."""
    assert (await client.get("/health/live")).json() == {"status": "alive"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    assert (await client.head("/health/ready")).status_code == 200


async def test_not_ready_without_migrations(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A new process on an old schema must get no traffic."""
    database.rows("DELETE FROM booking.schema_migrations WHERE filename LIKE '0001%%'")
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert "holdfast migrate" in response.json()["detail"]


async def test_health_counts(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Live and expired holds, the oldest of those, the last purge, and the share that was committed."""
    restore_clock(database)
    database.make_service(capacity=10)
    for _ in range(3):
        database.commit(database.reserve(10).id)
    database.release(database.reserve(10).id)
    database.reserve(10)
    await client.post(PATHS[0], headers=CRON)
    health = (await client.get("/health/reservations")).json()
    assert (health["status"], health["reasons"]) == ("ok", [])
    assert (health["live"], health["expiredUnpurged"], health["conversion"]) == (1, 0, 0.75)
    assert health["lastPurgeAt"].endswith("Z")
    assert set(health["invariantViolations"].values()) == {0}


async def test_a_violated_invariant_is_critical(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """503 and the name of the invariant: somebody has to be woken."""
    restore_clock(database)
    database.make_service(capacity=2)
    database.reserve(10)
    database.reserve(10)
    database.rows("UPDATE booking.services SET max_simultaneous_bookings = 1")
    response = await client.get("/health/reservations")
    assert response.status_code == 503
    assert response.json()["status"] == "critical"
    assert response.json()["reasons"] == ["invariant_violated: overbooked_instants (1)"]
    database.rows("UPDATE booking.services SET max_simultaneous_bookings = 2")


async def test_a_clock_that_is_not_the_shipped_one_is_critical(client: httpx2.AsyncClient) -> None:
    """The tests' own clock is one."""
    health = (await client.get("/health/reservations")).json()
    assert health["reasons"] == ["invariant_violated: altered_clock (1)"]


async def test_a_clock_that_is_a_little_off_is_noticed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It has to be the shipped definition, not one that contains it."""
    database.rows(
        "CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql VOLATILE "
        "AS $$ SELECT clock_timestamp() - interval '1 day' $$"
    )
    health = (await client.get("/health/reservations")).json()
    assert health["invariantViolations"]["altered_clock"] == 1


async def test_a_clock_with_settings_of_its_own_is_noticed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With another search path the same body may call another function."""
    restore_clock(database)
    database.rows("ALTER FUNCTION booking.now() SET search_path = testing, pg_catalog")
    health = (await client.get("/health/reservations")).json()
    assert health["invariantViolations"]["altered_clock"] == 1


async def test_expired_holds_that_nobody_purges_degrade(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The scheduler does not call: nothing is wrong yet, but somebody should look. The answer stays 200."""
    database.make_service()
    database.reserve(10, ttl_minutes=1)
    restore_clock(database)
    database.rows("UPDATE booking.reservations SET expires_at = clock_timestamp() - interval '10 minutes'")
    database.recount()
    response = await client.get("/health/reservations")
    health = response.json()
    assert (response.status_code, health["status"], health["purgeLate"]) == (200, "degraded", True)
    assert health["expiredUnpurged"] == 1
    assert 600 <= health["oldestExpiredSeconds"] < 700
    assert [reason.split(":")[0] for reason in health["reasons"]] == ["purge_late", "expired_unpurged"]
