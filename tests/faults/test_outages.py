"""What is missing for a while: connections, room on the disk, a clock that can be trusted. 503 then, and afterwards
everything goes on as before."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import ClassVar, Self
from uuid import UUID

import httpx2
import orjson
import psycopg
import pytest
from psycopg import sql

from service.database import clock as clock_module
from service.database import connections as connections_module
from service.database.connections import CONNECT_SECONDS
from service.database.failures import NoAnswer
from service.errors import DatabaseDown
from tests.acceptance.clients import Clients, guest, race, reserves, slot
from tests.acceptance.conftest import Serve
from tests.connections import open_database, running_group_commit
from tests.database import LOGIN, TestDatabase, reserve_request, with_database
from tests.faults.proxy import Proxy
from tests.serving import ADMIN_TOKEN, SECRETS, ServiceProcess

pytestmark = pytest.mark.anyio

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def assert_unavailable(answers: list[httpx2.Response]) -> None:
    """Each says that the database is missing, and when to come back."""
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"DATABASE_UNAVAILABLE"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)


@contextmanager
def no_connection_left(database: TestDatabase) -> Iterator[None]:
    """Others have taken all connections that PostgreSQL gives to anybody but a superuser; also the service's own."""
    with ExitStack() as stack:
        give_up_at = time.monotonic() + 30
        others = "FROM pg_stat_activity WHERE usename = %s AND application_name <> 'hog'"
        while took_one(database, stack) or database.value(f"SELECT count(*) {others}", LOGIN):
            assert time.monotonic() < give_up_at
            if not took_one(database, stack):
                database.rows(f"SELECT pg_terminate_backend(pid, 5000) {others}", LOGIN)
        yield


def took_one(database: TestDatabase, stack: ExitStack) -> bool:
    """Takes a connection, if there is one."""
    try:
        stack.callback(psycopg.connect(database.url, application_name="hog").close)
    except psycopg.OperationalError:
        return False
    return True


async def test_without_a_connection_to_be_had_callers_are_told_to_come_back(
    database: TestDatabase, serve: Serve
) -> None:
    """Every kind of request, in seconds; and as soon as somebody lets go, the service is back by itself."""
    database.make_service(capacity=10)
    service = serve()
    async with service.client() as client:
        hold = (await client.send(reserves(client, 1)[0])).json()["reservationId"]
        requests = [
            *reserves(client, 3),
            client.build_request("POST", "/api/booking/commit", json=guest(hold)),
            client.build_request("GET", f"/api/booking/reservations/{hold}"),
            client.build_request("GET", "/api/catalog/businesses", headers=ADMIN),
            client.build_request(
                "PUT", "/api/catalog/businesses/b", json={"name": "B", "country": "DE"}, headers=ADMIN
            ),
            client.build_request("GET", "/health/ready"),
        ]
        with no_connection_left(database):
            began = time.monotonic()
            assert_unavailable(await race(client, requests))
            assert time.monotonic() - began < 2 * CONNECT_SECONDS + 5
            assert (await client.get("/health/live")).status_code == 200
        await asyncio.to_thread(service.wait_until_ready)
        committed = await client.post("/api/booking/commit", json=guest(hold))
        assert committed.status_code == 201
        assert (await client.send(reserves(client, 1)[0])).status_code == 201
    assert service.events("defect") == []


async def test_a_database_that_says_nothing_is_as_good_as_gone(database: TestDatabase) -> None:
    """It is stopped, or a pooler is paused: connections are accepted, and no answer comes. Look-ups are told so in
    time, changes of the catalog too, and as soon as it goes on so do they."""
    async with (
        Proxy(database.url).running() as proxy,
        open_database(proxy.url, connections=2, statement_seconds=0.1) as connections,
    ):
        async with connections.connection() as connection:
            proxy.freeze()
            with pytest.raises(NoAnswer):
                await connections_module._Pool.check_connection(connection)
        with pytest.raises(DatabaseDown):
            await connections.fetch("server_time")
        with pytest.raises(DatabaseDown):
            async with connections.transaction() as transaction:
                await transaction.fetch("server_time")
        proxy.thaw()
        assert await connections.fetch("server_time")


async def test_a_change_whose_answer_was_lost_is_not_made_twice(database: TestDatabase) -> None:
    """Unlike a verb it has no name by which it could be found out: whoever asked for it has to look."""
    database.make_business()
    async with Proxy(database.url).running() as proxy, open_database(proxy.url) as connections:
        assert await connections.fetch("server_time")
        proxy.lose_next_answer_to = b"booking.rotate_calendar"
        with pytest.raises(DatabaseDown):
            await connections.change("rotate_calendar", "salon")
        assert proxy.lost.is_set()
    assert database.value("SELECT calendar_generation FROM booking.businesses") == 2


