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
    ask,
    first_line,
    lives,
    make_orphan,
    postmaster_pid,
    supervisor,
    write_note,
)
from tests.serving import wait_until


def test_a_killed_postmaster_comes_back_on_the_same_port(make_server: MakeServer, data_dir: Path) -> None:
    """After kill -9 the same URL answers again, with what was committed, and the log says so."""
    server = make_server(data_dir)
    server.start()
    url, victim = server.url(), postmaster_pid(data_dir)
    write_note(url, "committed")

    with capture_logs() as entries:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: entries and answers(url), "the server to be restarted")

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
        wait_until(lambda: answers(server.url()), "the server to answer")


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
            wait_until(lambda: "shared memory block" in log.read_text(), "a start that is refused")
            assert not answers(server.url())
        finally:
            os.kill(backend, signal.SIGCONT)

        wait_until(lambda: answers(server.url()), "the server to answer")


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
    url = make_orphan(data_dir)
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
        wait_until(lambda: list(fresh_dir.glob("*/**/PG_VERSION")), "initdb to begin")
        killed.kill()
        killed.wait()
        assert not (fresh_dir / "postgres-18" / "postmaster.pid").exists()

        server = make_server(fresh_dir)
        server.start()

    assert answers(server.url())
    assert not list(fresh_dir.glob("initdb-*/data/global"))
