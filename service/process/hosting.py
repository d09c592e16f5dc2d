"""The database that a command works on: the one that DATABASE_URL names, or an embedded server."""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from service.database.connections import CHANGE_SECONDS, CONNECT_SECONDS, STATEMENT_SECONDS, Database
from service.database.migrations import connect, migrate
from service.database.proxying import migrate_proxy
from service.embedded.cluster import write_private
from service.embedded.server import EmbeddedServer, find_running
from service.process.pools import connections_of_worker
from service.settings import SECRETS, Settings, split_urls

T = TypeVar("T")

_DATABASE: Final = "holdfast"
_LOGIN: Final = "holdfast"
# What the embedded server admits at least, and besides the workers: commands, and the administrators' sessions.
_LEAST_CONNECTIONS: Final = 100
_FURTHER_CONNECTIONS: Final = 20
# Files in the form that `catalog apply` takes.
_DEMO_CATALOG: Final = Path(__file__).parent / "demo_catalog"
# With the embedded server, no scheduler calls the cron endpoint.
_CLEANUP_INTERVAL_SECONDS: Final = 60.0
_STORED_SECRETS: Final = TypeAdapter(dict[str, Annotated[str, Field(min_length=1)]])


class HostingError(Exception):
    """The settings don't allow a start; the message names what to change."""


@dataclass(frozen=True, slots=True)
class HostedDatabase:
    """A database: the URL for the service's role, and the URL for the role that migrates; of a proxy, that of the proxy
    and of each partition."""

    url: str
    migration_urls: tuple[str, ...]
    embedded: bool
    # An embedded one is migrated when it is opened.
    applied: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Host, port, name and user, as far as the URL has them, for a log line. Never the password."""
        parts = conninfo_to_dict(self.url)
        return " ".join(f"{name}={parts[name]}" for name in ("host", "port", "dbname", "user") if name in parts)

    def migrate(self) -> tuple[str, ...]:
        """Brings the database to this version's schema and returns what was applied. Raises `MigrationError`."""
        if self.embedded:
            return self.applied
        first, *partitions = self.migration_urls
        return tuple(migrate_proxy(first, partitions, self.url) if partitions else migrate(first))


@contextmanager
def host_database(settings: Settings) -> Iterator[HostedDatabase]:
    """Provides the database to serve from. An embedded server is started, supervised, and stopped at the end. Raises
    `EmbeddedServerError`, also if another service uses the data folder, and `MigrationError`."""
    if settings.database_url is None:
        _forget_libpq_variables()
        needed = settings.workers * connections_of_worker(settings.max_batch) + _FURTHER_CONNECTIONS
        server_settings = {"max_connections": str(max(needed, _LEAST_CONNECTIONS))}
        with EmbeddedServer(settings.data_dir, settings=server_settings) as server:
            yield _prepare_embedded(server.url())
    else:
        url = settings.database_url.get_secret_value()
        migration_urls = settings.migration_database_url
        yield HostedDatabase(url, split_urls(migration_urls) if migration_urls else (url,), embedded=False)


@contextmanager
def open_database(settings: Settings, *, create: bool = False) -> Iterator[HostedDatabase]:
    """Provides the database for a command: the embedded server of a running service is used and left running.

    Raises `HostingError` if there is no data yet, unless `create`: a check of a database that it would have to create
    first must not succeed. Raises also what `host_database` does.
    """
    if settings.database_url is None:
        _forget_libpq_variables()
        if not create and not EmbeddedServer(settings.data_dir).has_data():
            raise HostingError(
                f"There is no data in {settings.data_dir.resolve()}: set DATABASE_URL, "
                "or DATA_DIR to the folder of the service, or run this where the service was started."
            )
        if running := find_running(settings.data_dir):
            yield _prepare_embedded(running)
            return
    with host_database(settings) as database:
        yield database


