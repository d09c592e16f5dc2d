"""Fixtures of the SQL tests: concurrent calls, an empty database, a limit for every wait, and appointments."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg
import pytest
from psycopg import sql

from tests.database import TestDatabase, with_database
from tests.sql.requests import GUEST
from tests.sql.rivals import Rivals

# Appended to a database's URL.
LOCK_TIMEOUT: Final = "?options=-c%20lock_timeout%3D20s"


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest) -> None:
    """Sets a lock timeout, so that a verb that waits where it must not fails its test instead of hanging it."""
    if "database" in request.fixturenames:
        database: TestDatabase = request.getfixturevalue("database")
        database.admin.execute("SET lock_timeout = '20s'")
        database.url += LOCK_TIMEOUT
        database.admin_url += LOCK_TIMEOUT


@pytest.fixture
def rivals(database: TestDatabase) -> Iterator[Rivals]:
    """Runs calls concurrently with the test, and waits for them at its end, when the test has released its locks."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield Rivals(database, pool)


@pytest.fixture
def empty(cluster: str) -> Iterator[TestDatabase]:
    """Creates a database without a schema, and drops it at the end."""
    name = f"holdfast_empty_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database = TestDatabase(with_database(cluster, name))
        yield database
        database.close()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def booked(database: TestDatabase) -> str:
    """Books Ada's appointment at ten o'clock, on a service with capacity 1."""
    database.make_service(capacity=1)
    return database.book(10, **GUEST, metadata={"price": 12}).id


@pytest.fixture
def annas_appointment(database: TestDatabase) -> str:
    """Books Anna at ten o'clock; Bert is free, and both are in the pool of another service too."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    database.make_resource("cleo")
    return database.book(10, resource_id="anna").id
