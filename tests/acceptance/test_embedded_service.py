"""`serve` on a machine without PostgreSQL: it starts an embedded server in a data folder."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import psycopg
import pytest

from service.database import migrations
from service.database.connections import Database, Rows
from service.database.migrations import MigrationError, migration_files
from service.embedded.postmaster import recorded_postmaster
from service.embedded.server import EmbeddedServer, find_running
from service.process.hosting import (
    HostedDatabase,
    HostingError,
    complete_settings,
    host_database,
    make_demo_catalog,
    open_database,
)
from service.settings import Settings
from tests.acceptance.clients import Clients, guest, race
from tests.connections import open_database as open_connections
from tests.database import TestDatabase, at, with_database
from tests.folders import data_folder
from tests.serving import (
    NO_CERTIFICATES,
    REPOSITORY,
    SECRETS,
    ServiceProcess,
    begin_with,
    environment,
    error_of,
    free_port,
    run_command,
    wait_until,
)

pytestmark = pytest.mark.anyio

KENNEL = {"businessId": "kennel", "serviceId": "deluxe", "slotStart": at(13).isoformat()}
STADIUM = {"name": "Stadium", "durationMinutes": 60, "maxSimultaneousBookings": 1_000_000}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Makes a data folder."""
    with data_folder() as folder:
        yield folder


def service_on(data_dir: Path, **settings: object) -> ServiceProcess:
    """Makes a service on this folder; each start has a log of its own."""
    number = len(list(data_dir.glob("service-*.log")))
    return ServiceProcess(data_dir / f"service-{number}.log", DATA_DIR=data_dir, **settings)


def shown_secrets(service: ServiceProcess) -> dict[str, str]:
    """Returns the generated secrets that the service has printed."""
    return dict(re.findall(r"^  export ([A-Z_]+)=(\S+)$", service.log(), re.MULTILINE))


def postmaster_pid(data_dir: Path) -> int:
    """Returns the pid of the postmaster."""
    [folder] = data_dir.glob("postgres-*")
    postmaster = recorded_postmaster(folder)
    assert postmaster
    return postmaster.pid


def kill_every_process_of_postgres(data_dir: Path) -> None:
    """Kills the postmaster and all backends, because a backend without its postmaster may still answer a request."""
    url = find_running(data_dir)
    assert url
    with psycopg.connect(url) as connection:
        children = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
    for pid in [postmaster_pid(data_dir), *children]:
        with contextlib.suppress(ProcessLookupError):  # some end by themselves as soon as the first is gone
            os.kill(pid, signal.SIGKILL)


def holds_by_key(data_dir: Path) -> dict[str, str]:
    """Returns the ids of the holds in the database by their idempotency keys."""
    url = find_running(data_dir)
    assert url
    with psycopg.connect(with_database(url, "holdfast")) as connection:
        return dict(
            connection.execute(
                "SELECT idempotency_key, reservation_id::text FROM booking.reservations WHERE service_id = 'stadium'"
            ).fetchall()
        )


async def make_stadium(client: httpx2.AsyncClient) -> dict[str, str]:
    """Makes a service with unlimited room, and returns a request for it."""
    answer = await client.put(
        "/api/catalog/businesses/kennel/services/stadium",
        json=STADIUM,
        headers={"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"},
    )
    assert answer.status_code == 201
    return {"businessId": "kennel", "serviceId": "stadium", "slotStart": at(10).isoformat()}


async def test_a_first_start_makes_data_that_the_second_start_has(data_dir: Path) -> None:
    """The first start makes a catalog and secrets, which it prints once; the second one has them, and the
    appointment."""
    with service_on(data_dir) as first:
        secrets = shown_secrets(first)
        async with first.client() as client:
            bearer = {"Authorization": f"Bearer {secrets['ADMIN_TOKEN']}"}
            catalog = (await client.get("/api/catalog/businesses", headers=bearer)).json()
            suites = (await client.get("/api/catalog/businesses/kennel/services", headers=bearer)).json()
            hold = await client.post("/api/booking/reserve", json=KENNEL)
            booked = await client.post("/api/booking/commit", json=guest(hold.json()["reservationId"]))
    assert set(secrets) == {"ADMIN_TOKEN", "CRON_SECRET", "TOKEN_SECRET"}
    town = ["bistro", "boats", "clinic", "court", "hotel", "kennel", "salon", "studio"]
    assert [business["businessId"] for business in catalog["items"]] == town
    assert [suite["serviceId"] for suite in suites["items"]] == ["deluxe", "standard"]
    assert booked.status_code == 201
    secrets_file = data_dir / "secrets.json"
    assert stat.S_IMODE(secrets_file.stat().st_mode) == 0o600
    assert {name.upper(): secret for name, secret in json.loads(secrets_file.read_text()).items()} == secrets

    with service_on(data_dir) as second:
        async with second.client() as client:
            again = await client.post("/api/booking/commit", json=guest(hold.json()["reservationId"]))
            same = (await client.get("/api/catalog/businesses", headers=bearer)).json()
    assert shown_secrets(second) == {}
    assert second.events("migration_applied") == []
    # Its cancellation token is derived from the stored secret.
    assert (again.status_code, again.text) == (200, booked.text)
    assert same == catalog


