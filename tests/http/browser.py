"""A browser that watches the stream of changes of an application in this process, and calls that cause changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode

from pydantic import SecretStr
from starlette.applications import Starlette

from service.sharing.feed import Feed
from service.sharing.watchers import Change, Event, Watcher
from tests.database import TestDatabase, at
from tests.http.booking_calls import timestamp
from tests.http.conftest import ADMIN, client_of, running_app
from tests.redis_server import RedisServer

STREAM: Final = "/api/booking/stream"
CUT: Final = {"businessId": "salon", "serviceId": "cut"}
LONGEST_SLOT: Final = timedelta(minutes=43_200)


class Browser:
    """One connection to the stream of an application in this process; as a context manager, it is connected in its
    block."""

    def __init__(
        self,
        app: Starlette,
        last_event_id: str | None = None,
        *,
        takes: int = 10**6,
        address: str = "192.0.2.1",
        **watched: str | None,
    ) -> None:
        self._app = app
        self._address = address
        self._headers = [] if last_event_id is None else [(b"last-event-id", last_event_id.encode())]
        query = {name: value for name, value in {**CUT, **watched}.items() if value is not None}
        self._query = urlencode(query).encode()
        self._takes = takes
        self._disconnected = asyncio.Event()
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self.status: int | None = None
        self.last_id = last_event_id

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._run())
        if self._takes:
            await self.next_frame()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._disconnected.set()
        await self.task

    async def next_frame(self) -> dict[str, str]:
        """Returns the fields of the next event or comment."""
        frame = await asyncio.wait_for(self._frames.get(), 10)
        fields = dict(line.split(": ", 1) for line in frame.strip().split("\n"))
        self.last_id = fields.get("id", self.last_id)
        return fields

    async def next_event(self) -> tuple[str, Any]:
        """Returns the name and the data of the next event."""
        frame = await self.next_frame()
        return frame["event"], json.loads(frame["data"])

    @property
    def waiting(self) -> int:
        """Returns the number of received frames that were not read yet."""
        return self._frames.qsize()

    async def _run(self) -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": STREAM,
            "query_string": self._query,
            "headers": self._headers,
            "client": (self._address, 1),
        }
        messages = [{"type": "http.request", "body": b""}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self._disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            if self._takes <= 0:
                await self._disconnected.wait()
            self._takes -= 1
            if message["body"]:
                self._frames.put_nowait(message["body"].decode())

        await self._app(scope, receive, send)


@asynccontextmanager
async def running(
    database: TestDatabase, redis: RedisServer | None = None, **settings: Any
) -> AsyncIterator[Starlette]:
    """Runs an application with these settings."""
    if redis:
        settings["redis_url"] = SecretStr(redis.url)
    async with running_app(database, **settings) as app:
        yield app


async def post(app: Starlette, path: str, body: Any, method: str = "POST") -> Any:
    """Sends a request that may change the watched slots, and returns the body of its answer."""
    needs_key = any(part in path for part in ("appointments", "guests", "catalog"))
    async with client_of(app) as client:
        answer = await client.request(method, path, json=body, headers=ADMIN if needs_key else {})
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


async def reserve(app: Starlette, hour: float = 10, **members: Any) -> Any:
    """Holds a slot."""
    return await post(app, "/api/booking/reserve", {**CUT, "slotStart": at(hour).isoformat(), **members})


def changed(hour: float, *service_ids: str) -> tuple[str, Any]:
    """Returns the event for a claim of an hour, by default of the watched service.

    The slots that overlap it start up to 30 days earlier, the longest slot of a service that tests make.
    """
    slots = {"from": timestamp(at(hour) - LONGEST_SLOT), "to": timestamp(at(hour + 1))}
    return "changed", {"serviceIds": list(service_ids) or ["cut"], **slots}


def change_at(hour: int) -> dict[str, str]:
    """The body of an outcome for an hour of a resource that services may share."""
    slot = {"slot_start": at(hour).isoformat(), "slot_end": at(hour + 1).isoformat()}
    return {"service_id": "cut", "resource_id": "rosa", **slot}


async def missed(of_process: Feed, last_event_id: str) -> list[Change | None]:
    """The changes for a watcher of the salon that was cut off there; None stands for a resync."""
    again = of_process.watch("salon", "cut", last_event_id, None)
    again.close()
    return [event.change async for event in events_of(again)]


async def events_of(watcher: Watcher) -> AsyncIterator[Event]:
    """Yields the events of a watcher until it is ended."""
    while event := await watcher.next_event():
        yield event
