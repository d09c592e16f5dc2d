"""The service as its operators use it: its start and its log."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from structlog.testing import capture_logs

from service import __version__
from service.database import migrations
from service.database.migrations import MigrationError, migrate, migration_files
from tests.acceptance.clients import PERSONAL, PERSONAL_WORDS, guest, slot
from tests.acceptance.conftest import Serve, new_database
from tests.database import LOGIN, PASSWORD, TestDatabase
from tests.faults.proxy import Proxy
from tests.serving import (
    ADMIN_TOKEN,
    CRON_SECRET,
    NO_CERTIFICATES,
    REPOSITORY,
    SECRETS,
    TOKEN_SECRET,
    ServiceProcess,
    environment,
    error_of,
    free_port,
    run_command,
    wait_until,
)

pytestmark = pytest.mark.anyio

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
BUSINESS = {"name": "Salon", "country": "DE"}


HEALTH: Final = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"


# Starting.


async def test_services_that_start_at_once_on_an_empty_database_migrate_it_once(
    empty_database: str, tmp_path: Path
) -> None:
    """When several instances start together, one makes the schema and the others wait for it."""
    with ExitStack() as stack:
        settings: dict[str, object] = {**SECRETS, "DATABASE_URL": empty_database}
        starting = [ServiceProcess(tmp_path / f"{number}.log", **settings) for number in range(4)]
        for service in starting:
            stack.callback(service.kill)
        with psycopg.connect(empty_database) as rival:
            # The uncommitted schema blocks the migrations until all services wait; then it is rolled back.
            rival.execute("CREATE SCHEMA booking")
            wait_until(lambda: count_blocked(rival) == len(starting), "all services to begin", seconds=60)
            rival.rollback()
        services = [stack.enter_context(service) for service in starting]
        for service in services:
            async with service.client() as client:
                response = await client.put("/api/catalog/businesses/salon", json=BUSINESS, headers=BEARER)
                assert response.status_code in (200, 201)
    applied = Counter(event["file"] for service in services for event in service.events("migration_applied"))
    assert applied == {**{path.name: 1 for path in migration_files()}, "definitions": 1}


def count_blocked(connection: psycopg.Connection) -> int:
    """Counts the connections to this database that wait for a lock."""
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row
    count: int = row[0]
    return count


@pytest.mark.parametrize("missing", [["ADMIN_TOKEN"], ["CRON_SECRET", "TOKEN_SECRET"]])
def test_with_an_external_database_every_secret_must_be_set(database: TestDatabase, missing: list[str]) -> None:
    """A generated secret would change at the next start, so the error lists the missing ones."""
    given = {name: secret for name, secret in SECRETS.items() if name not in missing}
    line = error_of("serve", DATABASE_URL=database.url, MIGRATION_DATABASE_URL=database.admin_url, **given)
    assert all(name in line for name in missing)
    assert not any(name in line for name in given)
    assert not any(secret in line for secret in given.values())


@pytest.mark.parametrize(
    "url", ["postgresql://owner:open%40sesame@127.0.0.1:1/none", "host=127.0.0.1 port=1 password='open@sesame'"]
)
def test_the_error_for_an_unreachable_database_has_no_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line with the reason, after a wait that one line announces."""
    monkeypatch.setattr(migrations, "_START_SECONDS", 1)
    with capture_logs() as lines, pytest.raises(MigrationError) as raised:
        migrate(url)
    assert str(raised.value).startswith("The database does not answer: ")
    assert "Connection refused" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert [line["event"] for line in lines] == ["waiting_for_database"]
    assert "sesame" not in f"{lines} {raised.value}"


def test_a_wrong_login_is_not_waited_for(database: TestDatabase) -> None:
    """The server accepts connections, so a wait would not help."""
    line = error_of("migrate", DATABASE_URL=database.url.replace(f":{PASSWORD}@", ":sesame@"))
    assert line.startswith("Error: The database does not answer: ")
    assert "authentication failed" in line
    assert "sesame" not in line


