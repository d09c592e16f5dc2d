"""A load generator that leaves the processor to what is measured: plain sockets, one thread, requests made beforehand.

Either a closed loop: each connection sends its next request when the last one was answered, so there are always as many
in flight as there are connections. Or at a steady pace, whatever the answers take; then a request's time runs from when
it was due, so that one slow answer shows in those that it made late. httpx would spend more time on a request than the
service does.
"""

import re
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
# Nobody answers for so long: longer than the service lets any request wait.
_SILENCE_SECONDS: Final = 20.0


@dataclass(slots=True)
class Measurement:
    """What one run of load showed. The warm-up counts for the statuses only."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """The latency that so many per cent of the requests did not exceed."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Silence(Exception):
    """The service does not answer."""


class _Connection:
    """One keep-alive connection with one request in flight."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_at = 0.0
        self._received = b""

    def send(self, request: bytes, due_at: float) -> None:
        self.due_at = due_at
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status, when the answer is complete."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise Silence("a connection was closed")
        self._received += chunk
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head + b"\r\n")
        if not separator or (length and len(body) < int(length[1])):
            return None
        self._received = b""
        return int(head[9:12])


def generate(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    warm_up_seconds: float,
    seconds: float,
    per_second: float | None = None,
) -> Measurement:
    """Keeps so many connections busy, or sends so many requests `per_second` over them. Raises `Silence`."""
    result = Measurement(seconds)
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        idle = deque(_Connection(port) for _ in range(connections))
        for connection in idle:
            stack.enter_context(connection.socket)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        due_at = time.perf_counter()
        begins = due_at + warm_up_seconds
        ends = begins + seconds
        while True:
            now = time.perf_counter()
            while idle and now < ends and due_at <= now:
                idle.popleft().send(next(requests), due_at if per_second else now)
                due_at += 1 / per_second if per_second else 0
            if now >= ends and len(idle) == connections:
                return result
            for key in _ready(selector, due_at - now if idle and now < ends else _SILENCE_SECONDS):
                connection = key.data
                status = connection.receive()
                if status is None:
                    continue
                now = time.perf_counter()
                result.statuses[status] += 1
                if begins <= now < ends:
                    result.latencies_ms.append((now - connection.due_at) * 1000)
                idle.append(connection)


def _ready(selector: selectors.BaseSelector, seconds: float) -> list[selectors.SelectorKey]:
    ready = selector.select(seconds)
    if not ready and seconds == _SILENCE_SECONDS:
        raise Silence(f"no answer in {_SILENCE_SECONDS:.0f} s")
    return [key for key, _ in ready]


def post(path: str, body: bytes) -> bytes:
    """A POST with JSON, as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
