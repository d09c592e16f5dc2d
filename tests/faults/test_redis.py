"""Redis dies, hangs, fills up and forgets in the middle of work: nobody is granted or refused anything differently."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from service.sharing.limits import Limit, Rate, RequestLimits
from tests.acceptance.clients import Clients, race, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.redis_server import RedisServer, sharing
from tests.scraping import grown, scrape
from tests.serving import ServiceProcess, free_port, wait_until

pytestmark = pytest.mark.anyio

# Counted, but never refused.
COUNTED = {"RATE_LIMIT_ENABLED": True, "RATE_LIMIT": "1000000/hour", "MAX_LIVE_HOLDS_PER_CLIENT": 1_000_000}
WORKERS = 2
CLIENTS = 6

Fault = Callable[[RedisServer], None]


def held(database: TestDatabase) -> dict[str, str]:
    """The holds: idempotency key and id."""
    return dict(database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations"))


def wait_for(service: ServiceProcess, event: str, count: int = WORKERS) -> None:
    """Returns when there are so many lines with this event."""
    wait_until(lambda: len(service.events(event)) >= count, f"{count} times {event}")


async def wait_until_up(client: httpx2.AsyncClient, redis: RedisServer | None = None) -> None:
    """Returns when all workers have found Redis: the gauge is as low as the lowest of theirs, of those that have begun.

    With `redis`, they may have just been started.
    """
    if redis:
        # Besides theirs there is our own connection.
        await anyio.to_thread.run_sync(
            wait_until, lambda: len(redis.client.client_list()) > WORKERS, "all workers to ask Redis"
        )
    with anyio.fail_after(30):
        up = None
        while up != 1:
            up = (await scrape(client)).value("holdfast_redis_up")


def freeze(redis: RedisServer) -> None:
    """SIGSTOP: connections stay, and nothing is answered."""
    redis.freeze()


def kill(redis: RedisServer) -> None:
    """kill -9: connections are refused."""
    redis.kill()


def fill(redis: RedisServer) -> None:
    """It answers pings, and takes no writes."""
    redis.client.config_set("maxmemory", 1)


def thaw(redis: RedisServer) -> None:
    """The way back from `freeze`."""
    redis.thaw()


def start(redis: RedisServer) -> None:
    """The way back from `kill`: it has forgotten everything."""
    redis.start()


def empty(redis: RedisServer) -> None:
    """The way back from `fill`."""
    redis.client.config_set("maxmemory", 0)


@pytest.mark.parametrize(("fault", "remedy"), [(kill, start), (freeze, thaw), (fill, empty)])
async def test_redis_fails_under_load_and_nobody_notices(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, fault: Fault, remedy: Fault
) -> None:
    """Same answers, one line for each worker when it goes and one when it is back; and only requests that were in
    flight when it went waited for it, not one of those that came later."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=WORKERS, REDIS_URL=redis_server.url, **COUNTED)
    async with service.client(connections=CLIENTS) as client:
        await wait_until_up(client, redis_server)
        clients = Clients(client, slot())
        async with clients.running(CLIENTS, retry=False):
            await clients.acknowledge(100)
            await wait_until_up(client)
            before, gone_before = await scrape(client), len(service.events("redis_gone"))
            fault(redis_server)
            await anyio.to_thread.run_sync(wait_for, service, "redis_gone", gone_before + WORKERS)
            await clients.acknowledge(CLIENTS * 2)  # until those that were in flight have given up
            gone = await scrape(client)
            await clients.acknowledge(300)
            later = await scrape(client)
            remedy(redis_server)
            await wait_until_up(client)
            await clients.acknowledge(100)
        await wait_until_up(client)
    failures = "holdfast_redis_failures_total"
    assert grown(before, gone, failures) > 0
    # All who were in flight at a worker waited for one and the same call.
    assert grown(before, gone, failures, duty="limits") <= WORKERS
    assert grown(gone, later, failures, duty="limits") == 0
    assert later.value("holdfast_redis_up") == 0
    assert clients.unexpected == []
    assert held(database) == clients.acknowledged
    assert len(service.events("redis_gone")) == len(service.events("redis_back")) >= WORKERS
    assert service.events("defect") == []


