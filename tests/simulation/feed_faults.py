"""The faults of one schedule of the feed of changes: those of the network, of Redis, and of processes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from tests.simulation.feed_processes import STREAM, Browser, Journal, Process
from tests.simulation.network import CALM_SECONDS, Link
from tests.simulation.redis import SimulatedRedis

_JUNK: Final = (
    ["member", "of another program"],
    ["business_id", "salon", "service_id", "cut", "slot_start", "noon", "slot_end", "later"],
)


class FeedFaults:
    """Causes faults. Each ends by itself."""

    def __init__(
        self,
        journal: Journal,
        redis: SimulatedRedis,
        processes: list[Process],
        browsers: list[Browser],
        restart: Callable[[Process], None],
    ) -> None:
        self._journal = journal
        self._random = journal.random
        self._redis = redis
        self._processes = processes
        self._browsers = browsers
        self._restart = restart
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "slow link": self._slow_link,
            "stalled link": self._stalled_link,
            "cut link": self._cut_link,
            "refused link": self._refused_link,
            "frozen Redis": self._frozen_redis,
            "failed Redis": self._failed_redis,
            "replaced Redis": self._replaced_redis,
            "full Redis": self._full_redis,
            "flushed Redis": self._flushed_redis,
            "trimmed stream": self._trimmed_stream,
            "foreign entry": self._foreign_entry,
            "ended process": self._ended_process,
            "process ended after an outage": self._ended_after_outage,
        }

    async def cause(self, count: int, kinds: Sequence[str]) -> None:
        """Causes faults of some kinds, or of a few of all, one after the other, most while a change is under way.

        A schedule has few kinds: the resync after one fault would hide what another one has broken.
        """
        kinds = kinds or self._random.sample(list(self._faults), self._random.choice([1, 2]))
        for _ in range(count):
            await asyncio.sleep(self._random.uniform(0, 0.4))
            await self._soon(self._random.choice([self._journal.announcing, self._redis.appending]))
            kind = self._random.choice(kinds)
            self._journal.note(f"{kind}: begins")
            await self._faults[kind]()
            self._journal.note(f"{kind}: ends")
            if self._random.random() < 0.2:
                await self._random.choice(self._browsers).disconnect()

    async def _soon(self, event: asyncio.Event) -> None:
        """Returns soon after an event, if there is one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), 0.5)
        await asyncio.sleep(self._random.uniform(0, 2 * CALM_SECONDS))

    async def _some_time(self) -> None:
        await asyncio.sleep(self._random.choice([0.0, 0.03, 0.1, 0.3, 1.0]))

    def _link(self) -> Link:
        return self._random.choice(self._processes).link

    async def _slow_link(self) -> None:
        link = self._link()
        link.slowest_seconds = 0.1
        await self._some_time()
        link.slowest_seconds = link.usual_seconds

    async def _stalled_link(self) -> None:
        link = self._link()
        link.stall(*self._random.choice([["to_server"], ["to_client"], ["to_server", "to_client"]]))
        await self._some_time()
        link.release()

    async def _cut_link(self) -> None:
        self._link().cut()

    async def _refused_link(self) -> None:
        link = self._link()
        link.is_refused = True
        link.cut()
        await self._some_time()
        link.is_refused = False

    async def _frozen_redis(self) -> None:
        self._redis.freeze()
        await self._some_time()
        self._redis.thaw()

    async def _failed_redis(self) -> None:
        self._redis.fail(lost_seconds=self._random.choice([0.0, 0.1, 1e9]))
        await self._some_time()
        self._redis.start()

    async def _replaced_redis(self) -> None:
        """A replica takes over at once, without what it has not received yet."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._redis.appending.wait(), 0.5)
        # Long enough for the writer to have its answer, and not for a reader that is farther away.
        await asyncio.sleep(CALM_SECONDS)
        self._redis.fail(lost_seconds=2 * CALM_SECONDS)
        self._redis.start()

    async def _full_redis(self) -> None:
        self._redis.is_full = True
        await self._some_time()
        self._redis.is_full = False

    async def _flushed_redis(self) -> None:
        self._redis.flush()

    async def _trimmed_stream(self) -> None:
        self._redis.trim(STREAM, self._random.choice([0, 1, 2]))

    async def _foreign_entry(self) -> None:
        self._redis.append(STREAM, self._random.choice(_JUNK))
        self._redis.wake_readers()

    async def _ended_process(self) -> None:
        process = self._random.choice(self._processes)
        if process.is_running:
            await self._random.choice([process.stop, process.kill])()
            await self._some_time()
            self._restart(process)

    async def _ended_after_outage(self) -> None:
        """A process stops when its Redis has just come back."""
        process = self._random.choice(self._processes)
        process.link.is_refused = True
        process.link.cut()
        for _ in range(80):
            if process.feed._owes_gap:
                break
            await asyncio.sleep(0.01)
        process.link.is_refused = False
        while process.is_running and not process.store.up:  # noqa: ASYNC110 — a store has no event for it
            await asyncio.sleep(0.01)
        await asyncio.sleep(self._random.uniform(0, 2 * CALM_SECONDS))
        if process.is_running:
            await process.stop()
            self._restart(process)
