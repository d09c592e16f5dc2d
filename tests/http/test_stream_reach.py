"""Which slots an event of the stream tells a browser to load again: at least all those that have changed."""

import json
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.applications import Starlette

from service.booking.reach import Reaches
from service.database.connections import Database
from service.errors import DatabaseDown
from tests.database import TestDatabase, at
from tests.http.booking_calls import timestamp
from tests.http.browser import Browser, changed, post, reserve, running
from tests.http.conftest import client_of
from tests.http.describing import faults, served_document
from tests.sql.listings import availability

pytestmark = pytest.mark.anyio

# One of half an hour to an hour and a half with buffers, one with larger buffers, one by days, one without a pool.
SERVICES: dict[str, dict[str, Any]] = {
    "cut": {
        "resource_ids": ["rosa", "maria"],
        "duration_minutes": 30,
        "min_duration_minutes": 30,
        "max_duration_minutes": 90,
        "slot_step_minutes": 15,
        "buffer_before_minutes": 5,
        "buffer_after_minutes": 10,
    },
    "perm": {
        "resource_ids": ["rosa"],
        "duration_minutes": 120,
        "min_duration_minutes": 120,
        "max_duration_minutes": 120,
        "slot_step_minutes": 30,
        "buffer_before_minutes": 30,
        "buffer_after_minutes": 45,
    },
    "rent": {
        "resource_ids": ["maria"],
        "duration_minutes": None,
        "min_duration_minutes": None,
        "max_duration_minutes": None,
        "duration_days": 1,
        "max_duration_days": 2,
        "start_times": ["14:00"],
        "end_time": "11:00",
    },
    "class": {"capacity": 3, "slot_step_minutes": 20, "buffer_after_minutes": 5},
}
GUEST = {"guestEmail": "ada@example.com"}


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[Starlette]:
    """Runs an application with services that share resources."""
    for service_id, settings in SERVICES.items():
        database.make_service(service_id, **settings)
    async with running(database) as app:
        yield app


def listed(database: TestDatabase) -> dict[tuple[str, str], str]:
    """Returns all slots of three days around the Monday, by their service and start."""
    found: dict[tuple[str, str], str] = {}
    for service_id in SERVICES:
        outcome = availability(database, at(0, day=-1), at(24, day=1), service_id=service_id)
        assert outcome.name == "done"
        found |= {(service_id, slot["slot_start"]): json.dumps(slot) for slot in outcome.body["slots"]}
    return found


async def slots_of(browser: Browser) -> Any:
    """Returns the data of the next event, which is about slots."""
    name, data = await browser.next_event()
    assert name == "changed"
    return data


def random_slot(rng: random.Random) -> dict[str, Any]:
    """Returns a slot of the Monday that may be bookable."""
    service_id = rng.choice(list(SERVICES))
    minutes = rng.choice([30, 45, 90]) if service_id == "cut" else {"perm": 120, "class": 60}.get(service_id)
    start = at(rng.randrange(32, 64) / 4) if minutes else at(0).replace(hour=14, tzinfo=ZoneInfo("Europe/Berlin"))
    end = {"slotEnd": timestamp(start + timedelta(minutes=minutes))} if minutes else {}
    return {"businessId": "salon", "serviceId": service_id, "slotStart": start.isoformat(), **end}


async def test_every_slot_that_changes_is_in_the_range(app: Starlette, database: TestDatabase) -> None:
    """Bookings and cancellations, before and after the owner has cut the buffers with which they were made."""
    rng = random.Random(5)
    booked: list[str] = []
    events = 0
    async with Browser(app, serviceId=None) as browser:
        before = listed(database)
        for step in range(24):
            if step == 12:
                for service_id in ("cut", "perm"):
                    address = f"/api/catalog/businesses/salon/services/{service_id}"
                    service = await post(app, address, None, "GET")
                    await post(app, address, {**service, "bufferBeforeMinutes": 0, "bufferAfterMinutes": 0}, "PUT")
                    assert await browser.next_event() == ("resync", {})
                before = listed(database)
            if booked and (step >= 12 or rng.random() < 0.3):
                await post(app, f"/api/booking/appointments/{booked.pop()}/cancel", {})
            else:
                try:
                    booked.append((await post(app, "/api/bookings", random_slot(rng) | GUEST))["appointmentId"])
                except AssertionError:
                    continue
            data = await slots_of(browser)
            events += 1
            after = listed(database)
            range_ = datetime.fromisoformat(data["from"]), datetime.fromisoformat(data["to"])
            differing = {slot for slot in before | after if before.get(slot) != after.get(slot)}
            assert differing
            for service_id, start in differing:
                assert service_id in data["serviceIds"]
                assert range_[0] <= datetime.fromisoformat(start) < range_[1], (service_id, start, data)
            before = after
    assert events > 12


