"""The feed of changes, for browsers that watch a calendar: which slots look different now, and nothing about who.

With Redis each process writes what it changed to one stream and reads that of all; without, its own is all it knows.
Nobody depends on it: whoever may have missed something is told to load again. A process that could not write what it
changed writes so as soon as it can, and one that reads too late notices that what it was about to read is gone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from service.background import end, in_background
from service.sharing.cache import AnswerCache
from service.sharing.store import WATCH_SECONDS, Store, StoreDown
from service.sharing.watchers import BACKLOG, Change, Event, Watcher, Watchers

# Changes that can be resumed from, and that Redis keeps: of a busy minute.
_REMEMBERED: Final = 5_000
# Changes on their way to Redis. They leave in one call, so there are never many, unless it hangs.
_UNSENT: Final = 1_000
_STREAM: Final = "holdfast:changes"
# An entry that is no change: whoever reads it may have missed some.
_GAP: Final[Any] = {"gap": "1"}
# How long one question for news waits for some, and how many it takes at once.
_BLOCK_SECONDS: Final = 5.0
_READ: Final = 500


class Feed:
    """The feed of one process."""

    def __init__(self, store: Store, cache: AnswerCache) -> None:
        self._store = store
        self._cache = cache
        self._watchers = Watchers()
        self._unsent: deque[Change] = deque()
        # Whether other processes have yet to be told that they missed something.
        self._owes_gap = False
        self._something_to_send = asyncio.Event()
        # What is remembered, and the id of what came before all of that.
        self._events: deque[Event] = deque()
        self._before = _new_id()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to exchange changes with other processes, if there is a Redis."""
        if self._store.exists:
            self._tasks = [
                in_background("send changes", self._send()),
                in_background("receive changes", self._receive()),
            ]

    async def stop(self) -> None:
        """Ends that, and all watchers."""
        await end(self._tasks)
        self._watchers.end()

    def announce(self, business_id: str, body: dict[str, Any], *, moved: bool) -> None:
        """Tells of what a verb did, by its body. Never waits and never fails.

        What was `moved` left a slot that the body does not name: then any of the service's may have room. A body
        without a service is about all that the business has.
        """
        slot = (None, None) if moved else (body.get("slot_start"), body.get("slot_end"))
        change = Change(business_id, body.get("service_id"), body.get("resource_id"), *slot)
        self._cache.forget(business_id)
        if self._store.up and len(self._unsent) < _UNSENT:
            self._unsent.append(change)
            self._something_to_send.set()
        else:
            self._tell_own([change])

    def watch(self, business_id: str, service_id: str, last_event_id: str | None, client: str | None) -> Watcher:
        """A new watcher. `last_event_id` is where it was when it was cut off; with the name of its `client`, that one
        has a bound of its own. Raises `TooManyWatchers`.
        """
        missed = self._since(last_event_id, business_id, service_id)
        return self._watchers.add(business_id, service_id, client, missed)

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
        if event.change is None:
            self._start_anew(event.id)
            return
        self._cache.forget(event.change.business_id)
        self._events.append(event)
        if len(self._events) > _REMEMBERED:
            self._before = self._events.popleft().id
        self._watchers.tell(event)

    def _tell_own(self, changes: list[Change]) -> None:
        """What Redis can't be told now: our own watchers are, and other processes later that they missed something."""
        for change in changes:
            self._tell(Event(_new_id(), change))
        if self._store.exists:
            self._owes_gap = True
            self._something_to_send.set()

    def _start_anew(self, before: str) -> None:
        """There is a gap: nobody can resume across it, and all watchers load again."""
        self._cache.forget_all()
        self._events.clear()
        self._before = before
        self._watchers.tell(Event(before))

    async def _send(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            changes, owes_gap = list(self._unsent), self._owes_gap
            self._unsent.clear()
            self._owes_gap = False
            try:
                await self._store.ask("feed", lambda redis: _add(redis, changes, after_gap=owes_gap))  # noqa: B023
            except StoreDown:
                self._tell_own(changes)
                await asyncio.sleep(WATCH_SECONDS / 4)

    async def _receive(self) -> None:
        last: str | None = None
        while True:
            try:
                if last is None:
                    last = await self._store.ask("feed", _last_id)
                    self._start_anew(last)
                events = await self._store.wait("feed", _after(last), _BLOCK_SECONDS)
                if events is None:
                    last = None
                    continue
                for event in events:
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


async def _add(redis: Redis, changes: list[Change], *, after_gap: bool) -> None:
    pipeline = redis.pipeline(transaction=False)
    if after_gap:
        _append(pipeline, _GAP)
    for change in changes:
        _append(pipeline, {name: value for name, value in asdict(change).items() if value is not None})
    await pipeline.execute()


def _append(redis: Redis | Pipeline, fields: Any) -> Awaitable[Any]:
    return redis.xadd(_STREAM, fields, maxlen=_REMEMBERED, approximate=True)


async def _last_id(redis: Redis) -> str:
    """Of the latest entry. There always is one, so that its absence says that others may be gone too."""
    newest: Any = await redis.xrevrange(_STREAM, count=1)
    return str(newest[0][0] if newest else await _append(redis, _GAP))


def _after(last_id: str) -> Callable[[Redis], Awaitable[list[Event] | None]]:
    """What comes after an entry; None if that is gone, and with it perhaps some that came after it."""

    async def read(redis: Redis) -> list[Event] | None:
        pipeline = redis.pipeline(transaction=False)
        pipeline.xread({_STREAM: last_id}, count=_READ, block=int(_BLOCK_SECONDS * 1000))
        # Redis looks for it when the reading is done: if it is there then, nothing after it can have gone before.
        pipeline.xrange(_STREAM, last_id, last_id)
        told, still_there = await pipeline.execute()
        if not still_there:
            return None
        return [Event(entry_id, _change(fields)) for _, entries in told or () for entry_id, fields in entries]

    return read


def _change(fields: dict[str, str]) -> Change | None:
    if "business_id" not in fields:
        return None
    return Change(**{field.name: fields.get(field.name) for field in dataclass_fields(Change)})  # type: ignore[arg-type]
