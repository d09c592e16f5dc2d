"""Errors as application/problem+json (RFC 9457), or as booking widgets read them."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.types import Scope

from service.errors import PROBLEMS, HoldfastError
from service.http.answer import JSON, Answer

MEDIA_TYPE: Final = "application/problem+json"

# The calls of booking widgets are below this path: their errors of every status have a shape of their own.
WIDGETS: Final = "/api/v1/public/"


def problem_answer(scope: Scope, error: HoldfastError, headers: Mapping[str, str] | None = None) -> Answer:
    """Builds the answer for an error, and notes its code for the log line of the request."""
    scope["problem_code"] = error.code
    headers = dict(headers or {})
    if error.problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.problem.retry_after_seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if scope["path"].startswith(WIDGETS):
        status = 400 if error.code == "SLOT_UNAVAILABLE" else error.status
        return Answer(orjson.dumps(widget_body(error.code, error.detail, error.members)), status, headers, JSON)
    body = problem_body(error.code, scope["request_id"], error.detail, error.status)
    return Answer(orjson.dumps(body | error.members), error.status, headers, MEDIA_TYPE)


def problem_body(
    code: str, request_id: str | None, detail: str | None = None, status: int | None = None
) -> dict[str, Any]:
    """Returns the members that every problem has. `detail` and `status` default to those of the code."""
    problem = PROBLEMS[code]
    return {
        "type": f"/docs#{code}",
        "title": problem.title,
        "status": status or problem.status,
        "detail": detail or problem.detail,
        "code": code,
        "requestId": request_id,
    }


def widget_body(code: str, message: str, members: Mapping[str, object]) -> dict[str, Any]:
    """Returns an error as booking widgets read it: a slot that was taken is a TIME_CONFLICT there."""
    if code == "SLOT_UNAVAILABLE":
        error = {"code": "TIME_CONFLICT", "message": "This time slot is no longer available"}
        return {"success": False, "error": error, **members}
    return {"success": False, "error": {"code": code, "message": message, **members}}
