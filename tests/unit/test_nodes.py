"""The nodes behind a proxy: their probes, and which of them are down."""

import asyncio

import psycopg
import pytest

from service.database import nodes as nodes_module
from service.database.nodes import NodeLost, Nodes
from service.errors import DatabaseDown

pytestmark = pytest.mark.anyio


class Proxy:
    """A proxy whose nodes answer when they are thawed."""

    def __init__(self, partitions: int = 2) -> None:
        self.asked: list[int] = []
        self.ended: list[int] = []
        self.thawed = asyncio.Event()
        self.error: Exception | None = None
        self.nodes = Nodes(self._ask)
        self.nodes.count(partitions)

    async def _ask(self, partition: int) -> None:
        self.asked.append(partition)
        try:
            await self.thawed.wait()
            if self.error:
                raise self.error
        finally:
            self.ended.append(partition)

    def open(self, partition: int) -> None:
        """Opens the circuit breaker of a node."""
        self.nodes._nodes[partition].breaker._opened_at = 0.0


async def test_a_frozen_node_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the proxy's connection. Later probes wait for the same answer, and ask again once it has come."""
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 0.01)
    proxy = Proxy()
    node = proxy.nodes._nodes[1]
    for _ in range(3):
        with pytest.raises(NodeLost):
            await node.probe()
    assert proxy.asked == [1]
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 10)
    proxy.thawed.set()
    await node.probe()
    assert proxy.asked == [1]
    proxy.error = psycopg.errors.InternalError_("connection refused")
    with pytest.raises(psycopg.errors.InternalError_):
        await node.probe()
    proxy.error = None
    await node.probe()
    assert proxy.asked == [1, 1, 1]
    await proxy.nodes.stop()


async def test_the_question_to_a_frozen_node_ends_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the probes that its breaker makes."""
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 0.01)
    proxy = Proxy()
    with pytest.raises(NodeLost):
        await proxy.nodes._nodes[0].probe()
    proxy.nodes._nodes[1].breaker.suspect()
    while len(proxy.asked) < 2:  # noqa: ASYNC110 — the breaker has no event
        await asyncio.sleep(0)
    await proxy.nodes.stop()
    assert proxy.ended == [0, 1]
    for node in proxy.nodes._nodes:
        node.breaker.suspect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert proxy.asked == [0, 1]


async def test_a_call_about_all_nodes_leaves_out_those_that_are_down() -> None:
    """One that would ask none is refused."""
    proxy = Proxy()
    assert not proxy.nodes.down
    proxy.open(1)
    assert proxy.nodes.down == (1,)
    proxy.open(0)
    with pytest.raises(DatabaseDown):
        _ = proxy.nodes.down
    proxy.nodes.count(2)  # reported by another connection
    with pytest.raises(DatabaseDown):
        _ = proxy.nodes.down
    await proxy.nodes.stop()


async def test_what_names_no_business_has_no_partition() -> None:
    """Parameters of other types, and any of them without a proxy."""
    behind, without = Proxy(), Proxy(partitions=0)
    assert (behind.nodes.exist, without.nodes.exist) == (True, False)
    assert {behind.nodes.partition(f"business-{number}") for number in range(20)} == {0, 1}
    for name in (None, 1, b"salon", ["salon"]):
        assert behind.nodes.partition(name) is None
    assert without.nodes.partition("salon") is None
    assert without.nodes.down == ()


async def test_a_lost_connection_to_the_proxy_is_not_that_of_a_node() -> None:
    """The breaker of the proxy has to know it, whatever the call was about."""
    proxy = Proxy()
    assert not proxy.nodes.lost(psycopg.OperationalError("the connection was closed"), ["a", "b", "c", "d"])
    await proxy.nodes.stop()


@pytest.mark.parametrize("is_down", [False, True])
async def test_only_the_businesses_of_a_node_that_is_down_are_refused(is_down: bool) -> None:
    """Those of the other node, and calls about no business, go on."""
    proxy = Proxy()
    proxy.error = psycopg.errors.InternalError_("connection refused") if is_down else None
    proxy.thawed.set()
    here, there = (next(name for name in "abcdefgh" if proxy.nodes.partition(name) == number) for number in (0, 1))
    proxy.open(0)
    await proxy.nodes.refuse_if_down(there)
    await proxy.nodes.refuse_if_down(None)
    assert proxy.asked == []
    if is_down:
        with pytest.raises(DatabaseDown):
            await proxy.nodes.refuse_if_down(here)
    else:
        await proxy.nodes.refuse_if_down(here)
        assert proxy.nodes.down == ()
    await proxy.nodes.stop()
