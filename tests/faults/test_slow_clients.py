"""Clients that send too slowly, too much, or what is not HTTP: each is answered or let go, the others are served."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http import protocol
from service.http.protocol import MAX_HEADERS, MAX_REST_BYTES, BoundedProtocol
from service.process.app import create_app
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.http.conftest import make_settings

pytestmark = pytest.mark.anyio

ARRIVAL_SECONDS = 0.3
# Far more than anything here takes: a wait that reaches it is one that never ends.
PATIENCE_SECONDS = 20
# After which uvicorn itself closes a connection, if nothing comes after an answer.
UVICORN_SECONDS = 5
HEAD = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
RESERVE = b"POST /api/booking/reserve HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@dataclass
class Answer:
    """What came back over a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        """The problem that it tells."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class Connection:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Sends, and does not mind that nobody listens any more."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(head.split()[1]), headers, body)

    async def ended(self) -> bool:
        """Whether the service has closed it, with nothing more to say."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read() == b""


class Listener:
    """The address of the service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Connection:
        """A new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return Connection(reader, writer)

    async def hang_up(self) -> None:
        """Closes all of them."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@pytest.fixture
async def service(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """The application behind the protocol that it has when it is served, which is less patient here."""
    monkeypatch.setattr(protocol, "REQUEST_ARRIVAL_SECONDS", ARRIVAL_SECONDS)
    database.make_service()
    app = create_app(make_settings(database.url))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    async with app.router.lifespan_context(app):
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0
        )
        listener = Listener(server.sockets[0].getsockname()[1])
        try:
            yield listener
        finally:
            await listener.hang_up()
            server.close()
            await server.wait_closed()


async def test_a_header_of_100_kb_is_refused(serve: Serve) -> None:
    """By the service as it runs, which goes on; and the answer is not lost although the client has more to send."""
    listener = Listener(serve().port)
    connection = await listener.connect()
    await connection.send(HEAD + b"Cookie: " + b"c" * 100_000 + b"\r\n\r\n")
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (431, "HEADERS_TOO_LARGE")
    assert refused.headers["connection"] == "close"
    assert refused.headers["x-request-id"] == refused.problem["requestId"]
    assert await connection.ended()
    usual = await listener.connect()
    await usual.send(HEAD + b"Cookie: " + b"c" * 30_000 + b"\r\n\r\n")
    assert (await usual.answer()).status == 200
    await listener.hang_up()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
        HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(MAX_HEADERS)) + b"\r\n",
        HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        HEAD + b"X: never-ending" * 10_000,
        b"GET /" + b"never-ending" * 10_000,
    ],
    ids=["address", "number", "one", "never ends", "address never ends"],
)
async def test_a_head_that_is_too_large_is_refused(service: Listener, request_: bytes) -> None:
    """In whatever way, and before its end has come."""
    connection = await service.connect()
    await connection.send(request_)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (431, "HEADERS_TOO_LARGE")
    await service.hang_up()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HELO\r\n\r\n", b"GET x y z\r\n\r\n"])
async def test_what_is_not_http_is_told_so(service: Listener, garbage: bytes) -> None:
    """As a problem, like everything else."""
    connection = await service.connect()
    await connection.send(garbage)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (400, "MALFORMED_REQUEST")
    await service.hang_up()


@pytest.mark.parametrize(
    "start", [b"GET /hea", HEAD, RESERVE + b"Content-Length: 100\r\n\r\n{"], ids=["address", "headers", "body"]
)
async def test_a_request_that_trickles_is_given_up(service: Listener, start: bytes) -> None:
    """However busily it sends a byte now and then; and if it had been a reservation, there is none."""
    connection = await service.connect()
    await connection.send(start)
    answer = asyncio.create_task(connection.answer())
    while not answer.done():
        await connection.send(b" " if start.startswith(RESERVE) else b"a")
        await asyncio.wait([answer], timeout=0.01)
    given_up = await answer
    assert (given_up.status, given_up.problem["code"]) == (408, "REQUEST_TIMEOUT")
    assert await connection.ended()


@pytest.mark.parametrize("answered", [False, True], ids=["at first", "after an answer"])
async def test_a_connection_without_a_request_is_closed(service: Listener, answered: bool) -> None:
    """Browsers open connections beforehand, and read an unasked 408 as the answer to what they send next."""
    connection = await service.connect()
    if answered:
        await connection.send(HEAD + b"\r\n")
        assert (await connection.answer()).status == 200
        # No request, and yet something: uvicorn's own timer has ended with it.
        await connection.send(b"\r\n")
    began = time.monotonic()
    assert await connection.ended()
    assert time.monotonic() - began < UVICORN_SECONDS


async def test_a_connection_stays_open_for_the_next_request(service: Listener) -> None:
    """The time for one to arrive ends when it has: what comes then is a pause, which uvicorn bounds."""
    connection = await service.connect()
    for _ in range(2):
        await connection.send(HEAD + b"\r\n")
        assert (await connection.answer()).status == 200
        await asyncio.sleep(2 * ARRIVAL_SECONDS)  # twice as long as a request may take to arrive


async def test_a_body_without_end_is_refused_and_then_left(service: Listener) -> None:
    """413 as soon as it is too much, and it can't hold the connection by going on."""
    connection = await service.connect()
    await connection.send(RESERVE + b"Content-Length: 10000000000\r\n\r\n" + b" " * 70_000)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (413, "PAYLOAD_TOO_LARGE")
    ended = asyncio.create_task(connection.ended())
    while not ended.done():
        await asyncio.gather(connection.send(b" "), return_exceptions=True)
        await asyncio.wait([ended], timeout=0.01)
    assert await ended


