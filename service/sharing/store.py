"""The client of Redis, behind a circuit breaker: commands are sent only while Redis is known to answer.

A request that finds Redis gone waits `TIMEOUT_SECONDS` for its command. That opens the breaker, and later requests do
not wait at all: only `watch`, beside the requests, tries again, and closes it. A timeout while waiting for one of the
connections does not open it: it says nothing about Redis.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from pydantic import SecretStr

from service.observability.metrics import REDIS_FAILURES, redis_up

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

# A Redis nearby answers within a millisecond, a busy one within a few. After that it is better to go on without.
TIMEOUT_SECONDS: Final = 0.08
# Timeouts are counted in ticks of the event loop: a worker that was busy itself reads the answer before it gives up.
_TICK_SECONDS: Final = 0.01
# How often `watch` checks Redis, and so how long the breaker stays open after Redis is back.
WATCH_SECONDS: Final = 2.0
# Concurrent commands of one process, each on a connection. More wait for their turn, as long as for an answer.
_TURNS: Final = 4
# The time to close a connection. Opening one is part of the first command on it, and of its timeout.
_CLOSE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class StoreDown(Exception):
    """There is no Redis or it did not answer: the caller goes on without it."""


class Store:
    """One process's client of Redis; without a URL, no client."""

    def __init__(self, url: SecretStr | None) -> None:
        self._redis = _client(url.get_secret_value()) if url else None
        self._turns = asyncio.Semaphore(_TURNS)
        # None until the first answer or failure.
        self._up: bool | None = None
        if self._redis:
            redis_up().set(0)

    @property
    def exists(self) -> bool:
        return self._redis is not None

    @property
    def up(self) -> bool:
        """Whether the last command was answered: the breaker is closed."""
        return bool(self._up)

    async def ask(self, purpose: str, command: "Callable[[Redis], Awaitable[T]]") -> T:
        """Runs a command within `TIMEOUT_SECONDS`. Raises `StoreDown`, at once while the breaker is open."""
        if not self._up:
            raise StoreDown
        try:
            async with _ticking(TIMEOUT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise StoreDown from None
        try:
            # Checks the breaker again: it may have opened meanwhile.
            return await self.wait(purpose, command, 0.0)
        finally:
            self._turns.release()

    async def wait(self, purpose: str, command: "Callable[[Redis], Awaitable[T]]", seconds: float) -> T:
        """Runs a command that Redis answers late on purpose, after at most `seconds`, without taking a turn. Raises
        `StoreDown`."""
        if not self._up:
            raise StoreDown
        return await self._run(purpose, command, seconds + TIMEOUT_SECONDS)

    async def watch(self) -> None:
        """Checks Redis for ever, and closes the breaker when it answers again."""
        while self._redis:
            if not self._up:
                # Open connections may be dead without the client knowing; closing those may fail as well.
                with suppress(Exception):
                    await self._redis.connection_pool.disconnect()
            # Not a ping: a Redis that takes no writes, because it is full or a replica, is of no use.
            with suppress(StoreDown):
                await self._run("watch", lambda redis: redis.set("holdfast:watch", 1, ex=60), TIMEOUT_SECONDS)
                self._note(up=True)
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        """Closes the connections. A failure is ignored: the rest of the service has to stop too."""
        if self._redis:
            with suppress(Exception):
                await self._redis.aclose()

    async def _run(self, purpose: str, command: "Callable[[Redis], Awaitable[T]]", seconds: float) -> T:
        assert self._redis
        began = time.monotonic()
        try:
            async with _ticking(seconds):
                return await command(self._redis)
        # No failure of Redis is a reason to fail a request.
        except Exception as error:
            REDIS_FAILURES.labels(purpose).inc()
            self._note(up=False, error=type(error).__name__, waited_ms=round((time.monotonic() - began) * 1000))
            raise StoreDown from None

    def _note(self, *, up: bool, **facts: object) -> None:
        """Opens or closes the breaker, with one log line each. Errors by their type: a message may quote the URL."""
        if up == self._up:
            return
        if not up:
            log.warning("redis_gone", **facts)
        elif self._up is False:  # not after the start
            log.warning("redis_back")
        self._up = up
        redis_up().set(up)


@asynccontextmanager
async def _ticking(seconds: float) -> AsyncIterator[None]:
    """Works like `asyncio.timeout`, but does not count time in which the event loop was blocked."""
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


def _client(url: str) -> "Redis":
    # Imported here, because it takes a tenth of the time to start, and most installations have no Redis.
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError

    return Redis.from_url(
        url,
        # Applies to closing a connection too, which nothing else bounds.
        socket_connect_timeout=_CLOSE_SECONDS,
        # Each command has its own timeout: some wait on purpose.
        socket_timeout=None,
        # Once, at once: Redis may have closed an idle connection.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        decode_responses=True,
        # An entry that another program wrote may be any bytes.
        encoding_errors="replace",
    )
