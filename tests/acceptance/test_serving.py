"""The service as those who run it see it: how it starts, what it logs, and its command line."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from service import __version__
from service.database.migrations import migration_files
from tests.acceptance.clients import PERSONAL, PERSONAL_WORDS, guest, slot
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, with_database
from tests.serving import ADMIN_TOKEN, CRON_SECRET, SECRETS, TOKEN_SECRET, ServiceProcess, run_command, wait_until
from tests.shipped_clock import restore_clock

pytestmark = pytest.mark.anyio

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
BUSINESS = {"name": "Salon", "country": "DE"}


@pytest.fixture
def empty_database(cluster: str) -> Iterator[str]:
    """A superuser's URL of a database in which there is nothing."""
    name = f"holdfast_empty_{uuid4().hex}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield with_database(cluster, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# Starting.


async def test_services_that_start_at_once_on_an_empty_database_migrate_it_once(
    empty_database: str, tmp_path: Path
) -> None:
    """A deployment starts several at the same moment: one of them makes the schema, the others wait, and all serve."""
    with ExitStack() as stack:
        settings: dict[str, object] = {**SECRETS, "DATABASE_URL": empty_database}
        starting = [ServiceProcess(tmp_path / f"{number}.log", **settings) for number in range(4)]
        for service in starting:
            stack.callback(service.kill)
        with psycopg.connect(empty_database) as rival:
            # None can begin before all are there; what is made here is rolled back.
            rival.execute("CREATE SCHEMA booking")
            wait_until(lambda: blocked(rival) == len(starting), "all services to begin")
            rival.rollback()
        services = [stack.enter_context(service) for service in starting]
        for service in services:
            async with service.client() as client:
                made = await client.put("/api/catalog/businesses/salon", json=BUSINESS, headers=BEARER)
                assert made.status_code in (200, 201)
    applied = Counter(event["file"] for service in services for event in service.events("migration_applied"))
    assert applied == {**{path.name: 1 for path in migration_files()}, "definitions": 1}


def blocked(connection: psycopg.Connection) -> int:
    """How many connections to this database wait for a lock."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row
    count: int = row[0]
    return count


@pytest.mark.parametrize("missing", [["ADMIN_TOKEN"], ["CRON_SECRET", "TOKEN_SECRET"]])
def test_with_a_database_of_its_own_every_secret_has_to_be_set(database: TestDatabase, missing: list[str]) -> None:
    """A secret that is made up would be another one at the next start: the service says which are missing."""
    given = {name: secret for name, secret in SECRETS.items() if name not in missing}
    ended = run_command("serve", DATABASE_URL=database.url, MIGRATION_DATABASE_URL=database.admin_url, **given)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert all(name in line for name in missing)
    assert not any(name in line for name in given)
    assert not any(secret in line for secret in given.values())


@pytest.mark.parametrize("role", ["serve", "migrate"])
def test_a_database_that_is_not_there_is_said_without_its_password(role: str) -> None:
    """What is wrong goes to the operator, the password to nobody."""
    ended = run_command(role, DATABASE_URL="postgresql://somebody:opensesame@127.0.0.1:1/nowhere", **SECRETS)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("Error: The database does not answer: ")
    assert "Connection refused" in line
    assert "opensesame" not in ended.stderr + ended.stdout


def test_a_setting_that_is_wrong_is_named(database: TestDatabase) -> None:
    """All faults at once, by the names that the operator wrote."""
    ended = run_command("serve", DATABASE_URL=database.url, PORT="http", WORKERS=0, LOG_LEVEL="loud", **SECRETS)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "PORT: " in line
    assert "WORKERS: " in line
    assert "LOG_LEVEL: loud is not a level" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_somebody_else_has_is_said_before_anything_else(database: TestDatabase, workers: int) -> None:
    """In one line, and nothing is announced that can't be had."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_command("serve", DATABASE_URL=database.url, PORT=port, WORKERS=workers, **SECRETS)
    assert ended.returncode == 2
    assert ended.stderr == f"Error: Port {port} of 127.0.0.1 is taken: choose another PORT.\n"


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_of_another_machine_is_said_to_be_one(database: TestDatabase, host: str) -> None:
    """The setting is named that has to be changed."""
    ended = run_command("serve", DATABASE_URL=database.url, HOST=host, PORT=0, **SECRETS)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"Error: Port 0 of {host} can't be had: ")
    assert line.endswith("Choose another HOST or PORT.")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_can_not_be_made_ends_the_service(
    database: TestDatabase, tmp_path: Path, workers: int
) -> None:
    """The next process could not make it either; what is wrong is in the log, and not a restart each second."""
    (tmp_path / "icalendar.py").write_text("raise OSError('the disk is broken')")
    settings: dict[str, object] = {**SECRETS, "DATABASE_URL": database.url, "PORT": 0, "WORKERS": workers}
    ended = run_command("serve", PYTHONPATH=tmp_path, **settings)
    assert ended.returncode == 3
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    failed = [line for line in told if line["event"] == "start_failed"]
    assert 1 <= len(failed) <= workers
    assert all(line["error"] == "OSError" and "icalendar.py" in line["traceback"] for line in failed)


