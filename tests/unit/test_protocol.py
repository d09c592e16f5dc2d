"""How requests are read from a connection, and the answers of an application written to it."""

import asyncio
import gc
import weakref
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from service.http import protocol as protocols
from tests.unit.protocol_connections import HEADERS, answer_at_once, answering, connect, get, until_idle

pytestmark = pytest.mark.anyio


async def test_a_request_for_the_head_gets_it() -> None:
    """Its answer has no body, before which the head could be written. The connection takes the next request."""

    protocol, transport = connect(answer_at_once)
    for method, body in ((b"HEAD", b""), (b"GET", b"answer"), (b"HEAD", b"")):
        protocol.data_received(method + b" / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until_idle(protocol)
        assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n" + body]
        transport.written.clear()


async def test_the_head_is_written_with_the_body() -> None:
    """At once, for each request of a connection. What follows of a stream is written as it comes."""
    protocol, transport = connect(answering(b"abc", b"def"))
    for _ in range(2):
        protocol.data_received(get())
        await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", b"def"] * 2


async def test_a_large_body_is_written_without_a_copy() -> None:
    """All connections that read a document share its bytes. Short bodies are copied behind their heads."""
    short, large = b"s" * 16_384, b"l" * 16_385
    protocol, transport = connect(answering(short, headers=[(b"content-length", b"16384")]))
    protocol.data_received(get())
    await until_idle(protocol)
    assert len(transport.written) == 1
    protocol, transport = connect(answering(large, headers=[(b"content-length", b"16385")]))
    protocol.data_received(get())
    await until_idle(protocol)
    head, body = transport.written
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 16385\r\n\r\n"
    assert body is large


@pytest.mark.parametrize("headers", [[], HEADERS], ids=["stream", "with length"])
async def test_a_client_of_http_1_0_gets_no_chunks(headers: list[tuple[bytes, bytes]]) -> None:
    """It would take their lengths for a part of the body, which ends with the connection (RFC 9112, section 6.1)."""
    protocol, transport = connect(answering(b"abc", b"def", headers=headers))
    protocol.data_received(b"GET / HTTP/1.0\r\n\r\n")
    await until_idle(protocol)
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    assert transport.written == [b"HTTP/1.1 200 OK\r\n" + head + b"connection: close\r\n\r\nabc", b"def"]
    assert transport.closed


@pytest.mark.parametrize("line", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_a_body_has_no_chunks(line: bytes) -> None:
    """A client would take the end of the chunks for the beginning of the next answer."""
    protocol, transport = connect(answering(b"", status=int(line[:3]), headers=[]))
    protocol.data_received(get())
    await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 " + line + b"\r\n\r\n"]


async def test_the_permission_to_send_a_body_is_not_held_back() -> None:
    """The client waits for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer_at_once(scope, receive, send)

    protocol, transport = connect(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    protocol.data_received(b"{}")
    await until_idle(protocol)
    assert transport.written[1:] == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"]


async def test_a_head_without_a_body_is_not_sent() -> None:
    """An application that fails between the two has answered nothing: the connection is closed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})

    protocol, transport = connect(app)
    protocol.data_received(get())
    await until_idle(protocol)
    assert (transport.written, transport.closed) == ([], True)


@pytest.mark.parametrize(("count", "is_refused"), [(protocols.MAX_HEADERS, False), (protocols.MAX_HEADERS + 1, True)])
async def test_the_headers_of_a_request_are_bounded(count: int, is_refused: bool) -> None:
    """As many as that reach the application."""
    protocol, transport = connect(answer_at_once)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: 1\r\n" * (count - 1) + b"\r\n")
    await until_idle(protocol)
    assert [written.split(b" ")[1] for written in transport.written] == [b"431" if is_refused else b"200"]


