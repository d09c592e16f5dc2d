"""The PostgreSQL clusters of a test session, and the template database that each test's database is a copy of."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import psycopg
from psycopg import sql

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.process.hosting import create_login
from tests.database import LOGIN, PASSWORD, TestDatabase, with_database
from tests.folders import data_folder
from tests.reused_database import ReusedDatabase

# For a server that only tests use. Nothing has to survive a power cut; a login is not made slow to guess, since each
# test makes a dozen; in memory the write-ahead log must not grow to the gigabyte that it may have elsewhere; and plans
# must not depend on the moment at which a table is analysed.
SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "scram_iterations": "1",
    "max_wal_size": "256MB",
    "autovacuum": "off",
}
_NO_OPTIONS: Final = sql.SQL("")


class RunningCluster:
    """One cluster: `url` is its superuser's, `strategy` is how CREATE DATABASE copies the template."""

    def __init__(self, url: str, stack: ExitStack, *, strategy: str) -> None:
        self.url = url
        self._stack = stack
        self._strategy = sql.SQL(strategy)
        self._admin = stack.enter_context(psycopg.connect(url, autocommit=True))
        self._reused: ReusedDatabase | None = None
        self._copy_stack = ExitStack()

    @cached_property
    def template(self) -> str:
        """The name of a migrated database whose clock can be moved."""
        name = f"holdfast_template_{os.getpid()}"
        self._create(name)
        self._stack.callback(self._drop, name)
        self._stack.push(self._copy_stack)
        prepare(with_database(self.url, name))
        return name

    @contextmanager
    def copy_of_template(self) -> Iterator[str]:
        """Makes a copy of the template for one test, and gives the superuser's URL of it."""
        name = f"holdfast_test_{os.getpid()}_{os.urandom(4).hex()}"
        self._create(name, sql.SQL(" TEMPLATE {} STRATEGY {}").format(sql.Identifier(self.template), self._strategy))
        try:
            yield with_database(self.url, name)
        finally:
            self._drop(name)

    @contextmanager
    def new_database(self) -> Iterator[TestDatabase]:
        """Makes a copy of the template for one test, and a superuser's session that no other test has."""
        with self.copy_of_template() as url, closing(TestDatabase(url)) as database:
            yield database

    @contextmanager
    def reused_database(self) -> Iterator[TestDatabase]:
        """Lends the copy of the template that tests use one after another: another one if it can't be restored."""
        if self._reused is None:
            url = self._copy_stack.enter_context(self.copy_of_template())
            self._reused = self._copy_stack.enter_context(closing(ReusedDatabase(url)))
        try:
            yield self._reused.lend()
        finally:
            if not self._reused.restore():
                self._reused = None
                self._copy_stack.close()

    def _create(self, name: str, options: sql.Composable = _NO_OPTIONS) -> None:
        self._admin.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), options))

    def _drop(self, name: str) -> None:
        self._disconnect(name)
        self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _disconnect(self, name: str) -> None:
        """Ends the backends of a database and waits until they are gone.

        A backend outlives its client by milliseconds, and DROP DATABASE sleeps for 100 ms whenever it finds one.
        """
        [(database,)] = self._admin.execute("SELECT oid FROM pg_database WHERE datname = %s", [name])
        self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity(NULL) WHERE datid = %s", [database]
        )
        while self._admin.execute("SELECT FROM pg_stat_get_activity(NULL) WHERE datid = %s", [database]).rowcount:
            time.sleep(0.001)


class Clusters:
    """The clusters by their major versions, each started when it is first asked for and stopped at the end.

    `url` is a superuser's, of a server to use instead.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url
        self._running: dict[int, RunningCluster] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def running(self, major: int) -> RunningCluster:
        """The cluster of a major version."""
        if major not in self._running:
            self._running[major] = self._start(major)
        return self._running[major]

    def _start(self, major: int) -> RunningCluster:
        if self.url:
            return RunningCluster(self.url, self._stack, strategy="wal_log")
        if shutil.which("docker") and _docker_runs():
            from testcontainers.postgres import PostgresContainer

            container = self._stack.enter_context(PostgresContainer(f"postgres:{major}", driver=None))
            return RunningCluster(container.get_connection_url(), self._stack, strategy="wal_log")
        folder = self._stack.enter_context(data_folder())
        server = self._stack.enter_context(EmbeddedServer(folder, major=major, settings=SETTINGS))
        # Copying files needs two checkpoints, which cost nothing without fsync; the write-ahead log needs each page.
        return RunningCluster(server.url(), self._stack, strategy="file_copy")


def prepare(url: str) -> None:
    """Migrates a database, makes the login of the tests, and replaces its clock by a movable one."""
    migrate(url)
    with psycopg.connect(url, autocommit=True) as inside:
        create_login(inside, LOGIN, PASSWORD)
    make_clock_movable(url)


def make_clock_movable(url: str) -> None:
    """Replaces the clock of a migrated database, or of a proxy, by a movable one."""
    with psycopg.connect(url, autocommit=True) as inside:
        inside.execute((Path(__file__).parent / "movable_clock.sql").read_bytes())


def _docker_runs() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
