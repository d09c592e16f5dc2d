"""Temporary outages: no connections, no disk space, a database that does not answer, a clock that is set. The service
answers 503, and recovers by itself."""

import asyncio
import gc
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import ClassVar, Self

import httpx2
import orjson
import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from service.database import breaker as breaker_module
from service.database import connections as connections_module
from service.database.connections import CONNECT_SECONDS, Database
from service.database.failures import NoAnswer
from service.database.pool import ConnectionPool
from service.errors import DatabaseDown
from tests.acceptance.clients import Clients, guest, race, reserves, slot
from tests.acceptance.conftest import Serve
from tests.connections import open_database, running_group_commit
from tests.database import LOGIN, TestDatabase, reserve_request, with_database
from tests.faults.proxy import Proxy
from tests.serving import ADMIN_TOKEN, SECRETS, ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def assert_unavailable(answers: list[httpx2.Response]) -> None:
    """Checks that each answer reports the outage of the database and has Retry-After."""
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"DATABASE_UNAVAILABLE"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)


@contextmanager
def no_connection_left(database: TestDatabase) -> Iterator[None]:
    """Occupies all connections that PostgreSQL gives to roles other than superusers, including those of the service."""
    with ExitStack() as stack:
        give_up_at = time.monotonic() + 30
        others = "FROM pg_stat_activity WHERE usename = %s AND application_name <> 'hog'"
        while occupy_connection(database, stack) or database.value(f"SELECT count(*) {others}", LOGIN):
            assert time.monotonic() < give_up_at
            if not occupy_connection(database, stack):
                database.rows(f"SELECT pg_terminate_backend(pid, 5000) {others}", LOGIN)
        yield


def occupy_connection(database: TestDatabase, stack: ExitStack) -> bool:
    """Occupies a connection; returns whether one was free."""
    try:
        stack.callback(psycopg.connect(database.url, application_name="hog").close)
    except psycopg.OperationalError:
        return False
    return True


async def test_without_free_connections_every_call_is_a_503(database: TestDatabase, serve: Serve) -> None:
    """The answers come within seconds, and the service recovers as soon as connections are free."""
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


async def test_an_outage_is_two_events_and_refuses_at_once(database: TestDatabase, serve: Serve) -> None:
    """While the database is known to be down no request waits for it. Between the events the log has no line but
    those of the requests, and after the second one no request is refused."""
    database.make_service(capacity=100)
    proxy = Proxy(database.url)
    async with proxy.running():
        service = await asyncio.to_thread(serve, DATABASE_URL=proxy.url)
        async with service.client() as client:
            assert (await client.send(reserves(client, 1)[0])).status_code == 201
    async with service.client() as client:
        assert_unavailable([await client.send(reserves(client, 1)[0])])
        await asyncio.to_thread(wait_until, lambda: service.events("database_gone"), "the outage to be known")
        async with asyncio.timeout(CONNECT_SECONDS):  # less than one of these would wait for a connection
            for _ in range(10):
                requests = [*reserves(client, 2), client.build_request("GET", "/api/booking/capacity", params=slot())]
                assert_unavailable(await race(client, requests))
            assert_unavailable([await client.get("/health/ready")])
        async with proxy.running():
            await asyncio.to_thread(wait_until, lambda: service.events("database_back"), "the database to be back")
            answers = await race(client, reserves(client, 20))
            assert {answer.status_code for answer in answers} == {201}
            await asyncio.to_thread(service.wait_until_ready)
            service.terminate()
            await asyncio.to_thread(service.wait)
    [gone], [back] = service.events("database_gone"), service.events("database_back")
    assert (gone["level"], back["level"]) == ("error", "warning")
    assert "Connection refused" in gone["reason"]
    assert back["seconds"] >= 0
    assert service.events("purge_failed") + service.events("health_unknown") + service.events("batch_failed") == []
    events = {json.loads(line)["event"] for line in service.log().splitlines()}
    assert events == {"starting", "request", "database_gone", "database_back", "stopped"}


