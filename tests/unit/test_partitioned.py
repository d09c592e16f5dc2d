"""The group commits behind a proxy: one for each partition, opened with its first request."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.database.nodes import Nodes
from service.database.partitioned import PartitionedCommit
from service.database.queue import UNKNOWN, Outcome

pytestmark = pytest.mark.anyio


class Commit:
    """A group commit that records its requests, and in which order it and its database are opened and closed."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.requests: list[str] = []
        self.database = SimpleNamespace(open=lambda: self._step("open"), close=lambda: self._step("close"))

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        self.steps.append(name)

    def start(self) -> None:
        """Starts the lanes."""
        self.steps.append("start")

    async def stop(self) -> None:
        """Ends the lanes."""
        await self._step("stop")

    async def submit(self, _verb: str, business_id: str, *_: object) -> Outcome:
        """Takes a request."""
        self.requests.append(business_id)
        return UNKNOWN


async def ask(_: int) -> None:
    """Answers for a node."""


@pytest.mark.parametrize("partitions", [0, 2])
async def test_the_first_requests_of_a_partition_open_its_group_commit_once(partitions: int) -> None:
    """A second one would keep its connections and lanes for good. Each is stopped before its connections close."""
    nodes = Nodes(ask)
    nodes.count(partitions)
    made: dict[str, Any] = {}

    def make(name: str) -> Any:
        assert name not in made
        return made.setdefault(name, Commit())

    commit = PartitionedCommit(nodes, make)
    await commit.start()
    assert [*made] == ["lanes"]
    names = [*"abcdefgh"]
    await asyncio.gather(*(commit.submit("reserve", name, "", b"{}", lambda _: None) for name in names))
    await commit.stop()
    assert [*made] == (["lanes", "lanes_1"] if partitions else ["lanes"])
    for partition, group_commit in enumerate(made.values()):
        assert group_commit.requests == [name for name in names if (nodes.partition(name) or 0) == partition]
        assert group_commit.steps == ["open", "start", "stop", "close"]
    await nodes.stop()
