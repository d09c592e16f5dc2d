"""The real service with real workers, on the test's own database."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.database import TestDatabase, with_database
from tests.serving import SECRETS, ServiceProcess

_OFF: Final = {"CLEANUP_INTERVAL_SECONDS": 0, "RATE_LIMIT_ENABLED": False}


class Serve(Protocol):
    """The type of the fixture `serve`."""

    def __call__(self, **settings: object) -> ServiceProcess: ...


@pytest.fixture
def serve(database: TestDatabase, tmp_path: Path) -> Iterator[Serve]:
    """Starts services on the test's database and stops them at the end, which must succeed.

    Settings have the names of the environment. The purge is off unless a test sets its interval, and so are the rate
    limits, because all clients of a test share one address.
    """
    with ExitStack() as services:

        def start(**settings: object) -> ServiceProcess:
            database_urls = {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.admin_url}
            log = tmp_path / f"service-{len(list(tmp_path.iterdir()))}.log"
            return services.enter_context(ServiceProcess(log, **SECRETS | database_urls | _OFF | settings))

        yield start


@contextmanager
def new_database(cluster: str, options: str = "") -> Iterator[str]:
    """Makes an empty database, and gives a superuser's URL of it."""
    name = f"holdfast_empty_{uuid4().hex}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}".encode())
        try:
            yield with_database(cluster, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_database(cluster: str, template: str) -> Iterator[str]:  # noqa: ARG001 — with the template comes the login
    """Returns a superuser's URL of an empty database."""
    with new_database(cluster) as url:
        yield url
