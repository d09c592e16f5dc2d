"""The connections of one process: how many an address may have, how much of the answers may wait to be taken, and
whose request begins next.

Each connection costs memory and a file descriptor, and each answer that its client does not read costs its length. One
client gets its share of them at most.
"""

import resource
from asyncio import Transport
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from service.http.addresses import Network, customer, forwarded_for, is_any_of, nearest_client, parsed_address
from service.http.turns import Turns

# Of one address, which may be that of an office or a school. With a request of 100 KB on each they take 40 MB.
CONNECTIONS_OF_ADDRESS: Final = 400
# In all. A process that may open 1024 files serves fewer: some are left for the database, the log and other files.
CONNECTIONS: Final = 4000
_OTHER_FILES: Final = 64
# Above each of the two bounds, connections on which only probes are answered, and everything else is refused. The
# others are closed at once.
SPARE_CONNECTIONS: Final = 20
# Of all answers together, how many bytes may wait for their clients. The largest answer has 512 KB.
MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024


class Connection(Protocol):
    transport: Transport


class Connections:
    """Counts connections by address. Those of `trusted_proxies` bring the requests of many clients, so they are not
    bounded by address; without a bound `of_address`, none are."""

    def __init__(
        self, trusted_proxies: Sequence[Network] = (), of_address: int | None = CONNECTIONS_OF_ADDRESS
    ) -> None:
        self.turns = Turns()
        self._trusted = trusted_proxies
        self._most_of_address = of_address
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files - _OTHER_FILES)
        self._addresses: dict[Connection, str] = {}
        # The hosts of those that are of trusted proxies.
        self._proxies: dict[Connection, str] = {}
        self._of_address: Counter[str] = Counter()
        self._unsent: dict[Connection, int] = {}

    def add(self, connection: Connection, host: str) -> int:
        """Adds a connection, and returns the number of connections above a bound; 0 if there are none."""
        address = parsed_address(host)
        name = customer(address) if address else host
        self._addresses[connection] = name
        self._of_address[name] += 1
        excess = len(self._addresses) - self._most
        if address and is_any_of(address, self._trusted):
            self._proxies[connection] = host
        elif self._most_of_address is not None:
            excess = max(excess, self._of_address[name] - self._most_of_address)
        return max(0, excess)

    def remove(self, connection: Connection) -> None:
        self.taken(connection)
        self._proxies.pop(connection, None)
        if (name := self._addresses.pop(connection, None)) is not None:
            self._of_address[name] -= 1
            if not self._of_address[name]:
                del self._of_address[name]

    def is_of_proxy(self, connection: Connection) -> bool:
        """Returns whether a connection is that of a trusted proxy, so that its headers tell the client of a request."""
        return connection in self._proxies

    def client(self, connection: Connection, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Returns the client of a request: the address of its connection, or the one for which a trusted proxy asks."""
        proxy = self._proxies.get(connection)
        address = nearest_client(proxy, forwarded_for(headers), self._trusted) if proxy else None
        return customer(address) if address else self._addresses[connection]

    def unsent(self, connection: Connection, size: int) -> None:
        """Records how many bytes of an answer its client has not taken. If it is too much in all, the address with the
        most loses the connection with the most."""
        self._unsent[connection] = size
        while sum(self._unsent.values()) > MAX_UNSENT_BYTES:
            of_address: Counter[str] = Counter()
            for waiting, waiting_size in self._unsent.items():
                of_address[self._addresses[waiting]] += waiting_size
            [(most, _)] = of_address.most_common(1)
            of_most = [waiting for waiting in self._unsent if self._addresses[waiting] == most]
            largest = max(of_most, key=self._unsent.__getitem__)
            self.taken(largest)
            largest.transport.abort()

    def taken(self, connection: Connection) -> None:
        """Records that the client has taken its answer."""
        self._unsent.pop(connection, None)
