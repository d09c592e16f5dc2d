"""The stream of changes, as server-sent events, for pages that show free slots."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, RootModel
from starlette.types import ASGIApp

from service.api.shapes import Query
from service.booking.catalog import SERVICE, Catalog
from service.booking.reach import ChangedSlots, Reaches
from service.booking.text import Identifier, NamedBusiness
from service.errors import Unavailable
from service.http.call import Call
from service.http.endpoint import endpoint
from service.http.streamed import StreamedAnswer
from service.naming import Record
from service.sharing.feed import Feed
from service.sharing.watchers import Event

# Proxies cut idle connections, usually after a minute.
HEARTBEAT_SECONDS: Final = 15
# The time after which browsers reconnect: to the next process, when this one stops.
_RETRY_MILLISECONDS: Final = 2_000
_HEARTBEAT: Final = b": still here\n\n"
_MEDIA_TYPE: Final = "text/event-stream; charset=utf-8"
# No cache keeps the stream, and nginx does not gather it.
_HEADERS: Final = {"cache-control": "no-store", "connection": "keep-alive", "x-accel-buffering": "no"}


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
        # The watcher is made with the first part. No wait follows before the answer, which removes it in any case.
        return await StreamedAnswer(self._frames(call, query), _MEDIA_TYPE, _HEADERS).begun()

    async def _frames(self, call: Call, query: StreamQuery) -> AsyncGenerator[bytes, None]:
        """Yields the frames of a watcher's stream, and heartbeats. It ends with the service, or if its client is too
        slow."""
        last_event_id = call.header(b"last-event-id")
        begins_at = self._feed.last_id
        watcher = self._feed.watch(query.business_id, query.service_id, last_event_id, call.client)
        try:
            # The id is the place to resume from, if the stream is cut off before its first event.
            frame: bytes | None = _frame(id=begins_at if last_event_id is None else None, retry=_RETRY_MILLISECONDS)
            while True:
                if frame:
                    yield frame
                    heartbeat_at = asyncio.get_running_loop().time() + HEARTBEAT_SECONDS
                try:
                    async with asyncio.timeout_at(heartbeat_at):
                        event = await watcher.next_event()
                except TimeoutError:
                    frame = _HEARTBEAT
                    continue
                if event is None:
                    return
                frame = await self._written(event, query.service_id)
        finally:
            watcher.close()

    async def _written(self, event: Event, watched: str | None) -> bytes | None:
        """Writes an event; None if it does not concern the watched service."""
        change = event.change
        if change is None or change.service_id is None or change.slot_start is None or change.slot_end is None:
            return _resync(event)
        try:
            slot = datetime.fromisoformat(change.slot_start), datetime.fromisoformat(change.slot_end)
            of_claim = change.business_id, change.service_id, change.resource_id, slot
            slots = await self._reaches.of_claim(*of_claim, watched)
        except (Unavailable, KeyError, ValueError, OverflowError):
            return _resync(event)
        return _frame(id=event.id, event="changed", data=slots.model_dump_json()) if slots else None


def _resync(event: Event) -> bytes:
    return _frame(id=event.id, event="resync", data="{}")


def _frame(**fields: object) -> bytes:
    lines = [f"{name}: {value}\n" for name, value in fields.items() if value is not None]
    return "".join([*lines, "\n"]).encode()
