"""Uvicorn's HTTP protocol with bounds: how long a request may take to arrive and an answer to be taken, how large a
request may be, and how many may be sent ahead.

Uvicorn has none of them. A client that sends a byte a minute, or reads none, would hold its connection for ever, and
endless headers, before the body or after it, or endless requests ahead of their answers would fill the memory.

A worker imports this module before it knows that it is one. So nothing that it imports may import the metrics, which
would take the worker for a process of its own.
"""

import asyncio
import os
from asyncio import TimerHandle
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import HoldfastError
from service.http.answer import problem_answer
from service.http.connections import SPARE_CONNECTIONS, Connections
from service.http.exchange import Exchange

# From the first byte of a request to its last, of 64 KB at most. A phone in a train needs a second or two; behind a
# proxy that buffers requests, as most do, it is milliseconds.
REQUEST_ARRIVAL_SECONDS: Final = 10.0
# Request line and headers. Ours are a few hundred bytes; the rest are cookies of other pages on the same domain.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
# All that may follow the head: a body, of which the application takes 64 KB, in chunks of any size, and trailers.
MAX_REST_BYTES: Final = 1024 * 1024
# Requests that may wait behind the one that is answered, and their bytes. Hardly any client sends requests ahead.
MAX_AHEAD: Final = 8
MAX_AHEAD_BYTES: Final = 64 * 1024
# How long a client may take to read an answer: 512 KB on a line of 140 kbit/s.
ANSWER_SECONDS: Final = 30.0
# How long the rest of a refused request is still read. If the connection were closed while the client sends, its system
# would discard the answer unread.
_LINGER_SECONDS: Final = 2.0

log = structlog.get_logger("service.request")

