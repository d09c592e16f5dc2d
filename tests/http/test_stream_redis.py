"""The stream of changes where several processes share a Redis."""

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
from tests.redis_server import RedisServer, sharing, until_up
from tests.serving import wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_processes(database: TestDatabase, redis: RedisServer) -> AsyncIterator[tuple[Starlette, Starlette]]:
    """Two applications that share a Redis and have found it: what one does, the other one's browsers are told."""
    database.make_service(capacity=1000)
    async with running(database, redis) as here, running(database, redis) as there:
        for mine, others in ((here, there), (there, here)):
            await until_told(mine, others)
        yield here, there


async def until_told(mine: Starlette, others: Starlette) -> None:
    """Returns when a change by one is told to a browser of the other."""
    async with Browser(others) as browser, asyncio.timeout(20):
        while True:
            await reserve(mine, 20)
            await asyncio.sleep(0.05)
            while browser.waiting:
                if await browser.next_event() == changed(20):
                    return


async def test_whichever_process_is_asked_all_browsers_are_told(
    database: TestDatabase, redis_server: RedisServer
) -> None:
    """Once each, and they can go on at another process after they were cut off."""
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


async def test_without_redis_for_a_while_browsers_load_again_and_are_told_what_their_process_does(
    database: TestDatabase, redis_server: RedisServer
) -> None:
    """What others did meanwhile nobody can tell them: so they load when it goes, and when it is back."""
    async with two_processes(database, redis_server) as (here, there):
        async with Browser(here) as browser:
            redis_server.kill()
            assert await browser.next_event() == ("resync", {})
            await reserve(here, 10)
            assert await browser.next_event() == changed(10)
            redis_server.start()
            assert await browser.next_event() == ("resync", {})
        await until_told(there, here)
        async with Browser(here, browser.last_id) as again:
            assert (await again.next_event())[0] in ("changed", "resync")


CHANGE: Any = {"service_id": "cut", "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}


@asynccontextmanager
async def feeds(redis: RedisServer) -> AsyncIterator[tuple[Feed, Store, Watcher]]:
    """Two feeds that share a Redis and wait for news of it: one with its store, and who watches at the other."""
    async with sharing(redis) as one, sharing(redis) as two:
        here, there = (Feed(store, AnswerCache(store)) for store in (one, two))
        for each in (here, there):
            each.start()
        await until_both_listen(redis)
        yield here, one, there.watch("salon", "cut", None, None)
        for each in (here, there):
            await each.stop()


async def until_both_listen(redis: RedisServer) -> None:
    """Returns when two feeds wait for news."""
    await asyncio.to_thread(
        wait_until, lambda: sum(client["cmd"] == "xread" for client in redis.client.client_list()) == 2, "two readers"
    )


async def next_of(watcher: Watcher) -> Event:
    """What a watcher is told next."""
    async with asyncio.timeout(20):
        return await anext(watcher.events())


async def test_a_change_that_redis_was_not_told_of_makes_others_load_again_when_it_can_be(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken to be gone for a moment, which nobody else noticed; and what comes later comes after that."""
    monkeypatch.setattr(store, "WATCH_SECONDS", 0.05)
    async with feeds(redis_server) as (here, of_here, watcher):
        of_here._note(up=False)
        here.announce("salon", CHANGE, moved=False)
        await until_up(of_here)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None
        assert (await next_of(watcher)).change


async def test_a_change_that_was_lost_on_its_way_makes_others_load_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Redis took too long for it."""
    async with feeds(redis_server) as (here, of_here, watcher):
        ask = of_here.ask

        async def fail(*_: object) -> None:
            monkeypatch.setattr(of_here, "ask", ask)
            raise StoreDown

        monkeypatch.setattr(of_here, "ask", fail)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None


async def test_changes_that_are_too_many_make_all_load_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not sent yet is bounded. Nobody is left without a word for that."""
    monkeypatch.setattr(feed, "_UNSENT", 1)
    async with feeds(redis_server) as (here, _, watcher):
        own = here.watch("salon", "cut", None, None)
        for _ in range(2):
            here.announce("salon", CHANGE, moved=False)
        assert (await next_of(own)).change
        for each in (own, watcher):
            assert (await next_of(each)).change is None


async def test_who_reads_too_late_loads_again(redis_server: RedisServer) -> None:
    """A process that stood still for a while finds a stream of which the beginning is gone."""
    async with feeds(redis_server) as (here, _, watcher):
        begin = here.last_id
        for business_id in ("other", "salon", "other"):
            # Without a pause, in which it could read.
            redis_server.client.xadd("holdfast:changes", {"business_id": business_id, **CHANGE})
        redis_server.client.xtrim("holdfast:changes", maxlen=1, approximate=False)
        assert (await next_of(watcher)).change is None
        again = here.watch("salon", "cut", begin, None)
        assert (await next_of(again)).change is None


async def test_a_stream_that_is_gone_makes_all_load_again(redis_server: RedisServer) -> None:
    """What Redis forgot may have held something new; and what comes later is told as before."""
    async with feeds(redis_server) as (here, _, watcher):
        redis_server.client.flushall()
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None
        await until_both_listen(redis_server)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change
