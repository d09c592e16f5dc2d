"""Group commit and its queue in thousands of random schedules, in simulated time. A failure names its seed."""

import asyncio
import os
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

import orjson
import pytest
from psycopg.types.json import Jsonb

from service.database import group_commit as group_commit_module
from service.database.connections import LOCK_SECONDS, REQUEST_SECONDS
from service.database.group_commit import GroupCommit
from service.database.queue import FairQueue, Operation
from service.errors import Overloaded
from tests.simulation.loop import SimulatedLoop, Stalled, first_failure, simulate
from tests.simulation.schedule import Schedule, simulated_time
from tests.simulation.server import Faults, SimulatedDatabase

# More of them: SCHEDULES=50000 make test TESTS=tests/simulation
SCHEDULES: Final = int(os.environ.get("SCHEDULES", "600"))


def test_every_schedule_keeps_the_rules() -> None:
    """Each request gets one answer in time that agrees with its effect, is sent again only when no earlier call can
    grant it, and waits for no newer one."""
    failed = first_failure(lambda seed: Schedule(seed).run(), range(SCHEDULES))
    assert failed is None, f"Schedule({failed[0]}).run() fails: {failed[1]!r}"


def test_a_late_request_does_not_get_the_error_of_a_neighbour() -> None:
    """A call fails for one of its requests when no time is left to send the other one alone: it is refused, and can be
    sent again."""

    async def main(loop: SimulatedLoop) -> None:
        database = SimulatedDatabase(loop, random.Random(1), Faults(slow=1), lambda _: None)
        group_commit = GroupCommit(database, max_batch=2, lanes=1)  # type: ignore[arg-type]
        requests = [b'{"n":1}', b'{"is_defect":true}']
        callers = [
            asyncio.ensure_future(group_commit.submit("reserve", "salon", str(UUID(int=n)), request))
            for n, request in enumerate(requests)
        ]
        # What is left is enough for one call, but not for another one after that.
        await asyncio.sleep(REQUEST_SECONDS - LOCK_SECONDS - 0.6)
        group_commit.start()
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(error) for error in errors] == [Overloaded, Overloaded]
        assert len(database.calls) == 1
        await group_commit.stop()

    with simulated_time(random.Random(1)):
        simulate(1, main)


@pytest.mark.parametrize("seed", range(5))
def test_a_lock_that_cannot_be_had_is_always_overloaded(seed: int) -> None:
    """Requests that come at any moment of another one's wait learn that they had no effect: the answer of the call that
    carried them comes while they still wait for it."""

    async def main(loop: SimulatedLoop) -> None:
        database = SimulatedDatabase(loop, random.Random(seed), Faults(), lambda _: None)
        group_commit = GroupCommit(database, max_batch=8, lanes=2)  # type: ignore[arg-type]
        group_commit.start()
        await database.lock("salon").acquire()

        async def submit(number: int) -> None:
            await asyncio.sleep(number * 0.05)
            await group_commit.submit("reserve", "salon", str(UUID(int=number)), b'{"n":1}')

        errors = await asyncio.gather(*map(submit, range(300)), return_exceptions=True)
        assert {type(error) for error in errors} == {Overloaded}
        assert {call.sqlstate for call in database.calls} == {"55P03"}
        await group_commit.stop()

    with simulated_time(random.Random(seed)):
        simulate(seed, main)


class SteadyDatabase(SimulatedDatabase):
    """A PostgreSQL that answers each call after 2 ms."""

    @asynccontextmanager
    async def connection(self, business_id: str) -> AsyncIterator[None]:  # noqa: ARG002 — to any
        yield

    async def rows(self, _: None, name: str, businesses: list[str], batches: list[Jsonb], deadline: float) -> list[Any]:  # noqa: ARG002
        requests = [request for batch in batches for request in orjson.loads(batch.obj)["reserve"]]
        self.on_sent((round(self.loop.time() * 1000), len(requests)))
        await asyncio.sleep(0.002)
        return [(request["operation_id"], "done", b"{}") for request in requests]


