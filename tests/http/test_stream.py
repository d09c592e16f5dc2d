"""The stream of changes, as a browser reads it from one process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from service.booking import catalog
from service.booking import cleanup as cleanup_module
from service.database import group_commit
from tests.database import TestDatabase, at
from tests.faults.proxy import Proxy
from tests.http.booking_calls import timestamp
from tests.http.browser import CUT, Browser, changed, post, reserve, running
from tests.http.conftest import ADMIN, CRON, client_of
from tests.serving import wait_until

pytestmark = pytest.mark.anyio

BUSINESS = "/api/catalog/businesses/salon"


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


async def test_an_erasure_of_a_person_makes_browsers_load_again(app: Starlette) -> None:
    """A calendar shows the guests. Without such a person nothing has changed."""
    await post(app, "/api/bookings", {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"})
    async with Browser(app) as browser:
        for _ in range(2):
            await post(app, "/api/booking/guests/erase", {"businessId": "salon", "guestEmail": "ada@example.com"})
        assert await browser.next_event() == ("resync", {})
        await reserve(app, 10)
        assert await browser.next_event() == changed(10)


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


async def test_a_document_makes_browsers_load_again(app: Starlette) -> None:
    """Unless it changes nothing, or is only tried."""
    async with Browser(app) as browser:
        document = await post(app, f"{BUSINESS}/document", None, "GET")
        await post(app, f"{BUSINESS}/document", document, "PUT")
        await post(app, f"{BUSINESS}/document?dryRun=true", {**document, "name": "Other"}, "PUT")
        await post(app, f"{BUSINESS}/document", {**document, "name": "Other"}, "PUT")
        assert await browser.next_event() == ("resync", {})
        await reserve(app, 10)
        assert await browser.next_event() == changed(10)
