"""One timer for many deadlines of the same length, because a timer for each request costs too much."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `on_time` with each item that was added more than `seconds` ago and not discarded since.

    A call may come late by a tenth of `seconds`. All methods belong to the running event loop.
    """

    def __init__(self, seconds: float, on_time: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._on_time = on_time
        # In the order of their deadlines, because all have the same length.
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Starts the item's time."""
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