async def test_a_browser_watches_a_whole_business(app: Starlette, database: TestDatabase) -> None:
    """One stream for all services: a page needs no more. Other businesses are left out."""
    database.make_service(business_id="x")
    async with Browser(app, serviceId=None) as browser, Browser(app, businessId="x", serviceId=None) as other:
        await reserve(app, 10, serviceId="cut", resourceId="rosa")
        assert (await slots_of(browser))["serviceIds"] == ["cut", "perm"]
        await reserve(app, 10, serviceId="cut", resourceId="maria")
        assert (await slots_of(browser))["serviceIds"] == ["cut", "rent"]
        await reserve(app, 10, serviceId="class")
        assert (await slots_of(browser))["serviceIds"] == ["class"]
        await post(app, "/api/catalog/businesses/salon/services/class", None, "DELETE")
        assert await browser.next_event() == ("resync", {})
        await reserve(app, 10, businessId="x")
        assert await other.next_event() == changed(10)
        assert browser.waiting == 0


async def test_a_browser_of_one_service_gets_the_changes_that_concern_it(app: Starlette) -> None:
    """Also those of other services through a shared resource, with its own range; none through other resources."""
    async with Browser(app, serviceId="perm") as browser, Browser(app, serviceId="rent") as other:
        held = await reserve(app, 10, serviceId="cut", slotEnd=at(10.5).isoformat(), resourceId="rosa")
        slots = await slots_of(browser)
        assert slots["serviceIds"] == ["perm"]
        # The window of the cut lies within its longest one, 45 minutes, of either end of its slot. A perm of two hours
        # has a buffer of 30 minutes before and of 45 after it.
        starts, ends = at(10.5) - timedelta(minutes=45), at(10) + timedelta(minutes=45)
        earliest, latest = starts - timedelta(hours=2, minutes=45), ends + timedelta(minutes=30)
        assert (slots["from"], slots["to"]) == (timestamp(earliest), timestamp(latest))
        await post(app, f"/api/booking/reservations/{held['reservationId']}", {}, "DELETE")
        assert await slots_of(browser) == slots
        await reserve(app, 10, serviceId="cut", resourceId="maria")
        assert (await slots_of(other))["serviceIds"] == ["rent"]
        assert browser.waiting == other.waiting == 0


async def test_a_claim_of_an_archived_service_concerns_those_that_share_its_resource(app: Starlette) -> None:
    """It takes their room until it ends."""
    held = await reserve(app, 10, serviceId="cut", resourceId="rosa")
    await post(app, "/api/catalog/businesses/salon/services/cut", None, "DELETE")
    async with Browser(app, serviceId=None) as browser:
        await post(app, f"/api/booking/reservations/{held['reservationId']}", {}, "DELETE")
        assert (await slots_of(browser))["serviceIds"] == ["perm"]


async def test_a_rebook_on_another_resource_makes_all_load_again(app: Starlette, database: TestDatabase) -> None:
    """The hold that it ends leaves the former one, which the answer does not name, to the services that share it."""
    held = await reserve(app, 10, serviceId="cut")
    database.move_clock(timedelta(minutes=20))
    # Of two that are free, the one with less work gets the claim.
    await reserve(app, 14, serviceId="cut", resourceId=held["resourceId"])
    async with Browser(app, serviceId="perm") as perm, Browser(app, serviceId="rent") as rent:
        body = {"reservationId": held["reservationId"], "ifExpired": "rebook", **GUEST}
        booked = await post(app, "/api/booking/commit", body)
        assert booked["resourceId"] != held["resourceId"]
        assert await perm.next_event() == await rent.next_event() == ("resync", {})


async def test_a_refused_rebook_of_an_archived_service_concerns_those_that_share_its_resource(
    app: Starlette, database: TestDatabase
) -> None:
    """It ends the hold, so the cleanup will find nothing that has expired. Repeated, it ends nothing."""
    held = await reserve(app, 10, serviceId="cut", resourceId="rosa")
    await post(app, "/api/catalog/businesses/salon/services/cut", None, "DELETE")
    database.move_clock(timedelta(minutes=20))
    async with Browser(app, serviceId="perm") as browser, client_of(app) as client:
        body = {"reservationId": held["reservationId"], "ifExpired": "rebook", **GUEST}
        for _ in range(2):
            assert (await client.post("/api/booking/commit", json=body)).json()["code"] == "SLOT_UNAVAILABLE"
        freed = await slots_of(browser)
        assert freed["serviceIds"] == ["perm"]
        assert datetime.fromisoformat(freed["from"]) < at(10) < at(11) < datetime.fromisoformat(freed["to"])
        assert browser.waiting == 0


