"""Answers with a whole body: records, and errors as application/problem+json (RFC 9457) or as widgets read them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from service.errors import HoldfastError
from service.http.compression import LEAST_BYTES, Body, accepts_gzip

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
# The calls of a business by its slug. Below the slug they are those of booking widgets, whose errors of every status
# have a shape of their own.
PUBLIC: Final = "/api/v1/public/"
# For a browser, in which a person has opened a wrong link. It refers to no file, whose place would depend on the link.
# Programs may accept HTML as well without meaning it, so the API has no such answer.
_NO_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="color-scheme" content="light dark"><title>Holdfast</title>'
    "<h1>There is no page at this address. Please check the link.</h1>"
    '<p lang="de">Unter dieser Adresse gibt es keine Seite. Bitte pr\u00fcfen Sie den Link.</p></html>'
).encode()
_OF_WIDGET: Final = re.compile(PUBLIC + "[^/]*/")


class Answer:
    """An ASGI application that sends one answer, compressed if that is worth it and the client accepts it. `media_type`
    is left out for an answer without a body. A body that many answers have may be given as a `Body`."""

    __slots__ = ("_body", "headers", "status")

    def __init__(
        self,
        body: bytes | Body = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        self._body = body if isinstance(body, Body) else Body(body)
        self.status = status
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()] if headers else []
        if media_type:
            self.headers.append((b"content-type", media_type.encode()))
        if status not in (204, 304):
            self.headers.append((b"content-length", str(len(body)).encode()))

    @property
    def body(self) -> bytes:
        return self._body.plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — ASGI
        body, headers = self._body.plain, self.headers
        if len(body) >= LEAST_BYTES:
            headers = [*headers, (b"vary", b"Accept-Encoding")]
            if accepts_gzip(scope):
                body = await self._body.compressed()
                headers = [*_of_compressed(headers, len(body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _of_compressed(headers: Iterable[tuple[bytes, bytes]], length: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the headers of an answer as those of its compressed form, whose tag is weak: it is not equal byte by
    byte to the other form (RFC 9110, 8.8.3)."""
    yield b"content-encoding", b"gzip"
    for name, value in headers:
        if name == b"content-length":
            yield name, b"%d" % length
        elif name == b"etag" and value.startswith(b'"'):
            yield name, b"W/" + value
        else:
            yield name, value


def answer(record: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(record.__pydantic_serializer__.to_json(record), status, headers, JSON)


def problem_answer(scope: Scope, error: HoldfastError, headers: Mapping[str, str] | None = None) -> Answer:
    """Builds the answer for an error, and notes its code for the log line of the request."""
    scope["problem_code"] = error.code
    headers = dict(headers or {})
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.code == "NOT_FOUND" and _is_opened(scope):
        return Answer(_NO_PAGE, error.status, headers, "text/html; charset=utf-8")
    if _OF_WIDGET.match(scope["path"]):
        status = 400 if error.code == "SLOT_UNAVAILABLE" else error.status
        return Answer(orjson.dumps(widget_body(error.code, error.detail, error.members)), status, headers, JSON)
    return Answer(orjson.dumps(problem_body(error, scope["request_id"])), error.status, headers, PROBLEM)


def _is_opened(scope: Scope) -> bool:
    """Returns whether a browser opens an address outside of the API."""
    accepted: bytes = scope["headers_by_name"].get(b"accept", b"")
    return b"text/html" in accepted and not scope["path"].startswith("/api/")


def problem_body(error: HoldfastError, request_id: str | None) -> dict[str, Any]:
    """Returns an error as problem+json: the members that every problem has, and its own."""
    return {
        "type": f"/docs#{error.code}",
        "title": error.problem.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "requestId": request_id,
        **error.members,
    }


def widget_body(code: str, message: str, members: Mapping[str, object]) -> dict[str, Any]:
    """Returns an error as booking widgets read it: a slot that was taken is a TIME_CONFLICT there."""
    if code == "SLOT_UNAVAILABLE":
        error = {"code": "TIME_CONFLICT", "message": "This time slot is no longer available"}
        return {"success": False, "error": error, **members}
    return {"success": False, "error": {"code": code, "message": message, **members}}
