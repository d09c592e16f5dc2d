"""A simulated TCP between clients and a server: slow, stalled, cut at any byte, or refused."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from tests.simulation.loop import SimulatedLoop

# How long bytes travel at most, to a server nearby.
CALM_SECONDS: Final = 0.003


class Session(Protocol):
    """The server's end of a connection."""

    def received(self, data: bytes) -> None:
        """Takes bytes from the client."""

    def closed(self) -> None:
        """Ends the session: the client, or the network, has ended the connection."""


class Server(Protocol):
    """What listens at the other end of a link."""

    def accept(self, connection: "Connection") -> Session:
        """Begins a session. Raises `ConnectionRefusedError`."""


class Direction:
    """Carries bytes one way and in their order. While it is stalled they wait, as TCP sends them again."""

    def __init__(self, link: "Link", deliver: Callable[[bytes | None], None]) -> None:
        self._link = link
        self._deliver = deliver
        self._under_way: deque[bytes | None] = deque()
        self._due = 0
        self.is_stalled = False

    def send(self, data: bytes | None) -> None:
        """Sends bytes; None is the end."""
        self._under_way.append(data)
        self._link.loop.call_later(self._link.delay(), self._arrive)

    def release(self) -> None:
        """Delivers what has waited."""
        self.is_stalled = False
        while self._due and not self.is_stalled:
            self._due -= 1
            self._pop()

    def drop(self) -> bytes:
        """Returns the bytes that have not arrived, which do not any more."""
        dropped = b"".join(data for data in self._under_way if data)
        self._under_way.clear()
        self._due = 0
        return dropped

    def _arrive(self) -> None:
        if self.is_stalled:
            self._due += 1
        else:
            self._pop()

    def _pop(self) -> None:
        # A cut connection has nothing left.
        if self._under_way:
            self._deliver(self._under_way.popleft())


class Connection(asyncio.Transport):
    """The client's end of a connection, as a transport of asyncio."""

    def __init__(self, link: "Link", protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._link = link
        self._protocol = protocol
        self._session: Session | None = None
        self.is_closed_by_client = False
        self._is_lost = False
        self.to_server = Direction(link, self._arrive_at_server)
        self.to_client = Direction(link, self._arrive_at_client)

    def open(self, server: Server) -> None:
        """Connects both ends."""
        self._session = server.accept(self)
        self._protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        """Sends bytes of the server."""
        self.to_client.send(data)

    def cut(self, *, arrived: float) -> None:
        """Resets the connection. This share of the bytes on their way to the server still arrives."""
        data = self.to_server.drop()
        if part := data[: round(len(data) * arrived)]:
            self._arrive_at_server(part)
        self.to_client.drop()
        self._end_session()
        self._lose(ConnectionResetError("cut"))

    # What asyncio calls.

    def write(self, data: Any) -> None:
        if not self.is_closed_by_client and not self._is_lost:
            self.to_server.send(bytes(data))

    def close(self) -> None:
        if not self.is_closed_by_client:
            self.is_closed_by_client = True
            self.to_server.send(None)
            self._lose(None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.is_closed_by_client or self._is_lost

    def get_write_buffer_size(self) -> int:
        return 0

    # The two ends.

    def _arrive_at_server(self, data: bytes | None) -> None:
        if data is None:
            self._end_session()
        elif self._session:
            self._session.received(data)

    def _arrive_at_client(self, data: bytes | None) -> None:
        if data is not None and not self.is_closing():
            self._protocol.data_received(data)

    def _end_session(self) -> None:
        self._link.connections.pop(self, None)
        if self._session:
            self._session.closed()
            self._session = None

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._link.loop.call_soon(self._protocol.connection_lost, error)


class Link:
    """The way of one client to a server."""

    def __init__(
        self, loop: SimulatedLoop, randomness: random.Random, server: Server, usual_seconds: float = CALM_SECONDS
    ) -> None:
        self.loop = loop
        # How long bytes travel at most.
        self.usual_seconds = self.slowest_seconds = usual_seconds
        self.is_refused = False
        # Ordered, for a run that repeats.
        self.connections: dict[Connection, None] = {}
        self._random = randomness
        self._server = server
        self._flowing = asyncio.Event()
        self._flowing.set()

    def delay(self) -> float:
        """Returns how long some bytes travel."""
        return self._random.uniform(0.0002, self.slowest_seconds)

    async def connect(self, protocol: asyncio.Protocol) -> Connection:
        """Opens a connection. Raises `ConnectionRefusedError`."""
        await asyncio.sleep(self.delay())
        await self._flowing.wait()
        if self.is_refused:
            raise ConnectionRefusedError
        connection = Connection(self, protocol)
        connection.open(self._server)
        self.connections[connection] = None
        return connection

    def stall(self, *directions: str) -> None:
        """Stalls `to_server`, `to_client` or both, for all connections; new ones are not opened."""
        self._flowing.clear()
        for connection in self.connections:
            for direction in directions:
                getattr(connection, direction).is_stalled = True

    def release(self) -> None:
        """Ends a stall."""
        self._flowing.set()
        for connection in list(self.connections):
            connection.to_server.release()
            connection.to_client.release()

    def cut(self) -> None:
        """Resets all connections."""
        for connection in list(self.connections):
            connection.cut(arrived=self._random.choice([0.0, self._random.random(), 1.0]))