def test_secrets_that_can_be_guessed_are_warned_of(serve: Serve) -> None:
    """By the names of their settings, whichever of a list it is, and never by themselves."""
    service = serve(ADMIN_TOKEN="quince", TOKEN_SECRET=f"{TOKEN_SECRET}, medlar")
    warned = service.events("secret_too_short")
    assert [(line["setting"], line["level"]) for line in warned] == [
        ("ADMIN_TOKEN", "warning"),
        ("TOKEN_SECRET", "warning"),
    ]
    assert all("openssl rand -hex 32" in line["hint"] for line in warned)
    assert not any(secret in service.log() for secret in ("quince", "medlar", TOKEN_SECRET))


def test_long_secrets_are_not_spoken_of(serve: Serve) -> None:
    """A warning that is always there is read by nobody."""
    assert serve().events("secret_too_short") == []


# The log.


async def test_every_request_leaves_one_line_with_its_id(database: TestDatabase, serve: Serve) -> None:
    """The id is the caller's if it can be logged, else a new one; it is given back, and finds the line again."""
    database.make_service()
    service = serve()
    async with service.client() as client:
        answers = [
            await client.post("/api/booking/reserve", json=slot(), headers={"X-Request-Id": "mine-1"}),
            await client.post("/api/booking/reserve", json=slot(), headers={"X-Request-Id": "mine-2"}),
            await client.post("/api/booking/reserve", content=b"{", headers={"X-Request-Id": "not one;\tat all"}),
            await client.get("/nowhere", headers={"X-Request-Id": "x" * 65}),
            await client.get("/health/live"),
        ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[:2] == ["mine-1", "mine-2"]
    assert len(set(ids)) == 5
    assert all(0 < len(request_id) <= 64 and ";" not in request_id for request_id in ids)
    assert answers[1].json()["requestId"] == "mine-2"

    # A line is written when its answer has been sent.
    def lines() -> dict[str, dict[str, Any]]:
        return {line["request_id"]: line for line in service.events("request")}

    wait_until(lambda: lines().keys() >= set(ids), "a line for each request")
    told = [tuple(lines()[i][part] for part in ("method", "route", "status", "code")) for i in ids]
    assert told == [
        ("POST", "/api/booking/reserve", 201, None),
        ("POST", "/api/booking/reserve", 409, "SLOT_UNAVAILABLE"),
        ("POST", "/api/booking/reserve", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("GET", None, 404, "NOT_FOUND"),
        ("GET", "/health/live", 200, None),
    ]
    decided = [lines()[i].get("outcome") for i in ids]
    assert decided == ["done", "slot_unavailable", None, None, None]
    assert all(0 <= lines()[i]["queue_ms"] <= lines()[i]["duration_ms"] for i in ids[:2])
    assert Counter(line["request_id"] for line in service.events("request"))["mine-1"] == 1


# Every address that is told something personal, or a credential, and what the database says when it fails.
_BROKEN = """
CREATE OR REPLACE FUNCTION booking.commit(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'can not commit %%', p_batches USING DETAIL = p_batches::text, HINT = p_batches::text;
END $$
"""


@pytest.mark.parametrize("log_level", ["info", "debug"])
async def test_the_log_holds_no_personal_data_and_no_credentials(
    database: TestDatabase, serve: Serve, log_level: str
) -> None:
    """Neither in what succeeds, nor in what is refused, nor in what breaks while quoting all of it."""
    database.make_service(capacity=2)
    service = serve(LOG_LEVEL=log_level)
    async with service.client() as client:
        answers = [await client.post("/api/booking/reserve", json=slot(idempotencyKey="quince-key")) for _ in range(2)]
        answers.append(await client.post("/api/booking/reserve", json=slot()))
        ids: list[str] = [answer.json()["reservationId"] for answer in answers[1:]]
        of_hold = f"/api/booking/reservations/{ids[0]}"
        answers += [
            await client.get(of_hold, params={"businessId": "salon"}),
            await client.get(of_hold, params={"guestEmail": PERSONAL["guestEmail"]}),
            await client.post(f"{of_hold}/extend", json={"ttlMinutes": 20}),
            await client.post("/api/booking/commit", json=guest(ids[0], **PERSONAL)),
            await client.post("/api/booking/commit", json=guest(ids[0], **PERSONAL)),
            await client.post("/api/booking/commit", json=guest(ids[1], **{**PERSONAL, "guestEmail": "quince@"})),
            await client.delete(of_hold),
            await client.get(f"{of_hold}/quince"),
            await client.get("/cron/cleanup-reservations", headers={"Authorization": f"Bearer {CRON_SECRET}"}),
            await client.get("/api/catalog/businesses", headers=BEARER),
            await client.get("/api/catalog/businesses", headers={"Authorization": "Bearer quince"}),
        ]
        token = answers[6].json()["cancellationToken"]
        database.rows(_BROKEN)
        answers.append(await client.post("/api/booking/commit", json=guest(ids[1], **PERSONAL)))
    told = [answer.status_code for answer in answers]
    assert told == [201, 200, 201, 200, 400, 200, 201, 200, 400, 409, 404, 200, 200, 401, 500]
    assert len(service.events("defect")) == 1

    secrets = [*PERSONAL_WORDS, *ids, token]
    secrets += [ADMIN_TOKEN, CRON_SECRET, TOKEN_SECRET, "holdfast_test:holdfast"]
    log = service.log()
    assert [secret for secret in secrets if secret in log] == []


# The purge and the command line.


async def test_the_service_purges_by_itself_if_it_is_told_how_often(database: TestDatabase, serve: Serve) -> None:
    """Whoever has no scheduler sets an interval; the workers share it."""
    database.make_service()
    hold = database.reserve()
    service = serve(WORKERS=2, CLEANUP_INTERVAL_SECONDS=0.1)
    database.move_clock(timedelta(hours=1))
    wait_until(lambda: database.status(hold.id) == "expired", "the purge")
    async with service.client() as client:
        health = (await client.get("/health/reservations")).json()
    assert (health["live"], health["expiredUnpurged"], health["purgeLate"]) == (0, 0, False)
    assert health["lastPurgeAt"] is not None


def command(database: TestDatabase, role: str) -> tuple[int, str]:
    """Runs a role of the command line on the test's database; its exit status and its output."""
    ended = run_command(role, DATABASE_URL=database.url, MIGRATION_DATABASE_URL=database.admin_url)
    return ended.returncode, ended.stdout


def test_migrate_says_what_it_did(empty_database: str) -> None:
    """The first time everything, the second time nothing."""
    first = run_command("migrate", DATABASE_URL=empty_database)
    second = run_command("migrate", DATABASE_URL=empty_database)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.split() == [*(path.name for path in migration_files()), "definitions"]
    assert second.stdout == "nothing to do\n"


@pytest.mark.parametrize("words", [["check"], ["cleanup"], ["catalog", "export", "salon"]])
def test_a_database_without_the_schema_is_said_to_be_that(empty_database: str, words: list[str]) -> None:
    """In a line, and not with the exit status of an invariant that is violated."""
    ended = run_command(*words, DATABASE_URL=empty_database)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert "The database refused (" in line
    assert line.endswith("is it migrated, and may this role use it? Run migrate.")


def test_the_command_line_says_how_it_is_called() -> None:
    """As it was called here, what it is set by, and which version it is."""
    usage, serving, version = (run_command(*words).stdout for words in (["--help"], ["serve", "--help"], ["--version"]))
    assert usage.startswith("Usage: python -m service ")
    assert "README.md" in serving
    assert version == f"holdfast {__version__}\n"


def test_cleanup_purges_once_and_reports(database: TestDatabase) -> None:
    """For a scheduler that starts processes instead of calling addresses."""
    database.make_service()
    hold = database.reserve()
    database.move_clock(timedelta(hours=1))
    status, output = command(database, "cleanup")
    assert status == 0
    report: dict[str, Any] = json.loads(output)
    assert (report["expired"], report["deleted"], report["remaining"]) == (1, 0, 0)
    assert database.status(hold.id) == "expired"


def test_the_log_of_a_purge_is_named_like_the_rest_of_the_log(database: TestDatabase) -> None:
    """Whoever looks for what takes long looks for one name, and the runbook has it."""
    ended = run_command("cleanup", DATABASE_URL=database.url)
    [purged] = [line for line in map(json.loads, ended.stderr.splitlines()) if line["event"] == "purged"]
    assert {"expired", "deleted", "remaining", "duration_ms"} <= purged.keys()
    assert not [name for name in purged if not name.islower()]


def test_check_finds_nothing_where_nothing_is_wrong(database: TestDatabase) -> None:
    """Every invariant with its count, and exit status 0: what a scheduler may call every night."""
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
    """An overbooked slot, put there past every verb: it is counted, and the exit status is 1."""
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


def test_check_fails_on_a_clock_that_is_not_the_one_that_was_shipped(database: TestDatabase) -> None:
    """Whoever can set the clock can revive holds. The tests themselves do; here they are caught."""
    status, output = command(database, "check")
    assert status == 1
    assert "altered_clock: 1" in output.splitlines()
