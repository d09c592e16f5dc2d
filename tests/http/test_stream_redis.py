"""The stream of changes of several processes that share a Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from service.sharing import feed, store
from service.sharing.feed import Feed
from service.sharing.store import Store, StoreDown
from service.sharing.watchers import Change, Event, Watcher
from tests.database import TestDatabase, at
from tests.http.browser import Browser, change_at, changed, missed, reserve, running
from tests.redis_server import RedisServer, sharing, until_both_listen, until_up
from tests.serving import wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_processes(database: TestDatabase, redis: RedisServer) -> AsyncIterator[tuple[Starlette, Starlette]]:
    """Runs two applications that exchange their changes through a Redis."""
    database.make_service(capacity=1000)
    async with running(database, redis) as here, running(database, redis) as there:
        for mine, others in ((here, there), (there, here)):
            await until_connected(mine, others)
        yield here, there


async def until_connected(mine: Starlette, others: Starlette) -> None:
    """Returns when a change of one application reaches a browser of the other."""
    async with Browser(others) as browser, asyncio.timeout(20):
        while True:
            await reserve(mine, 20)
            await asyncio.sleep(0.05)
            while browser.waiting:
                if await browser.next_event() == changed(20):
                    return


async def test_browsers_of_all_processes_receive_a_change(database: TestDatabase, redis_server: RedisServer) -> None:
    """Once, and they can resume at another process after they were cut off."""
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


async def test_during_an_outage_of_redis_browsers_receive_the_changes_of_their_own_process(
    database: TestDatabase, redis_server: RedisServer
) -> None:
    """Changes of other processes are missed: so browsers load again at its beginning and at its end."""
    async with two_processes(database, redis_server) as (here, there):
        async with Browser(here) as browser:
            redis_server.kill()
            assert await browser.next_event() == ("resync", {})
            await reserve(here, 10)
            assert await browser.next_event() == changed(10)
            redis_server.start()
            assert await browser.next_event() == ("resync", {})
        await until_connected(there, here)
        async with Browser(here, browser.last_id) as again:
            assert (await again.next_event())[0] in ("changed", "resync")


CHANGE: Any = {"service_id": "cut", "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}


@asynccontextmanager
async def feeds(redis: RedisServer) -> AsyncIterator[tuple[Feed, Store, Watcher]]:
    """Runs two feeds that share a Redis: one with its store, and a watcher of the other."""
    async with sharing(redis) as one, sharing(redis) as two:
        here, there = (Feed(store) for store in (one, two))
        for each in (here, there):
            each.start()
        await until_both_listen(redis)
        yield here, one, there.watch("salon", "cut", None, None)
        for each in (here, there):
            await each.stop()


async def next_of(watcher: Watcher) -> Event:
    """Returns the next event of a watcher."""
    async with asyncio.timeout(20):
        event = await watcher.next_event()
    assert event
    return event


async def test_a_change_that_could_not_be_sent_becomes_a_gap_for_other_processes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The breaker was open for a moment in one process only. Later changes follow the gap."""
    monkeypatch.setattr(store, "WATCH_SECONDS", 0.05)
    async with feeds(redis_server) as (here, of_here, watcher):
        of_here._note(up=False)
        here.announce("salon", CHANGE, moved=False)
        await until_up(of_here)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None
        assert (await next_of(watcher)).change


async def test_a_change_whose_command_failed_becomes_a_gap_for_other_processes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Redis answers too late."""
    async with feeds(redis_server) as (here, of_here, watcher):
        ask = of_here.ask

        async def fail(*_: object) -> None:
            monkeypatch.setattr(of_here, "ask", ask)
            raise StoreDown

        monkeypatch.setattr(of_here, "ask", fail)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None


async def test_too_many_unsent_changes_become_a_gap(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unsent changes are bounded, and watchers of the process itself still receive the change."""
    monkeypatch.setattr(feed, "_UNSENT", 1)
    async with feeds(redis_server) as (here, _, watcher):
        own = here.watch("salon", "cut", None, None)
        for _ in range(2):
            here.announce("salon", CHANGE, moved=False)
        assert (await next_of(own)).change
        for each in (own, watcher):
            assert (await next_of(each)).change is None


