"""The feed of changes, for browsers that watch a calendar: the slots that have more or less room now. It has no names.

With Redis, each process appends its changes to one stream and reads those of all; without, it has its own changes only.
The feed may lose changes, but never silently: a watcher that may have missed one gets a `resync`. A process that could
not append a change appends a gap as soon as it can, and a reader notices if the entry after which it reads is gone, or
if another run of Redis answers, which may have lost later entries. An entry that is none of ours counts as a gap. Only
a process that is killed, or stops while Redis does not answer, takes its last changes with it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from uuid import uuid4

from pydantic import AfterValidator, TypeAdapter, ValidationError

from service.background import end, in_background
from service.sharing.store import WATCH_SECONDS, Store, StoreDown
from service.sharing.watchers import BACKLOG, Change, Event, Watcher, Watchers

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

# Events that a watcher can resume from, and entries of the stream: those of a busy minute.
_REMEMBERED: Final = 5_000
# How long events are recorded after the last watcher has left. Browsers reconnect within seconds.
_RESUME_SECONDS: Final = 60.0
# Changes on their way to Redis. They are sent in one call, so there are few, unless it hangs.
_UNSENT: Final = 1_000
_STREAM: Final = "holdfast:changes"
# The entry that stands for changes which were not appended.
_GAP: Final[Any] = {"gap": "1"}
# How long one read waits for entries, and how many it takes.
_BLOCK_SECONDS: Final = 5.0
_READ: Final = 500


def _check_slot(change: Change) -> Change:
    """Refuses a half of a slot, and instants without an offset."""
    slot = [datetime.fromisoformat(text) for text in (change.slot_start, change.slot_end) if text is not None]
    if len(slot) == 1 or any(instant.tzinfo is None for instant in slot):
        raise ValueError("has no slot")
    return change


# Reads a change from an entry of the stream.
_ENTRY: Final[TypeAdapter[Change]] = TypeAdapter(Annotated[Change, AfterValidator(_check_slot)])

# Gives no more answers about a business, or about any with None, from before now.
Forget = Callable[[str | None], None]


class _Position(NamedTuple):
    """Where a reader is in the stream: after an entry that it read from one run of Redis."""

    last_id: str
    run_id: str | None


class Feed:
    """Records changes and sends them to watchers. Calls `forget_answers` with each business that has changed, and
    `forget_settings` with each whose settings may have changed."""

    def __init__(self, store: Store, *forget_answers: Forget, forget_settings: Iterable[Forget] = ()) -> None:
        self._store = store
        self._forget_answers = forget_answers
        self._forget_settings = tuple(forget_settings)
        self._watchers = Watchers()
        self._unsent: deque[Change] = deque()
        # Whether a gap has to be appended to the stream.
        self._owes_gap = False
        self._something_to_send = asyncio.Event()
        # Held while changes are on their way to Redis.
        self._sending = asyncio.Lock()
        # The latest events, without a gap, and the id of the event before them; None if no watcher can have it.
        self._events: deque[Event] = deque()
        self._before: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts to exchange changes with other processes, if there is a Redis."""
        if self._store.exists:
            self._tasks = [
                in_background("send changes", self._send()),
                in_background("receive changes", self._receive()),
            ]

    async def stop(self) -> None:
        """Sends the last changes, stops the exchange and ends all watchers."""
        # A cancelled call may have no effect, and no later one would tell the other processes.
        async with self._sending:
            await end(self._tasks)
        if self._unsent or self._owes_gap:
            await self._send_unsent()
        self.end_watchers()

    def end_watchers(self) -> None:
        """Ends each watcher after the events that are queued for it."""
        self._watchers.end()

    def announce(self, business_id: str, body: dict[str, Any] | Callable[[], dict[str, Any]], *, moved: bool) -> None:
        """Publishes what a verb changed, by the body of its outcome. Never waits and never fails.

        The body may be a function that reads it, which is called if somebody watches: then no settings have changed.

        A claim that was `moved` left a slot that the body does not name: any slot of the service may have room then. A
        body without a service concerns all services of the business.
        """
        self._forget(business_id, has_settings=isinstance(body, dict) and "slot_start" not in body)
        if not self._store.exists and not self._watchers.any_within(_RESUME_SECONDS):
            self._skip_to(None)
            return
        body = body if isinstance(body, dict) else body()
        slot = (None, None) if moved else (body.get("slot_start"), body.get("slot_end"))
        change = Change(business_id, body.get("service_id"), body.get("resource_id"), *slot)
        if self._store.up and len(self._unsent) < _UNSENT:
            self._unsent.append(change)
            self._something_to_send.set()
        else:
            self._publish_own([change])

    def watch(self, business_id: str, service_id: str | None, last_event_id: str | None, client: str | None) -> Watcher:
        """Adds a watcher, which first gets the events since `last_event_id`, or a resync if they are not known.

        With the name of its `client`, the watchers of that client are bounded. Raises `Overloaded`.
        """
        missed = self._since(last_event_id, business_id, service_id)
        return self._watchers.add(business_id, service_id, client, missed)

    @property
    def last_id(self) -> str:
        """The id of the latest event, from which a watcher that starts now can resume."""
        if self._events:
            return self._events[-1].id
        if self._before is None:
            self._before = _new_id()
        return self._before

    def _forget(self, business_id: str | None, *, has_settings: bool) -> None:
        """Gives no more answers about a business, or about any with None, from before a change, which may be one of its
        settings."""
        for forget in self._forget_answers:
            forget(business_id)
        if has_settings:
            for forget in self._forget_settings:
                forget(business_id)

    def _since(self, last_event_id: str | None, business_id: str, service_id: str | None) -> list[Event]:
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

    def _publish(self, event: Event) -> None:
        if event.change is None:
            self._publish_gap(event.id)
            return
        self._forget(event.change.business_id, has_settings=event.change.slot_start is None)
        if not self._watchers.any_within(_RESUME_SECONDS):
            self._skip_to(event.id)
            return
        self._events.append(event)
        if len(self._events) > _REMEMBERED:
            self._before = self._events.popleft().id
        self._watchers.send(event)

    def _publish_own(self, changes: list[Change]) -> None:
        """Publishes changes that Redis cannot take now in this process; other processes get a gap later."""
        for change in changes:
            self._publish(Event(_new_id(), change))
        if self._store.exists:
            self._owes_gap = True
            self._something_to_send.set()

    def _publish_gap(self, event_id: str) -> None:
        """Makes all watchers load again: changes before this event may have been missed."""
        self._forget(None, has_settings=True)
        self._skip_to(event_id)
        self._watchers.send(Event(event_id))

    def _skip_to(self, event_id: str | None) -> None:
        """Moves on to an event that is not recorded. A watcher that resumes from an earlier id gets a resync."""
        self._events.clear()
        self._before = event_id

    async def _send(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            async with self._sending:
                was_sent = await self._send_unsent()
            if not was_sent:
                await asyncio.sleep(WATCH_SECONDS / 4)

    async def _send_unsent(self) -> bool:
        """Appends the unsent changes, after a gap if one is owed. Returns whether Redis took them."""
        changes, owes_gap = list(self._unsent), self._owes_gap
        self._unsent.clear()
        self._owes_gap = False
        try:
            await self._store.ask("feed", partial(_add, changes, owes_gap))
        except StoreDown:
            self._publish_own(changes)
            return False
        return True

    async def _receive(self) -> None:
        position: _Position | None = None
        while True:
            try:
                if position is None:
                    position = await self._store.ask("feed", _end_of_stream)
                    self._publish_gap(position.last_id)
                events = await self._store.wait("feed", partial(_read_after, position), _BLOCK_SECONDS)
                if events is None:
                    position = None
                    continue
                for event in events:
                    self._publish(event)
                    position = position._replace(last_id=event.id)
            except StoreDown:
                if position is not None:
                    position = None
                    self._publish_gap(_new_id())
                await asyncio.sleep(WATCH_SECONDS / 4)


def _new_id() -> str:
    """Returns an id for an event that Redis has not numbered. A counter would reveal how busy other businesses are."""
    return uuid4().hex


async def _add(changes: list[Change], after_gap: bool, redis: "Redis") -> None:
    pipeline = redis.pipeline(transaction=False)
    if after_gap:
        _append(pipeline, _GAP)
    for change in changes:
        _append(pipeline, {name: value for name, value in change._asdict().items() if value is not None})
    await pipeline.execute()


def _append(redis: "Redis | Pipeline", fields: Any) -> Awaitable[Any]:
    return redis.xadd(_STREAM, fields, maxlen=_REMEMBERED, approximate=True)


async def _end_of_stream(redis: "Redis") -> _Position:
    """Returns the position after the latest entry. An empty stream gets one: its absence later shows that entries were
    lost."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.xrevrange(_STREAM, count=1)
    newest, run_id = await _execute(pipeline)
    return _Position(str(newest[0][0] if newest else await _append(redis, _GAP)), run_id)


async def _read_after(position: _Position, redis: "Redis") -> list[Event] | None:
    """Reads the entries after a position; None if its entry is gone, or its run is over: later entries may be gone too.

    A Redis that starts again, or a replica that takes over, may have the entry and not those that followed. The client
    connects to it without an error if it answers at once.
    """
    pipeline = redis.pipeline(transaction=False)
    pipeline.xread({_STREAM: position.last_id}, count=_READ, block=int(_BLOCK_SECONDS * 1000))
    # Runs after the read: if the entry is still there then, no entry after it was gone before.
    pipeline.xrange(_STREAM, position.last_id, position.last_id)
    streams, still_there, run_id = await _execute(pipeline)
    if not still_there or run_id != position.run_id:
        return None
    return [Event(entry_id, _change(fields)) for _, entries in streams or () for entry_id, fields in entries]


async def _execute(pipeline: "Pipeline") -> list[Any]:
    """Runs a pipeline. Returns its answers and then the id of the run of Redis; None if it is unknown."""
    pipeline.info("server")
    *answers, server = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    # INFO is among the commands that operators take from a user who needs only data.
    return [*answers, server.get("run_id") if isinstance(server, dict) else None]


def _change(fields: dict[str, str]) -> Change | None:
    """Returns the change of an entry; None for a gap, and for an entry that no process of ours wrote."""
    try:
        return _ENTRY.validate_python(fields)
    except ValidationError:
        return None
