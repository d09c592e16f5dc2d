"""One request, as far as it was read: what the machinery of HTTP and the handlers share about it."""

from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope

from service.booking.keys import Principal


@dataclass(slots=True, eq=False)
class Call:
    """One request at one endpoint. What follows `path` is set once it is known."""

    scope: Scope
    receive: Receive
    # The values of the path's template, by their names in it.
    path: dict[str, str]
    # The names of the client, and of the wider network of an IPv6 client; None where clients are not distinguished.
    client: str | None = None
    network: str | None = None
    # None where the public or the scheduler calls.
    principal: Principal | None = None
    # The header of a guest who may call.
    guest_token: str | None = None
    # As the handler declares them.
    body: Any = None
    query: Any = None

    def header(self, name: bytes) -> str | None:
        value = self.scope["headers_by_name"].get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def request_id(self) -> str:
        """The id of the request, as in the log and the answer."""
        return str(self.scope["request_id"])

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
