"""Which reads go to the standby: by the changes that are known, its lag and its failures."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from service.database import standby as standby_module
from service.database.connections import Database
from service.database.standby import MEASURE_SECONDS, MOST_LAG_SECONDS, StandbyReads
from service.observability.metrics import REGISTRY, STANDBY_LAG_SECONDS

pytestmark = pytest.mark.anyio


class Server:
    """A server by its answers: the position of its log, and its name for every read."""

    def __init__(self, name: str, *position: object, is_proxy: bool = False) -> None:
        self._name = name
        self._position = position
        self.failing: tuple[str, ...] = ()
        self.nodes = SimpleNamespace(exist=is_proxy)

    async def attempt(self, query: str, *_: object) -> list[tuple[Any, ...]]:
        """Answers once, or fails."""
        if query in self.failing:
            raise psycopg.OperationalError("gone")
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the time by hand."""
    clock: Any = SimpleNamespace(now=10.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(standby_module, "time", clock)
    return clock


def replicated() -> tuple[StandbyReads, Server]:
    """Returns the reads of a standby that has everything, and the standby."""
    primary, standby = Server("primary", False, 5), Server("standby", True, 5)
    return StandbyReads(cast(Database, primary), cast(Database, standby)), standby


async def answered_by(reads: StandbyReads, business_id: str = "salon") -> str:
    """Returns which server answers a read of a business."""
    [(name,)] = await reads.fetch("availability", business_id)
    return str(name)


async def test_a_business_is_read_on_the_primary_from_its_change_until_the_standby_has_it(clock: Any) -> None:
    """A change at the instant of a measurement may come after it. Then the change is forgotten."""
    reads, _ = replicated()
    await reads._measure()
    assert await answered_by(reads) == "standby"
    clock.now = 11.0
    reads.forget("salon")
    assert [await answered_by(reads, name) for name in ("salon", "clinic")] == ["primary", "standby"]
    await reads._measure()
    assert await answered_by(reads) == "primary"
    clock.now = 12.0
    await reads._measure()
    assert (await answered_by(reads), reads._changed_at) == ("standby", {})
    reads.forget(None)
    assert [await answered_by(reads, name) for name in ("salon", "clinic")] == ["primary", "primary"]
    clock.now = 13.0
    await reads._measure()
    assert await answered_by(reads) == "standby"
    clock.now += MOST_LAG_SECONDS
    assert await answered_by(reads) == "standby"
    clock.now += 0.01
    assert await answered_by(reads) == "primary"


async def test_many_changed_businesses_are_remembered_as_all(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a standby that is gone for long costs no memory."""
    monkeypatch.setattr(standby_module, "_BUSINESSES", 2)
    reads, _ = replicated()
    await reads._measure()
    clock.now = 11.0
    for business_id in ("a", "b"):
        reads.forget(business_id)
    assert await answered_by(reads) == "standby"
    reads.forget("c")
    assert (await answered_by(reads), reads._changed_at) == ("primary", {})


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("query", ["availability", "log_position"])
async def test_a_standby_that_failed_is_not_asked_until_it_is_measured_again(query: str) -> None:
    """The primary answers, also the read that failed."""
    reads, standby = replicated()
    await reads._measure()
    standby.failing = (query,)
    if query == "log_position":
        measuring = asyncio.ensure_future(reads.keep_measuring())
        await asyncio.sleep(0)
        measuring.cancel()
    assert await answered_by(reads) == "primary"
    standby.failing = ()
    assert await answered_by(reads) == "primary"
    await reads._measure()
    assert await answered_by(reads) == "standby"
