"""The stream of changes, as a browser reads it from one process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from service.api import stream
from service.booking import catalog
from service.booking import cleanup as cleanup_module
from service.booking.catalog import Catalog
from service.booking.reach import Reaches
from service.database import group_commit
from service.database.connections import Database
from service.errors import DatabaseDown
from service.http import disconnect
from service.observability.metrics import REGISTRY
from service.sharing import feed, watchers
from service.sharing.feed import Feed
from service.sharing.store import Store
from service.sharing.watchers import Change
from tests.database import TestDatabase, at
from tests.faults.proxy import Proxy
from tests.http.booking_calls import timestamp
from tests.http.browser import CUT, STREAM, Browser, change_at, changed, missed, post, reserve, running
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import check, client_of, served_document
from tests.serving import wait_until

pytestmark = pytest.mark.anyio

BUSINESS = "/api/catalog/businesses/salon"


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[Starlette]:
    """Runs an application with a service to watch."""
    database.make_service(capacity=1000)
    async with running(database) as app:
        yield app


async def cleanup(app: Starlette) -> None:
    """Runs the scheduler's purge."""
    async with client_of(app) as client:
        answer = await client.post("/cron/cleanup-reservations", headers=CRON)
        assert answer.status_code == 200, answer.text


async def test_a_browser_receives_each_change_of_its_service(app: Starlette, database: TestDatabase) -> None:
    """A hold, its release, a commit, a booking and a cancellation, and none of other services and businesses."""
    database.make_service("perm", capacity=5)
    database.make_service(business_id="x")
    async with Browser(app) as browser, Browser(app, serviceId="perm") as other, Browser(app, businessId="x") as third:
        held = await reserve(app, 10)
        assert await browser.next_event() == changed(10)
        await post(app, f"/api/booking/reservations/{held['reservationId']}", {}, "DELETE")
        assert await browser.next_event() == changed(10)
        held = await reserve(app, 12)
        guest = {"reservationId": held["reservationId"], "guestEmail": "ada@example.com"}
        await post(app, "/api/booking/commit", guest)
        assert [await browser.next_event() for _ in range(2)] == [changed(12)] * 2
        slot = {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"}
        booked = await post(app, "/api/bookings", slot)
        assert await browser.next_event() == changed(14)
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}/cancel", {})
        assert await browser.next_event() == changed(14)
        await reserve(app, 9, serviceId="perm")
        assert await other.next_event() == changed(9, "perm")
        assert browser.waiting == other.waiting == third.waiting == 0


async def test_the_stream_contains_no_ids_of_claims(app: Starlette) -> None:
    """The id of a reservation is a credential."""
    async with Browser(app) as browser:
        await reserve(app)
        frame = await browser.next_frame()
    assert frame.keys() == {"id", "event", "data"}
    assert json.loads(frame["data"]).keys() == {"serviceIds", "from", "to"}


