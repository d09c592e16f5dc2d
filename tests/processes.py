"""Reads the parents, the processor time and the memory of processes from /proc: works on Linux only."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Process:
    """A running process. reaped_cpu_seconds: of its children that have ended and that it has waited for."""

    parent: int
    cpu_seconds: float
    reaped_cpu_seconds: float


def cpu_seconds(root: int) -> float:
    """Sums the processor time of a process, its descendants, and those descendants that have ended.

    A process that has ended is counted with the parent that has waited for it.
    """
    processes = _processes()
    tree, found = {root}, 0
    while len(tree) > found:
        found = len(tree)
        tree |= {pid for pid, process in processes.items() if process.parent in tree}
    # Ticks are too coarse for many processes that each use a few milliseconds, as the backends of PostgreSQL do; the
    # nanoseconds of the threads lack the threads that have ended.
    return sum(
        max(processes[pid].cpu_seconds, _threads_cpu_seconds(pid)) + processes[pid].reaped_cpu_seconds
        for pid in tree & processes.keys()
    )


def parent(pid: int) -> int:
    """Returns the parent of a running process."""
    process = _process(Path("/proc", str(pid)))
    assert process, f"process {pid} has ended"
    return process.parent


def children(pid: int, argument: str) -> set[int]:
    """Returns the children of a process that have this in their command line."""
    found = {child for child, process in _processes().items() if process.parent == pid}
    return {child for child in found if argument.encode() in _read(Path("/proc", str(child), "cmdline"))}


def resident_bytes(pid: int) -> int:
    """Returns the resident set size of a running process."""
    return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE_BYTES


def forget_peak(pid: int) -> int:
    """Begins to measure the peak of a running process's resident set anew, and returns its present size."""
    Path("/proc", str(pid), "clear_refs").write_text("5")
    return resident_bytes(pid)


def peak_bytes(pid: int) -> int:
    """Returns the largest resident set size of a running process."""
    [line] = [line for line in Path("/proc", str(pid), "status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _processes() -> dict[int, _Process]:
    return {int(path.name): process for path in Path("/proc").glob("[0-9]*") if (process := _process(path))}


def _process(folder: Path) -> _Process | None:
    line = _read(folder / "stat")
    # The name of the program, in parentheses, may contain anything. After it come the fields 3 and up of proc(5):
    # ppid is the 4th, utime, stime, cutime and cstime are the 14th to the 17th.
    fields = line.rpartition(b")")[2].split()
    if not fields:
        return None
    used, reaped = (sum(map(int, fields[first : first + 2])) / _TICKS_PER_SECOND for first in (11, 13))
    return _Process(int(fields[1]), used, reaped)


def _threads_cpu_seconds(pid: int) -> float:
    lines = [_read(path) for path in Path("/proc", str(pid)).glob("task/*/schedstat")]
    return sum(int(line.split()[0]) for line in lines if line) / 1e9


def _read(path: Path) -> bytes:
    """Reads a file in /proc; empty if the process has ended meanwhile."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
