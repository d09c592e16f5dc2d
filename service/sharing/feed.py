"""The feed of changes, for browsers that watch a calendar: which slots look different now, and nothing about who.

With Redis each process writes what it changed to one stream and reads that of all; without, its own is all it knows.
Nobody depends on it: whoever may have missed something is told to load again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis

from service.metrics import STREAM_CLIENTS
from service.sharing.cache import AnswerCache, forget
from service.sharing.store import WATCH_SECONDS, Store, StoreDown

# Each costs a connection and some kilobytes. Beyond that, browsers can still ask now and then.
WATCHERS: Final = 500
# Changes that one watcher may be behind: more than that, and it is cheaper for both to load again.
BACKLOG: Final = 100
# Changes that can be resumed from, and that Redis keeps: of a busy minute.
_REMEMBERED: Final = 5_000
# Changes on their way to Redis. They leave in one call, so there are never many, unless it hangs.
_UNSENT: Final = 1_000
_STREAM: Final = "holdfast:changes"
# How long one question for news waits for some, and how many it takes at once.
_BLOCK_SECONDS: Final = 5.0
_READ: Final = 500


@dataclass(frozen=True, slots=True)
class Change:
    """A slot of a service that has more or less room now; without a slot, any of them may.

    With a resource, so have other services of the business, if they share it.
    """

    business_id: str
    service_id: str
    resource_id: str | None
    slot_start: str | None
    slot_end: str | None

    def concerns(self, service_id: str) -> bool:
        """Whether those who watch this service of the business are told."""
        return self.resource_id is not None or self.service_id == service_id


@dataclass(frozen=True, slots=True)
class Event:
    """What a watcher is told. Without a change: load again."""

    id: str
    change: Change | None = None


class TooManyWatchers(Exception):
    """This process has as many as it takes."""


class Watcher:
    """One browser, which watches one service of one business."""

    def __init__(self, feed: "Feed", business_id: str, service_id: str, first: list[Event]) -> None:
        self.business_id = business_id
        self.service_id = service_id
        self._feed = feed
        self._events = deque(first)
        self._news = asyncio.Event()
        self._ended = False

    def tell(self, event: Event) -> None:
        """Keeps an event for it. One that is too far behind is let go: it comes again, and is told where it was."""
        if len(self._events) >= BACKLOG:
            self.end()
        else:
            self._events.append(event)
            self._news.set()

    def end(self) -> None:
        """It is told nothing more than what is kept for it already."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """It is gone."""
        self.end()
        self._feed.forget(self)

    async def events(self) -> AsyncIterator[Event]:
        """What it is to be told, until it has ended."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


