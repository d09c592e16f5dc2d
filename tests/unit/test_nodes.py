"""The nodes behind a proxy: their probes, and which of them are down."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from service.database import nodes as nodes_module
from service.database.failures import NoAnswer
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


class LinkedPool:
    """A pool whose connections to the proxy have links to each node, or to none."""

    def __init__(self, *, links: bool = True) -> None:
        self.links = links
        self.is_busy = False
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.asked = 0

    async def ask(self, partition: int) -> None:
        """Fails without links, and without a free connection."""
        assert partition == 0
        self.asked += 1
        if self.is_busy:
            raise PoolTimeout
        await self.thawed.wait()
        if not self.links:
            raise psycopg.errors.InternalError_("too many connections")


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


@pytest.mark.parametrize("number", [0, 1, None])
async def test_the_nodes_of_a_call_without_an_answer_are_probed(number: int | None) -> None:
    """That of its business, or all if the call was about all: the connections to the other nodes work on."""
    proxy = Proxy()
    about = next(name for name in (None, *"abcdefgh") if proxy.nodes.partition(name) == number)
    assert not proxy.nodes.lost(NoAnswer("no answer in time"), about)
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(proxy.asked) == ([0, 1] if number is None else [number])
    await proxy.nodes.stop()


@pytest.mark.parametrize("is_down", [False, True])
async def test_only_the_businesses_of_a_node_that_is_down_are_refused(is_down: bool) -> None:
    """Those of the other node, and calls about no business, go on."""
    proxy = Proxy()
    proxy.error = psycopg.errors.InternalError_("connection refused") if is_down else None
    proxy.thawed.set()
    here, there = (next(name for name in "abcdefgh" if proxy.nodes.partition(name) == number) for number in (0, 1))
    pool = LinkedPool(links=False)
    proxy.open(0)
    await proxy.nodes.refuse_if_down(there, pool)
    await proxy.nodes.refuse_if_down(None, pool)
    assert proxy.asked == []
    if is_down:
        with pytest.raises(DatabaseDown):
            await proxy.nodes.refuse_if_down(here, pool)
    else:
        await proxy.nodes.refuse_if_down(here, pool)
        assert proxy.nodes.down == ()
    await proxy.nodes.stop()


@pytest.fixture
async def limited() -> AsyncIterator[Proxy]:
    """Yields a proxy whose node 0 refuses new connections, with its breaker open."""
    proxy = Proxy()
    proxy.error = psycopg.errors.InternalError_("too many connections")
    proxy.thawed.set()
    proxy.open(0)
    yield proxy
    await proxy.nodes.stop()


async def test_a_node_at_its_limit_serves_the_pools_that_have_a_link(limited: Proxy) -> None:
    """Calls of the others are refused, and so is none about all nodes: it leaves the node out."""
    linked, unlinked = LinkedPool(), LinkedPool(links=False)
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    with pytest.raises(DatabaseDown):
        await limited.nodes.refuse_if_down(here, unlinked)
    await limited.nodes.refuse_if_down(here, linked)
    assert limited.nodes.down == (0,)
    before = linked.asked
    await limited.nodes.refuse_if_down(here, linked)
    assert linked.asked == before, "a call waits although the pool is known to reach the node"


async def test_a_busy_pool_keeps_its_trust_in_a_node_at_its_limit(limited: Proxy) -> None:
    """That all of its connections are lent for a while says nothing about the node that they reach."""
    pool = LinkedPool()
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    await limited.nodes.refuse_if_down(here, pool)
    pool.is_busy = True
    before = pool.asked
    with pytest.raises(psycopg.errors.InternalError_):
        await limited.nodes._nodes[0].probe()
    assert pool.asked == before + 1
    await limited.nodes.refuse_if_down(here, pool)


async def test_a_link_without_an_answer_takes_no_trust_from_other_pools(
    limited: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked again while it is waited for, and the pool with that link is asked once."""
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 0.01)
    linked, stuck = LinkedPool(), LinkedPool()
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    for pool in (linked, stuck):
        await limited.nodes.refuse_if_down(here, pool)
    stuck.thawed.clear()
    before = linked.asked, stuck.asked
    for _ in range(2):
        with pytest.raises(psycopg.errors.InternalError_):
            await limited.nodes._nodes[0].probe()
    await limited.nodes.refuse_if_down(here, linked)
    assert (linked.asked, stuck.asked) == (before[0] + 2, before[1] + 1)


async def test_a_call_that_loses_a_node_at_its_limit_ends_its_trust(limited: Proxy) -> None:
    """The node may have gone down since: the next call waits for a probe, which finds out."""
    pool = LinkedPool()
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    await limited.nodes.refuse_if_down(here, pool)
    pool.links = False
    limited.nodes.lost(NoAnswer("no answer in time"), here)
    with pytest.raises(DatabaseDown):
        await limited.nodes.refuse_if_down(here, pool)


async def test_a_frozen_node_is_asked_over_no_connection_of_a_pool(
    limited: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the connection. That it served the pool at its limit counts no longer."""
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 0.01)
    pool = LinkedPool()
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    await limited.nodes.refuse_if_down(here, pool)
    limited.thawed.clear()
    before = pool.asked
    with pytest.raises(NodeLost):
        await limited.nodes._nodes[0].probe()
    with pytest.raises(DatabaseDown):
        await limited.nodes.refuse_if_down(here, pool)
    assert pool.asked == before


@pytest.mark.parametrize("are_replaced", [False, True])
async def test_the_questions_over_the_connections_of_pools_end_with_the_service(
    limited: Proxy, monkeypatch: pytest.MonkeyPatch, are_replaced: bool
) -> None:
    """Before the pools are closed, which wait for their connections. So do those to nodes that were replaced."""
    monkeypatch.setattr(nodes_module, "_PROBE_SECONDS", 0.01)
    before = asyncio.all_tasks()
    pool = LinkedPool()
    pool.thawed.clear()
    here = next(name for name in "abcdefgh" if limited.nodes.partition(name) == 0)
    with pytest.raises(DatabaseDown):
        await limited.nodes.refuse_if_down(here, pool)
    assert pool.asked == 1
    if are_replaced:
        limited.nodes.count(4)
    await limited.nodes.stop()
    assert asyncio.all_tasks() == before