def test_a_database_that_comes_up_after_a_failed_attempt_is_tried_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections by the time libpq is asked whether it does."""
    connect = psycopg.connect
    failures = [psycopg.OperationalError("the database system is starting up")]

    def come_up(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return connect(*arguments, **options)

    monkeypatch.setattr(psycopg, "connect", come_up)
    migrations.connect(database.url).close()
    assert not failures


async def test_a_service_waits_for_a_database_that_starts(database: TestDatabase, tmp_path: Path) -> None:
    """A server that replays its log says that it is starting up. The wait is one line, and the service is ready as soon
    as the database is."""
    proxy = Proxy(database.admin_url)
    proxy.starts_up = True
    async with proxy.running():
        service = ServiceProcess(tmp_path / "log", DATABASE_URL=proxy.url, **SECRETS)
        try:
            await asyncio.to_thread(wait_until, lambda: proxy.refused >= 3, "the service to ask again")
            proxy.starts_up = False
            await asyncio.to_thread(service.wait_until_ready)
            service.terminate()
            assert await asyncio.to_thread(service.wait) == 0
        finally:
            service.kill()
    [line] = service.events("waiting_for_database")
    assert "the database system is starting up" in line["reason"]


async def test_the_version_of_the_database_is_checked_before_all_else(database: TestDatabase) -> None:
    """An older PostgreSQL lacks syntax that the migrations and the service need, and would fail with that."""
    proxy = Proxy(database.admin_url)
    proxy.replace = (b"server_version\x0018.", b"server_version\x0015.")
    async with proxy.running():
        for role in ("serve", "migrate"):
            line = await asyncio.to_thread(error_of, role, DATABASE_URL=proxy.url, **SECRETS)
            assert re.fullmatch(r"Error: PostgreSQL 15\.\S* is too old: Holdfast needs 16 or later\.", line)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_in_another_encoding_is_refused(cluster: str, encoding: str) -> None:
    """The first is the default of a server that was set up without a locale, and its texts are read as bytes; in the
    second some names can't be stored."""
    with new_database(cluster, f"TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'") as url:
        line = error_of("migrate", DATABASE_URL=url)
    assert line.startswith(f"Error: The database has the encoding {encoding}")
    assert "ENCODING 'UTF8' TEMPLATE template0" in line


@pytest.mark.parametrize(("locale", "warned"), [("C", 1), ("C.UTF-8", 0)])
def test_a_locale_without_letters_beyond_ascii_is_logged(cluster: str, locale: str, warned: int) -> None:
    """There an e-mail address in capitals is another guest's."""
    made = f"TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE '{locale}'"
    with new_database(cluster, made) as url:
        assert run_command("migrate", DATABASE_URL=url).stderr.count('"letters_unknown"') == warned


