"""Internet addresses: their notation, networks, and the customer that an address belongs to."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The addresses that a provider gives to one customer, who may take another of them for each request. An organisation
# has a larger network, of 65,536 of these.
_CUSTOMER_BITS: Final = 64
_ORGANISATION_BITS: Final = 48
# Hops that are looked at. A request comes through a handful; more are made up.
_HOPS: Final = 20


def customer(address: Address) -> str:
    """Returns the address as text; of IPv6, the network that a provider gives to one customer."""
    return _network(address, _CUSTOMER_BITS) or str(address)


def organisation(address: Address) -> str | None:
    """Returns the network of the size that organisations have, to which an IPv6 address belongs; None for IPv4."""
    return _network(address, _ORGANISATION_BITS)


def _network(address: Address, bits: int) -> str | None:
    return str(ip_network((address, bits), strict=False)) if isinstance(address, IPv6Address) else None


def is_any_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def parsed_address(text: str) -> Address | None:
    """Parses an address as proxies write it: some with a port, and IPv6 then in brackets. None if it is none."""
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


def forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the addresses in X-Forwarded-For, the nearest last; empty without the header."""
    return b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")


def nearest_client(peer: str, forwarded: str, trusted: Sequence[Network]) -> Address | None:
    """Returns the address of the nearest hop that is no trusted proxy. Only trusted proxies are believed."""
    address = parsed_address(peer)
    for hop in islice(reversed(forwarded.rsplit(",", _HOPS)), _HOPS):
        if address is None or not is_any_of(address, trusted):
            break
        before = parsed_address(hop)
        if before is None:
            break
        address = before
    return address
