"""Uvicorn's HTTP protocol with bounds: how long a request may take to arrive, and how large it may be.

Uvicorn has neither. A client that sends a byte a minute would hold its connection for ever, and one whose headers never
end, before the body or after it, would fill the memory.
"""

import asyncio
import json
from asyncio import TimerHandle
from typing import Any, Final, NoReturn
from uuid import uuid4

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import KINDS
from service.http.problems import MEDIA_TYPE, WIDGETS, for_widget, problem_body

# From the first byte of a request to its last, of 64 KB at most. A telephone in a train has it there in a second or
# two; behind a proxy that collects requests, as most do, it is milliseconds.
REQUEST_ARRIVAL_SECONDS: Final = 10.0
# Request line and headers. Ours are a few hundred bytes; the rest are cookies of others on the same domain.
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
# All that may follow the head: a body, of which the application takes 64 KB, in chunks of any size, and trailers.
MAX_REST_BYTES: Final = 1024 * 1024
# How long the rest of what was refused is still read. If the connection were closed while the client sends, its system
# would throw the answer away unread.
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
        self._timer: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._rest_bytes = 0
        # What the parser is told when it is not its own fault: a code, and what to say about it.
        self._fault: tuple[str, str | None] = ("MALFORMED_REQUEST", None)
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected: from now on we wait for a request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        if self._refused:
            return
        # Also empty lines, which begin no message and yet end the wait for the next request.
        self._start_timer()
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
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._rest_bytes = 0
        self._stop_timer()
        self._start_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the request. What comes after the body is nobody's."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of the head. Starts the application, unless the head is too large."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._reject("HEADERS_TOO_LARGE")
        # Without a body the offer is ignored, as it may be; with one, the parser leaves the body to the other protocol.
        if self.parser.should_upgrade() and any(map(_announces_body, self.headers)):
            self._reject("MALFORMED_REQUEST", _NO_UPGRADE)
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        super().on_message_complete()
        # Answered before its end had come, it was refused: the timer goes on, and closes the connection.
        if self._is_answering():
            self._stop_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 — says that it is not HTTP, and no more
        """The parser gave up."""
        self._refuse(*self._fault)

    def _unsupported_upgrade_warning(self) -> None:
        """Anybody can offer one, with each request: no news for the log."""

    def _reject(self, code: str, detail: str | None = None) -> NoReturn:
        self._fault = (code, detail)
        raise _Rejected

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(REQUEST_ARRIVAL_SECONDS, self._on_time)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        if self._is_answering() and not self.cycle.more_body:
            # Beside a request that is complete and waits for its answer, something began that is none yet.
            self._start_timer()
        elif self._in_head:
            if self._head_bytes:
                self._refuse("REQUEST_TIMEOUT")
            else:
                self.transport.close()
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse("REQUEST_TIMEOUT")

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, code: str, detail: str | None = None) -> None:
        """Answers what never got as far as the application."""
        self._refused = True
        self._stop_timer()
        if self.transport.is_closing():
            return
        self.transport.write(_answer(code, detail, for_widgets=self.url.startswith(WIDGETS.encode())))
        if self._is_answering() or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)


def _announces_body(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 \t") != b"")


def _answer(code: str, detail: str | None, *, for_widgets: bool) -> bytes:
    """The problem, as `service.http.problems` tells those of requests that could be read."""
    kind, request_id = KINDS[code], uuid4().hex
    log.info("request", request_id=request_id, status=kind.status, code=code)
    told = for_widget(code, detail or kind.detail, {}) if for_widgets else problem_body(code, request_id, detail)
    body = json.dumps(told, separators=(",", ":")).encode()
    headers = (
        f"content-type: {'application/json' if for_widgets else MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\n"
        "x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[kind.status] + headers.encode() + body
