"""Answers whose body is written while it is sent, so that its size needs no memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.errors import HoldfastError
from service.http.disconnect import disconnected

# A client that reads nothing for this long is treated as gone.
STALL_SECONDS: Final = 10.0


class StreamedAnswer:
    """An ASGI application that sends one answer in parts. An error after its start ends the body early, and the server
    closes the connection: the client sees that the answer is incomplete."""

    def __init__(self, parts: AsyncIterator[bytes], media_type: str) -> None:
        self._parts = parts
        self._headers = [(b"content-type", media_type.encode())]

    @classmethod
    async def begin(cls, parts: AsyncIterator[bytes], media_type: str) -> Self:
        """Reads the first part before the answer begins, so that a refusal or an outage is answered as such."""
        first = await anext(parts)

        async def all_parts() -> AsyncIterator[bytes]:
            yield first
            async for part in parts:
                yield part

        return cls(all_parts(), media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        if scope["method"] != "HEAD":
            try:
                await self._send_parts(receive, send)
            except HoldfastError as error:
                scope["problem_code"] = error.code
                return
        await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(disconnected(receive))
        try:
            async for part in self._parts:
                if gone.done():
                    raise ClientDisconnect
                async with asyncio.timeout(STALL_SECONDS):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            raise ClientDisconnect from None
        finally:
            gone.cancel()
