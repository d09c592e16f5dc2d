"""The stream of changes, as a browser has it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from service.app import create_app
from service.http import stream
from service.metrics import REGISTRY
from service.sharing import feed
from service.sharing.cache import AnswerCache
from service.sharing.store import Store
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN, CRON, make_settings
from tests.http.describing import check, client_of, served_document
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

STREAM = "/api/booking/stream"
CUT = {"businessId": "salon", "serviceId": "cut"}


class Browser:
    """One connection to the stream of an application in this process. As a context manager it is connected."""

    def __init__(self, app: Starlette, last_event_id: str | None = None, *, takes: int = 10**6, **watched: str) -> None:
        self._app = app
        self._headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
        self._query = urlencode(CUT | watched).encode()
        self._takes = takes
        self._gone = asyncio.Event()
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self.status: int | None = None
        self.last_id = last_event_id

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._run())
        if self._takes:
            await self.next_frame()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.set()
        await self.task

    async def next_frame(self) -> dict[str, str]:
        """The fields of the next thing that comes, comments too."""
        frame = await asyncio.wait_for(self._frames.get(), 10)
        fields = dict(line.split(": ", 1) for line in frame.strip().split("\n"))
        self.last_id = fields.get("id", self.last_id)
        return fields

    async def next_event(self) -> tuple[str, Any]:
        """The name and the data of the next event."""
        frame = await self.next_frame()
        return frame["event"], json.loads(frame["data"])

    @property
    def waiting(self) -> int:
        """What has come and was not looked at."""
        return self._frames.qsize()

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": STREAM,
            "query_string": self._query,
            "headers": self._headers,
            "client": ("192.0.2.1", 1),
        }
        messages = [{"type": "http.request", "body": b""}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            if self._takes <= 0:
                await self._gone.wait()
            self._takes -= 1
            if message["body"]:
                self._frames.put_nowait(message["body"].decode())

        await self._app(scope, receive, send)


@asynccontextmanager
async def running(database: TestDatabase, redis: RedisServer | None = None) -> AsyncIterator[Starlette]:
    """An application."""
    settings = make_settings(database.url)
    if redis:
        settings = settings.model_copy(update={"redis_url": SecretStr(redis.url)})
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[Starlette]:
    """An application, and a service to watch."""
    database.make_service(capacity=1000)
    async with running(database) as app:
        yield app


async def post(app: Starlette, path: str, body: dict[str, Any], method: str = "POST") -> Any:
    """What somebody does meanwhile."""
    async with client_of(app) as client:
        answer = await client.request(method, path, json=body, headers=ADMIN if "appointments" in path else {})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


async def reserve(app: Starlette, hour: float = 10, **members: Any) -> Any:
    """Holds a slot."""
    return await post(app, "/api/booking/reserve", {**CUT, "slotStart": at(hour).isoformat(), **members})


async def cleanup(app: Starlette) -> None:
    """What the scheduler does."""
    async with client_of(app) as client:
        answer = await client.post("/cron/cleanup-reservations", headers=CRON)
        assert answer.status_code == 200, answer.text


def changed(hour: float, service_id: str = "cut") -> tuple[str, Any]:
    """The event for an hour of the service."""
    start, end = (instant.isoformat().replace("+00:00", "Z") for instant in (at(hour), at(hour + 1)))
    return "changed", {"serviceId": service_id, "slotStart": start, "slotEnd": end}


async def test_a_browser_is_told_of_each_change_of_what_it_watches(app: Starlette, database: TestDatabase) -> None:
    """When a slot is held, given up, committed, booked and cancelled; and not of what happens elsewhere."""
    database.make_service("perm", capacity=5)
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


async def test_a_move_makes_browsers_load_again(app: Starlette) -> None:
    """It left a slot that its answer does not name."""
    slot = {**CUT, "slotStart": at(14).isoformat(), "guestEmail": "ada@example.com"}
    booked = await post(app, "/api/bookings", slot)
    async with Browser(app) as browser:
        change = {"expectedVersion": 1, "slotStart": at(16).isoformat()}
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


# Bounds.


def clients() -> float:
    """What the gauge says."""
    return REGISTRY.get_sample_value("holdfast_stream_clients") or 0


async def test_so_many_may_watch_and_no_more(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that it is a 503, and who leaves makes room."""
    monkeypatch.setattr(feed, "WATCHERS", 2)
    before = clients()
    async with Browser(app):
        async with Browser(app):
            assert clients() - before == 2
            async with client_of(app) as client:
                refused = await client.get(STREAM, params=CUT)
            assert check(await served_document(), refused) == "OVERLOADED"
        async with Browser(app) as third:
            assert third.status == 200
    assert clients() == before


async def test_who_is_too_slow_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for it without bound: it is told what is kept, and then it has to come again."""
    monkeypatch.setattr(feed, "BACKLOG", 5)
    of_process = feed.Feed(Store(None), AnswerCache(Store(None)))
    slow, other = (of_process.watch("salon", service_id, None) for service_id in ("cut", "perm"))
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


# With Redis.


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
