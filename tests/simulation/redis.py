"""A Redis with streams as the feed uses them, behind the simulated network: it speaks RESP3 to the real client."""

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Connection

# The instant in milliseconds at which the simulation begins.
_BEGINS_AT: Final = 1_795_000_000_000

EntryId = tuple[int, int]
Answer = str | int | list[Any] | dict[Any, Any] | Exception | None


class _Simple(str):
    """An answer like OK."""


class RedisSession:
    """A client's session: its commands run one after the other, and one of them may block it."""

    def __init__(self, redis: "SimulatedRedis", connection: Connection) -> None:
        self.connection = connection
        self._redis = redis
        self._received = b""
        self._commands: deque[list[str]] = deque()
        self._read: tuple[str, EntryId, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._is_closed = False

    def received(self, data: bytes) -> None:
        """Takes commands, of which the last may be a part."""
        self._received += data
        while (parsed := _parse(self._received)) is not None:
            command, self._received = parsed
            self._commands.append(command)
        self.run()

    def closed(self) -> None:
        """Ends the session. A frozen Redis runs later what has arrived."""
        if not self._redis.is_frozen:
            self._redis.forget(self)
        self._is_closed = True

    def run(self) -> None:
        """Runs what can be run."""
        if self._redis.is_frozen:
            return
        if self._read and self._is_overdue:
            self._unblock(None)
        while self._commands and self._read is None:
            answer = self._redis.execute(self, self._commands.popleft())
            if self._read is None:
                self._answer(answer)
            self._redis.wake_readers()
        if self._is_closed:
            self._redis.forget(self)

    def block(self, key: str, after: EntryId, count: int, seconds: float) -> None:
        """Waits for entries."""
        self._read = key, after, count
        self._is_overdue = False
        self._timer = self._redis.loop.call_later(seconds, self._end_block)

    def wake(self) -> bool:
        """Answers a blocked read if there are entries, and returns whether there were."""
        if self._read is None:
            return False
        answer = self._redis.entries_after(*self._read)
        if not answer:
            return False
        self._unblock(answer)
        return True

    def stop(self) -> None:
        """Runs nothing more."""
        self._commands.clear()
        self._read = None
        if self._timer:
            self._timer.cancel()

    def _end_block(self) -> None:
        self._is_overdue = True
        self.run()

    def _unblock(self, answer: Answer) -> None:
        self._read = None
        if self._timer:
            self._timer.cancel()
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self.connection.send(_encode(answer))


class SimulatedRedis:
    """The server. Its streams are trimmed by whole nodes, as a real one's are."""

    def __init__(self, loop: SimulatedLoop, randomness: random.Random, node_entries: int = 100) -> None:
        self.loop = loop
        self.is_frozen = False
        self.is_full = False
        self.is_down = False
        # By key, the entries in their order.
        self.streams: dict[str, dict[EntryId, list[str]]] = {}
        self._last_ids: dict[str, EntryId] = {}
        self._random = randomness
        self._node_entries = node_entries
        self.sessions: list[RedisSession] = []
        self.run_id = self._new_run_id()
        # What was ever appended, and whether its client closed the connection before.
        self.appended: list[tuple[list[str], bool]] = []
        # Set for a moment by each XADD.
        self.appending = asyncio.Event()

    # Its clients.

    def accept(self, connection: Connection) -> RedisSession:
        """Begins a session. Raises `ConnectionRefusedError`."""
        if self.is_down:
            raise ConnectionRefusedError
        session = RedisSession(self, connection)
        self.sessions.append(session)
        return session

    def forget(self, session: RedisSession) -> None:
        """Ends a session."""
        session.stop()
        if session in self.sessions:
            self.sessions.remove(session)

    def wake_readers(self) -> None:
        """Answers the blocked reads for which there are entries now."""
        for session in list(self.sessions):
            if session.wake():
                session.run()

    def execute(self, session: RedisSession, command: list[str]) -> Answer:
        """Runs a command."""
        name, *arguments = command
        match name:
            case "HELLO":
                return {"server": "redis", "proto": 3}
            case "SET":
                return self._out_of_memory() or _Simple("OK")
            case "INFO":
                return f"# Server\r\nrun_id:{self.run_id}\r\n"
            case "XADD":
                return self._out_of_memory() or self._xadd(session, arguments)
            case "XREAD":
                _, milliseconds, _, count, _, key, after = arguments
                position = key, _parse_id(after), int(count)
                entries = self.entries_after(*position)
                if not entries:
                    session.block(*position, int(milliseconds) / 1000)
                return entries
            case "XRANGE":
                key, first, last = arguments
                return [
                    _written(*entry) for entry in self._entries(key) if _parse_id(first) <= entry[0] <= _parse_id(last)
                ]
            case "XREVRANGE":
                key, _, _, _, count = arguments
                return [_written(*entry) for entry in list(self._entries(key))[: -int(count) - 1 : -1]]
            case _:
                return ValueError(f"ERR unknown command '{name}'")

    def entries_after(self, key: str, after: EntryId, count: int) -> Answer:
        """Returns the first entries of a stream after an id, as XREAD does; None if there are none."""
        entries = [_written(*entry) for entry in self._entries(key) if entry[0] > after][:count]
        return {key: entries} if entries else None

    # Its faults.

    def freeze(self) -> None:
        """Stops it, as SIGSTOP does."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Continues it: commands that have arrived run now, in any order of their clients."""
        self.is_frozen = False
        sessions = list(self.sessions)
        self._random.shuffle(sessions)
        for session in sessions:
            session.run()

    def fail(self, *, lost_seconds: float) -> None:
        """Ends it, or hands over to a replica. The entries of the last seconds are lost."""
        self.is_down = True
        self.is_frozen = False
        self.run_id = self._new_run_id()
        since = self._milliseconds() - lost_seconds * 1000
        for key, stream in self.streams.items():
            self.streams[key] = {entry_id: fields for entry_id, fields in stream.items() if entry_id[0] < since}
            self._last_ids[key] = max(self.streams[key], default=(0, 0))
        for session in list(self.sessions):
            self.forget(session)
            session.connection.cut(arrived=0.0)

    def start(self) -> None:
        """Starts it again."""
        self.is_down = False

    def flush(self) -> None:
        """Deletes everything."""
        self.streams.clear()
        self._last_ids.clear()

    def trim(self, key: str, length: int) -> None:
        """Deletes the oldest entries of a stream, to a length."""
        entries = list(self._entries(key))
        self.streams[key] = dict(entries[max(0, len(entries) - length) :])

    def append(self, key: str, fields: list[str]) -> str:
        """Appends an entry."""
        stream = self.streams.setdefault(key, {})
        last = self._last_ids.get(key, (0, 0))
        now = self._milliseconds()
        entry_id = (now, 0) if now > last[0] else (last[0], last[1] + 1)
        stream[entry_id] = fields
        self._last_ids[key] = entry_id
        return _written_id(entry_id)

    def _xadd(self, session: RedisSession, arguments: list[str]) -> str:
        key, _, _, maxlen, _, *fields = arguments
        self.appended.append((fields, session.connection.is_closed_by_client))
        self.appending.set()
        self.appending.clear()
        entry_id = self.append(key, fields)
        while (without_a_node := len(self.streams[key]) - self._node_entries) >= int(maxlen):
            self.trim(key, without_a_node)
        return entry_id

    def _out_of_memory(self) -> Exception | None:
        return ValueError("OOM command not allowed when used memory > 'maxmemory'.") if self.is_full else None

    def _entries(self, key: str) -> Iterator[tuple[EntryId, list[str]]]:
        return iter(self.streams.get(key, {}).items())

    def _milliseconds(self) -> int:
        return _BEGINS_AT + int(self.loop.time() * 1000)

    def _new_run_id(self) -> str:
        return f"{self._random.getrandbits(160):040x}"


def _parse(data: bytes) -> tuple[list[str], bytes] | None:
    """Takes one command off the bytes; None if it is not complete yet."""
    head, found, rest = data.partition(b"\r\n")
    if not found:
        return None
    words = []
    for _ in range(int(head[1:])):
        head, found, rest = rest.partition(b"\r\n")
        length = int(head[1:]) if found else 0
        if not found or len(rest) < length + 2:
            return None
        words.append(rest[:length].decode())
        rest = rest[length + 2 :]
    return words, rest


def _encode(answer: Answer) -> bytes:
    match answer:
        case None:
            return b"_\r\n"
        case Exception():
            return f"-{answer}\r\n".encode()
        case _Simple():
            return f"+{answer}\r\n".encode()
        case int():
            return f":{answer}\r\n".encode()
        case str():
            written = answer.encode()
            return b"$%d\r\n%b\r\n" % (len(written), written)
        case list():
            return b"*%d\r\n" % len(answer) + b"".join(map(_encode, answer))
        case dict():
            return b"%%%d\r\n" % len(answer) + b"".join(_encode(one) for pair in answer.items() for one in pair)


def _parse_id(text: str) -> EntryId:
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence)


def _written_id(entry_id: EntryId) -> str:
    return f"{entry_id[0]}-{entry_id[1]}"


def _written(entry_id: EntryId, fields: list[str]) -> list[Any]:
    return [_written_id(entry_id), fields]
