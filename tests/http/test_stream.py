"""The stream of changes, as a browser reads it from one process."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from service.api import stream
from service.booking.catalog import Catalog
from service.errors import DatabaseDown
from service.observability.metrics import REGISTRY
from service.sharing import feed, watchers
from service.sharing.cache import AnswerCache
from service.sharing.feed import Feed
from service.sharing.store import Store
from service.sharing.watchers import Change
from tests.database import TestDatabase, at
from tests.http.browser import CUT, STREAM, Browser, changed, post, reserve, running
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import check, client_of, served_document

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
    """A reserve, a release, a commit, a booking and a cancellation each send one event; other services and businesses
    send none."""
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


async def test_events_identify_no_reservation_and_no_guest(app: Starlette) -> None:
    """The id of a reservation is a credential."""
    async with Browser(app) as browser:
        await reserve(app)
        frame = await browser.next_frame()
    assert frame.keys() == {"id", "event", "data"}
    assert json.loads(frame["data"]).keys() == {"serviceId", "slotStart", "slotEnd"}


@pytest.mark.parametrize(("member", "hour"), [("slotStart", 16), ("slotEnd", 14.5)])
async def test_a_move_makes_browsers_reload(app: Starlette, member: str, hour: float) -> None:
    """The answer of a move does not name the slot, or the part of it, that became free."""
    slot = {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"}
    booked = await post(app, "/api/bookings", slot)
    async with Browser(app) as browser:
        change = {"expectedVersion": 1, member: at(hour).isoformat()}
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert await browser.next_event() == ("resync", {})


async def test_the_cleanup_of_expired_holds_makes_browsers_reload(app: Starlette, database: TestDatabase) -> None:
    """Their slots became free when they expired, which sends no event by itself. Browsers of other services get
    none."""
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


async def test_a_request_without_effect_sends_no_event(app: Starlette, database: TestDatabase) -> None:
    """A refusal, a replay and an extended hold leave the free slots as they were."""
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
async def test_a_change_of_a_business_makes_browsers_of_all_its_services_reload(
    app: Starlette, database: TestDatabase, method: str, path: str, body: Any
) -> None:
    """Hours, closures and resources may change the slots of all services. Other businesses are unaffected."""
    database.make_service("perm", resource_ids=["rosa"])
    database.make_service(business_id="x")
    async with Browser(app) as cut, Browser(app, serviceId="perm") as perm, Browser(app, businessId="x") as other:
        await post(app, BUSINESS + path, body, method)
        assert await cut.next_event() == await perm.next_event() == ("resync", {})
        await reserve(app, 15, businessId="x")
        assert await other.next_event() == changed(15)


async def test_a_change_of_a_service_makes_its_browsers_reload(app: Starlette, database: TestDatabase) -> None:
    """So does its deletion. Other services are unaffected, and a refused change sends no event."""
    database.make_service("perm", capacity=5)
    settings = {"name": "Cut", "durationMinutes": 30, "maxSimultaneousBookings": 5}
    async with Browser(app) as browser, Browser(app, serviceId="perm") as other:
        async with client_of(app) as client:
            faulty = {**settings, "resourceIds": ["nobody"]}
            refused = await client.put(f"{BUSINESS}/services/cut", json=faulty, headers=ADMIN)
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


async def test_a_browser_that_reconnects_receives_the_missed_events(app: Starlette) -> None:
    """It receives each one once, also if it was disconnected before the first event."""
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
async def test_an_unknown_last_event_id_makes_the_browser_reload(app: Starlette, last_event_id: str) -> None:
    """A process that was restarted does not know the event ids of the one before."""
    async with Browser(app, last_event_id) as browser:
        assert await browser.next_event() == ("resync", {})
        await reserve(app)
        assert await browser.next_event() == changed(10)


async def test_a_browser_that_missed_many_events_reloads(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """One availability query is cheaper than a hundred events, and the number of kept events is bounded."""
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


def change_at(hour: int) -> dict[str, str]:
    """Returns the change of an hour of a resource, which services may share."""
    return {"service_id": "cut", "resource_id": "rosa", "slot_start": str(hour), "slot_end": str(hour + 1)}


async def missed_changes(feed_of_process: Feed, last_event_id: str) -> list[Change | None]:
    """Returns the changes that a browser of the salon receives after a reconnect; None stands for a resync."""
    again = feed_of_process.watch("salon", "cut", last_event_id, None)
    again.close()
    return [event.change async for event in again.events()]


async def test_a_reconnect_receives_changes_of_its_own_business_only() -> None:
    """Other businesses may have services and resources with the same ids."""
    feed_of_process = Feed(Store(None), AnswerCache())
    feed_of_process.announce("salon", change_at(8), moved=False)
    last_seen_id = feed_of_process.last_id
    for business_id in ("clinic", "salon", "clinic"):
        feed_of_process.announce(business_id, change_at(10), moved=False)
    assert await missed_changes(feed_of_process, last_seen_id) == [Change("salon", **change_at(10))]


async def test_a_reconnect_after_forgotten_events_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are still kept are not all that the browser missed; without a gap, they are."""
    monkeypatch.setattr(feed, "_REMEMBERED", 2)
    feed_of_process = Feed(Store(None), AnswerCache())
    last_seen_id = [feed_of_process.last_id]
    for hour in range(4):
        feed_of_process.announce("salon", change_at(hour), moved=False)
        last_seen_id.append(feed_of_process.last_id)
    assert [len(await missed_changes(feed_of_process, last_event_id)) for last_event_id in last_seen_id[2:]] == [
        2,
        1,
        0,
    ]
    for last_event_id in last_seen_id[:2]:
        assert await missed_changes(feed_of_process, last_event_id) == [None]


