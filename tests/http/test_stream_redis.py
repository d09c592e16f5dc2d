"""The stream of changes of several processes that share a Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from service.sharing import feed, store
from service.sharing.cache import AnswerCache
from service.sharing.feed import Feed
from service.sharing.store import Store, StoreDown
from service.sharing.watchers import Event, Watcher
from tests.database import TestDatabase, at
from tests.http.browser import Browser, changed, reserve, running
from tests.redis_server import RedisServer, sharing, until_both_listen, until_up

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_processes(database: TestDatabase, redis: RedisServer) -> AsyncIterator[tuple[Starlette, Starlette]]:
    """Runs two applications that share a Redis, each of which receives the changes of the other."""
    database.make_service(capacity=1000)
    async with running(database, redis) as here, running(database, redis) as there:
        for source, target in ((here, there), (there, here)):
            await until_forwarded(source, target)
        yield here, there


async def until_forwarded(source: Starlette, target: Starlette) -> None:
    """Waits until a change through `source` reaches a browser of `target`."""
    async with Browser(target) as browser, asyncio.timeout(20):
        while True:
            await reserve(source, 20)
            await asyncio.sleep(0.05)
            while browser.waiting:
                if await browser.next_event() == changed(20):
                    return


async def test_browsers_of_all_processes_receive_each_change(database: TestDatabase, redis_server: RedisServer) -> None:
    """They receive it once, and can reconnect to another process."""
    async with two_processes(database, redis_server) as (here, there):
        async with Browser(here) as one, Browser(there) as two:
            await reserve(here, 10)
            await reserve(there, 12)
            for browser in (one, two):
                assert {str(await browser.next_event()) for _ in range(2)} == {str(changed(10)), str(changed(12))}
                assert browser.waiting == 0
        await reserve(here, 14)
        async with Browser(there, one.last_id) as again:
            assert await again.next_event() == changed(14)


async def test_an_outage_of_redis_makes_browsers_reload_before_and_after(
    database: TestDatabase, redis_server: RedisServer
) -> None:
    """Meanwhile they receive the changes of their own process only."""
    async with two_processes(database, redis_server) as (here, there):
        async with Browser(here) as browser:
            redis_server.kill()
            assert await browser.next_event() == ("resync", {})
            await reserve(here, 10)
            assert await browser.next_event() == changed(10)
            redis_server.start()
            assert await browser.next_event() == ("resync", {})
        await until_forwarded(there, here)
        async with Browser(here, browser.last_id) as again:
            assert (await again.next_event())[0] in ("changed", "resync")


CHANGE: Any = {"service_id": "cut", "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}


@asynccontextmanager
async def feeds(redis: RedisServer) -> AsyncIterator[tuple[Feed, Store, Watcher]]:
    """Runs two feeds that share a Redis; yields the first with its store, and a watcher of the second."""
    async with sharing(redis) as one, sharing(redis) as two:
        here, there = (Feed(store, AnswerCache()) for store in (one, two))
        for each in (here, there):
            each.start()
        await until_both_listen(redis)
        yield here, one, there.watch("salon", "cut", None, None)
        for each in (here, there):
            await each.stop()


async def next_event(watcher: Watcher) -> Event:
    """Returns the next event of a watcher."""
    async with asyncio.timeout(20):
        return await anext(watcher.events())


async def test_a_change_during_an_outage_makes_other_processes_reload_afterwards(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process took Redis to be down and the others did not; later changes come after the resync."""
    monkeypatch.setattr(store, "WATCH_SECONDS", 0.05)
    async with feeds(redis_server) as (here, store_here, watcher):
        store_here._note(up=False)
        here.announce("salon", CHANGE, moved=False)
        await until_up(store_here)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_event(watcher)).change is None
        assert (await next_event(watcher)).change


async def test_a_change_that_redis_did_not_acknowledge_makes_other_processes_reload(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout of Redis leaves open whether it stored the change."""
    async with feeds(redis_server) as (here, store_here, watcher):
        ask = store_here.ask

        async def fail(*_: object) -> None:
            monkeypatch.setattr(store_here, "ask", ask)
            raise StoreDown

        monkeypatch.setattr(store_here, "ask", fail)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_event(watcher)).change is None


async def test_more_unsent_changes_than_the_limit_make_all_processes_reload(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue of unsent changes is bounded, and a resync replaces those beyond the limit."""
    monkeypatch.setattr(feed, "_UNSENT", 1)
    async with feeds(redis_server) as (here, _, watcher):
        own = here.watch("salon", "cut", None, None)
        for _ in range(2):
            here.announce("salon", CHANGE, moved=False)
        assert (await next_event(own)).change
        for each in (own, watcher):
            assert (await next_event(each)).change is None


async def test_a_process_that_reads_a_trimmed_stream_reloads(redis_server: RedisServer) -> None:
    """After a pause of the process, the beginning of what it has not read may be gone."""
    async with feeds(redis_server) as (here, _, watcher):
        begin = here.last_id
        for business_id in ("other", "salon", "other"):
            # No await in between, so the feed cannot read them one by one.
            redis_server.client.xadd("holdfast:changes", {"business_id": business_id, **CHANGE})
        redis_server.client.xtrim("holdfast:changes", maxlen=1, approximate=False)
        assert (await next_event(watcher)).change is None
        again = here.watch("salon", "cut", begin, None)
        assert (await next_event(again)).change is None


async def test_a_lost_redis_stream_makes_all_processes_reload(redis_server: RedisServer) -> None:
    """It may have contained unread changes; later changes are forwarded as before."""
    async with feeds(redis_server) as (here, _, watcher):
        redis_server.client.flushall()
        here.announce("salon", CHANGE, moved=False)
        assert (await next_event(watcher)).change is None
        await until_both_listen(redis_server)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_event(watcher)).change
