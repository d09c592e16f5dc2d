"""Group commit when calls fail: retries, bad neighbours, lost answers, callers that leave, queues that fill up."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from service.database import connections as connections_module
from service.database import group_commit as group_commit_module
from service.database import queue as queue_module
from service.database.connections import REQUEST_SECONDS, Database
from service.database.group_commit import GroupCommit
from service.database.queue import FairQueue, Operation, Outcome
from service.errors import DatabaseDown, Overloaded
from tests.database import TestDatabase, at, reserve_request
from tests.faults.proxy import Proxy
from tests.serving import wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(
    url: str, *, lanes: int = 1, max_batch: int = 128, statement_seconds: float = 5
) -> AsyncIterator[GroupCommit]:
    """A group commit of its own over a database."""
    database = Database(url, connections=lanes + 4, statement_seconds=statement_seconds)
    await database.open()
    group_commit = GroupCommit(database, max_batch=max_batch, lanes=lanes)
    group_commit.start()
    try:
        yield group_commit
    finally:
        await group_commit.stop()
        await database.close()


async def reserve(
    group_commit: GroupCommit, hour: float = 10, *, business_id: str = "salon", **request: Any
) -> Outcome:
    """Reserves through the group commit."""
    arguments = reserve_request(hour, **request)
    return await group_commit.submit("reserve", business_id, UUID(arguments["operation_id"]), orjson.dumps(arguments))


def fail_first_calls(database: TestDatabase, count: int, sqlstate: str) -> None:
    """Makes the first `count` calls of booking.execute raise. A sequence counts them: it isn't rolled back."""
    database.rows("CREATE SEQUENCE testing.calls")
    database.rows("GRANT USAGE ON SEQUENCE testing.calls TO PUBLIC")
    database.rows("ALTER FUNCTION booking.execute RENAME TO execute_unharmed")
    database.rows("GRANT EXECUTE ON FUNCTION booking.execute_unharmed TO PUBLIC")
    database.rows(f"""
        CREATE FUNCTION booking.execute(p_business_ids text[], p_batches jsonb[], p_deadline timestamptz)
        RETURNS SETOF booking.outcome LANGUAGE plpgsql AS $$
        BEGIN
          IF nextval('testing.calls') <= {count} THEN
            RAISE EXCEPTION 'planted' USING ERRCODE = '{sqlstate}';
          END IF;
          RETURN QUERY SELECT * FROM booking.execute_unharmed(p_business_ids, p_batches, p_deadline);
        END $$""")  # noqa: S608 — of a test's own


def calls(database: TestDatabase) -> int:
    """How often booking.execute was called."""
    count: int = database.value("SELECT last_value FROM testing.calls")
    return count


PASSING = ["40001", "40P01", "55P03", "57014", "HF001"]


@pytest.mark.parametrize("sqlstate", PASSING)
async def test_two_passing_failures_take_three_attempts(database: TestDatabase, sqlstate: str) -> None:
    """A serialization failure, a deadlock, a timeout or a deadline is tried again, and the caller never hears of it."""
    database.make_service()
    fail_first_calls(database, 2, sqlstate)
    async with running(database.url) as group_commit:
        outcome = await reserve(group_commit)
    assert outcome.name == "done"
    assert calls(database) == 3


@pytest.mark.parametrize("sqlstate", PASSING)
async def test_five_attempts_are_enough(database: TestDatabase, sqlstate: str) -> None:
    """What fails every time is given up after the fifth attempt, with the time after which to come again."""
    database.make_service()
    fail_first_calls(database, 1000, sqlstate)
    async with running(database.url) as group_commit:
        with pytest.raises(Overloaded) as raised:
            await reserve(group_commit)
    assert calls(database) == 5
    assert (raised.value.problem.status, raised.value.problem.retry_after_seconds) == (503, 5)
    assert raised.value.detail == "High load, please retry"


async def test_a_refusal_is_not_tried_again(database: TestDatabase) -> None:
    """A slot that is taken stays taken: one attempt."""
    database.make_service()
    database.reserve(10)
    fail_first_calls(database, 0, "40001")
    async with running(database.url) as group_commit:
        assert (await reserve(group_commit)).name == "slot_unavailable"
    assert calls(database) == 1


async def test_a_bad_apple_spoils_only_itself(database: TestDatabase) -> None:
    """A request that makes the database raise fails alone; those that shared its call are served."""
    database.make_service(capacity=10)
    async with running(database.url) as group_commit:
        with database.locked():
            first = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            # These three wait in the queue and so share the next call.
            good = [asyncio.create_task(reserve(group_commit)) for _ in range(2)]
            bad = asyncio.create_task(reserve(group_commit, slot_start="never"))
            await asyncio.sleep(0)
        assert (await first).name == "done"
        assert [outcome.name for outcome in await asyncio.gather(*good)] == ["done", "done"]
        with pytest.raises(psycopg.DataError):
            await bad


