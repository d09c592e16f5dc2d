"""The files of the embedded server, without a server: its lock, its secrets, its owner and its pid file."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from structlog.testing import capture_logs

from service.embedded import postmaster, server
from service.embedded.cluster import Cluster, lock_folder, superuser_password, write_private
from service.embedded.postmaster import Postmaster, recorded_postmaster, remove_foreign_pid_file, running_postmaster
from service.embedded.privileges import Account, EmbeddedServerError
from service.embedded.server import EmbeddedServer

NO_PID = 2**22  # more than the kernel gives


def write_pid(folder: Path, *lines: object) -> Path:
    """Writes a pid file as PostgreSQL does."""
    path = folder / "postmaster.pid"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), None),
        ((7,), None),
        ((7, "/data", 1767225600), None),
        ((7, "/data", 1767225600, 5432), Postmaster(7, 5432, ready=False)),
        ((7, "/data", 1767225600, 5432, "", "127.0.0.1", "1 2", "starting"), Postmaster(7, 5432, ready=False)),
        ((7, "/data", 1767225600, 5432, "", "127.0.0.1", "1 2", "ready   "), Postmaster(7, 5432, ready=True)),
        # Of a single-user server: a signal to it would reach a group of processes.
        ((-7, "/data", 1767225600, 5432, "", "127.0.0.1", "1 2", "ready   "), None),
    ],
)
def test_the_pid_file_is_read_once_it_is_complete(
    tmp_path: Path, lines: tuple[object, ...], expected: Postmaster | None
) -> None:
    """It is written in steps. Without a file there is no server."""
    assert recorded_postmaster(tmp_path) is None
    write_pid(tmp_path, *lines)
    assert recorded_postmaster(tmp_path) == expected


@pytest.mark.parametrize(
    ("program", "arguments", "is_ours"),
    [
        ("/opt/pg/bin/postgres", "{} -c port=1", True),
        ("/opt/pg/bin/postgres", "{}-other -c port=1", False),
        ("/opt/pg/bin/postgres", "{}", False),
        ("/usr/bin/less", "{} -c port=1", False),
        ("", "", False),
    ],
)
def test_a_process_is_the_server_of_a_folder_by_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, arguments: str, is_ours: bool
) -> None:
    """Its pid may have been reused by any program, also by a PostgreSQL of another folder."""
    monkeypatch.setattr(postmaster, "_command_line", lambda _: (program, arguments.format(tmp_path)))
    write_pid(tmp_path, NO_PID, tmp_path, 1767225600, 5432)
    assert bool(running_postmaster(tmp_path)) == is_ours


@pytest.mark.parametrize(
    ("pid", "program", "is_kept"),
    [(os.getpid(), "python", False), (os.getpid(), "/opt/pg/bin/postgres", True), (NO_PID, "", True)],
    ids=["another program", "PostgreSQL", "no process"],
)
def test_only_the_pid_file_of_another_program_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, program: str, is_kept: bool
) -> None:
    """With the others, PostgreSQL itself finds out whether its files are in use."""
    remove_foreign_pid_file(tmp_path)
    monkeypatch.setattr(postmaster, "_command_line", lambda _: (program, ""))
    path = write_pid(tmp_path, pid, tmp_path, 1767225600, 5432)
    remove_foreign_pid_file(tmp_path)
    assert path.exists() == is_kept


def test_a_process_of_another_user_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not be signalled."""

    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbid)
    path = write_pid(tmp_path, os.getpid(), tmp_path, 1767225600, 5432)
    remove_foreign_pid_file(tmp_path)
    assert not path.exists()


def test_the_lock_has_the_pid_of_its_holder(tmp_path: Path) -> None:
    """That of a former holder, which may be longer, is gone; and only the owner can read it."""
    folder = tmp_path / "made" / "here"
    for _ in range(2):
        lock = lock_folder(folder)
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(EmbeddedServerError, match=f"by the process with pid {os.getpid()}\\."):
            lock_folder(folder)
        os.close(lock)
        (folder / "lock").write_text("1234567890123\n")
    assert (folder / "lock").stat().st_mode & 0o777 == 0o600


def test_a_secret_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """No draft of it is left, and only the owner can read it."""
    path = tmp_path / "secret"
    path.write_text("a longer one")
    for text in ("secret", "other"):
        write_private(path, text)
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o600)
    assert [*tmp_path.iterdir()] == [path]


@contextmanager
def no_space() -> Iterator[None]:
    """Lets each write to a file fail in the block, as on a full disk."""
    former, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (former, most))


def test_a_full_disk_is_named_by_its_file(tmp_path: Path) -> None:
    """The error of a write has no path, and the operator has to know which disk to empty."""
    with pytest.raises(OSError, match=str(tmp_path / "secret")), no_space():
        write_private(tmp_path / "secret", "text")
    with pytest.raises(EmbeddedServerError, match=f"can't be used: .*{tmp_path}/lock.*DATA_DIR"), no_space():
        lock_folder(tmp_path)
    os.close(lock_folder(tmp_path))


def test_the_password_is_made_once(tmp_path: Path) -> None:
    """A line end that an editor adds is no part of it."""
    password = superuser_password(tmp_path)
    (tmp_path / "postgres.password").write_text(f"{password}\n")
    assert superuser_password(tmp_path) == password
    assert Cluster(tmp_path, 18).url(5432) == f"postgresql://postgres:{password}@127.0.0.1:5432/postgres"


def test_a_folder_changes_its_owner_from_the_bottom_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted start begins again, because the folder itself is last. Links lead out of it and are not followed,
    and a folder that has its owner is not walked."""
    changed: list[str] = []

    def change(path: Path, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert (uid, gid, follow_symlinks) == (os.getuid() + 1, 7, False)
        changed.append(str(path.relative_to(tmp_path)))

    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "file").touch()
    (tmp_path / "link").symlink_to("/")
    monkeypatch.setattr(os, "chown", change)
    Account(os.getuid(), 7).take_ownership(tmp_path)
    assert changed == []
    Account(os.getuid() + 1, 7).take_ownership(tmp_path)
    assert changed[:2] == ["base/file", "base"]
    assert sorted(changed[2:4]) == ["base", "link"]
    assert changed[4:] == ["."]


class Child:
    """A PostgreSQL that was killed."""

    pid = NO_PID

    def __init__(self, clock: "Clock", seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    def wait(self) -> int:
        """Runs for a time, and ends."""
        self._clock.now += self._seconds
        return -9

    def poll(self) -> None:
        """Says that it runs."""


class Clock:
    """The time, the pauses between restarts, and the children that are still to be started."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.children = [Child(self, lasts) for lasts in seconds]

    def monotonic(self) -> float:
        """Returns the time."""
        return self.now

    def wait(self, seconds: float) -> bool:
        """Waits for the stop, which comes when no child is left."""
        self.pauses.append(seconds)
        return not self.children

    def is_set(self) -> bool:
        """Tells that the stop has not come."""
        return False


def test_the_pauses_before_restarts_grow_until_one_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are bounded, since a full disk may be emptied at any time."""
    clock: Any = Clock(*[0.5] * 8, server.SETTLED_SECONDS + 1, 0.5)
    monkeypatch.setattr(server, "time", clock)
    embedded = EmbeddedServer(tmp_path)
    embedded._stopping = clock
    monkeypatch.setattr(embedded, "_spawn", lambda: clock.children.pop(0))
    embedded._child = clock.children.pop(0)
    embedded._supervise()
    assert clock.pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.05, 0.1]


@pytest.mark.parametrize(
    ("status", "fails", "event"),
    [
        (-9, False, "embedded_postgres_restarted"),
        (0, False, "embedded_postgres_restarted"),  # an operator stopped it
        (1, False, "embedded_postgres_cannot_restart"),
        (-9, True, "embedded_postgres_cannot_restart"),
    ],
)
def test_a_restart_is_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, fails: bool, event: str
) -> None:
    """A server that gave up is started again too. Without a process, or without memory, none can be started."""
    started: Any = Child(Clock(), 0)

    def spawn() -> Any:
        if fails:
            raise OSError("out of memory")
        return started

    embedded = EmbeddedServer(tmp_path)
    monkeypatch.setattr(embedded, "_spawn", spawn)
    with capture_logs() as lines:
        embedded._restart(status)
    assert [line["event"] for line in lines] == [event]
    assert embedded._child is (None if fails else started)
    embedded._stopping.set()
    embedded._child = None
    embedded._restart(status)
    assert embedded._child is None


def test_a_server_that_is_started_again_is_supervised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop before it is over."""
    embedded = EmbeddedServer(tmp_path)
    for step in ("_prepare", "_launch"):
        monkeypatch.setattr(embedded, step, lambda *_: None)
    for _ in range(2):
        with embedded:
            assert not embedded._stopping.is_set()
        assert embedded._stopping.is_set()


def test_an_initdb_that_is_interrupted_is_killed(tmp_path: Path) -> None:
    """It would write to a folder that is removed."""
    process = MagicMock()
    process.__enter__.return_value = process
    process.wait.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        Cluster(tmp_path, 18)._initdb(tmp_path, tmp_path, MagicMock(spawn=lambda *_: process))
    process.kill.assert_called_once()


def test_a_server_that_is_never_ready_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of its log says why."""
    monkeypatch.setattr(server, "READY_SECONDS", 0.0)
    embedded = EmbeddedServer(tmp_path)
    (tmp_path / "postgres.log").write_text("recovering\n")
    with pytest.raises(EmbeddedServerError, match=r"isn't ready after 0 s\. The end of .*\nrecovering"):
        embedded._becomes_ready(Child(Clock(), 0))  # type: ignore[arg-type]  # it has the methods that are used
