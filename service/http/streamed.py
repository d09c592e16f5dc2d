"""Answers whose body is written while it is sent, so that its size needs no memory."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.errors import HoldfastError
from service.http.disconnect import unless_gone

# A client that reads nothing for this long is treated as gone.
STALL_SECONDS: Final = 10.0


class StreamedAnswer:
    """An ASGI application that sends one answer in parts. An error after its start ends the body early, and the server
    closes the connection: the client sees that the answer is incomplete."""

    def __init__(
        self, parts: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._first: bytes | None = None
        self._parts = parts
        headers = {"content-type": media_type, **(headers or {})}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def begun(self) -> Self:
        """Reads the first part before the answer begins, so that a refusal or an outage is answered as such."""
        self._first = await anext(self._parts)
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            if scope["method"] != "HEAD":
                await unless_gone(receive, self._send_parts(send))
            await send({"type": "http.response.body", "body": b""})
        except HoldfastError as error:
            scope["problem_code"] = error.code
        finally:
            await self._parts.aclose()

    async def _send_parts(self, send: Send) -> None:
        """Sends the parts until they end. Raises `ClientDisconnect` for a client that reads nothing."""
        part, self._first = self._first, None
        part = part or await anext(self._parts, None)
        while part is not None:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError:
                raise ClientDisconnect from None
            part = await anext(self._parts, None)
