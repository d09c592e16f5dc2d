"""The share of a key in what is under way at once."""

import asyncio

import pytest

from service import shares
from service.errors import Overloaded
from service.shares import Shares

pytestmark = pytest.mark.anyio


async def test_the_turns_of_a_key_are_bounded() -> None:
    """Another key has turns of its own, and a caller without a key is not bounded."""
    bounded = Shares(1)
    waited: list[str] = []

    async def work() -> None:
        async with bounded.turn("salon"):
            waited.append("salon")

    async with bounded.turn("salon"):
        waiting = asyncio.create_task(work())
        async with bounded.turn("clinic"), bounded.turn(None), bounded.turn(None):
            await asyncio.sleep(0)
        assert waited == []
    await waiting
    assert waited == ["salon"]


async def test_a_turn_that_would_come_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that a caller waits, and at once if too many wait; afterwards the key has its turns again."""
    monkeypatch.setattr(shares, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(shares, "MAX_WAITING", 1)
    bounded = Shares(1)
    async with bounded.turn("salon"):
        waiting = asyncio.create_task(_take(bounded))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await _take(bounded)
        assert not waiting.done()
        with pytest.raises(Overloaded):
            await waiting
    await _take(bounded)
    assert not bounded._waiting


async def test_a_caller_that_leaves_keeps_no_turn() -> None:
    """Whether it waited for the turn or had it."""
    bounded = Shares(1)
    async with bounded.turn("salon"):
        waiting = asyncio.create_task(_take(bounded))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await _take(bounded)


async def _take(bounded: Shares) -> None:
    async with bounded.turn("salon"):
        await asyncio.sleep(0)