async def test_commands_work_beside_the_running_service_and_without_it(data_dir: Path) -> None:
    """`check` and `cleanup` use the running server and do not stop it; without one, they start their own."""
    with service_on(data_dir) as service:
        postmaster = postmaster_pid(data_dir)
        ended = [run_command(role, DATA_DIR=data_dir) for role in ("check", "cleanup", "migrate")]
        assert postmaster_pid(data_dir) == postmaster
        async with service.client() as client:
            assert (await client.post("/api/booking/reserve", json=KENNEL)).status_code == 201
    ended.append(run_command("check", DATA_DIR=data_dir))
    assert [command.returncode for command in ended] == [0, 0, 0, 0]
    assert ended[0].stdout.splitlines()[-1] == "altered_clock: 0"
    assert find_running(data_dir) is None


@pytest.mark.parametrize("words", [["check"], ["cleanup"], ["catalog", "export", "salon"]])
def test_a_command_in_an_empty_folder_makes_no_database(data_dir: Path, words: list[str]) -> None:
    """In the wrong folder, `check` must not report success for a database that it has just made."""
    folder = data_dir / "of-nobody"
    line = error_of(*words, DATA_DIR=folder)
    assert line.startswith(f"Error: There is no data in {folder}: set DATABASE_URL, or DATA_DIR")
    assert not folder.exists()


