"""A proxy and two nodes, each a server of its own, and the partitions on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, Final

import psycopg

from service.database.proxying import migrate_proxy
from tests.database import LOGIN, PASSWORD
from tests.folders import data_folder
from tests.proxy.servers import NODE_PROGRAMS, PROXY_PROGRAMS, Server

_DATABASE: Final = "holdfast"


@dataclass
class Installation:
    """The servers. `partitions` are the nodes in the order of their partitions, a server each."""

    proxy: Server
    partitions: list[Server]
    folder: Path

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
        server = Server(programs, self.folder / name)
        server.create()
        server.start()
        server.execute("CREATE ROLE holdfast_owner NOLOGIN")
        server.execute("CREATE ROLE holdfast_service NOLOGIN")
        server.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE holdfast_service")
        server.execute(f"CREATE DATABASE {_DATABASE}")
        return server

    def rows(self, server: Server, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Runs a statement on one of the servers, as superuser."""
        with psycopg.connect(server.url(_DATABASE), autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def business(self, partition: int, number: int = 0) -> str:
        """Returns an id that belongs to a partition; another one for each number."""
        ids = (f"business-{candidate}" for candidate in range(10_000))
        return [name for name in ids if partition_of(name, len(self.partitions)) == partition][number]

    def stop(self) -> None:
        """Stops the servers."""
        for server in (self.proxy, *self.partitions):
            server.stop()


def partition_of(business_id: str, partitions: int) -> int:
    """Returns the partition of a business, of a number that is a power of two: the last bits of its hash."""
    return int.from_bytes(md5(business_id.encode(), usedforsecurity=False).digest()[:4]) & (partitions - 1)


@contextmanager
def installed() -> Iterator[Installation]:
    """Starts a proxy and two nodes, migrated, and stops them at the end."""
    with data_folder() as folder:
        servers = Installation.__new__(Installation)
        servers.folder, servers.partitions = folder, []
        try:
            servers.proxy = servers.add_server("proxy", PROXY_PROGRAMS)
            servers.partitions = [servers.add_server(name) for name in ("north", "south")]
            servers.migrate()
            yield servers
        finally:
            servers.stop()
