"""Group commit behind a proxy: each node has its own queue, lanes and connections.

A batch carries the requests of one node only, because PL/Proxy fails a call to several nodes as a whole, and waits for
the slowest of them. So a node that is down or slow delays no request of another.
"""

import asyncio
from collections.abc import Callable

from service.database.connections import Database
from service.database.group_commit import GroupCommit
from service.database.nodes import Nodes
from service.database.queue import Outcome


class PartitionedCommit:
    """The group commits of one process, one for each partition, or a single one without a proxy.

    `connect` makes the pool of a partition by its name, `commit` its group commit.
    """

    def __init__(
        self, nodes: Nodes, connect: Callable[[str], Database], commit: Callable[[Database], GroupCommit]
    ) -> None:
        self._nodes = nodes
        self._connect = connect
        self._commit = commit
        self._opened: dict[int, tuple[Database, GroupCommit]] = {}
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Opens the first one; the others are opened with the first request of their partition."""
        await self._open(0)

    async def stop(self) -> None:
        """Ends the lanes, once every request has been answered, and closes the connections."""
        for database, group_commit in self._opened.values():
            await group_commit.stop()
            await database.close()

    async def submit(
        self, verb: str, business_id: str, operation_id: str, arguments: bytes, on_outcome: Callable[[Outcome], None]
    ) -> Outcome:
        """Runs a verb on the node of a business: see `GroupCommit.submit`."""
        partition = self._nodes.partition(business_id) or 0
        _, group_commit = self._opened.get(partition) or await self._open(partition)
        return await group_commit.submit(verb, business_id, operation_id, arguments, on_outcome)

    async def _open(self, partition: int) -> tuple[Database, GroupCommit]:
        """Returns the pool and the group commit of a partition. Opens them unless another caller has."""
        async with self._opening:
            if partition not in self._opened:
                # The name of its pool in metrics; the first partition is the only one without a proxy.
                database = self._connect(f"lanes_{partition}" if partition else "lanes")
                await database.open()
                group_commit = self._commit(database)
                group_commit.start()
                self._opened[partition] = database, group_commit
        return self._opened[partition]
