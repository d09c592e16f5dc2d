"""Reads on a real standby: one that lags, is gone, or is none. No answer may lack a change that its process knows."""

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import psycopg
import pytest
from pydantic import SecretStr

from service.database import standby
from service.database.connections import Database
from service.embedded.server import EmbeddedServer
from service.observability.metrics import REGISTRY
from service.sharing import cache
from tests.clusters import RunningCluster
from tests.database import TestDatabase, at
from tests.folders import data_folder
from tests.http.conftest import ADMIN, CRON, running
from tests.proxy.servers import NODE_PROGRAMS, Server
from tests.redis_server import RedisServer, until_both_listen
from tests.serving import REPOSITORY

pytestmark = pytest.mark.anyio

SLOT = {"businessId": "salon", "serviceId": "haircut", "slotStart": at(9).isoformat(), "slotEnd": at(10).isoformat()}
SLOTS = {"businessId": "salon", "serviceId": "haircut", "from": at(9).isoformat(), "to": at(10).isoformat()}


class Standby(Server):
    """A hot standby of a server."""

    def url_like(self, primary_url: str) -> str:
        """Returns the address on the standby of a database of the primary."""
        parts = urlsplit(primary_url)
        return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.port}")).geturl()


class Replicated:
    """A database and its copy on the standby."""

    def __init__(self, database: TestDatabase, copy: Standby) -> None:
        self.database = database
        self.standby = copy
        self.standby_url = copy.url_like(database.url)

    def on_standby(self, statement: str) -> Any:
        """Runs a statement on the standby as superuser, and returns its value."""
        with psycopg.connect(self.standby.url(), autocommit=True) as connection:
            [[value]] = connection.execute(statement.encode()).fetchall()
        return value

    def wait_for_replay(self) -> None:
        """Returns once the standby has everything."""
        # The end of a record that is committed. What is flushed may end within a record, whose rest an idle server
        # flushes up to 15 s later; the next record may begin behind the header of a page that is not there.
        position = self.database.value("SELECT pg_logical_emit_message(true, 'test', '')::text")
        self.standby.wait_for_replay(position)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[RunningCluster, Standby]]:
    """Starts a primary and its standby."""
    with ExitStack() as stack:
        folder = stack.enter_context(data_folder())
        settings = {"fsync": "off", "scram_iterations": "1"}
        primary = stack.enter_context(EmbeddedServer(folder / "primary", settings=settings))
        cluster = RunningCluster(primary.url(), stack, strategy="wal_log")
        assert cluster.template
        copy = Standby(NODE_PROGRAMS, folder / "standby")
        copy.copy_of(primary.url())
        stack.callback(copy.stop)
        copy.start()
        yield cluster, copy


@pytest.fixture
def replicated(pair: tuple[RunningCluster, Standby]) -> Iterator[Replicated]:
    """Makes a database with a service for one guest at a time, which the standby has too."""
    cluster, copy = pair
    with cluster.new_database() as database:
        database.make_service("haircut", capacity=1)
        replicated = Replicated(database, copy)
        replicated.wait_for_replay()
        yield replicated
        assert database.violations() == {}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures often, and keeps no answers."""
    monkeypatch.setattr(standby, "MEASURE_SECONDS", 0.02)
    monkeypatch.setattr(cache, "LIFE_SECONDS", 0)


@asynccontextmanager
async def serving(replicated: Replicated, **changes: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Runs the application with the standby, and gives a client of it."""
    settings = {"standby_database_url": SecretStr(replicated.standby_url), "rate_limit_enabled": False}
    async with running(replicated.database, **settings | changes) as client:
        yield client


async def slots(client: httpx2.AsyncClient) -> list[str]:
    """Lists the free slots of the morning: one, or none."""
    answer = await client.get("/api/booking/availability", params=SLOTS)
    assert answer.status_code == 200, answer.text
    return [slot["slotStart"] for slot in answer.json()["slots"]]


def reads(server: str) -> float:
    """Returns the number of reads that a server answered."""
    return REGISTRY.get_sample_value("holdfast_standby_reads_total", {"server": server}) or 0.0


