"""The connections of one process to PostgreSQL."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import psycopg
import stamina
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from service.database.clock import ServerClock
from service.database.failures import NoAnswer, is_connection_lost, is_passing, translated
from service.database.files import named_queries
from service.errors import DatabaseDown, Overloaded
from service.observability.metrics import POOL_CONNECTIONS, POOL_WAITING

# How long things may take, in seconds, each less than the one that waits for it.
LOCK_SECONDS = 2
STATEMENT_SECONDS = 5
CONNECT_SECONDS = 5
TRANSACTION_SECONDS = 10
REQUEST_SECONDS = 10.0

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1

# Callers that wait for a connection. Each look-up takes about a millisecond: whoever came later would wait too long.
MAX_WAITING = 1000

# How often a pool's gauges are set: it asks nobody, and is oftener than anybody scrapes.
_GAUGES_SECONDS = 5.0

log = structlog.get_logger(__name__)


class _Pool(AsyncConnectionPool):
    """A pool that does not wait for ever for a connection on which it has asked whether there is anybody."""

    @staticmethod
    async def check_connection(connection: psycopg.AsyncConnection) -> None:
        """Is called for each idle connection when another one was lost. One that fails is replaced."""
        with _answered_within(1, connection):
            await connection.execute("")


class Database:
    """A pool of connections, and the statements of sql/queries.sql by their names. `pool` is its name in metrics."""

    def __init__(
        self, url: str, *, connections: int, statement_seconds: float = STATEMENT_SECONDS, pool: str = "other"
    ) -> None:
        self._name = pool
        self._statement_seconds = statement_seconds
        self._queries = named_queries()
        self._clock = ServerClock()
        self._check: asyncio.Task[None] | None = None
        self._gauges: asyncio.Task[None] | None = None
        self._warned = False
        self._pool = _Pool(
            url,
            open=False,
            min_size=connections,
            max_size=connections,
            timeout=CONNECT_SECONDS,
            max_waiting=MAX_WAITING,
            # Then it waits until a connection is asked for again, instead of ever longer.
            reconnect_timeout=CONNECT_SECONDS,
            configure=self._configure,
            kwargs={
                "autocommit": True,
                "application_name": "holdfast",
                "connect_timeout": CONNECT_SECONDS,
                # Find out about a server that vanished without a word, in seconds rather than in hours.
                "tcp_user_timeout": STATEMENT_SECONDS * 1000,
                "keepalives_idle": STATEMENT_SECONDS,
            },
        )

    async def open(self) -> None:
        """Starts to connect. Returns at once: a database that is not there yet is found when it is."""
        await self._pool.open(wait=False)
        self._gauges = asyncio.create_task(self._set_gauges())

    async def close(self) -> None:
        """Closes all connections."""
        if self._gauges:
            self._gauges.cancel()
        await self._pool.close(timeout=TRANSACTION_SECONDS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection in autocommit mode. Raises `DatabaseDown` if none can be had in time: nothing was sent then."""
        try:
            async with self._pool.connection() as connection:
                if self._clock.is_stale:
                    [(server_time,)] = await self.rows(connection, "server_time")
                    self._clock.set(server_time)
                yield connection
        except TooManyRequests as error:
            raise Overloaded from error
        except PoolTimeout as error:
            raise DatabaseDown from error
        except psycopg.Error as error:
            if is_connection_lost(error):
                self._check_idle_connections()
            raise

    async def rows(self, connection: psycopg.AsyncConnection, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs the named statement on a connection of the caller's, once. Raises `psycopg.Error`."""
        try:
            with _answered_within(self._statement_seconds + 1, connection):
                cursor = await connection.execute(self._queries[name], parameters)
                return await cursor.fetchall()
        except psycopg.Error as error:
            if error.sqlstate == "HF001":
                self._clock.doubt()  # perhaps the server's was set
            raise

    async def fetch(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a named statement that may be run twice without harm, until it succeeds or it is too late.

        Raises `Overloaded` or `DatabaseDown`.
        """

        def retryable(error: Exception) -> bool:
            return is_passing(error) or (is_connection_lost(error) and not isinstance(error, NoAnswer))

        return await self._retried(name, lambda: parameters, retryable)

    async def change(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a named statement that takes a deadline last, until it succeeds or it is too late.

        If its answer was lost it is not run again: it may have had its effect. Raises `Overloaded` or `DatabaseDown`.
        """
        return await self._retried(name, lambda: (*parameters, self.deadline(LOCK_SECONDS + 1)), is_passing)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Statements that take effect together at the end of the block, or not at all if it is left by an error.

        Nothing is tried twice. Raises `Overloaded` or `DatabaseDown`.
        """
        try:
            async with self.connection() as connection:
                with _answered_within(TRANSACTION_SECONDS + 1, connection):
                    async with connection.transaction():
                        yield Transaction(self, connection)
        except psycopg.Error as error:
            raise translated(error) from error

    async def _retried(
        self, name: str, parameters: Callable[[], tuple[object, ...]], retryable: Callable[[Exception], bool]
    ) -> list[tuple[Any, ...]]:
        try:
            async for attempt in stamina.retry_context(
                on=retryable,
                attempts=ATTEMPTS,
                timeout=REQUEST_SECONDS,
                wait_initial=FIRST_PAUSE_SECONDS,
                wait_jitter=FIRST_PAUSE_SECONDS,
            ):
                with attempt:
                    async with self.connection() as connection:
                        return await self.rows(connection, name, *parameters())
        except psycopg.Error as error:
            raise translated(error) from error
        raise AssertionError("unreachable: the last attempt returned or raised")

    def deadline(self, seconds: float) -> datetime:
        """The instant in so many seconds, by the clock of the server."""
        return self._clock.in_seconds(seconds)

    async def _set_gauges(self) -> None:
        idle, used = (POOL_CONNECTIONS.labels(self._name, state) for state in ("idle", "used"))
        waiting = POOL_WAITING.labels(self._name)
        while True:
            statistics = self._pool.get_stats()
            idle.set(statistics["pool_available"])
            used.set(statistics["pool_size"] - statistics["pool_available"])
            waiting.set(statistics.get("requests_waiting", 0))
            await asyncio.sleep(_GAUGES_SECONDS)

    def _check_idle_connections(self) -> None:
        """Where one connection broke, others will have: they are replaced before a request meets them."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._pool.check())

    async def _configure(self, connection: psycopg.AsyncConnection) -> None:
        """Makes a new connection ready.

        A pooler gives each transaction whichever of its connections is free. Statements that were prepared on another
        one are missing there, or are others by the same name; and what is set for a session reaches one of many and
        stays there for somebody else. So behind a pooler nothing is prepared, and the timeouts have to be the role's.
        """
        with _answered_within(CONNECT_SECONDS, connection):
            await self._set_up(connection)

    async def _set_up(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SET timezone = 'UTC'")  # poolers keep this one for each client
        timeouts = {
            "lock_timeout": LOCK_SECONDS,
            "statement_timeout": self._statement_seconds,
            "idle_in_transaction_session_timeout": TRANSACTION_SECONDS,
        }
        if connection.info.server_version >= 170000:
            timeouts["transaction_timeout"] = max(TRANSACTION_SECONDS, self._statement_seconds)
        [(pid, missing)] = await self.rows(connection, "session", [*timeouts])
        # Who is told of another process than there is talks to somebody in between.
        if pid != connection.info.backend_pid:
            connection.prepare_threshold = None
            self._warn(missing)
        else:
            # What is asked outside of the verbs, which switch it off themselves: see sql/README.md.
            await connection.execute("SET jit = off")
            for name, seconds in timeouts.items():
                await connection.execute("SELECT set_config(%s, %s, false)", [name, f"{seconds}s"])

    def _warn(self, missing: list[str]) -> None:
        if missing and not self._warned:
            self._warned = True
            log.warning("timeouts_missing", settings=missing, hint="behind a pooler they have to be the role's")


class Transaction:
    """The statements of sql/queries.sql, within one transaction."""

    def __init__(self, database: Database, connection: psycopg.AsyncConnection) -> None:
        self._database = database
        self._connection = connection

    async def fetch(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a named statement."""
        return await self._database.rows(self._connection, name, *parameters)

    async def change(self, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a named statement that takes a deadline last."""
        return await self.fetch(name, *parameters, self._database.deadline(LOCK_SECONDS + 1))


@contextmanager
def _answered_within(seconds: float, connection: psycopg.AsyncConnection) -> Iterator[None]:
    """Ends a connection on which no answer comes: the server would have ended the statement by itself by then, so it
    is out of reach, stopped, or paused by a pooler. Raises `NoAnswer`.

    Cancelling the statement would not do: psycopg then asks the server to cancel it too, and waits for that.
    """
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except psycopg.OperationalError as error:
        if ended:
            raise NoAnswer("no answer in time") from error
        raise
    finally:
        timer.cancel()
