"""The postmaster, PostgreSQL's main process, located by the pid file in its folder.

The pid file can outlive its process, and the pid can be reused by any other. So a process counts as the postmaster of a
folder only if its command line names PostgreSQL and that folder.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Signals that end a postmaster, and the seconds to wait after each: fast shutdown, immediate shutdown (which makes the
# next start recover, and in five seconds ends all but a frozen postmaster), and the kill that can't be ignored.
ENDINGS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Postmaster:
    """The contents of postmaster.pid: pid, TCP port, and whether the server accepts connections."""

    pid: int
    port: int
    ready: bool


def recorded_postmaster(folder: Path) -> Postmaster | None:
    """Reads the pid file of a cluster's folder; None if it is missing or incomplete."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    match lines:
        # A single-user postgres records a negative pid: it is no server, and kill() would signal a process group.
        case [pid, _, _, port, *others] if pid.isdecimal() and port.isdecimal():
            return Postmaster(int(pid), int(port), ready="ready   " in others)
    return None


def running_postmaster(folder: Path) -> Postmaster | None:
    found = recorded_postmaster(folder)
    return found if found and _serves(found.pid, folder) else None


def stop_orphan(folder: Path) -> None:
    """Stops the postmaster that runs on a cluster's folder, if any, and waits at most 35 seconds for its end."""
    for number, seconds in ENDINGS:
        # Looked up again before each signal, because the pid may have been reused meanwhile.
        orphan = running_postmaster(folder)
        if orphan is None:
            return
        os.kill(orphan.pid, number)
        deadline = time.monotonic() + seconds
        while _serves(orphan.pid, folder) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def remove_foreign_pid_file(folder: Path) -> None:
    """Removes a pid file whose pid belongs to a process that is not PostgreSQL: PostgreSQL would refuse to start.

    That pid was reused after a power cut or in a restarted container, or it is a killed orphan that is not reaped yet.
    Without the file, PostgreSQL still detects backends that outlived their postmaster, because it also looks for their
    shared memory by the folder's inode.
    """
    found = recorded_postmaster(folder)
    if found and _exists(found.pid) and not _command_line(found.pid)[0].rpartition("/")[2].startswith("postgres"):
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _serves(pid: int, folder: Path) -> bool:
    """Returns whether the process is a postmaster on `folder` that was started with the arguments of this service."""
    program, arguments = _command_line(pid)
    return program.endswith("/postgres") and arguments.startswith(f"{folder} -c ")


def _command_line(pid: int) -> tuple[str, str]:
    """Returns what is before and after ` -D ` in a process's command line; empty for a missing process or a zombie."""
    line = ""
    if sys.platform != "linux":
        ps = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        line = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()
    else:
        with suppress(FileNotFoundError, ProcessLookupError):
            line = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
    program, _, arguments = line.partition(" -D ")
    return program, arguments
