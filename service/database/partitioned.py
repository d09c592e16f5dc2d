"""Group commit behind a proxy: each node has its own queue, lanes and connections.

A batch carries the requests of one node only, because PL/Proxy fails a call to several nodes as a whole, and waits for
the slowest of them. So a node that is down or slow delays no request of another.
"""

import asyncio
from collections.abc import Callable

from service.database.group_commit import GroupCommit
from service.database.nodes import Nodes
from service.database.queue import Outcome


class PartitionedCommit:
    """The group commits of one process, one for each partition, or a single one without a proxy.

    `make` makes the group commit of a partition, on a pool of connections with the given name.
    """

    def __init__(self, nodes: Nodes, make: Callable[[str], GroupCommit]) -> None:
        self._nodes = nodes
        self._make = make
        self._opened: dict[int, GroupCommit] = {}
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Opens the first one; the others are opened with the first request of their partition."""
        await self._open(0)

    async def stop(self) -> None:
        """Ends the lanes, once every request has been answered, and closes the connections."""
        for group_commit in self._opened.values():
            await group_commit.stop()
            await group_commit.database.close()

    async def submit(
        self, verb: str, business_id: str, operation_id: str, arguments: bytes, on_outcome: Callable[[Outcome], None]
    ) -> Outcome:
        """Runs a verb on the node of a business: see `GroupCommit.submit`."""
        partition = self._nodes.partition(business_id) or 0
        group_commit = self._opened.get(partition) or await self._open(partition)
        return await group_commit.submit(verb, business_id, operation_id, arguments, on_outcome)

    async def _open(self, partition: int) -> GroupCommit:
        """Returns the group commit of a partition. Opens it unless another caller has."""
        async with self._opening:
            if partition not in self._opened:
                # The name of its pool in metrics; the first partition is the only one without a proxy.
                group_commit = self._make(f"lanes_{partition}" if partition else "lanes")
                await group_commit.database.open()
                group_commit.start()
                self._opened[partition] = group_commit
        return self._opened[partition]
