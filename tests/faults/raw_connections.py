"""The application behind the protocol of `serve`, in this process, and connections to it, byte by byte."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http import protocol
from service.http.protocol import BoundedProtocol
from service.process.app import create_app
from tests.database import TestDatabase
from tests.http.conftest import make_settings

# The time that a request has to arrive here.
ARRIVAL_SECONDS: Final = 0.3
# Far longer than any wait of these tests, so that reaching it means a wait without end.
PATIENCE_SECONDS: Final = 20
# What the system takes of an answer, on both sides, before a client reads it: enough for its head.
NARROW_BYTES: Final = 4096
HEAD: Final = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
RESERVE: Final = b"POST /api/booking/reserve HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


@dataclass
class Answer:
    """An answer as it was received."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        """Returns the problem of the answer."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class Connection:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Sends bytes, whether or not the service still reads them."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """Returns the next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(head.split()[1]), headers, body)

    def finish(self) -> None:
        """Ends at once what this side sends."""
        self._writer.write_eof()

    def close(self) -> None:
        """Closes the connection from this side."""
        self._writer.close()

    async def ended(self) -> bool:
        """Returns whether the service has closed the connection without a further answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                # The answer to a byte that was under way when the service closed the connection.
                return True


class Listener:
    """The address of the service, and the connections to it."""

    def __init__(self, port: int, state: ServerState | None = None) -> None:
        self._port = port
        self._state = state
        self._writers: list[asyncio.StreamWriter] = []

    async def until(self, holds: Callable[[list[BoundedProtocol]], object]) -> None:
        """Returns when a condition holds of the connections that the service has."""
        assert self._state is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(cast(list[BoundedProtocol], [*self._state.connections])):  # noqa: ASYNC110 — a set
                await asyncio.sleep(0.01)

    async def connect(self, *, narrow: bool = False, address: str = "127.0.0.1") -> Connection:
        """Opens a connection from an address. A narrow one takes a few kilobytes from the service before they are
        read."""
        connecting = socket.socket()
        connecting.bind((address, 0))
        connecting.setblocking(False)
        if narrow:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=connecting, limit=NARROW_BYTES if narrow else 2**16)
        self._writers.append(writer)
        return Connection(reader, writer)

    async def hang_up(self) -> None:
        """Closes all connections."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@pytest.fixture
async def service(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    """Runs the application behind the protocol of `serve`, with a shorter timeout for a request."""
    monkeypatch.setattr(protocol, "REQUEST_ARRIVAL_SECONDS", ARRIVAL_SECONDS)
    database.make_service()
    app = create_app(make_settings(database.url))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    async with app.router.lifespan_context(app) as shared:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW_BYTES)
        server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config, state, dict(shared or {})), sock=listening
        )
        listener = Listener(server.sockets[0].getsockname()[1], state)
        try:
            yield listener
        finally:
            await listener.hang_up()
            await listener.until(lambda connections: not connections)
            server.close()
            await server.wait_closed()
