"""Single flight: concurrent callers with the same question share one look-up, and may share its result for a while."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs at most one task per key and gives its result to all callers of the key.

    A result is kept for `keep_seconds` after its task has ended, for the `max_kept` most recently used keys; with
    `size_of`, for as many of them as have that size together. With `keep_failures`, an exception is kept as well:
    callers of a failing source do not wait for it one after the other. With `cancel_unwanted`, a task is cancelled
    with its last caller: clients that leave must not keep the source busy.
    """

    def __init__(
        self,
        *,
        keep_seconds: float = 0,
        max_kept: int = 1,
        keep_failures: bool = False,
        cancel_unwanted: bool = False,
        size_of: Callable[[V], int] = lambda _: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}
        self._size_of = size_of
        self._kept: TTLCache[K, asyncio.Task[V]] = TTLCache(max_kept, keep_seconds, clock, self._size)
        self._keep_failures = keep_failures
        self._cancel_unwanted = cancel_unwanted
        # How many callers wait for each of the tasks.
        self._callers: Counter[asyncio.Task[V]] = Counter()

    async def run(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Returns the result of the key's task, or raises its exception. Starts `load` where there is no task."""
        task = self._find(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(load())
            task.add_done_callback(lambda ended: self._end(key, ended))
        if not task.done():
            await self._wait(key, task)
        return task.result()

    def forget(self, key: K | None) -> None:
        """Starts a new task for the next caller of a key; without one, of each. Those that wait get the old result."""
        for tasks in (self._running, self._kept):
            if key is None:
                tasks.clear()
            else:
                tasks.pop(key, None)

    def _find(self, key: K) -> asyncio.Task[V] | None:
        try:
            return self._running.get(key) or self._kept[key]  # `get` would look three times
        except KeyError:
            return None

    async def _wait(self, key: K, task: asyncio.Task[V]) -> None:
        self._callers[task] += 1
        try:
            # Awaiting the task itself would cancel it together with this caller.
            await asyncio.wait((task,))
        finally:
            self._callers[task] -= 1
            if not self._callers[task]:
                del self._callers[task]
                if self._cancel_unwanted:
                    # Before it has ended, a new caller would be cancelled with it.
                    if self._running.get(key) is task:
                        del self._running[key]
                    task.cancel()

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        is_current = self._running.get(key) is task
        if is_current:
            del self._running[key]
        if task.cancelled():
            return
        # `exception` also marks the exception as retrieved, in case all callers were cancelled.
        failed = task.exception() is not None
        if is_current and self._kept.ttl > 0 and (self._keep_failures or not failed):
            with suppress(ValueError):  # it is larger than all that may be kept
                self._kept[key] = task

    def _size(self, task: asyncio.Task[V]) -> int:
        return 1 if task.exception() else self._size_of(task.result())
