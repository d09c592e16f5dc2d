"""The order in which what clients send is parsed: in turns of the clients."""

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import cast

import pytest
from starlette.types import Receive, Scope, Send

from service.http.connections import Connections
from service.http.protocol import BoundedProtocol
from service.http.turns import ITERATIONS_OF_TURN, TURN_SECONDS, Turns
from service.process.serving import _RECEIVE_BUFFER_BYTES, _SEND_BUFFER_BYTES, _listen
from tests.unit.protocol_connections import Writes, connect, get, until_idle

pytestmark = pytest.mark.anyio


class Dear:
    """An application whose requests never end by themselves, on connections whose every parsing fills a turn."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()
        self._protocols: list[BoundedProtocol] = []
        self.connections = Connections(of_address=None)
        self.connections.turns = Turns(self._now)
        self._seconds = 0.0

    def _now(self) -> float:
        self._seconds += TURN_SECONDS
        return self._seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — ASGI
        self.begun.append(scope["path"])
        await self.end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def connect(self, address: str = "127.0.0.1") -> tuple[BoundedProtocol, Writes]:
        """Opens a connection from an address."""
        self._protocols.append(connect(self, self.connections, address)[0])
        return self._protocols[-1], cast(Writes, self._protocols[-1].transport)

    async def finish(self) -> None:
        """Ends all requests."""
        self.end.set()
        while self.connections.turns._waiting:  # noqa: ASYNC110 — a dict
            await asyncio.sleep(0)
        for protocol in self._protocols:
            await until_idle(protocol)


async def iterations(count: int) -> None:
    """Lets the event loop run some iterations."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def dear() -> AsyncIterator[Dear]:
    """Returns the application. Its requests end with the test."""
    dear = Dear()
    yield dear
    await dear.finish()


async def test_what_a_client_sends_on_many_connections_is_parsed_in_its_turns(dear: Dear) -> None:
    """A client that sends once is not behind all of it: the rest is not parsed, and no more is read. It has been
    parsed after a turn for each connection, and then reading goes on."""
    greedy = [dear.connect() for _ in range(10)]
    for number, (protocol, _) in enumerate(greedy):
        protocol.data_received(get(f"/{number}"))
    await iterations(ITERATIONS_OF_TURN + 1)
    dear.connect("127.0.0.2")[0].data_received(get("/other"))
    assert [protocol.cycle is not None for protocol, _ in greedy] == [True] * 3 + [False] * 7
    assert [transport.is_reading for _, transport in greedy] == [True] * 3 + [False] * 7
    await asyncio.sleep(0)
    assert dear.begun == ["/0", "/1", "/2", "/other"]
    await iterations(10 * ITERATIONS_OF_TURN)
    assert sorted(dear.begun) == sorted(["/other", *(f"/{number}" for number in range(10))])
    assert all(transport.is_reading for _, transport in greedy)


async def test_what_waits_for_its_turn_is_the_last_that_is_read(dear: Dear) -> None:
    """Also when the answer to the request before it is complete."""
    protocol, transport = dear.connect()
    protocol.data_received(get("/first"))
    dear.connect()[0].data_received(get("/second"))
    protocol.data_received(get("/third"))
    dear.end.set()
    await iterations(ITERATIONS_OF_TURN - 1)
    assert (len(transport.written), transport.is_reading) == (1, False)
    await iterations(10 * ITERATIONS_OF_TURN)
    assert "/third" in dear.begun


async def test_no_more_is_read_while_a_request_waits_for_its_answer(dear: Dear) -> None:
    """Also if what was received before has its turn in between."""
    protocol, transport = dear.connect()
    protocol.data_received(get("/1") + get("/2") + get("/3"))
    await asyncio.sleep(0)
    dear.end.set()
    await asyncio.sleep(0)
    dear.end.clear()
    assert (len(transport.written), transport.is_reading) == (1, True)
    for number in range(2):
        dear.connect()[0].data_received(get(f"/other/{number}"))
    protocol.data_received(b"GET /4 HT")
    assert protocol._is_held
    await iterations(10 * ITERATIONS_OF_TURN)
    assert (protocol._is_held, len(protocol.pipeline), transport.is_reading) == (False, 1, False)


async def test_a_request_that_was_held_waits_until_the_last_answer_is_taken(dear: Dear) -> None:
    """Its turn comes while the client has yet to take the answer before it: it is parsed, and begins afterwards."""
    protocol, transport = dear.connect()
    protocol.data_received(get("/first"))
    dear.connect()[0].data_received(get("/second"))
    protocol.data_received(get("/third"))
    transport.filled = protocol.pause_writing
    dear.end.set()
    await iterations(10 * ITERATIONS_OF_TURN)
    assert (sorted(dear.begun), transport.is_reading) == (["/first", "/second"], False)
    transport.filled = lambda: None
    protocol.resume_writing()
    await iterations(10 * ITERATIONS_OF_TURN)
    assert (sorted(dear.begun), transport.is_reading) == (["/first", "/second", "/third"], True)


async def test_a_request_behind_another_one_has_a_turn_of_its_own(dear: Dear) -> None:
    """It was parsed in a turn that is over when the answer to the other one is complete."""
    dear.connect()[0].data_received(get("/first") + get("/behind"))
    for number in range(3):
        dear.connect()[0].data_received(get(f"/{number}"))
    dear.end.set()
    await iterations(ITERATIONS_OF_TURN - 1)
    assert dear.begun == ["/first", "/0"]
    await iterations(10 * ITERATIONS_OF_TURN)
    assert sorted(dear.begun) == ["/0", "/1", "/2", "/behind", "/first"]


async def test_what_a_trusted_proxy_sends_is_parsed_at_once(dear: Dear) -> None:
    """Its connections bring the requests of many clients, whom the headers tell."""
    dear.connections = Connections([ip_network("127.0.0.1")])
    for _ in range(10):
        protocol, transport = dear.connect()
        protocol.data_received(get())
        assert protocol.cycle is not None
        assert transport.is_reading


async def test_the_requests_of_a_trusted_proxy_begin_in_turns_of_their_clients(dear: Dear) -> None:
    """A client that sends many does not delay another one behind the same proxy."""
    dear.connections = Connections([ip_network("127.0.0.1")])
    dear.connections.turns = Turns(dear._now)
    for client, count in (("192.0.2.1", 5), ("192.0.2.2", 1)):
        for number in range(count):
            sent = f"GET /{client}/{number} HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {client}\r\n\r\n"
            dear.connect()[0].data_received(sent.encode())
    await asyncio.sleep(0)
    assert dear.begun == ["/192.0.2.1/0", "/192.0.2.1/1"]
    await iterations(2 * ITERATIONS_OF_TURN)
    assert "/192.0.2.2/0" in dear.begun
    assert len(dear.begun) < 6


async def test_the_kernel_keeps_little_of_what_is_not_yet_read() -> None:
    """The kernel doubles what it is asked for."""
    with (
        _listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * _RECEIVE_BUFFER_BYTES
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * _SEND_BUFFER_BYTES