def test_serving_before_the_migration_names_the_command(empty_database: str) -> None:
    """The role of the service may not migrate."""
    parts = urlsplit(empty_database)
    url = parts._replace(netloc=f"{LOGIN}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
    line = error_of("serve", DATABASE_URL=url, **SECRETS)
    assert line.startswith("Error: The database lacks migrations of this version")
    assert "run `python -m service migrate`" in line


def test_a_role_without_the_rights_of_the_service_is_named_the_grant(database: TestDatabase) -> None:
    """The database is migrated, so that `migrate` alone does not help."""
    database.rows(f"REVOKE holdfast_service FROM {LOGIN}")
    try:
        ended = run_command("serve", DATABASE_URL=database.url, **SECRETS)
    finally:
        database.rows(f"GRANT holdfast_service TO {LOGIN}")
    assert ended.returncode == 2
    assert "GRANT holdfast_service TO" in ended.stderr


@pytest.mark.parametrize("setting", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
def test_a_password_with_a_raw_character_is_refused_and_not_shown(setting: str) -> None:
    """The driver takes a part of it for the host, and would name that in its error."""
    urls = {
        "DATABASE_URL": "postgresql://owner@127.0.0.1:1/none",
        setting: "postgresql://owner:open@sesame@127.0.0.1/x",
    }
    line = error_of("serve", **urls, **SECRETS)
    assert line.startswith(f"Error: {setting}: ")
    assert "@ is %40" in line
    assert "open" not in line
    assert "sesame" not in line


def test_the_error_for_wrong_settings_names_all_of_them(database: TestDatabase) -> None:
    """They have the names of the environment."""
    line = error_of("serve", DATABASE_URL=database.url, PORT="http", WORKERS=0, LOG_LEVEL="loud", **SECRETS)
    assert "PORT: " in line
    assert "WORKERS: " in line
    assert "LOG_LEVEL: loud is not a level" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_the_only_error(database: TestDatabase, workers: int) -> None:
    """It is one line, and no URL is announced before."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = error_of("serve", DATABASE_URL=database.url, PORT=port, WORKERS=workers, **SECRETS)
    assert line == f"Error: Port {port} of 127.0.0.1 is taken: choose another PORT."


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_the_error_for_a_foreign_address_names_the_setting(database: TestDatabase, host: str) -> None:
    """The address belongs to another machine, or its name has none."""
    line = error_of("serve", DATABASE_URL=database.url, HOST=host, PORT=0, **SECRETS)
    assert line.startswith(f"Error: Port 0 of {host} can't be had: ")
    assert line.endswith("Choose another HOST or PORT.")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_fails_to_start_ends_the_service(
    database: TestDatabase, tmp_path: Path, workers: int
) -> None:
    """A restarted worker would fail as well, so the supervisor logs the error and ends."""
    (tmp_path / "phonenumbers.py").write_text("raise OSError('the disk is broken')")
    settings: dict[str, object] = {**SECRETS, "DATABASE_URL": database.url, "PORT": 0, "WORKERS": workers}
    ended = run_command("serve", PYTHONPATH=tmp_path, **settings)
    assert ended.returncode == 3
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    failed = [line for line in lines if line["event"] == "start_failed"]
    assert 1 <= len(failed) <= workers
    assert all(line["error"] == "OSError" and "phonenumbers.py" in line["traceback"] for line in failed)


def test_a_client_that_makes_up_addresses_is_one_client(serve: Serve) -> None:
    """The server below the application must not believe the header either, and takes this machine for a proxy."""
    service = serve(RATE_LIMIT_ENABLED=True, RATE_LIMIT="2/hour", FORWARDED_ALLOW_IPS="*")
    with httpx2.Client(base_url=service.url, timeout=30, trust_env=False, verify=NO_CERTIFICATES) as client:
        answers = [
            client.get("/api/booking/capacity", headers={"X-Forwarded-For": f"203.0.113.{number}"})
            for number in range(3)
        ]
    assert [answer.status_code == 429 for answer in answers] == [False, False, True]


def test_a_short_secret_causes_a_warning(serve: Serve) -> None:
    """The warning names the setting, also for one entry of a list, and never the secret."""
    service = serve(ADMIN_TOKEN="quince", TOKEN_SECRET=f"{TOKEN_SECRET}, medlar")
    warned = service.events("secret_too_short")
    assert [(line["setting"], line["level"]) for line in warned] == [
        ("ADMIN_TOKEN", "warning"),
        ("TOKEN_SECRET", "warning"),
    ]
    assert all("openssl rand -hex 32" in line["hint"] for line in warned)
    assert not any(secret in service.log() for secret in ("quince", "medlar", TOKEN_SECRET))


def test_long_secrets_cause_no_warning(serve: Serve) -> None:
    """A warning at every start would be ignored."""
    assert serve().events("secret_too_short") == []


def test_the_start_and_the_stop_are_lines_of_the_log(serve: Serve, database: TestDatabase) -> None:
    """They name the version, the address and the database without its password. Each line has the process that wrote
    it, and the calls of probes and of Prometheus are none at this level."""
    service = serve(WORKERS=2)
    workers = service.worker_pids()
    for path in ("/health/live", "/health/reservations", "/metrics", "/nowhere"):
        httpx2.get(f"{service.url}{path}", trust_env=False, verify=NO_CERTIFICATES)
    service.terminate()
    service.wait()
    lines = [json.loads(line) for line in service.log().splitlines()]
    assert [line["event"] for line in lines] == ["starting", "request", "stopped"]
    started, request, stopped = lines
    assert {started["pid"], stopped["pid"]} == {service.process.pid}
    assert request["pid"] in workers
    parts = urlsplit(database.url)
    assert started["version"] == __version__
    assert (started["address"], started["workers"]) == (service.url, 2)
    assert started["database"] == f"host={parts.hostname} port={parts.port} dbname={parts.path[1:]} user={LOGIN}"
    assert PASSWORD not in started["database"].replace(LOGIN, "").replace(parts.path[1:], "")


def test_probes_are_logged_at_the_level_debug(serve: Serve) -> None:
    """Whether a load balancer asks at all is a question of an operator who looks closely."""
    service = serve(LOG_LEVEL="debug")
    service.terminate()
    service.wait()
    assert {line["route"] for line in service.events("request")} == {"/health/ready"}


# The log.


def test_an_idle_connection_stays_open_for_as_long_as_the_setting_says(serve: Serve) -> None:
    """The second request is sent on the same connection, and the service closes it after the idle time."""
    with (
        serve(KEEP_ALIVE_SECONDS=2) as service,
        socket.create_connection(("127.0.0.1", service.port), 10) as connection,
    ):
        for _ in range(2):
            time.sleep(1.2)
            connection.sendall(HEALTH)
            answer = b""
            while not answer.endswith(b'{"status":"alive"}'):
                answer += connection.recv(4096)
        answered_at = time.monotonic()
        assert connection.recv(4096) == b""
        # Less than the 5 s of uvicorn's own default.
        assert 1.5 < time.monotonic() - answered_at < 4.5


async def test_every_request_leaves_one_line_with_its_id(database: TestDatabase, serve: Serve) -> None:
    """The id is the caller's if it is safe to log, and a new one otherwise; the answer has it, too."""
    database.make_service()
    service = serve(LOG_LEVEL="debug")
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
    summaries = [tuple(lines()[i][part] for part in ("method", "route", "status", "code")) for i in ids]
    assert summaries == [
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


def test_a_request_that_is_not_http_leaves_one_line(serve: Serve) -> None:
    """And no warning: any client can send such requests, and an operator can do nothing about them."""
    with serve() as service, socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(b"HELO\r\n\r\n")
        while connection.recv(4096):
            pass
    assert [line["code"] for line in service.events("request")] == ["MALFORMED_REQUEST"]
    assert service.events("Invalid HTTP request received.") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_of_the_log_that_has_stopped_stops_nothing(database: TestDatabase, workers: int) -> None:
    """As a terminal after Ctrl-S. The log loses lines, and the service goes on, and ends."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "service", "serve"],
        env=environment({"DATABASE_URL": database.url, "PORT": port, "WORKERS": workers, **SECRETS}),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    ) as service:
        try:
            retried = httpx2.HTTPTransport(verify=NO_CERTIFICATES, retries=10)
            # The first request waits until a worker has started.
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", transport=retried, timeout=60) as client:
                assert {client.get("/nowhere").status_code for _ in range(1000)} == {404}
        finally:
            service.terminate()
        assert service.wait(30) == 0


# Functions whose errors quote all personal data of a commit and of an appointment.
_BROKEN = """
CREATE OR REPLACE FUNCTION booking.commit(p_business_ids text[], p_batches jsonb[], p_now timestamptz)
RETURNS SETOF booking.outcome LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'can not commit %%', p_batches USING DETAIL = p_batches::text, HINT = p_batches::text;
END $$;
CREATE OR REPLACE FUNCTION booking.appointment_body(a booking.appointments, p_service booking.services)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'can not write %%', a USING DETAIL = a.guest_email;
END $$
"""


@pytest.mark.parametrize("log_level", ["info", "debug"])
async def test_the_log_holds_no_personal_data_and_no_credentials(
    database: TestDatabase, serve: Serve, log_level: str
) -> None:
    """This covers requests that succeed, that are refused, and that fail with an error that quotes the data."""
    database.make_service(capacity=2)
    service = serve(LOG_LEVEL=log_level)
    async with service.client() as client:
        answers = [await client.post("/api/booking/reserve", json=slot(idempotencyKey="quince-key")) for _ in range(2)]
        answers.append(await client.post("/api/booking/reserve", json=slot()))
        ids: list[str] = [answer.json()["reservationId"] for answer in answers[1:]]
        hold_path = f"/api/booking/reservations/{ids[0]}"
        answers += [
            await client.get(hold_path, params={"businessId": "salon"}),
            await client.get(hold_path, params={"guestEmail": PERSONAL["guestEmail"]}),
            await client.post(f"{hold_path}/extend", json={"ttlMinutes": 20}),
            await client.post("/api/booking/commit", json=guest(ids[0], **PERSONAL)),
            await client.post("/api/booking/commit", json=guest(ids[0], **PERSONAL)),
            await client.post("/api/booking/commit", json=guest(ids[1], **{**PERSONAL, "guestEmail": "quince@"})),
            await client.delete(hold_path),
            await client.get(f"{hold_path}/quince"),
            await client.get("/cron/cleanup-reservations", headers={"Authorization": f"Bearer {CRON_SECRET}"}),
            await client.get("/api/catalog/businesses", headers=BEARER),
            await client.get("/api/catalog/businesses", headers={"Authorization": "Bearer quince"}),
        ]
        of_guest = {"businessId": "salon", "guestEmail": PERSONAL["guestEmail"], "guestPhone": PERSONAL["guestPhone"]}
        for headers, more in ((BEARER, {}), ({}, {}), (BEARER, {"guestEmail": "quince@"}), (BEARER, {"quince": "1"})):
            answers.append(await client.get("/api/booking/appointments", params={**of_guest, **more}, headers=headers))
        answers.append(await client.get("/api/booking/nothing", params=of_guest))
        token = answers[6].json()["cancellationToken"]
        own, start = f"/api/booking/appointments/{answers[6].json()['appointmentId']}", answers[6].json()["slotStart"]
        for sent in (token, f"{token}x"):
            by_token = {"Guest-Token": sent}
            answers.append(await client.get(own, headers=by_token))
            answers.append(await client.post(f"{own}/reschedule", json={"slotStart": start}, headers=by_token))
        database.rows(_BROKEN)
        answers.append(await client.get("/api/booking/appointments", params=of_guest, headers=BEARER))
        answers.append(await client.post("/api/booking/commit", json=guest(ids[1], **PERSONAL)))
    statuses = [answer.status_code for answer in answers]
    on_list, by_guest = [200, 401, 400, 400, 404], [200, 200, 403, 403]
    assert statuses == [
        *(201, 200, 201, 200, 400, 200, 201, 200, 400, 409, 404, 200, 200, 401),
        *(*on_list, *by_guest, 500, 500),
    ]
    assert len(service.events("defect")) == 2

    secrets = [*PERSONAL_WORDS, *ids, token]
    secrets += [ADMIN_TOKEN, CRON_SECRET, TOKEN_SECRET, "holdfast_test:holdfast"]
    log = service.log()
    assert [secret for secret in secrets if secret in log] == []