@pytest.mark.parametrize(("member", "hour"), [("slotStart", 16), ("slotEnd", 14.5)])
async def test_a_move_makes_browsers_load_again(app: Starlette, member: str, hour: float) -> None:
    """It freed a slot that its answer does not name, or a part of one."""
    slot = {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"}
    booked = await post(app, "/api/bookings", slot)
    async with Browser(app) as browser:
        change = {"expectedVersion": 1, member: at(hour).isoformat()}
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert await browser.next_event() == ("resync", {})


async def test_a_change_of_the_service_reaches_the_browsers_of_both(app: Starlette, database: TestDatabase) -> None:
    """The one has room again, and the other has less."""
    database.make_service("perm")
    booked = await post(app, "/api/bookings", {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "a@example.com"})
    async with Browser(app) as browser, Browser(app, serviceId="perm") as other:
        change = {"expectedVersion": 1, "serviceId": "perm"}
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert await browser.next_event() == await other.next_event() == ("resync", {})


async def test_the_cleanup_after_holds_have_expired_makes_browsers_load_again(
    app: Starlette, database: TestDatabase
) -> None:
    """Their slots have room since they expired. Watchers of other services receive nothing."""
    database.make_service("perm", capacity=5)
    await reserve(app, 10)
    await reserve(app, 12)
    database.move_clock(timedelta(minutes=20))
    async with Browser(app) as browser, Browser(app, serviceId="perm") as other:
        await cleanup(app)
        assert await browser.next_event() == ("resync", {})
        await cleanup(app)
        await reserve(app, 14)
        assert await browser.next_event() == changed(14)
        assert other.waiting == 0


@pytest.mark.parametrize("path", ["commit", "reservations/{reservationId}/extend"])
async def test_a_refusal_that_ends_an_expired_hold_is_published(
    app: Starlette, database: TestDatabase, path: str
) -> None:
    """Its slot has room, and the cleanup will find nothing that has expired. Repeated, the refusal ends nothing."""
    held = await reserve(app, 10)
    database.move_clock(timedelta(minutes=20))
    guest = {"reservationId": held["reservationId"], "guestEmail": "ada@example.com"}
    body = guest if path == "commit" else {"ttlMinutes": 5}
    async with Browser(app) as browser, client_of(app) as client:
        for _ in range(2):
            refused = await client.post("/api/booking/" + path.format(**held), json=body)
            assert refused.json()["code"] == "RESERVATION_EXPIRED"
        assert await browser.next_event() == changed(10)
        await cleanup(app)
        await reserve(app, 14)
        assert await browser.next_event() == changed(14)


async def test_the_room_of_an_expired_hold_is_published_if_its_guest_is_at_the_limit(
    app: Starlette, database: TestDatabase
) -> None:
    """The refused commit leaves the hold to the cleanup, which publishes that its slot has room."""
    database.make_service(capacity=1000, max_upcoming_per_guest=1)
    guest = {"guestEmail": "ada@example.com"}
    await post(app, "/api/bookings", {**CUT, "slotStart": at(14).isoformat(), **guest})
    held = await reserve(app, 10)
    database.move_clock(timedelta(minutes=20))
    async with Browser(app) as browser, client_of(app) as client:
        body = {"reservationId": held["reservationId"], "ifExpired": "rebook", **guest}
        refused = await client.post("/api/booking/commit", json=body)
        assert refused.json()["code"] == "GUEST_LIMIT_REACHED"
        await cleanup(app)
        assert await browser.next_event() == ("resync", {})


async def test_the_rest_of_an_expired_hold_is_published_with_the_claim_that_ends_it(
    app: Starlette, database: TestDatabase
) -> None:
    """The claim names its own slot only, and the cleanup will find nothing that has expired."""
    database.make_service("perm", resource_ids=["rosa"], max_duration_minutes=240)
    database.make_service("wash", resource_ids=["rosa"], max_duration_minutes=60)
    await reserve(app, 10, serviceId="perm", slotEnd=timestamp(at(14)))
    await reserve(app, 16, serviceId="wash")
    database.move_clock(timedelta(minutes=20))
    async with Browser(app, serviceId="wash") as browser:
        await reserve(app, 10, serviceId="wash")
        assert await browser.next_event() == ("resync", {})
        await reserve(app, 16, serviceId="wash")
        name, slots = await browser.next_event()
        assert (name, slots["serviceIds"]) == ("changed", ["wash"])


@asynccontextmanager
async def behind_proxy(database: TestDatabase) -> AsyncIterator[tuple[Proxy, Starlette]]:
    """Runs the service on a database whose answers can be lost."""
    async with Proxy(database.url).running() as proxy, running(database, database_url=SecretStr(proxy.url)) as app:
        yield proxy, app


async def test_a_request_whose_outcome_stays_unknown_makes_browsers_load_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is lost and its caller leaves, so it is not sent again. Its hold takes the slot all the same."""
    monkeypatch.setattr(group_commit, "RESEND_SECONDS", 0.5)
    database.make_service()
    async with behind_proxy(database) as (proxy, app):
        async with Browser(app) as browser:
            proxy.lose_next_answer_to = b"booking.execute"
            leaving = asyncio.create_task(reserve(app, 10))
            await asyncio.wait_for(proxy.lost.wait(), 10)
            leaving.cancel()
            assert await browser.next_event() == ("resync", {})
        assert database.capacity(10)["available"] == 0


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_change_of_the_catalog_without_an_answer_makes_browsers_load_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, is_left: bool
) -> None:
    """Its connection breaks after the commit, or its caller leaves during it. The service is put all the same."""
    monkeypatch.setattr(catalog, "CHANGE_SECONDS", 0.1)
    database.make_service()
    settings = {"name": "Cut", "durationMinutes": 30, "maxSimultaneousBookings": 5}
    async with behind_proxy(database) as (proxy, app):
        await post(app, f"{BUSINESS}/services/cut", {**settings, "maxSimultaneousBookings": 4}, "PUT")
        async with Browser(app) as browser, client_of(app) as client:
            if is_left:
                proxy.freeze()
            else:
                proxy.lose_next_answer_to = b"booking.put_service"
            put = asyncio.create_task(client.put(f"{BUSINESS}/services/cut", json=settings, headers=ADMIN))
            await asyncio.to_thread(wait_until, lambda: database.capacity(10)["capacity"] == 5, "the change")
            if is_left:
                put.cancel()
                await asyncio.sleep(0.1)
                proxy.thaw()
            else:
                assert (await put).status_code == 503
            assert await browser.next_event() == ("resync", {})


async def test_a_purge_without_an_answer_makes_browsers_load_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next purge finds nothing due, so it would announce nothing."""
    monkeypatch.setattr(cleanup_module, "_CALL_SECONDS", 0.5)
    database.make_service()
    async with behind_proxy(database) as (proxy, app):
        await reserve(app, 10)
        database.move_clock(timedelta(minutes=20))
        async with Browser(app) as browser:
            proxy.lose_next_answer_to = b"booking.purge"
            await cleanup(app)
            assert proxy.lost.is_set()
            assert await browser.next_event() == ("resync", {})


async def test_an_outcome_without_a_change_is_not_published(app: Starlette, database: TestDatabase) -> None:
    """A refusal, a replay and the extension of a hold change no slot."""
    database.make_service(capacity=1)
    held = await reserve(app, idempotencyKey="key")
    async with Browser(app) as browser:
        await reserve(app, idempotencyKey="key")
        await post(app, f"/api/booking/reservations/{held['reservationId']}/extend", {"ttlMinutes": 30})
        async with client_of(app) as client:
            refused = await client.post("/api/booking/reserve", json={**CUT, "slotStart": at(10).isoformat()})
            assert refused.status_code == 409
        await reserve(app, 12)
        assert await browser.next_event() == changed(12)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "", {"name": "Salon", "country": "DE", "timezone": "Europe/London"}),
        ("PUT", "/resources/rosa", {"name": "Rosa", "kind": "staff", "bookingEnabled": False}),
        ("PUT", "/opening-hours", [{"weekday": 1, "opens": "09:00", "closes": "12:00"}]),
        ("PUT", "/closures/away", {"from": at(9).isoformat(), "to": at(12).isoformat()}),
        ("DELETE", "/resources/rosa", None),
    ],
)
async def test_a_change_of_a_business_makes_browsers_of_all_its_services_load_again(
    app: Starlette, database: TestDatabase, method: str, path: str, body: Any
) -> None:
    """Any slot may have more or less room. Other businesses are not affected."""
    database.make_service("perm", resource_ids=["rosa"])
    database.make_service(business_id="x")
    async with Browser(app) as cut, Browser(app, serviceId="perm") as perm, Browser(app, businessId="x") as other:
        await post(app, BUSINESS + path, body, method)
        assert await cut.next_event() == await perm.next_event() == ("resync", {})
        await reserve(app, 15, businessId="x")
        assert await other.next_event() == changed(15)


