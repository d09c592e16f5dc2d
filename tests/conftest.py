"""What tests stand on: a PostgreSQL cluster, a database of their own for each, and a clock that they can move.

The cluster is, in this order: the one that TEST_DATABASE_URL names (a superuser's URL), one in a container
where Docker runs, or the embedded server. Each test gets a copy of a template database, made once.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.process.hosting import create_login
from tests.database import LOGIN, PASSWORD, TestDatabase, with_database
from tests.redis_server import PROGRAM, RedisServer

MAJOR = 18
# What is decided in SQL has to hold on the oldest PostgreSQL that is supported and on the newest.
MAJORS = {"sql": (16, 18)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that needs a cluster on the versions that its folder asks for."""
    if "cluster" in metafunc.fixturenames:
        majors = MAJORS.get(metafunc.definition.path.parent.name, (MAJOR,))
        metafunc.parametrize("cluster", majors, indirect=True, scope="session", ids=lambda major: f"postgres{major}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that uvicorn uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """A superuser's URL."""
    major: int = request.param
    if url := os.environ.get("TEST_DATABASE_URL"):
        if major != MAJOR:
            pytest.skip("TEST_DATABASE_URL names one server; other versions are tested on the embedded ones")
        yield url
    elif shutil.which("docker") and _docker_runs():
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer(f"postgres:{major}", driver=None) as container:
            yield container.get_connection_url()
    else:
        # Nothing has to survive a power cut here, and not syncing takes half of the time off.
        folder = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
        with EmbeddedServer(folder, major=major, settings={"fsync": "off"}) as server:
            yield server.url()
        shutil.rmtree(folder)


def _docker_runs() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def template(cluster: str) -> Iterator[str]:
    """The name of a migrated database whose clock can be moved."""
    name = f"holdfast_template_{os.getpid()}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = with_database(cluster, name)
        migrate(url)
        with psycopg.connect(url, autocommit=True) as inside:
            create_login(inside, LOGIN, PASSWORD)
            inside.execute((Path(__file__).parent / "movable_clock.sql").read_bytes())
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(cluster: str, template: str) -> Iterator[TestDatabase]:
    """A database of this test's own. Afterwards the invariants must hold, whatever the test did."""
    name = f"holdfast_test_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        test_database = TestDatabase(with_database(cluster, name))
        try:
            yield test_database
            assert test_database.violations() == {}
        finally:
            test_database.close()
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path) as server:
        yield server
