"""A TCP proxy in front of PostgreSQL, or of the service, that drops data at a chosen moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Forwards bytes both ways until a test makes it drop or hold them."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 5432)
        self._parts = parts
        self._port = 0
        # What the server answers to a login while it replays its log, and how often that was answered.
        self.starts_up = False
        self.refused = 0
        # Bytes of the server's answers, and others of the same length.
        self.replace = (b"", b"")
        self._links: set[asyncio.Task[None]] = set()
        self.lose_next_answer_to: bytes | None = None
        self.lost = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()
        self.hung_up = asyncio.Event()
        # How many bytes are forwarded, both ways together, before the link that carries the next one breaks. None: all.
        self.bytes_left: int | None = None

    def turn_to(self, target: str) -> None:
        """Forwards connections from now on to another port of the same host."""
        self._target = (self._target[0], urlsplit(target).port or 5432)

    @property
    def url(self) -> str:
        """Returns the target's URL through the proxy."""
        return self._parts._replace(
            netloc=f"{self._parts.username}:{self._parts.password}@127.0.0.1:{self._port}"
        ).geturl()

    @property
    def port(self) -> int:
        """Returns the port on which it listens."""
        return self._port

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        """Listens until the end of the block; a second time on the same port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()
            await server.wait_closed()

    def freeze(self) -> None:
        """Holds answers back while connections stay open, like a server that is stopped or paused."""
        self._flows.clear()

    def thaw(self) -> None:
        """Forwards the held answers, and those after them."""
        self._flows.set()

    async def cut(self) -> None:
        """Breaks all connections, on both sides."""
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._link(reader, writer))
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        # A callback, because a task that is cancelled before its start does not run.
        task.add_done_callback(lambda _: writer.close())

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if self.starts_up:
                await self._refuse(reader, writer)
                return
            try:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
            except OSError:
                return  # the target is down
            ends.append(far_writer)
            await self._forward(reader, writer, far_reader, far_writer)
        finally:
            for end in ends:
                end.close()
            await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a login with SQLSTATE 57P03, after refusing encryption."""
        while int.from_bytes(await reader.readexactly(4)) == 8:
            await reader.readexactly(4)
            writer.write(b"N")
        fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        writer.write(b"E" + (4 + len(fields)).to_bytes(4) + fields)
        await writer.drain()
        self.refused += 1

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        doomed = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(65536):
                if self.lose_next_answer_to and self.lose_next_answer_to in data:
                    self.lose_next_answer_to = None
                    doomed.set()
                kept = self._up_to_break(data)
                far_writer.write(kept)
                await far_writer.drain()
                if len(kept) < len(data):
                    return
            if not self._flows.is_set():
                self.hung_up.set()  # the client has closed its side while answers were held

        async def answer() -> None:
            while data := await far_reader.read(65536):
                await self._flows.wait()
                if doomed.is_set():
                    return  # the server has committed, and the answer is dropped
                kept = self._up_to_break(data)
                writer.write(kept.replace(*self.replace) if all(self.replace) else kept)
                await writer.drain()
                if len(kept) < len(data):
                    return

        halves = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            if doomed.is_set():
                self.lost.set()
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    def _up_to_break(self, data: bytes) -> bytes:
        """Returns the part of the data that is forwarded: all of it, unless a link breaks here."""
        if self.bytes_left is None:
            return data
        kept = data[: self.bytes_left]
        self.bytes_left = self.bytes_left - len(kept) if len(kept) == len(data) else None
        return kept
