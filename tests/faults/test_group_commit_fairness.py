"""Group commit among businesses: fair shares of each batch, and locks that delay their own business only."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from service.database import queue as queue_module
from service.database.group_commit import GroupCommit
from service.database.queue import FairQueue, Operation
from service.errors import Overloaded
from tests.database import TestDatabase, at
from tests.faults.group_commits import count_calls, fail_first_calls, reserve, running

pytestmark = pytest.mark.anyio


async def test_a_batch_has_a_fair_share_of_each_business() -> None:
    """The shares together fill the batch."""
    queue = FairQueue(max_batch=8)
    for business_id in ("a", "b", "c", "d"):
        for _ in range(8):
            queue.add("reserve", business_id, str(uuid4()), b"{}", print)
    batch = await queue.take()
    assert Counter(operation.business_id for operation in batch) == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_a_stampede_of_one_business_leaves_room_for_others(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A business may use half of the queue and is refused beyond that; the next one may use half of the rest."""
    monkeypatch.setattr(queue_module, "MAX_QUEUE", 8)
    for business_id in ("salon", "other", "third"):
        database.make_service(business_id=business_id, capacity=100)
    async with running(database.url) as group_commit:
        with database.locked():
            first = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            tasks = {
                business_id: [asyncio.create_task(reserve(group_commit, business_id=business_id)) for _ in range(20)]
                for business_id in ("salon", "other", "third")
            }
            await asyncio.sleep(0)
            refused = {name: [task for task in some if task.done()] for name, some in tasks.items()}
            assert {name: len(some) for name, some in refused.items()} == {"salon": 16, "other": 18, "third": 19}
            assert all(isinstance(task.exception(), Overloaded) for some in refused.values() for task in some)
        admitted = [task for some in tasks.values() for task in some if not task.done()]
        assert {outcome.name for outcome in await asyncio.gather(first, *admitted)} == {"done"}


async def test_a_request_that_would_wait_too_long_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate is the wait of the business's latest request. It does not affect other businesses, and ends with the
    queue."""
    monkeypatch.setattr(queue_module, "QUEUE_SECONDS", 0.0)
    queue = queue_module.FairQueue(max_batch=2)

    def add(business_id: str = "salon") -> None:
        queue.add("reserve", business_id, str(uuid4()), b"{}", print)

    for _ in range(5):
        add()  # without an estimate yet, all are admitted
    queue.finished(await queue.take())
    with pytest.raises(Overloaded):
        add()
    add("other")
    for business_ids in (["salon", "other"], ["salon", "salon"]):
        batch = await queue.take()
        assert [operation.business_id for operation in batch] == business_ids
        queue.finished(batch)
    add()


async def test_a_locked_business_does_not_delay_others(database: TestDatabase) -> None:
    """Only the requests of the locked business wait, and they are granted in the end."""
    database.make_service(business_id="stuck")
    database.make_service(business_id="free", capacity=100)
    async with running(database.url, lanes=2) as group_commit:
        with database.locked("stuck"):
            stuck = asyncio.create_task(reserve(group_commit, business_id="stuck"))
            await asyncio.to_thread(database.wait_until_blocked)
            outcomes = [await reserve(group_commit, business_id="free") for _ in range(20)]
            assert {outcome.name for outcome in outcomes} == {"done"}
            assert not stuck.done()
        assert (await stuck).name == "done"


async def test_a_locked_business_among_many_does_not_delay_the_others(database: TestDatabase) -> None:
    """Its requests fail and are resent one at a time; all others of their batches are granted."""
    healthy = [f"business-{number}" for number in range(4)]
    for business_id in ("stuck", *healthy):
        database.make_service(business_id=business_id, capacity=1000)
    async with running(database.url, lanes=2) as group_commit:
        with database.locked("stuck"):
            stuck, served = [], 0
            for _ in range(25):
                wave = [asyncio.create_task(reserve(group_commit, business_id=name)) for name in healthy]
                stuck += [asyncio.create_task(reserve(group_commit, business_id="stuck")) for _ in range(2)]
                outcomes = await asyncio.gather(*wave)
                served += sum(outcome.name == "done" for outcome in outcomes)
            assert served == 25 * len(healthy)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_resent_requests_of_a_locked_business_do_not_delay_others(database: TestDatabase) -> None:
    """Requests are resent one at a time, and those of other businesses need not wait for the timeouts of the locked
    one."""
    for business_id in ("stuck", "free"):
        database.make_service(business_id=business_id, capacity=10)
    fail_first_calls(database, 1, "22012")
    async with running(database.url, lanes=2) as group_commit:
        with database.locked("stuck"):
            stuck = [asyncio.create_task(reserve(group_commit, business_id="stuck")) for _ in range(4)]
            free = asyncio.create_task(reserve(group_commit, business_id="free"))
            assert (await free).name == "done"
            # The failed batch, the request of the free business, and one of the locked business.
            assert count_calls(database) <= 3
        assert {outcome.name for outcome in await asyncio.gather(*stuck)} == {"done"}


def record_businesses(group_commit: GroupCommit, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records the businesses of each call from now on."""
    recorded: list[list[str]] = []
    call = group_commit._call

    async def record(operations: list[Operation]) -> list[Operation]:
        recorded.append(sorted({operation.business_id for operation in operations}))
        return await call(operations)

    monkeypatch.setattr(group_commit, "_call", record)
    return recorded


