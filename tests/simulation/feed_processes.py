"""The processes of a simulated feed of changes, the browsers that watch at them, and the journal of what happens."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import SecretStr

from service.background import end
from service.sharing import feed as feed_module
from service.sharing import watchers as watchers_module
from service.sharing.feed import Feed
from service.sharing.store import Store
from service.sharing.watchers import Event
from tests.simulation.network import Link
from tests.simulation.redis import SimulatedRedis

STREAM: Final = feed_module._STREAM
BUSINESSES: Final = ("salon", "clinic")
SERVICES: Final = ("cut", "perm")
_NOON: Final = datetime(2027, 1, 11, 12, tzinfo=UTC)


@dataclass(eq=False)
class Announced:
    """A change that a process has announced; of its business, if it has no service."""

    number: int
    process: "Process"
    business_id: str
    service_id: str | None
    has_slot: bool
    at: int

    def __str__(self) -> str:
        what = "a slot" if self.has_slot else "any slot"
        return f"change {self.number} of process {self.process.port}: {what} of {self.business_id}/{self.service_id}"

    def concerns(self, browser: "Browser") -> bool:
        """Returns whether the browser has to see it."""
        is_of_service = browser.service_id is None or self.service_id in (None, browser.service_id)
        return browser.business_id == self.business_id and is_of_service


class Journal:
    """What has happened in a schedule, in its order."""

    def __init__(self, randomness: random.Random, redis: SimulatedRedis) -> None:
        self.random = randomness
        self.announced: list[Announced] = []
        # The rare branches that were reached.
        self.reached: Counter[str] = Counter()
        self.lines: list[str] = []
        # Set for a moment by each change.
        self.announcing = asyncio.Event()
        self._redis = redis
        self._ticks = 0

    def tick(self) -> int:
        """Returns the number of the next thing that happens."""
        self._ticks += 1
        return self._ticks

    def note(self, line: str) -> None:
        """Adds a line, to read after a failure."""
        self.lines.append(f"{self._redis.loop.time():.4f} {line}")

    def announce(self, process: "Process", business_id: str, *, without_slot: float) -> None:
        """Announces a change at a process: of a slot, or with some likelihood of a moved claim or the settings."""
        lacks_slot = self.random.random() < without_slot
        is_move = lacks_slot and self.random.random() < 0.3
        number = len(self.announced)
        body: dict[str, Any] = {}
        if is_move or not lacks_slot:
            start = _NOON + timedelta(minutes=number)
            body["service_id"] = self.random.choice(SERVICES)
            body |= {"slot_start": start.isoformat(), "slot_end": (start + timedelta(minutes=1)).isoformat()}
        change = Announced(number, process, business_id, body.get("service_id"), not lacks_slot, self.tick())
        self.announced.append(change)
        self.note(f"{change} is announced")
        process.feed.announce(business_id, body, moved=is_move)
        self.announcing.set()
        self.announcing.clear()
        assert process.answers.forgot_at(business_id) > change.at, "a cache has not forgotten a change of its process"
        assert len(process.feed._unsent) <= feed_module._UNSENT, "the unsent changes exceed their bound"

    def appended(self, *, late: bool | None = None) -> Iterable[int]:
        """Returns the numbers of the changes that Redis took; with `late`, of those whose process gave them up."""
        for fields, is_late in self._redis.appended:
            if "slot_start" in fields and late in (None, is_late):
                yield number_of(fields[fields.index("slot_start") + 1])


def number_of(slot_start: str) -> int:
    """Returns the number of a change by its slot."""
    return (datetime.fromisoformat(slot_start) - _NOON) // timedelta(minutes=1)


class ForgetfulCache:
    """A cache of a process, which notes when it has to forget."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._all = 0
        self._of_business: dict[str, int] = {}

    def forget(self, business_id: str | None) -> None:
        """Forgets a business; None for all."""
        if business_id is None:
            self._all = self._journal.tick()
        else:
            self._of_business[business_id] = self._journal.tick()

    def forgot_at(self, business_id: str) -> int:
        """Returns when it last forgot a business."""
        return max(self._all, self._of_business.get(business_id, 0))


