"""The lock on the data folder: only one process at a time may start servers there."""

import fcntl
import os
from pathlib import Path

from service.embedded.privileges import EmbeddedServerError


def lock_folder(data_dir: Path) -> int:
    """Creates the data folder if missing, locks it, and writes the pid of this process into the lock file.

    Returns the descriptor that holds the lock until it is closed or the process ends. Child processes don't inherit it,
    so an orphaned server doesn't keep the folder locked.
    Raises `EmbeddedServerError` if the folder can't be used, or, naming the pid, if another process holds the lock.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"The data folder can't be used: {error}. Choose another DATA_DIR, or set DATABASE_URL."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
        os.close(lock)
        raise EmbeddedServerError(
            f"The server of {data_dir} is already being run by the process with pid {holder}. "
            "Stop that one, or choose another DATA_DIR."
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