_NOT_HTTP_1: Final = "This service speaks HTTP/1.1, and HTTP/1.0."
_NO_HOST: Final = "A request needs exactly one header Host."
_PROBES: Final = b"/health/"
_NO_UPGRADE: Final = "This service speaks HTTP/1.1 only: send a request with a body without the header Upgrade."


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = b""
        self._connections: Connections = self.app_state["connections"]
        # Whether something that was received waits to be parsed.
        self._is_held = False
        # Whether the service has too many connections to serve this one.
        self._probes_only = False
        # The request that is being answered, or was last; `cycle` is the last that was received.
        self._answered: RequestResponseCycle | None = None
        # Bytes of the requests behind it.
        self._ahead_bytes = 0
        # Runs while a part of an answer is not taken.
        self._unsent_timer: TimerHandle | None = None
        # Whether the next request waits until the last answer is taken.
        self._waits_for_client = False
        # One timer for the connection: a timer for each request costs more than its parsing.
        self._timer: TimerHandle | None = None
        self._timer_seconds = min(REQUEST_ARRIVAL_SECONDS, self.timeout_keep_alive)
        # When the request must have arrived; None while no request is awaited.
        self._deadline: float | None = None
        # When the idle connection is closed; None while it is not idle.
        self._idle_until: float | None = None
        self._in_head = True
        # Bytes of the head, or of what follows it, in the chunks before the present one, and the length of that one.
        self._part_bytes = 0
        self._chunk_bytes = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        excess = self._connections.add(self, self.client[0] if self.client else "")
        self._probes_only = excess > 0
        if excess > SPARE_CONNECTIONS:
            transport.abort()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        for timer in (self._timer, self._unsent_timer):
            if timer:
                timer.cancel()
        self._timer = self._unsent_timer = self._deadline = self._idle_until = None
        super().connection_lost(exc)
        # Uvicorn tells the last request only.
        if self._answered and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        # Reference cycles are left to the garbage collector, which takes milliseconds for hundreds of connections.
        self.pipeline.clear()
        self.cycle = self._answered = None  # type: ignore[assignment]  # as before the first request

    def shutdown(self) -> None:
        """Ends the connection after its answer when the service stops; and the streams, which would last for ever."""
        self.app_state["end_streams"]()
        super().shutdown()

    def pause_writing(self) -> None:
        """Gives the client a time to take what was written."""
        super().pause_writing()
        self._connections.unsent(self, self.transport.get_write_buffer_size())
        self._limit_unsent()

    def resume_writing(self) -> None:
        """Goes on with the next request, once the client has taken the answer to the last one."""
        super().resume_writing()
        self._connections.taken(self)
        # A connection that closes is not called when the rest is taken: the timer goes on.
        if self._unsent_timer and not self.transport.is_closing():
            self._unsent_timer.cancel()
            self._unsent_timer = None
        if self._waits_for_client:
            self._waits_for_client = False
            self._go_on()

    def on_response_complete(self) -> None:
        """Begins with the next request, unless the client has yet to take this answer."""
        if self.transport.is_closing():
            self._limit_unsent()
        elif self.flow.write_paused:
            self._waits_for_client = True
            self.flow.pause_reading()
            return
        self._go_on()

    def _go_on(self) -> None:
        """Begins with the next request. Without one, the connection may be idle for a while if it takes another."""
        if self.transport.is_closing():
            return
        if not self._is_held:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._deadline is None and self._refused:
            self._close()
        elif self._deadline is None:
            self._idle_until = self.loop.time() + self.timeout_keep_alive
            self._start_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Closes the connection, in a turn of its client: one that leaves hundreds at once must not delay others."""
        self._connections.turns.begin(partial(self._connections.client, self, ()), self._close)
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any, *, has_turn: bool = False) -> None:
        if self._waits_for_client:
            self.pipeline.appendleft((cycle, app))
            return
        self._answered = cycle
        if has_turn:
            self._begin(cycle, app)
        else:
            client = partial(self._connections.client, self, cycle.scope["headers"])
            self._connections.turns.begin(client, partial(self._begin, cycle, app))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Parses what was received, in a turn of its client, which may send heads of 32 KB on hundreds of connections.
        Until then nothing more is read."""
        if self._refused:
            return
        # Empty lines begin no message, but they too end the wait for the next request.
        if self._deadline is None:
            self._expect()
        if self._connections.is_of_proxy(self):
            self._parse(data)
            return
        client = partial(self._connections.client, self, ())
        if not self._connections.turns.begin(client, partial(self._parse_in_turn, data)):
            self._is_held = True
            self.flow.pause_reading()

    def _parse_in_turn(self, data: bytes) -> None:
        self._is_held = False
        if self._refused or self.transport.is_closing():
            return
        if not self.pipeline and not self._waits_for_client:
            self.flow.resume_reading()
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as stopped:
            reason = stopped.__context__  # the exception of a callback
            self._refuse(reason if isinstance(reason, HoldfastError) else HoldfastError("MALFORMED_REQUEST"))
        if not self._refused:
            self._bound(len(data))

    def _feed(self, data: bytes) -> None:
        """Parses requests, and ignores offers of other protocols, which any client may make: the parser stops behind
        each of them."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
            else:
                return

    def _bound(self, received: int) -> None:
        self._ahead_bytes = self._ahead_bytes + received if self.pipeline else 0
        if self._ahead_bytes > MAX_AHEAD_BYTES:
            self._take_no_more()
            return
        self._part_bytes += received
        if self._part_bytes > (MAX_HEAD_BYTES if self._in_head else MAX_REST_BYTES):
            self._refuse(HoldfastError("HEADERS_TOO_LARGE" if self._in_head else "PAYLOAD_TOO_LARGE"))

    def on_message_begin(self) -> None:
        """Begins a request, whose time starts with its first byte."""
        super().on_message_begin()
        self._in_head = True
        self._part_bytes = 0
        self._expect()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header. Trailers are ignored."""
        # As uvicorn does, without one more call for each header.
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Ends the head, and starts the application. Raises `HoldfastError`, which ends the parsing."""
        if len(self.pipeline) >= MAX_AHEAD:
            raise HoldfastError("OVERLOADED")  # not answered: it would be taken for the answer to another request
        if len(self.headers) > MAX_HEADERS or self._is_head_too_large():
            raise HoldfastError("HEADERS_TOO_LARGE")
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise HoldfastError("MALFORMED_REQUEST", _NOT_HTTP_1)
        # RFC 9112, 3.2. HTTP/1.0 had none.
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise HoldfastError("MALFORMED_REQUEST", _NO_HOST)
        if self._probes_only and not self.url.startswith(_PROBES):
            raise HoldfastError("OVERLOADED")
        # Without a body the offer may be ignored; with one, the parser leaves the body to the other protocol.
        if self.parser.should_upgrade() and any(map(_announces_body, self.headers)):
            raise HoldfastError("MALFORMED_REQUEST", _NO_UPGRADE)
        # It fails for a malformed URL. Until it is done, there is no request that could have an answer of its own.
        self._complete_scope(version)
        self._in_head = False
        self._part_bytes = 0
        self._begin_exchange(keep_alive=version == "1.1" and self.parser.should_keep_alive() and not self._probes_only)

    def _complete_scope(self, version: str) -> None:
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"  # RFC 9112, 3.2.2: a URL without a path
        path = raw_path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = raw_path
        self.scope["query_string"] = url.query or b""

    def _begin_exchange(self, *, keep_alive: bool) -> None:
        """Starts the application, behind the requests that were sent before."""
        former = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if former is None or former.response_complete:
            # What a client sends is parsed in its turn, and what a proxy sends without one.
            self._start_asgi_task(self.cycle, self.app, has_turn=not self._connections.is_of_proxy(self))
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        """Ends a request. One that was refused may have been answered before."""
        super().on_message_complete()
        self._deadline = None
        if not self._is_answering() and not self._waits_for_client:
            self._go_on()

    def _is_head_too_large(self) -> bool:
        # No more than was received; only a long chunk is worth the sum.
        if self._part_bytes + self._chunk_bytes <= MAX_HEAD_BYTES:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES

    def _expect(self) -> None:
        """Gives the next request, or the rest of this one, its time to arrive."""
        self._deadline = self.loop.time() + REQUEST_ARRIVAL_SECONDS
        self._idle_until = None
        self._start_timer()

    def _start_timer(self) -> None:
        """Starts the timer, unless it runs. It ends before any time that is set until then."""
        if self._timer is None:
            self._timer = self.loop.call_later(self._timer_seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        due_at = self._deadline or self._idle_until
        if due_at is None:
            return
        left = due_at - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(min(left, self._timer_seconds), self._on_time)
        elif self._deadline is None:
            self._close()
        elif self._is_answering() and not self.cycle.more_body:
            # A complete request waits for its answer, and another one behind it has begun and is incomplete.
            self._expect()
        elif (self._in_head and not self._part_bytes) or (not self._in_head and self.cycle.response_started):
            self._close()
        else:
            self._refuse(HoldfastError("REQUEST_TIMEOUT"))

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: HoldfastError) -> None:
        """Answers a request, unless the application has answered it, and takes no more requests."""
        # The answer would be taken for that to the request before.
        if self.pipeline or (self._is_answering() and not self.cycle.more_body):
            self._take_no_more()
            return
        self._refused = True
        self._deadline = None
        if self.transport.is_closing():
            return
        if not self._in_head and self.cycle.response_started:
            self._expect()  # it has its answer, and some time to read that
            return
        self.transport.write(_answer(self.url, error))
        if self._is_answering() or not self.transport.can_write_eof():
            self._close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self._close)

    def _take_no_more(self) -> None:
        """Ignores what is sent from here on, and closes the connection after the answers to what was complete. The
        client sends the others again (RFC 9112, 9.3.2)."""
        self._refused = True
        self._deadline = None
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._answered
        assert last is not None
        last.keep_alive = False
        # Else the bytes that were not read would make the system discard the answers.
        self.flow.resume_reading()

    def _close(self) -> None:
        self.transport.close()
        self._limit_unsent()

    def _limit_unsent(self) -> None:
        """Drops the connection if its client does not take the rest of an answer in time."""
        if self._unsent_timer is None and self.transport.get_write_buffer_size():
            self._unsent_timer = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)


def _announces_body(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 \t") != b"")


def _answer(url: bytes, error: HoldfastError) -> bytes:
    """Returns the problem as bytes, like those of requests that the application answered."""
    request_id = os.urandom(16).hex()
    answer = problem_answer({"path": url.decode("latin-1"), "request_id": request_id}, error)
    log.info("request", request_id=request_id, status=answer.status, code=error.code)
    headers = [
        *answer.headers,
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    return STATUS_LINE[answer.status] + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + answer.body
