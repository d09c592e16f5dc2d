"""The fixture of the real service, and those of embedded servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.embedded.server import EmbeddedServer
from tests.acceptance.conftest import serve
from tests.faults.embedded import MakeServer
from tests.folders import data_folder, stop_servers

__all__ = ["serve"]


@pytest.fixture
def fresh_dir() -> Iterator[Path]:
    """Makes an empty data folder."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="package")
def shared_dir() -> Iterator[Path]:
    """Makes a data folder with a cluster. It is shared, because an initdb takes as long as ten tests."""
    with data_folder() as folder:
        with EmbeddedServer(folder):
            pass
        yield folder


@pytest.fixture
def data_dir(shared_dir: Path) -> Iterator[Path]:
    """Returns the shared data folder, on which no server runs."""
    yield shared_dir
    shared_dir.chmod(0o755)
    stop_servers(shared_dir)


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers without starting them, and stops them at the end; without fsync, for speed."""
    with ExitStack() as stack:

        def make(data_dir: Path, major: int = 18) -> EmbeddedServer:
            server = EmbeddedServer(data_dir, major=major, settings={"fsync": "off"})
            stack.callback(server.stop)
            return server

        yield make
