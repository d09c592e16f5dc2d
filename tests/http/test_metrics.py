"""The metrics: their format and their values. A process has one registry, so tests compare values before and after."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import httpx2
import orjson
import pytest

from service.api import operations
from service.booking import health as health_module
from service.booking.health import HealthMonitor
from service.database import connections as connections_module
from service.database import group_commit as group_commit_module
from service.database import queue as queue_module
from service.database.group_commit import GroupCommit
from service.errors import Overloaded
from service.observability.metrics import exposition
from tests.connections import open_database, running_group_commit
from tests.database import TestDatabase, at, reserve_request
from tests.faults.proxy import Proxy
from tests.http.conftest import CRON, client_of
from tests.http.describing import make_app
from tests.scraping import Scrape, grown, scrape
from tests.serving import wait_until

pytestmark = pytest.mark.anyio

RESERVE = "/api/booking/reserve"
REQUESTS = "holdfast_http_requests_total"


def slot(hour: float = 10, **members: Any) -> dict[str, Any]:
    """Returns the body of a reserve."""
    instants = {"slotStart": at(hour).isoformat(), "slotEnd": at(hour + 1).isoformat()}
    return {"businessId": "salon", "serviceId": "cut", **instants, **members}


async def wait_for_metrics(condition: Callable[[Scrape], bool]) -> Scrape:
    """Waits until the metrics meet a condition, and returns them."""
    await asyncio.to_thread(wait_until, lambda: condition(current_metrics()), "the metrics to change")
    return current_metrics()


def current_metrics() -> Scrape:
    """Returns the present metrics."""
    return Scrape(exposition().decode())


@pytest.fixture(autouse=True)
def no_counts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes each monitor ask each time: also that of the application, which is created before a test begins."""
    monkeypatch.setattr(health_module, "_COUNTS_VALID_SECONDS", 0.0)


