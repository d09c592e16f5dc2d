"""Databases to measure in: on one embedded server with its default settings, each a copy of a migrated one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.process.hosting import create_login
from tests.database import LOGIN, PASSWORD, TestDatabase, with_database
from tests.folders import public_folder
from tests.processes import cpu_seconds

SERVICES: Final = 4
CAPACITY: Final = 5
HUGE_CAPACITY: Final = 1_000_000
_FOLDER: Final = Path(__file__).parent
_TEMPLATE: Final = "bench_template"


class UnexpectedOutcomes(Exception):
    """Requests were not answered as they must be: what was measured is something else."""


def expect(count: int, expected: int) -> None:
    """Raises `UnexpectedOutcomes` if another number of requests was granted than must be."""
    if count != expected:
        raise UnexpectedOutcomes(f"{count} instead of {expected}")


@dataclass(frozen=True, slots=True)
class Timings:
    """What a run of calls took: each call's seconds in the server, and the processor time of all."""

    seconds: list[float]
    cpu_seconds: float
    done: int


class Scratch:
    """A database with the schema and the functions of the benchmark."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database
        self.login = database.connect()
        self._pid = self.login.info.backend_pid

    def close(self) -> None:
        """Closes both connections."""
        self.login.close()
        self.database.close()

    def plant_services(self, businesses: int) -> None:
        """Makes businesses b1, b2, … with services s1 to s4 of five places each."""
        self.database.make_service("template", business_id="template", capacity=CAPACITY)
        self.database.rows("CALL bench.plant_services(%s, %s)", businesses, SERVICES)

    def make_service(self, service_id: str, capacity: int) -> None:
        """Makes a service of business b1, or gives an existing one another capacity."""
        self.database.make_service(service_id, business_id="b1", capacity=capacity)

    def settle(self) -> None:
        """Leaves nothing to do for the first to read the planted rows, or for autovacuum and a checkpoint meanwhile."""
        self.database.rows("VACUUM (ANALYZE)")
        self.database.rows("CHECKPOINT")

    def prepare_spread(self, calls: int, requests: int, businesses: int) -> None:
        """Prepares calls for random slots of all services."""
        self.database.rows("CALL bench.prepare_spread(%s, %s, %s, %s)", calls, requests, businesses, SERVICES)

    def prepare_slots(
        self, calls: int, requests: int = 1, *, service_id: str, first_slot: int = 0, slots: int = 1
    ) -> None:
        """Prepares calls for slots of one service of business b1 in turn."""
        self.database.rows(
            "CALL bench.prepare_slots(%s, %s, 'b1', %s, %s, %s)", calls, requests, service_id, first_slot, slots
        )

    def call_prepared(self, first: int, last: int) -> Timings:
        """Makes the prepared calls, as the service's login."""
        before = cpu_seconds(self._pid)
        row = self.login.execute("CALL bench.call_prepared(%s, %s)", [first, last]).fetchone()
        assert row
        return Timings(row[0], cpu_seconds(self._pid) - before, row[1])

    def list_month(self, service_id: str, calls: int) -> tuple[list[float], int]:
        """Lists a month of a service of business b1 so often: the seconds of each, and how many slots there were."""
        row = self.login.execute("CALL bench.list_month('b1', %s, %s)", [service_id, calls]).fetchone()
        assert row
        return row[0], row[1]


class ScratchServer:
    """The embedded server, on which every measurement gets a database of its own."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._made = 0
        self._create(_TEMPLATE)
        url = with_database(server.url(), _TEMPLATE)
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            create_login(connection, LOGIN, PASSWORD)
            for name in ("planting.sql", "calling.sql"):
                connection.execute((_FOLDER / name).read_bytes())

    @contextmanager
    def database(self) -> Iterator[Scratch]:
        """A database without businesses. It is dropped at the end: ten million appointments are some gigabytes."""
        self._made += 1
        name = f"bench_{self._made}"
        self._create(name, template=_TEMPLATE)
        scratch = Scratch(TestDatabase(with_database(self._server.url(), name)))
        try:
            yield scratch
        finally:
            scratch.close()
            with psycopg.connect(self._server.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, name: str, template: str = "template1") -> None:
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )


@contextmanager
def scratch_server() -> Iterator[ScratchServer]:
    """Runs an embedded server as the product starts it, fsync included, in a folder that is removed at the end."""
    with public_folder() as folder, EmbeddedServer(folder) as server:
        yield ScratchServer(server)