def _forget_libpq_variables() -> None:
    """Removes the variables of libpq, such as PGSSLMODE, from the environment of this process and its workers: they
    describe other servers, and keep it from the embedded one."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def complete_settings(settings: Settings, database: HostedDatabase) -> tuple[Settings, list[str]]:
    """Fills in the database's URL and the cleanup interval and, with an embedded server, the missing secrets.

    Returns the settings and the names of the secrets that it generated and stored in the data folder. Raises
    `HostingError` for missing secrets if the database is not embedded.
    """
    missing = [name for name in SECRETS if getattr(settings, name) is None]
    if missing and not database.embedded:
        names = ", ".join(name.upper() for name in missing)
        raise HostingError(f"Set {names}: with a DATABASE_URL of your own they are not generated.")
    values: dict[str, object] = {"database_url": SecretStr(database.url)}
    generated: list[str] = []
    if missing:
        path = settings.data_dir / "secrets.json"
        stored = _stored_secrets(path)
        if generated := [name for name in missing if name not in stored]:
            stored |= {name: secrets.token_urlsafe(32) for name in generated}
            write_private(path, json.dumps(stored))
        values |= {name: SecretStr(stored[name]) for name in missing}
    if settings.cleanup_interval_seconds is None:
        values["cleanup_interval_seconds"] = _CLEANUP_INTERVAL_SECONDS if database.embedded else 0.0
    return settings.model_copy(update=values), generated


def _stored_secrets(path: Path) -> dict[str, str]:
    """Reads the generated secrets; there are none before the first start. Raises `HostingError`, which does not quote
    them, for a damaged file."""
    if not path.exists():
        return {}
    try:
        return _STORED_SECRETS.validate_json(path.read_bytes())
    except ValidationError:
        raise HostingError(
            f"{path} is damaged: restore it from a backup, or set the secrets in the environment. With another "
            "TOKEN_SECRET than before, the links of guests and the addresses of calendars stop working."
        ) from None


def _prepare_embedded(superuser_url: str) -> HostedDatabase:
    """Creates the database, its schema and the service's login on an embedded server, as far as they are missing."""
    with connect(superuser_url) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchall():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    parts = urlsplit(superuser_url)._replace(path=f"/{_DATABASE}")
    migration_url = parts.geturl()
    applied = tuple(migrate(migration_url))
    # Derived from the superuser's password, so that no second password has to be stored.
    password = hmac.digest((parts.password or "").encode(), b"login of the service", hashlib.sha256).hex()
    with psycopg.connect(migration_url, autocommit=True) as connection:
        create_login(connection, _LOGIN, password)
    url = parts._replace(netloc=f"{_LOGIN}:{password}@{parts.hostname}:{parts.port}").geturl()
    return HostedDatabase(url, (migration_url,), embedded=True, applied=applied)


def create_login(connection: psycopg.Connection, name: str, password: str) -> None:
    """Creates a login role with exactly the service's rights, unless the role exists."""
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchall():
        return
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE holdfast_service").format(sql.Identifier(name), password)
    )


async def make_demo_catalog(database: Database) -> None:
    """Fills an empty catalog with the businesses of a small town, a kind of business each. Leaves any other catalog
    unchanged. Raises `Unavailable` or `psycopg.Error`.

    In one transaction: what a start that was interrupted left of them would be taken for an owner's catalog.
    """
    from service.booking import catalog_file
    from service.booking.catalog import Catalog

    if await Catalog(database).businesses():
        return
    documents = [catalog_file.parse(path.read_bytes()) for path in sorted(_DEMO_CATALOG.glob("*.yaml"))]
    async with database.connection() as connection, connection.transaction():
        for document in documents:
            settings, deadline = document.model_dump_json(by_alias=False), database.deadline(CHANGE_SECONDS)
            [(outcome, body)] = await database.rows(
                connection, "put_document", document.business_id, settings, False, deadline
            )
            assert outcome == "done", (document.business_id, body)


def run_on_database(
    url: str, work: Callable[[Database], Awaitable[T]], *, statement_seconds: float = STATEMENT_SECONDS
) -> T:
    """Runs `work` in a new event loop, on a pool with one connection, and returns its result."""
    # Each host that does not answer takes its time before the next one is tried.
    environment = {"host": os.environ.get("PGHOST", ""), "hostaddr": os.environ.get("PGHOSTADDR", "")}
    parts = environment | conninfo_to_dict(url)
    further_hosts = max(str(parts[name]).count(",") for name in environment)

    async def run() -> T:
        wait_seconds = CONNECT_SECONDS * (further_hosts + 1)
        database = Database(url, connections=1, statement_seconds=statement_seconds, wait_seconds=wait_seconds)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())
