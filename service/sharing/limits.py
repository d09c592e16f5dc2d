"""Limits on how many requests one caller may make in a while: shared by all processes, or each process's own.

Counted are windows of fixed length. Those of the window before count in proportion to how much of it is less than
one length ago: that is two numbers for each caller, however many requests, and nobody gets twice the limit by asking
around the turn of a window.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from service.sharing.store import Store, StoreDown

_SECONDS: Final[dict[str, int]] = {"second": 1, "minute": 60, "hour": 3600}
# Callers that one process remembers by itself, the latest ones: a few megabytes.
_CALLERS: Final = 20_000
# Requests that one call to Redis counts at most: it does nothing else meanwhile.
_BATCH: Final = 100
_COUNT: Final = files("service.sharing").joinpath("count_requests.lua").read_text(encoding="utf-8")
# Redis knows a script that it was sent before by its hash.
_COUNT_NAME: Final = sha1(_COUNT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what the settings let through, like `1000/minute`."""
        count, _, unit = text.partition("/")
        return cls(int(count), _SECONDS[unit])

    def times(self, factor: int) -> Self:
        """So many times as many requests in the same time."""
        return type(self)(self.count * factor, self.seconds)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests `caller` may make. `name` says which sort of limit it is; a caller is named by no address."""

    name: str
    caller: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may be made, and how things stand with the limit that has the least left."""

    granted: bool
    limit: Limit
    remaining: int
    # Until all of the limit is there again, if nothing more is asked.
    reset_seconds: int
    # Until the next request may be made; 0 if that is now.
    retry_after_seconds: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Requests of the window before, of this one, and how much of this one is over."""

    previous: int
    current: int
    elapsed_seconds: float

    def used(self, rate: Rate) -> float:
        return self.previous * (1 - self.elapsed_seconds / rate.seconds) + self.current

    def retry_after_seconds(self, rate: Rate) -> int:
        """Until `used` has fallen so far that there is room for one more."""
        if self.used(rate) + 1 <= rate.count:
            return 0
        # In this window only what is left of the one before can fall; in the next one, what is in this one.
        room = rate.count - 1 - self.current
        if room >= 0:
            until = rate.seconds * (1 - room / self.previous)
        else:
            until = rate.seconds + rate.seconds * (1 - (rate.count - 1) / self.current)
        return max(1, math.ceil(until - self.elapsed_seconds))

    def reset_seconds(self, rate: Rate) -> int:
        lengths = 2 if self.current else 1 if self.previous else 0
        return max(0, math.ceil(lengths * rate.seconds - self.elapsed_seconds))


class RequestLimits:
    """Counts requests, in Redis while it answers, else in this process."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        # By caller: the number of the window, requests in the one before, requests in it.
        self._own: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        self._waiting: deque[tuple[Sequence[Limit], asyncio.Future[Verdict]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def hit(self, limits: Sequence[Limit]) -> Verdict:
        """Counts a request against all of the limits, or against none if one of them is used up."""
        if not self._store.up:
            return _verdict(limits, *self._count(limits))
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((limits, verdict))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await verdict

    async def _ask(self) -> None:
        """Asks Redis, about all who have come meanwhile at once: a call costs more than what it asks for."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            requests = [limits for limits, _ in batch]
            try:
                answers = await self._store.ask("limits", lambda redis: _counted(redis, requests))  # noqa: B023
            except StoreDown:
                answers = [self._count(limits) for limits in requests]
            for (limits, verdict), answer in zip(batch, answers, strict=True):
                if not verdict.done():
                    verdict.set_result(_verdict(limits, *answer))

    def _count(self, limits: Sequence[Limit]) -> tuple[bool, list[_Window]]:
        now = self._clock()
        windows = [self._window(limit, now) for limit in limits]
        granted = all(
            window.used(limit.rate) + 1 <= limit.rate.count for limit, window in zip(limits, windows, strict=True)
        )
        if granted:
            for limit, window in zip(limits, windows, strict=True):
                self._own[limit.caller] = (int(now // limit.rate.seconds), window.previous, window.current + 1)
                self._own.move_to_end(limit.caller)
            while len(self._own) > _CALLERS:
                self._own.popitem(last=False)
        return granted, windows

    def _window(self, limit: Limit, now: float) -> _Window:
        index, elapsed = divmod(now, limit.rate.seconds)
        kept, previous, current = self._own.get(limit.caller, (-1, 0, 0))
        if kept == index:
            return _Window(previous, current, elapsed)
        return _Window(current if kept == index - 1 else 0, 0, elapsed)


async def _counted(redis: Redis, requests: Sequence[Sequence[Limit]]) -> list[tuple[bool, list[_Window]]]:
    keys: list[str] = []
    numbers: list[int] = []
    for limits in requests:
        keys += [f"holdfast:limit:{limit.caller}" for limit in limits]
        numbers += [len(limits), *(n for limit in limits for n in (limit.rate.count, limit.rate.seconds * 1000))]
    try:
        told = iter(await redis.evalsha(_COUNT_NAME, len(keys), *keys, *numbers))
    except NoScriptError:
        told = iter(await redis.eval(_COUNT, len(keys), *keys, *numbers))
    return [
        (bool(next(told)), [_Window(next(told), next(told), next(told) / 1000) for _ in limits]) for limits in requests
    ]


def _verdict(limits: Sequence[Limit], granted: bool, windows: Sequence[_Window]) -> Verdict:
    def remaining(limit: Limit, window: _Window) -> int:
        return max(0, math.floor(limit.rate.count - window.used(limit.rate) - granted))

    def retry_after(limit: Limit, window: _Window) -> int:
        return window.retry_after_seconds(limit.rate)

    pairs = list(zip(limits, windows, strict=True))
    # Refused, the one that takes longest to have room again: when it has, the others have too.
    limit, window = (
        min(pairs, key=lambda pair: remaining(*pair)) if granted else max(pairs, key=lambda pair: retry_after(*pair))
    )
    counted = _Window(window.previous, window.current + granted, window.elapsed_seconds)
    return Verdict(
        granted,
        limit,
        remaining(limit, window),
        counted.reset_seconds(limit.rate),
        0 if granted else retry_after(limit, window),
    )
