"""The PostgreSQL of a run: the embedded server, or a proxy with two nodes. A server that has ended is started again."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from service.embedded.postmaster import running_postmaster
from service.embedded.server import EmbeddedServer
from tests.clusters import SETTINGS, make_clock_movable, prepare
from tests.database import LOGIN, PASSWORD
from tests.folders import data_folder
from tests.history.town import TOWN
from tests.proxy.installation import installed, partition_of
from tests.proxy.servers import Server

_MAJOR: Final = 18


@dataclass(frozen=True, slots=True)
class Member:
    """One of the servers: its name in reports, a superuser's URL of its database, and the folder of its cluster."""

    name: str
    url: str
    folder: Path

    def postmaster(self) -> int | None:
        """Returns the pid of the running server, if it is up."""
        found = running_postmaster(self.folder)
        return found.pid if found else None

    async def backends(self) -> list[int]:
        """Returns the pids of the backends that serve the service, or the proxy; none if the server is down."""
        try:
            async with await self.connect() as connection:
                rows = await connection.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [LOGIN])
                return [pid for (pid,) in await rows.fetchall()]
        except psycopg.OperationalError:
            return []

    async def until_unused(self) -> None:
        """Returns when the server answers, after a crash when it has recovered, and serves the service no more."""
        await self.until_it_answers()
        while await self.backends():  # noqa: ASYNC110 — PostgreSQL has no event for it
            await asyncio.sleep(0.02)

    async def until_it_answers(self) -> None:
        """Returns when the server answers a superuser, after a crash when it has recovered."""
        async with asyncio.timeout(60):
            while True:
                with suppress(psycopg.OperationalError):
                    async with await self.connect():
                        return
                await asyncio.sleep(0.05)

    async def connect(self) -> psycopg.AsyncConnection:
        """Connects as superuser. Raises `psycopg.OperationalError`."""
        return await psycopg.AsyncConnection.connect(self.url, connect_timeout=2, autocommit=True)


@dataclass(frozen=True, slots=True)
class Postgres:
    """All servers, of which the service connects to the first, and the nodes among them, which have the businesses, in
    the order of their partitions. `settings` are passed to the service."""

    servers: Sequence[Member]
    nodes: Sequence[Member]
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL of the service's role."""
        return f"postgresql://{LOGIN}:{PASSWORD}@{self.servers[0].url.rpartition('@')[2]}"

    def node_of(self, business: str) -> Member:
        """Returns the server that has a business."""
        return self.nodes[partition_of(business, len(self.nodes))]


@asynccontextmanager
async def embedded() -> AsyncIterator[Postgres]:
    """Starts the embedded server, whose supervisor starts it again."""
    with data_folder() as data, EmbeddedServer(data, major=_MAJOR, settings=SETTINGS) as server:
        await asyncio.to_thread(prepare, server.url())
        member = Member("server", server.url(), data / f"postgres-{_MAJOR}")
        yield Postgres([member], [member], {"MIGRATION_DATABASE_URL": member.url})


@asynccontextmanager
async def proxied() -> AsyncIterator[Postgres]:
    """Starts a proxy and two nodes, each of which has businesses of the town."""
    with installed() as installation:
        started = installation.proxy, *installation.partitions
        urls = installation.migration_urls
        for url in urls:
            await asyncio.to_thread(make_clock_movable, url)
        members = [
            Member(name, url, server.folder)
            for name, url, server in zip(("proxy", "north", "south"), urls, started, strict=True)
        ]
        postgres = Postgres(members, members[1:])
        assert {postgres.node_of(business).name for business in TOWN.offers} == {"north", "south"}
        async with _kept_running(started):
            yield postgres


@asynccontextmanager
async def _kept_running(servers: Sequence[Server]) -> AsyncIterator[None]:
    """Starts servers again, until the end of the block."""
    stopped = asyncio.Event()

    async def keep(server: Server) -> None:
        while not stopped.is_set():
            if not server.is_running:
                # A start fails while backends of the killed postmaster still have its shared memory.
                with suppress(AssertionError):
                    await asyncio.to_thread(server.start)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as keepers:
        for server in servers:
            keepers.create_task(keep(server))
        try:
            yield
        finally:
            stopped.set()
