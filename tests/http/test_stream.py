"""The stream of changes, as a browser has it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from service.booking.catalog import Catalog
from service.errors import DatabaseDown
from service.http import stream
from service.metrics import REGISTRY
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
    """An application, and a service to watch."""
    database.make_service(capacity=1000)
    async with running(database) as app:
        yield app


async def cleanup(app: Starlette) -> None:
    """What the scheduler does."""
    async with client_of(app) as client:
        answer = await client.post("/cron/cleanup-reservations", headers=CRON)
        assert answer.status_code == 200, answer.text


async def test_a_browser_is_told_of_each_change_of_what_it_watches(app: Starlette, database: TestDatabase) -> None:
    """When a slot is held, given up, committed, booked and cancelled; and not of what happens elsewhere."""
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


async def test_nothing_in_the_stream_says_who_it_was(app: Starlette) -> None:
    """The id of a reservation is a credential."""
    async with Browser(app) as browser:
        await reserve(app)
        frame = await browser.next_frame()
    assert frame.keys() == {"id", "event", "data"}
    assert json.loads(frame["data"]).keys() == {"serviceId", "slotStart", "slotEnd"}


@pytest.mark.parametrize(("member", "hour"), [("slotStart", 16), ("slotEnd", 14.5)])
async def test_a_move_makes_browsers_load_again(app: Starlette, member: str, hour: float) -> None:
    """It left a slot that its answer does not name, or a part of one."""
    slot = {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"}
    booked = await post(app, "/api/bookings", slot)
    async with Browser(app) as browser:
        change = {"expectedVersion": 1, member: at(hour).isoformat()}
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert await browser.next_event() == ("resync", {})


async def test_the_cleanup_after_holds_have_expired_makes_browsers_load_again(
    app: Starlette, database: TestDatabase
) -> None:
    """They had room since then, but nobody was there to say so. Who watches something else is not told."""
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


async def test_what_changes_nothing_is_not_told(app: Starlette, database: TestDatabase) -> None:
    """A refusal, a replay and a hold that is prolonged leave everything as it was."""
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
    """It may have been opened or closed, or somebody may have come or gone. Other businesses are not touched."""
    database.make_service("perm", resource_ids=["rosa"])
    database.make_service(business_id="x")
    async with Browser(app) as cut, Browser(app, serviceId="perm") as perm, Browser(app, businessId="x") as other:
        await post(app, BUSINESS + path, body, method)
        assert await cut.next_event() == await perm.next_event() == ("resync", {})
        await reserve(app, 15, businessId="x")
        assert await other.next_event() == changed(15)


async def test_a_change_of_a_service_makes_its_browsers_load_again(app: Starlette, database: TestDatabase) -> None:
    """Also when it is taken off the catalog. Other services stay as they were, and a refused change changes nothing."""
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


# Cut off.


async def test_a_browser_that_comes_again_is_told_what_it_missed(app: Starlette) -> None:
    """Also if it was cut off before anything had happened; and nothing twice."""
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
async def test_who_was_somewhere_unknown_loads_again(app: Starlette, last_event_id: str) -> None:
    """A process that has been replaced has forgotten where its watchers were."""
    async with Browser(app, last_event_id) as browser:
        assert await browser.next_event() == ("resync", {})
        await reserve(app)
        assert await browser.next_event() == changed(10)


async def test_who_missed_much_loads_again(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer is cheaper than a hundred events; and what is remembered is bounded."""
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
    """What a verb tells of an hour of somebody's, whom services may share."""
    return {"service_id": "cut", "resource_id": "rosa", "slot_start": str(hour), "slot_end": str(hour + 1)}


async def missed(of_process: Feed, last_event_id: str) -> list[Change | None]:
    """What one who watched the salon until then is told; None where it loads again."""
    again = of_process.watch("salon", "cut", last_event_id, None)
    again.close()
    return [event.change async for event in again.events()]


async def test_who_comes_again_is_told_of_its_own_business_only() -> None:
    """What others did meanwhile stays theirs, also where services of the same name share somebody of the same name."""
    of_process = Feed(Store(None), AnswerCache(Store(None)))
    of_process.announce("salon", change_at(8), moved=False)
    cut_off_at = of_process.last_id
    for business_id in ("clinic", "salon", "clinic"):
        of_process.announce(business_id, change_at(10), moved=False)
    assert await missed(of_process, cut_off_at) == [Change("salon", **change_at(10))]


