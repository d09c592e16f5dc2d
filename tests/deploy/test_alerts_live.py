"""The alert rules on a real service: silent on a new installation, and each of them fires in the state that it is for.

A Prometheus scrapes the service and evaluates the expressions of the rules. How long they have to hold before the alert
fires (`for`) is tested with promtool, in deploy/prometheus/alerts.test.yaml.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from tests.clusters import Clusters
from tests.conftest import MAJOR
from tests.database import LOGIN, TestDatabase, at, reserve_request
from tests.deploy import prometheus
from tests.deploy.installation import DEPLOY
from tests.deploy.prometheus import Prometheus
from tests.redis_server import PROGRAM as REDIS
from tests.redis_server import RedisServer
from tests.serving import CRON_SECRET, REPOSITORY, SECRETS, ServiceProcess, wait_until
from tests.shipped_clock import restore_clock

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(prometheus.PROGRAM is None, reason="prometheus is missing: apt-get install prometheus"),
    pytest.mark.skipif(REDIS is None, reason="redis-server is missing: apt-get install redis-server"),
]

RULES: Final[dict[str, str]] = {
    rule["alert"]: rule["expr"]
    for rule in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
}
# How often the service looks at what its gauges show, so that no test waits for the fifteen seconds of production.
SHORTER: Final = """
from service.booking import health
from service.database import connections
from service.sharing import store
health._GAUGES_SECONDS = health._COUNTS_VALID_SECONDS = health._FINDINGS_VALID_SECONDS = 0.1
connections._GAUGES_SECONDS = 0.1
store.WATCH_SECONDS = 0.1
"""
CRON: Final = {"Authorization": f"Bearer {CRON_SECRET}"}


@dataclass(frozen=True)
class Watched:
    """A service on a database and a Redis of its own, and the Prometheus that scrapes it."""

    database: TestDatabase
    redis: RedisServer
    service: ServiceProcess
    prometheus: Prometheus
    # The alerts whose expressions held before the service was started, and those on the new installation.
    before: set[str]
    fresh: set[str]

    async def until_fires(self, alert: str, ask: Callable[[], Awaitable[object]] | None = None) -> None:
        """Returns when the expression of an alert holds; calls `ask` meanwhile."""
        async with asyncio.timeout(90):
            while not await asyncio.to_thread(self.prometheus.query, RULES[alert]):
                await (ask() if ask else asyncio.sleep(0.05))

    async def until_silent(self, alert: str) -> None:
        """Returns when the expression of an alert no longer holds."""
        async with asyncio.timeout(90):
            while await asyncio.to_thread(self.prometheus.query, RULES[alert]):  # noqa: ASYNC110 — it has no event
                await asyncio.sleep(0.05)


def firing(prometheus: Prometheus, **instant: float) -> set[str]:
    """Returns the alerts whose expressions hold, now or at the instant `time`."""
    return {alert for alert, expression in RULES.items() if prometheus.query(expression, **instant)}


def scraped_at(prometheus: Prometheus) -> float:
    """Returns an instant at which the service was scraped five times. A scrape that is too late, on a busy machine,
    takes all of its metrics away until the next one."""
    ready = "count_over_time(holdfast_database_up[1m]) > 4 and holdfast_database_up == 1"
    found: list[dict[str, Any]] = []

    def look() -> list[dict[str, Any]]:
        found.extend(prometheus.query(ready))
        return found

    wait_until(look, "five scrapes")
    instant, _ = found[0]["value"]
    return float(instant)


@pytest.fixture(scope="module")
def watched(clusters: Clusters) -> Iterator[Watched]:
    """Starts Prometheus, then the service on a new database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-test-")))
        (folder / "sitecustomize.py").write_text(SHORTER)
        database = TestDatabase(stack.enter_context(clusters.running(MAJOR).copy_of_template()))
        stack.callback(database.close)
        restore_clock(database)
        redis = stack.enter_context(RedisServer(folder))
        service = ServiceProcess(
            folder / "service.log",
            DATABASE_URL=database.url,
            MIGRATION_DATABASE_URL=database.admin_url,
            REDIS_URL=redis.url,
            PYTHONPATH=f"{folder}:{REPOSITORY}",
            RATE_LIMIT_ENABLED=False,
            **SECRETS,
        )
        stack.callback(service.kill)
        scraper = stack.enter_context(Prometheus(folder, service.port))
        before = firing(scraper)
        with service:
            yield Watched(database, redis, service, scraper, before, firing(scraper, time=scraped_at(scraper)))


@pytest.fixture
async def client(watched: Watched) -> AsyncIterator[httpx2.AsyncClient]:
    """Makes a client of the service, which has a salon with room for many."""
    watched.database.make_service(capacity=10_000)
    async with watched.service.client(connections=60) as client:
        yield client


def reserve(client: httpx2.AsyncClient, business_id: str = "salon") -> asyncio.Task[httpx2.Response]:
    """Sends a request to reserve, and returns the task that waits for its answer."""
    slot = {"slotStart": at(10).isoformat(), "slotEnd": at(11).isoformat()}
    body = {"businessId": business_id, "serviceId": "cut", **slot}
    return asyncio.create_task(client.post("/api/booking/reserve", json=body))


async def test_a_new_installation_causes_no_alert(watched: Watched) -> None:
    """No purge has run, nothing is booked, and the job has any name."""
    assert watched.fresh == set()


async def test_down(watched: Watched) -> None:
    """HoldfastDown, and no other alert, before the service was started."""
    assert watched.before == {"HoldfastDown"}