async def test_a_short_interruption_delays_requests_and_refuses_none(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that finds no connection is served as soon as the database is back, without another request."""
    monkeypatch.setattr(breaker_module, "GRACE_SECONDS", 60)
    proxy = Proxy(database.url)
    async with proxy.running():
        connections = Database(proxy.url, connections=2)
        await connections.open()
        assert await connections.fetch("server_time")
    waiting = asyncio.create_task(connections.fetch("server_time"))
    in_pool = lambda: connections._pool.get_stats().get("requests_waiting")  # noqa: E731
    await asyncio.to_thread(wait_until, in_pool, "the request to wait for a connection")
    async with proxy.running():
        assert await waiting
        await connections.close()


async def test_the_first_request_after_an_outage_is_served(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is not refused for the result of a probe from before its arrival, and refused by a later one."""
    monkeypatch.setattr(breaker_module, "GRACE_SECONDS", 0)
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 60)
    monkeypatch.setattr(breaker_module, "_JOIN_SECONDS", 30)
    proxy = Proxy(database.url)
    async with proxy.running():
        connections = Database(proxy.url, connections=2)
        await connections.open()
        assert await connections.fetch("server_time")
    for _ in range(3):
        with pytest.raises(DatabaseDown):
            await connections.fetch("server_time")
    assert connections._breaker.is_open
    async with proxy.running():
        assert await connections.fetch("server_time")
        await connections.close()


async def test_a_login_that_can_not_be_used_is_not_tried_in_a_loop(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database answers, so the breaker stays closed; but the pool can't set its connections up."""
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 3600)
    probes = asyncio.Semaphore(0)

    class Unusable(Database):
        async def _configure(self, _: psycopg.AsyncConnection) -> None:
            raise psycopg.OperationalError

        async def probe(self) -> None:
            await super().probe()
            probes.release()

    connections = Unusable(database.url, connections=1)
    await connections.open()
    try:
        await probes.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await probes.acquire()
        assert not connections._breaker.is_open
    finally:
        await connections.close()


