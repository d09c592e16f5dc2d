"""Background tasks, which run beside the requests until the process stops, and a timer for many deadlines."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, TypeVar

import structlog

from service.observability.logging import error_fields

T = TypeVar("T", bound=Hashable)

log = structlog.get_logger(__name__)


def in_background(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts `work` as a task named `name`. An exception that ends it is a defect, and is logged at once."""

    def log_failure(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()):
            log.error("defect", task=name, **error_fields(error))

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(log_failure)
    return task


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks, and returns when all have ended.

    Repeats the cancellation every second: before Python 3.12, `asyncio.wait_for`, which waits for a connection, loses a
    cancellation that coincides with its result (python/cpython#86296), and the task runs on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


class Deadlines(Generic[T]):
    """One timer for many deadlines of the same length, because a timer for each request costs too much.

    Calls `on_time` with each item that was added more than `seconds` ago and not discarded since. A call may come late
    by a tenth of `seconds`. All methods belong to the running event loop.
    """

    def __init__(self, seconds: float, on_time: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._on_time = on_time
        # In the order of their deadlines, because all have the same length.
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        loop = asyncio.get_running_loop()
        self._due[item] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._run)

    def discard(self, item: T) -> None:
        """Forgets an item. Does nothing if its time was up already."""
        self._due.pop(item, None)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due and (first := next(iter(self._due.items())))[1] <= now:
            del self._due[first[0]]
            self._on_time(first[0])
        self._timer = None
        if self._due:
            wait = max(next(iter(self._due.values())) - now, self._seconds / 10)
            self._timer = loop.call_later(wait, self._run)
