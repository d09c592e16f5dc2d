"""Limits on how many requests a caller may make in a while, counted in Redis for all processes or in this process.

The sliding window is estimated from two fixed ones: the requests of the previous window count in proportion to the part
of it that is less than one length ago. So a caller costs two numbers, however many requests it makes, and cannot make
twice the limit around the turn of a window.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from cachetools import LRUCache

from service.sharing.store import Store, StoreDown

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SECONDS: Final[dict[str, int]] = {"second": 1, "minute": 60, "hour": 3600}
# Callers that one process counts by itself, the most recent ones: a few megabytes.
_CALLERS: Final = 20_000
# Requests per call to Redis, which does nothing else meanwhile.
_BATCH: Final = 100
_COUNT: Final = files("service.sharing").joinpath("count_requests.lua").read_text(encoding="utf-8")
# Redis names a script that it has cached by its hash.
_COUNT_NAME: Final = sha1(_COUNT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Rate:
    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses a rate that the settings have validated, like `1000/minute`."""
        count, _, unit = text.partition("/")
        return cls(int(count), _SECONDS[unit])


class Limit(NamedTuple):
    """The rate of a `caller`, a pseudonym rather than an address. `name` is the kind of limit, for metrics."""

    name: str
    caller: str
    rate: Rate


class Verdict(NamedTuple):
    """Whether a request is granted, and the state of the limit that has the least left."""

    granted: bool
    limit: Limit
    remaining: int
    # Until the whole limit is available again, if no request is made meanwhile.
    reset_seconds: int
    # Until the next request is granted; 0 if that is now.
    retry_after_seconds: int


# Requests in the previous and in the current window before this request, and the age of the current window in seconds.
_Window = tuple[int, int, float]


@dataclass(slots=True)
class _Counter:
    """The requests of one caller: the index of its last window, the requests in the window before it and in it."""

    index: float
    previous: int = 0
    current: int = 0


class RequestLimits:
    """Counts requests in Redis while it answers, else in this process."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._own: LRUCache[str, _Counter] = LRUCache(_CALLERS)
        self._waiting: deque[tuple[Sequence[Limit], asyncio.Future[Verdict]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def hit(self, limits: Sequence[Limit]) -> Verdict:
        """Counts a request against all of the limits, or against none if one of them is used up."""
        if not self._store.up:
            return self.count(limits)
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((limits, verdict))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await verdict

    def count(self, limits: Sequence[Limit]) -> Verdict:
        """Does the same by this process alone. Runs for each request: plain loops, no objects that can be avoided."""
        now = self._clock()
        granted, counters, windows = True, [], []
        for limit in limits:
            rate = limit.rate
            index, elapsed = divmod(now, rate.seconds)
            counter = self._counter(limit.caller, index)
            window = (counter.previous, counter.current, elapsed)
            if _used(rate, window) + 1 > rate.count:
                granted = False
            counters.append(counter)
            windows.append(window)
        if granted:
            for counter in counters:
                counter.current += 1
        return _verdict(limits, windows, granted=granted)

    def _counter(self, caller: str, index: float) -> _Counter:
        """Returns the counter of a caller, moved on to the window of an index."""
        try:
            counter = self._own[caller]
        except KeyError:
            counter = self._own[caller] = _Counter(index)
        if counter.index != index:
            counter.previous = counter.current if counter.index == index - 1 else 0
            counter.current = 0
            counter.index = index
        return counter

    async def _ask(self) -> None:
        """Asks Redis about all waiting requests at once: a call costs more than the requests in it."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            requests = [limits for limits, _ in batch]
            try:
                verdicts = await self._store.ask("limits", partial(_counted, requests))
            except StoreDown:
                verdicts = [self.count(limits) for limits in requests]
            for (_, waiting), verdict in zip(batch, verdicts, strict=True):
                if not waiting.done():
                    waiting.set_result(verdict)


async def _counted(requests: Sequence[Sequence[Limit]], redis: "Redis") -> list[Verdict]:
    from redis.exceptions import NoScriptError

    keys = [f"holdfast:limit:{limit.caller}" for limits in requests for limit in limits]
    numbers: list[int] = []
    for limits in requests:
        numbers += [len(limits), *(n for limit in limits for n in (limit.rate.count, limit.rate.seconds * 1000))]
    try:
        answer = iter(await redis.evalsha(_COUNT_NAME, len(keys), *keys, *numbers))
    except NoScriptError:
        answer = iter(await redis.eval(_COUNT, len(keys), *keys, *numbers))
    verdicts = []
    for limits in requests:
        granted = bool(next(answer))
        windows = [(next(answer), next(answer), next(answer) / 1000) for _ in limits]
        verdicts.append(_verdict(limits, windows, granted=granted))
    return verdicts


def _used(rate: Rate, window: _Window) -> float:
    previous, current, elapsed = window
    return previous * (1 - elapsed / rate.seconds) + current


def _verdict(limits: Sequence[Limit], windows: Sequence[_Window], *, granted: bool) -> Verdict:
    if not granted:
        # Report the limit that takes longest to have room again: then the others have room as well.
        retry_afters = [_retry_after(limit.rate, window) for limit, window in zip(limits, windows, strict=True)]
        longest = max(retry_afters)
        number = retry_afters.index(longest)
        _, current, elapsed = windows[number]
        reset = (2 if current else 1) * limits[number].rate.seconds - elapsed
        return Verdict(False, limits[number], 0, max(0, math.ceil(reset)), longest)
    tightest, least = 0, math.inf
    for number, limit in enumerate(limits):
        left = limit.rate.count - 1 - _used(limit.rate, windows[number])
        if left < least:
            tightest, least = number, left
    reset = 2 * limits[tightest].rate.seconds - windows[tightest][2]
    return Verdict(True, limits[tightest], max(0, int(least)), math.ceil(reset), 0)


def _retry_after(rate: Rate, window: _Window) -> int:
    """Returns the seconds until `_used` has fallen so far that there is room for one more request."""
    if _used(rate, window) + 1 <= rate.count:
        return 0
    previous, current, elapsed = window
    # Until the window ends only the previous one's share falls; in the next window, this one's.
    room = rate.count - 1 - current
    windows = 1 - room / previous if room >= 0 else 2 - (rate.count - 1) / current
    return max(1, math.ceil(windows * rate.seconds - elapsed))