async def test_one_connection_that_works_is_no_outage(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL grants no more connections, as at its limit, and one of two is lost: the other one serves all. The log
    has the reason, once: a pool that has no connection at all refuses its requests."""
    monkeypatch.setattr(breaker_module, "GRACE_SECONDS", 0)
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 0.05)
    [(name,)] = database.rows("SELECT current_database()")
    async with open_database(database.url, connections=2) as connections:
        async with connections.connection() as first, connections.connection():
            database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
            database.rows("SELECT pg_terminate_backend(%s, 5000)", first.info.backend_pid)
            with pytest.raises(psycopg.OperationalError):
                await connections.rows(first, "server_time")
        with capture_logs() as lines:
            for _ in range(20):
                connections._breaker.suspect()
                assert await connections.fetch("server_time")
        assert [line for line in lines if line["event"] == "database_gone"] == []
        [refused] = [line for line in lines if line["event"] == "connection_refused"]
        assert "too many connections for database" in refused["reason"]
        database.rows(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


async def test_a_database_that_does_not_answer_is_an_outage(database: TestDatabase) -> None:
    """A stopped server or a paused pooler accepts connections and sends nothing. Lookups and changes of the catalog
    time out, and succeed as soon as it answers again."""
    async with (
        Proxy(database.url).running() as proxy,
        open_database(proxy.url, connections=2, statement_seconds=0.1) as connections,
    ):
        async with connections.connection() as connection:
            proxy.freeze()
            with pytest.raises(NoAnswer):
                await ConnectionPool.check_connection(connection)
        with pytest.raises(DatabaseDown):
            await connections.fetch("server_time")
        proxy.thaw()
        assert await connections.fetch("server_time")


async def test_a_probe_that_is_cancelled_closes_its_connection() -> None:
    """At once, and not with the next collection of garbage: meanwhile no database of the server could be dropped."""
    connected, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        connected.set()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server:
        probe = asyncio.create_task(Database(f"postgresql://127.0.0.1:{port}/postgres", connections=1).probe())
        await connected.wait()
        probe.cancel()
        await asyncio.wait([probe])
        gc.disable()
        try:
            async with asyncio.timeout(10):
                await closed.wait()
        finally:
            gc.enable()
    assert probe.cancelled()


async def test_a_change_of_the_catalog_is_not_resent_after_a_lost_answer(database: TestDatabase) -> None:
    """It has no operation id by which the database could recognise a resend, so its caller has to check the result."""
    database.make_business()
    change = ("salon", "desk", "Desk", "staff", bytes(32), None)
    async with Proxy(database.url).running() as proxy, open_database(proxy.url) as connections:
        assert await connections.fetch("server_time")
        proxy.lose_next_answer_to = b"booking.create_key"
        with pytest.raises(DatabaseDown):
            await connections.change("create_key", *change)
        assert proxy.lost.is_set()
    # A resend would have failed on the primary key.
    assert database.value("SELECT count(*) FROM booking.api_keys") == 1


@pytest.mark.parametrize(("statement_seconds", "longest"), [(5, "10s"), (60, "1min")])
async def test_every_wait_of_the_server_is_limited(
    database: TestDatabase, statement_seconds: int, longest: str
) -> None:
    """The limits for locks, statements and idle transactions are the server's, in case the service is gone. JIT is off,
    because compiling takes longer than these statements."""
    names = ["jit", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    async with (
        open_database(database.url, statement_seconds=statement_seconds) as connections,
        connections.connection() as connection,
    ):
        cursor = await connection.execute("SELECT current_setting(name, true) FROM unnest(%s::text[]) AS name", [names])
        settings = [setting for (setting,) in await cursor.fetchall()]
        transaction_timeout = longest if connection.info.server_version >= 170000 else None
    statement_timeout = "5s" if statement_seconds == 5 else "1min"
    assert settings == ["off", "2s", statement_timeout, "10s", transaction_timeout]


@contextmanager
def default_setting(database: TestDatabase, name: str, value: str) -> Iterator[None]:
    """Gives new sessions of the database another default of a setting of PostgreSQL."""
    what = sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database.value("SELECT current_database()")))
    setting = sql.Identifier(name)
    database.admin.execute(sql.SQL("{} SET {} = {}").format(what, setting, value))
    try:
        yield
    finally:
        database.admin.execute(sql.SQL("{} RESET {}").format(what, setting))


async def test_instants_are_read_whatever_the_style_of_the_server(database: TestDatabase) -> None:
    """The driver raises an error for an instant in any style but ISO."""
    with default_setting(database, "datestyle", "SQL, DMY"):
        async with open_database(database.url) as connections:
            [(now,)] = await connections.fetch("server_time")
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_server_ends_no_idle_connection(database: TestDatabase) -> None:
    """A booking whose connection was ended would have to wait until its lost call can have no effect any more."""
    with default_setting(database, "idle_session_timeout", "300ms"):
        async with open_database(database.url) as connections:
            [(before,)] = await connections.fetch("server_time")
            await asyncio.sleep(0.5)
            [(after,)] = await connections.attempt("server_time")
    assert after > before


@pytest.fixture
def small_disk(cluster: str) -> Iterator[Path]:
    """Mounts a disk of 64 MB in memory to which PostgreSQL can write."""
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
    """Writes until the disk is full, and returns the file to delete for space."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ballast


async def test_a_full_disk_is_a_503_and_nothing_acknowledged_is_lost(
    cluster: str, template: str, small_disk: Path, tmp_path: Path
) -> None:
    """No request is half done while PostgreSQL cannot extend its tables, and the service recovers once there is
    space."""
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
    """Runs clients while the disk is filled and emptied."""
    database.make_service(capacity=1_000_000)
    urls = {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.admin_url}
    with ServiceProcess(log, **SECRETS, **urls) as service:
        async with service.client(connections=20) as client:
            clients = Clients(client, slot())
            async with clients.running(10, retry=True):
                await clients.acknowledge(50)
                ballast = fill(disk)
                refused = await first_refusal(client)
                room = await client.get("/api/booking/capacity", params=slot())
                ballast.unlink()
                await clients.acknowledge(50)
    assert_unavailable([refused])
    assert room.status_code == 200
    assert clients.unexpected == []
    rows = database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations")
    assert {key: reservation_id for key, reservation_id in rows if key} == clients.acknowledged
    assert service.events("defect") == []


async def first_refusal(client: httpx2.AsyncClient) -> httpx2.Response:
    """Returns the first refusal, after the free space of existing pages is used up."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.send(reserves(client, 1)[0])
            if answer.status_code != 201:
                return answer


class SteppingClock(datetime):
    """A clock that can be set ahead or back."""

    ahead: ClassVar[timedelta] = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Returns the shifted time."""
        return super().now(tz) + cls.ahead


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1)], ids=["back", "forward"])
async def test_a_step_of_the_process_clock_changes_no_deadline(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    """The deadline of a call is an instant of the server's clock, which is independent of the process clock."""
    monkeypatch.setattr(connections_module, "datetime", SteppingClock)
    monkeypatch.setattr(SteppingClock, "ahead", timedelta(0))
    database.make_service(capacity=10)
    async with (
        open_database(database.url, connections=4) as connections,
        running_group_commit(connections) as group_commit,
    ):
        for ahead in (timedelta(0), step):
            monkeypatch.setattr(SteppingClock, "ahead", ahead)
            request = reserve_request(10)
            outcome = await group_commit.submit("reserve", "salon", request["operation_id"], orjson.dumps(request))
            assert outcome.name == "done"
            assert abs(connections.deadline(0) - datetime.now(UTC)) < timedelta(seconds=5)
    assert database.value("SELECT count(*) FROM booking.reservations") == 2
