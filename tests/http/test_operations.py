"""Probes, reservation health, and the scheduler's purge."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest
from structlog.testing import capture_logs

from service.api import operations
from service.booking import cleanup
from service.booking.health import HealthMonitor
from service.booking.instants import written_instant
from service.booking.overview import overview
from service.database.connections import Database
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN, CRON, running
from tests.http.keys import bearer, make_key
from tests.http.refusals import refusal
from tests.shipped_clock import restore_clock

pytestmark = pytest.mark.anyio

PATHS = ["/cron/cleanup-reservations", "/api/cron/cleanup-reservations"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_scheduler_purges(client: httpx2.AsyncClient, database: TestDatabase, path: str, method: str) -> None:
    """Expired holds are marked, and those that ended before the idempotency window are deleted."""
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
    """A missing, malformed or wrong secret is a 401."""
    headers = [(b"Authorization", authorization.encode())] if authorization is not None else []
    response = await client.post(PATHS[0], headers=headers)
    assert refusal(response) == (401, "UNAUTHORIZED")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_administrator_may_purge_and_no_business_may(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The purge covers all businesses. A key gets a 403, because no role of a business suffices."""
    database.make_business()
    assert (await client.post(PATHS[0], headers=ADMIN)).status_code == 200
    owner = await make_key(client, "owner")
    response = await client.post(PATHS[0], headers=bearer(owner["key"]))
    assert refusal(response) == (403, "FORBIDDEN")


