"""The watchers of a stream: what they get when they come back, how many there may be, and how they end."""

import asyncio
import time
from contextlib import suppress
from functools import partial

import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from service.api import stream
from service.booking.catalog import Catalog
from service.errors import DatabaseDown
from service.http import disconnect, streamed
from service.observability.metrics import REGISTRY
from service.sharing import feed, watchers
from service.sharing.feed import Feed
from service.sharing.store import Store
from service.sharing.watchers import Change
from tests.database import TestDatabase
from tests.http.browser import CUT, STREAM, Browser, change_at, changed, events_of, missed, post, reserve, running
from tests.http.conftest import client_of
from tests.http.describing import check, served_document

pytestmark = pytest.mark.anyio


# Reconnects.


async def test_a_browser_that_reconnects_receives_what_it_missed(app: Starlette) -> None:
    """Also if it was cut off before the first change, each time; and nothing twice."""
    async with Browser(app) as browser:
        pass
    beginning = browser.last_id
    await reserve(app, 10)
    async with Browser(app, beginning) as browser:
        pass
    assert browser.last_id == beginning
    async with Browser(app, beginning) as again:
        assert await again.next_event() == changed(10)
        at_ten = again.last_id
    await reserve(app, 12)
    await reserve(app, 14)
    async with Browser(app, at_ten) as third:
        assert [await third.next_event() for _ in range(2)] == [changed(12), changed(14)]
        assert third.waiting == 0


@pytest.mark.parametrize("last_event_id", ["of-another-process", "", "\x7f"])
async def test_an_unknown_last_event_id_makes_a_browser_load_again(app: Starlette, last_event_id: str) -> None:
    """It may be of a process that has been replaced."""
    async with Browser(app, last_event_id) as browser:
        assert await browser.next_event() == ("resync", {})
        await reserve(app)
        assert await browser.next_event() == changed(10)


