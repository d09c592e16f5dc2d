"""The folder in which the workers of one service count. A service that was killed leaves its folder, and the next start
removes it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# Not the prefix of version 0.1, which locks nothing: its folder would seem to be abandoned while it runs.
_PREFIX: Final = "holdfast-worker-metrics-"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """Makes an empty folder that is locked until the end of the block, and removes those that no process locks."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    # The lock belongs to the folder itself and ends with the process. The folder gets its name once it is locked:
    # another service that starts at the same moment would take it for an abandoned one.
    made = Path(tempfile.mkdtemp(prefix="holdfast-"))
    handle = _open(made)
    fcntl.flock(handle, fcntl.LOCK_EX)
    folder = made.rename(made.with_name(made.name.replace("holdfast-", _PREFIX, 1)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # Fails for the folder of a service that runs, of another user, or that another start has just removed.
        with suppress(OSError):
            handle = _open(folder)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(handle)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
