"""The metrics of a service with several workers, and the absence of personal data from them and from the log."""

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
from tests.scraping import Scrape
from tests.serving import ADMIN_TOKEN, NO_CERTIFICATES, SECRETS, ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
REQUESTS = "holdfast_http_requests_total"
LIVE = {"method": "GET", "route": "/health/live", "status": "200"}
# Of each worker: for lanes, look-ups, lists and the rest.
CONNECTIONS = 4 + 3 + 3 + 2


def scrape_now(service: ServiceProcess) -> Scrape:
    """Asks on a connection of its own, so that it may be any worker that answers."""
    answer = httpx2.get(f"{service.url}/metrics", timeout=30, trust_env=False, verify=NO_CERTIFICATES)
    return Scrape(answer.raise_for_status().text)


def scrape_until(service: ServiceProcess, name: str, value: float, **labels: str) -> Scrape:
    """Waits until a metric has a value, and returns all metrics."""
    wait_until(lambda: scrape_now(service).value(name, **labels) == value, f"{name} to be {value}", seconds=60)
    return scrape_now(service)


async def call(service: ServiceProcess, times: int) -> None:
    """Calls the service this number of times, each on a connection of its own."""
    for _ in range(times):
        async with service.client(connections=1) as client:
            assert (await client.get("/health/live")).status_code == 200


@with_proc
async def test_each_worker_returns_the_metrics_of_all(serve: Serve) -> None:
    """Counters of a killed worker are kept; its gauges are dropped, and those of its replacement are added."""
    # At this level uvicorn logs the start and the stop of its workers.
    service = serve(WORKERS=2, LOG_LEVEL="debug")
    wait_until_started(service, 2)
    await call(service, 20)
    # A worker's own counts are in its scrape at once, those of another one soon.
    scrape_until(service, REQUESTS, 20, **LIVE)
    assert {scrape_now(service).value(REQUESTS, **LIVE) for _ in range(10)} == {20}
    scrape_until(service, "holdfast_pool_connections", 2 * CONNECTIONS)
    for started, victim in enumerate(service.worker_pids(), start=3):
        os.kill(victim, signal.SIGKILL)
        wait_until_started(service, started)
    # Four workers have set the gauge by now, and the two that counted the calls are gone.
    scrape_until(service, "holdfast_pool_connections", 2 * CONNECTIONS)
    await call(service, 5)
    scrape_until(service, REQUESTS, 25, **LIVE)
    metrics = scrape_now(service)
    assert metrics.value("holdfast_build_info") == 1


def wait_until_started(service: ServiceProcess, count: int) -> None:
    """Waits until this number of workers has started since the service did."""
    wait_until(lambda: len(service.events("Application startup complete.")) == count, "a worker to start")


@pytest.mark.parametrize("workers", [1, 2])
async def test_one_worker_and_two_have_the_same_metrics(serve: Serve, workers: int) -> None:
    """An alert must not depend on the number of workers."""
    service = serve(WORKERS=workers)
    scrape_until(service, "holdfast_pool_connections", workers * CONNECTIONS)
    metrics = scrape_until(service, "holdfast_database_up", 1)
    names = {family.name for family in metrics.families}
    assert len(names) == len(metrics.families)
    assert {"holdfast_http_requests", "holdfast_batch_size", "holdfast_database_up", "holdfast_build_info"} <= names
    assert all(name.startswith("holdfast_") for name in names)
    assert metrics.value("holdfast_purge_runs_total", result="failed") == 0


async def test_the_folder_of_the_counters_is_removed_with_the_service(serve: Serve, tmp_path: Path) -> None:
    """It is made at each start, regardless of PROMETHEUS_MULTIPROC_DIR."""
    folder, foreign = tmp_path / "temporary", tmp_path / "foreign"
    folder.mkdir()
    service = serve(WORKERS=2, TMPDIR=folder, PROMETHEUS_MULTIPROC_DIR=foreign)
    assert scrape_now(service).value("holdfast_build_info") == 1
    [counts] = folder.iterdir()
    assert list(counts.glob("counter_*.db"))
    service.terminate()
    assert await anyio.to_thread.run_sync(service.wait) == 0
    assert not counts.exists()
    assert not foreign.exists()


