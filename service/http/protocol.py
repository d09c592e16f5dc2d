"""Uvicorn's HTTP protocol with bounds: how long a request may take to arrive, and how large it may be.

Uvicorn has neither. A client that sends a byte a minute would hold its connection for ever, and endless headers, before
the body or after it, would fill the memory.
"""

import asyncio
import os
from asyncio import TimerHandle
from typing import Any, Final, NoReturn

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import HoldfastError
from service.http.answer import problem_answer

# From the first byte of a request to its last, of 64 KB at most. A phone in a train needs a second or two; behind a
# proxy that buffers requests, as most do, it is milliseconds.
REQUEST_ARRIVAL_SECONDS: Final = 10.0
# Request line and headers. Ours are a few hundred bytes; the rest are cookies of other pages on the same domain.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
# All that may follow the head: a body, of which the application takes 64 KB, in chunks of any size, and trailers.
MAX_REST_BYTES: Final = 1024 * 1024
# How long the rest of a refused request is still read. If the connection were closed while the client sends, its system
# would discard the answer unread.
_LINGER_SECONDS: Final = 2.0

log = structlog.get_logger("service.request")

_NO_UPGRADE: Final = "This service speaks HTTP/1.1 only: send a request with a body without the header Upgrade."


class _Rejected(Exception):
    """Ends the parsing."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = b""
        # One timer for the connection, and the time at which the request must have arrived; None while none is awaited.
        # A request moves the time only: a timer for each costs more than its parsing.
        self._timer: TimerHandle | None = None
        self._deadline: float | None = None
        self._in_head = True
        # Bytes of the head in the chunks before the present one, and the length of that one.
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._rest_bytes = 0
        # The answer when the parser gives up: a code, and its detail.
        self._fault: tuple[str, str | None] = ("MALFORMED_REQUEST", None)
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._deadline = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        # For empty lines too, which begin no message and yet end the wait for the next request.
        if self._deadline is None:
            self._expect()
        self._chunk_bytes = len(data)
        super().data_received(data)
        if not self._refused:
            self._bound(len(data))

    def _bound(self, received: int) -> None:
        if self._in_head:
            self._head_bytes += received
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("HEADERS_TOO_LARGE")
            return
        self._rest_bytes += received
        if self._rest_bytes > MAX_REST_BYTES:
            if self.cycle.response_started:
                self._refused = True  # it has its answer, and time to read it
                self.loop.call_later(_LINGER_SECONDS, self.transport.close)
            else:
                self._refuse("PAYLOAD_TOO_LARGE")

    def on_message_begin(self) -> None:
        """Begins a request, whose time starts with its first byte."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._rest_bytes = 0
        self._expect()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header. Trailers are ignored."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Ends the head, and starts the application unless the head is too large."""
        if len(self.headers) > MAX_HEADERS or self._is_head_too_large():
            self._reject("HEADERS_TOO_LARGE")
        # Without a body the offer may be ignored; with one, the parser leaves the body to the other protocol.
        if self.parser.should_upgrade() and any(map(_announces_body, self.headers)):
            self._reject("MALFORMED_REQUEST", _NO_UPGRADE)
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # A request that was answered before its end was refused: the timer goes on, and closes the connection.
        if self._is_answering():
            self._deadline = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 — says that it is not HTTP, and no more
        self._refuse(*self._fault)

    def _unsupported_upgrade_warning(self) -> None:
        """Logs nothing: any client can offer an upgrade with each request."""

    def _is_head_too_large(self) -> bool:
        # No more than was received; only a long chunk is worth the sum.
        if self._head_bytes + self._chunk_bytes <= MAX_HEAD_BYTES:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES

    def _reject(self, code: str, detail: str | None = None) -> NoReturn:
        self._fault = (code, detail)
        raise _Rejected

    def _expect(self) -> None:
        """Gives the next request, or the rest of this one, its time to arrive."""
        self._deadline = self.loop.time() + REQUEST_ARRIVAL_SECONDS
        if self._timer is None:
            self._timer = self.loop.call_later(REQUEST_ARRIVAL_SECONDS, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._on_time)
        elif self._is_answering() and not self.cycle.more_body:
            # Beside a complete request that waits for its answer, another one has begun and is not complete.
            self._expect()
        elif (self._in_head and not self._head_bytes) or (not self._in_head and self.cycle.response_started):
            self.transport.close()
        else:
            self._refuse("REQUEST_TIMEOUT")

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, code: str, detail: str | None = None) -> None:
        """Answers a request that never reached the application."""
        self._refused = True
        self._deadline = None
        if self.transport.is_closing():
            return
        self.transport.write(_answer(self.url, HoldfastError(code, detail)))
        if self._is_answering() or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)


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
