"""A proxy and two nodes, each a server of its own, and the partitions on them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path
from typing import Any, Final

import psycopg

from service.database.proxying import migrate_proxy
from tests.database import LOGIN, PASSWORD
from tests.folders import data_folder
from tests.proxy.servers import NODE_PROGRAMS, PROXY_PROGRAMS, Server

_DATABASE: Final = "holdfast"


class Installation:
    """The servers, each in a folder of its own. `partitions` are the nodes in the order of their partitions."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Starts a proxy. The stack stops it and each server that is added, also if a test has replaced it."""
        self._folder = folder
        self._stack = stack
        self.proxy = self.add_server("proxy", PROXY_PROGRAMS)
        self.partitions: list[Server] = []

    @property
    def url(self) -> str:
        """The URL of the service's role, as in DATABASE_URL."""
        return self.proxy.url(_DATABASE, f"{LOGIN}:{PASSWORD}")

    @property
    def migration_urls(self) -> list[str]:
        """The URLs of the roles that migrate, as in MIGRATION_DATABASE_URL: of the proxy, then of each partition."""
        return [server.url(_DATABASE) for server in (self.proxy, *self.partitions)]

    def migrate(self) -> list[str]:
        """Migrates the nodes, and generates the functions of the proxy; returns what was applied."""
        proxy, *nodes = self.migration_urls
        return migrate_proxy(proxy, nodes, self.url)

    def add_server(self, name: str, programs: Path = NODE_PROGRAMS) -> Server:
        """Makes a server with an empty database, and the service's login."""
        server = self._new(programs, name)
        server.create()
        server.start()
        server.execute("CREATE ROLE holdfast_owner NOLOGIN")
        server.execute("CREATE ROLE holdfast_service NOLOGIN")
        server.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE holdfast_service")
        server.execute(f"CREATE DATABASE {_DATABASE}")
        return server

    def add_standby(self, name: str, primary: Server) -> Server:
        """Makes a streaming standby of a node."""
        server = self._new(NODE_PROGRAMS, name)
        server.copy_of(primary.url())
        server.start()
        return server

    def rows(self, server: Server, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a statement on one of the servers, as superuser."""
        with psycopg.connect(server.url(_DATABASE), autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def business(self, partition: int, number: int = 0) -> str:
        """Returns an id that belongs to a partition; another one for each number."""
        ids = (f"business-{candidate}" for candidate in range(10_000))
        return [name for name in ids if partition_of(name, len(self.partitions)) == partition][number]

    def _new(self, programs: Path, name: str) -> Server:
        server = Server(programs, self._folder / name)
        self._stack.callback(server.stop)
        return server


def partition_of(business_id: str, partitions: int) -> int:
    """Returns the partition of a business, of a number that is a power of two: the last bits of its hash."""
    return int.from_bytes(md5(business_id.encode(), usedforsecurity=False).digest()[:4]) & (partitions - 1)


@contextmanager
def installed() -> Iterator[Installation]:
    """Starts a proxy and two nodes, migrated, and stops them at the end."""
    with data_folder() as folder, ExitStack() as stack:
        servers = Installation(folder, stack)
        servers.partitions = [servers.add_server(name) for name in ("north", "south")]
        servers.migrate()
        yield servers
