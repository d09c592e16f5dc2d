"""The embedded server, with real processes: what dies is killed, and what must live is asked."""

import errno
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from service.embedded import cluster, postmaster
from service.embedded import server as server_module
from service.embedded.postmaster import running_postmaster, stop_orphan
from service.embedded.server import EmbeddedServer, EmbeddedServerError, find_running

REPOSITORY = Path(__file__).parents[2]


class MakeServer(Protocol):
    """What the fixture make_server gives."""

    def __call__(self, data_dir: Path, major: int = 18) -> EmbeddedServer: ...


# A process that runs the server until its standard input ends, or until it is killed.
SUPERVISOR = """
import sys
from pathlib import Path
from service.embedded.server import EmbeddedServer

with EmbeddedServer(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


@contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder that every user can reach, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-")).resolve()
    folder.chmod(0o755)
    yield folder
    end_orphans(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_orphans(data_dir: Path) -> None:
    """Ends what a test left running."""
    for folder in data_dir.glob("postgres-*"):
        stop_orphan(folder)


@pytest.fixture
def fresh_dir() -> Iterator[Path]:
    """A data folder for a test that begins with nothing."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared_dir() -> Iterator[Path]:
    """A data folder with a cluster: making one takes as long as ten tests."""
    with data_folder() as folder:
        with EmbeddedServer(folder):
            pass
        yield folder


@pytest.fixture
def data_dir(shared_dir: Path) -> Iterator[Path]:
    """The data folder of the test, with a cluster on which nothing runs yet."""
    yield shared_dir
    shared_dir.chmod(0o755)
    end_orphans(shared_dir)


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Makes servers, not yet started, and stops them at the end; without fsync, to be quick."""
    with ExitStack() as stack:

        def make(data_dir: Path, major: int = 18) -> EmbeddedServer:
            server = EmbeddedServer(data_dir, major=major, settings={"fsync": "off"})
            stack.callback(server.stop)
            return server

        yield make


@contextmanager
def supervisor(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the server of a data folder; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """What a supervisor says when its server is up: the URL."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(url: str, query: str) -> object:
    """The one value that a query gives, over a connection of its own."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def write_note(url: str, note: str) -> None:
    """Commits the one row of a table."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (body text)")
        connection.execute("TRUNCATE note")
        connection.execute("INSERT INTO note VALUES (%s)", [note])


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until a condition holds; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def answers(url: str) -> bool:
    """Whether the server can be asked."""
    try:
        return ask(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def postmaster_pid(data_dir: Path, major: int = 18) -> int:
    """The pid in the pid file."""
    return int((data_dir / f"postgres-{major}" / "postmaster.pid").read_text().split()[0])


def all_pids(url: str, data_dir: Path) -> list[int]:
    """The postmaster and its children, those that have no client included."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity").fetchall()
    return [postmaster_pid(data_dir), *(pid for (pid,) in rows)]


def lives(pid: int) -> bool:
    """Whether a process runs under this pid; a zombie, which init has still to reap, doesn't."""
    try:
        os.kill(pid, 0)
        return sys.platform != "linux" or ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


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


def test_a_killed_postmaster_comes_back_on_the_same_port(make_server: MakeServer, data_dir: Path) -> None:
    """After kill -9 the same URL answers again, with what was committed, and the log says so."""
    server = make_server(data_dir)
    server.start()
    url, victim = server.url(), postmaster_pid(data_dir)
    write_note(url, "committed")

    with capture_logs() as entries:
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: entries and answers(url))

    assert ask(url, "SELECT body FROM note") == "committed"
    assert server.url() == url
    assert postmaster_pid(data_dir) != victim
    assert entries[0]["event"] == "embedded_postgres_restarted"
    assert entries[0]["exit_status"] == -signal.SIGKILL


def test_it_comes_back_again_and_again(make_server: MakeServer, data_dir: Path) -> None:
    """The supervision outlives what it supervises."""
    server = make_server(data_dir)
    server.start()

    for _ in range(3):
        victim = postmaster_pid(data_dir)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: answers(server.url()))