async def test_who_missed_what_nobody_remembers_loads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered after that is not all that it missed; only from there on it would be."""
    monkeypatch.setattr(feed, "_REMEMBERED", 2)
    of_process = Feed(Store(None), AnswerCache(Store(None)))
    cut_off_at = [of_process.last_id]
    for hour in range(4):
        of_process.announce("salon", change_at(hour), moved=False)
        cut_off_at.append(of_process.last_id)
    assert [len(await missed(of_process, last_event_id)) for last_event_id in cut_off_at[2:]] == [2, 1, 0]
    for last_event_id in cut_off_at[:2]:
        assert await missed(of_process, last_event_id) == [None]


# Bounds.


def clients() -> float:
    """What the gauge says."""
    return REGISTRY.get_sample_value("holdfast_stream_clients") or 0


async def refusal(app: Starlette, address: str = "192.0.2.9", **watched: str) -> str | None:
    """The code with which one more browser is refused, by default at an address where nobody watches."""
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client, asyncio.timeout(20):
        return check(await served_document(), await client.get(STREAM, params=CUT | watched))


async def test_so_many_may_watch_a_business_and_no_more(
    app: Starlette, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there is room left for all. Beyond that it is a 503, and who leaves makes room."""
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


async def test_no_client_takes_the_stream_from_others(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams cost nothing to hold: so many of one address, and who leaves makes room."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 2)
    async with Browser(app), Browser(app, address="192.0.2.2"):
        async with Browser(app):
            assert await refusal(app, "192.0.2.1") == "OVERLOADED"
        async with Browser(app) as again, Browser(app, address="192.0.2.2") as neighbour:
            assert again.status == neighbour.status == 200


async def test_without_limits_no_client_has_a_bound(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else counts, or all come by way of one address."""
    monkeypatch.setattr(watchers, "WATCHERS_OF_CLIENT", 1)
    database.make_service()
    async with running(database, rate_limit_enabled=False) as app, Browser(app), Browser(app) as second:
        assert second.status == 200


async def test_who_is_too_slow_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for it without bound: it is told what is kept, and then it has to come again."""
    monkeypatch.setattr(watchers, "BACKLOG", 5)
    of_process = Feed(Store(None), AnswerCache(Store(None)))
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


async def test_who_shares_a_resource_is_told_too(app: Starlette, database: TestDatabase) -> None:
    """Where one service has taken somebody's time, another one has less of it."""
    database.make_service("cut", resource_ids=["rosa"])
    database.make_service("perm", resource_ids=["rosa"])
    async with Browser(app, serviceId="perm") as browser:
        held = await reserve(app, 10)
        assert await browser.next_event() == changed(10, "perm")
        await post(app, f"/api/booking/reservations/{held['reservationId']}", {}, "DELETE")
        assert await browser.next_event() == changed(10, "perm")


async def test_who_takes_nothing_any_more_is_cut_off(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that hangs looks like a slow one at first."""
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.05)
    before = clients()
    async with Browser(app, takes=1) as hanging:
        await reserve(app)
        await asyncio.wait_for(asyncio.shield(hanging.task), 10)
        assert clients() == before


async def test_there_is_a_sign_of_life_while_nothing_happens(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut silent connections."""
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
    async with Browser(app) as browser:
        assert await browser.next_frame() == {"": "still here"}


async def test_a_stream_needs_to_know_what_is_watched(app: Starlette) -> None:
    """As every other query."""
    async with client_of(app) as client:
        for query in ({"businessId": "salon"}, {**CUT, "serviceId": "-"}, {**CUT, "more": "1"}):
            assert (await client.get(STREAM, params=query)).status_code == 400
        assert (await client.head(STREAM, params=CUT)).status_code == 200


async def test_what_is_not_there_can_not_be_watched(app: Starlette, database: TestDatabase) -> None:
    """A misspelt name would be silence for ever. Nor can what was taken off the catalog."""
    database.make_service("perm")
    database.reserve(10, service_id="perm")
    await post(app, f"{BUSINESS}/services/perm", None, "DELETE")
    for watched in ({"businessId": "saloon"}, {"serviceId": "cutt"}, {"serviceId": "perm"}):
        assert await refusal(app, **watched) == "SERVICE_NOT_FOUND"


async def test_a_stream_opens_while_the_database_is_down(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say then whether there is such a service, and browsers that come again had one."""

    async def fail(*_: object) -> None:
        raise DatabaseDown

    monkeypatch.setattr(Catalog, "service", fail)
    async with Browser(app) as browser:
        assert browser.status == 200
