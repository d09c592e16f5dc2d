"""The way to Redis: what is taken for its end, and what is not."""

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


class Held:
    """Commands that go on until they are let go, each on a connection."""

    def __init__(self) -> None:
        self._let_go = asyncio.Event()
        self._begun = asyncio.Semaphore(0)

    async def __call__(self, redis: Redis) -> None:
        async with redis.client():
            self._begun.release()
            await self._let_go.wait()

    async def until_begun(self, count: int) -> None:
        """Returns when so many have their connections."""
        async with asyncio.timeout(20):
            for _ in range(count):
                await self._begun.acquire()

    def let_go(self) -> None:
        """Ends them all."""
        self._let_go.set()


async def test_not_to_get_a_turn_says_nothing_about_redis(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd in this process takes all connections. Who comes too late goes on without Redis, and only they."""
    async with sharing(redis_server) as store:
        held = Held()
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        crowd = [asyncio.create_task(store.ask("test", held)) for _ in range(of_store._TURNS)]
        await held.until_begun(len(crowd))
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 0.02)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.get("key"))
        assert store.up
        monkeypatch.setattr(of_store, "TIMEOUT_SECONDS", 60)
        waiting = asyncio.create_task(store.ask("test", lambda redis: redis.get("key")))
        held.let_go()
        await asyncio.gather(*crowd)
        assert await waiting is None


async def test_who_waits_for_news_keeps_nobodys_turn(redis_server: RedisServer) -> None:
    """What the feed waits for takes seconds; requests don't have them."""
    async with sharing(redis_server) as store:
        held = Held()
        waits = [asyncio.create_task(store.wait("test", held, 60)) for _ in range(of_store._TURNS)]
        await held.until_begun(len(waits))
        assert await store.ask("test", lambda redis: redis.get("key")) is None
        assert store.up
        held.let_go()
        await asyncio.gather(*waits)


async def test_who_waits_for_a_turn_learns_that_redis_is_gone(redis_server: RedisServer) -> None:
    """It is not asked again by all who were waiting, one after the other."""
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


def failures_of_the_watch() -> float:
    """What the metric says."""
    return REGISTRY.get_sample_value("holdfast_redis_failures_total", {"duty": "watch"}) or 0


async def test_what_answers_and_takes_no_writes_is_gone_until_it_does(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is full would else be found, and lost again, at every look."""
    monkeypatch.setattr(of_store, "WATCH_SECONDS", 0.01)
    async with sharing(redis_server) as store:
        redis_server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreDown):
            await store.ask("test", lambda redis: redis.set("key", "value"))
        before = failures_of_the_watch()
        async with asyncio.timeout(20):
            while failures_of_the_watch() < before + 3 and not store.up:  # noqa: ASYNC110 — nobody tells
                await asyncio.sleep(0.001)
        assert not store.up
        redis_server.client.config_set("maxmemory", 0)
        await until_up(store)


async def test_redis_is_asked_again_although_its_connections_could_not_be_closed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs takes longer to be closed than anybody waits; that must not be the end of the watch."""
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


async def test_a_store_is_closed_although_its_connections_could_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stopped after it has to be stopped too."""

    async def fail(*_: object) -> None:
        raise RedisTimeoutError("Timed out closing connection after 1")

    store = Store(SecretStr("redis://127.0.0.1:1"))
    assert store._redis
    monkeypatch.setattr(store._redis, "aclose", fail)
    await store.close()
