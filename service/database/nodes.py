"""The nodes behind a proxy: which one has a business, and which are down.

A proxy (sql/proxy/) routes each call to the PostgreSQL server of its business. Each node has a circuit breaker of its
own: while it is down, the calls for its businesses fail at once, and all others go on.

A node at its limit of connections refuses new ones and serves those that it has. PL/Proxy reports that node and one
that is gone by the same SQLSTATE, XX000. So the breaker opens, and is half-open for the pools whose own connections
reach the node: their calls go on. Calls about all businesses leave the node out, because a connection without a link
to it would fail them.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import psycopg
from psycopg_pool import PoolTimeout

from service.background import end, in_background
from service.database.breaker import CircuitBreaker
from service.database.failures import NoAnswer
from service.errors import DatabaseDown

# How long a probe waits for a node. One that does not answer keeps the probe, and the next one waits for the same.
_PROBE_SECONDS: Final = 1.0
# Errors of the proxy itself that leave the outcome of a call unknown: a node can't be reached or closed the connection,
# or the time limit ended the call, of which the node may have completed its part.
_UNKNOWN: Final = ("XX000", "57014", "08", "57P")


class NodeLost(psycopg.OperationalError):
    """A node behind the proxy did not answer. The statement may have had its effect."""


class Pool(Protocol):
    """The view that a node has of a pool of connections to the proxy."""

    async def ask(self, partition: int) -> None:
        """Asks a node over a connection of the pool. Raises `psycopg.Error`; `PoolTimeout` if all are lent."""


class _Node:
    """A node as its circuit breaker sees it: it is asked through the proxy, and has no connections here."""

    has_connection: Final = False

    def __init__(self, partition: int, ask: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self.breaker = CircuitBreaker(partition=partition)
        self.breaker.guard(self)
        self._partition = partition
        self._ask = ask
        self._asked: asyncio.Task[None] | None = None
        # The pools whose calls concern this node, and those that reached it although it refused a new connection.
        self._pools: set[Pool] = set()
        self._reaching: set[Pool] = set()
        # The questions over their connections that are not answered yet, one of each pool.
        self._asked_over: dict[Pool, asyncio.Task[None]] = {}

    async def refuse_if_down(self, pool: Pool) -> None:
        """Raises `DatabaseDown` while the node is known to be down and not reached by the connections of the pool."""
        self._pools.add(pool)
        if not self.breaker.is_open or pool in self._reaching:
            return
        try:
            await self.breaker.probed()
        except DatabaseDown:
            if pool not in self._reaching:
                raise

    def suspect(self) -> None:
        """Probes the node, and admits no call to it meanwhile if its breaker is open."""
        self._reaching.clear()
        self.breaker.suspect()

    async def probe(self) -> None:
        """Waits for an answer of the node. Raises `psycopg.Error`.

        A frozen node holds the proxy's connection until it goes on, so there is never more than one such statement.
        """
        asked = self._asked = self._asked or asyncio.create_task(self._ask(self._partition))
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await asyncio.shield(asked)
        except TimeoutError:
            self._reaching.clear()
            raise NodeLost("no answer in time") from None
        except psycopg.Error:
            await self._find_reaching()
            raise
        finally:
            if asked.done():
                self._asked = None

    async def _find_reaching(self) -> None:
        """Finds the pools whose connections reach a node that refused a new one. A link without an answer delays no
        other pool."""
        for pool in self._pools - self._asked_over.keys():
            self._asked_over[pool] = asyncio.create_task(self._ask_over(pool))
        if self._asked_over:
            await asyncio.wait(self._asked_over.values(), timeout=_PROBE_SECONDS)

    async def _ask_over(self, pool: Pool) -> None:
        try:
            await pool.ask(self._partition)
        except PoolTimeout:
            pass  # not asked: all of its connections are lent
        except psycopg.Error:
            self._reaching.discard(pool)
        else:
            self._reaching.add(pool)
        finally:
            del self._asked_over[pool]

    async def check(self) -> None:
        pass

    async def stop(self) -> None:
        await self.breaker.stop()
        await end([*([self._asked] if self._asked else []), *self._asked_over.values()])


class Nodes:
    """The nodes behind one proxy as all pools of a process see them. Without a proxy there are none.

    `ask` sends a statement to the node of a partition over a new connection to the proxy. It raises `psycopg.Error`.
    """

    def __init__(self, ask: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self._ask = ask
        self._nodes: list[_Node] = []
        # Ends the probes of nodes that were replaced.
        self._replacement: asyncio.Task[None] | None = None

    @property
    def exist(self) -> bool:
        return bool(self._nodes)

    def count(self, partitions: int) -> None:
        """Records the number of partitions, a power of two, as a new connection reports it; 0 without a proxy."""
        if partitions != len(self._nodes):
            self._replacement = in_background("stop former nodes", _stop(self._nodes))
            self._nodes = [_Node(partition, self._ask) for partition in range(partitions)]

    def partition(self, name: object) -> int | None:
        """Returns the partition of a business, or of a slug, as booking.partition computes it.

        None without a proxy, and for what names no business.
        """
        if not self._nodes or not isinstance(name, str):
            return None
        digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
        return int.from_bytes(digest[:4]) & (len(self._nodes) - 1)

    @property
    def down(self) -> tuple[int, ...]:
        """The partitions whose nodes are known to be down. Raises `DatabaseDown` if all are."""
        down = tuple(partition for partition, node in enumerate(self._nodes) if node.breaker.is_open)
        if down and len(down) == len(self._nodes):
            raise DatabaseDown
        return down

    async def refuse_if_down(self, name: object, pool: Pool) -> None:
        """Raises `DatabaseDown` while the node of a business is known to be down and not reached by the pool."""
        partition = self.partition(name)
        if partition is not None:
            await self._nodes[partition].refuse_if_down(pool)

    def lost(self, error: psycopg.Error, about: object) -> bool:
        """Returns whether the proxy's error leaves the outcome of a statement unknown.

        `about` is the first parameter of the statement. Its nodes are probed then, and so they are if no answer came:
        the proxy waits for a frozen node. If one of several nodes fails, it does not wait for the others, so any error
        leaves their outcomes unknown.
        """
        if not self._nodes:
            return False
        partitions = {self.partition(name) for name in (about if isinstance(about, list) else [about])}
        of_proxy = error.diag.severity_nonlocalized == "ERROR"
        lost = of_proxy and (len(partitions) > 1 or (error.sqlstate or "").startswith(_UNKNOWN))
        if lost or isinstance(error, NoAnswer):
            for partition, node in enumerate(self._nodes):
                if partitions & {partition, None}:
                    node.suspect()
        return lost

    async def stop(self) -> None:
        """Ends the probes, for good."""
        if self._replacement:
            await self._replacement
        await _stop(self._nodes)


async def _stop(nodes: list[_Node]) -> None:
    for node in nodes:
        await node.stop()