async def test_a_busy_business_is_left_for_the_next_run(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The purge does not wait for locks, and reports the number of remaining holds."""
    database.make_service()
    database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    with database.locked():
        report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (0, 1)
    report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (1, 0)


async def test_a_business_that_is_busy_for_a_moment_is_purged_in_the_same_run(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load a business is locked most of the time, and each run would leave it for the next one."""
    monkeypatch.setattr(cleanup, "_BUSY_ATTEMPTS", 1_000_000)
    database.make_service()
    database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    with database.locked():
        run = asyncio.create_task(client.post(PATHS[0], headers=CRON))
        await asyncio.sleep(0.5)
    report = (await run).json()
    assert (report["expired"], report["remaining"]) == (1, 0)


async def test_a_purged_business_does_not_delay_the_others(
    database: TestDatabase,
) -> None:
    """What becomes due while another one is busy is for the next run: under load there is always more of it."""
    for business_id in ("salon", "studio"):
        database.make_service(business_id=business_id, capacity=1000)
        database.reserve(10, business_id=business_id)
    database.move_clock(timedelta(minutes=15))

    def reserve_again(business_id: str, body: Any, *, moved: bool) -> None:  # noqa: ARG001 — as Announce
        database.reserve(10, business_id="studio", ttl_minutes=1)
        database.move_clock(timedelta(minutes=1))

    connected = Database(database.url, connections=1)
    await connected.open()
    try:
        with database.locked():
            report = await cleanup.Cleanup(connected, retention=timedelta(days=1), announce=reserve_again).run()
    finally:
        await connected.close()
    assert (report.expired, report.remaining) == (1, 2)


async def test_a_run_goes_on_until_nothing_is_due(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run has as many transactions as the due holds need."""
    monkeypatch.setattr(cleanup, "_STEP_ROWS", 2)
    database.make_service(capacity=5)
    for _ in range(5):
        database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    report = (await client.post(PATHS[0], headers=CRON)).json()
    assert (report["expired"], report["remaining"]) == (5, 0)


async def test_the_probes_answer(client: httpx2.AsyncClient) -> None:
    """The service is alive and ready."""
    assert (await client.get("/health/live")).json() == {"status": "alive"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    assert (await client.head("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM booking.schema_migrations WHERE filename LIKE '0001%%'",
        "DROP FUNCTION booking.applied_migrations()",
    ],
)
async def test_not_ready_without_migrations(client: httpx2.AsyncClient, database: TestDatabase, change: str) -> None:
    """A new version on an old schema must get no traffic."""
    database.rows(change)
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert "python -m service migrate" in response.json()["detail"]


async def test_ready_beside_the_files_of_a_newer_version(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the checkout of an upgrade, before its migration: the process that runs is still of the former one."""
    monkeypatch.setattr(operations, "migration_files", lambda: [Path("9999_newer.sql")])
    assert (await client.get("/health/ready")).status_code == 200


async def test_not_ready_without_the_schema(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The database was replaced by an empty one while the service runs."""
    database.rows("ALTER SCHEMA booking RENAME TO former")
    try:
        response = await client.get("/health/ready")
    finally:
        database.rows("ALTER SCHEMA former RENAME TO booking")
    assert response.status_code == 503
    assert "python -m service migrate" in response.json()["detail"]


async def test_health_counts(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Reservation health has live and expired holds, the age of the oldest, the last purge, and the share of committed
    holds."""
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
    """The answer is a 503 that names the invariant, so that monitoring raises an alarm."""
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


async def test_an_unknown_time_zone_degrades_health(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The reason names the zone. The status stays 200, because other businesses are not concerned."""
    restore_clock(database)
    database.make_business()
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    response = await client.get("/health/reservations")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    [reason] = response.json()["reasons"]
    assert reason.startswith("unknown_timezone: ")
    assert "Mars/Olympus" in reason


async def test_a_clock_that_is_not_the_shipped_one_is_critical(client: httpx2.AsyncClient) -> None:
    """The movable clock of the tests is such a clock."""
    health = (await client.get("/health/reservations")).json()
    assert health["reasons"] == ["invariant_violated: altered_clock (1)"]


async def test_a_clock_that_extends_the_shipped_definition_is_noticed(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The definitions are compared as a whole."""
    database.rows(
        "CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql VOLATILE "
        "AS $$ SELECT clock_timestamp() - interval '1 day' $$"
    )
    health = (await client.get("/health/reservations")).json()
    assert health["invariantViolations"]["altered_clock"] == 1


async def test_a_clock_with_settings_of_its_own_is_noticed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With another search path the same body may call a different function."""
    restore_clock(database)
    database.rows("ALTER FUNCTION booking.now() SET search_path = testing, pg_catalog")
    health = (await client.get("/health/reservations")).json()
    assert health["invariantViolations"]["altered_clock"] == 1


async def test_expired_holds_without_a_purge_degrade_health(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A scheduler that does not call needs attention, but nothing is wrong yet: the status stays 200."""
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


OVERVIEW = "/api/operations/overview"


async def test_operators_wait_for_a_locked_table_only_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of operators gives up after eight seconds, and a probe of Kubernetes after six: they would take the
    database for down."""

    async def rest(_: HealthMonitor) -> None:
        await asyncio.Event().wait()

    # The gauges are looked up from the start on, and would wait for the table too.
    monkeypatch.setattr(HealthMonitor, "keep_gauges", rest)
    async with running(database) as client:
        with database.admin.transaction(), capture_logs() as lines:
            database.rows("LOCK TABLE booking.reservations, booking.schema_migrations")
            paths = ["/health/ready", "/health/reservations", OVERVIEW]
            answers = await asyncio.gather(*(client.get(path, headers=ADMIN) for path in paths))
    assert [refusal(answer) for answer in answers] == [(503, "OVERLOADED")] * 3
    assert [line["event"] for line in lines].count("lock_timed_out") == 3


async def test_the_overview_counts_by_hour_and_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The administrator sees each hour, the busiest businesses and the last purge, by the clock of the database."""
    database.make_service(capacity=10)
    now = database.freeze_clock()
    for _ in range(3):
        database.commit(database.reserve(10).id)
    database.release(database.reserve(10).id)
    assert (await client.post(PATHS[0], headers=CRON)).status_code == 200
    seen = (await client.get(OVERVIEW, params={"hours": 2}, headers=ADMIN)).json()
    assert seen["now"] == seen["purgeRuns"][0]["finishedAt"] == written_instant(now)
    before, current = seen["hours"]
    assert current.pop("hour") == written_instant(now.replace(minute=0, second=0, microsecond=0))
    assert current == {"made": 4, "committed": 3, "released": 1, "expired": 0, "booked": 3}
    assert (before["made"], before["booked"]) == (0, 0)
    assert seen["businesses"] == [{"businessId": "salon", "name": "salon", "made": 4, "booked": 3}]
    assert len(seen["purgeRuns"]) == 1
    assert seen["lockWaits"] == []


async def test_the_overview_names_a_business_whose_lock_is_waited_for(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """With the session to end."""
    database.make_service()
    slot = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}
    with database.locked() as holder:
        pid = holder.info.backend_pid
        async with asyncio.TaskGroup() as group:
            reserve = group.create_task(client.post("/api/booking/reserve", json=slot))
            await asyncio.to_thread(database.wait_until_blocked)
            [wait] = (await client.get(OVERVIEW, headers=ADMIN)).json()["lockWaits"]
            holder.rollback()
    assert reserve.result().status_code == 201
    assert (wait["businessId"], wait["waiting"]) == ("salon", 1)
    assert wait["blockerPids"] == [pid]


async def test_the_overview_is_the_administrators(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It shows all businesses, so no key of a business may read it."""
    database.make_business()
    assert refusal(await client.get(OVERVIEW)) == (401, "UNAUTHORIZED")
    owner = await make_key(client, "owner")
    assert refusal(await client.get(OVERVIEW, headers=bearer(owner["key"]))) == (403, "FORBIDDEN")


@pytest.mark.parametrize("hours", ["0", "25", "x"])
async def test_the_overview_has_a_day_at_most(client: httpx2.AsyncClient, hours: str) -> None:
    """Reservations are kept for a day."""
    response = await client.get(OVERVIEW, params={"hours": hours}, headers=ADMIN)
    assert refusal(response) == (400, "VALIDATION_FAILED")
    assert response.json()["errors"][0]["field"] == "hours"


async def test_the_overview_adds_up_the_rows_of_several_servers() -> None:
    """Each server answers for its own businesses, and every one knows each run of the purge."""
    now = datetime(2030, 1, 1, 10, 30, tzinfo=UTC)
    before, hour = now - timedelta(minutes=1), now.replace(minute=0)
    runs = [(uuid4(), before, before, 0, 0, 0, 0), (uuid4(), now, now, 1, 2, 3, 4)]
    rows: dict[str, list[tuple[Any, ...]]] = {
        "now": [(now,), (now,)],
        "hourly_counts": [(hour, 1, 2, 3, 4, 5), (hour, 10, 20, 30, 40, 50)],
        "busiest_businesses": [("a", "A", 1, 1), ("b", "B", 0, 1), ("c", "C", 5, 0)],
        "purge_runs": [*runs, *runs],
        "lock_waits": [("a", 1, 0.5, [1]), ("b", 2, 1.5, [2])],
    }

    class Servers:
        async def fetch(self, name: str, *_: object) -> list[tuple[Any, ...]]:
            return rows[name]

        async def observe(self, name: str, *_: object) -> tuple[list[tuple[Any, ...]], tuple[int, ...]]:
            return rows[name], ()

    seen = await overview(cast(Database, Servers()), 1)
    assert [hour.model_dump(exclude={"hour"}) for hour in seen.hours] == [
        {"made": 11, "committed": 22, "released": 33, "expired": 44, "booked": 55}
    ]
    assert [business.business_id for business in seen.businesses] == ["c", "a", "b"]
    assert [(run.finished_at, run.erased) for run in seen.purge_runs] == [
        (written_instant(now), 3),
        (written_instant(before), 0),
    ]
    assert [wait.business_id for wait in seen.lock_waits] == ["b", "a"]