class Feed:
    """The feed of one process."""

    def __init__(self, store: Store, cache: AnswerCache) -> None:
        self._store = store
        self._cache = cache
        self._watchers: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._count = 0
        self._unsent: deque[Change] = deque()
        self._something_to_send = asyncio.Event()
        # What is remembered, and the id of what came before all of that.
        self._events: deque[Event] = deque()
        self._before = _new_id()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to exchange changes with other processes, if there is a Redis."""
        if self._store.exists:
            self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    async def stop(self) -> None:
        """Ends that, and all watchers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watcher in [watcher for watchers in self._watchers.values() for watcher in watchers]:
            watcher.end()

    def announce(self, business_id: str, body: dict[str, Any], *, moved: bool) -> None:
        """Tells of what a verb did, by its body. Never waits and never fails.

        What was `moved` left a slot that the body does not name: then any of the service's may have room.
        """
        slot = (None, None) if moved else (body.get("slot_start"), body.get("slot_end"))
        change = Change(business_id, body["service_id"], body.get("resource_id"), *slot)
        self._cache.forget(business_id)
        if not self._store.up:
            self._tell(Event(_new_id(), change))
        elif len(self._unsent) < _UNSENT:
            self._unsent.append(change)
            self._something_to_send.set()

    def watch(self, business_id: str, service_id: str, last_event_id: str | None) -> Watcher:
        """A new watcher; `last_event_id` is where it was when it was cut off. Raises `TooManyWatchers`."""
        if self._count >= WATCHERS:
            raise TooManyWatchers
        watcher = Watcher(self, business_id, service_id, self._since(last_event_id, business_id, service_id))
        self._watchers[watcher.business_id].add(watcher)
        self._count += 1
        STREAM_CLIENTS.inc()
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Of a watcher that is gone. Doing it again changes nothing."""
        if watcher in self._watchers.get(watcher.business_id, ()):
            self._watchers[watcher.business_id].remove(watcher)
            if not self._watchers[watcher.business_id]:
                del self._watchers[watcher.business_id]
            self._count -= 1
            STREAM_CLIENTS.dec()

    @property
    def last_id(self) -> str:
        """Where a watcher is that begins now."""
        return self._events[-1].id if self._events else self._before

    def _since(self, last_event_id: str | None, business_id: str, service_id: str) -> list[Event]:
        if last_event_id is None or last_event_id == self.last_id:
            return []
        ids = [self._before, *(event.id for event in self._events)]
        if last_event_id not in ids:
            return [Event(self.last_id)]
        missed = [
            event
            for event in islice(self._events, ids.index(last_event_id), None)
            if event.change and event.change.business_id == business_id and event.change.concerns(service_id)
        ]
        return missed if len(missed) < BACKLOG else [Event(self.last_id)]

    def _tell(self, event: Event) -> None:
        assert event.change
        self._cache.forget(event.change.business_id)
        self._events.append(event)
        if len(self._events) > _REMEMBERED:
            self._before = self._events.popleft().id
        for watcher in tuple(self._watchers.get(event.change.business_id, ())):
            if event.change.concerns(watcher.service_id):
                watcher.tell(event)

    def _start_anew(self, before: str) -> None:
        """There is a gap: nobody can resume across it, and all watchers load again."""
        self._events.clear()
        self._before = before
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.tell(Event(before))

    async def _send(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            changes = list(self._unsent)
            self._unsent.clear()
            try:
                await self._store.ask("feed", lambda redis: _add(redis, changes))  # noqa: B023
            except StoreDown:
                for change in changes:
                    self._tell(Event(_new_id(), change))

    async def _receive(self) -> None:
        last: str | None = None
        while True:
            try:
                if last is None:
                    last = await self._store.ask("feed", _last_id)
                    self._start_anew(last)
                for event in await self._store.wait("feed", _after(last), _BLOCK_SECONDS):
                    self._tell(event)
                    last = event.id
            except StoreDown:
                if last is not None:
                    last = None
                    self._start_anew(_new_id())
                await asyncio.sleep(WATCH_SECONDS / 4)


def _new_id() -> str:
    """Of what Redis has not numbered."""
    return uuid4().hex


async def _add(redis: Redis, changes: list[Change]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for business_id in {change.business_id for change in changes}:
        # Before they are told, so that whoever loads again then gets no older answer.
        forget(pipeline, business_id)
    for change in changes:
        fields: Any = {name: value for name, value in asdict(change).items() if value is not None}
        pipeline.xadd(_STREAM, fields, maxlen=_REMEMBERED, approximate=True)
    await pipeline.execute()


async def _last_id(redis: Redis) -> str:
    newest: Any = await redis.xrevrange(_STREAM, count=1)
    return str(newest[0][0]) if newest else "0-0"


def _after(last_id: str) -> Callable[[Redis], Awaitable[list[Event]]]:
    async def read(redis: Redis) -> list[Event]:
        told: Any = await redis.xread({_STREAM: last_id}, count=_READ, block=int(_BLOCK_SECONDS * 1000))
        return [Event(entry_id, _change(fields)) for _, entries in told or () for entry_id, fields in entries]

    return read


def _change(fields: dict[str, str]) -> Change:
    return Change(**{field.name: fields.get(field.name) for field in dataclass_fields(Change)})  # type: ignore[arg-type]
