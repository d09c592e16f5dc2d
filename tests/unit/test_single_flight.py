"""SingleFlight: one task per key, shared by its callers."""

import asyncio
import gc
from typing import Any

import pytest

from service.single_flight import SingleFlight
from tests.manual_clock import ManualClock

pytestmark = pytest.mark.anyio


class Source:
    """Returns 1, 2, 3, … or raises, once it may finish."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def __call__(self) -> int:
        """Waits until it may finish."""
        self.calls += 1
        number = self.calls
        await self.may_finish.wait()
        if self.fails:
            raise ValueError(number)
        return number


async def test_concurrent_callers_of_a_key_share_one_task() -> None:
    """Callers of another key have a task of their own."""
    source, flight = Source(), SingleFlight[str, int]()
    callers = [flight.run(key, source) for key in ("a", "a", "a", "b")]
    assert await asyncio.gather(*callers) == [1, 1, 1, 2]


async def test_without_keeping_a_later_caller_starts_a_new_task() -> None:
    """Nothing of the ended tasks stays in memory."""
    source, flight = Source(), SingleFlight[str, int]()
    assert [await flight.run("a", source) for _ in range(3)] == [1, 2, 3]
    assert not flight._running
    assert not flight._kept


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    """Whether it was the first caller, which started the task, or a later one."""
    for cancelled in (0, 1):
        source, flight = Source(), SingleFlight[str, int]()
        source.may_finish.clear()
        callers = [asyncio.create_task(flight.run("a", source)) for _ in range(3)]
        await asyncio.sleep(0)
        callers.pop(cancelled).cancel()
        await asyncio.sleep(0)
        source.may_finish.set()
        assert await asyncio.gather(*callers) == [1, 1]
        assert source.calls == 1


async def test_a_task_goes_on_when_all_its_callers_are_cancelled() -> None:
    """The next caller joins it."""
    source, flight = Source(), SingleFlight[str, int]()
    source.may_finish.clear()
    caller = asyncio.create_task(flight.run("a", source))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    later = asyncio.create_task(flight.run("a", source))
    await asyncio.sleep(0)
    source.may_finish.set()
    assert await later == 1


async def test_a_result_is_kept_from_the_end_of_its_task() -> None:
    """And not from its beginning: a slow source would else be asked all the time."""
    source, clock = Source(), ManualClock()
    flight = SingleFlight[str, int](keep_seconds=10, clock=clock)
    source.may_finish.clear()
    caller = asyncio.create_task(flight.run("a", source))
    await asyncio.sleep(0)
    clock.now += 100
    source.may_finish.set()
    assert await caller == 1
    clock.now += 9
    assert await flight.run("a", source) == 1
    clock.now += 1
    assert await flight.run("a", source) == 2


async def test_a_failure_reaches_all_callers_and_is_not_kept() -> None:
    """The next caller tries again."""
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10)
    source.fails = True
    results = await asyncio.gather(*(flight.run("a", source) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["1"] * 3
    source.fails = False
    assert await flight.run("a", source) == 2


async def test_a_failure_is_kept_if_asked_for() -> None:
    """For as long as a result."""
    source, clock = Source(), ManualClock()
    flight = SingleFlight[str, int](keep_seconds=10, keep_failures=True, clock=clock)
    source.fails = True
    for _ in range(3):
        with pytest.raises(ValueError, match="1"):
            await flight.run("a", source)
    clock.now += 10
    source.fails = False
    assert await flight.run("a", source) == 2


async def test_the_kept_results_are_bounded() -> None:
    """The least recently used one is dropped first."""
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10, max_kept=2)
    assert [await flight.run(key, source) for key in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    assert [await flight.run(key, source) for key in ("a", "c", "b")] == [1, 3, 4]


async def test_a_result_that_is_larger_than_all_that_may_be_kept_is_not_kept() -> None:
    """That is no error, which the event loop would report."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10, max_kept=2, size_of=lambda _: 3)
    assert [await flight.run("a", source) for _ in range(2)] == [1, 2]
    assert not flight._kept
    assert reports == []


