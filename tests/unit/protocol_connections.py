"""Connections of the protocol to applications, with a transport that records what is written."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.http.connections import Connections
from service.http.protocol import BoundedProtocol

HEADERS = [(b"content-length", b"6")]


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


def answering(*parts: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = HEADERS) -> ASGIApp:
    """Makes an application that sends the parts of a body at once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 — ASGI
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    return app


answer_at_once = answering(b"answer")


def get(path: str = "/") -> bytes:
    """Writes a request."""
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


async def until_idle(protocol: BoundedProtocol) -> None:
    """Returns when the application has ended."""
    while protocol.tasks:  # noqa: ASYNC110 — a set of uvicorn's
        await asyncio.sleep(0)
