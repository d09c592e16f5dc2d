"""The real service with real workers, on the test's own database."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import pytest

from tests.database import TestDatabase
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