@pytest.mark.parametrize("sqlstate", ["55P03", "57014", "HF001"])
async def test_a_business_whose_lock_timed_out_is_sent_alone_until_it_succeeds(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    """Another wait for its lock delays no other business, and it shares batches again after a success."""
    for business_id in ("stuck", "a", "b"):
        database.make_service(business_id=business_id, capacity=10)
    fail_first_calls(database, 1, sqlstate)
    async with running(database.url) as group_commit:
        await reserve(group_commit, business_id="stuck")
        recorded = record_businesses(group_commit, monkeypatch)
        for _ in range(2):
            with database.locked("a"):
                tasks = [asyncio.create_task(reserve(group_commit, business_id="a"))]
                await asyncio.to_thread(database.wait_until_blocked)
                # These three requests wait in the queue.
                tasks += [asyncio.create_task(reserve(group_commit, business_id=name)) for name in ("stuck", "a", "b")]
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
    assert recorded == [["a"], ["stuck"], ["a", "b"], ["a"], ["a", "b", "stuck"]]


async def test_deferred_requests_are_resent(database: TestDatabase) -> None:
    """A request whose lock was not free in a shared batch is granted in the next one."""
    database.make_service(business_id="first", capacity=10)
    database.make_service(business_id="second")
    async with running(database.url) as group_commit:
        with database.locked("first") as first_lock, database.locked("second") as second_lock:
            tasks = [asyncio.create_task(reserve(group_commit, business_id="first"))]
            await asyncio.to_thread(database.wait_until_blocked)
            tasks += [asyncio.create_task(reserve(group_commit, business_id=name)) for name in ("first", "second")]
            await asyncio.sleep(0)
            first_lock.commit()
            await asyncio.gather(*tasks[:2])
            assert not tasks[2].done()
            second_lock.commit()
            assert (await tasks[2]).name == "done"


async def test_deferred_requests_keep_their_order(database: TestDatabase) -> None:
    """A call decides a limited number of overlapping windows and the next call the rest, in the order of arrival, with
    or without idempotency keys."""
    database.make_service(capacity=100)
    async with running(database.url) as group_commit:
        with database.locked():
            tasks = [asyncio.create_task(reserve(group_commit, 20))]
            await asyncio.to_thread(database.wait_until_blocked)
            for number in range(40):
                attempt = {"idempotency_key": f"key-{number}", "fingerprint": "f"} if number % 7 == 6 else {}
                tasks.append(asyncio.create_task(reserve(group_commit, 10 + number / 60, **attempt)))
            await asyncio.sleep(0)
        assert {outcome.name for outcome in await asyncio.gather(*tasks)} == {"done"}
    decided = database.rows(
        "SELECT created_at FROM booking.reservations WHERE slot_start < %s ORDER BY slot_start", at(20)
    )
    assert decided == sorted(decided)
    assert len(set(decided)) == 3