async def test_requests_that_wait_share_one_call(database: TestDatabase) -> None:
    """While one call is under way the next ones gather, and go together."""
    database.make_service(capacity=50)
    fail_first_calls(database, 0, "40001")
    async with running(database.url) as group_commit:
        with database.locked():
            tasks = [asyncio.create_task(reserve(group_commit))]
            await asyncio.to_thread(database.wait_until_blocked)
            tasks += [asyncio.create_task(reserve(group_commit)) for _ in range(40)]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks)
    assert {outcome.name for outcome in outcomes} == {"done"}
    assert calls(database) == 2


async def test_however_many_tenants_wait_a_call_has_a_fair_share_of_each() -> None:
    """All of them together fill it, and no more than that."""
    queue = FairQueue(max_batch=8)
    for tenant in ("a", "b", "c", "d"):
        for _ in range(8):
            queue.add("reserve", tenant, uuid4(), b"{}", print)
    batch = await queue.take()
    assert Counter(operation.tenant for operation in batch) == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_a_caller_that_left_is_dropped_from_the_queue(database: TestDatabase) -> None:
    """Nobody works for a caller that is gone: what was not sent yet leaves no hold behind."""
    database.make_service(capacity=10)
    async with running(database.url) as group_commit:
        with database.locked():
            first = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            gone = asyncio.create_task(reserve(group_commit))
            await asyncio.sleep(0)
            gone.cancel()
        await first
        # The next call carries whatever still was in the queue.
        await reserve(group_commit, 12)
    assert database.value("SELECT count(*) FROM booking.reservations") == 2


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
        queue.add("reserve", tenant, uuid4(), b"{}", print)

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


async def test_without_a_database_nobody_waits_for_long(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection can be had: whoever waits, in a call or in the queue, is told so as soon as that is known."""
    monkeypatch.setattr(connections_module, "CONNECT_SECONDS", 0.5)
    async with Proxy(database.url).running() as proxy:
        nowhere = proxy.url
    async with running(nowhere, max_batch=2) as group_commit:
        requests = [asyncio.create_task(reserve(group_commit, hour)) for hour in range(5)]
        told, not_yet_told = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    assert [type(request.exception()) for request in told] == [DatabaseDown] * 5
    assert not_yet_told == set()


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


async def test_a_call_grants_nothing_when_its_callers_have_given_up(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for its lock no longer than they have time: who was told that it failed has come again meanwhile."""
    seconds = 0.5
    database.make_service()
    async with running(database.url) as group_commit:
        with monkeypatch.context() as impatient, database.locked():
            for module in (group_commit_module, queue_module):
                impatient.setattr(module, "REQUEST_SECONDS", seconds)
            waiting = asyncio.create_task(reserve(group_commit, 10))
            await asyncio.to_thread(database.wait_until_blocked)
            over_at = database.value("SELECT clock_timestamp()") + timedelta(seconds=seconds)
            with pytest.raises(DatabaseDown):
                await waiting
            is_over = "SELECT clock_timestamp() > %s"
            await asyncio.to_thread(wait_until, lambda: database.value(is_over, over_at), "its time to be over")
        # The only lane has it when that call is over.
        assert (await reserve(group_commit, 12)).name == "done"
    assert database.value("SELECT array_agg(slot_start) FROM booking.reservations") == [at(12)]


async def test_a_server_whose_clock_was_set_forward_is_asked_what_time_it_is(database: TestDatabase) -> None:
    """By what is known of it each deadline has passed before it is told."""
    database.make_service()
    async with running(database.url) as group_commit:
        await reserve(group_commit, 20)
        clock = group_commit._database._clock
        clock.set(clock.in_seconds(-3600))
        assert (await reserve(group_commit)).name == "done"


async def test_who_was_told_that_it_failed_is_granted_nothing_afterwards(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for a connection, until its caller gave up: then there was one, but nobody to grant anything to."""
    monkeypatch.setattr(group_commit_module, "REQUEST_SECONDS", 0.2)
    database.make_service(capacity=10)
    connections = Database(database.url, connections=1)
    await connections.open()
    group_commit = GroupCommit(connections, max_batch=10, lanes=1)
    group_commit.start()
    try:
        async with connections.connection():
            with pytest.raises(Overloaded):
                await reserve(group_commit, 10)
        assert (await reserve(group_commit, 12)).name == "done"
    finally:
        await group_commit.stop()
        await connections.close()
    assert database.value("SELECT array_agg(slot_start) FROM booking.reservations") == [at(12)]


async def test_who_waits_behind_a_lock_for_too_long_is_told_whether_it_was_sent(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose call is under way may have its effect; the one behind it has none, and may come again."""
    monkeypatch.setattr(group_commit_module, "REQUEST_SECONDS", 0.5)
    database.make_service()
    async with running(database.url) as group_commit:
        with database.locked():
            sent = asyncio.create_task(reserve(group_commit, 10))
            await asyncio.to_thread(database.wait_until_blocked)
            queued = asyncio.create_task(reserve(group_commit, 12))
            results = await asyncio.gather(sent, queued, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseDown, Overloaded]


@pytest.mark.parametrize(("in_doubt", "told"), [(0, Overloaded), (1, DatabaseDown)])
async def test_who_has_hardly_any_time_left_is_not_sent(in_doubt: int, told: type[Exception]) -> None:
    """Its neighbours would have no more time for their lock than it has. Sent before, it may have had its effect."""
    operation = queue_module.Operation(
        "salon", "reserve", uuid4(), b"{}", print, time.monotonic() - REQUEST_SECONDS + 0.1, 0
    )
    operation.in_doubt = in_doubt
    assert queue_module.still_in_time([operation]) == []
    assert type(operation.outcome.exception()) is told


async def test_callers_that_leave_while_they_are_sent_again_get_no_holds(database: TestDatabase) -> None:
    """Their call failed as a whole, and by the time their own turn came they were gone."""
    database.make_service(capacity=100)
    fail_first_calls(database, 1, "40001")
    async with running(database.url) as group_commit:
        tasks = [asyncio.create_task(reserve(group_commit)) for _ in range(20)]
        await asyncio.to_thread(wait_for_calls, database, 1)
        with database.locked():
            await asyncio.to_thread(database.wait_until_blocked)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (await reserve(group_commit, 12)).name == "done"
    # The one whose call was under way may have had its effect; nobody else's may.
    assert database.value("SELECT count(*) FROM booking.reservations WHERE status = 'held'") <= 2


def wait_for_calls(database: TestDatabase, count: int) -> None:
    """Returns when booking.execute has been called so often."""
    while not database.value("SELECT is_called FROM testing.calls") or calls(database) < count:
        pass


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "58030", "25006"])
async def test_a_server_in_trouble_is_a_503(database: TestDatabase, sqlstate: str) -> None:
    """A full disk, no memory, an I/O error, a server that became read-only: not now, but not a defect of ours."""
    database.make_service()
    fail_first_calls(database, 1000, sqlstate)
    async with running(database.url) as group_commit:
        with pytest.raises(DatabaseDown):
            await reserve(group_commit)


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