async def test_redis_is_wiped_under_load_and_nobody_notices(
    database: TestDatabase, serve: Serve, redis_server: RedisServer
) -> None:
    """What it holds may go at any time, the scripts that it was told too: that is not even a failure."""
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
    assert held(database) == clients.acknowledged
    assert service.events("defect") == []


@pytest.mark.parametrize("state", ["dead", "frozen"])
async def test_the_service_starts_without_its_redis(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, state: str
) -> None:
    """It is ready and works, and finds Redis when that comes. The URL's password is in no line."""
    database.make_service(capacity=5)
    {"dead": kill, "frozen": freeze}[state](redis_server)
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


async def test_what_answers_there_may_be_no_redis_at_all(database: TestDatabase, serve: Serve) -> None:
    """A wrong port, and something else behind it, is an outage of Redis like any other."""
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
    """Nobody should be woken up because of what they don't have."""
    database.make_service()
    service = serve()
    async with service.client() as client:
        assert (await scrape(client)).value("holdfast_redis_up") is None


# The limits.


async def test_workers_share_a_clients_limit(database: TestDatabase, serve: Serve, redis_server: RedisServer) -> None:
    """However many processes there are, and whichever is asked: exactly the limit."""
    database.make_service(capacity=1_000)
    service = serve(WORKERS=WORKERS, REDIS_URL=redis_server.url, RATE_LIMIT_ENABLED=True, RATE_LIMIT="30/hour")
    async with service.client(connections=40) as client:
        await wait_until_up(client, redis_server)
        answers = await race(client, reserves(client, 100))
    assert statuses(answers) == {201: 30, 429: 70}
    keys = " ".join(str(key) for key in redis_server.client.scan_iter())
    assert "holdfast:limit:" in keys
    assert "127.0.0.1" not in keys
    assert "127.0.0.1" not in service.log()


async def test_without_redis_each_worker_has_a_limit_of_its_own(database: TestDatabase, serve: Serve) -> None:
    """Which lets through more, but never less."""
    database.make_service(capacity=1_000)
    service = serve(WORKERS=WORKERS, RATE_LIMIT_ENABLED=True, RATE_LIMIT="30/hour")
    async with service.client(connections=40) as client:
        granted = Counter(statuses(await race(client, reserves(client, 100))))
    assert granted.keys() == {201, 429}
    assert 30 <= granted[201] <= WORKERS * 30


async def test_in_redis_too_the_window_before_counts_for_what_of_it_is_near(redis_server: RedisServer) -> None:
    """So much was asked in the last hour that nothing is left in this one, until its very end."""
    async with sharing(redis_server) as store:
        hour = redis_server.client.time()[0] // 3600
        counted: dict[Any, Any] = {"index": hour - 1, "previous": 0, "current": 1_000_000}
        redis_server.client.hset("holdfast:limit:somebody", mapping=counted)
        assert not (await RequestLimits(store).hit([Limit("client", "somebody", Rate(10, 3600))])).granted


async def test_in_redis_too_who_is_refused_by_one_limit_uses_up_no_other(redis_server: RedisServer) -> None:
    """A client beyond its own limit must not eat up what its business has for others."""
    client, business = Limit("client", "c", Rate(1, 3600)), Limit("business", "b", Rate(3, 3600))
    async with sharing(redis_server) as store:
        limiter = RequestLimits(store)
        granted = [(await limiter.hit([client, business])).granted for _ in range(5)]
        assert granted == [True, False, False, False, False]
        assert (await limiter.hit([business])).remaining == 1


async def test_redis_remembers_a_window_for_as_long_as_it_counts(redis_server: RedisServer) -> None:
    """Through the one after it, and not for ever: there are as many as there are clients."""
    async with sharing(redis_server) as store:
        await RequestLimits(store).hit([Limit("client", "somebody", Rate(10, 60))])
        assert 110 < redis_server.client.ttl("holdfast:limit:somebody") <= 120
