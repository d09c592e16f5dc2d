"""How the answers of an application are written to a connection."""

import asyncio
import gc
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.http.connections import Connections
from service.http.protocol import BoundedProtocol

pytestmark = pytest.mark.anyio

_HEADERS = [(b"content-length", b"6")]


class Writes:
    """A transport that records what is written at once."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True


def connect(app: Any) -> tuple[BoundedProtocol, Writes]:
    """Opens a connection to an application."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, date_header=False)
    config.server_header = False
    config.load()
    protocol = BoundedProtocol(config, ServerState(), {"connections": Connections(of_address=None)})
    transport = Writes()
    protocol.connection_made(transport)  # type: ignore[arg-type]  # it has what is called
    return protocol, transport


async def until_idle(protocol: BoundedProtocol) -> None:
    """Returns when the application has ended."""
    while protocol.tasks:  # noqa: ASYNC110 — a set of uvicorn's
        await asyncio.sleep(0)


async def test_a_request_for_the_head_gets_it() -> None:
    """Its answer has no body, before which the head could be written. The connection takes the next request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"answer"})

    protocol, transport = connect(app)
    for method, body in ((b"HEAD", b""), (b"GET", b"answer"), (b"HEAD", b"")):
        protocol.data_received(method + b" / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until_idle(protocol)
        assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n" + body]
        transport.written.clear()


async def test_the_head_is_written_with_the_body() -> None:
    """At once, for each request of a connection. What follows of a stream is written as it comes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})

    protocol, transport = connect(app)
    for _ in range(2):
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", b"def"] * 2


async def test_an_answer_without_a_body_is_written() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    protocol, transport = connect(app)
    protocol.data_received(b"DELETE / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_the_permission_to_send_a_body_is_not_held_back() -> None:
    """The client waits for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abcdef"})

    protocol, transport = connect(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    protocol.data_received(b"{}")
    await until_idle(protocol)
    assert transport.written[1:] == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef"]


async def test_a_head_without_a_body_is_not_sent() -> None:
    """An application that fails between the two has answered nothing: the connection is closed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until_idle(protocol)
    assert (transport.written, transport.closed) == ([], True)


@pytest.mark.parametrize(
    ("sent", "waits"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 3, False, id="requests that wait"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n", True, id="a body to come"),
    ],
)
async def test_a_connection_that_is_gone_leaves_no_reference_cycle(sent: bytes, waits: bool) -> None:
    """Reference counts free it at once. A collection of hundreds stopped everything for milliseconds."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        while waits and (await receive())["type"] != "http.disconnect":
            pass

    protocol, _ = connect(app)
    protocol.data_received(sent)
    parts = weakref.ref(protocol), weakref.ref(protocol.cycle)
    gc.collect()
    gc.disable()
    try:
        protocol.connection_lost(None)
        await until_idle(protocol)
        del protocol, _
        assert [part() for part in parts] == [None, None]
    finally:
        gc.enable()
