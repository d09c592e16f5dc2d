"""One request, as far as it was read: what the machinery of HTTP and the handlers share about it."""

from typing import Any

from starlette.types import Receive, Scope

from service.booking.keys import Principal


class Call:
    """One request at one endpoint. `path` has the values of the path's template, by their names in it.

    Set once they are known: `client`, the client's name, or None where clients are not told apart; `network`, the name
    of the wider network of an IPv6 client; `principal`, None where the public or the scheduler calls; `guest_token`,
    the header of a guest who may call; `body` and `query`, as the handler declares them.
    """

    __slots__ = (
        *("_headers", "body", "client", "guest_token", "network", "path", "principal", "query", "receive", "scope"),
    )

    def __init__(self, scope: Scope, receive: Receive, path: dict[str, str]) -> None:
        self.scope = scope
        self.receive = receive
        self.path = path
        # Of a header that is repeated, the first counts.
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.client: str | None = None
        self.network: str | None = None
        self.principal: Principal | None = None
        self.guest_token: str | None = None
        self.body: Any = None
        self.query: Any = None

    def header(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def request_id(self) -> str:
        """The id of the request, as in the log and the answer."""
        request_id: str = self.scope["request_id"]
        return request_id

    @property
    def business_name(self) -> str | None:
        """The business that the path, query or body names: by its id, in public calls also by its slug."""
        return (
            self.path.get("slug")
            or self.path.get("businessId")
            or getattr(self.query, "business_id", None)
            or getattr(self.body, "business_id", None)
        )

    def set_business(self, business_id: str) -> None:
        """Replaces the name of the business by its id."""
        for name in {"slug", "businessId"} & self.path.keys():
            self.path[name] = business_id
        for part in (self.query, self.body):
            if getattr(part, "business_id", None):
                part.business_id = business_id

    @property
    def business_id(self) -> str | None:
        """The business that the request names; else the one whose key was sent."""
        return self.business_name or (self.principal.business_id if self.principal else None)
