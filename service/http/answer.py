"""Answers: a status, headers and a whole body, sent without another look at either."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

JSON: Final = "application/json"


class Answer:
    """An ASGI application that sends one answer. `media_type` is left out for an answer without a body."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()] if headers else []
        if media_type:
            self.headers.append((b"content-type", media_type.encode()))
        if status >= 200 and status != 204:
            self.headers.append((b"content-length", str(len(body)).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — ASGI
        """Sends the answer."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def answer(record: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Builds the answer that has a record as JSON."""
    return Answer(record.__pydantic_serializer__.to_json(record), status, headers, JSON)


def no_content() -> Answer:
    """Builds the answer of a call that has done its work and has nothing to return."""
    return Answer(status=204)