class Process:
    """One process of the service, from its start to its end."""

    def __init__(self, journal: Journal, link: Link, port: int) -> None:
        self.port = port
        self.link = link
        self.answers = ForgetfulCache(journal)
        self.settings = ForgetfulCache(journal)
        self.started_at = journal.tick()
        self.is_running = True
        # Whether it was killed, or stopped while Redis did not answer, and so has taken its last changes with it.
        self.ended_owing = False
        self._journal = journal
        self.store = Store(SecretStr(f"redis://simulated:{port}/0"))
        self.feed = Feed(self.store, self.answers.forget, forget_settings=[self.settings.forget])
        self.feed.start()
        self._watch = asyncio.create_task(self.store.watch())

    async def stop(self) -> None:
        """Ends it in order, as the service does."""
        self.is_running = False
        if self.feed._unsent or self.feed._owes_gap:
            self._journal.reached["stopped with unsent changes"] += 1
        await end([self._watch])
        await self.feed.stop()
        self.ended_owing = self.feed._owes_gap and not self.store.up
        await self.store.close()

    async def kill(self) -> None:
        """Ends it at whatever it awaits."""
        self.is_running = False
        self.ended_owing = True
        await end([self._watch, *self.feed._tasks])
        self.feed._watchers.end()
        self.link.cut()
        await self.store.close()


class Browser:
    """A browser that watches. It loads at first and after a resync, and reconnects to any process with its last id."""

    def __init__(self, journal: Journal, processes: list[Process], slowness: float, *, is_restless: bool) -> None:
        self.business_id = journal.random.choice(BUSINESSES)
        self.service_id = journal.random.choice([None, *SERVICES])
        self.is_calm = False
        self.loaded_at: int | None = None
        self.loads = 0
        self.seen: set[int] = set()
        self._journal = journal
        self._random = journal.random
        self._processes = processes
        # How often it is slow to read.
        self._slowness = slowness
        self._is_restless = is_restless
        self._last_id: str | None = None
        self._reading: asyncio.Task[None] | None = None
        # By process, its latest change since the last load, of those that came through Redis.
        self._latest: dict[Process, int] = {}

    async def run(self) -> None:
        """Watches for ever. Until it is calm, it disconnects now and then."""
        await asyncio.sleep(self._random.uniform(0, 0.5))
        while True:
            running = [process for process in self._processes if process.is_running]
            if running:
                self._reading = asyncio.create_task(self._read(self._random.choice(running)))
                may_leave = self._is_restless and not self.is_calm and self._random.random() < 0.5
                patience = self._random.uniform(0, 0.5) if may_leave else None
                await asyncio.wait([self._reading], timeout=patience)
                await self.disconnect()
            await asyncio.sleep(0.01 if self.is_calm else self._random.choice([0.0, 0.1, 0.4]))

    async def disconnect(self) -> None:
        """Disconnects, at whatever the stream awaits. Raises what it has raised."""
        if reading := self._reading:
            await end([reading])
            with suppress(asyncio.CancelledError):
                reading.result()

    async def _read(self, process: Process) -> None:
        name = f"{self.business_id}/{self.service_id} at {process.port}"
        begins_at = process.feed.last_id
        watcher = process.feed.watch(self.business_id, self.service_id, self._last_id, None)
        self._journal.note(f"{name} connects, from {self._last_id}")
        if self._last_id is None:
            self._last_id = begins_at
            self._load()
        try:
            while event := await watcher.next_event():
                self._journal.note(f"{name} receives {event}")
                self._receive(process, event)
                assert len(watcher._events) <= watchers_module.BACKLOG, "the backlog exceeds its bound"
                if not self.is_calm and self._random.random() < self._slowness:
                    await asyncio.sleep(self._random.uniform(0, 0.3))
        finally:
            watcher.close()

    def _load(self) -> None:
        self.loaded_at = self._journal.tick()
        self.loads += 1
        self._latest.clear()

    def _receive(self, process: Process, event: Event) -> None:
        self._last_id = event.id
        change = event.change
        assert change is None or change.business_id == self.business_id, "an event of another business"
        assert change is None or change.concerns(self.service_id), "an event of another service"
        if change is None or change.slot_start is None:
            self._load()
            return
        announced = self._journal.announced[number_of(change.slot_start)]
        assert process.answers.forgot_at(change.business_id) > announced.at, (
            "an event came before its cache forgot the business"
        )
        # A change that did not come through Redis, or late, has no place in the order; nor has a repetition.
        is_ordered = "-" in event.id and announced.number not in self._journal.appended(late=True)
        if is_ordered and announced.number not in self.seen:
            latest = self._latest.get(announced.process, -1)
            assert latest < announced.number, f"{announced} came after change {latest}"
            self._latest[announced.process] = announced.number
        self.seen.add(announced.number)