async def test_database_down(watched: Watched, client: httpx2.AsyncClient) -> None:
    """PostgreSQL grants the service no connection: the gauge, the probe and the refusals show it."""
    [(name,)] = watched.database.rows("SELECT current_database()")
    watched.database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
    watched.database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", LOGIN)
    try:
        await watched.until_fires("HoldfastDatabaseDown")
        await watched.until_fires("HoldfastNotReady", lambda: client.get("/health/ready"))
        await watched.until_fires("HoldfastOverloaded", lambda: reserve(client))
    finally:
        watched.database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    await asyncio.to_thread(watched.service.wait_until_ready)
    await watched.until_silent("HoldfastDatabaseDown")


async def test_invariant_violated(watched: Watched, client: httpx2.AsyncClient) -> None:
    """A write by hand leaves fewer places than were booked."""
    await asyncio.gather(reserve(client), reserve(client))
    watched.database.rows("UPDATE booking.services SET max_simultaneous_bookings = 1")
    await watched.until_fires("HoldfastInvariantViolated")
    watched.database.rows("UPDATE booking.services SET max_simultaneous_bookings = 10000")
    await watched.until_silent("HoldfastInvariantViolated")


async def test_purge_late(watched: Watched, client: httpx2.AsyncClient) -> None:
    """The scheduler never called, although a hold has expired; or it has stopped."""
    watched.database.rows("DELETE FROM booking.maintenance_runs")
    await reserve(client)
    watched.database.rows("UPDATE booking.reservations SET expires_at = expires_at - interval '1 hour'")
    await watched.until_fires("HoldfastPurgeLate")
    await client.post("/cron/cleanup-reservations", headers=CRON)
    await watched.until_silent("HoldfastPurgeLate")
    watched.database.rows("UPDATE booking.maintenance_runs SET finished_at = finished_at - interval '310 seconds'")
    await watched.until_fires("HoldfastPurgeLate")
    await client.post("/cron/cleanup-reservations", headers=CRON)
    await watched.until_silent("HoldfastPurgeLate")


@pytest.mark.usefixtures("client")
async def test_expired_holds_grow(watched: Watched) -> None:
    """More than a thousand holds wait for a purge that does not come."""
    for _ in range(2):
        watched.database.call("reserve", [reserve_request(10) for _ in range(600)])
    watched.database.rows("UPDATE booking.reservations SET expires_at = expires_at - interval '1 hour'")
    await watched.until_fires("HoldfastExpiredHoldsGrow")
    watched.database.rows("UPDATE booking.reservations SET expires_at = expires_at + interval '2 hours'")


async def test_errors(watched: Watched, client: httpx2.AsyncClient) -> None:
    """A function that the code calls is missing."""
    watched.database.rows("ALTER FUNCTION booking.due_businesses RENAME TO lost")
    assert (await client.post("/cron/cleanup-reservations", headers=CRON)).status_code == 500
    watched.database.rows("ALTER FUNCTION booking.lost RENAME TO due_businesses")
    await watched.until_fires("HoldfastErrors")


async def test_queue_slow(watched: Watched, client: httpx2.AsyncClient) -> None:
    """Requests wait behind a call that takes longer than a second."""

    async def wait_in_queue() -> None:
        with watched.database.locked():
            requests = [reserve(client)]
            await asyncio.to_thread(watched.database.wait_until_blocked)
            requests += [reserve(client) for _ in range(50)]
            await asyncio.sleep(1.5)
        await asyncio.gather(*requests)

    await watched.until_fires("HoldfastQueueSlow", wait_in_queue)


async def test_lock_slow(watched: Watched, client: httpx2.AsyncClient) -> None:
    """A transaction keeps rows locked for longer than the service waits."""
    names = ["clinic", "court", "hotel"]
    for name in names:
        watched.database.make_service(business_id=name, capacity=10)
    with ExitStack() as locks:
        for name in names:
            locks.enter_context(watched.database.locked(name))
        requests = [reserve(client, name) for name in names]
        await watched.until_fires("HoldfastLockSlow")
    await asyncio.gather(*requests)


async def test_pool_exhausted(watched: Watched, client: httpx2.AsyncClient) -> None:
    """Look-ups of several businesses take longer than callers come. One business leaves connections for others."""
    businesses = [watched.database.make_business(f"salon-{number}") for number in range(20)]
    slot = {"serviceId": "cut", "slotStart": at(10).isoformat(), "slotEnd": at(11).isoformat()}

    async def ask_all() -> None:
        asked = (client.get("/api/booking/capacity", params={"businessId": name, **slot}) for name in businesses)
        await asyncio.gather(*asked)

    await ask_all()  # from now on, the names are known to be ids
    with watched.database.admin.transaction():
        watched.database.rows("LOCK TABLE booking.services IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(ask_all())

        async def keep_asking() -> None:
            """Asks again when the callers have got their 503, in case Prometheus has not looked meanwhile."""
            nonlocal asking
            if asking.done():
                asking = asyncio.create_task(ask_all())
            await asyncio.sleep(0.05)

        await watched.until_fires("HoldfastPoolExhausted", keep_asking)
    await asking


async def test_redis_down(watched: Watched) -> None:
    """Redis was killed."""
    watched.redis.kill()
    await watched.until_fires("HoldfastRedisDown")
    watched.redis.start()
    await watched.until_silent("HoldfastRedisDown")


def test_each_alert_has_a_test() -> None:
    """A rule that is added without its state fails here."""
    tested = set(re.findall(r'"(Holdfast\w+)"', Path(__file__).read_text()))
    assert tested == set(RULES)
