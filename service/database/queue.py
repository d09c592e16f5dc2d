"""The queue of one process: requests wait for the next call, and those of one business don't delay the others."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from service.database.connections import LOCK_SECONDS, REQUEST_SECONDS
from service.errors import DatabaseDown, Overloaded
from service.observability import metrics

# How long one call may take to get its lock. Less than a request's time, so that time is left after a lost answer to
# find out the outcome.
CALL_SECONDS: Final = 3.0

# Requests that wait in one process: at a few thousand a second, about one second's work.
MAX_QUEUE: Final = 4000

# How long a request may wait for its turn and still have time for its call.
QUEUE_SECONDS: Final = REQUEST_SECONDS - CALL_SECONDS

# Requests with less time left than this are refused instead of sent: a lock that can't be acquired ends the call after
# LOCK_SECONDS, and the caller must still be there to read that the request had no effect.
_LEAST_SECONDS: Final = LOCK_SECONDS + 0.5
# The same for a request whose answer was lost: in this time the database can report the effect that it had.
_LEAST_SECONDS_IN_DOUBT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a verb for one request: 'done', 'replayed', or the name of a refusal, and its body as JSON."""

    name: str
    json: bytes | None

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = from_json(self.json) if self.json else {}
        return body


# Of a request whose answer was lost and that is not sent again: it may have had its effect, and can have none any more.
UNKNOWN: Final = Outcome("unknown", None)


@dataclass(slots=True, eq=False)
class Operation:
    """One request under way: a verb, its business and its arguments as a JSON object, and the future outcome."""

    business_id: str
    verb: str
    # A UUID as text, which is hashed faster.
    operation_id: str
    arguments: bytes
    # Is called with the outcome even if the caller has left, and with `UNKNOWN` if that can't be found out.
    on_outcome: Callable[[Outcome], None]
    submitted_at: float
    # How many requests of the business were waiting when it came.
    ahead: int
    # Calls that carried it and, as far as is known, may still have their effect.
    in_doubt: int = 0
    # Seconds until the call that decided it was sent.
    waited_seconds: float = 0.0
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def seconds_left(self) -> float:
        return self.submitted_at + REQUEST_SECONDS - time.monotonic()

    def has_time_for_call(self, pause_seconds: float = 0.0) -> bool:
        """Returns whether its caller would still wait for the end of a call that is sent after a pause."""
        least = _LEAST_SECONDS_IN_DOUBT if self.in_doubt else _LEAST_SECONDS
        return self.seconds_left() >= pause_seconds + least

    def succeed(self, outcome: Outcome) -> None:
        self.in_doubt = 0
        self.on_outcome(outcome)
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def give_up(self, error: Exception) -> None:
        """Delivers an error, or `DatabaseDown` if the operation may have had its effect all the same."""
        self.fail(DatabaseDown() if self.in_doubt else error)


def still_in_time(operations: list[Operation]) -> list[Operation]:
    """Returns the operations whose callers still wait and have time for a call, and refuses the late ones: a caller
    whose request failed must not be granted anything afterwards."""
    in_time = []
    for operation in operations:
        if operation.outcome.done():
            continue  # the caller has left
        if operation.has_time_for_call():
            in_time.append(operation)
        else:
            metrics.REFUSED_BY_QUEUE.inc()
            operation.give_up(Overloaded())
    return in_time


