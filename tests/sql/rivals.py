"""Calls that run concurrently with the test, each in a thread and on a connection of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psycopg

from tests.database import TestDatabase

Answer = TypeVar("Answer")
# An upper limit: no test waits nearly as long.
SECONDS = 30


class Rivals:
    """Connections of the service's login, each for one call."""

    def __init__(self, database: TestDatabase, pool: ThreadPoolExecutor) -> None:
        self._database = database
        self._pool = pool

    def start(self, call: Callable[[psycopg.Connection], Answer]) -> Future[Answer]:
        """Starts a call and returns a future of its answer."""

        def on_own_connection() -> Answer:
            with self._database.connect() as connection:
                return call(connection)

        return self._pool.submit(on_own_connection)
