"""Faults of Redis under load: no request is granted or refused differently."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from service.sharing.limits import Limit, Rate, RequestLimits
from tests.acceptance.clients import Clients, race, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.redis_server import RedisServer, patient_with_redis, sharing
from tests.scraping import grown, scrape
from tests.serving import ServiceProcess, free_port, wait_until

pytestmark = pytest.mark.anyio

# Limits that are counted and never reached.
COUNTED = {"RATE_LIMIT_ENABLED": True, "RATE_LIMIT": "1000000/hour", "MAX_LIVE_HOLDS_PER_CLIENT": 1_000_000}
WORKERS = 2
CLIENTS = 6

Fault = Callable[[RedisServer], None]


def holds_by_key(database: TestDatabase) -> dict[str, str]:
    """Returns the ids of the holds in the database by their idempotency keys."""
    return dict(database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations"))


def wait_for(service: ServiceProcess, event: str, count: int = WORKERS) -> None:
    """Waits until there is this number of log lines with an event."""
    wait_until(lambda: len(service.events(event)) >= count, f"{count} times {event}")


async def wait_until_up(client: httpx2.AsyncClient, redis: RedisServer | None = None) -> None:
    """Waits until all workers have found Redis. The gauge is the minimum over the workers that have started.

    With `redis`, it first waits until each worker has a connection, because they may have just been started.
    """
    if redis:
        # One more than the workers' connections: that of the test.
        await anyio.to_thread.run_sync(
            wait_until, lambda: len(redis.client.client_list()) > WORKERS, "all workers to ask Redis"
        )
    with anyio.fail_after(30):
        up = None
        while up != 1:
            up = (await scrape(client)).value("holdfast_redis_up")


def fill(redis: RedisServer) -> None:
    """Makes Redis refuse writes while it answers pings."""
    redis.client.config_set("maxmemory", 1)


def empty(redis: RedisServer) -> None:
    """Reverts `fill`."""
    redis.client.config_set("maxmemory", 0)


# Each fault with its remedy. A killed Redis refuses connections and has lost its data at the start; a frozen one keeps
# its connections and does not answer.
FAULTS = [(RedisServer.kill, RedisServer.start), (RedisServer.freeze, RedisServer.thaw), (fill, empty)]


@pytest.mark.parametrize(("fault", "remedy"), FAULTS)
async def test_a_fault_of_redis_under_load_changes_no_answer(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, fault: Fault, remedy: Fault
) -> None:
    """Each worker logs one line for the outage and one for its end. Only the requests in flight at the fault wait for a
    timeout."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=WORKERS, REDIS_URL=redis_server.url, **COUNTED)
    async with service.client(connections=CLIENTS) as client:
        await wait_until_up(client, redis_server)
        clients = Clients(client, slot())
        async with clients.running(CLIENTS, retry=False):
            await clients.acknowledge(100)
            await wait_until_up(client)
            before, outages_before = await scrape(client), len(service.events("redis_gone"))
            fault(redis_server)
            await anyio.to_thread.run_sync(wait_for, service, "redis_gone", outages_before + WORKERS)
            await clients.acknowledge(CLIENTS * 2)  # until the requests in flight have timed out
            during = await scrape(client)
            await clients.acknowledge(300)
            later = await scrape(client)
            remedy(redis_server)
            await wait_until_up(client)
            await clients.acknowledge(100)
        await wait_until_up(client)
    failures = "holdfast_redis_failures_total"
    assert grown(before, during, failures) > 0
    # The requests in flight at a worker waited for the same call.
    assert grown(before, during, failures, duty="limits") <= WORKERS
    assert grown(during, later, failures, duty="limits") == 0
    assert later.value("holdfast_redis_up") == 0
    assert clients.unexpected == []
    assert holds_by_key(database) == clients.acknowledged
    assert len(service.events("redis_gone")) == len(service.events("redis_back")) >= WORKERS
    assert service.events("defect") == []