async def test_a_change_of_a_service_makes_its_browsers_load_again(app: Starlette, database: TestDatabase) -> None:
    """Also when it is deleted. A refused change is not published, and other services are not affected."""
    database.make_service("perm", capacity=5)
    settings = {"name": "Cut", "durationMinutes": 30, "maxSimultaneousBookings": 5}
    async with Browser(app) as browser, Browser(app, serviceId="perm") as other:
        async with client_of(app) as client:
            strange = {**settings, "resourceIds": ["nobody"]}
            refused = await client.put(f"{BUSINESS}/services/cut", json=strange, headers=ADMIN)
            assert refused.status_code == 400
        await reserve(app, 10)
        assert await browser.next_event() == changed(10)
        await post(app, f"{BUSINESS}/services/cut", settings, "PUT")
        assert await browser.next_event() == ("resync", {})
        await post(app, f"{BUSINESS}/services/cut", None, "DELETE")
        assert await browser.next_event() == ("resync", {})
        await reserve(app, 10, serviceId="perm")
        assert await other.next_event() == changed(10, "perm")


# Reconnects.


async def test_a_browser_that_reconnects_receives_what_it_missed(app: Starlette) -> None:
    """Also if it was cut off before the first change; and nothing twice."""
    async with Browser(app) as browser:
        pass
    beginning = browser.last_id
    await reserve(app, 10)
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
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client, asyncio.timeout(20):
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
        told = [event.change.slot_start async for event in slow.events() if event.change]
    assert told == ["0", "1", "2", "3", "4"]
    slow.close()
    of_process.announce("salon", {"service_id": "perm", "slot_start": "12", "slot_end": ""}, moved=False)
    assert (await anext(other.events())).change
    other.close()


async def test_a_watcher_that_is_ended_receives_nothing_after_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue has room again before it has read all. Otherwise it would resume after a change that it did not get."""
    monkeypatch.setattr(watchers, "BACKLOG", 2)
    of_process = Feed(Store(None))
    slow = of_process.watch("salon", "cut", None, None)
    for hour in (8, 10, 12):
        of_process.announce("salon", change_at(hour), moved=False)
    events = slow.events()
    received = [await anext(events)]
    of_process.announce("salon", change_at(14), moved=False)
    received += [event async for event in events]
    slow.close()
    later = await missed(of_process, received[-1].id)
    changes = [event.change for event in received] + later
    assert changes == [Change("salon", **change_at(hour)) for hour in (8, 10, 12, 14)]


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
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.05)
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
    await post(app, f"{BUSINESS}/services/perm", None, "DELETE")
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


async def test_a_client_whose_event_and_heartbeat_time_out_together_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is an error of its own, and both come at once where the loop was busy: that is no defect."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.1)
    stalled: list[Any] = []
    both = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            stalled.append(message)
            if len(stalled) == 2:
                both.set()
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    watcher = Feed(Store(None)).watch("salon", "cut", None, None)
    unread = stream._Stream(watcher, "1", Reaches(Database("", connections=1)))
    running_stream = asyncio.create_task(unread({"type": "http", "method": "GET"}, receive, send))
    await both.wait()
    time.sleep(0.2)  # noqa: ASYNC251 — the loop is busy until both are late
    with pytest.raises(ClientDisconnect):
        await running_stream
