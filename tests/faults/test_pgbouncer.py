"""The service behind PgBouncer in transaction mode: each transaction runs on any free server connection.

The login has no settings of its own here and the pooler may have any version, so neither prepared statements nor
session settings can be relied on.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from service.database.connections import STATEMENT_SECONDS, Database
from tests.acceptance.clients import Clients, guest, race, race_behind_lock, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.connections import open_database
from tests.database import LOGIN, PASSWORD, TestDatabase, at
from tests.folders import public_folder
from tests.serving import ADMIN_TOKEN, free_port, wait_until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed"),
]

ADMIN: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
# Fewer than the connections of the service, so that they are shared.
SERVER_CONNECTIONS: Final = 3
CONFIGURATION: Final = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = userlist.txt
pool_mode = transaction
default_pool_size = {server_connections}
query_wait_timeout = 5
"""


@pytest.fixture
def pooled(database: TestDatabase) -> Iterator[str]:
    """Returns the URL of the test's database through a pooler."""
    server, port = urlsplit(database.url), free_port()
    with public_folder() as folder:
        (folder / "pgbouncer.ini").write_text(
            CONFIGURATION.format(
                host=server.hostname, port=server.port, listen_port=port, server_connections=SERVER_CONNECTIONS
            )
        )
        (folder / "userlist.txt").write_text(f'"{LOGIN}" "{PASSWORD}"\n')
        url = server._replace(netloc=f"{LOGIN}:{PASSWORD}@127.0.0.1:{port}").geturl()
        arguments = ["pgbouncer", "-q", *(["-u", "nobody"] if os.geteuid() == 0 else []), "pgbouncer.ini"]
        with (folder / "log").open("wb") as log, subprocess.Popen(arguments, cwd=folder, stderr=log) as process:
            try:
                wait_until(lambda: answers(url), f"PgBouncer; {(folder / 'log').read_text()}")
                yield url
            finally:
                process.send_signal(signal.SIGKILL)


