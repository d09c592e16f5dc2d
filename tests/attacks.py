"""What a greedy client sends to a running service: on each of its connections all that it may, and more."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from tests.database import at

# The business at which it asks for long lists, and the most that they may have.
GREEDY: Final = "greedy"
HEAD: Final = b"Host: test\r\nAccept-Encoding: gzip;q=0\r\n"


def get(path: str) -> bytes:
    """Writes a request."""
    return f"GET {path} HTTP/1.1\r\n".encode() + HEAD + b"\r\n"


def booking_of(slug: str) -> bytes:
    """Writes a request of a widget."""
    return f"POST /api/v1/public/{slug}/book HTTP/1.1\r\n".encode() + HEAD + b"Content-Length: 0\r\n\r\n"


def pages(number: int) -> bytes:
    """Writes requests for the largest pages, each of which differs from all others."""
    start = at(0) + timedelta(minutes=number)
    query = f"businessId={GREEDY}&serviceId=cut&from={start:%Y-%m-%dT%H:%M:%SZ}&limit=2000"
    return get(f"/api/booking/availability?{query}")


def years(number: int) -> bytes:
    """Writes requests for the longest lists of dates."""
    first = (at(0) + timedelta(days=number % 20)).date()
    query = f"businessId={GREEDY}&serviceId=cut&from={first}&to={first + timedelta(days=365)}"
    return get(f"/api/booking/availability/days?{query}")


# By name: how many connections, and for each of them, by its number, all that is sent on it. Nothing is read.
ATTACKS: Final[dict[str, tuple[int, Callable[[int], bytes]]]] = {
    "requests ahead of their answers": (120, lambda _: get("/openapi.json") * 30 + get("/") * 1760),
    "names without end": (40, lambda n: b"".join(booking_of(f"{n}-{m}-" + "x" * 31_000) for m in range(8))),
    "pages that are not read": (80, pages),
    "lists of a year": (24, years),
    "incomplete heads": (500, lambda _: get("/").removesuffix(b"\r\n") + b"Cookie: " + b"c" * 30_000),
    "incomplete bodies": (
        500,
        lambda _: b"POST /api/booking/reserve HTTP/1.1\r\n" + HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 59_000,
    ),
}


async def send_all(port: int, requests: list[bytes]) -> list[socket.socket]:
    """Opens a connection for each of the requests, sends on each as much as the service takes, and reads nothing."""
    loop = asyncio.get_running_loop()
    opened = []
    for request in requests:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        with suppress(OSError):  # it is full, or the service has closed it
            connection.send(request)
        opened.append(connection)
    return opened


def close(opened: list[socket.socket]) -> None:
    """Closes connections, and forgets them."""
    while opened:
        opened.pop().close()
