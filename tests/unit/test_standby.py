"""The standby of a proxy, a standby that is gone for long, and a standby that has never answered."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.database.connections import Database
from service.database.standby import MEASURE_SECONDS, MOST_LAG_SECONDS, StandbyReads
from service.observability.metrics import REGISTRY, STANDBY_LAG_SECONDS

pytestmark = pytest.mark.anyio


class Server:
    """A server by its answers: the position of its log, and its name for every read."""

    def __init__(self, name: str, *position: object, is_proxy: bool = False) -> None:
        self._name = name
        self._position = position
        self.nodes = SimpleNamespace(exist=is_proxy)

    async def attempt(self, query: str, *_: object) -> list[tuple[Any, ...]]:
        """Answers once."""
        return [self._position if query == "log_position" else (self._name,)]

    async def fetch(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Answers."""
        return await self.attempt(query, *parameters)


@pytest.mark.parametrize(("is_proxy", "answered_by"), [(False, "standby"), (True, "primary")])
async def test_no_read_is_sent_to_the_standby_of_a_proxy(is_proxy: bool, answered_by: str) -> None:
    """The log of a proxy says nothing about what the nodes have written."""
    primary, standby = Server("primary", False, 5, is_proxy=is_proxy), Server("standby", True, 5)
    reads = StandbyReads(cast(Database, primary), cast(Database, standby))
    await reads._measure()
    assert await reads.fetch("availability", "salon") == [(answered_by,)]


async def test_the_positions_that_are_kept_are_those_of_the_most_lag() -> None:
    """A standby that is gone for days, or that is none, does not cost memory."""
    for standby in (Server("standby", True, 4), Server("standby", False, 5)):
        reads = StandbyReads(cast(Database, Server("primary", False, 5)), cast(Database, standby))
        for _ in range(100):
            await reads._measure()
        assert len(reads._positions) <= MOST_LAG_SECONDS / MEASURE_SECONDS + 1


async def test_until_the_standby_has_answered_its_lag_is_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is gone at the start answers nothing for seconds, and is not shown as one without any lag."""
    STANDBY_LAG_SECONDS.set(0)
    primary, standby = Server("primary", False, 5), Server("standby", True, 5)
    asked = asyncio.Event()

    async def hang(*_: object) -> list[tuple[Any, ...]]:
        asked.set()
        return await asyncio.Future()

    monkeypatch.setattr(standby, "attempt", hang)
    reads = StandbyReads(cast(Database, primary), cast(Database, standby))
    measuring = asyncio.ensure_future(reads.keep_measuring())
    await asked.wait()
    measuring.cancel()
    assert REGISTRY.get_sample_value("holdfast_standby_lag_seconds") == math.inf