async def test_everything_that_the_server_waits_for_has_an_end(database: TestDatabase) -> None:
    """For a lock, a statement, and the next one of a transaction: also if we are no longer there to say so. And nothing
    is compiled, which would take longer than what it is for."""
    names = ["jit", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    async with open_database(database.url) as connections, connections.connection() as connection:
        cursor = await connection.execute("SELECT current_setting(name, true) FROM unnest(%s::text[]) AS name", [names])
        settings = [setting for (setting,) in await cursor.fetchall()]
        transaction_timeout = "10s" if connection.info.server_version >= 170000 else None
    assert settings == ["off", "2s", "5s", "10s", transaction_timeout]


@pytest.fixture
def small_disk(cluster: str) -> Iterator[Path]:
    """A disk of 64 MB that PostgreSQL can write to: a file system in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="holdfast-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with psycopg.connect(cluster) as administrator:
            [(data,)] = administrator.execute("SHOW data_directory").fetchall()
        if not Path(data).exists():
            pytest.skip("the server is on another machine")
        os.chown(folder, Path(data).stat().st_uid, -1)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def fill(disk: Path) -> Path:
    """Writes until nothing more fits, and returns what has to be deleted for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ballast


async def test_a_full_disk_is_a_503_and_nothing_acknowledged_is_lost(
    cluster: str, template: str, small_disk: Path, tmp_path: Path
) -> None:
    """PostgreSQL can't make its tables longer for a while: nothing is half done, and when there is room it goes on."""
    tablespace = sql.Identifier(small_disk.name)
    name = small_disk.name.replace("-", "_")
    with psycopg.connect(cluster, autocommit=True) as administrator:
        location = sql.Literal(str(small_disk))
        administrator.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(tablespace, location))
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} TABLESPACE {}")
        administrator.execute(create.format(sql.Identifier(name), sql.Identifier(template), tablespace))
        database = TestDatabase(with_database(cluster, name))
        try:
            await fill_up_and_make_room(database, small_disk, tmp_path / "log")
            assert database.violations() == {}
        finally:
            database.close()
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            administrator.execute(sql.SQL("DROP TABLESPACE {}").format(tablespace))


async def fill_up_and_make_room(database: TestDatabase, disk: Path, log: Path) -> None:
    """The story of it."""
    database.make_service(capacity=1_000_000)
    urls = {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.admin_url}
    with ServiceProcess(log, **SECRETS, **urls) as service:
        async with service.client(connections=20) as client:
            clients = Clients(client, slot())
            async with clients.running(10, retry=True):
                await clients.acknowledge(50)
                ballast = fill(disk)
                refused = await refusal(client)
                room = await client.get("/api/booking/capacity", params=slot())
                ballast.unlink()
                await clients.acknowledge(50)
    assert_unavailable([refused])
    assert room.status_code == 200
    assert clients.unexpected == []
    held = database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations")
    assert {key: reservation_id for key, reservation_id in held if key} == clients.acknowledged
    assert service.events("defect") == []


async def refusal(client: httpx2.AsyncClient) -> httpx2.Response:
    """The first answer that is none: as long as pages have room, there are more holds."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.send(reserves(client, 1)[0])
            if answer.status_code != 201:
                return answer


class SteppingClock(datetime):
    """A clock of this process that somebody sets."""

    ahead: ClassVar[timedelta] = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """What it says now."""
        return super().now(tz) + cls.ahead


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1)], ids=["back", "forward"])
async def test_a_step_of_our_clock_changes_no_deadline(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    """A call carries an instant of the server's clock, after which it does nothing: ours may be set meanwhile."""
    monkeypatch.setattr(clock_module, "datetime", SteppingClock)
    monkeypatch.setattr(SteppingClock, "ahead", timedelta(0))
    database.make_service(capacity=10)
    async with (
        open_database(database.url, connections=4) as connections,
        running_group_commit(connections) as group_commit,
    ):
        for ahead in (timedelta(0), step):
            monkeypatch.setattr(SteppingClock, "ahead", ahead)
            request = reserve_request(10)
            outcome = await group_commit.submit(
                "reserve", "salon", UUID(request["operation_id"]), orjson.dumps(request)
            )
            assert outcome.name == "done"
            assert abs(connections.deadline(0) - datetime.now(UTC)) < timedelta(seconds=5)
    assert database.value("SELECT count(*) FROM booking.reservations") == 2
