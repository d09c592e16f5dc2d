"""The queue of one process: requests wait for the next call, and those of one tenant don't keep the others waiting."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from service.database.connections import REQUEST_SECONDS
from service.errors import DatabaseDown, Overloaded
from service.observability import metrics

# How long one call may take to get its lock. Less than a request's time, so that after a lost answer there is
# time left to find out.
CALL_SECONDS: Final = 3.0

# Requests that wait in one process. At a few thousand a second this is about a second's work.
MAX_QUEUE: Final = 4000

# How long a request may wait for its turn and still have time for its call.
QUEUE_SECONDS: Final = REQUEST_SECONDS - CALL_SECONDS

# Who has less than this left is not sent any more: a call has the deadline of its request with the least time, and the
# others in it would have no more than that to get their lock.
_LEAST_SECONDS: Final = 0.2


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
    # Hears the outcome also if the caller has left meanwhile.
    on_outcome: Callable[[Outcome], None]
    submitted_at: float
    # How many of its tenant's waited when it came.
    ahead: int
    # Calls that carried it and may yet have had its effect, for all that is known.
    in_doubt: int = 0
    # Until the call that decided it was sent.
    waited_seconds: float = 0.0
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def seconds_left(self) -> float:
        """Until the caller gives up."""
        return self.submitted_at + REQUEST_SECONDS - time.monotonic()

    def succeed(self, outcome: Outcome) -> None:
        """Tells the caller, if it is still there."""
        self.on_outcome(outcome)
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """Tells the caller, if it is still there."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def give_up(self, error: Exception) -> None:
        """Tells the caller of the error; or, if it may have had its effect all the same, of that."""
        self.fail(DatabaseDown() if self.in_doubt else error)


def still_in_time(operations: list[Operation]) -> list[Operation]:
    """Those whose callers are there and have time for a call. The others are refused: whoever was told that it failed
    must not be granted anything afterwards."""
    in_time = []
    for operation in operations:
        if operation.outcome.done():
            continue  # the caller has gone away
        if operation.seconds_left() < _LEAST_SECONDS:
            metrics.REFUSED_BY_QUEUE.inc()
            operation.give_up(Overloaded())
            continue
        in_time.append(operation)
    return in_time


class FairQueue:
    """A queue for each tenant, and whose turn it is. `max_batch` is how many requests are taken at once."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._queues: dict[str, deque[Operation]] = {}
        self._waiting = 0
        # By tenant, of those with somebody waiting.
        self._seconds_per_place: dict[str, float] = {}
        self._in_flight: set[str] = set()
        self._contended: set[str] = set()
        self._arrived = asyncio.Event()

    def add(
        self,
        verb: str,
        tenant: str,
        operation_id: UUID,
        arguments: dict[str, object],
        on_outcome: Callable[[Outcome], None],
    ) -> Operation:
        """Puts a request behind those of its tenant. Raises `Overloaded` if it would not be its turn in time."""
        ahead = len(self._queues.get(tenant, ()))
        if not self._has_time_for(tenant, ahead):
            metrics.REFUSED_BY_QUEUE.inc()
            raise Overloaded
        arguments = {"operation_id": str(operation_id), **arguments}
        operation = Operation(tenant, verb, operation_id, arguments, on_outcome, time.monotonic(), ahead)
        self._queues.setdefault(tenant, deque()).append(operation)
        self._note_arrivals(1)
        return operation

    async def take(self) -> list[Operation]:
        """The next batch, when there is one: a fair share of each tenant that waits, the longest-waiting tenant first.

        A tenant with a batch under way waits until it is `finished`: its next batch would only queue up behind the same
        lock, and the longer it waits here the more requests share one call. A tenant whose lock timed out last time
        goes alone, and only one such at a time, so that they keep nobody else waiting.
        """
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            metrics.QUEUE_DEPTH.set(self._waiting)
            if batch:
                self._in_flight |= {operation.tenant for operation in batch}
                return batch
            self._arrived.clear()

    def finished(self, batch: list[Operation]) -> None:
        """A batch is no longer under way: its tenants may have the next one."""
        self._in_flight -= {operation.tenant for operation in batch}
        self._arrived.set()

    def put_back(self, operations: list[Operation]) -> None:
        """Operations that were deferred go first, within their tenant and before the other tenants."""
        for operation in reversed(operations):
            queue = self._queues.pop(operation.tenant, deque())
            queue.appendleft(operation)
            self._queues = {operation.tenant: queue, **self._queues}
        self._note_arrivals(len(operations))

    def note_lock(self, tenants: set[str], *, timed_out: bool) -> None:
        """Whether these tenants' locks were to be had."""
        if timed_out:
            self._contended |= tenants
        else:
            self._contended -= tenants

    def take_all(self) -> list[Operation]:
        """Everybody who waits, and nobody waits any more."""
        waiting = [operation for queue in self._queues.values() for operation in queue]
        self._queues.clear()
        self._seconds_per_place.clear()
        self._waiting = 0
        metrics.QUEUE_DEPTH.set(0)
        return waiting

    def _has_time_for(self, tenant: str, ahead: int) -> bool:
        """Whether there is room for one more of this tenant, and its turn would come in time.

        A tenant may have as many waiting as there is room left. So one alone has half of the queue at most, several
        that storm share it, and whoever comes with a single request finds room.

        How long a place in the queue takes is known from the last of this tenant that went: it had so many ahead of it
        and waited for so long. Where nobody of the tenant waits, nothing is known and nobody is refused.
        """
        return ahead < MAX_QUEUE - self._waiting and ahead * self._seconds_per_place.get(tenant, 0.0) <= QUEUE_SECONDS

    def _note_arrivals(self, count: int) -> None:
        self._waiting += count
        metrics.QUEUE_DEPTH.set(self._waiting)
        self._arrived.set()

    def _next_batch(self) -> list[Operation]:
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
            self._waiting -= 1
            taken += still_in_time([queue.popleft()])
        if queue:
            self._queues[tenant] = queue  # behind the others
            if taken:
                last = taken[-1]
                # A batch full of places goes at once, whether all of them were taken or not.
                places = max(last.ahead, self._max_batch)
                self._seconds_per_place[tenant] = (time.monotonic() - last.submitted_at) / places
        else:
            self._seconds_per_place.pop(tenant, None)
        return taken
