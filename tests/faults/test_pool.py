"""The pools of connections: none is lost with a caller, and no business takes all of them."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from structlog.testing import capture_logs

from service.database import connections
from service.database.connections import STATEMENT_SECONDS, Database
from service.database.failures import NoAnswer
from service.errors import Overloaded
from tests.connections import open_database
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 20


async def until_idle(database: Database, count: int) -> None:
    """Returns when a pool has this many idle connections."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while database._pool.get_stats()["pool_available"] != count:  # noqa: ASYNC110 — the pool has no event
            await asyncio.sleep(0.01)


async def test_a_caller_that_is_cancelled_while_it_returns_a_connection_does_not_lose_it(
    database: TestDatabase,
) -> None:
    """The pool may be busy at that moment: with a caller that leaves, for example."""
    async with open_database(database.url, connections=2) as pool:
        await until_idle(pool, 2)
        borrowed, may_return = asyncio.Event(), asyncio.Event()

        async def borrow() -> None:
            async with pool.connection():
                borrowed.set()
                await may_return.wait()

        borrower = asyncio.create_task(borrow())
        await borrowed.wait()
        async with pool._pool._lock:
            may_return.set()
            await asyncio.wait([borrower], timeout=0.05)
            borrower.cancel()
            await asyncio.wait([borrower], timeout=0.05)
        await asyncio.wait([borrower])
        await until_idle(pool, 2)


@asynccontextmanager
async def slow_statements(pool: Database, business_ids: Iterable[str]) -> AsyncIterator[None]:
    """Runs a slow statement of each of these businesses during the block; they use all but one of three connections."""
    slow = [asyncio.create_task(pool.fetch("sleep", business_id, 30)) for business_id in business_ids]
    await until_idle(pool, 1)
    yield
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    await until_idle(pool, 3)


async def test_a_business_takes_half_of_the_connections(database: TestDatabase) -> None:
    """The statements of another one, and those of no business, do not wait for its slow ones."""
    async with open_database(database.url, connections=3) as pool:
        pool._queries = {**pool._queries, "sleep": b"SELECT %s, pg_sleep(%s)"}
        async with slow_statements(pool, ["salon"] * 20):
            assert await pool.fetch("sleep", "clinic", 0)
            assert await pool.fetch("server_time")
        assert await pool.fetch("sleep", "salon", 0)


async def test_a_node_takes_half_of_the_connections(database: TestDatabase) -> None:
    """Behind a proxy, where a frozen one keeps the statements of all of its businesses."""
    async with open_database(database.url, connections=3) as pool:
        pool._queries = {**pool._queries, "sleep": b"SELECT %s, pg_sleep(%s)"}
        await until_idle(pool, 3)
        pool.nodes.count(2)
        here, there = ([name for name in "abcdefgh" if pool.nodes.partition(name) == number] for number in (0, 1))
        assert len(here) > 2
        async with slow_statements(pool, here):
            assert await pool.fetch("sleep", there[0], 0)