async def until_used(client: httpx2.AsyncClient, server: str) -> None:
    """Reads until a server answers."""
    before = reads(server)
    with anyio.fail_after(30):
        while reads(server) == before:
            await slots(client)


async def test_lists_are_read_from_the_standby(replicated: Replicated) -> None:
    """They give the same answers there."""
    async with running(replicated.database, rate_limit_enabled=False) as client:
        expected = await slots(client)
    async with serving(replicated) as client:
        await until_used(client, "standby")
        assert await slots(client) == expected != []
        assert REGISTRY.get_sample_value("holdfast_standby_lag_seconds") is not None


async def test_no_answer_lacks_a_change_of_this_process(replicated: Replicated) -> None:
    """The standby stands still: the business that has changed is read from the primary, others from the standby."""
    replicated.database.make_service("haircut", business_id="other", capacity=1)
    replicated.wait_for_replay()
    async with serving(replicated) as client:
        await until_used(client, "standby")
        replicated.on_standby("SELECT pg_wal_replay_pause()::text")
        try:
            held = await client.post("/api/booking/reserve", json=SLOT)
            assert held.status_code == 201
            assert await slots(client) == []
            before = reads("standby")
            await client.get("/api/booking/availability", params=SLOTS | {"businessId": "other"})
            assert reads("standby") == before + 1
        finally:
            replicated.on_standby("SELECT pg_wal_replay_resume()::text")
        await until_used(client, "standby")
        assert await slots(client) == []


async def test_no_answer_shows_a_guest_that_this_process_has_erased(replicated: Replicated) -> None:
    """On demand and by the purge: the standby, which stands still, has the guest's data for longer."""
    replicated.database.rows("UPDATE booking.businesses SET guest_retention_days = 1")
    listed = {"businessId": "salon", "from": at(0).isoformat(), "to": at(24).isoformat()}
    person = {"businessId": "salon", "guestEmail": "guest@example.com"}
    async with serving(replicated) as client:
        for hour, request in enumerate(
            (
                client.build_request("POST", "/api/booking/guests/erase", json=person, headers=ADMIN),
                client.build_request("POST", "/cron/cleanup-reservations", headers=CRON),
            ),
            10,
        ):
            assert replicated.database.book(hour, service_id="haircut").name == "done"
            replicated.wait_for_replay()
            await until_used(client, "standby")
            replicated.on_standby("SELECT pg_wal_replay_pause()::text")
            try:
                replicated.database.move_clock(timedelta(days=60))
                assert (await client.send(request)).json()["erased"] == 1
                answer = await client.get("/api/booking/appointments", params=listed, headers=ADMIN)
                assert {item["guestEmail"] for item in answer.json()["items"]} == {None}
            finally:
                replicated.database.move_clock(timedelta(days=-60))
                replicated.on_standby("SELECT pg_wal_replay_resume()::text")


async def test_a_change_of_another_process_is_known_by_the_feed(
    replicated: Replicated, redis_server: RedisServer
) -> None:
    """With Redis, a page that loads again because of another process's change sees it."""
    settings = {"redis_url": SecretStr(redis_server.url)}
    async with serving(replicated, **settings) as here, serving(replicated, **settings) as there:
        await until_both_listen(redis_server)
        await until_used(here, "standby")
        replicated.on_standby("SELECT pg_wal_replay_pause()::text")
        try:
            assert (await there.post("/api/booking/reserve", json=SLOT)).status_code == 201
            with anyio.fail_after(4):
                while await slots(here):
                    pass
        finally:
            replicated.on_standby("SELECT pg_wal_replay_resume()::text")