# Bounds.


def client_gauge() -> float:
    """Returns the gauge of connected clients."""
    return REGISTRY.get_sample_value("holdfast_stream_clients") or 0


async def refusal(app: Starlette, address: str = "192.0.2.9", **watched: str) -> str | None:
    """Returns the code with which one more browser is refused, by default at an address without browsers."""
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client, asyncio.timeout(20):
        return check(await served_document(), await client.get(STREAM, params=CUT | watched))


async def test_the_number_of_browsers_of_a_business_is_bounded(
    app: Starlette, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A business may use half of the places that are left. Beyond that the answer is a 503, and a disconnect makes
    room."""
    monkeypatch.setattr(watchers, "WATCHERS", 4)
    for business_id in ("x", "y"):
        database.make_service(business_id=business_id)
    before = client_gauge()
    async with Browser(app):
        async with Browser(app):
            assert client_gauge() - before == 2
            assert await refusal(app) == "OVERLOADED"
            async with Browser(app, businessId="x"):
                assert await refusal(app, businessId="x") == "OVERLOADED"
                async with Browser(app, businessId="y"):
                    assert client_gauge() - before == 4
        async with Browser(app) as third:
            assert third.status == 200
    assert client_gauge() == before


async def test_the_number_of_streams_of_a_client_is_bounded(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open stream costs a client nothing, so each address may have only a few; a disconnect makes room."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 2)
    async with Browser(app), Browser(app, address="192.0.2.2"):
        async with Browser(app):
            assert await refusal(app, "192.0.2.1") == "OVERLOADED"
        async with Browser(app) as again, Browser(app, address="192.0.2.2") as neighbour:
            assert again.status == neighbour.status == 200


async def test_without_rate_limits_a_client_may_open_any_number_of_streams(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy may limit streams already, or all clients may share its address."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 1)
    database.make_service()
    async with running(database, rate_limit_enabled=False) as app, Browser(app), Browser(app) as second:
        assert second.status == 200


async def test_a_slow_browser_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue of unsent events is bounded: it receives the queued events and has to reconnect."""
    monkeypatch.setattr(watchers, "BACKLOG", 5)
    feed_of_process = Feed(Store(None), AnswerCache())
    slow, other = (feed_of_process.watch("salon", service_id, None, None) for service_id in ("cut", "perm"))
    for hour in range(10):
        feed_of_process.announce("salon", {"service_id": "cut", "slot_start": str(hour), "slot_end": ""}, moved=False)
    async with asyncio.timeout(10):
        starts = [event.change.slot_start async for event in slow.events() if event.change]
    assert starts == ["0", "1", "2", "3", "4"]
    slow.close()
    feed_of_process.announce("salon", {"service_id": "perm", "slot_start": "12", "slot_end": ""}, moved=False)
    assert (await anext(other.events())).change
    other.close()


async def test_services_that_share_a_resource_share_its_changes(app: Starlette, database: TestDatabase) -> None:
    """A claim of one service occupies the resource for the other one as well."""
    database.make_service("cut", resource_ids=["rosa"])
    database.make_service("perm", resource_ids=["rosa"])
    async with Browser(app, serviceId="perm") as browser:
        held = await reserve(app, 10)
        assert await browser.next_event() == changed(10, "perm")
        await post(app, f"/api/booking/reservations/{held['reservationId']}", {}, "DELETE")
        assert await browser.next_event() == changed(10, "perm")


async def test_a_browser_that_stops_reading_is_disconnected(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a timeout of a send tells a hanging connection from a slow one."""
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.05)
    before = client_gauge()
    async with Browser(app, takes=1) as hanging:
        await reserve(app)
        await asyncio.wait_for(asyncio.shield(hanging.task), 10)
        assert client_gauge() == before


async def test_an_idle_stream_sends_heartbeats(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close idle connections."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
    async with Browser(app) as browser:
        assert await browser.next_frame() == {"": "still here"}


async def test_a_faulty_stream_query_is_a_400(app: Starlette) -> None:
    """The query is validated as every other one."""
    async with client_of(app) as client:
        for query in ({"businessId": "salon"}, {**CUT, "serviceId": "-"}, {**CUT, "more": "1"}):
            assert (await client.get(STREAM, params=query)).status_code == 400
        assert (await client.head(STREAM, params=CUT)).status_code == 200


async def test_an_unknown_or_deleted_service_cannot_be_watched(app: Starlette, database: TestDatabase) -> None:
    """A misspelt id would make a stream without events."""
    database.make_service("perm")
    database.reserve(10, service_id="perm")
    await post(app, f"{BUSINESS}/services/perm", None, "DELETE")
    for watched in ({"businessId": "saloon"}, {"serviceId": "cutt"}, {"serviceId": "perm"}):
        assert await refusal(app, **watched) == "SERVICE_NOT_FOUND"


async def test_a_stream_opens_while_the_database_is_down(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service cannot be looked up, and most browsers reconnect to one that exists."""

    async def fail(*_: object) -> None:
        raise DatabaseDown

    monkeypatch.setattr(Catalog, "service", fail)
    async with Browser(app) as browser:
        assert browser.status == 200
