"""The circuit breaker of PostgreSQL: while the database is known to be down, no call waits for a connection.

A lost connection, or one that can't be made, is only a suspicion: other connections may work. The breaker then probes
the database beside the requests. It opens after `GRACE_SECONDS` in which no pool has a connection and none can be made,
and closes with the first probe that succeeds. Until it opens, requests wait for a connection, so that a restart of the
database delays them and refuses none. While it is open, a request waits for the next probe, which takes milliseconds,
so that a database that is back refuses none either.
"""

import asyncio
import math
import time
from contextlib import suppress
from typing import Final, Protocol

import psycopg
import structlog

from service.background import end, in_background
from service.database.failures import reason
from service.errors import DatabaseDown

# A PostgreSQL that was killed is back within this time, if it has little to replay.
GRACE_SECONDS: Final = 1.0
# How often the database is probed without requests, and with them: a PostgreSQL that starts has to do other work.
PROBE_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.1
# How often a refused connection is logged, while connections that exist serve.
_LOG_SECONDS: Final = 60.0
# How long a request waits for a probe that is not answered.
_JOIN_SECONDS: Final = 0.5

log = structlog.get_logger(__name__)


class Pool(Protocol):
    """The view that the breaker has of a pool of connections."""

    @property
    def has_connection(self) -> bool:
        """Whether any connection is idle or lent to a caller."""

    async def probe(self) -> None:
        """Connects, besides the pool, and runs a statement. Raises `psycopg.Error`."""

    async def check(self) -> None:
        """Drops idle connections that are broken, and begins to connect if none is left."""


class CircuitBreaker:
    """The state of one database as all pools of a process see it. Its events in the log have the fields `about`."""

    def __init__(self, **about: object) -> None:
        self._about = about
        self._pools: list[Pool] = []
        self._opened_at: float | None = None
        # Set by a request that waits for a probe, and at the end of that probe.
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._probed_at = -math.inf
        self._logged_at = -math.inf
        self._stopped = False
        self._watch: asyncio.Task[None] | None = None

    def guard(self, pool: Pool) -> None:
        """Adds a pool of connections to the same database."""
        self._pools.append(pool)

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    async def probed(self) -> None:
        """Returns after a probe that succeeds. Raises `DatabaseDown` if the next one fails, or takes too long."""
        self.suspect()  # the breaker can't stay open, even if a defect ended the probes
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_JOIN_SECONDS):
                await self._ended.wait()
        if self.is_open:
            raise DatabaseDown

    def suspect(self) -> None:
        """Probes the database, unless that is under way."""
        if not self._stopped and (self._watch is None or self._watch.done()):
            self._watch = in_background("probe database", self._probe_until_up())

    async def stop(self) -> None:
        """Ends the probes, for good."""
        self._stopped = True
        if self._watch:
            await end([self._watch])

    async def _probe_until_up(self) -> None:
        began = time.monotonic()
        # First of all, so that no request gets a connection that broke together with another one.
        await self._check_pools()
        # A pool that can't connect to a database that answers must not probe it without a pause.
        await asyncio.sleep(self._probed_at + PROBE_SECONDS - began)
        while failure := await self._failure():
            if any(pool.has_connection for pool in self._pools):
                self._log_refusal(failure)
                break  # they serve; more are made when the database grants them
            if self._opened_at is None and time.monotonic() - began >= GRACE_SECONDS:
                self._opened_at = time.monotonic()
                log.error("database_gone", reason=failure, **self._about)
            self._end_waits()
            await asyncio.sleep(_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS - _PAUSE_SECONDS):
                    await self._wanted.wait()
        self._probed_at = time.monotonic()
        if self._opened_at is not None:
            log.warning("database_back", seconds=round(time.monotonic() - self._opened_at, 1), **self._about)
            self._opened_at = None
        self._end_waits()
        await self._check_pools()

    def _log_refusal(self, failure: str) -> None:
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = time.monotonic()
            log.warning("connection_refused", reason=failure, **self._about)

    def _end_waits(self) -> None:
        self._wanted.clear()
        self._ended.set()
        self._ended = asyncio.Event()

    async def _failure(self) -> str | None:
        """Returns why the database can't be used, or None if it can."""
        try:
            await self._pools[0].probe()
        except psycopg.Error as error:
            return reason(error)
        return None

    async def _check_pools(self) -> None:
        await asyncio.gather(*(pool.check() for pool in self._pools))
