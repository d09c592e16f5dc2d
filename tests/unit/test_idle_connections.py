"""How long a connection may be idle, and how long a request on it may take to arrive."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http import protocol as protocols
from service.http.protocol import BoundedProtocol
from tests.unit.protocol_connections import Writes, answer_at_once, connect, get, until_idle

pytestmark = pytest.mark.anyio


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


def connect_with_clock(app: ASGIApp) -> tuple[BoundedProtocol, Writes, Clock]:
    """Opens a connection that may be idle for 75 seconds, by a clock that the test sets."""
    protocol, transport = connect(app)
    protocol.timeout_keep_alive = 75
    return protocol, transport, Clock(protocol)


def assert_closed_at(seconds: float, transport: Writes, clock: Clock) -> None:
    """Lets time pass, and checks that the connection is closed then and not before."""
    clock.set(seconds - 0.1)
    assert not transport.closed
    clock.set(seconds)
    assert transport.closed


async def test_a_connection_is_closed_that_is_idle_for_too_long() -> None:
    """The time counts from the last answer."""
    protocol, transport, clock = connect_with_clock(answer_at_once)
    for seconds in (9, 83, 150):
        clock.set(seconds)
        protocol.data_received(get())
        await until_idle(protocol)
    assert_closed_at(225, transport, clock)
    assert len(transport.written) == 3


async def test_a_connection_is_not_idle_while_a_request_is_answered() -> None:
    """However long that takes."""
    is_time = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await is_time.wait()
        await answer_at_once(scope, receive, send)

    protocol, transport, clock = connect_with_clock(app)
    for seconds in (5, 1000):
        is_time.clear()
        protocol.data_received(get())
        await asyncio.sleep(0)
        clock.set(seconds + 500)
        assert not transport.closed
        is_time.set()
        await until_idle(protocol)
    assert_closed_at(1575, transport, clock)


async def test_a_connection_is_idle_once_the_rest_of_an_answered_request_arrived() -> None:
    """Many clients send the body behind the head: a refusal for the head alone must not close their connection early,
    when a proxy in front may be sending the next request."""
    protocol, transport, clock = connect_with_clock(answer_at_once)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
    await until_idle(protocol)
    clock.set(5)
    protocol.data_received(b"body")
    assert_closed_at(80, transport, clock)


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
    protocol, transport, clock = connect_with_clock(answer_at_once)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n" % framing)
    await until_idle(protocol)
    clock.set(5)
    protocol.data_received(rest)
    assert_closed_at(15, transport, clock)
    assert len(transport.written) == 1


@pytest.mark.parametrize("begins_at", [20, 70])
async def test_a_request_that_begins_on_an_idle_connection_has_its_usual_time(begins_at: int) -> None:
    """An empty line counts as its first byte."""
    protocol, transport, clock = connect_with_clock(answer_at_once)
    protocol.data_received(get())
    await until_idle(protocol)
    clock.set(begins_at)
    protocol.data_received(b"\r\n")
    assert_closed_at(begins_at + 10, transport, clock)


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