async def test_a_loss_of_all_data_of_redis_under_load_changes_no_answer(
    database: TestDatabase, serve: Serve, redis_server: RedisServer
) -> None:
    """Redis may lose its data and its scripts at any time without causing a failure."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=WORKERS, REDIS_URL=redis_server.url, **COUNTED)
    async with service.client(connections=CLIENTS) as client:
        await wait_until_up(client, redis_server)
        clients = Clients(client, slot())
        async with clients.running(CLIENTS, retry=False):
            for _ in range(5):
                await clients.acknowledge(50)
                redis_server.client.flushall()
                redis_server.client.script_flush()
            await clients.acknowledge(50)
    assert clients.unexpected == []
    assert holds_by_key(database) == clients.acknowledged
    assert service.events("defect") == []


@pytest.mark.parametrize("state", ["dead", "frozen"])
async def test_the_service_starts_without_its_redis(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, state: str
) -> None:
    """It is ready and works, and uses Redis as soon as that answers. The password in the URL is never logged."""
    database.make_service(capacity=5)
    {"dead": redis_server.kill, "frozen": redis_server.freeze}[state]()
    url = redis_server.url.replace("redis://", "redis://:opensesame@") if state == "dead" else redis_server.url
    service = serve(REDIS_URL=url, LOG_LEVEL="debug", **COUNTED)
    async with service.client() as client:
        answers = await race(client, reserves(client, 10))
        assert statuses(answers) == {201: 5, 409: 5}
        assert (await scrape(client)).value("holdfast_redis_up") == 0
        if state == "frozen":
            redis_server.thaw()
            await anyio.to_thread.run_sync(wait_for, service, "redis_back", 1)
    assert len(service.events("redis_gone")) == 1
    assert "opensesame" not in service.log()


async def test_another_server_at_the_url_is_an_outage_of_redis(database: TestDatabase, serve: Serve) -> None:
    """The URL has a wrong port, at which an HTTP server answers."""
    database.make_service(capacity=5)

    async def speak(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    port = free_port()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, speak)
        service = await anyio.to_thread.run_sync(lambda: serve(REDIS_URL=f"redis://127.0.0.1:{port}", **COUNTED))
        async with service.client() as client:
            assert statuses(await race(client, reserves(client, 10))) == {201: 5, 409: 5}
        await anyio.to_thread.run_sync(wait_for, service, "redis_gone", 1)
        tasks.cancel_scope.cancel()
    await listener.aclose()
    assert service.events("defect") == []


async def test_without_redis_there_is_no_gauge_for_it(database: TestDatabase, serve: Serve) -> None:
    """A service without Redis must raise no alert about it."""
    database.make_service()
    service = serve()
    async with service.client() as client:
        assert (await scrape(client)).value("holdfast_redis_up") is None


# Rate limits.


async def test_workers_share_a_clients_limit(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, tmp_path: Path
) -> None:
    """All workers together grant exactly the limit."""
    database.make_service(capacity=1_000)
    limit = {"RATE_LIMIT_ENABLED": True, "RATE_LIMIT": "30/hour"}
    service = serve(WORKERS=WORKERS, REDIS_URL=redis_server.url, **limit, **patient_with_redis(tmp_path))
    async with service.client(connections=40) as client:
        await wait_until_up(client, redis_server)
        answers = await race(client, reserves(client, 100))
    assert statuses(answers) == {201: 30, 429: 70}
    keys = " ".join(str(key) for key in redis_server.client.scan_iter())
    assert "holdfast:limit:" in keys
    assert "127.0.0.1" not in keys
    # The first line has the service's own address, and the database's.
    assert not [line for line in service.log().splitlines() if "127.0.0.1" in line and '"starting"' not in line]


async def test_without_redis_each_worker_has_a_limit_of_its_own(database: TestDatabase, serve: Serve) -> None:
    """All workers together grant at least the limit."""
    database.make_service(capacity=1_000)
    service = serve(WORKERS=WORKERS, RATE_LIMIT_ENABLED=True, RATE_LIMIT="30/hour")
    async with service.client(connections=40) as client:
        granted = Counter(statuses(await race(client, reserves(client, 100))))
    assert granted.keys() == {201, 429}
    assert 30 <= granted[201] <= WORKERS * 30


async def test_in_redis_the_previous_window_counts_by_its_share(redis_server: RedisServer) -> None:
    """Half of the present window is over, so that half of the hundred requests of the previous one count."""
    async with sharing(redis_server) as store:
        # The second window since 1970, of decades: it does not end during the test, as an hour may.
        seconds = redis_server.client.time()[0] * 2 // 3
        counters: dict[Any, Any] = {"index": 0, "previous": 0, "current": 100}
        redis_server.client.hset("holdfast:limit:ada", mapping=counters)
        limits = [Limit("client", "ada", Rate(count, seconds)) for count in (50, 51)]
        assert [(await RequestLimits(store).hit([limit])).granted for limit in limits] == [False, True]


async def test_in_redis_a_window_before_the_previous_one_does_not_count(redis_server: RedisServer) -> None:
    """Its counter is kept for a while, because it was used at its end."""
    async with sharing(redis_server) as store:
        # The third window since 1970, half of which is over.
        seconds = redis_server.client.time()[0] * 2 // 5
        counters: dict[Any, Any] = {"index": 0, "previous": 0, "current": 100}
        redis_server.client.hset("holdfast:limit:ada", mapping=counters)
        assert (await RequestLimits(store).hit([Limit("client", "ada", Rate(1, seconds))])).granted


async def test_in_redis_a_refusal_by_one_limit_does_not_count_for_another(redis_server: RedisServer) -> None:
    """A client beyond its own limit must not use up the limit of its business."""
    client, business = Limit("client", "c", Rate(1, 3600)), Limit("business", "b", Rate(3, 3600))
    async with sharing(redis_server) as store:
        limiter = RequestLimits(store)
        granted = [(await limiter.hit([client, business])).granted for _ in range(5)]
        assert granted == [True, False, False, False, False]
        assert (await limiter.hit([business])).remaining == 1


async def test_redis_keeps_a_window_for_as_long_as_it_counts(redis_server: RedisServer) -> None:
    """It counts until the end of the next window, and there are as many windows as clients."""
    async with sharing(redis_server) as store:
        await RequestLimits(store).hit([Limit("client", "ada", Rate(10, 60))])
        assert 110 < redis_server.client.ttl("holdfast:limit:ada") <= 120
