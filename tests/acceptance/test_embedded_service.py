"""`serve` on a machine without PostgreSQL: one command, a folder, and everything is there and stays there."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import psycopg
import pytest

from service.database.migrations import migration_files
from service.embedded.postmaster import recorded_postmaster, stop_orphan
from service.embedded.server import find_running
from tests.acceptance.clients import Clients, guest, race
from tests.database import at, with_database
from tests.serving import SECRETS, ServiceProcess, run_command, wait_until

pytestmark = pytest.mark.anyio

KENNEL = {
    "businessId": "kennel",
    "serviceId": "deluxe",
    "slotStart": at(0).isoformat(),
    "slotEnd": (at(0) + timedelta(days=1)).isoformat(),
}
STADIUM = {"name": "Stadium", "durationMinutes": 60, "maxSimultaneousBookings": 1_000_000}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A new folder that every user can reach, unlike tmp_path: PostgreSQL does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for cluster in folder.glob("postgres-*"):
            stop_orphan(cluster)
        shutil.rmtree(folder)


def service_on(data_dir: Path, **settings: object) -> ServiceProcess:
    """A service on this folder; each start has a log of its own."""
    number = len(list(data_dir.glob("service-*.log")))
    return ServiceProcess(data_dir / f"service-{number}.log", DATA_DIR=data_dir, **settings)


def shown_secrets(service: ServiceProcess) -> dict[str, str]:
    """The secrets that the service says it has made."""
    return dict(re.findall(r"^  export ([A-Z_]+)=(\S+)$", service.log(), re.MULTILINE))


def postmaster_pid(data_dir: Path) -> int:
    """The process that is the server."""
    [folder] = data_dir.glob("postgres-*")
    found = recorded_postmaster(folder)
    assert found
    return found.pid


def kill_every_process_of_postgres(data_dir: Path) -> None:
    """kill -9 on the server and all its backends: one whose postmaster is gone may still answer a request."""
    url = find_running(data_dir)
    assert url
    with psycopg.connect(url) as connection:
        children = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
    for pid in [postmaster_pid(data_dir), *children]:
        with contextlib.suppress(ProcessLookupError):  # some end by themselves as soon as the first is gone
            os.kill(pid, signal.SIGKILL)


def held(data_dir: Path) -> dict[str, str]:
    """The holds in the database: idempotency key and id."""
    url = find_running(data_dir)
    assert url
    with psycopg.connect(with_database(url, "holdfast")) as connection:
        return dict(
            connection.execute(
                "SELECT idempotency_key, reservation_id::text FROM booking.reservations WHERE service_id = 'stadium'"
            ).fetchall()
        )


async def make_stadium(client: httpx2.AsyncClient) -> dict[str, str]:
    """A service on which there is always room, and a request for it."""
    answer = await client.put(
        "/api/catalog/businesses/kennel/services/stadium",
        json=STADIUM,
        headers={"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"},
    )
    assert answer.status_code == 201
    return {"businessId": "kennel", "serviceId": "stadium", "slotStart": at(10).isoformat()}


async def test_from_nothing_to_an_appointment_that_is_there_the_next_day(data_dir: Path) -> None:
    """The first start makes a catalog and secrets, shown once; the second has them, and what was booked."""
    with service_on(data_dir) as first:
        made = shown_secrets(first)
        async with first.client() as client:
            bearer = {"Authorization": f"Bearer {made['ADMIN_TOKEN']}"}
            catalog = (await client.get("/api/catalog/businesses", headers=bearer)).json()
            suites = (await client.get("/api/catalog/businesses/kennel/services", headers=bearer)).json()
            hold = await client.post("/api/booking/reserve", json=KENNEL)
            booked = await client.post("/api/booking/commit", json=guest(hold.json()["reservationId"]))
    assert set(made) == {"ADMIN_TOKEN", "CRON_SECRET", "TOKEN_SECRET"}
    assert [business["businessId"] for business in catalog["items"]] == ["clinic", "court", "kennel", "salon"]
    assert [suite["serviceId"] for suite in suites["items"]] == ["deluxe", "standard"]
    assert booked.status_code == 201
    kept = data_dir / "secrets.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert {name.upper(): secret for name, secret in json.loads(kept.read_text()).items()} == made

    with service_on(data_dir) as second:
        async with second.client() as client:
            again = await client.post("/api/booking/commit", json=guest(hold.json()["reservationId"]))
            same = (await client.get("/api/catalog/businesses", headers=bearer)).json()
    assert shown_secrets(second) == {}
    assert second.events("migration_applied") == []
    # The token in it is derived from the secret that was kept.
    assert (again.status_code, again.text) == (200, booked.text)
    assert same == catalog


async def test_commands_work_beside_the_running_service_and_without_it(data_dir: Path) -> None:
    """`check` and `cleanup` find the server of the service and leave it alone; where none runs they start one."""
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
def test_a_command_that_finds_no_data_makes_none(data_dir: Path, words: list[str]) -> None:
    """Typed in the wrong folder, it must not say that all is well with a database that it has just made."""
    folder = data_dir / "of-nobody"
    ended = run_command(*words, DATA_DIR=folder)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"Error: There is no data in {folder}: set DATABASE_URL, or DATA_DIR")
    assert not folder.exists()


def test_migrate_makes_an_embedded_database_and_says_of_what(data_dir: Path) -> None:
    """The first time everything, the second time nothing, as with any other database."""
    first, second = (run_command("migrate", DATA_DIR=data_dir) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.split() == [*(path.name for path in migration_files()), "definitions"]
    assert second.stdout == "nothing to do\n"


def test_secrets_are_not_made_by_a_start_that_fails(data_dir: Path) -> None:
    """They are shown once: that has to be when somebody is there to use them."""
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
async def test_the_address_that_is_announced_is_the_one_that_answers(data_dir: Path, workers: int) -> None:
    """Also if the system was to choose the port."""
    service = service_on(data_dir, PORT=0, WORKERS=workers)
    try:
        wait_until(lambda: announced(service), "the address")
        service.url = announced(service)
        service.wait_until_ready()
    finally:
        service.terminate()
        await anyio.to_thread.run_sync(service.wait)
    assert service.url != "http://127.0.0.1:0"


def announced(service: ServiceProcess) -> str:
    """The address that the service says it serves on; empty before it does."""
    found = re.search(r"^Serving on (\S+) ", service.log(), re.MULTILINE)
    return found[1] if found else ""


async def test_a_second_service_on_the_same_folder_is_refused(data_dir: Path) -> None:
    """Two services may not have one folder: the second says who has it, and the first serves on."""
    with service_on(data_dir) as first:
        second = run_command("serve", DATA_DIR=data_dir, PORT=first.port)
        assert second.returncode == 2
        assert f"pid {first.process.pid}" in second.stderr
        async with first.client() as client:
            assert (await client.post("/api/booking/reserve", json=KENNEL)).status_code == 201


async def test_a_killed_service_leaves_what_it_acknowledged_to_the_next(data_dir: Path) -> None:
    """kill -9, a power cut: PostgreSQL is left an orphan, the next start takes over, and every hold is there."""
    with service_on(data_dir, **SECRETS) as killed:
        async with killed.client(connections=10) as client:
            clients = Clients(client, await make_stadium(client))
            async with clients.running(10, retry=False):
                await clients.acknowledge(100)
                killed.kill()
    with service_on(data_dir, **SECRETS):
        there = held(data_dir)
    assert clients.unexpected == []
    assert clients.acknowledged.items() <= there.items()


@pytest.mark.parametrize("every_process", [False, True])
async def test_a_killed_database_comes_back_and_nothing_acknowledged_is_lost(
    data_dir: Path, every_process: bool
) -> None:
    """kill -9 on PostgreSQL under load: clients who try their key again have one hold for each of them."""
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
        assert held(data_dir) == clients.acknowledged


async def test_while_the_database_is_down_callers_are_told_when_to_come_back(data_dir: Path) -> None:
    """503 with Retry-After, never a 500 and never silence; the process itself is alive; and then it serves again."""
    with service_on(data_dir, WORKERS=2, **SECRETS) as service:
        async with service.client() as client:
            hold = (await client.post("/api/booking/reserve", json=KENNEL)).json()
            # The one that would start PostgreSQL again has to wait until we have seen what happens without it.
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
