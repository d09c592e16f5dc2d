"""A load generator that leaves the processor to the service: plain sockets, one thread, one epoll.

A closed loop sends the next request on a connection when the last one was answered: there are always as many requests
in flight as connections. An open loop sends requests at a steady pace, however long the answers take; the latency of a
request then counts from the moment it was due, so that a slow answer shows in the requests that it delays.
"""

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

_CONTENT_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")
_ANSWER_BYTES: Final = 16 * 1024
# Longer than the service lets any request wait.
_SILENCE_SECONDS: Final = 20.0


@dataclass(slots=True)
class Measurement:
    """The answers of one run. Latencies are those after the warm-up; statuses and processor time are of all requests.

    cpu_seconds: the processor time of the generator.
    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Returns the latency that this percentage of the requests did not exceed; NaN without answers."""
        if not self.latencies_ms:
            return float("nan")
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Silence(Exception):
    """The service does not answer."""


class _Connection:
    """A keep-alive connection with at most one request in flight."""

    __slots__ = ("_received", "due_at", "socket")

    def __init__(self, port: int, address: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_at = 0.0
        self._received = b""

    def send(self, request: bytes, due_at: float) -> None:
        self.due_at = due_at
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """Returns the status if the answer is complete."""
        chunk = self.socket.recv(_ANSWER_BYTES)
        if not chunk:
            raise Silence("a connection was closed")
        received = self._received + chunk if self._received else chunk
        head_end = received.find(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(received, 0, head_end + 2) if head_end > 0 else None
        if head_end < 0 or (length and len(received) - head_end - 4 < int(length[1])):
            self._received = received
            return None
        self._received = b""
        return int(received[9:12])


def generate(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    warm_up_seconds: float = 0.0,
    seconds: float = float("inf"),
    per_second: float | None = None,
    address: str = "127.0.0.1",
) -> Measurement:
    """Sends requests for a while or until there are no more, in a closed loop, or `per_second` in an open one.

    address: that of the generator. Raises `Silence`.
    """
    result = Measurement()
    cpu_before = time.process_time()
    interval = 1 / per_second if per_second else 0.0
    with select.epoll() as epoll, ExitStack() as stack:
        idle = deque(_Connection(port, address) for _ in range(connections))
        by_descriptor = {connection.socket.fileno(): connection for connection in idle}
        for descriptor, connection in by_descriptor.items():
            stack.enter_context(connection.socket)
            epoll.register(descriptor, select.EPOLLIN)
        due_at = time.perf_counter()
        begins = due_at + warm_up_seconds
        ends = begins + seconds
        while True:
            now = time.perf_counter()
            while idle and due_at <= now < ends:
                request = next(requests, None)
                if request is None:
                    ends = now
                    break
                idle.popleft().send(request, due_at if per_second else now)
                due_at += interval
            if now >= ends and len(idle) == connections:
                break
            for descriptor, _ in _ready(epoll, due_at - now if idle and now < ends else None):
                connection = by_descriptor[descriptor]
                status = connection.receive()
                if status is None:
                    continue
                now = time.perf_counter()
                result.statuses[status] += 1
                if begins <= now < ends:
                    result.latencies_ms.append((now - connection.due_at) * 1000)
                idle.append(connection)
    result.seconds = ends - begins
    result.cpu_seconds = time.process_time() - cpu_before
    return result


def _ready(epoll: select.epoll, seconds: float | None) -> list[tuple[int, int]]:
    """Waits for answers, either until the next request is due, or until the service counts as silent."""
    if seconds is not None:
        # epoll counts in milliseconds, which is too coarse for thousands of requests a second.
        select.select([epoll], [], [], max(0.0, seconds))
        return epoll.poll(0)
    ready = epoll.poll(_SILENCE_SECONDS)
    if not ready:
        raise Silence(f"no answer in {_SILENCE_SECONDS:.0f} s")
    return ready


def get(path: str) -> bytes:
    """Returns a GET request as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post_json(path: str, headers: str, body: str) -> bytes:
    """Returns a POST request as bytes, of a body that has only ASCII."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n{body}".encode()
