"""The way to Redis: it is asked only while it is known to answer, and for a short time only.

A request that finds Redis gone waits `TIMEOUT_SECONDS` for its answer, and those after it don't wait at all: only the
watch that runs beside them tries again.

What says that it is gone is a command that failed. Not to get a turn to ask says nothing about it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from service.observability.metrics import REDIS_FAILURES, redis_up

T = TypeVar("T")

# A Redis nearby answers within a millisecond, a busy one within some; what takes longer is not worth the wait.
TIMEOUT_SECONDS: Final = 0.08
# The time is taken in ticks of the event loop: a worker that was busy itself reads what has come before it gives up.
_TICK_SECONDS: Final = 0.01
# How often it is asked whether it is there: so long does a Redis that is back wait for its first question.
WATCH_SECONDS: Final = 2.0
# Commands that one process asks at once, each on a connection. More wait for their turn, as long as for an answer.
_TURNS: Final = 4
# How long it may take to close a connection. To make one is part of the first command on it, and of its time.
_CLOSE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class StoreDown(Exception):
    """There is no Redis, or it did not answer: go on without it."""


class Store:
    """One process's client of Redis; without a URL, of none."""

    def __init__(self, url: SecretStr | None) -> None:
        self._redis = _client(url.get_secret_value()) if url else None
        self._turns = asyncio.Semaphore(_TURNS)
        # None until it was asked for the first time.
        self._up: bool | None = None
        if self._redis:
            redis_up().set(0)

    @property
    def exists(self) -> bool:
        """Whether there is a Redis at all."""
        return self._redis is not None

    @property
    def up(self) -> bool:
        """Whether it answered when it was last asked."""
        return bool(self._up)

    async def ask(self, purpose: str, command: Callable[[Redis], Awaitable[T]]) -> T:
        """What Redis answers in time. Raises `StoreDown`, at once if it is known to be gone."""
        if not self._up:
            raise StoreDown
        async with self._turn():
            # It may be known by now.
            return await self.wait(purpose, command, 0.0)

    async def wait(self, purpose: str, command: Callable[[Redis], Awaitable[T]], seconds: float) -> T:
        """The same for a command that Redis itself answers late: so many seconds at most. For no request.

        It has a connection of its own, and keeps nobody's turn from them.
        """
        if not self._up:
            raise StoreDown
        return await self._ask(purpose, command, seconds + TIMEOUT_SECONDS)

    async def watch(self) -> None:
        """Asks, for ever, whether it is there, and so finds out that it is back."""
        while self._redis:
            if not self._up:
                # What they lead to may be gone, although nobody has told them; and then closing them may fail too.
                with suppress(Exception):
                    await self._redis.connection_pool.disconnect()
            try:
                # Not a ping: one that takes no writes, being full or a replica, is of no use.
                await self._ask("watch", lambda redis: redis.set("holdfast:watch", 1, ex=60), TIMEOUT_SECONDS)
            except StoreDown:
                pass
            else:
                self._note(up=True)
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        """Closes its connections, as well as they can be."""
        if self._redis:
            with suppress(Exception):
                await self._redis.aclose()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with _ticking(TIMEOUT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreDown from None
        try:
            yield
        finally:
            self._turns.release()

    async def _ask(self, purpose: str, command: Callable[[Redis], Awaitable[T]], seconds: float) -> T:
        assert self._redis
        began = time.monotonic()
        try:
            async with _ticking(seconds):
                return await command(self._redis)
        # Nothing of what it may do to us is a reason to fail a request.
        except Exception as error:
            REDIS_FAILURES.labels(purpose).inc()
            self._note(up=False, error=type(error).__name__, waited_ms=round((time.monotonic() - began) * 1000))
            raise StoreDown from None

    def _note(self, *, up: bool, **facts: object) -> None:
        """One line when it goes, and one when it is back. Errors by their kind: a message may quote the URL."""
        if up == self._up:
            return
        # That it is there in the beginning is no news.
        if not up:
            log.warning("redis_gone", **facts)
        elif self._up is False:
            log.warning("redis_back")
        self._up = up
        redis_up().set(up)


@asynccontextmanager
async def _ticking(seconds: float) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, but the time in which the event loop did not come round does not count."""
    loop = asyncio.get_running_loop()
    left = round(seconds / _TICK_SECONDS)
    next_tick: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal left, next_tick
        if left:
            left -= 1
            next_tick = loop.call_later(_TICK_SECONDS, tick)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        tick()
        try:
            yield
        finally:
            if next_tick:
                next_tick.cancel()


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        # Of closing too, which nothing else bounds.
        socket_connect_timeout=_CLOSE_SECONDS,
        # What a command may take is said with each one: some wait on purpose.
        socket_timeout=None,
        # Once, at once: the connection may be an old one, which Redis has closed.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        decode_responses=True,
    )