@pytest.mark.parametrize("answered", [0, 1])
@pytest.mark.parametrize(
    "line", ["CONNECT test:443", "GET http://test:port/", "GET http://[::1/", "GET http:///", "GET http://test:99999/"]
)
async def test_a_malformed_url_is_refused(line: str, answered: int) -> None:
    """The parser of requests takes it, and the one of URLs does not. The client learns why its connection is closed,
    also behind an answered request."""
    protocol, transport = connect(answer_at_once)
    for _ in range(answered):
        protocol.data_received(get())
        await until_idle(protocol)
    protocol.data_received(f"{line} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    [refusal] = transport.written[answered:]
    assert refusal.startswith(b"HTTP/1.1 400 ")
    assert b"MALFORMED_REQUEST" in refusal
    assert transport.closed


@pytest.mark.parametrize(("url", "query"), [("http://test", b""), ("http://test?a=b", b"a=b")])
async def test_a_url_without_a_path_means_the_root(url: str, query: bytes) -> None:
    """RFC 9112, section 3.2.2."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/", b"/", query)
        await answer_at_once(scope, receive, send)

    protocol, transport = connect(app)
    protocol.data_received(get(url))
    await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a request a hundredth of a second to arrive."""
    monkeypatch.setattr(protocols, "REQUEST_ARRIVAL_SECONDS", 0.01)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("head", [b"\r\n", b"GET / HT"])
async def test_what_comes_beside_an_answer_does_not_cut_it(head: bytes) -> None:
    """An empty line, or the begin of a request: it has its time once the answer is complete."""
    end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await end.wait()
        await send({"type": "http.response.body", "body": b"def"})

    protocol, transport = connect(app)
    protocol.data_received(get())
    await asyncio.sleep(0)
    protocol.data_received(head)
    await asyncio.sleep(0.05)
    assert not transport.closed
    end.set()
    await until_idle(protocol)
    assert transport.written[-1] == b"def"


@pytest.mark.usefixtures("hurried")
async def test_a_refused_request_is_refused_once() -> None:
    """Its time to arrive ends while the rest of it is still read."""
    protocol, transport = connect(None)
    transport.can_write_eof = lambda: True
    protocol.data_received(b"GET / HTTP/1.1\r\nX: ")
    protocol.data_received(b"x" * protocols.MAX_HEAD_BYTES)
    await asyncio.sleep(0.05)
    assert len(transport.written) == 1


async def test_the_connection_of_a_refused_request_stays_open_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client may still be sending, and then reads the answer. One that never closes is disconnected."""
    monkeypatch.setattr(protocols, "_LINGER_SECONDS", 0.01)
    protocol, transport = connect(None)
    ends: list[bytes] = []
    transport.can_write_eof = lambda: True
    transport.write_eof = lambda: ends.extend(transport.written)
    protocol.data_received(b"GET / HTTP/2.0\r\nHost: test\r\n\r\n")
    assert (len(ends), transport.closed, transport.is_reading) == (1, False, True)
    async with asyncio.timeout(10):
        while not transport.closed:  # noqa: ASYNC110 — as the loop has no event for it
            await asyncio.sleep(0.01)


async def test_what_is_sent_after_too_many_requests_is_read_and_ignored() -> None:
    """Bytes that are not read would make the system discard the answers to the requests before them."""
    protocol, transport = connect(answer_at_once)
    protocol.data_received(get() * (protocols.MAX_AHEAD + 2))
    assert transport.is_reading
    protocol.data_received(b"more")
    await until_idle(protocol)
    assert (len(transport.written), transport.closed) == (1 + protocols.MAX_AHEAD, True)


async def test_a_connection_that_takes_no_more_is_closed_after_the_last_answer() -> None:
    """Also if the answer was complete and waited for its client: a next request would be ignored."""
    protocol, transport = connect(answer_at_once)
    transport.filled = protocol.pause_writing
    protocol.data_received(get())
    await until_idle(protocol)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999\r\n\r\n")
    protocol.data_received(b"x" * protocols.MAX_AHEAD_BYTES)
    assert not transport.closed
    protocol.resume_writing()
    assert (len(transport.written), transport.closed) == (1, True)


@pytest.mark.usefixtures("hurried")
async def test_a_body_that_is_late_ends_its_connection_at_once() -> None:
    """The application has begun, and must not write a second answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        while (await receive())["type"] != "http.disconnect":
            pass

    protocol, transport = connect(app)
    transport.can_write_eof = lambda: True
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n")
    await asyncio.sleep(0.05)
    assert (len(transport.written), transport.closed) == (1, True)
    protocol.connection_lost(None)
    await until_idle(protocol)


@pytest.mark.parametrize("is_full", [False, True])
async def test_the_rest_of_a_last_answer_has_its_time(monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    """Also if it fits into the buffer, or a part of it is taken: the end of a transport that closes is not reported."""
    monkeypatch.setattr(protocols, "ANSWER_SECONDS", 0.01)
    protocol, transport = connect(answer_at_once)
    transport.unsent_bytes = 6
    if is_full:
        transport.filled = protocol.pause_writing
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(0)
    assert transport.closed
    if is_full:
        protocol.resume_writing()
    await until_idle(protocol)
    async with asyncio.timeout(10):
        await transport.aborted.wait()


@pytest.mark.parametrize("breaking", [b"\r\n", b"\n", b"\r"])
async def test_a_header_can_not_begin_another_one(breaking: bytes) -> None:
    """An answer with a line break in a header is not written at all."""
    headers = [*HEADERS, (b"location", b"/a" + breaking + b"set-cookie: b")]
    protocol, transport = connect(answering(b"answer", headers=headers))
    protocol.data_received(get())
    await until_idle(protocol)
    assert transport.written == []
    assert transport.closed


async def test_a_failure_of_the_application_ends_the_connection() -> None:
    """Uvicorn answers in its place, and says that it closes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        raise RuntimeError

    protocol, transport = connect(app)
    protocol.data_received(get() * 2)
    await until_idle(protocol)
    [answer] = transport.written
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.count(b"connection: close\r\n") == 1
    assert transport.closed


async def test_an_offer_of_web_sockets_is_ignored() -> None:
    """Also where a library for them is installed: uvicorn would hand the connection over, without any bound."""
    protocol, transport = connect(answer_at_once)
    protocol.ws_protocol_class = cast(Any, pytest.fail)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"]


async def test_requests_behind_an_offer_of_another_protocol_are_answered() -> None:
    """The parser stops behind the offer. What had arrived with it would be lost, and its client wait in vain."""
    offer = b"GET /0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    protocol, transport = connect(answer_at_once)
    protocol.data_received(get() + offer + offer + get() + b"GET / HTTP/1.1\r\nHo")
    protocol.data_received(b"st: test\r\n\r\n")
    await until_idle(protocol)
    assert b"".join(transport.written).count(b"HTTP/1.1 200 OK") == 5


async def test_a_request_with_others_behind_it_ends_with_its_connection() -> None:
    """Not only the last one: the service would go on to work for a client that has left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        while (await receive())["type"] != "http.disconnect":
            pass

    protocol, _ = connect(app)
    protocol.data_received(get() * 3)
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.wait_for(until_idle(protocol), 5)


@pytest.mark.parametrize(
    ("sent", "waits"),
    [
        pytest.param(get() * 3, False, id="requests that wait"),
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
