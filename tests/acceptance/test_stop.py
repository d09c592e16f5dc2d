"""Processes end, asked to or not: whoever was being served is answered, and what was acknowledged stays."""

import os
import signal
import socket
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.acceptance.clients import Clients, race_behind_lock, reserves, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.serving import ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")


def held(database: TestDatabase) -> list[tuple[str, str]]:
    """The holds: idempotency key and id."""
    return database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations")


def wait_until_replaced(service: ServiceProcess, victim: int) -> None:
    """Returns when there are two workers again, and the victim is none of them."""
    wait_until(lambda: len(service.worker_pids() - {victim}) == 2, "a new worker")


@with_proc
@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_in_flight_when_the_service_is_stopped_is_answered(
    database: TestDatabase, serve: Serve, workers: int
) -> None:
    """All requests wait for a lock while the service stops; when the lock is free each one is decided and told so."""
    database.make_service(capacity=30)
    # With which uvicorn says what it does.
    service = serve(WORKERS=workers, LOG_LEVEL="debug")

    def stop() -> None:
        # What a worker has not read yet is not in flight: its client gets no answer, and may send it again.
        wait_until(lambda: service.connections_read() == 60, "all requests to be read")
        service.terminate()
        wait_until(lambda: len(service.events("Shutting down")) == workers, "all workers to stop")
        wait_until(lambda: "Waiting for connections to close" in service.log(), "a worker that has somebody to answer")

    async with service.client(connections=60) as client:
        answers = await race_behind_lock(client, reserves(client, 60), database, meanwhile=stop)
    assert statuses(answers) == {201: 30, 409: 30}
    assert await anyio.to_thread.run_sync(service.wait) == 0


def refuses(port: int) -> bool:
    """Whether nobody listens on a port any more."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


@with_proc
@pytest.mark.parametrize("workers", [1, 2])
async def test_whoever_comes_when_the_service_is_being_stopped_is_refused_at_once(
    database: TestDatabase, serve: Serve, workers: int
) -> None:
    """While somebody else is still being answered: a connection that nobody will take any more is not accepted."""
    database.make_service()
    service = serve(WORKERS=workers)

    def stop() -> None:
        wait_until(lambda: service.connections_read() == 1, "the request to be read")
        service.terminate()
        wait_until(lambda: refuses(service.port), "the port to be closed", seconds=5)
        assert service.process.poll() is None

    async with service.client() as client:
        answers = await race_behind_lock(client, reserves(client, 1), database, meanwhile=stop)
    assert statuses(answers) == {201: 1}
    assert await anyio.to_thread.run_sync(service.wait) == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_under_load_every_hold_that_a_stopping_service_makes_is_told_to_its_client(
    database: TestDatabase, serve: Serve, workers: int
) -> None:
    """Nobody loses an answer to a deployment: what is in the database is what the clients know of, one by one."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=workers)
    async with service.client(connections=30) as client:
        clients = Clients(client, slot())
        async with clients.running(30, retry=False):
            await clients.acknowledge(100)
            service.terminate()
            assert await anyio.to_thread.run_sync(service.wait) == 0
    assert clients.unexpected == []
    assert dict(held(database)) == clients.acknowledged


@with_proc
async def test_a_killed_worker_is_replaced_and_nothing_acknowledged_is_lost(
    database: TestDatabase, serve: Serve
) -> None:
    """kill -9 on one worker after the other, under load: clients who retry their key never notice more than a pause."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=2)
    first = service.worker_pids()
    assert len(first) == 2
    async with service.client(connections=20) as client:
        clients = Clients(client, slot())
        async with clients.running(20, retry=True):
            for victim in first:
                await clients.acknowledge(100)
                os.kill(victim, signal.SIGKILL)
                await anyio.to_thread.run_sync(wait_until_replaced, service, victim)
            # None of those who answer now was there in the beginning.
            await clients.acknowledge(100)
    assert clients.unexpected == []
    assert dict(held(database)) == clients.acknowledged
    replaced = {line["pid"]: line["exit_status"] for line in service.events("worker_replaced")}
    assert replaced == dict.fromkeys(first, -signal.SIGKILL)
