"""Group commit when calls fail: retries, bad neighbours, lost answers, callers that leave, queues that fill up."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import orjson
import psycopg
import pytest

from service.database import connections as connections_module
from service.database import group_commit as group_commit_module
from service.database import queue as queue_module
from service.database.connections import REQUEST_SECONDS
from service.errors import DatabaseDown, Overloaded
from tests.connections import open_database, running_group_commit
from tests.database import TestDatabase, at
from tests.faults.group_commits import calls, fail_first_calls, reserve, running
from tests.faults.proxy import Proxy
from tests.serving import wait_until

pytestmark = pytest.mark.anyio


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
    async with open_database(database.url) as connections, running_group_commit(connections) as group_commit:
        async with connections.connection():
            with pytest.raises(Overloaded):
                await reserve(group_commit, 10)
        assert (await reserve(group_commit, 12)).name == "done"
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