@asynccontextmanager
async def keep_gauges(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Keeps the gauges of a database up to date, without intervals."""
    monkeypatch.setattr(health_module, "_GAUGES_SECONDS", 0.0)
    monkeypatch.setattr(health_module, "_FINDINGS_VALID_SECONDS", 0.0)
    async with open_database(url) as database:
        task = asyncio.create_task(HealthMonitor(database).keep_gauges())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


# The format.


async def test_prometheus_can_parse_the_metrics() -> None:
    """The content type is Prometheus' text format, and each metric has a type and a help text."""
    async with client_of(make_app()) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = Scrape(answer.text).families
    assert len(families) > 20
    assert all(family.documentation and family.type != "unknown" for family in families)


async def test_the_metrics_need_no_database() -> None:
    """They are scraped while the database is down, too."""
    async with client_of(make_app()) as client, asyncio.timeout(connections_module.CONNECT_SECONDS):
        assert (await scrape(client)).value("holdfast_build_info") == 1


async def test_concurrent_scrapes_share_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is public, and adding up the counters of all workers takes time. No scrape gets an answer that is older
    than itself."""
    expositions = 0

    def counted() -> bytes:
        nonlocal expositions
        expositions += 1
        return exposition()

    monkeypatch.setattr(operations, "exposition", counted)
    async with client_of(make_app()) as client:
        await asyncio.gather(*(scrape(client) for _ in range(20)))
        assert expositions == 2
        await scrape(client)
        assert expositions == 3


# Requests.


async def test_requests_are_counted_by_the_template_of_their_route(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A refusal has its code as a label, and all requests without a route share one value."""
    database.make_service()
    before = await scrape(client)
    held = (await client.post(RESERVE, json=slot())).json()["reservationId"]
    await client.post(RESERVE, json=slot())
    await client.get(f"/api/booking/reservations/{held}")
    await client.get("/nowhere/at/all")
    await client.post("/health/live")
    after = await scrape(client)
    counted = [
        ("POST", RESERVE, "201", ""),
        ("POST", RESERVE, "409", "SLOT_UNAVAILABLE"),
        ("GET", "/api/booking/reservations/{reservationId}", "200", ""),
        ("GET", "unmatched", "404", "NOT_FOUND"),
        ("POST", "/health/live", "405", "METHOD_NOT_ALLOWED"),
    ]
    for method, route, status, code in counted:
        labels = {"method": method, "route": route, "status": status, "code": code}
        assert grown(before, after, REQUESTS, **labels) == 1, labels
    assert grown(before, after, "holdfast_http_request_seconds_count", method="POST", route=RESERVE) == 2
    assert grown(before, after, "holdfast_http_request_seconds_sum", method="POST", route=RESERVE) > 0
    assert held not in after.text
    assert "nowhere" not in after.text


# Group commit.


async def test_decisions_are_counted_by_verb_and_outcome(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The batches that carried the decisions are counted, too."""
    database.make_service()
    before = await scrape(client)
    for body in (slot(idempotencyKey="a"), slot(idempotencyKey="a"), slot(idempotencyKey="b")):
        await client.post(RESERVE, json=body)
    after = await scrape(client)
    for outcome in ("done", "replayed", "slot_unavailable"):
        assert grown(before, after, "holdfast_decisions_total", verb="reserve", outcome=outcome) == 1
    assert grown(before, after, "holdfast_batches_total", result="answered") == 3
    assert grown(before, after, "holdfast_batch_size_count") == 3
    assert grown(before, after, "holdfast_batch_size_sum") == 3
    assert grown(before, after, "holdfast_queue_wait_seconds_count") == 3
    assert grown(before, after, "holdfast_queue_depth") == 0


async def test_a_wait_for_a_lock_is_measured(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """While one batch waits for its lock, the requests behind it queue up, and form the next batch."""
    database.make_service(capacity=50)
    before = await scrape(client)
    with database.locked():
        first = asyncio.create_task(client.post(RESERVE, json=slot()))
        await asyncio.to_thread(database.wait_until_blocked)
        rest = [asyncio.create_task(client.post(RESERVE, json=slot())) for _ in range(6)]
        # Queues of earlier tests, which ended with requests, are counted as well.
        await wait_for_metrics(lambda metrics: grown(before, metrics, "holdfast_queue_depth") == 6)
    assert {answer.status_code for answer in await asyncio.gather(first, *rest)} == {201}
    after = await scrape(client)
    assert grown(before, after, "holdfast_lock_wait_seconds_count") == 1
    assert 0 < grown(before, after, "holdfast_lock_wait_seconds_sum") < 5
    assert grown(before, after, "holdfast_batch_size_bucket", le="1.0") == 1
    assert grown(before, after, "holdfast_batch_size_sum") == 7
    assert grown(before, after, "holdfast_queue_depth") == 0


@asynccontextmanager
async def group_commit(url: str) -> AsyncIterator[GroupCommit]:
    """Runs a group commit over a pool of its own."""
    async with (
        open_database(url, connections=2, pool="lanes") as database,
        running_group_commit(database) as running,
    ):
        yield running


async def reserve(running: GroupCommit) -> str:
    """Returns the name of the outcome of one reserve."""
    request = reserve_request(10)
    return (await running.submit("reserve", "salon", request["operation_id"], orjson.dumps(request))).name


async def test_failed_and_lost_batches_are_counted_apart(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost batch may have taken effect; the resend determines its outcome."""
    monkeypatch.setattr(group_commit_module, "RESEND_SECONDS", 0.1)
    database.make_service(capacity=5)
    before = current_metrics()
    async with Proxy(database.url).running() as proxy, group_commit(proxy.url) as running:
        proxy.lose_next_answer_to = b"booking.execute"
        assert await reserve(running) in ("done", "replayed")
        database.rows("ALTER FUNCTION booking.lock_businesses RENAME TO lost")
        with pytest.raises(Exception, match="lock_businesses"):
            await reserve(running)
        database.rows("ALTER FUNCTION booking.lost RENAME TO lock_businesses")
    after = current_metrics()
    metrics = {result: grown(before, after, "holdfast_batches_total", result=result) for result in ("lost", "failed")}
    # The request of a failed batch is sent once more, alone.
    assert metrics == {"lost": 1, "failed": 2}


async def test_refusals_of_a_full_queue_are_counted(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter explains 503s that callers report."""
    monkeypatch.setattr(queue_module, "MAX_QUEUE", 0)
    before = current_metrics()
    async with group_commit(database.url) as running:
        with pytest.raises(Overloaded):
            await reserve(running)
    assert grown(before, current_metrics(), "holdfast_refused_by_queue_total") == 1


# The purge, reservations, and the database.


async def test_purges_are_counted(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The counters have the number of runs by result, and the numbers of rows by what was done to them."""
    database.make_service(capacity=5)
    database.book(-24 * 60, manual=True)
    database.rows("UPDATE booking.businesses SET guest_retention_days = 1")
    database.release(database.reserve(10).id)
    database.move_clock(timedelta(hours=24))
    database.reserve(10)
    database.move_clock(timedelta(minutes=15))
    before = await scrape(client)
    assert (await client.post("/cron/cleanup-reservations", headers=CRON)).status_code == 200
    database.rows("DROP FUNCTION booking.due_businesses")
    assert (await client.post("/cron/cleanup-reservations", headers=CRON)).status_code == 500
    after = await scrape(client)
    assert grown(before, after, "holdfast_purge_runs_total", result="done") == 1
    assert grown(before, after, "holdfast_purge_runs_total", result="failed") == 1
    assert grown(before, after, "holdfast_purged_total", what="expired") == 1
    assert grown(before, after, "holdfast_purged_total", what="deleted") == 1
    assert grown(before, after, "holdfast_purged_total", what="erased") == 1


async def test_the_gauges_of_reservations_follow_the_database(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service keeps the gauges of live and expired holds and of violated invariants without requests."""
    database.make_service(capacity=2)
    database.reserve(10)
    database.reserve(10)
    async with keep_gauges(database.url, monkeypatch):
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_reservations_live") == 2)
        database.rows("UPDATE booking.services SET max_simultaneous_bookings = 1")
        await wait_for_metrics(
            lambda metrics: metrics.value("holdfast_invariant_violations", invariant="overbooked_instants") == 1
        )
        database.rows("UPDATE booking.services SET max_simultaneous_bookings = 2")
        database.move_clock(timedelta(minutes=25))
        # The age of the oldest hold is set after the counts, and the run of a purge is recorded after its effect: the
        # test waits for the later one of each.
        metrics = await wait_for_metrics(lambda metrics: (metrics.value("holdfast_oldest_expired_seconds") or 0) >= 600)
        assert metrics.value("holdfast_reservations_expired_unpurged") == 2
        assert (metrics.value("holdfast_reservations_live"), metrics.value("holdfast_database_up")) == (0, 1)
        assert metrics.value("holdfast_last_purge_timestamp_seconds") == 0
        await client.post("/cron/cleanup-reservations", headers=CRON)
        long_ago = at(0, day=-60).timestamp()
        metrics = await wait_for_metrics(
            lambda metrics: (metrics.value("holdfast_last_purge_timestamp_seconds") or 0) > long_ago
        )
        assert metrics.value("holdfast_reservations_expired_unpurged") == 0


async def test_the_gauge_of_the_database_follows_an_outage(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that keeps the gauges survives the outage."""
    monkeypatch.setattr(connections_module, "CONNECT_SECONDS", 1)
    [(name,)] = database.rows("SELECT current_database()")
    async with keep_gauges(database.url, monkeypatch):
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_database_up") == 1)
        # A superuser's connection, like that of the test, is exempt from the limit.
        database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
        database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'holdfast_test'")
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_database_up") == 0)
        database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_database_up") == 1)


async def test_a_missing_function_does_not_count_as_an_outage(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers; and the gauges are updated once the function is back."""
    database.make_service()
    database.reserve(10)
    async with keep_gauges(database.url, monkeypatch):
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_reservations_live") == 1)
        database.rows("ALTER FUNCTION booking.reservation_health() RENAME TO lost")
        database.reserve(11)
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_database_up") == 1)
        database.rows("ALTER FUNCTION booking.lost() RENAME TO reservation_health")
        await wait_for_metrics(lambda metrics: metrics.value("holdfast_reservations_live") == 2)


async def test_the_gauges_of_a_pool_show_its_use_and_its_waiting_callers(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that is too small shows before its callers are refused."""
    monkeypatch.setattr(connections_module, "_GAUGES_SECONDS", 0.01)

    def pool(metrics: Scrape) -> tuple[float | None, ...]:
        counts = (metrics.value("holdfast_pool_connections", pool="other", state=state) for state in ("idle", "used"))
        return (*counts, metrics.value("holdfast_pool_waiting", pool="other"))

    async with open_database(database.url, connections=2) as small:
        async with small.connection(), small.connection():
            waiting = asyncio.create_task(small.fetch("server_time"))
            await wait_for_metrics(lambda metrics: pool(metrics) == (0, 2, 1))
        await waiting
        await wait_for_metrics(lambda metrics: pool(metrics) == (2, 0, 0))
