"""The errors of a proxy: which of them leave the outcome of a call unknown, and which node they concern."""

import asyncio

import psycopg
import pytest

from service.database import breaker as breaker_module
from service.database.failures import NoAnswer
from service.database.nodes import Nodes
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio

# Of two partitions.
NORTH, SOUTH = "salon", "north"


async def nodes(partitions: int) -> tuple[Nodes, list[int]]:
    """Makes the nodes behind a proxy, and the list of those that are probed."""
    probed: list[int] = []

    async def ask(partition: int) -> None:
        probed.append(partition)

    made = Nodes(ask)
    made.count(partitions)
    return made, probed


def error_with(database: TestDatabase, sqlstate: str) -> psycopg.Error:
    """Returns an error that a server sent."""
    statement = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = 'a failure'; END $$"
    with pytest.raises(psycopg.Error) as raised:
        database.rows(statement)
    return raised.value


@pytest.mark.parametrize(
    ("sqlstate", "lost"),
    [
        *((sqlstate, True) for sqlstate in ("XX000", "57014", "57P01", "08006")),
        *((sqlstate, False) for sqlstate in ("55P03", "HF001", "HF003", "40P01", "22023")),
    ],
)
async def test_an_error_of_one_node_is_known_unless_the_node_was_lost(
    database: TestDatabase, sqlstate: str, lost: bool
) -> None:
    """A refusal of the node wrote nothing. A call that the proxy ended by itself may have its effect."""
    error = error_with(database, sqlstate)
    behind, _ = await nodes(2)
    assert behind.lost(error, NORTH) == behind.lost(error, [NORTH, NORTH]) == lost
    # The proxy does not wait for the other node if one fails.
    assert behind.lost(error, [NORTH, SOUTH])
    without, _ = await nodes(0)
    assert not without.lost(error, NORTH)
    await behind.stop()


async def test_only_the_nodes_of_a_lost_call_are_probed(database: TestDatabase) -> None:
    """A statement about all businesses concerns all of them; a missing answer is no error of the proxy."""
    error = error_with(database, "XX000")
    for about, lost, expected in (
        (NORTH, error, {0}),
        ([SOUTH], error, {1}),
        (None, error, {0, 1}),
        (NORTH, NoAnswer("no answer in time"), {0}),
        (NORTH, psycopg.OperationalError("the connection was closed"), set[int]()),
    ):
        behind, probed = await nodes(2)
        assert behind.lost(lost, about) == (lost is error)
        for node in behind._nodes:
            if node.breaker._watch:
                await node.breaker._watch
        assert set(probed) == expected
        await behind.stop()


async def test_a_former_number_of_nodes_is_probed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of the number of partitions while a node was down."""
    monkeypatch.setattr(breaker_module, "GRACE_SECONDS", 0)
    monkeypatch.setattr(breaker_module, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(breaker_module, "_PAUSE_SECONDS", 0.01)
    probed: list[int] = []

    async def ask(partition: int) -> None:
        probed.append(partition)
        raise psycopg.OperationalError("the node is down")

    behind = Nodes(ask)
    behind.count(2)
    behind.lost(NoAnswer("no answer in time"), None)
    async with asyncio.timeout(20):
        while not behind._nodes[0].breaker.is_open:  # noqa: ASYNC110 — a breaker has no event for it
            await asyncio.sleep(0.01)
    behind.count(4)
    assert behind._replacement
    await behind._replacement
    probed.clear()
    await asyncio.sleep(0.1)
    assert probed == []
    await behind.stop()
