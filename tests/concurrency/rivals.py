"""Clients that act concurrently with the test, each on a thread and a connection of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import psycopg

from tests.database import TestDatabase

T = TypeVar("T")


class Rivals:
    """Runs calls of concurrent clients on the database of a test."""

    def __init__(self, database: TestDatabase) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(64)
        self._clients: list[TestDatabase] = []
        self._queued: list[Future[object]] = []

    def connect(self) -> TestDatabase:
        """Connects another client."""
        client = TestDatabase(self._database.admin_url)
        # A deadlock between clients has to fail the test instead of hanging it.
        client.rows("SET lock_timeout = '20s'")
        self._clients.append(client)
        return client

    def start(self, call: Callable[[TestDatabase], T], client: TestDatabase | None = None) -> Future[T]:
        """Starts a call on a client, by default a new one, and returns without waiting for it."""
        return self._threads.submit(call, client or self.connect())

    def queue(self, call: Callable[[TestDatabase], T], client: TestDatabase | None = None) -> Future[T]:
        """Starts a call and returns when it waits for a lock, behind the calls that were queued before.

        PostgreSQL grants a row lock to waiting transactions in the order of their arrival.
        """
        ahead = sum(not future.done() for future in self._queued)
        future = self.start(call, client)
        self._queued.append(future)  # type: ignore[arg-type]  # only its done() is called
        self._database.wait_until_blocked(ahead + 1)
        return future

    def close(self) -> None:
        """Disconnects all clients, which aborts the calls that a failed test left running."""
        for client in self._clients:
            self._database.value("SELECT pg_terminate_backend(%s)", client.admin.info.backend_pid)
        self._threads.shutdown()
        for client in self._clients:
            client.close()


def wait_for(connection: psycopg.Connection, instant: datetime) -> None:
    """Returns when an instant is past by the server's clock."""
    connection.execute("SELECT pg_sleep(greatest(0, extract(epoch FROM %s - clock_timestamp())))", [instant])
    assert connection.execute("SELECT clock_timestamp() >= %s", [instant]).fetchone() == (True,)