async def test_a_lost_answer_is_found_out(database: TestDatabase) -> None:
    """The connection breaks when the work is done and before its answer came: one hold, and the caller hears of it."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url) as group_commit:
        proxy.lose_next_answer_to = b"booking.execute"
        outcome = await reserve(group_commit)
        assert proxy.lost.is_set()
    assert outcome.name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations") == 1
    assert outcome.body is not None
    assert database.status(outcome.body["reservation_id"]) == "held"


async def test_an_answer_that_does_not_come_in_time_is_found_out(database: TestDatabase) -> None:
    """The server has done its work, but its answer is stuck: the connection is given up, and the resend learns it."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url, statement_seconds=0.1) as group_commit:
        await reserve(group_commit, 20)
        proxy.freeze()
        waiting = asyncio.create_task(reserve(group_commit))
        await asyncio.wait_for(proxy.hung_up.wait(), 10)
        proxy.thaw()
        assert (await waiting).name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations WHERE slot_start = %s", at(10)) == 1


async def test_lost_answers_of_a_batch_are_found_out_one_by_one(database: TestDatabase) -> None:
    """More wanted the slot than it has room: each gets the answer it would have had, and the room is used up."""
    database.make_service(capacity=3)
    async with Proxy(database.url).running() as proxy, running(proxy.url) as group_commit:
        await reserve(group_commit, 20)
        with database.locked():
            tasks = [asyncio.create_task(reserve(group_commit, 22))]
            await asyncio.to_thread(database.wait_until_blocked)
            tasks += [asyncio.create_task(reserve(group_commit, 10)) for _ in range(5)]
            await asyncio.sleep(0)
        await tasks[0]
        proxy.lose_next_answer_to = b"booking.execute"
        outcomes = await asyncio.gather(*tasks[1:])
    assert sorted(outcome.name for outcome in outcomes) == ["done"] * 3 + ["slot_unavailable"] * 2
    assert database.capacity(10) == {"capacity": 3, "held": 3, "booked": 0, "available": 0}


async def test_a_call_that_is_cut_off_while_it_waits_has_one_effect(database: TestDatabase) -> None:
    """The old call outlives its connection and grants when it gets the lock; the resend finds that out."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url) as group_commit:
        with database.locked():
            waiting = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            await proxy.cut()
        outcome = await waiting
    assert outcome.name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


async def test_an_unknown_operation_id_is_never_reused(database: TestDatabase) -> None:
    """Two operations have two ids, and a second one for the same slot is refused."""
    database.make_service()
    async with running(database.url) as group_commit:
        outcomes = await asyncio.gather(reserve(group_commit), reserve(group_commit, operation_id=str(uuid4())))
    assert sorted(outcome.name for outcome in outcomes) == ["done", "slot_unavailable"]