def test_migrate_makes_an_embedded_database_and_lists_its_files(data_dir: Path) -> None:
    """The first run applies every file, the second none, as with any other database."""
    first, second = (run_command("migrate", DATA_DIR=data_dir) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.split() == [*(path.name for path in migration_files()), "definitions"]
    assert second.stdout == "nothing to do\n"


def test_a_command_gives_up_on_a_database_that_does_not_answer(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server of a running service is stopped, or still starting: the command waits as `serve` does."""
    monkeypatch.setattr(migrations, "_START_SECONDS", 1)
    with EmbeddedServer(data_dir):
        os.kill(postmaster_pid(data_dir), signal.SIGSTOP)
        try:
            with (
                pytest.raises(MigrationError, match="The database does not answer"),
                open_database(Settings(data_dir=data_dir)),
            ):
                pass
        finally:
            os.kill(postmaster_pid(data_dir), signal.SIGCONT)


@pytest.mark.parametrize("text", ['{"admin_token": "a",}', "[]", '{"admin_token": 1}', '{"admin_token": ""}', "\xff"])
def test_a_damaged_file_of_secrets_is_named_and_kept(tmp_path: Path, text: str) -> None:
    """New secrets in its place would end all cancellation tokens."""
    path = tmp_path / "secrets.json"
    path.write_text(text, encoding="latin-1")
    hosted = HostedDatabase("postgresql://127.0.0.1/holdfast", (), embedded=True)
    with pytest.raises(HostingError, match=rf"{path} .*restore it") as raised:
        complete_settings(Settings(data_dir=tmp_path), hosted)
    assert "admin_token" not in str(raised.value)
    assert path.read_text(encoding="latin-1") == text


def test_an_error_of_the_file_system_is_one_line(data_dir: Path) -> None:
    """Such as a full disk, here a folder in the place of a file. It names the file."""
    (data_dir / "postgres.password").mkdir()
    line = error_of("migrate", DATA_DIR=data_dir)
    assert line.startswith("Error: [Errno")
    assert str(data_dir / "postgres.password") in line


def start_without_wait(*words: str, data_dir: Path, stdout: int, stderr: int, port: int = 0) -> subprocess.Popen[str]:
    """Starts a command of the service whose output the test takes itself."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", *words],
        env=environment({"DATA_DIR": data_dir, "PORT": port}),
        cwd=REPOSITORY,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def test_a_check_that_can_not_be_printed_is_no_violation(data_dir: Path) -> None:
    """A full disk under the report is an error of one line; exit status 1 would report a violation."""
    assert run_command("migrate", DATA_DIR=data_dir).returncode == 0
    with Path("/dev/full").open("w") as full:
        check = start_without_wait("check", data_dir=data_dir, stdout=full.fileno(), stderr=subprocess.PIPE)
    _, error = check.communicate(timeout=60)
    assert (check.returncode, error) == (2, "Error: [Errno 28] No space left on device\n")


def test_the_service_starts_without_a_reader_of_its_output(data_dir: Path) -> None:
    """As behind a `| head` that has read enough: the secrets are in their file."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    port = free_port()
    service = start_without_wait("serve", data_dir=data_dir, stdout=write_end, stderr=write_end, port=port)
    os.close(write_end)

    def is_ready() -> bool:
        assert service.poll() is None
        with contextlib.suppress(httpx2.TransportError):
            answer = httpx2.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False, verify=NO_CERTIFICATES)
            return answer.status_code == 200
        return False

    try:
        wait_until(is_ready, "the service to be ready", seconds=60)
    finally:
        service.terminate()
        service.wait(60)
    assert service.returncode == 0


def test_a_failed_start_makes_no_secrets(data_dir: Path) -> None:
    """They are printed once, which must be at a start that succeeds."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        failed = run_command("serve", DATA_DIR=data_dir, PORT=other.getsockname()[1])
    assert failed.returncode == 2
    assert "is taken: choose another PORT." in failed.stderr
    assert "export" not in failed.stderr
    assert "Serving on" not in failed.stderr
    assert not (data_dir / "secrets.json").exists()
    with service_on(data_dir) as service:
        assert len(shown_secrets(service)) == 3


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_announced_url_is_the_one_that_answers(data_dir: Path, workers: int) -> None:
    """This includes a port that the system has chosen."""
    service = service_on(data_dir, PORT=0, WORKERS=workers)
    try:
        wait_until(lambda: announced_url(service), "the address")
        service.url = announced_url(service)
        service.wait_until_ready()
    finally:
        service.terminate()
        await anyio.to_thread.run_sync(service.wait)
    assert service.url != "http://127.0.0.1:0"


def announced_url(service: ServiceProcess) -> str:
    """Returns the URL that the service has announced, or an empty string before it has."""
    announcement = re.search(r"^Serving on (\S+) ", service.log(), re.MULTILINE)
    return announcement[1] if announcement else ""


async def test_variables_of_libpq_do_not_reach_the_embedded_server(data_dir: Path) -> None:
    """A shell that has them, for another server, starts the service and its commands."""
    variables = {"PGSSLMODE": "require", "PGHOSTADDR": "127.0.0.9", "PGTARGETSESSIONATTRS": "standby"}
    with service_on(data_dir, WORKERS=2, **variables):
        assert run_command("check", DATA_DIR=data_dir, **variables).returncode == 0
    assert run_command("check", DATA_DIR=data_dir, **variables).returncode == 0


@pytest.mark.parametrize(("workers", "max_batch", "needed"), [(1, 128, 100), (20, 128, 20 * 12), (4, 1, 4 * 40)])
def test_the_server_admits_the_connections_of_all_workers(
    data_dir: Path, workers: int, max_batch: int, needed: int
) -> None:
    """Without them, requests would wait in vain for a connection."""
    with (
        host_database(Settings(data_dir=data_dir, workers=workers, max_batch=max_batch)) as hosted,
        psycopg.connect(hosted.url) as connection,
    ):
        [(admitted,)] = connection.execute("SELECT current_setting('max_connections')::integer").fetchall()
    assert admitted >= needed


async def test_a_second_service_on_the_same_folder_is_refused(data_dir: Path) -> None:
    """The error names the process that uses the folder, which keeps serving."""
    with service_on(data_dir) as first:
        second = run_command("serve", DATA_DIR=data_dir, PORT=first.port)
        assert second.returncode == 2
        assert f"pid {first.process.pid}" in second.stderr
        async with first.client() as client:
            assert (await client.post("/api/booking/reserve", json=KENNEL)).status_code == 201


@pytest.mark.parametrize("workers", [1, 2])
def test_a_terminal_that_is_closed_stops_the_service_and_its_database(data_dir: Path, workers: int) -> None:
    """It sends SIGHUP. PostgreSQL, in a session of its own, would run on."""
    with begin_with(signal.SIG_DFL, signal.SIGHUP):
        service = service_on(data_dir, WORKERS=workers)
    with service:
        service.process.send_signal(signal.SIGHUP)
        assert service.wait() == 0
    assert find_running(data_dir) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_stops_the_database_that_it_started(data_dir: Path, number: signal.Signals) -> None:
    """As by `timeout`, with its terminal, or by Ctrl-C, which is no violation of an invariant. The schema is not
    complete yet."""
    with begin_with(signal.SIG_DFL, number):
        migration = start_without_wait("migrate", data_dir=data_dir, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: find_running(data_dir), "the server")
    migration.send_signal(number)
    _, error = migration.communicate(timeout=60)
    assert (migration.returncode, error) == (128 + number, "")
    assert find_running(data_dir) is None


@pytest.mark.parametrize("workers", [1, 2])
async def test_nohup_lets_the_service_run_on(data_dir: Path, workers: int) -> None:
    """It makes the service ignore SIGHUP."""
    with begin_with(signal.SIG_IGN, signal.SIGHUP):
        service = service_on(data_dir, WORKERS=workers)
    with service:
        workers_before = service.worker_pids()
        service.process.send_signal(signal.SIGHUP)
        async with service.client() as client:
            await anyio.sleep(1)
            assert (await client.get("/health/ready")).status_code == 200
        assert service.worker_pids() == workers_before


async def test_a_restart_after_a_kill_has_every_acknowledged_hold(data_dir: Path) -> None:
    """kill -9 leaves PostgreSQL an orphan, which the next start replaces."""
    with service_on(data_dir, **SECRETS) as killed:
        async with killed.client(connections=10) as client:
            clients = Clients(client, await make_stadium(client))
            async with clients.running(10, retry=False):
                await clients.acknowledge(100)
                killed.kill()
    with service_on(data_dir, **SECRETS):
        restored = holds_by_key(data_dir)
    assert clients.unexpected == []
    assert clients.acknowledged.items() <= restored.items()


@pytest.mark.parametrize("every_process", [False, True])
async def test_a_killed_database_comes_back_and_nothing_acknowledged_is_lost(
    data_dir: Path, every_process: bool
) -> None:
    """After kill -9 of PostgreSQL under load, each repeated key has one hold."""
    with service_on(data_dir, WORKERS=2, **SECRETS) as service:
        async with service.client(connections=10) as client:
            clients = Clients(client, await make_stadium(client))
            async with clients.running(10, retry=True):
                await clients.acknowledge(100)
                if every_process:
                    kill_every_process_of_postgres(data_dir)
                else:
                    os.kill(postmaster_pid(data_dir), signal.SIGKILL)
                await clients.acknowledge(100)
        assert clients.unexpected == []
        assert holds_by_key(data_dir) == clients.acknowledged


async def test_during_an_outage_of_the_database_answers_have_retry_after(data_dir: Path) -> None:
    """Each answer is a 503 with Retry-After; the process itself is alive, and serves again afterwards."""
    with service_on(data_dir, WORKERS=2, **SECRETS) as service:
        async with service.client() as client:
            hold = (await client.post("/api/booking/reserve", json=KENNEL)).json()
            # Stops the supervisor, which would restart PostgreSQL before the requests are answered.
            service.process.send_signal(signal.SIGSTOP)
            try:
                kill_every_process_of_postgres(data_dir)
                answers = await race(
                    client,
                    [
                        client.build_request("POST", "/api/booking/reserve", json=KENNEL),
                        client.build_request("POST", "/api/booking/commit", json=guest(hold["reservationId"])),
                        client.build_request("GET", f"/api/booking/reservations/{hold['reservationId']}"),
                        client.build_request("GET", "/health/ready"),
                        client.build_request("GET", "/health/live"),
                    ],
                )
            finally:
                service.process.send_signal(signal.SIGCONT)
            assert [answer.status_code for answer in answers] == [503, 503, 503, 503, 200]
            for answer in answers[:4]:
                assert answer.json()["code"] == "DATABASE_UNAVAILABLE"
                assert int(answer.headers["retry-after"]) > 0

            await anyio.to_thread.run_sync(service.wait_until_ready)
            booked = await client.post("/api/booking/commit", json=guest(hold["reservationId"]))
            assert booked.status_code in (200, 201)
            assert booked.json()["reservationId"] == hold["reservationId"]


async def test_an_interrupted_start_leaves_no_part_of_the_demo_catalog(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start would take it for an owner's catalog, and its page /book/salon-rosa would not exist."""
    rows, documents = Database.rows, itertools.count(1)

    async def end_with_the_fifth(self: Database, connection: psycopg.AsyncConnection, name: str, *of: Any) -> Rows:
        if name == "put_document" and next(documents) == 5:
            raise psycopg.OperationalError("the connection was lost")
        return await rows(self, connection, name, *of)

    monkeypatch.setattr(Database, "rows", end_with_the_fifth)
    async with open_connections(database.url) as connections:
        with pytest.raises(psycopg.OperationalError):
            await make_demo_catalog(connections)
        assert database.value("SELECT count(*) FROM booking.businesses") == 0
        await make_demo_catalog(connections)
    assert database.value("SELECT count(*) FROM booking.businesses") == 8
