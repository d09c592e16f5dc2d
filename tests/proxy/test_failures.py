"""Nodes and proxies that are killed, frozen and moved under load: no acknowledged hold is lost, none is made twice, and
the businesses of the other node go on."""

import asyncio
import subprocess
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from service.database.group_commit import RESEND_SECONDS
from tests.acceptance.clients import Clients, race, reserves
from tests.database import LOGIN, NO_DEADLINE, at, reserve_request
from tests.proxy.calls import ADMIN, BUSINESSES, NUMBERS, commit, hold, load, make_business, one_of_each, put
from tests.proxy.conftest import SETTINGS
from tests.proxy.installation import Installation
from tests.proxy.servers import NODE_PROGRAMS
from tests.serving import CRON_SECRET, ServiceProcess, run_command, wait_until

pytestmark = pytest.mark.anyio


async def knows(service: ServiceProcess, event: str, before: int) -> None:
    """Waits until the service logs another event."""
    await asyncio.to_thread(wait_until, lambda: len(service.events(event)) > before, event)


async def acknowledge_without_pause(clients: Clients, count: int) -> None:
    """Waits until further requests are granted, none of which is one of a failed batch: that would take longer."""
    for _ in range(count // 5):
        async with asyncio.timeout(RESEND_SECONDS):
            await clients.acknowledge(5)


async def test_a_killed_node_takes_none_of_the_others_businesses_with_it(
    servers: Installation, service: ServiceProcess
) -> None:
    """Its own get 503 with Retry-After at once, all others go on, and it serves again once it is back."""
    gone, back = (len(service.events(name)) for name in ("database_gone", "database_back"))
    async with service.client(connections=30) as client, load(client, servers, one_of_each(servers)) as [north, south]:
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
        servers.partitions[1].kill()
        try:
            await acknowledge_without_pause(north, 50)
            await knows(service, "database_gone", gone)
            for _ in range(3):
                await acknowledge_without_pause(north, 5)
                async with asyncio.timeout(RESEND_SECONDS):
                    answers = await race(client, reserves(client, 5, businessId=servers.business(1, 900)))
                for refused in answers:
                    assert (refused.status_code, refused.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
                    assert int(refused.headers["retry-after"]) > 0
        finally:
            servers.partitions[1].start()
        await knows(service, "database_back", back)
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
    assert {event["partition"] for event in service.events("database_gone")[gone:]} == {1}


async def test_a_call_to_several_nodes_fails_as_a_whole(servers: Installation, service: ServiceProcess) -> None:
    """The part of the node that is up takes effect all the same: therefore a batch of the service is of one node."""
    async with service.client() as client:
        businesses = [await make_business(client, servers.business(number, next(NUMBERS)), 9) for number in range(2)]
    batches = [Jsonb({"reserve": [reserve_request(10)]}) for _ in businesses]
    try:
        with psycopg.connect(servers.url, autocommit=True) as proxy:
            proxy.execute("SELECT FROM booking.businesses()")  # connects to both
            servers.partitions[1].kill()
            # The proxy's own error, or the last word of the node.
            with pytest.raises((psycopg.errors.InternalError, psycopg.errors.AdminShutdown)):
                proxy.execute("SELECT booking.execute(%s, %s, %s)", [businesses, batches, NO_DEADLINE])
        query = "SELECT FROM booking.reservations WHERE business_id = %s"
        await asyncio.to_thread(
            wait_until, lambda: servers.rows(servers.partitions[0], query, businesses[0]), "the hold on the other node"
        )
    finally:
        servers.partitions[1].start()


async def test_answers_say_what_could_not_be_asked(
    servers: Installation, service: ServiceProcess, tmp_path: Path
) -> None:
    """An unknown id may be on the node that is down; known ones, the purge and the start of a process go on."""
    gone, back = (len(service.events(name)) for name in ("database_gone", "database_back"))
    async with service.client() as client:
        businesses = [await make_business(client, servers.business(number, next(NUMBERS)), 9) for number in range(2)]
        holds = [await hold(client, business_id) for business_id in businesses]
        servers.partitions[0].kill()
        refused = await client.get(f"/api/booking/reservations/{uuid4()}")
        assert refused.status_code == 503
        await knows(service, "database_gone", gone)
        try:
            with ServiceProcess(tmp_path / "log", DATABASE_URL=servers.url, **SETTINGS) as fresh:
                async with fresh.client() as other:
                    await asyncio.to_thread(wait_until, lambda: fresh.events("database_gone"), "the other to know it")
                    found = await other.get(f"/api/booking/reservations/{holds[1]}")
                    assert (found.status_code, found.json()["businessId"]) == (200, businesses[1])
                    for unknown in (holds[0], uuid4()):
                        assert (await other.get(f"/api/booking/reservations/{unknown}")).status_code == 503
                    assert (await commit(other, holds[1])).status_code == 201
            health = await client.get("/health/reservations")
            assert health.status_code == 503
            assert health.json()["reasons"][0].startswith("partition_down: partition 0 does not answer")
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.get(BUSINESSES, headers=ADMIN)).status_code == 503
            purged = await client.post("/cron/cleanup-reservations", headers={"Authorization": f"Bearer {CRON_SECRET}"})
            assert purged.status_code == 200
            assert service.events("purge_incomplete")[-1]["partitions_down"] == [0]
            names = {servers.business(number, next(NUMBERS)): number for number in range(2)}
            for name, number in names.items():
                assert (await client.get(f"/api/v1/public/{name}")).status_code == (404 if number else 503)
            assert (await put(client, servers.business(1, next(NUMBERS)))).status_code == 201
        finally:
            servers.partitions[0].start()
        await knows(service, "database_back", back)
        assert (await commit(client, holds[0])).status_code == 201
        assert (await client.get(BUSINESSES, headers=ADMIN)).status_code == 200


async def test_check_takes_no_slug_for_stray_while_a_node_is_down(
    servers: Installation, service: ServiceProcess
) -> None:
    """The business of a slug is on the node that is down, its claim on the other one."""
    [business_id, slug] = one_of_each(servers)
    async with service.client() as client:
        assert (await put(client, business_id, slug=slug)).status_code == 201
    servers.partitions[0].kill()
    try:
        checked = await asyncio.to_thread(run_command, "check", DATABASE_URL=servers.url, **SETTINGS)
    finally:
        servers.partitions[0].start()
    assert checked.returncode == 1
    assert "partition_down: 0" in checked.stdout
    assert "stray_slug" not in checked.stdout


async def test_a_frozen_node_delays_only_its_own_businesses(servers: Installation, service: ServiceProcess) -> None:
    """It keeps its connections and answers nothing: the time limits end the calls, and the others never wait for it."""
    gone, back = (len(service.events(name)) for name in ("database_gone", "database_back"))
    async with service.client(connections=30) as client, load(client, servers, one_of_each(servers)) as [north, south]:
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
        servers.partitions[1].freeze()
        # More than there are connections for them.
        stuck = [
            asyncio.create_task(client.get(f"{BUSINESSES}/{servers.business(1, number)}", headers=ADMIN))
            for number in range(5)
        ]
        rounds = 0
        try:
            while len(service.events("database_gone")) == gone:
                await north.acknowledge(10)
                rounds += 1
        finally:
            servers.partitions[1].thaw()
        # Requests that wait for the frozen node are answered once it counts as gone, in the first round.
        assert rounds > 2
        await knows(service, "database_back", back)
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20), *stuck)


