"""The embedded server: how it starts, whom it serves, how it stops and what its errors say."""

import errno
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from service.embedded import cluster
from service.embedded import server as server_module
from service.embedded.server import EmbeddedServer, EmbeddedServerError, find_running
from tests.faults.embedded import (
    MakeServer,
    all_pids,
    answers,
    ask,
    first_line,
    lives,
    make_orphan,
    postmaster_pid,
    supervisor,
    write_note,
)
from tests.serving import wait_until


def user_namespaces_work() -> bool:
    """Whether unshare can give us a user namespace here."""
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([str(unshare), "--user", "true"], check=False).returncode == 0


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")


@pytest.mark.parametrize("major", [16, 18])
def test_it_starts_from_nothing_and_answers_a_query(make_server: MakeServer, fresh_dir: Path, major: int) -> None:
    """Both versions start in an empty folder, in UTF-8, reachable over 127.0.0.1 and no socket."""
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
    # Its programs are used, its Python code, which changes permissions of folders, is not.
    assert cluster.PACKAGE not in sys.modules


def test_a_second_start_keeps_the_data(make_server: MakeServer, data_dir: Path) -> None:
    """After stop and start it is the same cluster, with what was committed."""
    identity = "SELECT system_identifier FROM pg_control_system()"
    with make_server(data_dir) as first:
        write_note(first.url(), "kept")
        before = ask(first.url(), identity)

    with make_server(data_dir) as second:
        assert ask(second.url(), identity) == before
        assert ask(second.url(), "SELECT body FROM note") == "kept"


def test_the_configuration_can_be_changed(data_dir: Path) -> None:
    """A setting of the caller wins over ours, and fsync is on unless the caller says otherwise."""
    with EmbeddedServer(data_dir, settings={"max_connections": "20"}) as server:
        assert ask(server.url(), "SHOW max_connections") == "20"
        assert ask(server.url(), "SHOW fsync") == "on"


def test_only_the_password_lets_in(make_server: MakeServer, data_dir: Path) -> None:
    """Another password is refused, even from this machine."""
    server = make_server(data_dir)
    server.start()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(), password="guessed")


def test_secrets_stay_with_the_caller(make_server: MakeServer, data_dir: Path) -> None:
    """Only the owner reads password, log and lock, and the data folder itself is left as it was."""
    before = data_dir.stat()
    make_server(data_dir).start()

    for name in ("postgres.password", "postgres.log", "lock"):
        status = (data_dir / name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o600), name
    after = data_dir.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_postgres_has_a_session_of_its_own(make_server: MakeServer, data_dir: Path) -> None:
    """Ctrl-C in the terminal goes to our session, and so not to postgres."""
    make_server(data_dir).start()

    assert os.getsid(postmaster_pid(data_dir)) != os.getsid(0)