async def test_the_stream_in_redis_is_bounded(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the changes of all businesses would fill its memory. It removes them in nodes of a hundred."""
    monkeypatch.setattr(feed, "_REMEMBERED", 200)
    async with sharing(redis_server) as connected:
        await connected.ask("feed", partial(feed._add, [Change("salon")] * 1000, False))
    assert 200 <= redis_server.client.xlen(feed._STREAM) <= 300


async def test_a_process_that_stops_sends_its_last_changes(redis_server: RedisServer) -> None:
    """Requests may have ended in the same moment."""
    async with feeds(redis_server) as (here, _, watcher):
        here.announce("salon", CHANGE, moved=False)
        await here.stop()
        assert (await next_of(watcher)).change


async def test_a_process_that_stops_after_an_outage_leaves_a_gap(redis_server: RedisServer) -> None:
    """Other processes have missed a change, and none but this one knows."""
    async with feeds(redis_server) as (here, of_here, watcher):
        of_here._note(up=False)
        here.announce("salon", CHANGE, moved=False)
        await asyncio.sleep(0)
        of_here._note(up=True)
        await here.stop()
        assert (await next_of(watcher)).change is None


async def test_a_replica_that_takes_over_may_have_lost_entries(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the entry after which a reader reads, and not those that followed it."""
    monkeypatch.setattr(feed, "_BLOCK_SECONDS", 0.01)
    with RedisServer(tmp_path) as replica:
        primary, successor = (store._client(server.url) for server in (redis_server, replica))
        position = await feed._end_of_stream(primary)
        replica.client.replicaof("127.0.0.1", redis_server.port)
        wait_until(lambda: replica.client.xlen(feed._STREAM), "the replica to have the entry")
        replica.client.replicaof("NO", "ONE")
        assert await feed._read_after(position, primary) == []
        assert await feed._read_after(position, successor) is None
        for client in (primary, successor):
            await client.aclose()


async def test_a_user_of_redis_needs_no_right_to_info(redis_server: RedisServer) -> None:
    """Operators often take dangerous commands from users, and INFO is among them."""
    redis_server.client.acl_setuser("default", enabled=True, commands=["-info"])
    client = store._client(redis_server.url)
    position = await feed._end_of_stream(client)
    assert position.run_id is None
    await feed._add([Change("salon", **CHANGE, resource_id=None)], False, client)
    [event] = await feed._read_after(position, client) or []
    assert event.change == Change("salon", **CHANGE, resource_id=None)
    await client.aclose()


async def test_a_reader_that_is_too_late_makes_its_watchers_load_again(redis_server: RedisServer) -> None:
    """The entry after which it reads has been trimmed from the stream."""
    async with feeds(redis_server) as (here, _, watcher):
        begin = here.last_id
        for business_id in ("other", "salon", "other"):
            # Blocks the event loop, so the feed cannot read in between.
            redis_server.client.xadd("holdfast:changes", {"business_id": business_id, **CHANGE})
        redis_server.client.xtrim("holdfast:changes", maxlen=1, approximate=False)
        assert (await next_of(watcher)).change is None
        again = here.watch("salon", "cut", begin, None)
        assert (await next_of(again)).change is None


async def test_a_wiped_stream_makes_all_watchers_load_again(redis_server: RedisServer) -> None:
    """It may have contained new entries. Later changes arrive as before."""
    async with feeds(redis_server) as (here, _, watcher):
        redis_server.client.flushall()
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change is None
        await until_both_listen(redis_server)
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change


async def test_without_watchers_only_the_position_in_the_stream_is_kept(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that reconnects at such a process loads again, unless nothing was changed since."""
    monkeypatch.setattr(feed, "_RESUME_SECONDS", 0.0)
    async with feeds(redis_server) as (here, _, watcher):
        begin = here.last_id
        for hour in (10, 11):
            here.announce("salon", change_at(hour), moved=False)
            event = await next_of(watcher)
            assert event.change == Change("salon", **change_at(hour))
        async with asyncio.timeout(20):
            while here.last_id != event.id:  # noqa: ASYNC110 — a feed without watchers has no event for it
                await asyncio.sleep(0.001)
        assert not here._events
        assert await missed(here, event.id) == []
        assert await missed(here, begin) == [None]


@pytest.mark.parametrize(
    "junk",
    [
        {"business_id": "salon", "service_id": "cut", "slot_start": "noon", "slot_end": "later"},
        {"business_id": "salon", "service_id": "cut", "slot_start": "2027-01-11T10:00:00", "slot_end": "2027-01-11"},
        {"business_id": "salon", "service_id": "cut", "slot_start": "2027-01-11T10:00:00+00:00"},
        {"business_id": "s" * 1000, "service_id": "cut"},
        {"business_id": "salon", "member": "of another program"},
        {b"\xff\xfe": b"\xff"},
    ],
    ids=["no instants", "no offsets", "half a slot", "long name", "other member", "other bytes"],
)
async def test_an_entry_of_another_program_is_a_gap(redis_server: RedisServer, junk: Any) -> None:
    """Watchers load again, those that resume from before it as well, and later changes arrive."""
    async with feeds(redis_server) as (here, _, watcher):
        here.announce("salon", CHANGE, moved=False)
        before = await next_of(watcher)
        assert before.change is not None
        redis_server.client.xadd(feed._STREAM, junk)
        assert (await next_of(watcher)).change is None
        here.announce("salon", CHANGE, moved=False)
        assert (await next_of(watcher)).change == before.change
        assert await missed(here, before.id) == [None]