async def test_the_callers_that_wait_for_a_connection_are_bounded(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later one would wait too long, and is refused at once."""
    monkeypatch.setattr(connections, "MAX_WAITING", 1)
    async with open_database(database.url, connections=1) as pool:
        async with pool.connection():
            waiting = asyncio.create_task(pool.fetch("server_time"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not pool._pool.get_stats().get("requests_waiting"):  # noqa: ASYNC110 — the pool has no event
                    await asyncio.sleep(0.01)
            with pytest.raises(Overloaded):
                await pool.fetch("server_time")
        assert await waiting


async def test_a_pool_that_is_closed_leaves_no_task(database: TestDatabase) -> None:
    """Neither that of its gauges, nor a probe of the database or of a node behind a proxy."""
    before = asyncio.all_tasks()
    async with open_database(database.url) as pool:
        assert await pool.fetch("server_time")
        pool.nodes.count(2)
        pool.nodes.lost(NoAnswer("no answer in time"), None)
        pool._breaker.suspect()
        assert len(asyncio.all_tasks() - before) > 4
    assert asyncio.all_tasks() == before


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the option is Linux's")
async def test_a_server_that_vanished_is_noticed_in_seconds(database: TestDatabase) -> None:
    """By TCP, whose own limits are hours: on an idle connection, and on one with a statement that was not received."""
    async with open_database(database.url) as pool, pool.connection() as connection:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as shared:
            assert shared.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == STATEMENT_SECONDS
            assert shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == STATEMENT_SECONDS * 1000


async def test_the_connection_that_was_returned_last_is_lent_first(database: TestDatabase) -> None:
    """A few backends with warm caches answer a quiet service, not all of them in turn."""
    async with open_database(database.url, connections=3) as pool:
        pool._queries = {**pool._queries, "pid": b"SELECT pg_backend_pid()"}
        pids = set()
        for _ in range(6):
            await until_idle(pool, 3)
            pids.add((await pool.fetch("pid"))[0])
        assert len(pids) == 1


async def test_a_check_keeps_the_order_of_connections(database: TestDatabase) -> None:
    """After a connection was lost, the others are checked. The one that was used last is still the next."""
    async with open_database(database.url, connections=3) as pool:
        pool._queries = {**pool._queries, "pid": b"SELECT pg_backend_pid()"}
        await until_idle(pool, 3)
        [before] = await pool.fetch("pid")
        await until_idle(pool, 3)
        await pool.check()
        await until_idle(pool, 3)
        assert await pool.fetch("pid") == [before]


async def test_a_connection_that_reached_no_node_is_lent_after_the_others(database: TestDatabase) -> None:
    """Behind a proxy, where the others may have a link to the node and this one gets none. Lent first, it would fail
    every call of a quiet service."""
    async with open_database(database.url, connections=3) as pool:
        fail = b"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000'; END $$"
        pool._queries = {**pool._queries, "pid": b"SELECT pg_backend_pid()", "fail": fail}
        await until_idle(pool, 3)
        pool.nodes.count(2)
        for fails in (lambda: pool.attempt("fail"), lambda: pool.ask(0)):
            [before] = await pool.fetch("pid")
            await until_idle(pool, 3)
            with pytest.raises(psycopg.Error):
                await fails()
            await until_idle(pool, 3)
            [after] = await pool.fetch("pid")
            assert after != before
            await until_idle(pool, 3)


async def test_a_connection_that_reached_no_node_once_is_lent_first_again(database: TestDatabase) -> None:
    """After it was lent in its turn. Otherwise all connections would be lent in turn after the outage of a node."""
    async with open_database(database.url, connections=2) as pool:
        await until_idle(pool, 2)
        async with pool.connection() as failed:
            pool._pool.lend_last(failed)
        await until_idle(pool, 2)
        async with AsyncExitStack() as other:
            assert await other.enter_async_context(pool.connection()) is not failed
            async with pool.connection() as last:
                assert last is failed
                await other.aclose()
                await until_idle(pool, 1)
        await until_idle(pool, 2)
        async with pool.connection() as first:
            assert first is failed


@pytest.mark.parametrize(("name", "parameters"), [("reservation_health", ()), ("invariant_violations", (False,))])
async def test_a_table_that_is_locked_too_long_is_logged_without_a_business(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, name: str, parameters: tuple[object, ...]
) -> None:
    """A statement about all businesses has no parameter, or none that names one. Its caller gets PostgreSQL's error."""
    monkeypatch.setattr(connections, "LOCK_SECONDS", 0.1)
    async with open_database(database.url, connections=1) as pool:
        with database.admin.transaction(), capture_logs() as lines:
            database.rows("LOCK TABLE booking.reservations, booking.appointments")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await pool.attempt(name, *parameters)
    assert [(line["event"], line["business_id"]) for line in lines] == [("lock_timed_out", None)]
