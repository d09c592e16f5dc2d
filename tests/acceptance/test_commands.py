"""The command line of the service, and the purge that runs by itself."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service import __version__
from service.database.migrations import migration_files
from tests.acceptance.conftest import Serve
from tests.database import LOGIN, PASSWORD, TestDatabase
from tests.serving import REPOSITORY, environment, error_of, run_command, wait_until
from tests.shipped_clock import restore_clock

pytestmark = pytest.mark.anyio


async def test_the_service_purges_at_its_own_interval(database: TestDatabase, serve: Serve) -> None:
    """The interval replaces a scheduler, and the workers share it."""
    database.make_service()
    hold = database.reserve()
    service = serve(WORKERS=2, CLEANUP_INTERVAL_SECONDS=0.1)
    database.move_clock(timedelta(hours=1))
    wait_until(lambda: database.status(hold.id) == "expired", "the purge")
    wait_until(lambda: database.rows("SELECT 1 FROM booking.maintenance_runs"), "the record of a purge")
    health: dict[str, Any] = {"live": 1}
    async with service.client() as client, asyncio.timeout(30):
        while health["live"]:  # an answer may be a second old
            health = (await client.get("/health/reservations")).json()
    assert (health["expiredUnpurged"], health["purgeLate"]) == (0, False)
    assert health["lastPurgeAt"] is not None


def command(database: TestDatabase, role: str) -> tuple[int, str]:
    """Runs a role of the command line on the test's database; returns its exit status and its output."""
    ended = run_command(role, DATABASE_URL=database.url, MIGRATION_DATABASE_URL=database.admin_url)
    return ended.returncode, ended.stdout


def test_migrate_lists_the_applied_files(empty_database: str) -> None:
    """The first run applies every file, the second none."""
    first = run_command("migrate", DATABASE_URL=empty_database)
    second = run_command("migrate", DATABASE_URL=empty_database)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.split() == [*(path.name for path in migration_files()), "definitions"]
    assert second.stdout == "nothing to do\n"


def test_letters_are_stored_whatever_the_encoding_of_other_clients(empty_database: str, tmp_path: Path) -> None:
    """PGCLIENTENCODING is often set for psql. Neither it nor the option of a URL alters the definitions, or a name."""
    latin = {"DATABASE_URL": f"{empty_database}?client_encoding=latin1", "PGCLIENTENCODING": "LATIN1"}
    file = tmp_path / "catalog.yaml"
    file.write_text("businessId: salon\nname: Müller ✓\ntimezone: UTC\n", encoding="utf-8")
    for words in (["migrate"], ["catalog", "apply", str(file)]):
        run_command(*words, **latin).check_returncode()
    assert "name: Müller ✓\n" in run_command("catalog", "export", "salon", **latin).stdout
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT booking.folded_email('İI')").fetchall() == [("ii",)]


@pytest.mark.parametrize("words", [["check"], ["cleanup"], ["catalog", "export", "salon"]])
def test_the_error_for_a_database_without_the_schema_suggests_migrate(empty_database: str, words: list[str]) -> None:
    """It is one line, and the exit status differs from that of a violated invariant."""
    line = error_of(*words, DATABASE_URL=empty_database)
    assert "The database refused (" in line
    assert line.endswith("is it migrated, and may this role use it? Run migrate.")


def test_the_command_line_has_a_usage_and_a_version() -> None:
    """The usage has the command as it was called, and refers to the README for settings."""
    usage, serving, version = (run_command(*words).stdout for words in (["--help"], ["serve", "--help"], ["--version"]))
    assert usage.startswith("Usage: python -m service ")
    assert "README.md" in serving
    assert version == f"holdfast {__version__}\n"


def test_cleanup_purges_once_and_reports(database: TestDatabase) -> None:
    """The command is for schedulers that start processes instead of calling URLs."""
    database.make_service()
    hold = database.reserve()
    database.move_clock(timedelta(hours=1))
    status, output = command(database, "cleanup")
    assert status == 0
    report: dict[str, Any] = json.loads(output)
    assert (report["expired"], report["deleted"], report["remaining"]) == (1, 0, 0)
    assert database.status(hold.id) == "expired"


@pytest.mark.parametrize("name", ["host", "hostaddr", "PGHOST"])
def test_a_command_tries_every_host_of_the_database(database: TestDatabase, name: str) -> None:
    """As after a failover, while the former primary accepts connections, or drops them, and answers nothing."""
    parts = urlsplit(database.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts, ports = f"127.0.0.1,{parts.hostname}", f"{silent.getsockname()[1]},{parts.port}"
        login = {"user": LOGIN, "password": PASSWORD, "dbname": parts.path.strip("/")}
        if name == "PGHOST":
            ended = run_command("cleanup", DATABASE_URL=make_conninfo("", **login), PGHOST=hosts, PGPORT=ports)
        else:
            url = make_conninfo("", **{name: hosts, "port": ports}, **login)
            ended = run_command("cleanup", DATABASE_URL=url)
    assert ended.returncode == 0, ended.stderr


def test_the_log_of_a_purge_has_the_field_names_of_the_log(database: TestDatabase) -> None:
    """The runbook searches for one name of the duration in all events."""
    ended = run_command("cleanup", DATABASE_URL=database.url)
    [purged] = [line for line in map(json.loads, ended.stderr.splitlines()) if line["event"] == "purged"]
    assert {"expired", "deleted", "erased", "remaining", "duration_ms"} <= purged.keys()
    assert not [name for name in purged if not name.islower()]


def test_check_succeeds_without_violations(database: TestDatabase) -> None:
    """It prints the count of every invariant and exits with 0, for a scheduler."""
    restore_clock(database)
    database.make_service()
    database.commit(database.reserve().id)
    status, output = command(database, "check")
    assert status == 0
    counts = dict(line.split(": ") for line in output.splitlines())
    assert counts == {
        "overbooked_instants": "0",
        "double_booked_resources": "0",
        "miscounted_windows": "0",
        "audit_gaps": "0",
        "altered_clock": "0",
    }


def test_check_fails_on_a_violation(database: TestDatabase) -> None:
    """An overbooked slot, made without a verb, is counted, and the exit status is 1."""
    restore_clock(database)
    database.make_service(capacity=2)
    assert [database.reserve(10).name, database.reserve(10).name] == ["done", "done"]
    database.rows("UPDATE booking.services SET max_simultaneous_bookings = 1")
    try:
        status, output = command(database, "check")
    finally:
        database.rows("UPDATE booking.services SET max_simultaneous_bookings = 2")
    assert status == 1
    assert "overbooked_instants: 1" in output.splitlines()


def test_a_check_without_a_reader_has_the_status_of_its_result(database: TestDatabase) -> None:
    """As behind a `| head` that has read enough, in a shell that looks at each command of a pipeline."""
    read_end, write_end = os.pipe()
    os.close(read_end)

    def check() -> tuple[int, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "service", "check"],
            env=environment({"DATABASE_URL": database.url}),
            cwd=REPOSITORY,
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stderr

    try:
        assert check() == (1, "")  # for the clock of the tests
        restore_clock(database)
        assert check() == (0, "")
    finally:
        os.close(write_end)


def test_check_fails_on_a_clock_that_is_not_the_shipped_one(database: TestDatabase) -> None:
    """A changed clock can revive expired holds. The movable clock of the tests is one."""
    status, output = command(database, "check")
    assert status == 1
    assert "altered_clock: 1" in output.splitlines()
