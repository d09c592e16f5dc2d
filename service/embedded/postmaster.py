"""The postmaster, the process that is the server: found by the pid file in its folder.

A pid in a file proves nothing: the process may be long gone and the number somebody else's.
So a process is only taken for the postmaster of a folder if its command line says so.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# How to end a postmaster, politest first, and the seconds to wait for each: fast shutdown,
# immediate shutdown (it recovers at the next start), and what no process can refuse.
ENDINGS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says."""

    pid: int
    port: int
    ready: bool


def recorded_postmaster(folder: Path) -> Postmaster | None:
    """Reads the pid file of a data folder; None if there is none, or none complete."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    match lines:
        # The pid of a single-user postgres is negative: not a server, and deadly to pass to kill().
        case [pid, _, _, port, *others] if pid.isdecimal() and port.isdecimal():
            return Postmaster(int(pid), int(port), ready="ready   " in others)
    return None


def running_postmaster(folder: Path) -> Postmaster | None:
    """The postmaster that runs on a data folder, or None."""
    found = recorded_postmaster(folder)
    return found if found and _serves(found.pid, folder) else None


def stop_orphan(folder: Path) -> None:
    """Ends the postmaster that runs on a data folder, if there is one, and waits for it."""
    for number, seconds in ENDINGS:
        # Found again for each signal: meanwhile the pid may have become somebody else's.
        orphan = running_postmaster(folder)
        if orphan is None:
            return
        os.kill(orphan.pid, number)
        deadline = time.monotonic() + seconds
        while _serves(orphan.pid, folder) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def forget_strangers_pid(folder: Path) -> None:
    """Removes a pid file whose pid is taken, and not by a postgres.

    After a power cut or in a restarted container the number can be anybody's, and a killed orphan
    is a zombie until somebody reaps it; postgres would refuse to start next to either. Backends
    that outlived their postmaster are still noticed without the file: shared memory is looked for
    by the inode of the folder too.
    """
    found = recorded_postmaster(folder)
    if found and _exists(found.pid) and not _is_postgres(found.pid):
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postgres(pid: int) -> bool:
    program = _command_line(pid).partition(" -D ")[0]
    return program.rpartition("/")[2].startswith("postgres")


def _serves(pid: int, folder: Path) -> bool:
    """Whether the process is a postmaster on the folder, started the way we start them."""
    program, _, arguments = _command_line(pid).partition(" -D ")
    return program.endswith("/postgres") and arguments.startswith(f"{folder} -c ")


def _command_line(pid: int) -> str:
    """The words of a process, joined by spaces; empty if there is none, or a zombie."""
    if sys.platform != "linux":
        ps = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return os.fsdecode(words).replace("\0", " ")