async def test_a_browser_that_missed_much_loads_again(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer is cheaper than a hundred events; and the recorded events are bounded."""
    monkeypatch.setattr(feed, "BACKLOG", 3)
    async with Browser(app) as browser:
        pass
    for hour in (8, 10, 12, 14):
        await reserve(app, hour)
    async with Browser(app, browser.last_id) as again:
        assert await again.next_event() == ("resync", {})
    monkeypatch.setattr(feed, "_REMEMBERED", 2)
    await reserve(app, 16)
    async with Browser(app, browser.last_id) as again:
        assert await again.next_event() == ("resync", {})


async def test_a_reconnecting_watcher_receives_changes_of_its_own_business_only() -> None:
    """Also where other businesses have services and resources with the same ids."""
    of_process = Feed(Store(None))
    of_process.watch("salon", "perm", None, None)
    of_process.announce("salon", change_at(8), moved=False)
    cut_off_at = of_process.last_id
    for business_id in ("clinic", "salon", "clinic"):
        of_process.announce(business_id, change_at(10), moved=False)
    assert await missed(of_process, cut_off_at) == [Change("salon", **change_at(10))]


async def test_a_watcher_that_missed_a_change_no_longer_recorded_loads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events recorded after it are not all that it missed."""
    monkeypatch.setattr(feed, "_REMEMBERED", 2)
    of_process = Feed(Store(None))
    cut_off_at = [of_process.last_id]
    of_process.watch("salon", "cut", None, None)
    for hour in range(4):
        of_process.announce("salon", change_at(hour), moved=False)
        cut_off_at.append(of_process.last_id)
    assert [len(await missed(of_process, last_event_id)) for last_event_id in cut_off_at[2:]] == [2, 1, 0]
    for last_event_id in cut_off_at[:2]:
        assert await missed(of_process, last_event_id) == [None]


# Without watchers.


async def test_changes_without_watchers_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No outcome is read, no change and no event is created, and nothing is recorded."""
    for name in ("Change", "Event", "_new_id"):
        monkeypatch.setattr(feed, name, None)
    of_process = Feed(Store(None))
    for hour in range(10):
        of_process.announce("salon", change_at(hour), moved=False)
        of_process.announce("salon", partial(pytest.fail, "an outcome is read for nobody"), moved=False)
    assert not of_process._events


async def test_an_outcome_is_read_for_a_watcher() -> None:
    of_process = Feed(Store(None))
    cut_off_at = of_process.last_id
    of_process.watch("salon", "cut", None, None)
    of_process.announce("salon", partial(change_at, 8), moved=False)
    assert await missed(of_process, cut_off_at) == [Change("salon", **change_at(8))]


async def test_changes_without_watchers_make_a_reconnecting_one_load_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were not recorded. Without a change there is nothing to load, and later changes are recorded again."""
    monkeypatch.setattr(feed, "_RESUME_SECONDS", 0.0)
    of_process = Feed(Store(None))
    of_process.announce("salon", change_at(8), moved=False)
    cut_off_at = [of_process.last_id]
    watcher = of_process.watch("salon", "cut", None, None)
    of_process.announce("salon", change_at(9), moved=False)
    cut_off_at.append(of_process.last_id)
    watcher.close()
    assert await missed(of_process, cut_off_at[1]) == []
    assert await missed(of_process, cut_off_at[0]) == [Change("salon", **change_at(9))]
    of_process.announce("clinic", change_at(10), moved=False)
    for last_event_id in cut_off_at:
        assert await missed(of_process, last_event_id) == [None]
    resumed_at = of_process.last_id
    of_process.watch("salon", "cut", resumed_at, None)
    of_process.announce("salon", change_at(11), moved=False)
    assert await missed(of_process, resumed_at) == [Change("salon", **change_at(11))]
    assert await missed(of_process, cut_off_at[1]) == [None]


async def test_changes_are_recorded_for_a_while_after_the_last_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that reconnects in time gets what it missed; the record of it ends with that time."""
    of_process = Feed(Store(None))
    cut_off_at = of_process.last_id
    of_process.watch("salon", "cut", None, None).close()
    of_process.announce("salon", change_at(10), moved=False)
    assert await missed(of_process, cut_off_at) == [Change("salon", **change_at(10))]
    monkeypatch.setattr(feed, "_RESUME_SECONDS", 0.0)
    of_process.announce("salon", change_at(11), moved=False)
    assert not of_process._events
    assert await missed(of_process, cut_off_at) == [None]


# Bounds.


def clients() -> float:
    """The value of the gauge."""
    return REGISTRY.get_sample_value("holdfast_stream_clients") or 0


async def refusal(app: Starlette, address: str = "192.0.2.9", **watched: str) -> str | None:
    """Returns the code with which one more browser is refused, by default at an address without watchers."""
    async with client_of(app, address) as client, asyncio.timeout(20):
        return check(await served_document(), await client.get(STREAM, params=CUT | watched))


async def test_the_watchers_of_a_business_are_bounded(
    app: Starlette, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the room left for all. More are refused with a 503, and a browser that leaves makes room."""
    monkeypatch.setattr(watchers, "WATCHERS", 4)
    for business_id in ("x", "y"):
        database.make_service(business_id=business_id)
    before = clients()
    async with Browser(app):
        async with Browser(app):
            assert clients() - before == 2
            assert await refusal(app) == "OVERLOADED"
            async with Browser(app, businessId="x"):
                assert await refusal(app, businessId="x") == "OVERLOADED"
                async with Browser(app, businessId="y"):
                    assert clients() - before == 4
        async with Browser(app) as third:
            assert third.status == 200
    assert clients() == before


async def test_the_watchers_of_a_client_are_bounded(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can hold streams open at no cost. A browser that leaves makes room."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 2)
    async with Browser(app), Browser(app, address="192.0.2.2"):
        async with Browser(app):
            assert await refusal(app, "192.0.2.1") == "OVERLOADED"
        async with Browser(app) as again, Browser(app, address="192.0.2.2") as neighbour:
            assert again.status == neighbour.status == 200


async def test_without_rate_limits_the_watchers_of_a_client_are_not_bounded(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy counts them, or all requests come from its address."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 1)
    database.make_service()
    async with running(database, rate_limit_enabled=False) as app, Browser(app), Browser(app) as second:
        assert second.status == 200


async def test_a_watcher_that_is_too_slow_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is bounded: it receives the queued events, and then has to reconnect."""
    monkeypatch.setattr(watchers, "BACKLOG", 5)
    of_process = Feed(Store(None))
    slow, other = (of_process.watch("salon", service_id, None, None) for service_id in ("cut", "perm"))
    for hour in range(10):
        of_process.announce("salon", {"service_id": "cut", "slot_start": str(hour), "slot_end": ""}, moved=False)
    async with asyncio.timeout(10):
        told = [event.change.slot_start async for event in events_of(slow) if event.change]
    assert told == ["0", "1", "2", "3", "4"]
    slow.close()
    of_process.announce("salon", {"service_id": "perm", "slot_start": "12", "slot_end": ""}, moved=False)
    event = await other.next_event()
    assert event
    assert event.change
    other.close()


async def test_a_watcher_that_is_ended_receives_nothing_after_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue has room again before it has read all. Otherwise it would resume after a change that it did not get."""
    monkeypatch.setattr(watchers, "BACKLOG", 2)
    of_process = Feed(Store(None))
    slow = of_process.watch("salon", "cut", None, None)
    for hour in (8, 10, 12):
        of_process.announce("salon", change_at(hour), moved=False)
    events = events_of(slow)
    received = [await anext(events)]
    of_process.announce("salon", change_at(14), moved=False)
    received += [event async for event in events]
    slow.close()
    later = await missed(of_process, received[-1].id)
    changes = [event.change for event in received] + later
    assert changes == [Change("salon", **change_at(hour)) for hour in (8, 10, 12, 14)]


async def test_a_stream_that_begins_while_the_service_stops_ends_at_once() -> None:
    """As that of a request that waited for the database meanwhile: it would keep the process until it is killed."""
    of_process = Feed(Store(None))
    earlier = of_process.watch("salon", "perm", None, None)
    of_process.end_watchers()
    later = of_process.watch("salon", "perm", "of-another-process", None)
    async with asyncio.timeout(10):
        assert await earlier.next_event() is None
        assert [event.change async for event in events_of(later)] == [None]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_client_that_leaves_at_any_moment_leaves_its_place(
    app: Starlette, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """In each iteration of the event loop: while the service is looked up, before the stream begins, and later. The
    same where the server cancels the request."""

    async def get(*_: object) -> None:
        for _number in range(10):
            await asyncio.sleep(0)

    monkeypatch.setattr(Catalog, "get", get)
    monkeypatch.setattr(disconnect, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(app, "_disconnects", disconnect.Disconnects())
    before = clients()
    async with Browser(app):
        pass  # from here on, the business is known without a call of the database
    watching = []
    for iterations in range(60):
        browser = Browser(app, takes=0)
        await browser.__aenter__()
        for _ in range(iterations):
            await asyncio.sleep(0)
        watching.append(clients() - before)
        if is_cancelled:
            browser.task.cancel()
        with suppress(asyncio.CancelledError):
            await browser.__aexit__()
        assert clients() == before, iterations
    assert watching == sorted(watching)
    assert set(watching) == {0, 1}


async def test_a_connection_that_hangs_is_closed(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first it looks like a slow one."""
    monkeypatch.setattr(streamed, "STALL_SECONDS", 0.05)
    before = clients()
    async with Browser(app, takes=1) as hanging:
        await reserve(app)
        await asyncio.wait_for(asyncio.shield(hanging.task), 10)
        assert clients() == before


async def test_a_heartbeat_is_sent_while_there_are_no_changes(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut silent connections."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
    async with Browser(app) as browser:
        assert await browser.next_frame() == {"": "still here"}


async def test_the_query_of_a_stream_is_validated(app: Starlette) -> None:
    """Like every other query."""
    async with client_of(app) as client:
        for query in ({"serviceId": "cut"}, {**CUT, "serviceId": "-"}, {**CUT, "more": "1"}):
            assert (await client.get(STREAM, params=query)).status_code == 400
        assert (await client.head(STREAM, params=CUT)).status_code == 200


async def test_a_missing_service_cannot_be_watched(app: Starlette, database: TestDatabase) -> None:
    """A misspelt id would be silence for ever. A deleted service cannot be watched either."""
    database.make_service("perm")
    database.reserve(10, service_id="perm")
    await post(app, "/api/catalog/businesses/salon/services/perm", None, "DELETE")
    for service_id in ("cutt", "perm"):
        assert await refusal(app, serviceId=service_id) == "SERVICE_NOT_FOUND"
    assert await refusal(app, businessId="saloon") == "BUSINESS_NOT_FOUND"
    async with client_of(app) as client:
        answer = await client.get(STREAM, params={"businessId": "saloon"})
    assert check(await served_document(), answer) == "BUSINESS_NOT_FOUND"


async def test_a_stream_opens_while_the_database_is_down(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service cannot be checked then, and it exists where a browser reconnects."""

    async def fail(*_: object) -> None:
        raise DatabaseDown

    monkeypatch.setattr(Catalog, "get", fail)
    async with Browser(app) as browser:
        assert browser.status == 200


# Clients that read nothing.


async def test_a_client_that_takes_neither_event_nor_heartbeat_is_gone(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are late at once where the loop was busy: that is no defect."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(streamed, "STALL_SECONDS", 0.1)
    with capture_logs() as logs:
        async with Browser(app, takes=1) as hanging:
            await reserve(app)
            time.sleep(0.2)  # noqa: ASYNC251 — the loop is busy until both are late
            await asyncio.wait_for(asyncio.shield(hanging.task), 10)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == []
