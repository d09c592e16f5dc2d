"""The embedded server: its start, its stop, its files, and its errors."""

import errno
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from service.embedded import cluster
from service.embedded import server as server_module
from service.embedded.postmaster import ENDINGS
from service.embedded.privileges import EmbeddedServerError
from service.embedded.server import EmbeddedServer, find_running
from tests.faults.embedded import (
    MakeServer,
    all_pids,
    answers,
    first_line,
    is_running,
    make_orphan,
    postmaster_pid,
    query_value,
    supervisor,
    write_note,
)
from tests.serving import wait_until


def user_namespaces_work() -> bool:
    """Returns whether unshare can make a user namespace on this machine."""
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([str(unshare), "--user", "true"], check=False).returncode == 0


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")


@pytest.mark.parametrize("major", [16, 18])
def test_it_starts_in_an_empty_folder_and_answers_a_query(make_server: MakeServer, fresh_dir: Path, major: int) -> None:
    """Both versions use UTF-8 and listen on 127.0.0.1, without a Unix socket."""
    server = make_server(fresh_dir, major=major)
    server.start()

    with psycopg.connect(server.url()) as connection:
        version, upper, address, sockets = (
            connection.execute(
                "SELECT current_setting('server_version_num')::int / 10000, upper('ä'),"
                " current_setting('listen_addresses'), current_setting('unix_socket_directories')"
            ).fetchone()
            or ()
        )
    assert (version, upper, address, sockets) == (major, "Ä", "127.0.0.1", "")
    # Only the programs of the package are used: its Python code changes the permissions of folders.
    assert cluster.PACKAGE not in sys.modules


def test_a_second_start_keeps_the_data(make_server: MakeServer, data_dir: Path) -> None:
    """The cluster is the same, with the committed rows."""
    identity = "SELECT system_identifier FROM pg_control_system()"
    with make_server(data_dir) as first:
        write_note(first.url(), "kept")
        before = query_value(first.url(), identity)

    with make_server(data_dir) as second:
        assert query_value(second.url(), identity) == before
        assert query_value(second.url(), "SELECT body FROM note") == "kept"


def test_the_configuration_can_be_changed(data_dir: Path) -> None:
    """A setting of the caller overrides the default, and fsync is on by default."""
    with EmbeddedServer(data_dir, settings={"max_connections": "20"}) as server:
        assert query_value(server.url(), "SHOW max_connections") == "20"
        assert query_value(server.url(), "SHOW fsync") == "on"


def test_a_connection_needs_the_password(make_server: MakeServer, data_dir: Path) -> None:
    """There is no trust authentication for local connections."""
    server = make_server(data_dir)
    server.start()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(), password="guessed")


def test_secret_files_are_readable_by_their_owner_only(make_server: MakeServer, data_dir: Path) -> None:
    """This covers password, log and lock; the data folder itself keeps its owner and its mode."""
    before = data_dir.stat()
    make_server(data_dir).start()

    for name in ("postgres.password", "postgres.log", "lock"):
        status = (data_dir / name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600), name
    after = data_dir.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_postgres_has_a_session_of_its_own(make_server: MakeServer, data_dir: Path) -> None:
    """Ctrl-C in a terminal signals the session of the service only."""
    make_server(data_dir).start()

    assert os.getsid(postmaster_pid(data_dir)) != os.getsid(0)


def test_a_broken_locale_of_the_caller_does_not_reach_initdb(
    make_server: MakeServer, fresh_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh may forward an LC_ALL that does not exist on this machine, which initdb would refuse."""
    monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
    server = make_server(fresh_dir)
    server.start()

    assert answers(server.url())


def test_the_refusal_of_a_second_supervisor_names_the_first(make_server: MakeServer, data_dir: Path) -> None:
    """The server of the first one keeps running."""
    with supervisor(data_dir) as first:
        url = first_line(first)

        with pytest.raises(EmbeddedServerError, match=f"pid {first.pid}\\b"):
            make_server(data_dir).start()
        assert answers(url)


def test_starting_twice_is_refused_and_leaves_the_server_running(make_server: MakeServer, data_dir: Path) -> None:
    """The lock also holds within one process, and a refused start does not stop the running server."""
    server = make_server(data_dir)
    server.start()

    with pytest.raises(EmbeddedServerError, match=f"pid {os.getpid()}\\b"):
        server.start()
    assert answers(server.url())
    with pytest.raises(EmbeddedServerError):
        make_server(data_dir).start()


def test_a_port_that_is_taken_meanwhile_is_replaced(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may bind the port between its choice and the start."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken_port, free_port = other.getsockname()[1], server_module._free_port()
        ports = iter([taken_port, free_port])
        monkeypatch.setattr(server_module, "_free_port", lambda: next(ports))
        server = make_server(data_dir)
        server.start()

        assert conninfo_to_dict(server.url())["port"] == str(free_port)
        assert answers(server.url())


def test_stop_ends_every_process_and_can_be_repeated(make_server: MakeServer, data_dir: Path) -> None:
    """Open connections do not keep a process alive; a second stop does nothing."""
    server = make_server(data_dir)
    server.start()
    log_length = len((data_dir / "postgres.log").read_text())
    with psycopg.connect(server.url()):
        pids = all_pids(server.url(), data_dir)
        server.stop()

    assert not [pid for pid in pids if is_running(pid)]
    server.stop()
    # A regular shutdown, so that the next start needs no recovery.
    assert "received fast shutdown request" in (data_dir / "postgres.log").read_text()[log_length:]


def test_a_shutdown_that_hangs_is_forced(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that does not react delays the fast shutdown until a timeout only."""
    fast, *others = ENDINGS
    monkeypatch.setattr(server_module, "ENDINGS", [(fast[0], 0.1), *others])
    server = make_server(data_dir)
    server.start()
    with psycopg.connect(server.url()) as connection:
        pids = all_pids(server.url(), data_dir)
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        server.stop()

    assert not [pid for pid in pids if is_running(pid)]


def test_a_frozen_postmaster_is_killed(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reacts to no other signal. Its processes end by themselves, and the next start recovers."""
    fast, immediate, kill = ENDINGS
    monkeypatch.setattr(server_module, "ENDINGS", [(fast[0], 0.1), (immediate[0], 0.1), kill])
    server = make_server(data_dir)
    server.start()
    os.kill(postmaster_pid(data_dir), signal.SIGSTOP)
    server.stop()
    server.start()

    assert answers(server.url())


def test_a_stopped_server_can_be_started_again(make_server: MakeServer, data_dir: Path) -> None:
    """Stop releases the lock, and the new start is supervised again."""
    server = make_server(data_dir)
    server.start()
    server.stop()
    server.start()

    assert answers(server.url())


@pytest.mark.parametrize(("owner", "name"), [(EmbeddedServer, "_spawn"), (threading.Thread, "start")])
def test_a_signal_during_a_start_leaves_no_server(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Neither before its process is known, nor when its supervisor has just begun: nothing else would stop it."""
    original = getattr(owner, name)
    returned = []

    def interrupt(subject: EmbeddedServer | threading.Thread) -> None:
        returned.append(original(subject))
        if isinstance(subject, EmbeddedServer) or subject.name == "embedded-postgres":
            wait_until(lambda: find_running(data_dir), "the server")
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(owner, name, interrupt)
    former = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(143))
    try:
        with pytest.raises(SystemExit), EmbeddedServer(data_dir):
            pytest.fail("it has started")
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert find_running(data_dir) is None
    for process in filter(None, returned):
        process.wait()


def test_nothing_is_restarted_after_stop(make_server: MakeServer, data_dir: Path) -> None:
    """A stop cancels a restart that is already due."""
    server = make_server(data_dir)
    server.start()
    with capture_logs() as entries:
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        server.stop()

    assert entries == []
    assert find_running(data_dir) is None


def test_stop_before_start_does_nothing(make_server: MakeServer, data_dir: Path) -> None:
    """The command line may stop a server that it never started."""
    make_server(data_dir).stop()


def test_another_process_finds_the_running_server(make_server: MakeServer, data_dir: Path) -> None:
    """The data folder has the URL while the server runs."""
    assert find_running(data_dir) is None
    with make_server(data_dir) as server:
        assert find_running(data_dir) == server.url()
        assert answers(find_running(data_dir) or "")
    assert find_running(data_dir) is None


def test_a_killed_server_is_not_found(make_server: MakeServer, data_dir: Path) -> None:
    """The pid file alone does not mean a running server."""
    url = make_orphan(data_dir)
    pids = all_pids(url, data_dir)
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: find_running(data_dir) is None, "the server to be gone")

    assert (data_dir / "postgres-18" / "postmaster.pid").exists()
    # The backends that outlived the postmaster end by themselves, and the folder can be used again.
    make_server(data_dir).start()


def test_the_error_for_an_unreadable_folder_has_the_reason_of_the_system(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may belong to the user and lack permissions, so the error does not claim another owner."""

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "postmaster.pid"))

    monkeypatch.setattr(server_module, "running_postmaster", refuse)
    with pytest.raises(
        EmbeddedServerError, match=r"can't be read by this user .*Permission denied.*DATA_DIR"
    ) as raised:
        find_running(data_dir)
    assert "belongs to" not in str(raised.value)


def test_has_data_makes_no_folder(fresh_dir: Path, data_dir: Path) -> None:
    """It returns whether the folder has a cluster."""
    assert EmbeddedServer(data_dir).has_data()
    assert not EmbeddedServer(fresh_dir / "none").has_data()
    assert not (fresh_dir / "none").exists()


@pytest.mark.parametrize("package", ["no_such_package", "json"])
def test_the_error_for_missing_programs_names_the_remedies(
    make_server: MakeServer, fresh_dir: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The package may be missing or have no programs; DATABASE_URL and the extra are the remedies."""
    monkeypatch.setattr(cluster, "PACKAGE", package)

    with pytest.raises(EmbeddedServerError, match=r"(?s)DATABASE_URL.*holdfast\[embedded\]"):
        make_server(fresh_dir).start()


def test_a_missing_password_file_is_an_error(make_server: MakeServer, fresh_dir: Path) -> None:
    """A new password would not match the cluster, so the error names the file to restore."""
    (fresh_dir / "postgres-18").mkdir()
    password = fresh_dir / "postgres.password"

    with pytest.raises(EmbeddedServerError, match=str(password)):
        make_server(fresh_dir).start()
    assert not password.exists()


def test_a_wrong_password_is_detected_at_the_start(make_server: MakeServer, data_dir: Path) -> None:
    """The error names the file, and no server is left running."""
    password = data_dir / "postgres.password"
    right = password.read_text()
    password.write_text("wrong")
    try:
        with pytest.raises(EmbeddedServerError, match=r"postgres\.password"):
            make_server(data_dir).start()
        assert find_running(data_dir) is None
    finally:
        password.write_text(right)


def test_a_failed_start_shows_the_log_and_releases_the_lock(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error quotes PostgreSQL's log, and the next start can follow at once."""
    monkeypatch.setattr(server_module, "START_DELAYS_SECONDS", (0.0, 0.01))
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        EmbeddedServer(data_dir, settings={"no_such_setting": "1"}).start()

    make_server(data_dir).start()


def test_the_error_for_a_folder_that_cannot_be_made_names_the_setting(fresh_dir: Path) -> None:
    """The path is invalid, because its parent is a file."""
    (fresh_dir / "file").touch()

    with pytest.raises(EmbeddedServerError, match="DATA_DIR"):
        EmbeddedServer(fresh_dir / "file" / "folder").start()


@as_root
def test_root_runs_it_as_nobody(make_server: MakeServer, data_dir: Path) -> None:
    """The user nobody needs access to the programs and the data."""
    make_server(data_dir).start()

    assert (data_dir / "postgres-18").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@as_root
@pytest.mark.skipif(not user_namespaces_work(), reason="user namespaces are not available")
def test_under_a_closed_folder_root_runs_it_in_a_user_namespace(make_server: MakeServer, data_dir: Path) -> None:
    """A folder without access for the user nobody may be closed and opened again between starts."""
    with make_server(data_dir) as server:
        write_note(server.url(), "kept")
    folder = data_dir / "postgres-18"

    data_dir.chmod(0o700)
    with make_server(data_dir) as server:
        assert query_value(server.url(), "SELECT body FROM note") == "kept"
        assert folder.stat().st_uid == 0
        pids = all_pids(server.url(), data_dir)
        assert find_running(data_dir) == server.url()
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: answers(server.url()), "the server to answer")
        pids += all_pids(server.url(), data_dir)
    assert not [pid for pid in pids if is_running(pid)]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700

    data_dir.chmod(0o755)
    with make_server(data_dir) as server:
        assert query_value(server.url(), "SELECT body FROM note") == "kept"


@as_root
@pytest.mark.skipif(not user_namespaces_work(), reason="user namespaces are not available")
def test_an_orphan_in_a_user_namespace_is_replaced_too(make_server: MakeServer, data_dir: Path) -> None:
    """The supervisor can signal a process in the namespace and read its command line."""
    data_dir.chmod(0o700)
    url = make_orphan(data_dir)
    orphans = all_pids(url, data_dir)

    make_server(data_dir).start()

    assert not [pid for pid in orphans if is_running(pid)]


@as_root
def test_without_user_namespaces_the_error_names_the_closed_folder(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the command that opens the folder."""
    data_dir.chmod(0o700)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(EmbeddedServerError, match=f"chmod o\\+x {data_dir}`"):
        make_server(data_dir).start()
