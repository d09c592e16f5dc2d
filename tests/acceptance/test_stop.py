"""The end of processes, by a signal or a kill: requests in flight are answered, and acknowledged holds stay."""

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
from tests.serving import ServiceProcess, begin_with, wait_until

pytestmark = pytest.mark.anyio

with_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")


def holds(database: TestDatabase) -> list[tuple[str, str]]:
    """Returns the idempotency key and the id of each hold."""
    return database.rows("SELECT idempotency_key, reservation_id::text FROM booking.reservations")


def wait_until_replaced(service: ServiceProcess, victim: int) -> None:
    """Waits until there are two workers again, none of which is the victim."""
    wait_until(lambda: len(service.worker_pids() - {victim}) == 2, "a new worker")


@with_proc
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_requests_in_flight_are_answered_when_the_service_stops(
    database: TestDatabase, serve: Serve, workers: int, sent: signal.Signals
) -> None:
    """All requests wait for a lock while the service stops, and each is decided once the lock is released. A terminal
    that is closed sends SIGHUP to all of its processes, and Ctrl-C SIGINT."""
    database.make_service(capacity=30)
    # At this level uvicorn logs the steps of its shutdown.
    with begin_with(signal.SIG_DFL, sent):
        service = serve(WORKERS=workers, LOG_LEVEL="debug")

    def stop() -> None:
        # A request that no worker has read is not in flight: its client gets no answer, and may retry.
        wait_until(lambda: service.connections_read() == 60, "all requests to be read")
        for pid in service.worker_pids() if sent != signal.SIGTERM else ():
            os.kill(pid, sent)
        service.process.send_signal(sent)
        wait_until(lambda: len(service.events("Shutting down")) == workers, "all workers to stop")
        wait_until(lambda: "Waiting for connections to close" in service.log(), "a worker that has requests in flight")

    async with service.client(connections=60) as client:
        answers = await race_behind_lock(client, reserves(client, 60), database, meanwhile=stop)
    assert statuses(answers) == {201: 30, 409: 30}
    assert await anyio.to_thread.run_sync(service.wait) == 0


def refuses(port: int) -> bool:
    """Returns whether connections to a port are refused."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


@with_proc
@pytest.mark.parametrize("workers", [1, 2])
async def test_new_connections_are_refused_at_once_while_the_service_stops(
    database: TestDatabase, serve: Serve, workers: int
) -> None:
    """A request in flight keeps the process alive, but a connection that no worker will serve must not be accepted."""
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
async def test_a_stop_under_load_loses_no_answer(database: TestDatabase, serve: Serve, workers: int) -> None:
    """The holds in the database are exactly those that were acknowledged to clients."""
    database.make_service(capacity=1_000_000)
    service = serve(WORKERS=workers)
    async with service.client(connections=30) as client:
        clients = Clients(client, slot())
        async with clients.running(30, retry=False):
            await clients.acknowledge(100)
            service.terminate()
            assert await anyio.to_thread.run_sync(service.wait) == 0
    assert clients.unexpected == []
    assert dict(holds(database)) == clients.acknowledged


@with_proc
async def test_a_killed_worker_is_replaced_and_nothing_acknowledged_is_lost(
    database: TestDatabase, serve: Serve
) -> None:
    """Workers are killed one after the other under load; clients that retry their key notice a pause at most."""
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
            # All workers are replacements by now.
            await clients.acknowledge(100)
    assert clients.unexpected == []
    assert dict(holds(database)) == clients.acknowledged
    replaced = {line["worker_pid"]: line["exit_status"] for line in service.events("worker_replaced")}
    assert replaced == dict.fromkeys(first, -signal.SIGKILL)