@pytest.mark.parametrize(
    ("arrivals_ms", "calls"),
    [
        # One after the other, and one beside a call: each is sent as soon as it can be.
        ([0, 3, 6, 7], [(0, 1), (3, 1), (6, 1), (8, 1)]),
        # Several beside a call: the next one carries those that come within 3 ms of its end.
        ([0, 1, 1, 4], [(0, 1), (5, 3)]),
        # One after a call of several waits for others: the callers that were answered ask again.
        ([0, 1, 1, 8, 9], [(0, 1), (5, 2), (10, 2)]),
        # Enough for a full batch: it does not wait, and the one that is left waits for others.
        ([0, 1, 1, 1, 1, 1], [(0, 1), (2, 4), (7, 1)]),
    ],
    ids=["one by one", "several", "answered", "full"],
)
def test_requests_are_gathered_beside_a_call(arrivals_ms: list[float], calls: list[tuple[int, int]]) -> None:
    """Each call has a cost of its own, so the requests of a busy service wait a little for others."""
    sent: list[tuple[int, int]] = []

    async def main(loop: SimulatedLoop) -> None:
        database = SteadyDatabase(loop, random.Random(1), Faults(), sent.append)
        group_commit = GroupCommit(database, max_batch=4, lanes=2)  # type: ignore[arg-type]
        group_commit.start()

        async def submit(number: int, arrives_ms: float) -> None:
            await asyncio.sleep(arrives_ms / 1000)
            await group_commit.submit("reserve", f"business-{number}", str(UUID(int=number)), b'{"n":1}')

        await asyncio.gather(*(submit(number, arrives_ms) for number, arrives_ms in enumerate(arrivals_ms)))
        await group_commit.stop()

    with simulated_time(random.Random(1)):
        simulate(1, main)
    assert sent == calls


def no_doubt(_: list[Operation]) -> Any:
    """Marks no operation as in doubt."""
    return nullcontext()


def always(*_: object) -> bool:
    """Lets each business go, also while it has a batch under way."""
    return True


def newest_first(self: FairQueue, business_id: str, share: int) -> list[Operation]:
    """Takes the newest requests of a business."""
    queue = self._queues.pop(business_id)
    self._queues[business_id] = deque(reversed(queue))
    return TAKE_SHARE(self, business_id, share)


async def _send_again_silently(self: GroupCommit, operation: Operation, error: Exception) -> None:
    """Sends a request again, and reports nothing if its answer stays lost."""
    await self._send_until_answered(operation, error)


TAKE_SHARE: Final = FairQueue._take_share
BROKEN: Final[dict[str, Callable[[], Any]]] = {
    "an effect in doubt is denied": lambda: patch.object(group_commit_module, "_in_doubt", no_doubt),
    "an effect in doubt is not reported": lambda: patch.object(GroupCommit, "_send_again", _send_again_silently),
    "a lost call is repeated at once": lambda: patch.object(group_commit_module, "RESEND_SECONDS", 0.0),
    "a business has two batches": lambda: patch.object(FairQueue, "_may_go", always),
    "the newest request goes first": lambda: patch.object(FairQueue, "_take_share", newest_first),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_variant_breaks_a_rule(name: str) -> None:
    """The rules find what each variant breaks, within the schedules of a test."""
    with BROKEN[name]():
        assert first_failure(lambda seed: Schedule(seed).run(), range(SCHEDULES))


def test_time_is_simulated() -> None:
    """An hour passes at once, and timers fire in the order of their times."""
    order: list[int] = []

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        for delay in (3600, 60, 1800):
            loop.call_later(delay, order.append, delay)
        await asyncio.sleep(3601)

    assert simulate(1, main).time() > 3600
    assert order == [60, 1800, 3600]


def test_a_seed_repeats_its_order() -> None:
    """Tasks that could run at one moment run in an order that the seed decides."""

    def order(seed: int) -> list[int]:
        ran: list[int] = []

        async def note(number: int) -> None:
            ran.append(number)

        async def main(_: object) -> None:
            await asyncio.gather(*(note(number) for number in range(10)))

        simulate(seed, main)
        return ran

    assert order(1) == order(1) != order(2)


def test_a_deadlock_is_noticed() -> None:
    """A loop without timers and without anything to run would wait for ever."""

    async def main(_: object) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled):
        simulate(1, main)
