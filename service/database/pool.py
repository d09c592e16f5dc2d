"""The pool of psycopg, with another order of its connections, and the time limit of an answer."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg_pool import AsyncConnectionPool

from service.database.failures import NoAnswer


class _LastInFirstOut(deque[psycopg.AsyncConnection]):
    """The idle connections of a pool, of which the one that was returned last is lent first: the caches of its backend
    are warm. In turns, as the pool lends them by itself, a refusal cost PostgreSQL a third more.

    The next one to be lent is the leftmost, where the pool takes it. Its check puts the rightmost back first, and so
    keeps the order. Those in `failed` are lent last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed = WeakSet[psycopg.AsyncConnection]()

    def append(self, connection: psycopg.AsyncConnection) -> None:
        if connection in self.failed:
            self.failed.discard(connection)
            super().append(connection)
        else:
            self.appendleft(connection)


class ConnectionPool(AsyncConnectionPool):
    """A pool that lends a few connections often rather than all in turn, and whose check of an idle one has a time
    limit."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool = self._idle = _LastInFirstOut()

    def lend_last(self, connection: psycopg.AsyncConnection) -> None:
        """Lends a connection, once it is returned, after the others: it did not reach a node behind the proxy, and the
        others may have a link to the node."""
        self._idle.failed.add(connection)

    @staticmethod
    async def check_connection(connection: psycopg.AsyncConnection) -> None:
        """Checks that a connection is answered. The pool replaces an idle one that fails."""
        with answered_within(1, connection):
            await connection.execute("")


@contextmanager
def answered_within(seconds: float, connection: psycopg.AsyncConnection) -> Iterator[None]:
    """Shuts a connection down if no answer comes in time. The server would have ended the statement by then, so it is
    unreachable, stopped, or paused by a pooler. Raises `NoAnswer`.

    Cancelling the task would not do: psycopg then asks the server to cancel the statement, and waits for that.
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
