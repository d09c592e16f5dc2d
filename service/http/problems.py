"""Errors as application/problem+json (RFC 9457)."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import KINDS, HoldfastError, Invalid

MEDIA_TYPE: Final = "application/problem+json"

# Those of the framework's own refusals that a caller can meet.
_CODES: Final = {
    400: "VALIDATION_FAILED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
}


# Booking widgets call addresses below this one, and read errors of every status in a shape of their own.
WIDGETS: Final = "/api/v1/public/"
_TIME_CONFLICT: Final = ("TIME_CONFLICT", "This time slot is no longer available")


def problem(
    request: Request, code: str, detail: str | None = None, status: int | None = None, **members: object
) -> Response:
    """The response for a code of service.errors, which is also left for the request's log line."""
    kind = KINDS[code]
    request.scope["problem_code"] = code
    headers = {}
    if kind.retry_after_seconds is not None:
        headers["Retry-After"] = str(kind.retry_after_seconds)
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if request.scope["path"].startswith(WIDGETS):
        status = 400 if code == "SLOT_UNAVAILABLE" else kind.status
        body, media_type = for_widget(code, detail or kind.detail, members), "application/json"
    else:
        status = status or kind.status
        request_id = request.scope.get("request_id")
        body, media_type = problem_body(code, request_id, detail, status) | members, MEDIA_TYPE
    return Response(json.dumps(body, separators=(",", ":")), status, headers, media_type)


def problem_body(
    code: str, request_id: str | None, detail: str | None = None, status: int | None = None
) -> dict[str, Any]:
    """The members that every problem has. `detail` and `status` are those of the code, unless others are given."""
    kind = KINDS[code]
    return {
        "type": f"/docs#{code}",
        "title": kind.title,
        "status": status or kind.status,
        "detail": detail or kind.detail,
        "code": code,
        "requestId": request_id,
    }


def for_widget(code: str, message: str, members: Mapping[str, object]) -> dict[str, Any]:
    """An error as booking widgets read it: a slot that was taken is a TIME_CONFLICT there."""
    if code == "SLOT_UNAVAILABLE":
        code, message = _TIME_CONFLICT
        return {"success": False, "error": {"code": code, "message": message}, **members}
    return {"success": False, "error": {"code": code, "message": message, **members}}


async def on_holdfast_error(request: Request, error: Exception) -> Response:
    """Any of our own errors."""
    assert isinstance(error, HoldfastError)
    members = dict(error.members)
    if error.code == "SLOT_UNAVAILABLE":
        members.setdefault("alternatives", [])
    return problem(request, error.code, error.detail, error.status, **members)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the router and the framework refuse."""
    assert isinstance(error, HTTPException)
    response = problem(request, _CODES.get(error.status_code, "VALIDATION_FAILED"))
    response.headers.update(error.headers or {})
    return response


def invalid(error: ValidationError) -> Invalid:
    """The faults of a request that does not have its shape, each with the field's path and what is wrong."""
    return Invalid("VALIDATION_FAILED", errors=[_fault(fault) for fault in error.errors(include_input=False)])


def _fault(fault: Any) -> dict[str, str]:
    return {"field": _path(fault["loc"]), "message": fault["msg"].removeprefix("Value error, ")}


def _path(location: Iterable[str | int]) -> str:
    return ".".join(str(part) for part in location)
