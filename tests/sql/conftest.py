"""What the tests of the SQL stand on besides a database: rivals, an empty database, and an end to every wait."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from tests.database import TestDatabase, with_database
from tests.sql.rivals import Rivals


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest) -> None:
    """Nobody waits for a lock for ever: where a verb waits that should not, its test fails instead of hanging."""
    if "database" in request.fixturenames:
        database: TestDatabase = request.getfixturevalue("database")
        name = sql.Identifier(database.admin.info.dbname)
        database.admin.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '20s'").format(name))
        database.admin.execute("SET lock_timeout = '20s'")


@pytest.fixture
def rivals(database: TestDatabase) -> Iterator[Rivals]:
    """Calls beside the test's own. Waited for at the end, when the test has let go of its locks."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield Rivals(database, pool)


@pytest.fixture
def empty(cluster: str) -> Iterator[TestDatabase]:
    """A database in which there is nothing yet."""
    name = f"holdfast_empty_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database = TestDatabase(with_database(cluster, name))
        yield database
        database.close()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
