"""The lock on the data folder: one process at a time may start servers there."""

import fcntl
import os
from pathlib import Path

from service.embedded.privileges import EmbeddedServerError


def lock_folder(data_dir: Path) -> int:
    """Makes the data folder if it is missing, locks it, and writes our pid into the lock file.

    Returns the descriptor that holds the lock: it is released when that is closed, at the latest
    when the process ends. Python doesn't pass it on to the programs that it starts, so an orphan
    doesn't hold the lock. Raises EmbeddedServerError, naming the pid, if another holds it.
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
