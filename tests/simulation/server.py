"""A PostgreSQL as group commit sees it: locks, deadlines, failures and lost answers, in simulated time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import psycopg
from psycopg.types.json import Jsonb

from service.database.connections import LOCK_SECONDS, STATEMENT_SECONDS
from service.database.failures import NoAnswer
from service.errors import DatabaseDown
from tests.simulation.loop import SimulatedLoop

_NOT_LOCKED: Final = psycopg.errors.lookup("55P03")
_DEADLOCK: Final = psycopg.errors.lookup("40P01")
_DEFECT: Final = psycopg.errors.lookup("22P02")


class DeadlinePassed(psycopg.Error):
    """The verbs' own error."""

    sqlstate = "HF001"


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is, for one call."""

    deadlock: float = 0.0
    # The connection breaks before the call arrives, while it runs on the server, or after it.
    lost: float = 0.0
    # The call takes longer than a second to arrive.
    slow: float = 0.0
    no_connection: float = 0.0
    # One request of the call is deferred.
    deferred: float = 0.0


@dataclass(slots=True)
class SentCall:
    """One call of booking.execute."""

    operation_ids: list[str]
    business_ids: list[str]
    is_single: bool
    sent_at: float
    deadline: float
    # When the process got its answer or its error, and whether it knows then that the call has no effect any more.
    ended_at: float | None = None
    is_known_dead: bool = False
    sqlstate: str | None = None
    deferred_ids: set[str] = field(default_factory=set)


@dataclass
class SimulatedDatabase:
    """The part of `Database` that group commit uses, and the server behind it."""

    loop: SimulatedLoop
    random: random.Random
    faults: Faults
    on_sent: Any
    connections: int = 8
    calls: list[SentCall] = field(default_factory=list)
    # The operations that had their effect, each as often as it did.
    effects: list[str] = field(default_factory=list)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.connections)

    # What group commit calls.

    async def refuse_if_down(self, business_id: str) -> None:
        """Never refuses: the breaker has a simulation of its own."""

    @asynccontextmanager
    async def connection(self, business_id: str) -> AsyncIterator[None]:  # noqa: ARG002 — to any
        """Waits for a connection."""
        async with self._free:
            await asyncio.sleep(self._seconds(0.005))
            if self._happens(self.faults.no_connection):
                raise DatabaseDown
            yield

    def deadline(self, seconds: float) -> float:
        """Returns the instant in this number of seconds by the clock of the server, which is a little wrong."""
        return self.loop.time() + seconds + self.random.uniform(-0.005, 0.005)

    async def rows(
        self, _: None, name: str, business_ids: list[str], batches: list[Jsonb], deadline: float
    ) -> list[tuple[Any, ...]]:
        """Sends a call, and returns its rows or raises its error."""
        assert name == "execute"
        requests = [
            (business, request)
            for business, batch in zip(business_ids, batches, strict=True)
            for some in orjson.loads(batch.obj).values()
            for request in some
        ]
        task = asyncio.current_task()
        is_single = task is not None and "_send_again" in repr(task.get_coro())
        ids = [request["operation_id"] for _, request in requests]
        call = SentCall(ids, business_ids, is_single, self.loop.time(), deadline)
        self.on_sent(call)
        self.calls.append(call)
        try:
            rows = await self._answer(call, requests)
        except psycopg.Error as error:
            call.sqlstate = error.sqlstate
            call.is_known_dead = error.sqlstate is not None
            raise
        else:
            call.is_known_dead = True
            call.deferred_ids = {operation_id for operation_id, outcome, _ in rows if outcome == "deferred"}
            return rows
        finally:
            call.ended_at = self.loop.time()

    # The network and the server.

    async def _answer(self, call: SentCall, requests: list[tuple[str, dict[str, Any]]]) -> list[tuple[Any, ...]]:
        is_lost = self._happens(self.faults.lost)
        if is_lost and self._happens(0.3):
            await asyncio.sleep(self._seconds(0.02))
            raise psycopg.OperationalError("lost on its way")
        server = self.loop.create_task(self._execute(call, requests))
        self._tasks.add(server)
        server.add_done_callback(self._tasks.discard)
        server.add_done_callback(asyncio.Task.exception)  # the call may be lost by then
        if is_lost and self._happens(0.5):
            await asyncio.sleep(self._seconds(0.05))
            raise psycopg.OperationalError("lost while it runs")
        ended, _ = await asyncio.wait([server], timeout=STATEMENT_SECONDS + 1)
        if not ended:
            raise NoAnswer("no answer in time")
        if is_lost:
            raise psycopg.OperationalError("the answer was lost")
        await asyncio.sleep(self._seconds(0.01))
        return server.result()

    async def _execute(self, call: SentCall, requests: list[tuple[str, dict[str, Any]]]) -> list[tuple[Any, ...]]:
        """Locks, checks the deadline, decides, and commits: as sql/functions/verbs/execute.sql does."""
        await asyncio.sleep(self._seconds(4.0 if self._happens(self.faults.slow) else 0.01))
        held = []
        try:
            held = await self._lock(call.business_ids)
            if self.loop.time() >= call.deadline:
                raise DeadlinePassed
            await asyncio.sleep(self._seconds(0.05))
            if self._happens(self.faults.deadlock):
                raise _DEADLOCK
            return self._decide(requests, held)
        finally:
            for business in held:
                self.locks[business].release()

    async def _lock(self, business_ids: list[str]) -> list[str]:
        """Waits for the first business, and takes the others if they are free."""
        first, *others = business_ids
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                await self.lock(first).acquire()
        except TimeoutError:
            raise _NOT_LOCKED from None
        held = [first]
        for business in others:
            if not self.lock(business).locked():
                await self.lock(business).acquire()
                held.append(business)
        return held

    def _decide(self, requests: list[tuple[str, dict[str, Any]]], held: list[str]) -> list[tuple[Any, ...]]:
        if any(request.get("is_defect") for business, request in requests if business in held):
            raise _DEFECT
        rows: list[tuple[Any, ...]] = []
        for business, request in requests:
            operation_id = request["operation_id"]
            # A request that is alone in its call depends on no other, and needs one round.
            if business not in held or (len(requests) > 1 and self._happens(self.faults.deferred)):
                rows.append((operation_id, "deferred", None))
            elif request.get("is_refused"):
                rows.append((operation_id, "slot_unavailable", None))
            else:
                if operation_id not in self.effects:
                    self.effects.append(operation_id)
                rows.append((operation_id, "done", b"{}"))
        self.random.shuffle(rows)
        return rows

    def lock(self, business: str) -> asyncio.Lock:
        """Returns the lock of a business."""
        return self.locks.setdefault(business, asyncio.Lock())

    async def until_idle(self) -> None:
        """Returns when the server works on no call any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _seconds(self, most: float) -> float:
        return self.random.uniform(0, most)

    def _happens(self, likelihood: float) -> bool:
        return self.random.random() < likelihood
