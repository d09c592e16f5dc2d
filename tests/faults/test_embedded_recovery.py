"""The embedded server after a kill: restarts, orphans, and pid files that name another process."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from service.embedded import postmaster
from service.embedded.postmaster import running_postmaster, stop_orphan
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


def test_a_killed_postmaster_is_restarted_on_the_same_port(make_server: MakeServer, data_dir: Path) -> None:
    """After kill -9 the same URL answers again with the committed rows, and the restart is logged."""
    server = make_server(data_dir)
    server.start()
    url, victim = server.url(), postmaster_pid(data_dir)
    write_note(url, "committed")

    with capture_logs() as entries:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: entries and answers(url), "the server to be restarted")

    assert query_value(url, "SELECT body FROM note") == "committed"
    assert server.url() == url
    assert postmaster_pid(data_dir) != victim
    assert entries[0]["event"] == "embedded_postgres_restarted"
    assert entries[0]["exit_status"] == -signal.SIGKILL


def test_a_server_that_can_not_be_restarted_is_an_error_until_it_can(make_server: MakeServer, data_dir: Path) -> None:
    """A full disk, a port that is taken, or a configuration with a mistake. The log names the file with the reason, and
    does not claim a restart."""
    server = make_server(data_dir)
    server.start()
    configuration = data_dir / "postgres-18" / "postgresql.auto.conf"
    right = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")

    with capture_logs() as entries:
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: len(entries) > 2, "starts in vain")
        configuration.write_text(right)
        wait_until(lambda: answers(server.url()), "the server to be restarted")

    killed, *failed = entries
    assert (killed["event"], killed["exit_status"]) == ("embedded_postgres_restarted", -signal.SIGKILL)
    assert {entry["event"] for entry in failed} == {"embedded_postgres_cannot_restart"}
    assert str(data_dir / "postgres.log") in failed[0]["reason"]


def test_each_restart_is_supervised_as_well(make_server: MakeServer, data_dir: Path) -> None:
    """The supervisor handles any number of kills."""
    server = make_server(data_dir)
    server.start()

    for _ in range(3):
        victim = postmaster_pid(data_dir)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: answers(server.url()), "the server to answer")


def test_a_backend_that_outlives_its_postmaster_only_delays_the_restart(
    make_server: MakeServer, data_dir: Path
) -> None:
    """A new postmaster cannot start while the backend uses the shared memory, so the start is retried."""
    server = make_server(data_dir)
    server.start()
    log = data_dir / "postgres.log"
    with psycopg.connect(server.url()) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            wait_until(lambda: "shared memory block" in log.read_text(), "a start that is refused")
            assert not answers(server.url())
        finally:
            os.kill(backend, signal.SIGCONT)

        wait_until(lambda: answers(server.url()), "the server to answer")


def test_an_orphan_is_replaced_at_the_next_start(make_server: MakeServer, data_dir: Path) -> None:
    """PostgreSQL outlives a killed service; the next start ends it first."""
    with supervisor(data_dir) as killed:
        url = first_line(killed)
        write_note(url, "committed")
        killed.kill()
        killed.wait()
        orphans = all_pids(url, data_dir)

        server = make_server(data_dir)
        server.start()

    assert not [pid for pid in orphans if is_running(pid)]
    assert query_value(server.url(), "SELECT body FROM note") == "committed"


def test_an_orphan_that_does_not_react_is_killed(
    make_server: MakeServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signals escalate to SIGKILL, and committed rows survive it."""
    endings = [(number, min(seconds, 0.1)) for number, seconds in postmaster.ENDINGS[:-1]]
    monkeypatch.setattr(postmaster, "ENDINGS", [*endings, postmaster.ENDINGS[-1]])
    with supervisor(data_dir) as killed:
        write_note(first_line(killed), "committed")
        killed.kill()
        killed.wait()
        os.kill(postmaster_pid(data_dir), signal.SIGSTOP)

        server = make_server(data_dir)
        server.start()

    assert query_value(server.url(), "SELECT body FROM note") == "committed"


def test_an_orphan_of_the_other_version_is_ended_too(make_server: MakeServer, data_dir: Path) -> None:
    """A start ends the servers of all versions on the data folder."""
    url = make_orphan(data_dir)
    orphans = all_pids(url, data_dir)

    make_server(data_dir, major=16).start()

    assert not [pid for pid in orphans if is_running(pid)]


def test_a_reused_pid_is_not_signalled_and_does_not_prevent_a_start(make_server: MakeServer, data_dir: Path) -> None:
    """After a power cut the pid file may name any process, and PostgreSQL alone would refuse to start."""
    folder = data_dir / "postgres-18"
    with make_server(data_dir):
        pid_file = (folder / "postmaster.pid").read_text()
    owner = folder.stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner) as other:
        try:
            _, _, rest = pid_file.partition("\n")
            (folder / "postmaster.pid").write_text(f"{other.pid}\n{rest}")
            os.chown(folder / "postmaster.pid", owner, -1)

            server = make_server(data_dir)
            server.start()

            assert answers(server.url())
            assert other.poll() is None
        finally:
            other.kill()


def test_the_server_of_another_folder_is_not_taken_for_an_orphan(
    make_server: MakeServer, data_dir: Path, fresh_dir: Path
) -> None:
    """Only a PostgreSQL that runs on this folder is signalled."""
    other_server = make_server(fresh_dir)
    other_server.start()
    folder = data_dir / "postgres-18"
    shutil.copy(fresh_dir / "postgres-18" / "postmaster.pid", folder)
    try:
        assert running_postmaster(folder) is None
        stop_orphan(folder)
        assert answers(other_server.url())
    finally:
        (folder / "postmaster.pid").unlink()


def test_an_interrupted_initdb_does_not_break_the_next_start(make_server: MakeServer, fresh_dir: Path) -> None:
    """The service is killed during its first initdb, and the next start makes a complete cluster."""
    with supervisor(fresh_dir) as killed:
        wait_until(lambda: list(fresh_dir.glob("*/**/PG_VERSION")), "initdb to begin")
        killed.kill()
        killed.wait()
        assert not (fresh_dir / "postgres-18" / "postmaster.pid").exists()

        server = make_server(fresh_dir)
        server.start()

    assert answers(server.url())
    assert not list(fresh_dir.glob("initdb-*/data/global"))
