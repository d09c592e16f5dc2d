"""Calls beside the test's own: each in a thread and on a connection, so that it may wait for a lock."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psycopg

from tests.database import TestDatabase

Answer = TypeVar("Answer")
# Nothing that a test waits for takes nearly as long.
SECONDS = 30


class Rivals:
    """Connections of the service's login, each with one call to make."""

    def __init__(self, database: TestDatabase, pool: ThreadPoolExecutor) -> None:
        self._database = database
        self._pool = pool

    def start(self, call: Callable[[psycopg.Connection], Answer]) -> Future[Answer]:
        """Makes a call and returns without waiting for its answer."""

        def on_own_connection() -> Answer:
            with self._database.connect() as connection:
                return call(connection)

        return self._pool.submit(on_own_connection)