async def test_a_standby_that_lags_is_not_read(replicated: Replicated, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other processes changed without Redis is missing for a bounded time."""
    monkeypatch.setattr(standby, "MOST_LAG_SECONDS", 0.3)
    async with serving(replicated) as client:
        await until_used(client, "standby")
        replicated.on_standby("SELECT pg_wal_replay_pause()::text")
        try:
            assert replicated.database.reserve(9, service_id="haircut").name == "done"
            changed_at = time.monotonic()
            while time.monotonic() - changed_at <= standby.MOST_LAG_SECONDS:
                await slots(client)
            before = reads("standby")
            assert await slots(client) == []
            assert reads("standby") == before
        finally:
            replicated.on_standby("SELECT pg_wal_replay_resume()::text")
        await until_used(client, "standby")


async def test_the_primary_answers_while_the_standby_is_gone(replicated: Replicated) -> None:
    """No read fails, and the standby is read again when it is back."""
    async with serving(replicated) as client:
        await until_used(client, "standby")
        replicated.standby.stop()
        try:
            for _ in range(20):
                assert await slots(client)
            await until_used(client, "primary")
            assert (await client.get("/health/ready")).status_code == 200
        finally:
            replicated.standby.start()
        await until_used(client, "standby")


async def test_a_read_that_the_standby_ends_is_answered(replicated: Replicated) -> None:
    """A standby ends reads that are in the way of its replay."""
    async with serving(replicated) as client:
        for _ in range(5):
            await until_used(client, "standby")
            replicated.on_standby(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'holdfast'"
            )
            assert await slots(client)


async def test_a_server_that_is_no_standby_is_not_read(
    replicated: Replicated, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a failover the address may name the primary, or a former one that has gone its own way."""
    before = reads("standby")
    logged = ""
    async with serving(replicated, standby_database_url=SecretStr(replicated.database.url)) as client:
        with anyio.fail_after(30):
            while "no_standby" not in logged:
                assert await slots(client)
                logged += capsys.readouterr().err
        for _ in range(20):
            assert await slots(client)
    assert reads("standby") == before
    assert (logged + capsys.readouterr().err).count('"event":"no_standby"') == 1


async def test_only_the_listed_reads_run_on_the_standby(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No credential, no hold and no look-up before a change: deploy/scaling.md has the list."""
    used: set[str] = set()
    attempt = Database.attempt

    async def noting(self: Database, name: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self._name == "standby":
            used.add(name)
        return await attempt(self, name, *parameters)

    monkeypatch.setattr(Database, "attempt", noting)
    async with serving(replicated) as client:
        held = (await client.post("/api/booking/reserve", json=SLOT)).json()["reservationId"]
        booked = (
            await client.post("/api/booking/commit", json={"reservationId": held, "guestEmail": "a@b.test"})
        ).json()
        key = (
            await client.post(
                "/api/catalog/businesses/salon/keys", json={"name": "Desk", "role": "owner"}, headers=ADMIN
            )
        ).json()
        headers = {"Authorization": f"Bearer {key['key']}"}
        await until_used(client, "standby")
        feeds = (await client.get("/api/catalog/businesses/salon/calendar-feeds", headers=headers)).json()["items"]
        appointment = f"/api/booking/appointments/{booked['appointmentId']}"
        for path, query in {
            "/api/booking/availability/days": SLOTS
            | {"from": at(9).date().isoformat(), "to": at(9).date().isoformat()},
            "/api/booking/capacity": {name: SLOT[name] for name in SLOT},
            "/api/v1/public/salon": {},
            "/api/booking/appointments": {"businessId": "salon", "from": at(0).isoformat(), "to": at(24).isoformat()},
            "/api/booking/reservations": {"businessId": "salon"},
            appointment: {},
            f"{appointment}/audit": {},
            f"/api/booking/reservations/{held}": {},
            feeds[0]["path"]: {},
            "/api/catalog/businesses/salon/document": {},
            "/health/reservations": {},
        }.items():
            answer = await client.get(path, params=query or None, headers=headers)
            assert answer.status_code in (200, 503), (path, answer.text)
        moved = await client.patch(appointment, json={"notes": "Late", "expectedVersion": 1}, headers=headers)
        assert moved.status_code == 200
    page = (REPOSITORY / "deploy" / "scaling.md").read_text()
    [table] = re.findall(r"\| read on the standby \|.*?\n\n", page, re.DOTALL)
    assert used - {"log_position", "server_time", "session"} == set(
        re.findall(r"`(\w+)`", table.replace("read on the", ""))
    )
