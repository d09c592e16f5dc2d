"""The stream of changes, as server-sent events: for pages that show what is free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import anyio
from pydantic import AwareDatetime
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.booking.catalog import Catalog
from service.booking.text import Identifier
from service.errors import Overloaded, Unavailable
from service.http.clients import Clients
from service.http.disconnect import ClientGone
from service.http.documentation import examples
from service.http.endpoints import Call, Endpoint
from service.http.shapes import Query
from service.naming import Record
from service.sharing.feed import Feed
from service.sharing.watchers import Event, TooManyWatchers, Watcher

# Proxies cut connections on which nothing comes for a while, usually a minute.
HEARTBEAT_SECONDS: Final = 15
# Who takes no more for so long is gone, or as good as that.
SEND_SECONDS: Final = 10.0
# When the service stops, streams have so long to end as they should.
_FAREWELL_SECONDS: Final = 1.0
# What browsers wait before they come again: with a service that stops, for the next one.
_RETRY_MILLISECONDS: Final = 2_000


class StreamQuery(Query):
    """What is watched."""

    business_id: Identifier
    service_id: Identifier


class SlotChange(Record):
    """A slot that has more or less room now."""

    service_id: str
    slot_start: AwareDatetime
    slot_end: AwareDatetime


class StreamEndpoints:
    """Turns the feed into server-sent events. With `clients`, nobody has more than their share of it."""

    def __init__(self, feed: Feed, catalog: Catalog, clients: Clients | None) -> None:
        self._feed = feed
        self._catalog = catalog
        self._clients = clients

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        return [
            Endpoint(
                "GET",
                "/api/booking/stream",
                self.stream,
                "Watch for changes",
                {200: None},
                "Server-sent events, for a browser's `EventSource`. `changed` names a slot that now has more or less "
                "room: `{serviceId, slotStart, slotEnd}`. `resync` means that something may have been missed: reload. "
                "It is also sent when the catalog changes, and by the first cleanup after holds have expired. A "
                "browser that is cut off reconnects by itself with `Last-Event-ID` and gets what it missed.",
                query=StreamQuery,
                refusals=("SERVICE_NOT_FOUND", "OVERLOADED"),
                operation_id="watchChanges",
                tag="availability",
                # It does, but never fails for want of an answer.
                asks_database=False,
                media_type="text/event-stream",
                request_headers=("Last-Event-ID",),
                examples=examples.STREAM,
            )
        ]

    async def stream(self, call: Call) -> Response:
        """GET /api/booking/stream"""
        query: StreamQuery = call.query
        # A misspelt name would be silence for ever. While the database does not answer, it opens all the same.
        with suppress(Unavailable):
            await self._catalog.service(query.business_id, query.service_id)
        client = self._clients.name(call.request) if self._clients else None
        last_event_id = call.request.headers.get("last-event-id")
        begins_at = self._feed.last_id
        try:
            watcher = self._feed.watch(query.business_id, query.service_id, last_event_id, client)
        except TooManyWatchers:
            raise Overloaded("Too many browsers are watching already; please poll instead") from None
        return _Stream(watcher, begins_at if last_event_id is None else None)


class _Stream(EventSourceResponse):
    """One watcher's stream. It ends with the service, and with whoever is too slow for it."""

    def __init__(self, watcher: Watcher, begins_at: str | None) -> None:
        self._watcher = watcher
        self._stopping = anyio.Event()
        super().__init__(
            self._told(begins_at),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="still here"),
            sep="\n",
            send_timeout=SEND_SECONDS,
            shutdown_event=self._stopping,
            shutdown_grace_period=_FAREWELL_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends what there is to be told until one side has had enough."""
        farewell = asyncio.create_task(self._end_with_the_service())
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            raise ClientGone from None
        finally:
            farewell.cancel()
            self._watcher.close()

    async def _end_with_the_service(self) -> None:
        await self._stopping.wait()
        self._watcher.end()

    async def _told(self, begins_at: str | None) -> AsyncIterator[ServerSentEvent]:
        # The id says where it was, if it is cut off before anything happens.
        yield ServerSentEvent(id=begins_at, retry=_RETRY_MILLISECONDS, sep="\n")
        async for event in self._watcher.events():
            yield _written(event, self._watcher.service_id)


def _written(event: Event, service_id: str) -> ServerSentEvent:
    change = event.change
    if change is None or change.slot_start is None:
        return ServerSentEvent("{}", event="resync", id=event.id, sep="\n")
    slot = SlotChange.model_validate(
        {"service_id": service_id, "slot_start": change.slot_start, "slot_end": change.slot_end}
    )
    return ServerSentEvent(slot.model_dump_json(), event="changed", id=event.id, sep="\n")