@pytest.mark.parametrize("length", [90_000, MAX_REST_BYTES], ids=["a little", "all that may follow"])
async def test_who_was_refused_before_its_body_had_ended_is_let_go(service: Listener, length: int) -> None:
    """However its end comes: no connection stays open for ever, and none takes requests that nobody answers."""
    connection = await service.connect()
    await connection.send(RESERVE + b"Content-Length: %d\r\n\r\n" % length + b" " * 70_000)
    assert (await connection.answer()).status == 413
    await connection.send(b" " * (length - 70_000))
    assert await connection.ended()


async def test_what_follows_a_body_is_no_header_and_has_an_end(service: Listener, database: TestDatabase) -> None:
    """Trailers are let pass, a few, and mean nothing. They fill no memory, of which they once took gigabytes."""
    database.make_service(capacity=1)
    body = json.dumps({"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}).encode()
    request = RESERVE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(body), body)
    connection = await service.connect()
    for status in (201, 409):
        await connection.send(request + b"Idempotency-Key: same\r\n\r\n")
        assert (await connection.answer()).status == status
    await connection.send(request + b"X-Trailer: aaaaaaaa\r\n" * (MAX_REST_BYTES // 20))
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert await connection.ended()


async def test_an_offer_to_speak_another_protocol_is_no_reason_to_lose_a_body(service: Listener) -> None:
    """Java's client offers HTTP/2 with every request over plain HTTP. Without a body nothing is lost by ignoring that;
    with one it is told what to leave out."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    connection = await service.connect()
    await connection.send(HEAD + offer + b"\r\n")
    assert (await connection.answer()).status == 200
    await connection.send(RESERVE + offer + b"Content-Length: 0\r\n\r\n")
    assert (await connection.answer()).problem["code"] == "VALIDATION_FAILED"
    await connection.send(RESERVE + offer + b"Content-Length: 2\r\n\r\n{}")
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (400, "MALFORMED_REQUEST")
    assert "Upgrade" in refused.problem["detail"]


async def test_a_widget_reads_these_refusals_in_its_own_shape(service: Listener) -> None:
    """As it does every other error."""
    connection = await service.connect()
    await connection.send(b"POST /api/v1/public/salon/book HTTP/1.1\r\nCookie: " + b"c" * 40_000 + b"\r\n\r\n")
    refused = await connection.answer()
    assert refused.status == 431
    assert json.loads(refused.body)["error"]["code"] == "HEADERS_TOO_LARGE"


async def test_a_slow_answer_is_not_the_clients_fault(service: Listener, database: TestDatabase) -> None:
    """Time runs while a request arrives, and not while it is worked on; also with more requests behind it."""
    body = json.dumps({"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}).encode()
    request = RESERVE + b"Content-Length: %d\r\n\r\n" % len(body) + body
    connection = await service.connect()
    with database.locked():
        await connection.send(request)
        await asyncio.to_thread(database.wait_until_blocked)
        await connection.send(request + b"\r\n")
        await asyncio.sleep(3 * ARRIVAL_SECONDS)  # three times as long as a request may take to arrive
    assert [(await connection.answer()).status, (await connection.answer()).status] == [201, 409]
