"""The purge in simulated time: how a run goes on after a step, and when it ends."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch

import psycopg
import pytest

from service.booking import cleanup
from service.booking.cleanup import Cleanup, CleanupReport
from service.database.connections import Database
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.schedule import SILENT

STEP_SECONDS: Final = 0.01
# What a step returns: numbers of rows, freed services and busy businesses.
PROGRESS: Final[tuple[object, ...]] = (cleanup._STEP_ROWS, 0, 0, "[]", [])
BUSY: Final[tuple[object, ...]] = (0, 0, 0, "[]", ["salon"])
END: Final[tuple[object, ...]] = (1, 0, 0, "[]", [])


class Due:
    """A database in which rows of one business are due, by the results of the steps that purge them."""

    def __init__(self, steps: Iterable[tuple[object, ...] | Exception]) -> None:
        self._steps = iter(steps)
        self.began_at: list[float] = []

    async def fetch(self, _: str) -> list[tuple[object, ...]]:
        """Reads the clock."""
        return [(datetime.now(UTC),)]

    async def fetch_everywhere(self, name: str, *_: object) -> tuple[list[tuple[object, ...]], tuple[int, ...]]:
        """Reads which business has rows that are due, or records the run."""
        return [("salon", 1)] if name == "due_businesses" else [], ()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        """Lends a connection."""
        yield

    def deadline(self, _: float) -> datetime:
        """Returns any deadline."""
        return datetime.now(UTC)

    async def rows(self, *_: object) -> list[tuple[object, ...]]:
        """Runs the next step."""
        self.began_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(STEP_SECONDS)
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return [step]


def run(*steps: tuple[object, ...] | Exception) -> tuple[CleanupReport, Due, list[dict[str, Any]]]:
    """Runs the purge, and returns its report, the database and the changes that were announced."""
    database = Due(steps)
    announced: list[dict[str, Any]] = []
    reports: list[CleanupReport] = []

    def announce(business_id: str, body: Any, *, moved: bool) -> None:  # noqa: ARG001 — as Announce
        announced.append(body)

    async def main(_: SimulatedLoop) -> None:
        purge = Cleanup(cast(Database, database), retention=timedelta(days=1), announce=announce)
        reports.append(await purge.run())
        await asyncio.sleep(10)

    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    with patch.object(cleanup, "time", clock), patch.object(cleanup, "log", SILENT):
        loop = simulate(0, main)
    assert not loop.failures, loop.failures
    return reports[0], database, announced


@pytest.mark.parametrize("error", [psycopg.errors.LockNotAvailable(), psycopg.errors.QueryCanceled()])
def test_a_step_that_purged_nothing_ends_its_businesses(error: Exception) -> None:
    """The run is reported as done, and no browser loads again: the error says that nothing changed."""
    report, database, announced = run(PROGRESS, error)
    assert (report.expired, report.remaining) == (cleanup._STEP_ROWS, 1)
    assert len(database.began_at) == 2
    assert announced == []


def test_a_business_counts_as_busy_only_while_nothing_is_purged() -> None:
    """Each step with rows begins the count anew; otherwise a long run would end at any time."""
    almost = [BUSY] * (cleanup._BUSY_ATTEMPTS - 1)
    one_of_two: tuple[object, ...] = (1, 0, 0, "[]", ["salon"])
    report, _, _ = run(*almost, one_of_two, *almost, *[PROGRESS] * (2 * cleanup._BUSY_ATTEMPTS), END)
    assert report.expired == 1 + 2 * cleanup._BUSY_ATTEMPTS * cleanup._STEP_ROWS + 1
    _, database, _ = run(*[BUSY] * cleanup._BUSY_ATTEMPTS)
    assert len(database.began_at) == cleanup._BUSY_ATTEMPTS


def test_the_purge_rests_as_long_as_it_works() -> None:
    """Requests have the locks and the processor for half of the time at least."""
    _, database, _ = run(*[PROGRESS] * 5, END)
    pauses = [later - earlier - STEP_SECONDS for earlier, later in pairwise(database.began_at)]
    assert pauses == pytest.approx([STEP_SECONDS] * 5, rel=0.01)


def test_a_run_ends_when_its_time_is_up() -> None:
    """Less than the minute after which a scheduler calls again, however much is due."""
    _, database, _ = run(*[PROGRESS] * 10_000)
    assert database.began_at[-1] == pytest.approx(cleanup._RUN_SECONDS, abs=2 * STEP_SECONDS)


class Recorded(Due):
    """A database in which nothing is due, and which records when the purge ran."""

    def __init__(self) -> None:
        super().__init__([])
        self.ran_at: list[float] = []

    async def fetch_everywhere(self, name: str, *_: object) -> tuple[list[tuple[object, ...]], tuple[int, ...]]:
        """Records a run, or returns the time and that of the last run as reservation_health does."""
        now = asyncio.get_running_loop().time()
        if name == "record_purge":
            self.ran_at.append(now)
        if name != "reservation_health":
            return [], ()
        last_run = datetime.fromtimestamp(self.ran_at[-1], UTC) if self.ran_at else None
        return [(datetime.fromtimestamp(now, UTC), 0, 0, None, last_run, 0, 0)], ()


def test_processes_share_the_interval() -> None:
    """One of them purges in each interval. When it has ended, another one does."""
    database = Recorded()

    async def main(_: SimulatedLoop) -> None:
        purge = Cleanup(cast(Database, database), retention=timedelta(days=1))

        async def process(starts_at: float) -> None:
            await asyncio.sleep(starts_at)
            await purge.run_every(60)

        processes = [asyncio.create_task(process(starts_at)) for starts_at in (0, 5, 10)]
        await asyncio.sleep(200)
        processes[0].cancel()
        await asyncio.sleep(200)
        for other in processes:
            other.cancel()

    with patch.object(cleanup, "log", SILENT):
        loop = simulate(0, main)
    assert not loop.failures, loop.failures
    assert database.ran_at == pytest.approx([60, 120, 180, 245, 305, 365], abs=0.1)
