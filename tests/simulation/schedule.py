"""One schedule of group commit: requests, cancellations and faults by a seed, and what has to hold in all of them."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

import orjson

from service.database import failures as failures_module
from service.database import group_commit as group_commit_module
from service.database import queue as queue_module
from service.database.connections import REQUEST_SECONDS
from service.database.group_commit import GroupCommit
from service.database.queue import CALL_SECONDS, Outcome
from service.errors import Overloaded, Unavailable
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.server import Faults, SentCall, SimulatedDatabase

# A deadline may be noticed late by a tenth of its time: see service/background.py.
_LATEST_SECONDS: Final = REQUEST_SECONDS * 1.1 + 0.01
# A batch is sent so soon after its requests were taken from the queue.
_FORMING_SECONDS: Final = 0.02
_CALM: Final = Faults()


class _Silent:
    """A log of nothing: thousands of schedules would fill it."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


SILENT: Final = _Silent()


@dataclass(slots=True)
class Caller:
    """One request, and what became of it."""

    operation_id: str
    business: str
    arguments: dict[str, bool]
    arrives_at: float
    # How long it waits before it leaves. None: for its answer.
    patience: float | None
    submitted_at: float | None = None
    answered_at: float | None = None
    left: bool = False
    outcome: str | None = None
    error: Exception | None = None
    reported: int = 0
    # Whether the request had its effect when it was reported.
    reported_effect: bool = False
    sent: list[SentCall] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether its request is in the queue: it was not sent yet, or deferred."""
        is_there = self.submitted_at is not None and self.answered_at is None and not self.left
        return is_there and (not self.sent or self.operation_id in self.sent[-1].deferred_ids)


class Schedule:
    """Runs one schedule. A broken rule is an AssertionError."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"schedule {seed}")
        choose = self._random.choice
        self._seed = seed
        self._max_batch = choose([1, 2, 4, 16])
        self._lanes = choose([1, 2, 4])
        self._max_queue = choose([8, 30, 4000])
        self._businesses = [f"business-{n}" for n in range(choose([1, 2, 3, 8]))]
        self.faults = choose(
            [
                _CALM,
                Faults(deferred=0.2),
                Faults(deadlock=0.2, deferred=0.1),
                Faults(lost=0.3),
                Faults(lost=0.2, slow=0.2, deadlock=0.1, no_connection=0.02, deferred=0.1),
            ]
        )
        self._callers = [self._caller() for _ in range(choose([4, 12, 40]))]
        # Locks that others hold: business, from when, and for how long.
        count = choose([0, 0, 1, 3])
        self._locked = [(choose(self._businesses), self._random.uniform(0, 2), choose([0.5, 3])) for _ in range(count)]
        self._by_id = {caller.operation_id: caller for caller in self._callers}
        self._by_arrival: list[Caller] = []
        self._skipped: Counter[str] = Counter()
        self._violations: list[AssertionError] = []

    def run(self) -> None:
        """Runs it in simulated time, and checks the rules while it runs and at its end."""
        with simulated_time(self._random), patch.object(queue_module, "MAX_QUEUE", self._max_queue):
            loop = simulate(self._seed, self._main)
        if self._violations:
            raise self._violations[0]
        assert not loop.failures, loop.failures

    async def _main(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._database = database = SimulatedDatabase(loop, self._random, self.faults, self._on_sent)
        group_commit = GroupCommit(database, max_batch=self._max_batch, lanes=self._lanes)  # type: ignore[arg-type]
        group_commit.start()
        async with asyncio.TaskGroup() as tasks:
            for caller in self._callers:
                tasks.create_task(self._call(group_commit, caller))
            for business, since, seconds in self._locked:
                tasks.create_task(self._hold_lock(business, since, seconds))
        await database.until_idle()
        await asyncio.sleep(self._random.choice([0, CALL_SECONDS + 1]))
        await group_commit.stop()
        for caller in self._callers:
            self._check_answer(caller)

    # The callers.

    def _caller(self) -> Caller:
        luck = self._random.random()
        arguments = {"is_defect": True} if luck < 0.04 else {"is_refused": True} if luck < 0.2 else {}
        patience = self._random.uniform(0, 4) if self._random.random() < 0.15 else None
        operation_id = str(UUID(int=self._random.getrandbits(128), version=4))
        arrives_at = self._random.choice([0.0, self._random.uniform(0, 0.2), self._random.uniform(0, 4)])
        return Caller(operation_id, self._random.choice(self._businesses), arguments, arrives_at, patience)

    async def _call(self, group_commit: GroupCommit, caller: Caller) -> None:
        await asyncio.sleep(caller.arrives_at)

        def report(_: Outcome) -> None:
            caller.reported += 1
            caller.reported_effect = caller.operation_id in self._database.effects

        caller.submitted_at = self._loop.time()
        self._by_arrival.append(caller)
        arguments = orjson.dumps({"n": 1, **caller.arguments})
        submit = asyncio.ensure_future(
            group_commit.submit("reserve", caller.business, caller.operation_id, arguments, report)
        )
        await asyncio.wait([submit], timeout=caller.patience if caller.patience is not None else _LATEST_SECONDS)
        if not submit.done() and caller.patience is not None:
            caller.left = True
            submit.cancel()
            await asyncio.wait([submit])
        assert submit.done(), f"{caller} was not answered in time"
        if submit.cancelled():
            return
        caller.answered_at = self._loop.time()
        error = submit.exception()
        if error is None:
            caller.outcome = submit.result().name
        else:
            assert isinstance(error, Exception)
            caller.error = error
            if isinstance(error, Overloaded) and caller.answered_at - caller.submitted_at < 1e-4:
                self._check_refused_at_once(caller)

    async def _hold_lock(self, business: str, since: float, seconds: float) -> None:
        await asyncio.sleep(since)
        async with self._database.lock(business):
            await asyncio.sleep(seconds)

    # The rules.

    def _waiting(self) -> dict[str, list[Caller]]:
        """Returns by business the callers whose requests are in the queue, in the order of their arrival."""
        waiting: dict[str, list[Caller]] = {business: [] for business in self._businesses}
        for caller in self._by_arrival:
            if caller.is_waiting:
                waiting[caller.business].append(caller)
        return waiting

    def _on_sent(self, call: SentCall) -> None:
        """Checks a call at the moment at which it is sent."""
        try:
            callers = [self._by_id[operation_id] for operation_id in call.operation_ids]
            for caller in callers:
                self._check_sent(caller, call)
            for other in self._database.calls:
                if other.ended_at is None and other.is_single == call.is_single and self._max_batch > 1:
                    assert not set(other.business_ids) & set(call.business_ids), "a business has two calls under way"
            if not call.is_single:
                self._check_order(call, callers)
                contended = self._contended() & set(call.business_ids)
                assert len(call.business_ids) == 1 or not contended, f"{contended} delays the others of its call"
        except AssertionError as violation:
            # Group commit must not get it: it handles what its calls raise.
            self._violations.append(violation)
        for operation_id in call.operation_ids:
            self._by_id[operation_id].sent.append(call)

    def _check_sent(self, caller: Caller, call: SentCall) -> None:
        now = self._loop.time()
        assert call.operation_ids.count(caller.operation_id) == 1, f"{caller} is twice in one call"
        assert not caller.left, f"{caller} has left and is sent"
        assert caller.answered_at is None, f"{caller} is answered and is sent again"
        assert caller.submitted_at is not None
        left = caller.submitted_at + REQUEST_SECONDS - now
        assert left > 0, f"{caller} is sent after its time"
        assert call.deadline <= now + min(left, CALL_SECONDS) + 0.01, f"the call may grant {caller} after its time"
        for earlier in caller.sent:
            assert earlier.is_known_dead or now > earlier.deadline, f"{caller} is sent while a call may grant it"

    def _check_order(self, call: SentCall, callers: list[Caller]) -> None:
        """Checks that a batch passes over no older request of its businesses, and over no business for ever."""
        assert len(callers) <= self._max_batch
        under_way = {b for other in self._database.calls if other.ended_at is None for b in other.business_ids}
        all_waiting = self._waiting()
        assert sum(map(len, all_waiting.values())) <= self._max_queue + len(callers), "the queue exceeds its bound"
        for business, waiting in all_waiting.items():
            first = [caller for caller in callers if caller.business == business]
            left = [caller for caller in waiting if caller not in first]
            if business in call.business_ids or business in under_way or self._is_contended(business) or not left:
                self._skipped[business] = 0
            else:
                self._skipped[business] += 1
            assert self._skipped[business] <= len(self._businesses) + 2, f"{business} waits for ever"
            if first and left and self._max_batch > 1:
                newest = max(caller.submitted_at or 0.0 for caller in first)
                assert (left[0].submitted_at or 0.0) >= newest, f"{left[0]} was passed over"

    def _contended(self) -> set[str]:
        """Returns the businesses whose lock timed out in the last batch that needed it, unless that just ended."""
        contended: set[str] = set()
        batches = [call for call in self._database.calls if call.ended_at and not call.is_single]
        for call in sorted(batches, key=lambda call: call.ended_at or 0.0):
            if call.ended_at and call.ended_at > self._loop.time() - _FORMING_SECONDS:
                contended -= set(call.business_ids)
            elif call.sqlstate in ("55P03", "HF001"):
                contended.add(call.business_ids[0])
            elif call.sqlstate is None and call.is_known_dead:
                contended -= set(call.business_ids)
        return contended

    def _is_contended(self, business: str) -> bool:
        return any(business == one for one, *_ in self._locked) or self.faults is not _CALM

    def _check_refused_at_once(self, caller: Caller) -> None:
        """Checks that the queue was full for a request that was refused at once, or that others of its business were
        waiting, so that its turn would have come late."""
        waiting = self._waiting()
        is_full = sum(map(len, waiting.values())) * 2 >= self._max_queue
        assert waiting[caller.business] or is_full, f"{caller} was refused without need"

    def _check_answer(self, caller: Caller) -> None:
        """Checks that the answer of a request agrees with the effect."""
        had_effect = caller.operation_id in self._database.effects
        assert caller.left or (caller.outcome is None) != (caller.error is None), f"{caller} has no answer"
        if caller.outcome is not None:
            assert caller.outcome == ("slot_unavailable" if caller.arguments else "done"), caller
            assert had_effect == (caller.outcome == "done"), f"{caller} was answered against its effect"
        if isinstance(caller.error, Overloaded):
            assert not had_effect, f"{caller} was answered that it has no effect"
        if caller.error and not isinstance(caller.error, Unavailable):
            assert caller.arguments == {"is_defect": True}, f"{caller} got the error of a neighbour"
        if caller.error and caller.sent and not self._locked and not self.faults.slow:
            assert caller.answered_at is not None
            idle = caller.answered_at - (caller.sent[-1].ended_at or math.inf)
            assert idle < CALL_SECONDS + 1, f"{caller} was forgotten"
        assert caller.reported <= 1, f"{caller} was reported twice"
        assert caller.reported or caller.outcome is None, f"{caller} was not reported"
        assert caller.reported_effect == had_effect, f"{caller} was reported against its effect"
        if self.faults is _CALM and not self._locked and self._max_queue > len(self._callers):
            assert caller.left or caller.outcome or caller.arguments == {"is_defect": True}, f"{caller} failed in calm"


@contextmanager
def simulated_time(randomness: random.Random) -> Iterator[None]:
    """Makes group commit and its queue read the clock of the running loop, and pause by a seed, without a log."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    with ExitStack() as patches:
        for module in (group_commit_module, queue_module):
            patches.enter_context(patch.object(module, "time", clock))
        patches.enter_context(patch.object(failures_module, "random", randomness))
        patches.enter_context(patch.object(group_commit_module, "log", SILENT))
        yield
