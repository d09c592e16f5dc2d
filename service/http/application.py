"""The ASGI application of one process: routing, one wrapper around each request, and its line in the log."""

import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from service.errors import HoldfastError
from service.http.answer import problem_answer
from service.http.call import Call
from service.http.disconnect import Disconnects
from service.http.dispatch import Dispatcher
from service.http.endpoint import Endpoint
from service.http.origins import RefusedOrigins
from service.observability.logging import begin_notes, error_fields
from service.observability.metrics import count_request

# Sent with every answer that does not set them itself. Most answers hold personal data or a credential (the id of a
# reservation is one), and JSON opened in a browser must not load or run anything.
_SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_SAFE_NAMES: Final = frozenset(name for name, _ in _SAFE_HEADERS)
_CORS_OPTIONS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    # Also those that tracing or a proxy of the page adds: there are no cookies that they could misuse.
    "allow_headers": ("*",),
    # Without this, scripts see no headers but a handful.
    "expose_headers": (
        *("Idempotency-Replayed", "ETag", "Location", "X-Request-Id", "Retry-After"),
        *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    ),
}
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# The status in the log of a request whose client went away before there was an answer.
_CLIENT_GONE: Final = 499

log = structlog.get_logger("service.request")


class Address(NamedTuple):
    """A path, or the template of one, and its endpoints by their methods."""

    path: str
    endpoints: dict[str, Endpoint]


class Application(Starlette):
    """Starlette with a table of fixed paths in front, and one wrapper instead of its stack of middleware. Pages of the
    `cors_origins` may call from a browser."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        dispatcher: Dispatcher,
        *,
        lifespan: Lifespan[Any],
        cors_origins: tuple[str, ...] = (),
        tracing: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        super().__init__(lifespan=lifespan)
        self.endpoints = endpoints
        self._dispatcher = dispatcher
        self._disconnects = Disconnects()
        addresses: dict[str, Address] = {}
        for endpoint in endpoints:
            addresses.setdefault(endpoint.path, Address(endpoint.path, {})).endpoints[endpoint.method] = endpoint
        self._probes = {endpoint.path for endpoint in endpoints if endpoint.probe}
        self._fixed = {path: address for path, address in addresses.items() if "{" not in path}
        # By the number of slashes, because a pattern without a match has read the whole value of a parameter in vain.
        self._templates: defaultdict[int, list[tuple[re.Pattern[str], Address]]] = defaultdict(list)
        for path, address in addresses.items():
            if path not in self._fixed:
                self._templates[path.count("/")].append((compile_path(path)[0], address))
        # Errors have these headers too, because pages read them. There are no cookies, so a page can do no more than
        # any other client with the same token.
        self._answering: ASGIApp = self._answer
        if cors_origins:
            self._answering = CORSMiddleware(self._answer, allow_origins=cors_origins, **_CORS_OPTIONS)
        self._refused_origins = RefusedOrigins(cors_origins)
        self._http: ASGIApp = tracing(self._serve) if tracing else self._serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._http if scope["type"] == "http" else super().__call__)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gives a request its id, adds to its answer the headers of all answers, counts it and logs it."""
        started = time.perf_counter()
        # Of a header that is repeated, the first counts.
        headers = scope["headers_by_name"] = dict(reversed(scope["headers"]))
        request_id = scope["request_id"] = _request_id(headers)
        self._refused_origins.note(headers)
        notes = begin_notes()
        status = _CLIENT_GONE

        async def send_complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # The state of a limit belongs to answers and refusals alike.
                message["headers"] = [
                    *message["headers"],
                    *_safe_headers(message["headers"]),
                    (b"x-request-id", request_id.encode()),
                    *scope.get("limit_headers", ()),
                ]
            await send(message)

        try:
            await self._answering(scope, receive, send_complete)
        except ClientDisconnect:
            pass
        except Exception as error:
            log.error("defect", request_id=request_id, **error_fields(error))
        finally:
            seconds = time.perf_counter() - started
            # The template and never the path: that may hold the id of a reservation, which is a credential.
            route, code = scope.get("route"), scope.get("problem_code")
            count_request(scope["method"], route, status, code, seconds)
            log.log(
                logging.DEBUG if route in self._probes else logging.INFO,
                "request",
                request_id=request_id,
                method=scope["method"],
                route=route,
                status=status,
                code=code,
                duration_ms=round(seconds * 1000, 2),
                **notes,
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: ASGIApp
        try:
            response = await self._respond(scope, receive)
        except HoldfastError as error:
            response = problem_answer(scope, error)
        except ClientDisconnect:
            raise
        except Exception as error:
            log.error("defect", request_id=scope["request_id"], **error_fields(error))
            response = problem_answer(scope, HoldfastError("INTERNAL_ERROR"))
        await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> ASGIApp:
        address, values = self._find(scope["path"])
        scope["route"] = address.path
        # HEAD is answered like GET; the server leaves the body out.
        endpoint = address.endpoints.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if endpoint is None:
            allowed = {*address.endpoints, *(["HEAD"] if "GET" in address.endpoints else [])}
            return problem_answer(scope, HoldfastError("METHOD_NOT_ALLOWED"), {"Allow": ", ".join(sorted(allowed))})
        call = Call(scope, receive, values)
        work = await self._dispatcher.admit(endpoint, call)
        return await self._disconnects.unless_gone(receive, work)

    def _find(self, path: str) -> tuple[Address, dict[str, str]]:
        """Finds the address of a path, and the values in it. A trailing slash makes a different path, which is not
        redirected. Raises `HoldfastError` (NOT_FOUND)."""
        if address := self._fixed.get(path):
            return address, {}
        for pattern, address in self._templates.get(path.count("/"), ()):
            if match := pattern.fullmatch(path):  # its `$` would let a newline pass
                return address, match.groupdict()
        raise HoldfastError("NOT_FOUND")


def _safe_headers(headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    own = dict(headers)
    # Few answers have one of them.
    if _SAFE_NAMES.isdisjoint(own):
        return _SAFE_HEADERS
    return [header for header in _SAFE_HEADERS if header[0] not in own]


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """Returns the caller's id if it can be logged, else a new one."""
    sent = headers.get(b"x-request-id")
    return sent.decode("ascii") if sent and _REQUEST_ID.fullmatch(sent) else os.urandom(16).hex()
