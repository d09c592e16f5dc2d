"""The limit on the live holds of one client. The verb gets its names as digests: no address is stored."""

from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from service.booking.requests import Holder
from service.booking.text import IdempotencyKey
from service.booking.tokens import ClientNames
from service.errors import Invalid
from service.http.call import Call

# The frontend's own id for its guest: the same characters as in an idempotency key.
_CLIENT_ID: Final[TypeAdapter[Any]] = TypeAdapter(IdempotencyKey)


class HoldLimit:
    """Names the holder of a reserve, and how many live holds that client may have in the business."""

    def __init__(self, names: ClientNames, max_live_holds: int) -> None:
        self._names = names
        self._max_live_holds = max_live_holds

    def holder(self, call: Call) -> Holder:
        """Returns the client of a call as a holder. Raises `Invalid`."""
        client_id = call.header(b"x-client-id")
        return Holder(call.client, None if client_id is None else self._digest(client_id), self._max_live_holds)

    def _digest(self, client_id: str) -> str:
        try:
            # No address contains `~`, so an id can't be mistaken for one.
            return self._names.make(f"~{_CLIENT_ID.validate_python(client_id)}")
        except ValidationError:
            raise Invalid.at("X-Client-Id", "must be 1 to 255 printable ASCII characters") from None
