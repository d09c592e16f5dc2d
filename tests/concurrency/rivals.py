"""Other clients, who act while the test acts: each on a thread and a connection of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import psycopg

from tests.database import TestDatabase

T = TypeVar("T")


class Rivals:
    """The other clients of one test's database."""

    def __init__(self, database: TestDatabase) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(64)
        self._clients: list[TestDatabase] = []
        self._queued: list[Future[object]] = []

    def connect(self) -> TestDatabase:
        """One more client."""
        client = TestDatabase(self._database.admin_url)
        # Two that wait for each other for ever are a failure to be seen, not a run that hangs.
        client.rows("SET lock_timeout = '20s'")
        self._clients.append(client)
        return client

    def start(self, call: Callable[[TestDatabase], T], client: TestDatabase | None = None) -> Future[T]:
        """Lets a client, by default one more, make a call now."""
        return self._threads.submit(call, client or self.connect())

    def queue(self, call: Callable[[TestDatabase], T], client: TestDatabase | None = None) -> Future[T]:
        """Lets a client make a call, and returns when it waits for a lock, behind those queued before.

        PostgreSQL gives a row's lock to those who wait for it in the order in which they came.
        """
        ahead = sum(not future.done() for future in self._queued)
        future = self.start(call, client)
        self._queued.append(future)  # type: ignore[arg-type]  # only asked whether it is done
        self._database.wait_until_blocked(ahead + 1)
        return future

    def close(self) -> None:
        """Disconnects everybody. Calls that are still under way, as after a failure, are broken off."""
        for client in self._clients:
            self._database.value("SELECT pg_terminate_backend(%s)", client.admin.info.backend_pid)
        self._threads.shutdown()
        for client in self._clients:
            client.close()


def wait_for(connection: psycopg.Connection, instant: datetime) -> None:
    """Returns when an instant is past, by the server's clock."""
    connection.execute("SELECT pg_sleep(greatest(0, extract(epoch FROM %s - clock_timestamp())))", [instant])
    assert connection.execute("SELECT clock_timestamp() >= %s", [instant]).fetchone() == (True,)
