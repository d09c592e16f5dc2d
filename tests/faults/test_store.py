"""The client of Redis: which failures open its circuit breaker, and which do not."""

import asyncio

import pytest
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import LogCapture

from service.observability.metrics import REGISTRY
from service.sharing import store as of_store
from service.sharing.store import Store, StoreDown
from tests.redis_server import RedisServer, sharing, until_up

pytestmark = pytest.mark.anyio


class Commands:
    """Commands that run until they are released, each on a connection."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._begun = asyncio.Semaphore(0)

    async def __call__(self, redis: Redis) -> None:
        async with redis.client():
            self._begun.release()
            await self._released.wait()

    async def until_begun(self, count: int) -> None:
        """Returns when this number of commands have their connections."""
        async with asyncio.timeout(20):
            for _ in range(count):
                await self._begun.acquire()

    def release(self) -> None:
        """Ends all commands."""
        self._released.set()


async def test_a_timeout_in_the_queue_does_not_open_the_breaker(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections are in use. A command that waits too long for one raises, and the others are not affected."""
    async with sharing(redis_server) as store:
        commands = Commands()
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        crowd = [asyncio.create_task(store.ask("test", commands)) for _ in range(of_store._TURNS)]
        await commands.until_begun(len(crowd))
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 0.02)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.get("key"))
        assert store.up
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        waiting = asyncio.create_task(store.ask("test", lambda redis: redis.get("key")))
        commands.release()
        await asyncio.gather(*crowd)
        assert await waiting is None


async def test_a_waiting_read_takes_no_turn_from_requests(redis_server: RedisServer) -> None:
    """The reads of the feed wait for seconds, which requests do not have."""
    async with sharing(redis_server) as store:
        commands = Commands()
        waits = [asyncio.create_task(store.wait("test", commands, 60)) for _ in range(of_store._TURNS)]
        await commands.until_begun(len(waits))
        assert await store.ask("test", lambda redis: redis.get("key")) is None
        assert store.up
        commands.release()
        await asyncio.gather(*waits)


async def test_the_log_has_no_message_of_a_failure(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may quote the URL, in which the password is."""
    capture = LogCapture()
    monkeypatch.setattr(of_store, "log", structlog.wrap_logger(None, processors=[capture]))

    async def fail(_: Redis) -> None:
        raise RedisConnectionError("no answer from redis://:secret@127.0.0.1")

    async with sharing(redis_server) as store:
        with pytest.raises(StoreDown):
            await store.ask("test", fail)
    [line] = capture.entries
    assert (line["event"], line["error"]) == ("redis_gone", "ConnectionError")
    assert "secret" not in str(line)


async def test_commands_in_the_queue_see_that_the_breaker_is_open(redis_server: RedisServer) -> None:
    """They are not sent one after the other to a Redis that has just failed."""
    async with sharing(redis_server) as store:
        asked = 0

        async def fail(_: Redis) -> None:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            raise ConnectionResetError

        crowd = await asyncio.gather(*(store.ask("test", fail) for _ in range(100)), return_exceptions=True)
        assert [type(answer) for answer in crowd] == [StoreDown] * 100
        assert asked == of_store._TURNS


def watch_failures() -> float:
    """The value of the metric."""
    return REGISTRY.get_sample_value("holdfast_redis_failures_total", {"duty": "watch"}) or 0


async def test_a_redis_that_takes_no_writes_is_gone_until_it_does(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the breaker of a full Redis would close and open again at every check."""
    monkeypatch.setattr(of_store, "WATCH_SECONDS", 0.01)
    async with sharing(redis_server) as store:
        redis_server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.set("key", "value"))
        before = watch_failures()
        async with asyncio.timeout(20):
            while watch_failures() < before + 3 and not store.up:  # noqa: ASYNC110 — the metric has no event
                await asyncio.sleep(0.001)
        assert not store.up
        redis_server.client.config_set("maxmemory", 0)
        await until_up(store)


async def test_the_watch_survives_connections_that_cannot_be_closed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection to a Redis that hangs takes longer than its timeout."""
    monkeypatch.setattr(of_store, "WATCH_SECONDS", 0.01)
    failed = asyncio.Event()

    async with sharing(redis_server) as store:
        assert store._redis
        pool = store._redis.connection_pool
        disconnect = pool.disconnect

        async def fail() -> None:
            failed.set()
            monkeypatch.setattr(pool, "disconnect", disconnect)
            raise RedisTimeoutError("Timed out closing connection after 1")

        monkeypatch.setattr(pool, "disconnect", fail)
        store._note(up=False)
        await asyncio.wait_for(failed.wait(), 10)
        await until_up(store)


async def test_closing_survives_connections_that_cannot_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the service has to stop too."""

    async def fail(*_: object) -> None:
        raise RedisTimeoutError("Timed out closing connection after 1")

    store = Store(SecretStr("redis://127.0.0.1:1"))
    assert store._redis
    monkeypatch.setattr(store._redis, "aclose", fail)
    await store.close()
