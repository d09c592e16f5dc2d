"""The stream of changes over real connections: it ends with the service, and is one line in the log."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from tests.acceptance.clients import slot
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.redis_server import RedisServer, patient_with_redis
from tests.serving import wait_until

pytestmark = pytest.mark.anyio

STREAM = "/api/booking/stream"
CUT = {"businessId": "salon", "serviceId": "cut"}


async def events(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """Yields the name and the data of each event of a stream."""
    name = ""
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


@pytest.mark.parametrize("workers", [1, 2])
async def test_streams_end_when_the_service_is_stopped(database: TestDatabase, serve: Serve, workers: int) -> None:
    """Each ends with a complete response, and the service does not wait for its shutdown timeout."""
    database.make_service(capacity=5)
    service = serve(WORKERS=workers)
    begun = ended = 0

    async def watch(client: httpx2.AsyncClient) -> None:
        nonlocal begun, ended
        async with client.stream("GET", STREAM, params=CUT) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            begun += 1
            async for _ in answer.aiter_lines():
                pass
            ended += 1

    async with service.client(connections=10) as client, anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(watch, client)
        with anyio.fail_after(30):
            while begun < 6:
                await anyio.lowlevel.checkpoint()
        service.terminate()
    assert ended == 6
    assert await anyio.to_thread.run_sync(service.wait) == 0
    lines = [line for line in service.events("request") if line["route"] == STREAM]
    assert [line["status"] for line in lines] == [200] * 6
    assert service.events("defect") == []
    assert "ASGI" not in service.log()
    # uvicorn would log this after its timeout of 25 seconds.
    assert "Cancel" not in service.log()


async def test_a_disconnect_is_one_line_in_the_log_and_no_defect(database: TestDatabase, serve: Serve) -> None:
    """Most streams end by a disconnect."""
    database.make_service(capacity=5)
    service = serve()
    async with service.client() as client:
        async with client.stream("GET", STREAM, params=CUT) as answer:
            received = events(answer)
            await client.post("/api/booking/reserve", json=slot())
            name, data = await anext(received)
            assert (name, data["serviceIds"]) == ("changed", ["cut"])
        await anyio.to_thread.run_sync(
            wait_until, lambda: [line for line in service.events("request") if line["route"] == STREAM], "its line"
        )
    [line] = [line for line in service.events("request") if line["route"] == STREAM]
    assert (line["status"], line["code"]) == (200, None)
    assert service.events("defect") == []
    assert "ASGI" not in service.log()


async def test_with_redis_the_browsers_of_every_worker_receive_each_change(
    database: TestDatabase, serve: Serve, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Each of ten browsers receives each of ten changes once, whichever worker made it."""
    database.make_service(capacity=1000)
    service = serve(WORKERS=2, REDIS_URL=redis_server.url, **patient_with_redis(tmp_path))
    # Each worker reads from Redis on a connection of its own.
    await anyio.to_thread.run_sync(
        wait_until,
        lambda: sum(client["cmd"] == "xread" for client in redis_server.client.client_list()) == 2,
        "both workers to listen",
    )
    received: list[list[str]] = []

    async def watch(client: httpx2.AsyncClient, ready: anyio.Semaphore) -> None:
        async with client.stream("GET", STREAM, params=CUT) as answer:
            ready.release()
            seen: list[str] = []
            async for name, data in events(answer):
                assert name == "changed"
                seen.append(data["to"])
                if len(seen) == 10:
                    break
            received.append(sorted(seen))

    async with service.client(connections=30) as client, anyio.create_task_group() as tasks:
        ready = anyio.Semaphore(0)
        for _ in range(10):
            tasks.start_soon(watch, client, ready)
        for _ in range(10):
            await ready.acquire()
        with anyio.fail_after(30):
            for hour in range(10):
                # A new connection for each, so that both workers make some.
                async with service.client() as another:
                    assert (await another.post("/api/booking/reserve", json=slot(hour + 8))).status_code == 201
    assert len(received) == 10
    assert all(seen == received[0] and len(set(seen)) == 10 for seen in received)