async def test_a_node_at_its_limit_of_connections_serves_those_that_it_has(
    servers: Installation, tmp_path: Path
) -> None:
    """PL/Proxy reports it as it reports a node that is gone. Bookings go on; only lists, whose pool has no link to the
    node yet, are refused."""
    query = {"serviceId": "cut", "from": at(9).isoformat(), "to": at(12).isoformat()}
    with ServiceProcess(tmp_path / "log", DATABASE_URL=servers.url, **SETTINGS) as service:
        async with (
            service.client(connections=30) as client,
            load(client, servers, businesses := one_of_each(servers)) as both,
        ):
            north_list, south_list = (
                client.build_request("GET", "/api/booking/availability", params={"businessId": business_id, **query})
                for business_id in businesses
            )
            await asyncio.gather(*(clients.acknowledge(20) for clients in both))
            servers.partitions[1].execute(f"ALTER ROLE {LOGIN} CONNECTION LIMIT 0")
            try:
                assert (await client.send(south_list)).status_code == 503
                await knows(service, "database_gone", 0)
                async with asyncio.timeout(20):
                    await asyncio.gather(*(clients.acknowledge(50) for clients in both))
                assert service.events("database_back") == []
                assert (await client.send(south_list)).status_code == 503
                assert (await client.send(north_list)).status_code == 200
                assert (await client.get("/health/reservations")).json()["reasons"][0].startswith("partition_down")
            finally:
                servers.partitions[1].execute(f"ALTER ROLE {LOGIN} CONNECTION LIMIT -1")
            await knows(service, "database_back", 0)
            assert (await client.send(south_list)).status_code == 200