def test_a_broken_locale_of_the_caller_does_not_reach_initdb(
    make_server: MakeServer, fresh_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ssh forwards as LC_ALL may not exist on this machine; initdb would refuse it."""
    monkeypatch.setenv("LC_ALL", "xx_XX.nonsense")
    server = make_server(fresh_dir)
    server.start()

    assert answers(server.url())


def test_a_second_supervisor_is_refused_by_pid(make_server: MakeServer, data_dir: Path) -> None:
    """One process has the folder; the other is told which one, and harms nothing."""
    with supervisor(data_dir) as first:
        url = first_line(first)

        with pytest.raises(EmbeddedServerError, match=f"pid {first.pid}\\b"):
            make_server(data_dir).start()
        assert answers(url)


def test_starting_twice_is_refused_and_leaves_the_server_running(make_server: MakeServer, data_dir: Path) -> None:
    """The lock holds within one process too, and a refused start doesn't stop what runs."""
    server = make_server(data_dir)
    server.start()

    with pytest.raises(EmbeddedServerError, match=f"pid {os.getpid()}\\b"):
        server.start()
    assert answers(server.url())
    with pytest.raises(EmbeddedServerError):
        make_server(data_dir).start()


def test_a_port_that_is_snatched_is_given_up(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a port and binding it another program may take it: then it's another."""
    with socket.create_server(("127.0.0.1", 0)) as snatcher:
        taken, free = snatcher.getsockname()[1], server_module._free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(server_module, "_free_port", lambda: next(ports))
        server = make_server(data_dir)
        server.start()

        assert conninfo_to_dict(server.url())["port"] == str(free)
        assert answers(server.url())


def test_stop_ends_every_process_and_can_be_repeated(make_server: MakeServer, data_dir: Path) -> None:
    """After stop nothing of the server lives, open connections or not; again, it does nothing."""
    server = make_server(data_dir)
    server.start()
    said_before = len((data_dir / "postgres.log").read_text())
    with psycopg.connect(server.url()):
        pids = all_pids(server.url(), data_dir)
        server.stop()

    assert not [pid for pid in pids if lives(pid)]
    server.stop()
    # In order, so that the next start has nothing to recover.
    assert "received fast shutdown request" in (data_dir / "postgres.log").read_text()[said_before:]


def test_a_shutdown_that_hangs_is_forced(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that doesn't react holds up the fast shutdown, but not for ever."""
    monkeypatch.setattr(server_module, "FAST_SHUTDOWN_SECONDS", 0.1)
    server = make_server(data_dir)
    server.start()
    with psycopg.connect(server.url()) as connection:
        pids = all_pids(server.url(), data_dir)
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        server.stop()

    assert not [pid for pid in pids if lives(pid)]


def test_a_stopped_server_can_be_started_again(make_server: MakeServer, data_dir: Path) -> None:
    """Stop gives back the lock, and supervision begins anew."""
    server = make_server(data_dir)
    server.start()
    server.stop()
    server.start()

    assert answers(server.url())


def test_nothing_is_restarted_after_stop(make_server: MakeServer, data_dir: Path) -> None:
    """Stop wins over a restart that is already due."""
    server = make_server(data_dir)
    server.start()
    with capture_logs() as entries:
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        server.stop()

    assert entries == []
    assert find_running(data_dir) is None


def test_stop_before_start_does_nothing(make_server: MakeServer, data_dir: Path) -> None:
    """The command line may stop what it never started."""
    make_server(data_dir).stop()


def test_another_process_finds_the_running_server(make_server: MakeServer, data_dir: Path) -> None:
    """The URL can be had from the data folder alone, as long as the server runs."""
    assert find_running(data_dir) is None
    with make_server(data_dir) as server:
        assert find_running(data_dir) == server.url()
        assert answers(find_running(data_dir) or "")
    assert find_running(data_dir) is None


def test_a_killed_server_is_not_found(make_server: MakeServer, data_dir: Path) -> None:
    """A pid file alone is not a server."""
    url = make_orphan(data_dir)
    pids = all_pids(url, data_dir)
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: find_running(data_dir) is None, "the server to be gone")

    assert (data_dir / "postgres-18" / "postmaster.pid").exists()
    # What outlived the postmaster ends by itself, and then the folder can be used again.
    make_server(data_dir).start()


def test_a_folder_that_can_not_be_read_is_not_said_to_be_another_users(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be our own, and closed: what is said is what the system said, and what can be done."""

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "postmaster.pid"))

    monkeypatch.setattr(server_module, "running_postmaster", refuse)
    with pytest.raises(
        EmbeddedServerError, match=r"can't be read by this user .*Permission denied.*DATA_DIR"
    ) as raised:
        find_running(data_dir)
    assert "belongs to" not in str(raised.value)


def test_it_is_known_whether_there_is_something_to_start(fresh_dir: Path, data_dir: Path) -> None:
    """Looking makes nothing."""
    assert EmbeddedServer(data_dir).has_data()
    assert not EmbeddedServer(fresh_dir / "none").has_data()
    assert not (fresh_dir / "none").exists()


@pytest.mark.parametrize("package", ["no_such_package", "json"])
def test_without_the_programs_the_error_says_what_to_do(
    make_server: MakeServer, fresh_dir: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Without the package, or with one that has no programs: DATABASE_URL, or the extra."""
    monkeypatch.setattr(cluster, "PACKAGE", package)

    with pytest.raises(EmbeddedServerError, match=r"(?s)DATABASE_URL.*holdfast\[embedded\]"):
        make_server(fresh_dir).start()


def test_a_lost_password_is_named_and_not_replaced(make_server: MakeServer, fresh_dir: Path) -> None:
    """A new password would not open the old cluster: the error says which file to put back."""
    (fresh_dir / "postgres-18").mkdir()
    password = fresh_dir / "postgres.password"

    with pytest.raises(EmbeddedServerError, match=str(password)):
        make_server(fresh_dir).start()
    assert not password.exists()


def test_a_wrong_password_is_an_error_for_people(make_server: MakeServer, data_dir: Path) -> None:
    """A password file from elsewhere is found out at the start, and nothing is left running."""
    password = data_dir / "postgres.password"
    right = password.read_text()
    password.write_text("wrong")
    try:
        with pytest.raises(EmbeddedServerError, match=r"postgres\.password"):
            make_server(data_dir).start()
        assert find_running(data_dir) is None
    finally:
        password.write_text(right)


def test_a_start_that_fails_shows_the_log_and_gives_back_the_folder(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person reads what postgres said, and can try again at once."""
    monkeypatch.setattr(server_module, "START_DELAYS_SECONDS", (0.0, 0.01))
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        EmbeddedServer(data_dir, settings={"no_such_setting": "1"}).start()

    make_server(data_dir).start()


def test_a_data_folder_that_cannot_be_made_is_an_error_for_people(fresh_dir: Path) -> None:
    """What is wrong with the path is said, together with the names of the settings."""
    (fresh_dir / "file").touch()

    with pytest.raises(EmbeddedServerError, match="DATA_DIR"):
        EmbeddedServer(fresh_dir / "file" / "folder").start()


@as_root
def test_root_runs_it_as_nobody(make_server: MakeServer, data_dir: Path) -> None:
    """Where nobody can get to the programs and the data, postgres is nobody's."""
    make_server(data_dir).start()

    assert (data_dir / "postgres-18").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@as_root
@pytest.mark.skipif(not user_namespaces_work(), reason="user namespaces are not available")
def test_under_a_closed_folder_root_runs_it_in_a_user_namespace(make_server: MakeServer, data_dir: Path) -> None:
    """A folder that nobody may not enter is no obstacle, on the way there and back."""
    with make_server(data_dir) as server:
        write_note(server.url(), "kept")
    folder = data_dir / "postgres-18"

    data_dir.chmod(0o700)
    with make_server(data_dir) as server:
        assert ask(server.url(), "SELECT body FROM note") == "kept"
        assert folder.stat().st_uid == 0
        pids = all_pids(server.url(), data_dir)
        assert find_running(data_dir) == server.url()
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: answers(server.url()), "the server to answer")
        pids += all_pids(server.url(), data_dir)
    assert not [pid for pid in pids if lives(pid)]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700

    data_dir.chmod(0o755)
    with make_server(data_dir) as server:
        assert ask(server.url(), "SELECT body FROM note") == "kept"


@as_root
@pytest.mark.skipif(not user_namespaces_work(), reason="user namespaces are not available")
def test_an_orphan_in_a_user_namespace_is_replaced_too(make_server: MakeServer, data_dir: Path) -> None:
    """Signals reach postgres there, and its command line can be read."""
    data_dir.chmod(0o700)
    url = make_orphan(data_dir)
    orphans = all_pids(url, data_dir)

    make_server(data_dir).start()

    assert not [pid for pid in orphans if lives(pid)]


@as_root
def test_if_nothing_works_the_error_names_the_folder_in_the_way(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without user namespaces a closed folder can't be helped, but it can be named."""
    data_dir.chmod(0o700)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(EmbeddedServerError, match=f"chmod o\\+x {data_dir}`"):
        make_server(data_dir).start()
