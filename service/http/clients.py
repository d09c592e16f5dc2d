"""Names the client of a request by digests that reveal neither its address nor its id, and limits what it claims."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from service.booking.requests import Holder
from service.booking.text import IdempotencyKey
from service.booking.tokens import ClientNames
from service.errors import Invalid
from service.faults import FaultCode
from service.http.addresses import Network, customer, forwarded_for, nearest_client, organisation
from service.http.call import Call

# Clients whose names are cached.
_CACHED: Final = 4096
# A random name of this length can't be guessed: a UUID has 36 characters, 16 bytes in base64 have 22.
_SECRET_CHARACTERS: Final = 16
_MADE_UP: Final[TypeAdapter[str]] = TypeAdapter(IdempotencyKey)

_UNTRUSTED: Final = (
    "A request has X-Forwarded-For, but no proxy is trusted: if one stands in front, all of its clients count as one. "
    "Set TRUSTED_PROXIES to its networks, or RATE_LIMIT_ENABLED=false."
)

log = structlog.get_logger(__name__)


class Clients:
    """Names clients. Only the addresses of `trusted_proxies` may say for which client they ask."""

    def __init__(self, names: ClientNames, trusted_proxies: Sequence[Network]) -> None:
        self._trusted = trusted_proxies
        self._name_of = lru_cache(_CACHED)(names.make)
        self._names_of_peer = lru_cache(_CACHED)(self._names)
        self._warned = False

    def names(self, call: Call) -> tuple[str, str | None]:
        """Returns the client's name, always the same for the same client under the same secret, and that of the network
        of an IPv6 client."""
        client = call.scope.get("client")
        peer = client[0] if client else ""
        if not self._trusted:
            if not self._warned and call.header(b"x-forwarded-for") is not None:
                self._warned = True
                # Without its value: that is a guest's address, or anything else that a client made up.
                log.warning("forwarded_for_not_trusted", hint=_UNTRUSTED)
            return self._names_of_peer(peer)
        return self._names(peer, forwarded_for(call.scope["headers"]))

    def _names(self, peer: str, forwarded: str = "") -> tuple[str, str | None]:
        address = nearest_client(peer, forwarded, self._trusted)
        # What is cached is short, whatever the headers are.
        network = organisation(address) if address else None
        return self._name_of(customer(address) if address else peer), network and self._name_of(network)


class Holders:
    """Names the clients that claim slots. In a business each may hold `max_live_holds` places at once, and
    hold and book `max_daily_bookings` on one day; None: any number."""

    def __init__(self, names: ClientNames, max_live_holds: int | None, max_daily_bookings: int | None) -> None:
        self._names = names
        self._limits = max_live_holds, max_daily_bookings

    def holder(self, call: Call) -> Holder:
        """Returns the client of a call as a holder. Raises `Invalid`.

        An id that could be guessed counts together with the address that sent it: from elsewhere it is another client.
        """
        own, name = client_id(call), None
        if own is not None and not is_guessable(own):
            name = self._own_name(own)
        elif own is not None and call.client is not None:
            name = self._own_name(own, call.client)
        return Holder(call.client, name, *self._limits)

    def secret_id_hmac(self, call: Call) -> str:
        """Returns the digest of the client's own id, which is the credential of a call. Raises `Invalid`."""
        own = client_id(call)
        if own is None:
            raise Invalid.at("X-Client-Id", FaultCode.REQUIRED)
        if is_guessable(own):
            raise Invalid.at("X-Client-Id", FaultCode.GUESSABLE, min=_SECRET_CHARACTERS)
        return self._own_name(own)

    def _own_name(self, own: str, *address: str) -> str:
        # No address contains `~`, so an id can't be mistaken for one.
        return self._names.make(f"~{own}", *address)


def is_guessable(name: str | None) -> bool:
    """Returns whether a name that a client made up, or left out, is too short to be a secret."""
    return len(name or "") < _SECRET_CHARACTERS


def client_id(call: Call) -> str | None:
    """Reads the id that a frontend gives its guest. Raises `Invalid`."""
    return made_up_name(call, b"x-client-id")


def made_up_name(call: Call, header: bytes) -> str | None:
    """Reads a header with a name that a client made up: an idempotency key, or its own id. Raises `Invalid`."""
    sent = call.header(header)
    try:
        return None if sent is None else _MADE_UP.validate_python(sent)
    except ValidationError as error:
        raise Invalid.of_input(error, header.decode().title()) from None
