"""Group commit: one call to PostgreSQL for all the requests that came while the last one was under way.

A transaction for each request wastes most of its time on round trips, locks and fsync, and on a hot slot it
queues everybody behind one row lock. Here requests wait in a bounded queue; a lane takes what is there, of
as many tenants as there are, and sends it as one call. No artificial delay: an idle service sends batches of one.

What can happen to a request, in the order in which it is looked at:

- it can't be its turn in time, or its tenant has as much of the queue as there is left for all: refused at once;
- its caller goes away: it is dropped, unless a call with it is under way;
- its deadline passes while it waits: refused, nothing was sent;
- its tenant's lock was taken by another batch (`deferred`): it goes first in the next call;
- its call fails as a whole: it is sent again by itself, so that one bad request never fails its neighbours;
- its answer is lost: it is sent again by itself, but only after the deadline that the first call carried. From
  then on the verbs refuse whatever is left of that call, and if it had its effect they know the
  operation id and answer what was recorded. So it has one effect.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID
from weakref import WeakValueDictionary

import psycopg
import structlog

from service import metrics
from service.database.connections import (
    ATTEMPTS,
    FIRST_PAUSE_SECONDS,
    REQUEST_SECONDS,
    STATEMENT_SECONDS,
    Database,
    is_connection_lost,
    is_lock_timeout,
    is_passing,
    translated,
)
from service.errors import DatabaseDown, Overloaded
from service.telemetry import note

# How long one call may take to get its lock. Less than a request's time, so that after a lost answer there is
# time left to find out.
CALL_SECONDS: Final = 3.0

# How long after a lost answer its request is sent again: when the lost call's deadline has passed for certain,
# by a server's clock that is measured to a few milliseconds.
RESEND_SECONDS: Final = CALL_SECONDS + 0.1

# Requests that wait in one process. At a few thousand a second this is about a second's work.
MAX_QUEUE: Final = 4000

# How long a request may wait for its turn and still have time for its call.
QUEUE_SECONDS: Final = REQUEST_SECONDS - CALL_SECONDS

_ANSWERED: Final = metrics.BATCHES.labels("answered")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb answered: 'done', 'replayed', or a refusal, and what there is to say about it."""

    name: str
    body: dict[str, Any] | None


