"""Which client a request comes from, by a name that tells nobody its address."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final

from starlette.requests import Request

from service.booking.tokens import ClientNames

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What one customer of a provider is given: within it, they may take another address for each request.
_CUSTOMER_BITS: Final = 64
# Hops that are looked at. A request comes through a handful; more are made up.
_HOPS: Final = 20
# Clients whose names are remembered.
_KNOWN: Final = 4096


class Clients:
    """Knows which proxies may say for whom they ask."""

    def __init__(self, names: ClientNames, trusted_proxies: Sequence[Network]) -> None:
        self._trusted = trusted_proxies
        self._name_of = lru_cache(_KNOWN)(names.make)

    def name(self, request: Request) -> str:
        """The client's name: always the same for the same client, under the same secret."""
        peer = request.client.host if request.client else ""
        address = self._address(peer, request.headers.getlist("x-forwarded-for") if self._trusted else [])
        # What is remembered is short, whatever the headers are.
        if isinstance(address, IPv6Address):
            return self._name_of(str(ip_network((address, _CUSTOMER_BITS), strict=False)))
        return self._name_of(str(address or peer))

    def _address(self, peer: str, forwarded: list[str]) -> Address | None:
        """Of the nearest that is no trusted proxy. Only what a trusted proxy says is believed."""
        address = _parsed(peer)
        for hop in _from_the_right(forwarded):
            before = _parsed(hop) if self._is_trusted(address) else None
            if before is None:
                break
            address = before
        return address

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _from_the_right(forwarded: list[str]) -> Iterator[str]:
    """The nearest hop first, and no more than are looked at; several headers are one list."""
    return islice(reversed(",".join(forwarded).rsplit(",", _HOPS)), _HOPS)


def _parsed(text: str) -> Address | None:
    """An address as proxies write it: some with a port, and IPv6 then in brackets. None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
