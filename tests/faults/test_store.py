"""The store's circuit breaker: which failures open it, and which do not."""

import asyncio

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.observability.metrics import REGISTRY
from service.sharing import store as of_store
from service.sharing.store import Store, StoreDown
from tests.redis_server import RedisServer, sharing, until_up

pytestmark = pytest.mark.anyio


class BlockedCommands:
    """Commands that wait until they are released, each on a connection of its own."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._started = asyncio.Semaphore(0)

    async def __call__(self, redis: Redis) -> None:
        async with redis.client():
            self._started.release()
            await self._released.wait()

    async def until_started(self, count: int) -> None:
        """Waits until this number of commands have their connections."""
        async with asyncio.timeout(20):
            for _ in range(count):
                await self._started.acquire()

    def release(self) -> None:
        """Lets all of them end."""
        self._released.set()


async def test_a_timeout_while_waiting_for_a_slot_does_not_open_the_breaker(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrent requests of this process use all slots. A request that gets none in time goes on without Redis, and
    later ones use it."""
    async with sharing(redis_server) as store:
        blocked = BlockedCommands()
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        crowd = [asyncio.create_task(store.ask("test", blocked)) for _ in range(of_store._TURNS)]
        await blocked.until_started(len(crowd))
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 0.02)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.get("key"))
        assert store.up
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        waiting = asyncio.create_task(store.ask("test", lambda redis: redis.get("key")))
        blocked.release()
        await asyncio.gather(*crowd)
        assert await waiting is None


async def test_a_blocking_read_uses_no_slot(redis_server: RedisServer) -> None:
    """The feed's reads take seconds, so they must not delay the commands of requests."""
    async with sharing(redis_server) as store:
        blocked = BlockedCommands()
        waits = [asyncio.create_task(store.wait("test", blocked, 60)) for _ in range(of_store._TURNS)]
        await blocked.until_started(len(waits))
        assert await store.ask("test", lambda redis: redis.get("key")) is None
        assert store.up
        blocked.release()
        await asyncio.gather(*waits)


async def test_commands_that_wait_for_a_slot_fail_with_the_open_breaker(redis_server: RedisServer) -> None:
    """They do not try Redis one after the other."""
    async with sharing(redis_server) as store:
        attempts = 0

        async def fail(_: Redis) -> None:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(0)
            raise ConnectionResetError

        crowd = await asyncio.gather(*(store.ask("test", fail) for _ in range(100)), return_exceptions=True)
        assert [type(answer) for answer in crowd] == [StoreDown] * 100
        assert attempts == of_store._TURNS


def count_watch_failures() -> float:
    """Returns the counter of failed probes."""
    return REGISTRY.get_sample_value("holdfast_redis_failures_total", {"duty": "watch"}) or 0


async def test_the_breaker_stays_open_while_redis_refuses_writes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe by a ping alone would close and open it in turn."""
    monkeypatch.setattr(of_store, "WATCH_SECONDS", 0.01)
    async with sharing(redis_server) as store:
        redis_server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.set("key", "value"))
        before = count_watch_failures()
        async with asyncio.timeout(20):
            while count_watch_failures() < before + 3 and not store.up:  # noqa: ASYNC110 — the store has no event for it
                await asyncio.sleep(0.001)
        assert not store.up
        redis_server.client.config_set("maxmemory", 0)
        await until_up(store)


async def test_a_failed_disconnect_does_not_end_the_probes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection that hangs raises a timeout."""
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


async def test_a_failed_disconnect_does_not_escape_from_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of the application that are stopped after the store must be stopped, too."""

    async def fail(*_: object) -> None:
        raise RedisTimeoutError("Timed out closing connection after 1")

    store = Store(SecretStr("redis://127.0.0.1:1"))
    assert store._redis
    monkeypatch.setattr(store._redis, "aclose", fail)
    await store.close()
