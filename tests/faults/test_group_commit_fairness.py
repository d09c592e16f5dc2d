"""Group commit among businesses: a fair share of each call, and locks that only their own business waits for."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from service.database import queue as queue_module
from service.database.group_commit import GroupCommit
from service.database.queue import FairQueue, Operation
from service.errors import Overloaded
from tests.database import TestDatabase, at
from tests.faults.group_commits import calls, fail_first_calls, reserve, running

pytestmark = pytest.mark.anyio


async def test_however_many_tenants_wait_a_call_has_a_fair_share_of_each() -> None:
    """All of them together fill it, and no more than that."""
    queue = FairQueue(max_batch=8)
    for tenant in ("a", "b", "c", "d"):
        for _ in range(8):
            queue.add("reserve", tenant, uuid4(), {}, print)
    batch = await queue.take()
    assert Counter(operation.tenant for operation in batch) == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_one_tenants_stampede_leaves_room_for_others(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have half of the queue; who comes then is told so at once. The next tenant has half of what is left."""
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


async def test_whose_turn_would_come_too_late_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known from how long the last of its tenant waited. Others don't share its fate, nor does who comes afterwards."""
    monkeypatch.setattr(queue_module, "QUEUE_SECONDS", 0.0)
    queue = queue_module.FairQueue(max_batch=2)

    def add(tenant: str = "salon") -> None:
        queue.add("reserve", tenant, uuid4(), {}, print)

    for _ in range(5):
        add()  # nobody has waited yet: nothing is known, and so all are admitted
    queue.finished(await queue.take())
    with pytest.raises(Overloaded):
        add()
    add("other")
    for tenants in (["salon", "other"], ["salon", "salon"]):
        batch = await queue.take()
        assert [operation.tenant for operation in batch] == tenants
        queue.finished(batch)
    add()


async def test_a_tenant_that_is_locked_does_not_stall_the_others(database: TestDatabase) -> None:
    """Somebody sits on one business's lock: only that business's callers wait, and are told so in the end."""
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


async def test_a_stuck_tenant_among_many_costs_the_others_nothing(database: TestDatabase) -> None:
    """Its requests fail and are sent again one at a time; those that shared a call with it are all served."""
    healthy = [f"tenant-{number}" for number in range(4)]
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


async def test_a_stuck_tenants_requests_leave_room_where_requests_are_sent_again(database: TestDatabase) -> None:
    """There they go one at a time: the others that were in the same call need not wait until they have timed out."""
    for business_id in ("stuck", "free"):
        database.make_service(business_id=business_id, capacity=10)
    fail_first_calls(database, 1, "22012")
    async with running(database.url, lanes=2) as group_commit:
        with database.locked("stuck"):
            stuck = [asyncio.create_task(reserve(group_commit, business_id="stuck")) for _ in range(4)]
            free = asyncio.create_task(reserve(group_commit, business_id="free"))
            assert (await free).name == "done"
            # The one that failed, the free one's, and one of the stuck one's.
            assert calls(database) <= 3
        assert {outcome.name for outcome in await asyncio.gather(*stuck)} == {"done"}


def note_tenants(group_commit: GroupCommit, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes from now on whose requests each call has."""
    noted: list[list[str]] = []
    call = group_commit._call

    async def noting(operations: list[Operation]) -> list[Operation]:
        noted.append(sorted({operation.tenant for operation in operations}))
        return await call(operations)

    monkeypatch.setattr(group_commit, "_call", noting)
    return noted


@pytest.mark.parametrize("sqlstate", ["55P03", "57014", "HF001"])
async def test_a_tenant_whose_lock_was_not_to_be_had_goes_alone_until_it_is(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    """If it has to wait again, it does so at nobody's cost; and as soon as it need not, it shares calls again."""
    for business_id in ("stuck", "a", "b"):
        database.make_service(business_id=business_id, capacity=10)
    fail_first_calls(database, 1, sqlstate)
    async with running(database.url) as group_commit:
        await reserve(group_commit, business_id="stuck")
        noted = note_tenants(group_commit, monkeypatch)
        for _ in range(2):
            with database.locked("a"):
                tasks = [asyncio.create_task(reserve(group_commit, business_id="a"))]
                await asyncio.to_thread(database.wait_until_blocked)
                # These wait in the queue.
                tasks += [asyncio.create_task(reserve(group_commit, business_id=name)) for name in ("stuck", "a", "b")]
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
    assert noted == [["a"], ["stuck"], ["a", "b"], ["a"], ["a", "b", "stuck"]]


async def test_the_deferred_are_sent_again(database: TestDatabase) -> None:
    """What shared a call with others and could not have its lock at once gets it in the next one."""
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


async def test_the_deferred_keep_their_order(database: TestDatabase) -> None:
    """A call decides so many windows that stand in each other's way, and the next ones the rest: first come, first
    served, with an idempotency key or without."""
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
