"""The stream of changes, as server-sent events, for pages that show free slots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import anyio
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.shapes import Query
from service.booking.catalog import SERVICE, Catalog
from service.booking.instants import WrittenInstant
from service.booking.text import NamedBusiness, ServiceId
from service.errors import Overloaded, Unavailable
from service.http.call import Call
from service.http.endpoint import endpoint
from service.naming import Record
from service.sharing.feed import Feed
from service.sharing.watchers import Event, TooManyWatchers, Watcher

# Proxies cut idle connections, usually after a minute.
HEARTBEAT_SECONDS: Final = 15
# A client that reads nothing for this long is treated as gone.
SEND_SECONDS: Final = 10.0
# The time that streams have to end when the service stops.
_ENDING_SECONDS: Final = 1.0
# The time after which browsers reconnect: to the next process, when this one stops.
_RETRY_MILLISECONDS: Final = 2_000


class StreamQuery(Query):
    """The service to watch."""

    business_id: NamedBusiness
    service_id: ServiceId


class SlotChange(Record):
    """A slot that has more or less room now."""

    service_id: ServiceId
    slot_start: WrittenInstant = Field(description="When the slot begins.")
    slot_end: WrittenInstant = Field(description="When the slot ends.")


class StreamApi:
    """Turns the feed into server-sent events. With limits, no client has more than its share of them."""

    def __init__(self, feed: Feed, catalog: Catalog) -> None:
        self._feed = feed
        self._catalog = catalog

    @endpoint(
        "GET",
        "/api/booking/stream",
        tag="availability",
        answers={200: None},
        refusals=("SERVICE_NOT_FOUND", "OVERLOADED"),
        # It does, but an outage is no failure of the stream.
        asks_database=False,
        media_type="text/event-stream",
        request_headers=("Last-Event-ID",),
    )
    async def watch_changes(self, call: Call, query: StreamQuery) -> ASGIApp:
        """Watch for changes.

        Server-sent events, for a browser's `EventSource`. `changed` names a slot that now has more or less room:
        `{serviceId, slotStart, slotEnd}`. `resync` means that something may have been missed: reload. It is also sent
        when the catalog changes, and by the first cleanup after holds have expired. A browser that is cut off
        reconnects by itself with `Last-Event-ID` and gets what it missed.
        """
        # A misspelt name would be silence for ever. While the database does not answer, the stream opens all the same.
        with suppress(Unavailable):
            await self._catalog.get(SERVICE, query.business_id, query.service_id)
        last_event_id = call.header(b"last-event-id")
        begins_at = self._feed.last_id
        try:
            watcher = self._feed.watch(query.business_id, query.service_id, last_event_id, call.client)
        except TooManyWatchers:
            raise Overloaded("Too many browsers are watching already; please poll instead") from None
        return _Stream(watcher, begins_at if last_event_id is None else None)


class _Stream(EventSourceResponse):
    """One watcher's stream. It ends with the service, or when its client is too slow."""

    def __init__(self, watcher: Watcher, begins_at: str | None) -> None:
        self._watcher = watcher
        self._stopping = anyio.Event()
        super().__init__(
            self._events(begins_at),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="still here"),
            sep="\n",
            send_timeout=SEND_SECONDS,
            shutdown_event=self._stopping,
            shutdown_grace_period=_ENDING_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the client or the service ends the stream."""
        ending = asyncio.create_task(self._end_with_the_service())
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientDisconnect from None
        finally:
            ending.cancel()
            self._watcher.close()

    async def _end_with_the_service(self) -> None:
        await self._stopping.wait()
        self._watcher.end()

    async def _events(self, begins_at: str | None) -> AsyncIterator[ServerSentEvent]:
        # The id is the place to resume from, if the stream is cut off before its first event.
        yield ServerSentEvent(id=begins_at, retry=_RETRY_MILLISECONDS, sep="\n")
        async for event in self._watcher.events():
            yield _written(event, self._watcher.service_id)


def _written(event: Event, service_id: str) -> ServerSentEvent:
    change = event.change
    if change is None or change.slot_start is None:
        return ServerSentEvent("{}", event="resync", id=event.id, sep="\n")
    slot = SlotChange.model_validate({**change._asdict(), "service_id": service_id})
    return ServerSentEvent(slot.model_dump_json(), event="changed", id=event.id, sep="\n")
