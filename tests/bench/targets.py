"""Runs what is measured: the embedded server, the service in two variants, and the bare application."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.process.hosting import create_login
from tests.bench.load import generate
from tests.bench.scenarios import health_requests
from tests.database import LOGIN, PASSWORD, TestDatabase
from tests.folders import public_folder
from tests.processes import cpu_seconds, parent
from tests.serving import REPOSITORY, SECRETS, ServiceProcess, free_port, wait_until

WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Target:
    """A server of HTTP: its port, and the process whose descendants are its workers."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Sums the processor time of all its processes so far."""
        return cpu_seconds(self.pid)


class Machinery:
    """One PostgreSQL server, on which everything is measured, and the starting of services that use it."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self._folder = folder
        self._migration_url = server_url
        migrate(server_url)
        with psycopg.connect(server_url, autocommit=True) as connection:
            create_login(connection, LOGIN, PASSWORD)
        self.database = TestDatabase(server_url)
        self.database.admin.execute(Path(__file__).with_name("yardstick.sql").read_bytes())
        self._postmaster = parent(self.database.admin.info.backend_pid)
        self._services = 0

    def new_service_id(self) -> str:
        """Returns the id of a service for one measurement, which meets no claims of another."""
        self._services += 1
        return f"service-{self._services}"

    def postgres_cpu_seconds(self) -> float:
        """Sums the processor time of the server so far, with the backends that have ended."""
        return cpu_seconds(self._postmaster)

    @contextmanager
    def service(self, name: str, **settings: object) -> Iterator[ServiceProcess]:
        """Runs the service, by default with two workers and, because all load comes from one address, without limits
        of a client."""
        settings = {"WORKERS": WORKERS, "RATE_LIMIT_ENABLED": False, **settings, **SECRETS}
        settings |= {"DATABASE_URL": self.database.url, "MIGRATION_DATABASE_URL": self._migration_url}
        with ServiceProcess(self._folder / f"{name}.log", **settings) as process:
            yield process


@contextmanager
def machinery() -> Iterator[Machinery]:
    """Runs an embedded server with its default settings, and checks the invariants of its data at the end."""
    with public_folder() as folder, ExitStack() as stack:
        # Two services and pgbench at once are more clients than the default allows.
        server = stack.enter_context(EmbeddedServer(folder, settings={"max_connections": "200"}))
        made = Machinery(folder, server.url())
        stack.callback(made.database.close)
        yield made
        assert made.database.violations() == {}


def target(service: ServiceProcess) -> Target:
    """Returns a service as a target."""
    return Target(service.port, service.process.pid)


@contextmanager
def bare_application() -> Iterator[Target]:
    """Runs the application that has nothing to do, under the server of the service."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.bench.ceiling", str(port), str(WORKERS)]
    with subprocess.Popen(arguments, cwd=REPOSITORY) as process:
        try:
            wait_until(lambda: _answers(port), "the bare application")
            yield Target(port, process.pid)
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        generate(port, itertools.islice(health_requests(), 1), connections=1)
    except ConnectionRefusedError:
        return False
    return True