@pytest.mark.parametrize("keep_failures", [False, True])
async def test_a_failure_without_callers_is_not_reported_by_the_event_loop(keep_failures: bool) -> None:
    """All its callers were cancelled, so no code retrieves the exception."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    source, flight = Source(), SingleFlight[str, int](keep_seconds=0.001, keep_failures=keep_failures)
    source.fails = True
    source.may_finish.clear()
    caller = asyncio.create_task(flight.run("a", source))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    source.may_finish.set()
    await asyncio.sleep(0.01)
    assert not flight._running
    del caller, flight  # the traceback of a cancelled caller has the task, too
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("cancel_unwanted", [False, True])
async def test_a_task_ends_with_its_last_caller_if_asked_for(cancel_unwanted: bool) -> None:
    """Not with the first one. The next caller starts a new task, also while the old one is being cancelled."""
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10, cancel_unwanted=cancel_unwanted)
    source.may_finish.clear()

    async def ask() -> int:
        try:
            return await source()
        finally:
            await asyncio.sleep(0.001)  # as for a connection that is returned

    first, second = (asyncio.create_task(flight.run("a", ask)) for _ in range(2))
    for _ in range(2):
        await asyncio.sleep(0)
    task = flight._running["a"]
    first.cancel()
    await asyncio.wait([first])
    assert not task.cancelling()
    second.cancel()
    await asyncio.wait([second])
    assert bool(task.cancelling()) == cancel_unwanted
    third = asyncio.create_task(flight.run("a", ask))
    await asyncio.wait([task], timeout=0.01)
    source.may_finish.set()
    assert await third == (2 if cancel_unwanted else 1)
    assert not flight._callers


async def test_a_cancelled_task_cancels_its_callers_and_is_not_kept() -> None:
    """As when the event loop ends. Its end is no error."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10, keep_failures=True)
    source.may_finish.clear()
    caller = asyncio.create_task(flight.run("a", source))
    for _ in range(2):
        await asyncio.sleep(0)
    assert source.calls == 1
    flight._running["a"].cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert reports == []
    source.may_finish.set()
    assert await flight.run("a", source) == 2


async def test_a_key_that_is_forgotten_has_a_new_task_for_the_next_caller() -> None:
    """A task that runs then answers its callers, and is not kept. Without a key, all are forgotten."""
    source, flight = Source(), SingleFlight[str, int](keep_seconds=10, max_kept=3)
    assert [await flight.run(key, source) for key in ("a", "b")] == [1, 2]
    flight.forget("a")
    source.may_finish.clear()
    caller = asyncio.create_task(flight.run("a", source))
    for _ in range(2):
        await asyncio.sleep(0)
    flight.forget("a")
    source.may_finish.set()
    assert (await caller, await flight.run("a", source), await flight.run("b", source)) == (3, 4, 2)
    flight.forget(None)
    assert [await flight.run(key, source) for key in ("a", "b")] == [5, 6]


async def test_the_end_of_a_forgotten_task_changes_nothing_about_its_successor() -> None:
    """Its result is older than the change that made it forgotten, and would be kept in the place of the new one."""
    old, new = Source(), Source()
    new.calls = 1
    flight = SingleFlight[str, int](keep_seconds=10)
    for source in (old, new):
        source.may_finish.clear()
    callers = [asyncio.create_task(flight.run("a", old))]
    await asyncio.sleep(0)
    flight.forget("a")
    callers.append(asyncio.create_task(flight.run("a", new)))
    await asyncio.sleep(0)
    old.may_finish.set()
    assert await callers[0] == 1
    callers.append(asyncio.create_task(flight.run("a", new)))
    await asyncio.sleep(0)
    new.may_finish.set()
    assert await asyncio.gather(*callers) == [1, 2, 2]
    assert await flight.run("a", new) == 2
