"""The stream of changes, as server-sent events, for pages that show free slots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Final, Literal

import anyio
from pydantic import Field, RootModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.shapes import Query
from service.booking.catalog import SERVICE, Catalog
from service.booking.reach import ChangedSlots, Reaches
from service.booking.text import Identifier, NamedBusiness
from service.errors import Unavailable
from service.http.call import Call
from service.http.endpoint import endpoint
from service.http.streamed import STALL_SECONDS
from service.naming import Record
from service.sharing.feed import Feed
from service.sharing.watchers import Event, Watcher

# Proxies cut idle connections, usually after a minute.
HEARTBEAT_SECONDS: Final = 15
# The time that streams have to end when the service stops.
_ENDING_SECONDS: Final = 1.0
# The time after which browsers reconnect: to the next process, when this one stops.
_RETRY_MILLISECONDS: Final = 2_000


class StreamQuery(Query):
    """The business to watch, or one of its services."""

    business_id: NamedBusiness
    service_id: Identifier | None = Field(None, description="Only the changes of this service. Left out, of all.")


class Nothing(Record):
    """An object without members."""


class ChangedEvent(Record):
    """Some slots have changed."""

    event: Literal["changed"] = Field(description="The type of the event, for `addEventListener`.")
    id: str = Field(description="The place in the stream: a browser sends the last one when it reconnects.")
    data: ChangedSlots = Field(description="What has changed; in the stream as JSON on one line.")


class ResyncEvent(Record):
    """Anything may have changed: load all slots that are shown, and the public catalogue, again."""

    event: Literal["resync"] = Field(description="The type of the event, for `addEventListener`.")
    id: str = Field(description="The place in the stream: a browser sends the last one when it reconnects.")
    data: Nothing = Field(description="Nothing more.")


class StreamEvent(RootModel[Annotated[ChangedEvent | ResyncEvent, Field(discriminator="event")]]):
    """One event of the stream, by the fields that server-sent events have; `data` as it is when parsed."""


class StreamApi:
    """Turns the feed into server-sent events. With limits, no client has more than its share of them."""

    def __init__(self, feed: Feed, catalog: Catalog, reaches: Reaches) -> None:
        self._feed = feed
        self._catalog = catalog
        self._reaches = reaches

    @endpoint(
        "GET",
        "/api/booking/stream",
        tag="availability",
        answers={200: StreamEvent},
        refusals=("BUSINESS_NOT_FOUND", "SERVICE_NOT_FOUND"),
        # It opens also while the database does not answer.
        proves_business=False,
        media_type="text/event-stream",
        request_headers=("Last-Event-ID",),
    )
    async def watch_changes(self, call: Call, query: StreamQuery) -> ASGIApp:
        """Watch for changes.

        Server-sent events about a whole business, for a browser's `EventSource`: the schema describes one event, and
        lines that begin with a colon are comments. `changed` says which slots to load again. It names the services
        whose slots have more or less room, also those that share a resource, and a range for the `from` and `to` of
        `availability`, wide enough for the buffers and for slots that overlap. `resync` means that anything may have
        changed or been missed: load all that is shown. It is also sent after a change of the catalog, after a move,
        with a claim that takes a part of the room of expired holds, and by the first cleanup after holds have expired.

        A browser that is cut off reconnects by itself with `Last-Event-ID`, and gets what it missed. After a refusal
        (429, 503) an `EventSource` is closed for good (`readyState` 2): make a new one after some seconds, and load
        again. A page needs one stream, whatever it shows: browsers open six HTTP/1.1 connections to a host, for all
        tabs together. The client of the [guide](docs/embedding) does all of this.
        """
        # A misspelt name would be silence for ever. While the database does not answer, the stream opens all the same.
        with suppress(Unavailable):
            if query.service_id is None:
                await self._catalog.business(query.business_id)
            else:
                await self._catalog.get(SERVICE, query.business_id, query.service_id)
        # No await from here on: the stream, once begun, removes the watcher of a client that leaves.
        last_event_id = call.header(b"last-event-id")
        begins_at = self._feed.last_id
        watcher = self._feed.watch(query.business_id, query.service_id, last_event_id, call.client)
        return _Stream(watcher, begins_at if last_event_id is None else None, self._reaches)


class _Stream(EventSourceResponse):
    """One watcher's stream. It ends with the service, or when its client is too slow."""

    def __init__(self, watcher: Watcher, begins_at: str | None, reaches: Reaches) -> None:
        self._watcher = watcher
        self._reaches = reaches
        self._stopping = anyio.Event()
        super().__init__(
            self._events(begins_at),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="still here"),
            sep="\n",
            send_timeout=STALL_SECONDS,
            shutdown_event=self._stopping,
            shutdown_grace_period=_ENDING_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the client or the service ends the stream."""
        ending = asyncio.create_task(self._end_with_the_service())
        has_stalled = False
        try:
            await super().__call__(scope, receive, send)
        except* SendTimeoutError:  # an event and a heartbeat may time out together
            has_stalled = True
        finally:
            ending.cancel()
            self._watcher.close()
        if has_stalled:
            raise ClientDisconnect

    async def _end_with_the_service(self) -> None:
        await self._stopping.wait()
        self._watcher.end()

    async def _events(self, begins_at: str | None) -> AsyncIterator[ServerSentEvent]:
        # The id is the place to resume from, if the stream is cut off before its first event.
        yield ServerSentEvent(id=begins_at, retry=_RETRY_MILLISECONDS, sep="\n")
        async for event in self._watcher.events():
            if written := await self._written(event):
                yield written

    async def _written(self, event: Event) -> ServerSentEvent | None:
        """Writes an event; None if it does not concern the watched service."""
        change = event.change
        if change is None or change.service_id is None or change.slot_start is None or change.slot_end is None:
            return _resync(event)
        try:
            slot = datetime.fromisoformat(change.slot_start), datetime.fromisoformat(change.slot_end)
            of_claim = change.business_id, change.service_id, change.resource_id, slot
            slots = await self._reaches.of_claim(*of_claim, self._watcher.service_id)
        except (Unavailable, KeyError, ValueError, OverflowError):
            return _resync(event)
        if slots is None:
            return None
        return ServerSentEvent(slots.model_dump_json(), event="changed", id=event.id, sep="\n")


def _resync(event: Event) -> ServerSentEvent:
    return ServerSentEvent("{}", event="resync", id=event.id, sep="\n")