class FairQueue:
    """A queue for each business, and the order of their turns. `max_batch` is how many requests are taken at once."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._queues: dict[str, deque[Operation]] = {}
        # How many requests are waiting.
        self.waiting = 0
        # Of them, those that the gauge counts, which all queues of the process share.
        self._shown = 0
        # By business, of those with requests that wait.
        self._seconds_per_place: dict[str, float] = {}
        self._in_flight: set[str] = set()
        self._contended: set[str] = set()
        self._arrived = asyncio.Event()

    def add(
        self, verb: str, business_id: str, operation_id: str, arguments: bytes, on_outcome: Callable[[Outcome], None]
    ) -> Operation:
        """Adds a request behind those of its business. Raises `Overloaded` if its turn would come too late."""
        queue = self._queues.get(business_id)
        ahead = len(queue) if queue else 0
        if not self._has_time_for(business_id, ahead):
            metrics.REFUSED_BY_QUEUE.inc()
            raise Overloaded
        operation = Operation(business_id, verb, operation_id, arguments, on_outcome, time.monotonic(), ahead)
        if queue is None:
            queue = self._queues[business_id] = deque()
        queue.append(operation)
        self.waiting += 1
        self._arrived.set()
        return operation

    @property
    def is_full(self) -> bool:
        """Whether a whole batch is waiting."""
        return self.waiting >= self._max_batch

    async def arrived(self) -> None:
        """Waits until a request is waiting."""
        while not self.waiting:
            self._arrived.clear()
            await self._arrived.wait()

    async def take(self) -> list[Operation]:
        """Waits for the next batch: a fair share of each waiting business, the longest-waiting business first.

        A business with a batch under way waits until that is `finished`: its next batch would only queue for the same
        lock, and the longer it waits here the more requests share one call. A business whose lock timed out last time
        goes alone, and only one such at a time, so that it delays no other.
        """
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            self._show_depth()
            if batch:
                self._in_flight |= {operation.business_id for operation in batch}
                return batch
            self._arrived.clear()

    def finished(self, batch: list[Operation]) -> None:
        """Records that a batch is no longer under way: its businesses may have the next one."""
        self._in_flight -= {operation.business_id for operation in batch}
        self._arrived.set()

    def put_back(self, operations: list[Operation]) -> None:
        """Puts deferred operations first, within their business and before the other businesses."""
        for operation in reversed(operations):
            queue = self._queues.pop(operation.business_id, deque())
            queue.appendleft(operation)
            self._queues = {operation.business_id: queue, **self._queues}
        self.waiting += len(operations)
        self._arrived.set()

    def note_lock(self, business_id: str, *, timed_out: bool) -> None:
        """Records whether the lock of the first business of a batch was acquired. A business whose lock timed out has
        the next batch for itself."""
        (self._contended.add if timed_out else self._contended.discard)(business_id)

    def take_all(self) -> list[Operation]:
        waiting = [operation for queue in self._queues.values() for operation in queue]
        self._queues.clear()
        self._seconds_per_place.clear()
        self.waiting = 0
        self._show_depth()
        return waiting

    def _show_depth(self) -> None:
        metrics.QUEUE_DEPTH.inc(self.waiting - self._shown)
        self._shown = self.waiting

    def _has_time_for(self, business_id: str, ahead: int) -> bool:
        """Returns whether there is room for one more request of the business, and its turn would come in time.

        A business may have as many requests waiting as places are left for all. So one alone fills half of the queue
        at most, several that storm share it, and a business with a single request finds room.

        The time per place is known from the business's last request: how long it waited, by how many were ahead of
        it. Where none of the business waits, nothing is known and no request is refused.
        """
        seconds_per_place = self._seconds_per_place.get(business_id, 0.0)
        return ahead < MAX_QUEUE - self.waiting and ahead * seconds_per_place <= QUEUE_SECONDS

    def _next_batch(self) -> list[Operation]:
        each_alone = self._max_batch == 1
        while ready := [business for business in self._queues if each_alone or self._may_go(business)]:
            if ready[0] in self._contended:
                ready = ready[:1]
            else:
                ready = [business for business in ready if business not in self._contended][: self._max_batch]
            share = self._max_batch // len(ready)
            if batch := [operation for business in ready for operation in self._take_share(business, share)]:
                return batch
        return []

    def _may_go(self, business_id: str) -> bool:
        if business_id in self._contended and self._contended & self._in_flight:
            return False
        return business_id not in self._in_flight

    def _take_share(self, business_id: str, share: int) -> list[Operation]:
        queue = self._queues.pop(business_id)
        taken: list[Operation] = []
        while queue and len(taken) < share:
            self.waiting -= 1
            taken += still_in_time([queue.popleft()])
        if queue:
            self._queues[business_id] = queue  # behind the others
            if taken:
                last = taken[-1]
                # A batch full of places goes at once, whether all of them were taken or not.
                places = max(last.ahead, self._max_batch)
                self._seconds_per_place[business_id] = (time.monotonic() - last.submitted_at) / places
        else:
            self._seconds_per_place.pop(business_id, None)
        return taken
