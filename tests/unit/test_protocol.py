"""How requests are read from a connection, and the answers of an application written to it."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import ip_network
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.http import protocol as protocols
from service.http.connections import Connections
from service.http.protocol import BoundedProtocol
from service.http.turns import ITERATIONS_OF_TURN, TURN_SECONDS, Turns
from service.process.serving import _RECEIVE_BUFFER_BYTES, _SEND_BUFFER_BYTES, _listen

pytestmark = pytest.mark.anyio

_HEADERS = [(b"content-length", b"6")]


class Writes:
    """A transport that records what is written at once."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = asyncio.Event()
        self.unsent_bytes = 0
        self.is_reading = True
        self.can_write_eof = lambda: False
        self.write_eof: Callable[[], object] = lambda: None
        # Called when something is written, as if the client took none of it.
        self.filled: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return (self._address, 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written.append(b"".join(parts))
        self.filled()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted.set()


def connect(
    app: Any, connections: Connections | None = None, address: str = "127.0.0.1"
) -> tuple[BoundedProtocol, Writes]:
    """Opens a connection to an application, beside others."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, date_header=False)
    config.server_header = False
    config.load()
    protocol = BoundedProtocol(config, ServerState(), {"connections": connections or Connections(of_address=None)})
    transport = Writes(address)
    protocol.connection_made(transport)  # type: ignore[arg-type]  # it has what is called
    return protocol, transport


async def until_idle(protocol: BoundedProtocol) -> None:
    """Returns when the application has ended."""
    while protocol.tasks:  # noqa: ASYNC110 — a set of uvicorn's
        await asyncio.sleep(0)


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

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})

    protocol, transport = connect(app)
    for _ in range(2):
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until_idle(protocol)
    assert transport.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", b"def"] * 2


@pytest.mark.parametrize("headers", [[], _HEADERS], ids=["stream", "with length"])
async def test_a_client_of_http_1_0_gets_no_chunks(headers: list[tuple[bytes, bytes]]) -> None:
    """It would take their lengths for a part of the body, which ends with the connection (RFC 9112, section 6.1)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.0\r\n\r\n")
    await until_idle(protocol)
    head = b"".join(b"%s: %s\r\n" % header for header in headers)
    assert transport.written == [b"HTTP/1.1 200 OK\r\n" + head + b"connection: close\r\n\r\nabc", b"def"]
    assert transport.closed


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


@pytest.mark.parametrize(("count", "is_refused"), [(protocols.MAX_HEADERS, False), (protocols.MAX_HEADERS + 1, True)])
async def test_the_headers_of_a_request_are_bounded(count: int, is_refused: bool) -> None:
    """As many as that reach the application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abcdef"})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: 1\r\n" * (count - 1) + b"\r\n")
    await until_idle(protocol)
    assert [written.split(b" ")[1] for written in transport.written] == [b"431" if is_refused else b"200"]


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
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await end.wait()
        await send({"type": "http.response.body", "body": b"def"})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
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

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abcdef"})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * (protocols.MAX_AHEAD + 2))
    assert transport.is_reading
    protocol.data_received(b"more")
    await until_idle(protocol)
    assert (len(transport.written), transport.closed) == (1 + protocols.MAX_AHEAD, True)


async def test_a_connection_that_takes_no_more_is_closed_after_the_last_answer() -> None:
    """Also if the answer was complete and waited for its client: a next request would be ignored."""
    protocol, transport = connect(answer_at_once)
    transport.filled = protocol.pause_writing
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
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

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"abcdef"})

    protocol, transport = connect(app)
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


class Clock:
    """An event loop whose timers go off when the test says what time it is."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        """Replaces the loop of a connection, which has just been opened."""
        self._loop, protocol.loop = protocol.loop, cast(Any, self)
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        assert protocol._timer is not None
        protocol._timer.cancel()
        protocol._timer = None
        protocol._expect()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._timers.append(asyncio.TimerHandle(self._now + seconds, callback, (), self._loop))
        return self._timers[-1]

    def set(self, seconds: float) -> None:
        """Lets time pass up to that many seconds after the connection was opened."""
        while due := [timer for timer in self._timers if timer.when() <= seconds]:
            first = min(due)
            self._timers.remove(first)
            self._now = first.when()
            if not first.cancelled():
                first._run()
        self._now = seconds


async def answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"answer"})


async def test_a_connection_is_closed_that_is_idle_for_too_long() -> None:
    """The time counts from the last answer."""
    protocol, transport = connect(answer_at_once)
    protocol.timeout_keep_alive = 75
    clock = Clock(protocol)
    for seconds in (9, 83, 150):
        clock.set(seconds)
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await until_idle(protocol)
    clock.set(224.9)
    assert not transport.closed
    clock.set(225)
    assert transport.closed
    assert len(transport.written) == 3


async def test_a_connection_is_not_idle_while_a_request_is_answered() -> None:
    """However long that takes."""
    is_time = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await is_time.wait()
        await answer_at_once(scope, receive, send)

    protocol, transport = connect(app)
    protocol.timeout_keep_alive = 75
    clock = Clock(protocol)
    for seconds in (5, 1000):
        is_time.clear()
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.sleep(0)
        clock.set(seconds + 500)
        assert not transport.closed
        is_time.set()
        await until_idle(protocol)
    clock.set(1574.9)
    assert not transport.closed
    clock.set(1575)
    assert transport.closed


async def test_a_connection_is_idle_once_the_rest_of_an_answered_request_arrived() -> None:
    """Many clients send the body behind the head: a refusal for the head alone must not close their connection early,
    when a proxy in front may be sending the next request."""
    protocol, transport = connect(answer_at_once)
    protocol.timeout_keep_alive = 75
    clock = Clock(protocol)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
    await until_idle(protocol)
    clock.set(5)
    protocol.data_received(b"body")
    clock.set(79.9)
    assert not transport.closed
    clock.set(80)
    assert transport.closed


@pytest.mark.parametrize(
    ("framing", "rest"),
    [
        (b"Content-Length: %d" % (protocols.MAX_REST_BYTES + 1), b"x" * (protocols.MAX_REST_BYTES + 1)),
        (b"Transfer-Encoding: chunked", b"no chunk"),
    ],
    ids=["too long", "malformed"],
)
async def test_the_rest_of_an_answered_request_gets_no_second_answer(framing: bytes, rest: bytes) -> None:
    """It would be taken for that to the next request. Nothing that follows is read, so it does not wait for the end of
    the idle time."""
    protocol, transport = connect(answer_at_once)
    protocol.timeout_keep_alive = 75
    clock = Clock(protocol)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n" % framing)
    await until_idle(protocol)
    clock.set(5)
    protocol.data_received(rest)
    clock.set(14.9)
    assert not transport.closed
    clock.set(15)
    assert (len(transport.written), transport.closed) == (1, True)


@pytest.mark.parametrize("begins_at", [20, 70])
async def test_a_request_that_begins_on_an_idle_connection_has_its_usual_time(begins_at: int) -> None:
    """An empty line counts as its first byte."""
    protocol, transport = connect(answer_at_once)
    protocol.timeout_keep_alive = 75
    clock = Clock(protocol)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until_idle(protocol)
    clock.set(begins_at)
    protocol.data_received(b"\r\n")
    clock.set(begins_at + 9.9)
    assert not transport.closed
    clock.set(begins_at + 10)
    assert transport.closed


async def test_what_an_idle_client_did_not_take_has_its_time() -> None:
    """Its connection is closed, and dropped if the rest of the last answer is not taken."""
    protocol, transport = connect(None)
    clock = Clock(protocol)
    transport.unsent_bytes = 6
    clock.set(10)
    assert transport.closed
    clock.set(39.9)
    assert not transport.aborted.is_set()
    clock.set(40)
    assert transport.aborted.is_set()


@pytest.mark.parametrize("breaking", [b"\r\n", b"\n", b"\r"])
async def test_a_header_can_not_begin_another_one(breaking: bytes) -> None:
    """An answer with a line break in a header is not written at all."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        headers = [*_HEADERS, (b"location", b"/a" + breaking + b"set-cookie: b")]
        with pytest.raises(RuntimeError, match="line break"):
            await send({"type": "http.response.start", "status": 200, "headers": headers})

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until_idle(protocol)
    assert transport.written == []
    assert transport.closed


async def test_a_failure_of_the_application_ends_the_connection() -> None:
    """Uvicorn answers in its place, and says that it closes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        raise RuntimeError

    protocol, transport = connect(app)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
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


@pytest.fixture
async def dear() -> AsyncIterator[Dear]:
    """Returns the application. Its requests end with the test."""
    dear = Dear()
    yield dear
    await dear.finish()


def get(path: str) -> bytes:
    """Writes a request."""
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


async def test_what_a_client_sends_on_many_connections_is_parsed_in_its_turns(dear: Dear) -> None:
    """A client that sends once is not behind all of it: the rest is not parsed, and no more is read. It has been
    parsed after a turn for each connection, and then reading goes on."""
    greedy = [dear.connect() for _ in range(10)]
    for number, (protocol, _) in enumerate(greedy):
        protocol.data_received(get(f"/{number}"))
    for _ in range(ITERATIONS_OF_TURN + 1):
        await asyncio.sleep(0)
    dear.connect("127.0.0.2")[0].data_received(get("/other"))
    assert [protocol.cycle is not None for protocol, _ in greedy] == [True] * 3 + [False] * 7
    assert [transport.is_reading for _, transport in greedy] == [True] * 3 + [False] * 7
    await asyncio.sleep(0)
    assert dear.begun == ["/0", "/1", "/2", "/other"]
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert sorted(dear.begun) == sorted(["/other", *(f"/{number}" for number in range(10))])
    assert all(transport.is_reading for _, transport in greedy)


async def test_what_waits_for_its_turn_is_the_last_that_is_read(dear: Dear) -> None:
    """Also when the answer to the request before it is complete."""
    protocol, transport = dear.connect()
    protocol.data_received(get("/first"))
    dear.connect()[0].data_received(get("/second"))
    protocol.data_received(get("/third"))
    dear.end.set()
    for _ in range(ITERATIONS_OF_TURN - 1):
        await asyncio.sleep(0)
    assert (len(transport.written), transport.is_reading) == (1, False)
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
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
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert (protocol._is_held, len(protocol.pipeline), transport.is_reading) == (False, 1, False)


async def test_a_request_that_was_held_waits_until_the_last_answer_is_taken(dear: Dear) -> None:
    """Its turn comes while the client has yet to take the answer before it: it is parsed, and begins afterwards."""
    protocol, transport = dear.connect()
    protocol.data_received(get("/first"))
    dear.connect()[0].data_received(get("/second"))
    protocol.data_received(get("/third"))
    transport.filled = protocol.pause_writing
    dear.end.set()
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert (sorted(dear.begun), transport.is_reading) == (["/first", "/second"], False)
    transport.filled = lambda: None
    protocol.resume_writing()
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert (sorted(dear.begun), transport.is_reading) == (["/first", "/second", "/third"], True)


async def test_a_request_behind_another_one_has_a_turn_of_its_own(dear: Dear) -> None:
    """It was parsed in a turn that is over when the answer to the other one is complete."""
    dear.connect()[0].data_received(get("/first") + get("/behind"))
    for number in range(3):
        dear.connect()[0].data_received(get(f"/{number}"))
    dear.end.set()
    for _ in range(ITERATIONS_OF_TURN - 1):
        await asyncio.sleep(0)
    assert dear.begun == ["/first", "/0"]
    for _ in range(10 * ITERATIONS_OF_TURN):
        await asyncio.sleep(0)
    assert sorted(dear.begun) == ["/0", "/1", "/2", "/behind", "/first"]


async def test_what_a_trusted_proxy_sends_is_parsed_at_once(dear: Dear) -> None:
    """Its connections bring the requests of many clients, whom the headers tell."""
    dear.connections = Connections([ip_network("127.0.0.1")])
    for _ in range(10):
        protocol, transport = dear.connect()
        protocol.data_received(get("/"))
        assert protocol.cycle is not None
        assert transport.is_reading


async def test_the_kernel_keeps_little_of_what_is_not_yet_read() -> None:
    """The kernel doubles what it is asked for."""
    with (
        _listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * _RECEIVE_BUFFER_BYTES
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * _SEND_BUFFER_BYTES