@dataclass(slots=True, eq=False)
class Operation:
    """One request on its way: a verb of one tenant with its arguments, and where to put the outcome."""

    tenant: str
    verb: str
    operation_id: UUID
    arguments: dict[str, object]
    submitted_at: float
    # How many of its tenant's waited when it came.
    ahead: int
    # Until the call that decided it was sent.
    waited_seconds: float = 0.0
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def seconds_left(self) -> float:
        """Until the caller gives up."""
        return self.submitted_at + REQUEST_SECONDS - time.monotonic()

    def succeed(self, outcome: Outcome) -> None:
        """Tells the caller, if it is still there."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Tells the caller, if it is still there."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class GroupCommit:
    """The queue of one process and the lanes that empty it.

    `max_batch` is how many requests one call carries. With 1 each request is a call of its own, as many at
    once as there are lanes: what group commit is compared with. `lanes` is how many calls are under way at once.
    """

    def __init__(self, database: Database, *, max_batch: int, lanes: int) -> None:
        self._database = database
        self._max_batch = max_batch
        self._lane_count = lanes
        self._queues: dict[str, deque[Operation]] = {}
        self._waiting = 0
        # By tenant, of those with somebody waiting.
        self._seconds_a_place: dict[str, float] = {}
        self._in_flight: set[str] = set()
        self._contended: set[str] = set()
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._singles = asyncio.Semaphore(lanes)
        # Forgets a tenant when nobody waits for its turn any more.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def start(self) -> None:
        """Starts the lanes, in the running event loop."""
        for _ in range(self._lane_count):
            self._spawn(self._lane())

    async def stop(self) -> None:
        """Ends the lanes. The server calls it when every request has been answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def submit(self, verb: str, tenant: str, operation_id: UUID, arguments: dict[str, object]) -> Outcome:
        """Runs a verb and returns its outcome.

        `operation_id` names the operation for good: it is sent again under the same id, never under another.
        Raises `Overloaded` (the queue is full, or it was not this request's turn in time, or five attempts
        failed) or `DatabaseDown`. After `DatabaseDown` the operation may have had its effect, once.
        """
        ahead = len(self._queues.get(tenant, ()))
        if not self._has_time_for(tenant, ahead):
            metrics.REFUSED_BY_QUEUE.inc()
            raise Overloaded
        operation = Operation(
            tenant,
            verb,
            operation_id,
            {"operation_id": str(operation_id), **arguments},
            time.monotonic(),
            ahead,
        )
        self._enqueue([operation])
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                outcome = await operation.outcome
        except TimeoutError:
            raise DatabaseDown from None
        note(outcome=outcome.name, queue_ms=round(operation.waited_seconds * 1000, 2))
        return outcome

    # The queue.

    def _has_time_for(self, tenant: str, ahead: int) -> bool:
        """Whether there is room for one more of this tenant, and its turn would come in time.

        A tenant may have as many waiting as there is room left. So one alone has half of the queue at most, several
        that storm share it, and whoever comes with a single request finds room.

        How long a place in the queue takes is known from the last of this tenant that went: it had so many ahead of it
        and waited for so long. Where nobody of the tenant waits, nothing is known and nobody is refused.
        """
        return ahead < MAX_QUEUE - self._waiting and ahead * self._seconds_a_place.get(tenant, 0.0) <= QUEUE_SECONDS

    def _enqueue(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self._queues.setdefault(operation.tenant, deque()).append(operation)
            self._waiting += 1
        metrics.QUEUE_DEPTH.set(self._waiting)
        self._arrived.set()

    def _put_back(self, operations: list[Operation]) -> None:
        """Operations that were deferred go first, within their tenant and before the other tenants."""
        for operation in reversed(operations):
            queue = self._queues.pop(operation.tenant, deque())
            queue.appendleft(operation)
            self._queues = {operation.tenant: queue, **self._queues}
            self._waiting += 1
        metrics.QUEUE_DEPTH.set(self._waiting)
        self._arrived.set()

    def _take(self) -> list[Operation]:
        """The next batch: a fair share of each tenant that waits, the longest-waiting tenant first.

        A tenant with a batch under way waits: its next batch would only queue up behind the same lock, and
        the longer it waits here the more requests share one call. A tenant whose lock timed out last time
        goes alone, and only one such at a time, so that they keep nobody else waiting.
        """
        each_alone = self._max_batch == 1
        while ready := [tenant for tenant in self._queues if each_alone or self._may_go(tenant)]:
            if ready[0] in self._contended:
                ready = ready[:1]
            else:
                ready = [tenant for tenant in ready if tenant not in self._contended][: self._max_batch]
            share = self._max_batch // len(ready)
            if batch := [operation for tenant in ready for operation in self._take_of(tenant, share)]:
                return batch
        return []

    def _may_go(self, tenant: str) -> bool:
        if tenant in self._contended and self._contended & self._in_flight:
            return False
        return tenant not in self._in_flight

    def _take_of(self, tenant: str, share: int) -> list[Operation]:
        queue = self._queues.pop(tenant)
        taken: list[Operation] = []
        while queue and len(taken) < share:
            operation = queue.popleft()
            self._waiting -= 1
            if operation.outcome.done():
                continue  # the caller has gone away
            if operation.seconds_left() <= 0:
                metrics.REFUSED_BY_QUEUE.inc()
                operation.fail(Overloaded())
                continue
            taken.append(operation)
        if queue:
            self._queues[tenant] = queue  # behind the others
            if taken:
                last = taken[-1]
                # A batch full of places goes at once, whether all of them were taken or not.
                places = max(last.ahead, self._max_batch)
                self._seconds_a_place[tenant] = (time.monotonic() - last.submitted_at) / places
        else:
            self._seconds_a_place.pop(tenant, None)
        return taken

    def _take_all(self) -> list[Operation]:
        waiting = [operation for queue in self._queues.values() for operation in queue]
        self._queues.clear()
        self._seconds_a_place.clear()
        self._waiting = 0
        metrics.QUEUE_DEPTH.set(0)
        return waiting

    # The lanes.

    async def _lane(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            metrics.QUEUE_DEPTH.set(self._waiting)
            if not batch:
                self._arrived.clear()
                continue
            tenants = {operation.tenant for operation in batch}
            self._in_flight |= tenants
            try:
                await self._send_batch(batch)
            finally:
                self._in_flight -= tenants
                self._arrived.set()

    async def _send_batch(self, batch: list[Operation]) -> None:
        try:
            deferred = await self._call(batch)
        except DatabaseDown as down:
            # No connection could be had in time, for anybody: whoever waits has waited long enough.
            for operation in [*batch, *self._take_all()]:
                operation.fail(down)
        except Exception as error:
            log.info("batch_failed", requests=len(batch), error=_name(error))
            if is_lock_timeout(error):
                # Only the first tenant's lock is ever waited for.
                self._contended.add(batch[0].tenant)
            for operation in batch:
                self._spawn(self._send_again(operation, error))
        else:
            self._contended -= {operation.tenant for operation in batch}
            if deferred:
                self._put_back(deferred)

    async def _send_again(self, operation: Operation, error: Exception) -> None:
        """Sends a request by itself until it is answered, it is too late, or there is no point in it."""
        attempt = 1
        shared = True
        while not operation.outcome.done():
            if is_connection_lost(error):
                pause = RESEND_SECONDS
            elif is_passing(error) and attempt < ATTEMPTS:
                pause = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(1, 1.5)
                attempt += 1
            elif shared and not is_passing(error):
                pause = 0.0  # perhaps it was a neighbour's fault
            else:
                operation.fail(translated(error))
                return
            if pause >= operation.seconds_left():
                operation.fail(translated(error))
                return
            await asyncio.sleep(pause)
            shared = False
            try:
                # One at a time of each tenant: if its lock is what is missing, the others have the other places.
                async with self._turns.setdefault(operation.tenant, asyncio.Lock()), self._singles:
                    if operation.outcome.done():
                        return
                    if operation.seconds_left() <= 0:
                        operation.fail(translated(error))
                        return
                    if not await self._call([operation]):
                        return
            except DatabaseDown as down:
                operation.fail(down)
            except Exception as latest:
                error = latest

    async def _call(self, operations: list[Operation]) -> list[Operation]:
        """One call with all the operations. Hands out the outcomes and returns the operations that were deferred."""
        by_id = {operation.operation_id: operation for operation in operations}
        seconds = min(CALL_SECONDS, *(operation.seconds_left() for operation in operations))
        try:
            async with self._database.connection() as connection:
                sent_at = time.monotonic()
                rows = await self._rows(connection, _batches(operations), seconds)
        except Exception as error:
            metrics.BATCHES.labels("lost" if is_connection_lost(error) else "failed").inc()
            raise
        _ANSWERED.inc()
        metrics.BATCH_SIZE.observe(len(operations))
        deferred = []
        for operation_id, outcome, body in rows:
            if outcome == "lock_waited":
                metrics.LOCK_WAIT_SECONDS.observe(body["seconds"])
                log.debug("lock_waited", seconds=body["seconds"], requests=len(operations))
            elif outcome == "deferred":
                deferred.append(by_id[operation_id])
            else:
                operation = by_id[operation_id]
                operation.waited_seconds = sent_at - operation.submitted_at
                metrics.QUEUE_WAIT_SECONDS.observe(operation.waited_seconds)
                metrics.count_decision(operation.verb, outcome)
                operation.succeed(Outcome(outcome, body))
        return deferred

    async def _rows(
        self, connection: psycopg.AsyncConnection, batches: list[dict[str, object]], seconds: float
    ) -> list[tuple[Any, ...]]:
        deadline = self._database.deadline(seconds)
        try:
            async with asyncio.timeout(STATEMENT_SECONDS + 1):
                return await self._database.rows(connection, "execute", json.dumps(batches), deadline)
        except TimeoutError as error:
            # The server would have ended the statement by now: it is out of reach, and so is its answer.
            await connection.close()
            raise psycopg.OperationalError("no answer in time") from error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _batches(operations: list[Operation]) -> list[dict[str, object]]:
    """The operations as `booking.execute` takes them: by tenant, and within it by verb, in their order."""
    batches: dict[str, dict[str, Any]] = {}
    for operation in operations:
        batch = batches.setdefault(operation.tenant, {"business_id": operation.tenant})
        batch.setdefault(operation.verb, []).append(operation.arguments)
    return list(batches.values())


def _name(error: Exception) -> str:
    """What kind of error it is, without its text: that may quote a caller's data."""
    return getattr(error, "sqlstate", None) or type(error).__name__
