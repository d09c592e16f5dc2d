"""How many slots one client may hold at once. Who it is goes to the verb as digests: no address is kept anywhere."""

from typing import Final

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from service.booking.text import IdempotencyKey
from service.booking.tokens import ClientNames
from service.errors import Invalid
from service.http.clients import Clients

# What a frontend calls its guest, in its own way: the same characters as in an idempotency key.
_CLIENT_ID: Final = TypeAdapter(IdempotencyKey)


class HoldLimit:
    """Says of a request to reserve whose hold it would be, and how many that client may have in the business."""

    def __init__(self, clients: Clients, names: ClientNames, max_live_holds: int) -> None:
        self._clients = clients
        self._names = names
        self._max_live_holds = max_live_holds

    def holder(self, request: Request) -> dict[str, object]:
        """Returns the members of a request to reserve that limit its client. Raises `Invalid`."""
        return {
            "client_address_hmac": self._clients.name(request),
            "client_id_hmac": self._client_id(request),
            "max_live_holds": self._max_live_holds,
        }

    def _client_id(self, request: Request) -> str | None:
        given = request.headers.get("x-client-id")
        if given is None:
            return None
        try:
            # `~` stands in no address: an id can't be taken for one.
            return self._names.make(f"~{_CLIENT_ID.validate_python(given)}")
        except ValidationError:
            raise Invalid.at("X-Client-Id", "must be 1 to 255 printable ASCII characters") from None
