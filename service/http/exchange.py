"""One request and its answer on a connection."""

from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

# A body of these would be taken for the next answer (RFC 9112, 6.3).
_WITHOUT_BODY: Final = (204, 304)
# Up to this length a copy of a body takes less time than a system call of its own.
_COPIED_BYTES: Final = 16_384


class Exchange(RequestResponseCycle):
    """Uvicorn's cycle, which writes an answer in one system call and takes half the time for its head.

    The head is held back until the first part of the body is written, as ASGI allows: written apart, they are two
    system calls and two packets. The application is our own: the order of its messages, its names of headers and the
    lengths that it declares are not checked again.
    """

    _head = b""

    async def send(self, message: Any) -> None:
        """Writes a part of the answer, once the client has taken enough of the parts before."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._written_head(message["status"], message["headers"])
            return
        is_last = not message.get("more_body", False)
        body = self._framed(message.get("body", b""), is_last)
        head, self._head = self._head, b""
        if head and len(body) > _COPIED_BYTES:
            # By itself, not as a copy: connections share the bytes of a large document. And not by `writelines`, which
            # never pauses the writer in the asyncio of Python 3.13.0.
            self.transport.write(head)
            self.transport.write(body)
        else:
            self.transport.write(head + body)
        if is_last:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _written_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Returns the head as bytes. Raises `RuntimeError` for a line break in a header, which would begin another."""
        lines = [b"%b: %b\r\n" % header for header in (*self.default_headers, *headers)]
        head = b"".join((STATUS_LINE[status], *lines))
        if not head.count(b"\n") == head.count(b"\r") == len(lines) + 1:
            raise RuntimeError("a header has a line break")
        has_body = self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        # HTTP/1.0 has no chunks: the end of the connection ends the body.
        chunked = has_body and b"\r\ncontent-length: " not in head and self.scope["http_version"] == "1.1"
        self.chunked_encoding = chunked
        has_close = b"\r\nconnection: close\r\n" in head
        self.keep_alive = self.keep_alive and not has_close
        closing = b"" if self.keep_alive or has_close else b"connection: close\r\n"
        return b"%b%b%b\r\n" % (head, closing, b"transfer-encoding: chunked\r\n" if chunked else b"")

    def _framed(self, body: bytes, is_last: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if not self.chunked_encoding:
            return body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk + b"0\r\n\r\n" if is_last else chunk
