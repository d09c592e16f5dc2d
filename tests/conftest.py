"""Fixtures for all tests: a PostgreSQL cluster, a database for each test, and a clock that tests can move.

The cluster is, in this order: the one that TEST_DATABASE_URL names (a superuser's URL), one in a container
where Docker runs, or the embedded server. Each test gets a copy of a template database; one copy serves many tests.

With pytest-xdist each worker has clusters of its own, because some tests count what a whole server does.
"""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.clusters import Clusters, RunningCluster
from tests.database import TestDatabase
from tests.redis_server import PROGRAM, RedisServer

TEST_DATABASE_URL = os.environ.get("TEST_DATABASE_URL")
MAJOR = 18
# The decisions in SQL have to hold on the oldest and the newest supported PostgreSQL.
MAJORS = {"sql": (16, 18)}
# Modules of which each has, or both share, a fixture that takes seconds to make.
GROUPS = {
    "tests/deploy/test_alerts_live.py": "alerts",
    "tests/deploy/test_pgbouncer.py": "pooler",
    "tests/deploy/test_roles.py": "roles",
    "tests/faults/test_embedded.py": "embedded",
    "tests/faults/test_embedded_recovery.py": "embedded",
    "tests/faults/test_standby.py": "standby",
    "tests/proxy/test_cut_links.py": "proxy",
    "tests/proxy/test_failures.py": "proxy",
    "tests/proxy/test_generated_functions.py": "proxy",
    "tests/proxy/test_partitioning.py": "proxy",
    "tests/proxy/test_service.py": "proxy",
    "tests/proxy/test_two_proxies.py": "proxy",
    "tests/unit/test_plain_english.py": "prose",
}
# A folder in which this is so for each module.
PAGES = "tests/pages/"

# An example may take any time: how long it takes says nothing about the code on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that needs a cluster on the versions that its folder asks for."""
    if "running_cluster" in metafunc.fixturenames:
        majors = MAJORS.get(metafunc.definition.path.parent.name, (MAJOR,))
        metafunc.parametrize(
            "running_cluster", majors, indirect=True, scope="session", ids=lambda major: f"postgres{major}"
        )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Stops garbage collections while modules are imported and tests collected, which stay for the whole session."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leaves modules and collected tests out of later garbage collections: each would take 0.2 s to look at them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Sets `-n auto` to three workers for two cores, since many tests wait; to none if all would share one server."""
    return 0 if TEST_DATABASE_URL else (os.cpu_count() or 1) * 3 // 2


class OneWorkerForEachGroup(LoadScopeScheduling):
    """Sends the tests of a group to one worker, others to any."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return GROUPS.get(module, module if module.startswith(PAGES) else nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Replaces xdist's own grouping by marks, which has no effect with pytest 9.2: it renames tests in vain."""
    return OneWorkerForEachGroup(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Selects the event loop that uvicorn uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """The clusters of the session, each started when the first test needs it."""
    with Clusters(TEST_DATABASE_URL) as clusters:
        yield clusters


@pytest.fixture(scope="session")
def running_cluster(request: pytest.FixtureRequest, clusters: Clusters) -> RunningCluster:
    """The cluster of one version of PostgreSQL.

    It outlives this fixture, which pytest sets up anew whenever a test of the other version comes next.
    """
    major: int = request.param
    if clusters.url and major != MAJOR:
        pytest.skip("TEST_DATABASE_URL names one server; other versions are tested on the embedded ones")
    return clusters.running(major)


@pytest.fixture(scope="session")
def cluster(running_cluster: RunningCluster) -> str:
    """Returns a superuser's URL."""
    return running_cluster.url


@pytest.fixture(scope="session")
def template(running_cluster: RunningCluster) -> str:
    """Returns the name of a migrated database whose clock can be moved."""
    return running_cluster.template


@pytest.fixture
def database(request: pytest.FixtureRequest, running_cluster: RunningCluster) -> Iterator[TestDatabase]:
    """Gives the test a database as the template is. Afterwards the invariants must hold, whatever the test did.

    Tests get the same one in turn, unless they have the mark `new_database`.
    """
    is_new = request.node.get_closest_marker("new_database") is not None
    with running_cluster.new_database() if is_new else running_cluster.reused_database() as test_database:
        yield test_database
        assert test_database.violations() == {}


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Starts a Redis for the test."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path) as server:
        yield server
