"""Around every request: its id, its one line in the log, its count, and the answer to what nobody expected."""

import re
import time
from typing import Final
from uuid import uuid4

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.disconnect import ClientGone
from service.http.problems import problem
from service.observability.logging import begin_notes, where
from service.observability.metrics import count_request

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("service.request")


class Envelope:
    """ASGI middleware, the innermost of ours: it wraps the application itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        notes = begin_notes()
        status = 499  # the client went away before there was an answer

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
                # How things stand with a limit, whether this is an answer or a refusal.
                message["headers"].extend(scope.get("limit_headers", ()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except (ClientGone, ClientDisconnect):
            pass
        except Exception as error:
            log.error("defect", request_id=request_id, **where(error))
            if status == 499:
                await problem(Request(scope), "INTERNAL_ERROR")(scope, receive, send_with_id)
        finally:
            _tell(scope, request_id, status, time.perf_counter() - started, notes)


def _request_id(scope: Scope) -> str:
    """The caller's, if it is one that can be logged; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex


def _tell(scope: Scope, request_id: str, status: int, seconds: float, notes: dict[str, object]) -> None:
    """Names the route's template, never the path: that may hold the id of a reservation, which is a credential."""
    route = getattr(scope.get("route"), "path", None)
    code = scope.get("problem_code")
    count_request(scope["method"], route, status, code, seconds)
    log.info(
        "request",
        request_id=request_id,
        method=scope["method"],
        route=route,
        status=status,
        code=code,
        duration_ms=round(seconds * 1000, 2),
        **notes,
    )
