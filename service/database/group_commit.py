"""Group commit: one call to PostgreSQL for all the requests that came while the last one was under way.

A transaction for each request wastes most of its time on round trips, locks and fsync, and on a hot slot it
queues everybody behind one row lock. Here requests wait in a bounded queue; a lane takes what is there, of
as many tenants as there are, and sends it as one call. No artificial delay: an idle service sends batches of one.

What can happen to a request, in the order in which it is looked at:

- it can't be its turn in time, or its tenant has as much of the queue as there is left for all: refused at once;
- its caller goes away: it is dropped, unless a call with it is under way;
- its deadline passes while it waits: refused, nothing was sent;
- its tenant's lock was taken, or the call had enough to do without it (`deferred`): it goes first in the next one;
- its call fails as a whole: it is sent again by itself, so that one bad request never fails its neighbours;
- its answer is lost: it is sent again by itself, but only after the deadline that the first call carried. From
  then on the verbs refuse whatever is left of that call, and if it had its effect they know the
  operation id and answer what was recorded. So it has one effect.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from psycopg.types.json import Jsonb

from service.background import end
from service.database.connections import ATTEMPTS, FIRST_PAUSE_SECONDS, REQUEST_SECONDS, Database
from service.database.failures import is_connection_lost, is_lock_timeout, is_passing, translated
from service.database.queue import CALL_SECONDS, FairQueue, Operation, Outcome, still_in_time
from service.errors import DatabaseDown, Overloaded
from service.observability import metrics
from service.observability.logging import note

# How long after a lost answer its request is sent again: when the lost call's deadline has passed for certain,
# by a server's clock that is measured to a few milliseconds.
RESEND_SECONDS: Final = CALL_SECONDS + 0.1

_ANSWERED: Final = metrics.BATCHES.labels("answered")

log = structlog.get_logger(__name__)


class GroupCommit:
    """The lanes that empty the queue of one process.

    `max_batch` is how many requests one call carries. With 1 each request is a call of its own, as many at
    once as there are lanes: what group commit is compared with. `lanes` is how many calls are under way at once.
    """

    def __init__(self, database: Database, *, max_batch: int, lanes: int) -> None:
        self._database = database
        self._queue = FairQueue(max_batch)
        self._lane_count = lanes
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
        await end(self._tasks)

    async def submit(
        self,
        verb: str,
        tenant: str,
        operation_id: UUID,
        arguments: dict[str, object],
        on_outcome: Callable[[Outcome], None] = lambda _: None,
    ) -> Outcome:
        """Runs a verb and returns its outcome.

        `operation_id` names the operation for good: it is sent again under the same id, never under another.
        `on_outcome` hears the outcome too, also if the caller has left by then; it must neither wait nor fail.
        Raises `Overloaded` (the queue is full, or it was not this request's turn in time, or five attempts
        failed) or `DatabaseDown`. After `DatabaseDown` the operation may have had its effect, once.
        """
        operation = self._queue.add(verb, tenant, operation_id, arguments, on_outcome)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                outcome = await operation.outcome
        except TimeoutError:
            raise (DatabaseDown if operation.in_doubt else Overloaded) from None
        note(outcome=outcome.name, queue_ms=round(operation.waited_seconds * 1000, 2))
        return outcome

    async def _lane(self) -> None:
        while True:
            batch = await self._queue.take()
            try:
                await self._send_batch(batch)
            finally:
                self._queue.finished(batch)

    async def _send_batch(self, batch: list[Operation]) -> None:
        try:
            deferred = await self._call(batch)
        except DatabaseDown as down:
            # No connection could be had in time, for anybody: whoever waits has waited long enough.
            for operation in [*batch, *self._queue.take_all()]:
                operation.fail(down)
        except Exception as error:
            log.info("batch_failed", requests=len(batch), error=_name(error))
            if is_lock_timeout(error):
                # Only the first tenant's lock is ever waited for.
                self._queue.note_lock({batch[0].tenant}, timed_out=True)
            for operation in batch:
                self._spawn(self._send_again(operation, error))
        else:
            self._queue.note_lock({operation.tenant for operation in batch}, timed_out=False)
            if deferred:
                self._queue.put_back(deferred)

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
                operation.give_up(translated(error))
                return
            if pause >= operation.seconds_left():
                operation.give_up(translated(error))
                return
            await asyncio.sleep(pause)
            shared = False
            try:
                # One at a time of each tenant: if its lock is what is missing, the others have the other places.
                async with self._turns.setdefault(operation.tenant, asyncio.Lock()), self._singles:
                    if not await self._call([operation]):
                        return
            except DatabaseDown as down:
                operation.fail(down)
            except Exception as latest:
                error = latest

    async def _call(self, operations: list[Operation]) -> list[Operation]:
        """One call with all the operations. Hands out the outcomes and returns the operations that were deferred."""
        by_id = {operation.operation_id: operation for operation in operations}
        try:
            async with self._database.connection() as connection:
                # Only now: a connection may have been waited for.
                operations = still_in_time(operations)
                if not operations:
                    return []
                deadline = self._database.deadline(min(CALL_SECONDS, *(one.seconds_left() for one in operations)))
                sent_at = time.monotonic()
                with _in_doubt(operations):
                    rows = await self._database.rows(connection, "execute", *_batches(operations), deadline)
        except Exception as error:
            metrics.BATCHES.labels("lost" if is_connection_lost(error) else "failed").inc()
            raise
        _ANSWERED.inc()
        metrics.BATCH_SIZE.observe(len(operations))
        deferred = set()
        for operation_id, outcome, body in rows:
            if outcome == "lock_waited":
                metrics.LOCK_WAIT_SECONDS.observe(body["seconds"])
                log.debug("lock_waited", seconds=body["seconds"], requests=len(operations))
            elif outcome == "deferred":
                deferred.add(operation_id)
            else:
                operation = by_id[operation_id]
                operation.waited_seconds = sent_at - operation.submitted_at
                metrics.QUEUE_WAIT_SECONDS.observe(operation.waited_seconds)
                metrics.count_decision(operation.verb, outcome)
                operation.succeed(Outcome(outcome, body))
        # The rows come in any order: who came first is put back first.
        return [operation for operation in operations if operation.operation_id in deferred]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def _in_doubt(operations: list[Operation]) -> Iterator[None]:
    """While a call is under way its operations may have had their effect, and for good if its answer is lost."""
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
    batches: dict[str, dict[str, Any]] = {}
    for operation in operations:
        batches.setdefault(operation.tenant, {}).setdefault(operation.verb, []).append(operation.arguments)
    return list(batches), [Jsonb(batch) for batch in batches.values()]


def _name(error: Exception) -> str:
    """What kind of error it is, without its text: that may quote a caller's data."""
    return getattr(error, "sqlstate", None) or type(error).__name__
