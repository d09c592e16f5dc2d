"""The circuit breaker of PostgreSQL: while the database is known to be down, calls are refused at once.

A lost connection, or one that can't be made, is only a suspicion: other connections may work. The breaker then probes
the database beside the requests. It opens after `GRACE_SECONDS` in which no pool has a connection and none can be made,
and closes with the first probe that succeeds. Until it opens, requests wait for a connection, so that a restart of the
database delays them and refuses none.
"""

import asyncio
import time
from typing import Final, Protocol

import psycopg
import structlog

from service.background import end, in_background
from service.database.failures import reason
from service.errors import DatabaseDown

# A PostgreSQL that was killed is back within this time, if it has little to replay.
GRACE_SECONDS: Final = 1.0
# How often the database is probed, and so how long requests are refused after it is back.
PROBE_SECONDS: Final = 0.5

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
    """The state of one database as all pools of a process see it."""

    def __init__(self) -> None:
        self._pools: list[Pool] = []
        self._opened_at: float | None = None
        self._watch: asyncio.Task[None] | None = None

    def guard(self, pool: Pool) -> None:
        """Adds a pool of connections to the same database."""
        self._pools.append(pool)

    def refuse_if_open(self) -> None:
        """Raises `DatabaseDown` while the database is known to be down."""
        if self._opened_at is not None:
            self.suspect()  # so that it can't stay open, even if a defect ended the probes
            raise DatabaseDown

    def suspect(self) -> None:
        """Probes the database, unless that is under way."""
        if self._watch is None or self._watch.done():
            self._watch = in_background("probe database", self._probe_until_up())

    async def stop(self) -> None:
        """Ends the probes."""
        if self._watch:
            await end([self._watch])

    async def _probe_until_up(self) -> None:
        began = time.monotonic()
        while failure := await self._failure():
            await self._check_pools()
            if any(pool.has_connection for pool in self._pools):
                break  # they serve; more are made when the database grants them
            if self._opened_at is None and time.monotonic() - began >= GRACE_SECONDS:
                self._opened_at = time.monotonic()
                log.error("database_gone", reason=failure)
            await asyncio.sleep(PROBE_SECONDS)
        if self._opened_at is not None:
            log.warning("database_back", seconds=round(time.monotonic() - self._opened_at, 1))
            self._opened_at = None
        await self._check_pools()

    async def _failure(self) -> str | None:
        """Returns why the database can't be used, or None if it can."""
        try:
            await self._pools[0].probe()
        except psycopg.Error as error:
            return reason(error)
        return None

    async def _check_pools(self) -> None:
        await asyncio.gather(*(pool.check() for pool in self._pools))