async def test_a_killed_proxy_loses_nothing(servers: Installation, service: ServiceProcess) -> None:
    """The calls that it had sent take effect on the nodes, and the repeated requests find out."""
    async with service.client(connections=30) as client, load(client, servers, one_of_each(servers)) as both:
        for _ in range(2):
            await asyncio.gather(*(clients.acknowledge(20) for clients in both))
            servers.proxy.kill()
            await asyncio.to_thread(servers.proxy.start)
        await asyncio.gather(*(clients.acknowledge(20) for clients in both))


async def test_a_partition_moves_by_a_dump(servers: Installation, service: ServiceProcess) -> None:
    """As one that shares its server with others: the service loses its right to connect, and then its sessions."""
    former = servers.partitions[1]
    server = await asyncio.to_thread(servers.add_server, "south-restored")
    dump = server.folder.with_name("dump")
    async with service.client(connections=30) as client, load(client, servers, one_of_each(servers)) as [north, south]:
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
        former.execute(f"REVOKE CONNECT ON DATABASE holdfast FROM PUBLIC, {LOGIN}")
        servers.rows(former, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", LOGIN)
        commands: list[list[str | Path]] = [
            [NODE_PROGRAMS / "pg_dump", "--format=custom", "--file", dump, former.url("holdfast")],
            [NODE_PROGRAMS / "pg_restore", "--exit-on-error", "--dbname", server.url("holdfast"), dump],
        ]
        for command in commands:
            assert await asyncio.to_thread(subprocess.call, command) == 0
        servers.partitions[1] = server
        assert await asyncio.to_thread(servers.migrate) == ["proxy"]
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))


async def test_a_partition_moves_to_another_server(servers: Installation, service: ServiceProcess) -> None:
    """By streaming replication and a change of the proxy's options, under load: the steps of deploy/scaling.md."""
    former = servers.partitions[1]
    async with service.client(connections=30) as client, load(client, servers, one_of_each(servers)) as [north, south]:
        await south.acknowledge(20)
        server = await asyncio.to_thread(servers.add_standby, "south-again", former)
        streams = "SELECT FROM pg_stat_replication WHERE state = 'streaming'"
        await asyncio.to_thread(wait_until, lambda: servers.rows(former, streams), "the standby to stream")
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
        await asyncio.to_thread(former.stop)
        await asyncio.to_thread(server.wait_for_replay, former.end_of_log())
        server.execute("SELECT pg_promote()")
        servers.partitions[1] = server
        assert await asyncio.to_thread(servers.migrate) == ["proxy"]
        await asyncio.gather(north.acknowledge(20), south.acknowledge(20))
