"""The metrics of a service with several workers, and what neither they nor the log ever hold."""

import os
import signal
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest

from tests.acceptance.clients import PERSONAL, PERSONAL_WORDS, guest, slot
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.scraping import Scrape, grown
from tests.serving import ADMIN_TOKEN, SECRETS, ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
REQUESTS = "holdfast_http_requests_total"
LIVE = {"method": "GET", "route": "/health/live", "status": "200"}
# Of one worker: those for look-ups, and those for its lanes.
CONNECTIONS = 4 + 4


def scrape_now(service: ServiceProcess) -> Scrape:
    """Asks on a connection of its own, so that it may be any worker that answers."""
    return Scrape(httpx2.get(f"{service.url}/metrics", timeout=30, trust_env=False).raise_for_status().text)


def scrape_until(service: ServiceProcess, name: str, value: float) -> Scrape:
    """What the metrics are when this one has this value."""
    wait_until(lambda: scrape_now(service).value(name) == value, f"{name} to be {value}", seconds=60)
    return scrape_now(service)


async def call(service: ServiceProcess, times: int) -> None:
    """Calls the service so many times, each on a connection of its own."""
    for _ in range(times):
        async with service.client(connections=1) as client:
            assert (await client.get("/health/live")).status_code == 200


@with_proc
async def test_whichever_worker_is_asked_answers_for_all(serve: Serve) -> None:
    """Counters go on when their worker is killed; its gauges are no longer told, and the next one's are."""
    # With which uvicorn says what it does.
    service = serve(WORKERS=2, LOG_LEVEL="debug")
    wait_until_started(service, 2)
    await call(service, 20)
    assert {scrape_now(service).value(REQUESTS, **LIVE) for _ in range(10)} == {20}
    scrape_until(service, "holdfast_pool_connections", 2 * CONNECTIONS)
    for started, victim in enumerate(service.worker_pids(), start=3):
        os.kill(victim, signal.SIGKILL)
        wait_until_started(service, started)
    # Four workers have told of their connections by now; and nobody is left who counted the calls.
    scrape_until(service, "holdfast_pool_connections", 2 * CONNECTIONS)
    await call(service, 5)
    told = scrape_now(service)
    assert told.value(REQUESTS, **LIVE) == 25
    assert told.value("holdfast_build_info") == 1


def wait_until_started(service: ServiceProcess, count: int) -> None:
    """Returns when so many workers have started since the service did."""
    wait_until(lambda: len(service.events("Application startup complete.")) == count, "a worker to start")


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_same_is_told_with_one_worker_and_with_two(serve: Serve, workers: int) -> None:
    """An alert must not depend on how many there are."""
    service = serve(WORKERS=workers)
    told = scrape_until(service, "holdfast_pool_connections", workers * CONNECTIONS)
    names = {family.name for family in told.families}
    assert len(names) == len(told.families)
    assert {"holdfast_http_requests", "holdfast_batch_size", "holdfast_database_up", "holdfast_build_info"} <= names
    assert all(name.startswith("holdfast_") for name in names)
    assert told.value("holdfast_database_up") == 1
    assert told.value("holdfast_purge_runs_total", result="failed") == 0


async def test_the_folder_of_the_workers_counts_is_gone_when_the_service_is(serve: Serve, tmp_path: Path) -> None:
    """It is made anew at each start, wherever others may have counted, and not left behind."""
    folder, foreign = tmp_path / "temporary", tmp_path / "foreign"
    folder.mkdir()
    service = serve(WORKERS=2, TMPDIR=folder, PROMETHEUS_MULTIPROC_DIR=foreign)
    assert scrape_now(service).value("holdfast_build_info") == 1
    [counts] = folder.glob("holdfast-metrics-*")
    assert list(counts.glob("counter_*.db"))
    service.terminate()
    assert await anyio.to_thread.run_sync(service.wait) == 0
    assert not counts.exists()
    assert not foreign.exists()


async def test_metrics_are_told_while_the_database_is_away(database: TestDatabase, serve: Serve) -> None:
    """That is when they are needed most; and one of them says so."""
    service = serve(WORKERS=2)
    before = scrape_until(service, "holdfast_database_up", 1)
    name = database.value("SELECT current_database()")
    # The limit is not one for the test's own connection, which is a superuser's.
    database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'holdfast_test'")
    async with service.client() as client:
        assert (await client.get("/health/ready")).status_code == 503
    after = scrape_until(service, "holdfast_database_up", 0)
    refused = {"route": "/health/ready", "status": "503", "code": "DATABASE_UNAVAILABLE"}
    assert grown(before, after, REQUESTS, **refused) == 1
    database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