def answers(url: str) -> bool:
    """Returns whether a connection to this URL succeeds."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@asynccontextmanager
async def connected(url: str, statement_seconds: float = STATEMENT_SECONDS) -> AsyncIterator[Database]:
    """Opens a pool of the service."""
    async with open_database(url, connections=4, statement_seconds=statement_seconds) as database:
        yield database


async def test_every_kind_of_call_works_behind_a_pooler(database: TestDatabase, pooled: str, serve: Serve) -> None:
    """Each call of a client may run on another connection than the one before."""
    database.make_service(capacity=5)
    service = serve(DATABASE_URL=pooled, WORKERS=2)
    async with service.client(connections=20) as client:

        async def one(number: int) -> list[int]:
            collected = []

            async def call(method: str, path: str, **more: Any) -> Any:
                answer = await client.request(method, path, **more)
                collected.append(answer.status_code)
                return answer.json() if answer.content else None

            held = await call("POST", "/api/booking/reserve", json=slot(number))
            hold = f"/api/booking/reservations/{held['reservationId']}"
            await call("GET", hold)
            await call("POST", f"{hold}/extend", json={"ttlMinutes": 30})
            room = {name: value for name, value in slot(number).items() if name != "quantity"}
            await call("GET", "/api/booking/capacity", params=room)
            window = {"businessId": "salon", "serviceId": "cut", "from": at(0).isoformat(), "to": at(24).isoformat()}
            await call("GET", "/api/booking/availability", params=window)
            booked = await call("POST", "/api/booking/commit", json=guest(held["reservationId"]))
            appointment = f"/api/booking/appointments/{booked['appointmentId']}"
            moved = {"expectedVersion": 1, "slotStart": at(100 + number).isoformat()}
            await call("PATCH", appointment, json=moved, headers=ADMIN)
            await call("POST", f"{appointment}/cancel", json={"cancellationToken": booked["cancellationToken"]})
            await call("GET", f"{appointment}/audit", headers=ADMIN)
            catalog = f"/api/catalog/businesses/business-{number}"
            await call("PUT", catalog, json={"name": "Business", "country": "DE"}, headers=ADMIN)
            await call("DELETE", catalog, headers=ADMIN)
            return collected

        stories = await asyncio.gather(*(one(number) for number in range(15)))
        assert Counter(map(tuple, stories)) == {(201, 200, 200, 200, 200, 201, 200, 200, 200, 201, 204): 15}
    assert service.events("defect") == []
    assert service.events("batch_failed") == []


async def test_group_commit_under_load_grants_exactly_the_capacity(
    database: TestDatabase, pooled: str, serve: Serve
) -> None:
    """Two workers share three server connections, for two hundred clients of one slot and a hundred of another
    business."""
    database.make_service(capacity=50)
    database.make_service(business_id="other", capacity=1000)
    service = serve(DATABASE_URL=pooled, WORKERS=2)
    async with service.client(connections=100) as client:
        others = reserves(client, 100, businessId="other")
        answered = await race(client, [*reserves(client, 200), *others])
        assert statuses(answered[:200]) == {201: 50, 409: 150}
        assert statuses(answered[200:]) == {201: 100}
        locked = await race_behind_lock(client, reserves(client, 60, hour=12), database)
        assert statuses(locked) == {201: 50, 409: 10}
    assert service.events("defect") == []


async def test_shared_connections_keep_no_settings_and_no_prepared_statements(pooled: str) -> None:
    """`check` may take an hour for a statement, which must not become the timeout of other transactions."""
    async with connected(pooled, statement_seconds=3600) as patient, connected(pooled) as usual:
        for _ in range(20):
            await asyncio.gather(*(one.fetch("reservation_health") for one in (patient, usual) for _ in range(4)))
    with every_connection(pooled) as connections:
        for connection in connections:
            assert settings_of(connection, "statement_timeout", "lock_timeout") == ["0", "0"]
            assert connection.execute("SELECT FROM pg_prepared_statements").fetchall() == []


async def test_a_wait_for_a_lock_is_limited_without_session_timeouts(
    database: TestDatabase, pooled: str, serve: Serve
) -> None:
    """Its callers get a 503, and other businesses are served on the remaining connections."""
    database.make_service()
    database.make_service(business_id="other", capacity=100)
    service = serve(DATABASE_URL=pooled)
    async with service.client(connections=50) as client:
        with database.locked():
            stuck = asyncio.create_task(race(client, reserves(client, 5)))
            await asyncio.to_thread(database.wait_until_blocked)
            assert statuses(await race(client, reserves(client, 20, businessId="other"))) == {201: 20}
            refused = await stuck
        assert statuses(refused) == {503: 5}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert (await client.send(reserves(client, 1)[0])).status_code == 201
    assert "statement_timeout" in service.events("timeouts_missing")[0]["settings"]


async def test_timeouts_of_the_role_apply_behind_a_pooler(database: TestDatabase, pooled: str) -> None:
    """deploy/postgres/roles.sql sets them: they apply to every connection, and a statement that takes too long is
    cancelled."""
    settings = {"lock_timeout": "2s", "statement_timeout": "300ms", "idle_in_transaction_session_timeout": "10s"}
    where = [sql.Identifier(name) for name in (LOGIN, urlsplit(database.url).path[1:])]
    for setting, value in settings.items():
        alter = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(*where, sql.Identifier(setting), value)
        database.admin.execute(alter)
    end_server_connections(database)
    with every_connection(pooled) as connections:
        for connection in connections:
            assert settings_of(connection, *settings) == [*settings.values()]
        with pytest.raises(psycopg.errors.QueryCanceled):
            connections[0].execute("SELECT pg_sleep(10)")


async def test_retries_succeed_while_the_pooler_loses_its_server_connections(
    database: TestDatabase, pooled: str, serve: Serve
) -> None:
    """They are terminated again and again under load; each repeated key has one hold."""
    database.make_service(capacity=1_000_000)
    service = serve(DATABASE_URL=pooled, WORKERS=2)
    async with service.client(connections=10) as client:
        clients = Clients(client, slot())
        async with clients.running(10, retry=True):
            for _ in range(3):
                await clients.acknowledge(30)
                end_server_connections(database)
            await clients.acknowledge(30)
    assert clients.unexpected == []
    held = database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations")
    assert dict(held) == clients.acknowledged
    assert service.events("defect") == []


@contextmanager
def every_connection(pooled: str) -> Iterator[list[psycopg.Connection]]:
    """Yields a connection for each server connection of the pooler, all in transactions, so that none is shared."""
    with ExitStack() as stack:
        connections = []
        for _ in range(SERVER_CONNECTIONS):
            connection = psycopg.connect(pooled)
            stack.callback(connection.close)
            connections.append(connection)
            connection.execute("SELECT")
        yield connections


def settings_of(connection: psycopg.Connection, *names: str) -> list[str]:
    """Returns the values of settings."""
    rows = connection.execute("SELECT current_setting(name) FROM unnest(%s::text[]) AS name", [[*names]]).fetchall()
    return [value for (value,) in rows]


def end_server_connections(database: TestDatabase) -> None:
    """Terminates the pooler's connections to the test's database, and returns when they have ended."""
    database.rows("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", LOGIN)