async def test_a_change_of_the_resource_makes_all_load_again(app: Starlette) -> None:
    """It frees the former one, which the answer does not name, for the services that share it."""
    slot = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat(), "resourceId": "rosa"}
    booked = await post(app, "/api/bookings", {**slot, "slotEnd": at(10.5).isoformat(), **GUEST})
    async with Browser(app, serviceId="perm") as perm, Browser(app, serviceId="rent") as rent:
        change = {"expectedVersion": 1, "resourceId": "maria"}
        await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert await perm.next_event() == await rent.next_event() == ("resync", {})


async def test_a_move_off_a_resource_makes_all_load_again(app: Starlette) -> None:
    """Its service has no pool any more, so the answer names no resource."""
    slot = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat(), "resourceId": "rosa"}
    booked = await post(app, "/api/bookings", {**slot, "slotEnd": at(10.5).isoformat(), **GUEST})
    address = "/api/catalog/businesses/salon/services/cut"
    service = await post(app, address, None, "GET")
    await post(app, address, {**service, "resourceIds": []}, "PUT")
    async with Browser(app, serviceId="perm") as perm:
        change = {"expectedVersion": 1, "slotStart": at(14).isoformat()}
        moved = await post(app, f"/api/booking/appointments/{booked['appointmentId']}", change, "PATCH")
        assert moved["resourceId"] is None
        assert await perm.next_event() == ("resync", {})


async def test_a_change_of_a_service_that_ends_expired_holds_makes_all_load_again(
    app: Starlette, database: TestDatabase
) -> None:
    """The cleanup will find nothing that has expired. Without such holds it concerns its own service only."""
    await reserve(app, 10, serviceId="class")
    await reserve(app, 10, serviceId="cut", resourceId="rosa")
    database.move_clock(timedelta(minutes=20))
    address = "/api/catalog/businesses/salon/services/class"
    service = await post(app, address, None, "GET")
    async with Browser(app, serviceId="perm") as browser:
        await post(app, address, service, "PUT")
        assert await browser.next_event() == ("resync", {})
        await post(app, address, service, "PUT")
        await reserve(app, 10, serviceId="cut", resourceId="rosa")
        assert (await slots_of(browser))["serviceIds"] == ["perm"]


async def test_without_the_settings_of_the_services_browsers_load_all_again(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is asked for them at the first event, and may be down by then."""

    async def fail(*_: object) -> None:
        raise DatabaseDown

    async with Browser(app, serviceId=None) as browser:
        monkeypatch.setattr(Reaches, "_read", fail)
        await reserve(app, 10, serviceId="class")
        assert await browser.next_event() == ("resync", {})


async def test_a_crowd_of_browsers_causes_one_look_up_of_the_settings(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, and again after a change of the catalog."""
    look_ups = []
    fetch = Database.fetch

    async def counting(database: Any, query: str, *parameters: Any) -> Any:
        look_ups.append(query)
        return await fetch(database, query, *parameters)

    monkeypatch.setattr(Database, "fetch", counting)
    async with (
        Browser(app, serviceId=None) as one,
        Browser(app, serviceId=None) as two,
        Browser(app, serviceId="class"),
    ):
        for hour in (9, 11):
            await reserve(app, hour, serviceId="class")
            assert await slots_of(one) == await slots_of(two)
        assert look_ups.count("reaches") == 1
        await post(app, "/api/catalog/businesses/salon/resources/ada", {"name": "Ada"}, "PUT")
        assert await one.next_event() == await two.next_event() == ("resync", {})
        await reserve(app, 13, serviceId="class")
        assert await slots_of(one) == await slots_of(two)
        assert look_ups.count("reaches") == 2


async def test_events_are_as_the_document_says(app: Starlette) -> None:
    """A client made from the document knows their members."""
    document = await served_document()
    content = document["paths"]["/api/booking/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    async with Browser(app, serviceId=None) as browser:
        await reserve(app, 10, serviceId="class")
        await post(app, "/api/catalog/businesses/salon/resources/ada", {"name": "Ada"}, "PUT")
        for _ in range(2):
            frame = await browser.next_frame()
            assert faults(document, content["schema"], {**frame, "data": json.loads(frame["data"])}) == []