def test_the_next_start_removes_the_folder_of_a_killed_service(serve: Serve, tmp_path: Path) -> None:
    """After kill -9 nothing else would. tests/unit/test_metrics_folder.py has services beside it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    killed = serve(WORKERS=2, TMPDIR=folder)
    killed.kill()
    [left] = folder.iterdir()
    service = serve(WORKERS=2, TMPDIR=folder)
    [counts] = folder.iterdir()
    assert counts != left
    assert scrape_now(service).value("holdfast_build_info") == 1


async def test_metrics_are_served_during_an_outage_of_the_database(database: TestDatabase, serve: Serve) -> None:
    """The gauge of the database shows the outage."""
    service = serve(WORKERS=2)
    before = scrape_until(service, "holdfast_database_up", 1)
    name = database.value("SELECT current_database()")
    # A superuser's connection, like that of the test, is exempt from the limit.
    database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'holdfast_test'")
    async with service.client() as client:
        assert (await client.get("/health/ready")).status_code == 503
    scrape_until(service, "holdfast_database_up", 0)
    refused = {"route": "/health/ready", "status": "503", "code": "DATABASE_UNAVAILABLE"}
    # Each worker writes its counters for the other now and then.
    scrape_until(service, REQUESTS, (before.value(REQUESTS, **refused) or 0) + 1, **refused)
    database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


_WIDGET_GUEST = {
    "firstName": "Ada",
    "lastName": "Quillfeather",
    "email": "quillfeather@example.com",
    "phone": "+49 30 7654321",
    "notes": "allergic to quince",
}


async def test_metrics_and_log_have_no_personal_data_and_no_secrets(database: TestDatabase, serve: Serve) -> None:
    """Requests with names, contact data, ids, tokens and keys go through all calls."""
    database.make_service(capacity=9)
    service = serve(WORKERS=2, LOG_LEVEL="debug")
    secrets = {*PERSONAL_WORDS, *SECRETS.values(), "holdfast_test:holdfast"}

    async with service.client() as client:

        async def request(method: str, path: str, *statuses: int, **more: Any) -> Any:
            answer = await client.request(method, path, **more)
            assert answer.status_code in statuses, answer.text
            return answer.json() if answer.headers.get("content-type") == "application/json" else None

        business = {"name": "Quince & Co", "slug": "quince", "country": "DE"}
        await request("PUT", "/api/catalog/businesses/salon", 200, json=business, headers=BEARER)
        key = await request(
            "POST", "/api/catalog/businesses/salon/keys", 201, json={"name": "quince", "role": "owner"}, headers=BEARER
        )
        owner = {"Authorization": f"Bearer {key['key']}"}
        held = await request("POST", "/api/booking/reserve", 201, json=slot(idempotencyKey="quince-key"))
        await request("POST", "/api/booking/reserve", 200, json=slot(idempotencyKey="quince-key"))
        hold_path = f"/api/booking/reservations/{held['reservationId']}"
        await request("GET", hold_path, 200)
        await request("GET", f"{hold_path}/quince", 404)
        await request("POST", f"{hold_path}/extend", 200, json={"ttlMinutes": 20})
        commit = guest(held["reservationId"], **PERSONAL)
        appointment = await request("POST", "/api/booking/commit", 201, json=commit)
        await request("POST", "/api/booking/commit", 200, json=commit)
        await request("DELETE", hold_path, 409)
        await request("POST", "/api/booking/commit", 400, json={**commit, "guestEmail": "quince@"})
        booked = await request("POST", "/api/bookings", 201, json=slot(11, **PERSONAL))
        widget = {**_WIDGET_GUEST, "serviceId": "cut", "startTime": at(12).isoformat()}
        await request("POST", "/api/v1/public/quince/book", 201, json=widget)
        appointment_path = f"/api/booking/appointments/{appointment['appointmentId']}"
        await request("PATCH", appointment_path, 200, json={"expectedVersion": 1, "notes": "no quince"}, headers=owner)
        other_path = f"/api/booking/appointments/{booked['appointmentId']}"
        await request("POST", f"{other_path}/cancel", 200, json={"cancellationToken": booked["cancellationToken"]})
        await request("POST", f"{appointment_path}/cancel", 403, json={"cancellationToken": "v1.quince"})
        await request("GET", f"{appointment_path}/audit", 200, headers=owner)
        await request("DELETE", f"{appointment_path}/guest", 204, headers=owner)
        feeds = await request("GET", "/api/catalog/businesses/salon/calendar-feeds", 200, headers=owner)
        paths = [feed["path"] for feed in feeds["items"]]
        for path in paths:
            await request("GET", path, 200)
        await request("GET", "/api/booking/appointments", 401, headers={"Authorization": "Bearer quince"})
        last = await client.get("/health/live")

    secrets |= {held["reservationId"], appointment["appointmentId"], booked["appointmentId"], booked["reservationId"]}
    secrets |= {
        appointment["cancellationToken"],
        booked["cancellationToken"],
        key["key"],
        key["key"].rpartition("~")[2],
    }
    secrets |= {path.partition("key=")[2] for path in paths}
    secrets = {secret for secret in secrets if secret}
    wait_until(lambda: last.headers["x-request-id"] in service.log(), "the last line of the log")
    metrics, log = scrape_now(service).text, service.log()
    assert 'verb="commit",outcome="replayed"' in metrics or 'outcome="replayed",verb="commit"' in metrics
    assert [secret for secret in secrets if secret in metrics] == []
    assert [secret for secret in secrets if secret in log] == []
