"""PostgreSQL as deploy/ sets it up: the roles of roles.sql, one login for migrations and another for the service."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from service.embedded.cluster import find_programs
from service.embedded.server import EmbeddedServer
from tests.folders import data_folder

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
MIGRATOR_PASSWORD: Final = "migrator-of-the-tests"
SERVICE_PASSWORD: Final = "service-of-the-tests"


@dataclass(frozen=True, slots=True)
class Installation:
    """The URLs of one database, one for each login."""

    administrator_url: str
    migration_url: str
    url: str


@contextmanager
def installation(major: int, *, roles: bool = True) -> Iterator[Installation]:
    """Runs a server without the schema, with the roles of roles.sql or as it comes. It is not shared, because roles
    belong to the whole server."""
    with data_folder() as folder, EmbeddedServer(folder, major=major, settings={"fsync": "off"}) as server:
        administrator = server.url()
        if roles:
            make_roles(administrator, major)
        yield Installation(
            urlsplit(administrator)._replace(path="/holdfast").geturl(),
            _login(administrator, "holdfast_migrator", MIGRATOR_PASSWORD),
            _login(administrator, "holdfast", SERVICE_PASSWORD),
        )


def make_roles(administrator_url: str, major: int) -> None:
    """Runs roles.sql."""
    subprocess.run(
        [
            find_programs(major) / "psql",
            "-v",
            "ON_ERROR_STOP=1",
            "-qf",
            DEPLOY / "postgres/roles.sql",
            administrator_url,
        ],
        env={**os.environ, "MIGRATOR_PASSWORD": MIGRATOR_PASSWORD, "SERVICE_PASSWORD": SERVICE_PASSWORD},
        check=True,
        capture_output=True,
    )


def _login(url: str, name: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}", path="/holdfast").geturl()