_OF_WIDGET = {
    "firstName": "Ada",
    "lastName": "Quillfeather",
    "email": "quillfeather@example.com",
    "phone": "+49 30 7654321",
    "notes": "allergic to quince",
}


async def test_neither_metrics_nor_log_hold_anything_personal_or_secret(database: TestDatabase, serve: Serve) -> None:
    """A whole story is told to the service, with names, contact data, ids, tokens and keys: none comes out again."""
    database.make_service(capacity=9)
    service = serve(WORKERS=2, LOG_LEVEL="debug")
    secrets = {*PERSONAL_WORDS, *SECRETS.values(), "holdfast_test:holdfast"}

    async with service.client() as client:

        async def tell(method: str, path: str, *statuses: int, **more: Any) -> Any:
            answer = await client.request(method, path, **more)
            assert answer.status_code in statuses, answer.text
            return answer.json() if answer.headers.get("content-type") == "application/json" else None

        business = {"name": "Quince & Co", "slug": "quince", "country": "DE"}
        await tell("PUT", "/api/catalog/businesses/salon", 200, json=business, headers=BEARER)
        made = await tell(
            "POST", "/api/catalog/businesses/salon/keys", 201, json={"name": "quince", "role": "owner"}, headers=BEARER
        )
        owner = {"Authorization": f"Bearer {made['key']}"}
        held = await tell("POST", "/api/booking/reserve", 201, json=slot(idempotencyKey="quince-key"))
        await tell("POST", "/api/booking/reserve", 200, json=slot(idempotencyKey="quince-key"))
        of_hold = f"/api/booking/reservations/{held['reservationId']}"
        await tell("GET", of_hold, 200)
        await tell("GET", f"{of_hold}/quince", 404)
        await tell("POST", f"{of_hold}/extend", 200, json={"ttlMinutes": 20})
        commit = guest(held["reservationId"], **PERSONAL)
        appointment = await tell("POST", "/api/booking/commit", 201, json=commit)
        await tell("POST", "/api/booking/commit", 200, json=commit)
        await tell("DELETE", of_hold, 409)
        await tell("POST", "/api/booking/commit", 400, json={**commit, "guestEmail": "quince@"})
        booked = await tell("POST", "/api/bookings", 201, json=slot(11, **PERSONAL))
        widget = {**_OF_WIDGET, "serviceId": "cut", "startTime": at(12).isoformat()}
        await tell("POST", "/api/v1/public/quince/book", 201, json=widget)
        of_appointment = f"/api/booking/appointments/{appointment['appointmentId']}"
        await tell("PATCH", of_appointment, 200, json={"expectedVersion": 1, "notes": "no quince"}, headers=owner)
        of_other = f"/api/booking/appointments/{booked['appointmentId']}"
        await tell("POST", f"{of_other}/cancel", 200, json={"cancellationToken": booked["cancellationToken"]})
        await tell("POST", f"{of_appointment}/cancel", 403, json={"cancellationToken": "v1.quince"})
        await tell("GET", f"{of_appointment}/audit", 200, headers=owner)
        await tell("DELETE", f"{of_appointment}/guest", 204, headers=owner)
        feeds = await tell("GET", "/api/catalog/businesses/salon/calendar-feeds", 200, headers=owner)
        paths = [feed["path"] for feed in feeds["items"]]
        for path in paths:
            await tell("GET", path, 200)
        await tell("GET", "/api/booking/appointments", 401, headers={"Authorization": "Bearer quince"})
        last = await client.get("/health/live")

    secrets |= {held["reservationId"], appointment["appointmentId"], booked["appointmentId"], booked["reservationId"]}
    secrets |= {
        appointment["cancellationToken"],
        booked["cancellationToken"],
        made["key"],
        made["key"].rpartition("~")[2],
    }
    secrets |= {path.partition("key=")[2] for path in paths}
    secrets = {secret for secret in secrets if secret}
    wait_until(lambda: last.headers["x-request-id"] in service.log(), "the last line of the log")
    metrics, log = scrape_now(service).text, service.log()
    assert 'verb="commit",outcome="replayed"' in metrics or 'outcome="replayed",verb="commit"' in metrics
    assert [secret for secret in secrets if secret in metrics] == []
    assert [secret for secret in secrets if secret in log] == []
