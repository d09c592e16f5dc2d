"""The order in which the queue of a process lends its requests to calls."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from service.database import queue as queues
from service.database.connections import REQUEST_SECONDS
from service.database.queue import QUEUE_SECONDS, FairQueue, Operation
from service.errors import Overloaded
from service.observability.metrics import REFUSED_BY_QUEUE

pytestmark = pytest.mark.anyio


def add(queue: FairQueue, business_id: str) -> Operation:
    """Adds a request of a business."""
    return queue.add("reserve", business_id, str(uuid4()), b"{}", lambda _: None)


async def test_deferred_requests_come_before_those_of_other_businesses() -> None:
    """Otherwise a business whose lock is often taken would wait for a full round each time."""
    queue = FairQueue(max_batch=2)
    deferred = [add(queue, "a"), add(queue, "a")]
    assert await queue.take() == deferred
    first, _ = add(queue, "b"), add(queue, "c")
    queue.put_back(deferred)
    queue.finished(deferred)
    assert await queue.take() == [deferred[0], first]


async def test_of_businesses_whose_lock_timed_out_one_goes_at_a_time() -> None:
    """By itself. Several would keep all of the lanes from the others, which do not wait for them."""
    queue = FairQueue(max_batch=10)
    requests = {business_id: add(queue, business_id) for business_id in "abcd"}
    for business_id in "ab":
        queue.note_lock(business_id, timed_out=True)
    slow = await queue.take()
    assert slow == [requests["a"]]
    assert await queue.take() == [requests["c"], requests["d"]]
    queue.finished(slow)
    assert await queue.take() == [requests["b"]]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_request_whose_turn_would_come_too_late_is_refused(
    monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """The time of a place is that of the last batch. Once none of the business waits, nothing is known of its time."""
    clock: Any = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(queues, "time", clock)
    queue = FairQueue(max_batch=10)
    for _ in range(11):
        add(queue, "a")
    clock.now = 5.0
    batch = await queue.take()
    assert len(batch) == 10
    queue.finished(batch)
    in_time = int(QUEUE_SECONDS / (5.0 / 10))
    for _ in range(in_time):
        add(queue, "a")
    with pytest.raises(Overloaded):
        add(queue, "a")
    clock.now = 7.4
    if at_once:
        queue.take_all()
    while queue.waiting:
        queue.finished(await queue.take())
    for _ in range(100):
        add(queue, "a")


async def test_requests_whose_turn_came_too_late_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make room for those in time. One whose caller has left is no refusal."""
    clock: Any = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(queues, "time", clock)
    queue = FairQueue(max_batch=10)
    late, left = add(queue, "a"), add(queue, "a")
    left.outcome.cancel()
    clock.now = REQUEST_SECONDS
    in_time = add(queue, "a")
    before = REFUSED_BY_QUEUE._value.get()
    assert await queue.take() == [in_time]
    assert REFUSED_BY_QUEUE._value.get() - before == 1
    with pytest.raises(Overloaded):
        await late.outcome
