"""The real service, as the acceptance tests have it, and embedded servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.embedded.server import EmbeddedServer
from tests.acceptance.conftest import serve
from tests.faults.embedded import MakeServer, data_folder, end_orphans

__all__ = ["serve"]


@pytest.fixture
def fresh_dir() -> Iterator[Path]:
    """A data folder for a test that begins with nothing."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="package")
def shared_dir() -> Iterator[Path]:
    """A data folder with a cluster: making one takes as long as ten tests."""
    with data_folder() as folder:
        with EmbeddedServer(folder):
            pass
        yield folder


@pytest.fixture
def data_dir(shared_dir: Path) -> Iterator[Path]:
    """The data folder of the test, with a cluster on which nothing runs yet."""
    yield shared_dir
    shared_dir.chmod(0o755)
    end_orphans(shared_dir)


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers, not yet started, and stops them at the end; without fsync, to be quick."""
    with ExitStack() as stack:

        def make(data_dir: Path, major: int = 18) -> EmbeddedServer:
            server = EmbeddedServer(data_dir, major=major, settings={"fsync": "off"})
            stack.callback(server.stop)
            return server

        yield make
