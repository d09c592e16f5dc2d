"""The proxy and its nodes, and a service on them, for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.proxy.installation import Installation, installed
from tests.proxy.servers import PLPROXY_IS_MISSING, plproxy_is_installed
from tests.serving import SECRETS, ServiceProcess

SETTINGS: Final = {**SECRETS, "RATE_LIMIT_ENABLED": False, "CLEANUP_INTERVAL_SECONDS": 0}


@pytest.fixture(scope="package")
def servers() -> Iterator[Installation]:
    """Starts a proxy and two nodes. Skips the test where PL/Proxy is missing."""
    if not plproxy_is_installed():
        pytest.skip(PLPROXY_IS_MISSING)
    with installed() as servers:
        yield servers


@pytest.fixture(scope="package")
def service(servers: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Starts a service on the proxy."""
    log: Path = tmp_path_factory.mktemp("service") / "log"
    with ServiceProcess(log, DATABASE_URL=servers.url, **SETTINGS) as service:
        yield service


@pytest.fixture(autouse=True)
def invariants(servers: Installation) -> Iterator[None]:
    """Checks after each test that both nodes keep the invariants, whatever the test did."""
    yield
    for server in servers.partitions:
        violated = servers.rows(server, "SELECT * FROM booking.invariant_violations(false) WHERE violations > 0")
        assert violated == []
