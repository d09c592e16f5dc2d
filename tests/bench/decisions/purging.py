"""What callers notice of a purge: a steady stream of reserves, with and without one beside it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from service.booking.cleanup import Cleanup
from tests.bench.decisions.plan import Plan
from tests.bench.decisions.report import Row
from tests.bench.decisions.scratch import HUGE_CAPACITY, Scratch, expect
from tests.connections import open_database

_CALLS_PER_SECOND: Final = 200.0
# The stream is called for in pieces of a second, and ends with the piece in which the purge ended.
_PIECE_CALLS: Final = 200
_RETENTION: Final = timedelta(hours=24)
_PURGED_SLOTS: Final = 100
# A purge of a few rows, as in the smallest run, is over before many calls have begun.
_SHORTEST_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of the stream. own: whether it was for the business that has the purge."""

    began_at: float
    seconds: float
    own: bool


class _Stream:
    """Reserves of the business b1 and of others in turn, each on a slot of its own, where nothing else is claimed."""

    def __init__(self, scratch: Scratch, businesses: int) -> None:
        self._scratch = scratch
        self._businesses = businesses
        self._next_slot = _PURGED_SLOTS

    def run(self, goes_on: Callable[[], bool]) -> list[_Call]:
        """Streams at least one piece, and another one as long as it goes on."""
        calls: list[_Call] = []
        while not calls or goes_on():
            row = self._scratch.login.execute(
                "CALL bench.stream(%s, %s, %s, %s)",
                [_PIECE_CALLS, _CALLS_PER_SECOND, self._businesses, self._next_slot],
            ).fetchone()
            assert row
            expect(row[3], _PIECE_CALLS)
            self._next_slot += _PIECE_CALLS
            calls += [
                _Call(began_at.timestamp(), seconds, own)
                for began_at, seconds, own in zip(row[0], row[1], row[2], strict=True)
            ]
        return calls


def measure_purge(scratch: Scratch, plan: Plan, businesses: int) -> Iterator[Row]:
    """Plants expired holds of one business, and streams before they are purged and meanwhile; as often as planned."""
    scratch.make_service("s1", capacity=HUGE_CAPACITY)
    stream = _Stream(scratch, businesses)
    stream.run(lambda: False)
    alone: list[_Call] = []
    beside: list[_Call] = []
    for _ in range(plan.purges):
        scratch.database.rows(
            "CALL bench.plant_holds('b1', 's1', %s, %s, now() - interval '1 second')", _PURGED_SLOTS, plan.purged_holds
        )
        scratch.settle()
        ends_at = time.monotonic() + plan.stream_seconds
        alone += stream.run(lambda ends_at=ends_at: time.monotonic() < ends_at)  # type: ignore[misc]
        beside += _stream_beside_purge(scratch, stream)
    for own, whose in ((False, "of other businesses"), (True, "of the same business")):
        before, meanwhile = (_p99([call for call in calls if call.own == own]) for calls in (alone, beside))
        yield Row(
            f"7 p99 of reserves {whose}, beside a purge of {plan.purged_holds:,}",
            meanwhile / before,
            f"{before * 1e3:.2f} -> {meanwhile * 1e3:.2f} ms, {meanwhile / before:.2f}x",
            "x",
            1.5,
        )


def _stream_beside_purge(scratch: Scratch, stream: _Stream) -> list[_Call]:
    """Streams while everything is purged that is due, and returns the calls that began meanwhile."""
    purged = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(stream.run, lambda: not purged.is_set())
        try:
            began_at = time.time()
            asyncio.run(_purge(scratch.database.url))
            ended_at = max(time.time(), began_at + _SHORTEST_SECONDS)
        finally:
            purged.set()
    return [call for call in calls.result() if began_at <= call.began_at <= ended_at]


async def _purge(url: str) -> None:
    """Purges as the service does, in its steps, until nothing is due."""
    async with open_database(url) as database:
        while (await Cleanup(database, retention=_RETENTION).run()).remaining:
            pass


def _p99(calls: list[_Call]) -> float:
    assert calls
    ordered = sorted(call.seconds for call in calls)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
