"""Folders for other users, and for the data of embedded servers, in memory where there is room."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.embedded.postmaster import stop_orphan

# A file system in memory, where there is one, and the room that it needs for the data of two clusters.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 — folders in it are made by mkdtemp
_MEMORY_BYTES: Final = 2 * 1024**3


@contextmanager
def public_folder(prefix: str = "holdfast-test-", parent: Path | None = None) -> Iterator[Path]:
    """Makes a folder that every user can reach, because PostgreSQL and PgBouncer do not run as root, and removes it at
    the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def data_folder() -> Iterator[Path]:
    """Makes a public folder for the data of servers, and stops those that still run in it at the end.

    What a server wrote outlives its processes, as on a disk: only a loss of power would show the difference.
    """
    with public_folder(f"holdfast-test-{os.getpid()}-", _memory()) as folder:
        try:
            yield folder
        finally:
            stop_servers(folder)


def stop_servers(data_dir: Path) -> None:
    """Ends the servers of a data folder that were left running."""
    for cluster in data_dir.glob("postgres-*"):
        stop_orphan(cluster)


def _memory() -> Path | None:
    """Returns the folder in memory, if it has room: making a database's 300 files there takes a tenth of the time."""
    if not os.access(_MEMORY, os.W_OK):
        return None
    # A session that was killed leaves its server and its folder, and memory is freed by nothing else.
    for folder in _MEMORY.glob("holdfast-test-*-*"):
        if not _runs(pid=int(folder.name.split("-")[2])):
            stop_servers(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return _MEMORY if shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
