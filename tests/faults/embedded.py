"""Embedded servers of the tests: servers in other processes, queries, and the processes of a server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import psycopg

from service.embedded.server import EmbeddedServer

REPOSITORY: Final = Path(__file__).parents[2]

# Runs a server until its standard input ends or the process is killed.
_SUPERVISOR: Final = """
import sys
from pathlib import Path
from service.embedded.server import EmbeddedServer

with EmbeddedServer(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


class MakeServer(Protocol):
    """The type of the fixture `make_server`."""

    def __call__(self, data_dir: Path, major: int = 18) -> EmbeddedServer: ...


@contextmanager
def supervisor(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs the server of a data folder in another process, and kills that process at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """Returns the URL that a supervisor prints when its server is up."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def make_orphan(data_dir: Path) -> str:
    """Kills a process that runs a server, and returns the URL of the server, which outlives it."""
    with supervisor(data_dir) as killed:
        return first_line(killed)


def query_value(url: str, query: str) -> object:
    """Returns the one value of a query, over a connection of its own."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def write_note(url: str, note: str) -> None:
    """Commits the one row of a table."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (body text)")
        connection.execute("TRUNCATE note")
        connection.execute("INSERT INTO note VALUES (%s)", [note])


def answers(url: str) -> bool:
    """Returns whether the server answers queries."""
    try:
        return query_value(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def postmaster_pid(data_dir: Path, major: int = 18) -> int:
    """Returns the pid in the pid file."""
    return int((data_dir / f"postgres-{major}" / "postmaster.pid").read_text().split()[0])


def all_pids(url: str, data_dir: Path) -> list[int]:
    """Returns the pids of the postmaster and its children, including those without a client."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
    return [postmaster_pid(data_dir), *(pid for (pid,) in rows)]


def is_running(pid: int) -> bool:
    """Returns whether a process runs under this pid. A zombie, which init has not reaped yet, does not count."""
    try:
        os.kill(pid, 0)
        return sys.platform != "linux" or ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
