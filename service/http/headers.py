"""Headers that every answer has, whatever it is about: what a browser must not do with it."""

from typing import Any, Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Unless an answer says otherwise. Most hold personal data or a credential: the id of a reservation is one. And JSON
# that somebody opens in a browser is no page that could load or run anything.
_DEFAULTS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_HEADERS: Final = (
    "Authorization",
    "Idempotency-Key",
    "If-Match",
    "Last-Event-ID",
    "X-Client-Id",
    "X-Request-Id",
)
# Without this, scripts see no headers but a handful.
_ANSWER_HEADERS: Final = (
    "Idempotency-Replayed",
    "ETag",
    "Location",
    "X-Request-Id",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
)


class SafeDefaults:
    """ASGI middleware, the outermost: what goes out without it was written by the server itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""

        async def send_with_defaults(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                given = {name for name, _ in headers}
                headers += [default for default in _DEFAULTS if default[0] not in given]
            await send(message)

        await self._app(scope, receive, send_with_defaults if scope["type"] == "http" else send)


def cross_origin(origins: tuple[str, ...]) -> list[Middleware]:
    """What lets pages of these origins call the service from a browser.

    It goes around whatever makes errors: pages read them too. There are no cookies, so a page can do no more than
    anybody with the same token.
    """
    options: dict[str, Any] = {
        "allow_origins": origins,
        "allow_methods": _METHODS,
        "allow_headers": _REQUEST_HEADERS,
        "expose_headers": _ANSWER_HEADERS,
    }
    return [Middleware(CORSMiddleware, **options)] if origins else []