def test_a_backend_that_outlives_its_postmaster_only_delays_the_restart(
    make_server: MakeServer, data_dir: Path
) -> None:
    """While it holds the shared memory a new postmaster refuses to start; it is tried again."""
    server = make_server(data_dir)
    server.start()
    log = data_dir / "postgres.log"
    with psycopg.connect(server.url()) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            eventually(lambda: "shared memory block" in log.read_text())
            assert not answers(server.url())
        finally:
            os.kill(backend, signal.SIGCONT)

        eventually(lambda: answers(server.url()))


def test_an_orphan_is_replaced_at_the_next_start(make_server: MakeServer, data_dir: Path) -> None:
    """When the service is killed postgres lives on; the next start ends it and starts afresh."""
    with supervisor(data_dir) as killed:
        url = first_line(killed)
        write_note(url, "committed")
        killed.kill()
        killed.wait()
        orphans = all_pids(url, data_dir)

        server = make_server(data_dir)
        server.start()

    assert not [pid for pid in orphans if lives(pid)]
    assert ask(server.url(), "SELECT body FROM note") == "committed"


def test_an_orphan_that_does_not_react_is_killed(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signals get ruder until it is gone; what was committed survives that."""
    endings = [(number, min(seconds, 0.1)) for number, seconds in postmaster.ENDINGS[:-1]]
    monkeypatch.setattr(postmaster, "ENDINGS", [*endings, postmaster.ENDINGS[-1]])
    with supervisor(data_dir) as killed:
        write_note(first_line(killed), "committed")
        killed.kill()
        killed.wait()
        os.kill(postmaster_pid(data_dir), signal.SIGSTOP)

        server = make_server(data_dir)
        server.start()

    assert ask(server.url(), "SELECT body FROM note") == "committed"


def test_an_orphan_of_the_other_version_is_ended_too(make_server: MakeServer, data_dir: Path) -> None:
    """Nothing of ours is left running on a data folder, whichever version comes next."""
    with supervisor(data_dir) as killed:
        url = first_line(killed)
        killed.kill()
        killed.wait()
        orphans = all_pids(url, data_dir)

        make_server(data_dir, major=16).start()

    assert not [pid for pid in orphans if lives(pid)]


def test_a_pid_that_became_a_strangers_is_neither_signalled_nor_in_the_way(
    make_server: MakeServer, data_dir: Path
) -> None:
    """After a power cut the pid file may name any process; postgres alone would not start then."""
    folder = data_dir / "postgres-18"
    with make_server(data_dir):
        left_behind = (folder / "postmaster.pid").read_text()
    owner = folder.stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner) as stranger:
        try:
            _, _, rest = left_behind.partition("\n")
            (folder / "postmaster.pid").write_text(f"{stranger.pid}\n{rest}")
            os.chown(folder / "postmaster.pid", owner, -1)

            server = make_server(data_dir)
            server.start()

            assert answers(server.url())
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_the_server_of_another_folder_is_not_taken_for_an_orphan(
    make_server: MakeServer, data_dir: Path, fresh_dir: Path
) -> None:
    """Being postgres is not enough to be signalled: it has to run on this very folder."""
    theirs = make_server(fresh_dir)
    theirs.start()
    ours = data_dir / "postgres-18"
    shutil.copy(fresh_dir / "postgres-18" / "postmaster.pid", ours)
    try:
        assert running_postmaster(ours) is None
        stop_orphan(ours)
        assert answers(theirs.url())
    finally:
        (ours / "postmaster.pid").unlink()


def test_an_initdb_killed_half_way_does_not_poison_the_next_start(make_server: MakeServer, fresh_dir: Path) -> None:
    """The service dies in its first second, in the middle of initdb; the next start is whole."""
    with supervisor(fresh_dir) as killed:
        eventually(lambda: list(fresh_dir.glob("*/**/PG_VERSION")))
        killed.kill()
        killed.wait()
        assert not (fresh_dir / "postgres-18" / "postmaster.pid").exists()

        server = make_server(fresh_dir)
        server.start()

    assert answers(server.url())
    assert not list(fresh_dir.glob("initdb-*/data/global"))


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
    with supervisor(data_dir) as killed:
        url = first_line(killed)
        killed.kill()
        killed.wait()
        pids = all_pids(url, data_dir)
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: find_running(data_dir) is None)

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
        eventually(lambda: answers(server.url()))
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
    with supervisor(data_dir) as killed:
        url = first_line(killed)
        killed.kill()
        killed.wait()
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
