"""Group commit: one call to PostgreSQL for all the requests that came while the last one was under way.

A transaction for each request spends most of its time on round trips, locks and fsync, and on a hot slot all of them
queue behind one row lock. Here requests wait in a bounded queue; a lane takes what has gathered, of as many businesses
as there are, and sends it as one call. An idle service sends batches of one, at once; a busy one waits some
milliseconds between two calls, because each has a cost of its own.

What can happen to a request, in the order of the checks:

- its turn would come too late, or its business has its share of the queue: it is refused at once;
- its caller leaves: it is dropped, unless a call with it is under way;
- its deadline passes while it waits: it is refused, and nothing was sent;
- its business's lock was taken, or the call had enough to decide without it (`deferred`): it goes first in the next;
- its call fails as a whole: it is sent again by itself, so that one bad request never fails its neighbours;
- its answer is lost: it is sent again by itself, but only after the deadline that the first call carried. From then on
  the verbs refuse what is left of that call, and if that had its effect they know the operation id and answer with the
  recorded outcome. So the request has one effect. If its caller has left or no time is left, it is not sent again, and
  its outcome stays unknown.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog
from psycopg.types.json import Jsonb

from service.background import Deadlines, end
from service.database.connections import REQUEST_SECONDS, Database
from service.database.failures import is_connection_lost, is_lock_timeout, is_passing, pauses, translated
from service.database.queue import CALL_SECONDS, UNKNOWN, FairQueue, Operation, Outcome, still_in_time
from service.errors import DatabaseDown, Overloaded
from service.observability import metrics
from service.observability.logging import error_name, note

# How long after a lost answer its request is sent again: the lost call's deadline has passed then, by the server's
# clock, which is known to a few milliseconds.
RESEND_SECONDS: Final = CALL_SECONDS + 0.1

# How long a call is under way before another lane may begin one. Calls side by side carry smaller batches, and each
# call has a cost of its own: over many businesses PostgreSQL took 289 us a request instead of 227. A call that takes
# longer than this waits for a lock or for the disk, and the others must not wait with it.
_LATE_SECONDS: Final = 0.02
# How long after the end of a call the next one begins, if there are several requests: callers that were answered ask
# again. A call costs 0.65 ms of Python and 1 ms of PostgreSQL by itself, and each request in it a tenth of that.
_GATHER_SECONDS: Final = 0.003
# How long a request waits for others at most, while more of them arrive.
_LONGEST_GATHER_SECONDS: Final = 0.01
# Turns of the event loop from the arrival of a request at the socket to that in the queue.
_ARRIVAL_TURNS: Final = 4

_ANSWERED: Final = metrics.BATCHES.labels("answered")

log = structlog.get_logger(__name__)


class GroupCommit:
    """The lanes that empty the queue of one process.

    `max_batch` is how many requests one call carries; with 1, for comparison, each request is a call of its own.
    `lanes` is how many calls are under way at once; one is usual, and more while a call is late.
    """

    def __init__(self, database: Database, *, max_batch: int, lanes: int) -> None:
        self.database = database
        self._queue = FairQueue(max_batch)
        self._lane_count = lanes
        # The right to begin a call.
        self._turn = asyncio.Semaphore(lanes if max_batch == 1 else 1)
        # When the last call ended, by the clock of the event loop, and how many requests the last one carried.
        self._ended_at = 0.0
        self._last_size = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._singles = asyncio.Semaphore(lanes)
        # An entry lasts as long as a request waits for its turn.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._deadlines: Deadlines[Operation] = Deadlines(
            REQUEST_SECONDS, lambda operation: operation.give_up(Overloaded())
        )

    def start(self) -> None:
        for _ in range(self._lane_count):
            self._spawn(self._lane())

    async def stop(self) -> None:
        """Ends the lanes, once every request has been answered."""
        await end(self._tasks)

    async def submit(
        self,
        verb: str,
        business_id: str,
        operation_id: str,
        arguments: bytes,
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> Outcome:
        """Runs a verb and returns its outcome.

        `arguments` is a JSON object. An operation is sent again under the same `operation_id`, a UUID. `on_outcome` is
        called with the outcome too, also if the caller has left by then, or with `UNKNOWN`; it must neither wait nor
        fail. Raises `Overloaded` (the queue is full, the turn came too late, or five attempts failed) or
        `DatabaseDown`: then the operation may have had its effect, once.
        """
        await self.database.refuse_if_down(business_id)
        operation = self._queue.add(verb, business_id, operation_id, arguments, on_outcome)
        self._deadlines.add(operation)
        try:
            outcome = await operation.outcome
        finally:
            self._deadlines.discard(operation)
        note(outcome=outcome.name, queue_ms=round(operation.waited_seconds * 1000, 2))
        return outcome

    async def _lane(self) -> None:
        while True:
            await self._turn.acquire()
            with ExitStack() as turn:
                turn.callback(self._turn.release)
                await self._queue.arrived()
                await self._gather()
                batch = await self._queue.take()
                loop = asyncio.get_running_loop()
                self._last_size = len(batch)
                timer = loop.call_later(_LATE_SECONDS, turn.close)
                try:
                    await self._send_batch(batch)
                finally:
                    timer.cancel()
                    self._ended_at = loop.time()
                    self._queue.finished(batch)

    async def _gather(self) -> None:
        """Lets a request wait for others, if the last call had several or several are waiting: for a time in any case,
        and from then on as long as more of them arrive. An event loop that is idle sends them at once."""
        queue = self._queue
        if queue.is_full or max(queue.waiting, self._last_size) <= 1:
            return
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await asyncio.sleep(self._ended_at + _GATHER_SECONDS - began_at)
        before = 0
        while before < queue.waiting and not queue.is_full and loop.time() < began_at + _LONGEST_GATHER_SECONDS:
            before = queue.waiting
            for _ in range(_ARRIVAL_TURNS):
                await asyncio.sleep(0)

    async def _send_batch(self, batch: list[Operation]) -> None:
        try:
            deferred = await self._call(batch)
        except DatabaseDown as down:
            # No connection was free in time: the requests in the queue have waited as long.
            for operation in [*batch, *self._queue.take_all()]:
                operation.fail(down)
        except Exception as error:
            # Once the database is gone, one event says so for all.
            level = logging.DEBUG if is_connection_lost(error) else logging.INFO
            log.log(level, "batch_failed", requests=len(batch), error=error_name(error))
            if is_lock_timeout(error):
                # A call waits for the lock of its first business only.
                self._queue.note_lock(batch[0].business_id, timed_out=True)
            for operation in batch:
                self._spawn(self._send_again(operation, error))
        else:
            self._queue.note_lock(batch[0].business_id, timed_out=False)
            if deferred:
                self._queue.put_back(deferred)

    async def _send_again(self, operation: Operation, error: Exception) -> None:
        """Sends a failed request again, and reports it as `UNKNOWN` if it may have had its effect all the same."""
        try:
            await self._send_until_answered(operation, error)
            if operation.in_doubt:
                await asyncio.sleep(RESEND_SECONDS)
        finally:
            if operation.in_doubt:
                operation.on_outcome(UNKNOWN)

    async def _send_until_answered(self, operation: Operation, error: Exception) -> None:
        """Sends a request by itself until it is answered, its time is up, or another attempt is pointless."""
        left = pauses()
        shared = True
        while not operation.outcome.done():
            pause: float | None
            if is_connection_lost(error):
                pause = RESEND_SECONDS
            elif is_passing(error):
                pause = next(left, None)
            else:
                pause = 0.0 if shared else None  # a neighbour may have caused the failure
            if pause is None:
                operation.give_up(translated(error))
                return
            if not operation.has_time_for_call(pause):
                operation.give_up(Overloaded())  # not the error: it may be that of a neighbour
                return
            await asyncio.sleep(pause)
            shared = False
            try:
                # One at a time of each business: if its lock is taken, the others keep the other places.
                async with self._turns.setdefault(operation.business_id, asyncio.Lock()), self._singles:
                    if not await self._call([operation]):
                        return
            except DatabaseDown as down:
                operation.fail(down)
            except Exception as latest:
                error = latest

    async def _call(self, operations: list[Operation]) -> list[Operation]:
        """Sends one call with all the operations, delivers the outcomes, and returns the deferred operations."""
        by_id = {operation.operation_id: operation for operation in operations}
        try:
            async with self.database.connection(operations[0].business_id) as connection:
                # Only now: it may have taken time to get the connection.
                operations = still_in_time(operations)
                if not operations:
                    return []
                deadline = self.database.deadline(min(CALL_SECONDS, *(one.seconds_left() for one in operations)))
                sent_at = time.monotonic()
                with _in_doubt(operations):
                    rows = await self.database.rows(connection, "execute", *_batches(operations), deadline)
        except Exception as error:
            metrics.BATCHES.labels("lost" if is_connection_lost(error) else "failed").inc()
            raise
        _ANSWERED.inc()
        metrics.BATCH_SIZE.observe(len(operations))
        deferred = set()
        for operation_id, outcome, body in rows:
            if outcome == "lock_waited":
                seconds = Outcome(outcome, body).body["seconds"]
                metrics.LOCK_WAIT_SECONDS.observe(seconds)
                log.debug("lock_waited", seconds=seconds, requests=len(operations))
            elif outcome == "deferred":
                deferred.add(operation_id)
            else:
                operation = by_id[operation_id]
                operation.waited_seconds = sent_at - operation.submitted_at
                metrics.count_decision(operation.verb, outcome, operation.waited_seconds)
                operation.succeed(Outcome(outcome, body))
        # The rows come in any order; the operations are put back in theirs.
        return [operation for operation in operations if operation.operation_id in deferred]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def _in_doubt(operations: list[Operation]) -> Iterator[None]:
    """Marks operations as in doubt while their call is under way, and for good if its answer is lost."""
    for operation in operations:
        operation.in_doubt += 1
    lost = False
    try:
        yield
    except Exception as error:
        lost = is_connection_lost(error)
        raise
    finally:
        if not lost:
            for operation in operations:
                operation.in_doubt -= 1


def _batches(operations: list[Operation]) -> tuple[list[str], list[Jsonb]]:
    """Returns the operations as `booking.execute` takes them: businesses, and their requests by verb, in order."""
    # As text: the arguments are already JSON.
    batches: dict[str, dict[str, list[bytes]]] = {}
    for operation in operations:
        requests = batches.setdefault(operation.business_id, {}).setdefault(operation.verb, [])
        requests.append(b'{"operation_id":"%s",%s' % (operation.operation_id.encode(), operation.arguments[1:]))
    return list(batches), [
        Jsonb(
            b"{%s}" % b",".join(b'"%s":[%s]' % (verb.encode(), b",".join(batch[verb])) for verb in batch), dumps=bytes
        )
        for batch in batches.values()
    ]
