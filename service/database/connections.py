"""The connections of one process to PostgreSQL."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

import psycopg
import structlog
from psycopg.types.json import set_json_loads
from psycopg_pool import PoolTimeout, TooManyRequests

from service.database.breaker import CircuitBreaker
from service.database.failures import NoAnswer, is_connection_lost, is_passing, pauses, translated
from service.database.migrations import named_queries
from service.database.nodes import NodeLost, Nodes
from service.database.pool import ConnectionPool, answered_within
from service.errors import DatabaseDown, Overloaded
from service.observability.logging import error_name
from service.observability.metrics import LOCK_WAIT_SECONDS, POOL_CONNECTIONS, POOL_WAITING
from service.shares import Shares

# Time limits in seconds, each less than that of the step that waits for it.
LOCK_SECONDS = 2
# From the start of a change until its deadline.
CHANGE_SECONDS = LOCK_SECONDS + 1
STATEMENT_SECONDS = 5
CONNECT_SECONDS = 5
TRANSACTION_SECONDS = 10
REQUEST_SECONDS = 10.0

# Callers that wait for a connection. A look-up takes about a millisecond: later callers would wait too long.
MAX_WAITING = 1000

_CONNECT_OPTIONS: Final[dict[str, Any]] = {
    "autocommit": True,
    "application_name": "holdfast",
    # Overrides the environment (PGCLIENTENCODING), the URL and the role.
    "client_encoding": "UTF8",
    "connect_timeout": CONNECT_SECONDS,
    # A server that vanished without closing its connections is noticed in seconds rather than hours.
    "tcp_user_timeout": STATEMENT_SECONDS * 1000,
    "keepalives_idle": STATEMENT_SECONDS,
}

T = TypeVar("T")

# The rows that a statement returns, and a function that works on a connection.
Rows = list[tuple[Any, ...]]
_Run = Callable[[psycopg.AsyncConnection], Awaitable[T]]

# How long the question to a node waits for a connection of its pool: a busy pool must not delay those of the others.
_ASK_SECONDS: Final = 0.1

# How long the server's clock is assumed to run like our monotonic one before it is read again.
_CLOCK_SECONDS = 10.0

# How often a pool's gauges are set: more often than they are scraped, and it costs no query.
_GAUGES_SECONDS = 5.0

log = structlog.get_logger(__name__)


class _ServerClock:
    """The server's clock, as of its last reading and our monotonic clock: deadlines are instants of the server's."""

    def __init__(self) -> None:
        self.set(datetime.now(UTC))
        self.doubt()

    def set(self, server_time: datetime) -> None:
        self._server_time = server_time
        self._set_at = time.monotonic()
        self._stale_at = self._set_at + _CLOCK_SECONDS

    def doubt(self) -> None:
        """Marks the reading as stale, after it seemed wrong."""
        self._stale_at = -math.inf

    @property
    def is_stale(self) -> bool:
        return time.monotonic() >= self._stale_at

    def in_seconds(self, seconds: float) -> datetime:
        return self._server_time + timedelta(seconds=time.monotonic() - self._set_at + seconds)


class Reader(Protocol):
    """What runs reads: one database, or a standby with its primary."""

    async def fetch(self, name: str, *parameters: object) -> Rows:
        """Runs a named statement. Raises `Overloaded` or `DatabaseDown`."""


class Database:
    """A pool of connections, and the statements of sql/queries.sql by their names.

    `statement_seconds` is the time limit of a statement, `wait_seconds` that of the wait for a connection, `pool` the
    name of the pool in metrics, `breaker` and `nodes` those of all pools on the same database. The statements of one
    business, their first parameter, take half of the connections at most, rounded up; behind a proxy, so do those of
    one node. Values of type jsonb are returned as bytes: the model that they belong to parses them.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        statement_seconds: float = STATEMENT_SECONDS,
        wait_seconds: float = CONNECT_SECONDS,
        pool: str = "other",
        breaker: CircuitBreaker | None = None,
        nodes: Nodes | None = None,
    ) -> None:
        self._name = pool
        self._statement_seconds = statement_seconds
        self._queries = named_queries()
        self._clock = _ServerClock()
        # By business, and by the number of its partition.
        self._shares = Shares((connections + 1) // 2)
        self._breaker = breaker or CircuitBreaker()
        self._breaker.guard(self)
        # Those that were made, as long as they exist: idle, lent, or on their way back.
        self._connections = WeakSet[psycopg.AsyncConnection]()
        self._gauges: asyncio.Task[None] | None = None
        self._warned = False
        self._url = url
        self.nodes = nodes or nodes_behind(url)
        self._pool = ConnectionPool(
            url,
            name=pool,
            open=False,
            min_size=connections,
            max_size=connections,
            timeout=wait_seconds,
            max_waiting=MAX_WAITING,
            # The breaker makes the pool connect again, without the pool's pauses.
            reconnect_timeout=0,
            reconnect_failed=lambda _: self._breaker.suspect(),
            configure=self._configure,
            # With a reset the pool's own workers return connections: a caller that is cancelled while it returns one
            # would lose it. Each connection may occupy a worker while it is made, and one is left over.
            reset=_nothing_to_reset,
            num_workers=connections + 1,
            kwargs=_CONNECT_OPTIONS,
        )

    async def open(self) -> None:
        """Starts to connect, and returns at once: a database that is not up yet is connected to when it is."""
        await self._pool.open(wait=False)
        self._gauges = asyncio.create_task(self._set_gauges())

    async def close(self) -> None:
        if self._gauges:
            self._gauges.cancel()
        await self._breaker.stop()
        await self.nodes.stop()
        await self._pool.close(timeout=TRANSACTION_SECONDS)

    @asynccontextmanager
    async def connection(self, business_id: str | None = None) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lends a connection in autocommit mode. Raises `Overloaded` or `DatabaseDown` if none is free in time, and if
        the node of the business is down."""
        await self.refuse_if_down(business_id)
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
            # Where one connection broke, others did: they are replaced before a request gets one.
            if is_connection_lost(error) and not isinstance(error, NodeLost):
                self._breaker.suspect()
            raise

    async def refuse_if_down(self, business_id: str | None = None) -> None:
        """Raises `DatabaseDown` while the database, or the node of a business, is known to be down."""
        if self._breaker.is_open:
            await self._breaker.probed()
        await self.nodes.refuse_if_down(business_id, self)

    @property
    def has_connection(self) -> bool:
        return any(not connection.closed for connection in self._connections)

    async def probe(self) -> None:
        """Connects, besides the pool, and runs a statement. Raises `psycopg.Error`."""
        async with await _connect(self._url) as connection:
            await self._pool.check_connection(connection)

    async def check(self) -> None:
        """Drops idle connections that are broken, and begins to connect if none is left."""
        await self._pool.check()

    async def ask(self, partition: int) -> None:
        """Asks a node behind the proxy over a connection of the pool. Raises `psycopg.Error`."""
        async with self._pool.connection(_ASK_SECONDS) as connection:
            try:
                with answered_within(self._statement_seconds + 1, connection):
                    await connection.execute(self._queries["ask_node"], [partition])
            except psycopg.Error:
                self._pool.lend_last(connection)
                raise

    async def rows(self, connection: psycopg.AsyncConnection, name: str, *parameters: object) -> Rows:
        """Runs a named statement on the caller's connection, once. Raises `psycopg.Error`."""
        began = time.monotonic()
        try:
            with answered_within(self._statement_seconds + 1, connection):
                cursor = await connection.execute(self._queries[name], parameters)
                return await cursor.fetchall()
        except psycopg.Error as error:
            if error.sqlstate == "HF001":
                self._clock.doubt()  # the server's clock may have been set
            elif error.sqlstate == "55P03":
                _record_lock_timeout(parameters, time.monotonic() - began)
            if self.nodes.lost(error, parameters[0] if parameters else None):
                self._pool.lend_last(connection)
                raise NodeLost("the outcome is unknown") from error
            raise

    async def fetch(self, name: str, *parameters: object) -> Rows:
        """Runs a named statement that may be run twice without harm, until it succeeds or the time is up. Raises
        `Overloaded` or `DatabaseDown`."""
        return await self._retried(
            _business(parameters), lambda connection: self.rows(connection, name, *parameters), _is_harmless
        )

    async def fetch_everywhere(self, name: str, *parameters: object) -> tuple[Rows, tuple[int, ...]]:
        """Runs a statement about all businesses like `fetch`: of a proxy, it asks all nodes that are up.

        Returns the rows, and the partitions that were left out. Raises `Overloaded` or `DatabaseDown`.
        """
        return await self._everywhere(name, parameters, _is_harmless)

    async def observe(self, name: str, *parameters: object) -> tuple[Rows, tuple[int, ...]]:
        """Runs a statement like `fetch_everywhere`, but waits for a lock, or for a slow statement, only once.

        For probes and pages of operators, which ask again by themselves: a later answer would look like an outage.
        """
        return await self._everywhere(name, parameters, _is_cut_off)

    async def _everywhere(
        self, name: str, parameters: tuple[object, ...], retryable: Callable[[Exception], bool]
    ) -> tuple[Rows, tuple[int, ...]]:
        async def ask(connection: psycopg.AsyncConnection) -> tuple[Rows, tuple[int, ...]]:
            left_out = self.nodes.down
            if not left_out:
                return await self.rows(connection, name, *parameters), ()
            async with connection.transaction():
                await self.rows(connection, "leave_out", ",".join(map(str, left_out)))
                return await self.rows(connection, name, *parameters), left_out

        return await self._retried(None, ask, retryable)

    async def change(self, name: str, *parameters: object) -> Rows:
        """Runs a named statement whose last parameter is a deadline, until it succeeds or the time is up.

        A statement whose answer was lost is not run again: it may have had its effect. Raises `Overloaded` or
        `DatabaseDown`.
        """
        return await self._retried(
            _business(parameters),
            lambda connection: self.rows(connection, name, *parameters, self.deadline(CHANGE_SECONDS)),
            is_passing,
        )

    async def attempt(self, name: str, *parameters: object) -> Rows:
        """Runs a named statement once. Raises `psycopg.Error`, `Overloaded` and `DatabaseDown`."""
        return await self._once(_business(parameters), lambda connection: self.rows(connection, name, *parameters))

    async def _once(self, business_id: str | None, run: _Run[T]) -> T:
        async with (
            self._shares.turn(business_id),
            self._shares.turn(self.nodes.partition(business_id)),
            self.connection(business_id) as connection,
        ):
            return await run(connection)

    async def _retried(self, business_id: str | None, run: _Run[T], retryable: Callable[[Exception], bool]) -> T:
        ends_at = time.monotonic() + REQUEST_SECONDS
        left = pauses()
        while True:
            try:
                return await self._once(business_id, run)
            except psycopg.Error as error:
                pause = next(left, None) if retryable(error) else None
                if pause is None or time.monotonic() + pause > ends_at:
                    raise translated(error) from error
                log.debug("retry", error=error_name(error))
            await asyncio.sleep(pause)

    def deadline(self, seconds: float) -> datetime:
        """Returns the instant `seconds` from now, by the server's clock."""
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

    async def _configure(self, connection: psycopg.AsyncConnection) -> None:
        """Sets up a new connection.

        A pooler gives each transaction any free connection of its own. Statements prepared on another one are missing
        there, or differ under the same name; and settings of a session reach one connection of many and stay there for
        another client. So behind a pooler nothing is prepared, and the timeouts have to be those of the role.
        """
        set_json_loads(lambda unparsed: unparsed, connection)
        self._connections.add(connection)
        timeouts = {
            "lock_timeout": LOCK_SECONDS,
            "statement_timeout": self._statement_seconds,
            "idle_in_transaction_session_timeout": TRANSACTION_SECONDS,
        }
        if connection.info.server_version >= 170000:
            timeouts["transaction_timeout"] = max(TRANSACTION_SECONDS, self._statement_seconds)
        with answered_within(CONNECT_SECONDS, connection):
            # Poolers keep these settings for each client. The driver reads instants in the style ISO only.
            await connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'")
            [(pid, missing, partitions)] = await self.rows(connection, "session", [*timeouts])
            self.nodes.count(partitions)
            # The backend that answers is not the one that was connected to: there is a pooler in between.
            if pid != connection.info.backend_pid:
                connection.prepare_threshold = None
                if missing and not self._warned:
                    self._warned = True
                    log.warning("timeouts_missing", settings=missing, hint="behind a pooler they have to be the role's")
                return
            # For the reads; the verbs switch it off themselves. See sql/README.md.
            await connection.execute("SET jit = off")
            # A pool keeps idle connections. One that the server ended takes the first booking after a pause with it.
            if connection.info.server_version >= 140000:
                await connection.execute("SET idle_session_timeout = 0")
            for name, seconds in timeouts.items():
                await connection.execute("SELECT set_config(%s, %s, false)", [name, f"{seconds}s"])


def nodes_behind(url: str) -> Nodes:
    """Returns the nodes of the proxy at `url`; none if that is a PostgreSQL with data of its own."""

    async def ask(partition: int) -> None:
        async with await _connect(url) as connection:
            await connection.execute(named_queries()["ask_node"], [partition])

    return Nodes(ask)


async def _connect(url: str) -> psycopg.AsyncConnection:
    """Connects besides the pools. Raises `psycopg.Error`.

    If it is cancelled, the half-made connection is closed at once. It belongs to a frame that psycopg leaves in the
    traceback, and so would live as long as the cancelled task. Meanwhile PostgreSQL waits for the rest of the log-in,
    for a minute, and DROP DATABASE, and a standby that replays one, wait for each process that logs in.
    """
    try:
        return await psycopg.AsyncConnection.connect(url, **_CONNECT_OPTIONS)
    except asyncio.CancelledError as error:
        raise error.with_traceback(None) from None


async def _nothing_to_reset(_: psycopg.AsyncConnection) -> None:
    pass


def _business(parameters: tuple[object, ...]) -> str | None:
    """Returns the business of a statement, if it has one. A slug stands for its business."""
    return parameters[0] if parameters and isinstance(parameters[0], str) else None


def _is_harmless(error: Exception) -> bool:
    """Returns whether a read is worth another attempt after an error."""
    return is_passing(error) or _is_cut_off(error)


def _is_cut_off(error: Exception) -> bool:
    """Returns whether the connection broke before the time limit of an answer."""
    return is_connection_lost(error) and not isinstance(error, NoAnswer)


def _record_lock_timeout(parameters: tuple[object, ...], seconds: float) -> None:
    """Counts and logs a wait for a lock that timed out. Of a statement about a list of businesses, the first one is
    waited for."""
    LOCK_WAIT_SECONDS.observe(seconds)
    first = parameters[0] if parameters else None
    business_id = first[0] if isinstance(first, list) else _business(parameters)
    log.warning("lock_timed_out", business_id=business_id, seconds=round(seconds, 2))
