"""deploy/pgbouncer/pgbouncer.ini: the service behind a pooler in transaction mode, with few connections for many
callers."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.deploy.installation import DEPLOY, SERVICE_PASSWORD, Installation, installation
from tests.folders import public_folder
from tests.serving import ADMIN_TOKEN, SECRETS, ServiceProcess, free_port, run_command, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    """Makes a migrated database; the service's URL is that of the pooler."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    with installation(18) as direct:
        run_command("migrate", DATABASE_URL=direct.migration_url).check_returncode()
        with public_folder() as folder, _pooler(program, direct.url, folder) as port:
            parts = urlsplit(direct.url)
            pooled = parts._replace(netloc=f"holdfast:{SERVICE_PASSWORD}@127.0.0.1:{port}").geturl()
            yield Installation(direct.administrator_url, direct.migration_url, pooled)


@contextmanager
def _pooler(program: str, server_url: str, folder: Path) -> Iterator[int]:
    """Runs PgBouncer by its entrypoint and with its configuration, but for the addresses and three connections to the
    server."""
    server, port = urlsplit(server_url), free_port()
    text = (DEPLOY / "pgbouncer/pgbouncer.ini").read_text()
    for pattern, value in {
        r"host=postgres port=5432": f"host={server.hostname} port={server.port}",
        r"listen_addr = .*": "listen_addr = 127.0.0.1",
        r"listen_port = .*": f"listen_port = {port}",
        r"auth_file = .*": "auth_file = userlist.txt",
        r"default_pool_size = .*": "default_pool_size = 3",
    }.items():
        text, count = re.subn(pattern, value, text)
        assert count == 1, pattern
    (folder / "pgbouncer.ini").write_text(text)
    folder.chmod(0o777)
    # As root, PgBouncer runs as another user, like in its image.
    user = 65534 if os.geteuid() == 0 else None
    environment = {
        "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
        "SERVICE_PASSWORD": SERVICE_PASSWORD,
        "USERLIST": "userlist.txt",
    }
    arguments: list[str | Path] = ["sh", DEPLOY / "pgbouncer/entrypoint.sh", "pgbouncer.ini"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(arguments, cwd=folder, env=environment, stderr=log, user=user) as process,
    ):
        try:
            wait_until(lambda: _answers(server_url, port), f"PgBouncer; {(folder / 'log').read_text()}")
            yield port
        finally:
            process.send_signal(signal.SIGKILL)


def _answers(server_url: str, port: int) -> bool:
    try:
        with psycopg.connect(
            urlsplit(server_url)._replace(netloc=f"holdfast:{SERVICE_PASSWORD}@127.0.0.1:{port}").geturl()
        ):
            return True
    except psycopg.OperationalError:
        return False


async def test_the_service_works_behind_the_pooler(installed: Installation, tmp_path: Path) -> None:
    """Each transaction runs on any free connection; no answer is lost, and the capacity is exact."""
    slot = (datetime.now(UTC) + timedelta(days=3)).replace(hour=10, minute=0, second=0, microsecond=0)
    body = {"businessId": "salon", "serviceId": "cut", "slotStart": slot.isoformat()}
    with ServiceProcess(tmp_path / "log", DATABASE_URL=installed.url, WORKERS=2, **SECRETS) as service:
        async with service.client(connections=40) as client:
            admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            business = {"name": "Salon", "timezone": "Europe/Berlin", "country": "DE"}
            service_settings = {"name": "Cut", "durationMinutes": 30, "maxSimultaneousBookings": 50}
            for path, settings in (("", business), ("/services/cut", service_settings)):
                answer = await client.put(f"/api/catalog/businesses/salon{path}", json=settings, headers=admin)
                assert answer.status_code == 201, answer.text

            async def one() -> list[int]:
                held = await client.post("/api/booking/reserve", json=body)
                slots = await client.get("/api/booking/availability", params=_window(slot))
                if held.status_code != 201:
                    return [held.status_code, slots.status_code]
                guest = {"reservationId": held.json()["reservationId"], "guestEmail": "ada@example.com"}
                committed = await client.post("/api/booking/commit", json=guest)
                return [held.status_code, slots.status_code, committed.status_code]

            answers = Counter(
                status for statuses in await asyncio.gather(*(one() for _ in range(200))) for status in statuses
            )
        assert answers == {201: 100, 200: 200, 409: 150}
        assert service.events("defect") == []
        assert service.events("batch_failed") == []
    with psycopg.connect(installed.administrator_url) as connection:
        query = b"SELECT invariant FROM booking.invariant_violations(false) WHERE violations > 0"
        rows = connection.execute(query).fetchall()
        assert rows == []


def test_every_server_connection_has_the_settings_of_the_role(installed: Installation) -> None:
    """Session settings of a client would reach one connection only, and locks need their timeout on all."""
    connections = [psycopg.connect(installed.url) for _ in range(3)]  # each in a transaction of its own
    try:
        assert {tuple(_timeouts(connection)) for connection in connections} == {("2s", "5s", "10s")}
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for connection in connections}
        assert len(pids) == len(connections)
    finally:
        for connection in connections:
            connection.close()


def _timeouts(connection: psycopg.Connection) -> list[str]:
    names = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"]
    rows = connection.execute("SELECT current_setting(name) FROM unnest(%s::text[]) AS name", [names]).fetchall()
    return [value for (value,) in rows]


def _window(slot: datetime) -> dict[str, str]:
    until = slot + timedelta(days=1)
    return {"businessId": "salon", "serviceId": "cut", "from": slot.isoformat(), "to": until.isoformat()}
