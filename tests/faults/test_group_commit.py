"""Group commit when calls fail or callers leave: retries, lost answers, deadlines."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import structlog

from service.database import connections as connections_module
from service.database import failures as failures_module
from service.database import group_commit as group_commit_module
from service.database import queue as queue_module
from service.database.connections import LOCK_SECONDS, REQUEST_SECONDS
from service.database.group_commit import GroupCommit
from service.errors import DatabaseDown, Overloaded
from service.observability.metrics import exposition
from tests.connections import open_database, running_group_commit
from tests.database import TestDatabase, at
from tests.faults.group_commits import count_calls, fail_first_calls, reserve, running
from tests.faults.proxy import Proxy
from tests.scraping import Scrape, grown
from tests.serving import wait_until

pytestmark = pytest.mark.anyio


TRANSIENT = ["40001", "40P01", "55P03", "57014", "HF001"]


@pytest.mark.parametrize("sqlstate", TRANSIENT)
async def test_two_transient_failures_take_three_attempts(database: TestDatabase, sqlstate: str) -> None:
    """A serialization failure, a deadlock, a timeout and a deadline are retried without the caller's knowledge."""
    database.make_service()
    fail_first_calls(database, 2, sqlstate)
    async with running(database.url) as group_commit:
        outcome = await reserve(group_commit)
    assert outcome.name == "done"
    assert count_calls(database) == 3


@pytest.mark.parametrize("sqlstate", TRANSIENT)
async def test_a_request_fails_after_five_attempts(database: TestDatabase, sqlstate: str) -> None:
    """The refusal has Retry-After."""
    database.make_service()
    fail_first_calls(database, 1000, sqlstate)
    async with running(database.url) as group_commit:
        with pytest.raises(Overloaded) as raised:
            await reserve(group_commit)
    assert count_calls(database) == 5
    assert (raised.value.problem.status, raised.value.problem.retry_after_seconds) == (503, 5)
    assert raised.value.detail == "High load, please retry"


async def test_a_refusal_is_not_retried(database: TestDatabase) -> None:
    """A taken slot takes one attempt."""
    database.make_service()
    database.reserve(10)
    fail_first_calls(database, 0, "40001")
    async with running(database.url) as group_commit:
        assert (await reserve(group_commit)).name == "slot_unavailable"
    assert count_calls(database) == 1


async def test_a_request_that_raises_fails_alone(database: TestDatabase) -> None:
    """The other requests of its batch are granted."""
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
    """Requests that arrive during a call form the next batch."""
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
    assert count_calls(database) == 2


async def test_requests_that_come_one_by_one_share_calls(database: TestDatabase) -> None:
    """Each of eight callers sends its next request a little later than the one before it. A call that began with the
    first of them would leave the others to a second one."""
    database.make_service(capacity=1000)
    fail_first_calls(database, 0, "40001")

    async def ask_repeatedly(group_commit: GroupCommit, turns: int) -> None:
        for _ in range(20):
            for _ in range(turns):
                await asyncio.sleep(0)
            assert (await reserve(group_commit)).name == "done"

    async with running(database.url) as group_commit:
        await asyncio.gather(*(ask_repeatedly(group_commit, turns) for turns in range(8)))
    assert count_calls(database) <= 30


async def test_a_full_batch_waits_for_no_others(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the time since the last call began."""
    monkeypatch.setattr(group_commit_module, "_GATHER_SECONDS", 60.0)
    database.make_service(capacity=10)
    async with running(database.url, max_batch=2) as group_commit:
        for _ in range(2):
            outcomes = await asyncio.gather(*(reserve(group_commit) for _ in range(2)))
            assert [outcome.name for outcome in outcomes] == ["done", "done"]


async def test_a_request_of_a_cancelled_caller_leaves_the_queue(database: TestDatabase) -> None:
    """A request that was not sent yet makes no hold."""
    database.make_service(capacity=10)
    async with running(database.url) as group_commit:
        with database.locked():
            first = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            cancelled = asyncio.create_task(reserve(group_commit))
            await asyncio.sleep(0)
            cancelled.cancel()
        await first
        # The next call has all requests that are left in the queue.
        await reserve(group_commit, 12)
    assert database.value("SELECT count(*) FROM booking.reservations") == 2


async def test_without_a_connection_all_callers_fail_at_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failed connection fails the requests of the batch and of the queue."""
    monkeypatch.setattr(connections_module, "CONNECT_SECONDS", 0.5)
    async with Proxy(database.url).running() as proxy:
        unreachable = proxy.url
    async with running(unreachable, max_batch=2) as group_commit:
        requests = [asyncio.create_task(reserve(group_commit, hour)) for hour in range(5)]
        failed, waiting = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    assert [type(request.exception()) for request in failed] == [DatabaseDown] * 5
    assert waiting == set()


async def test_a_call_grants_nothing_after_its_deadline(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a lock no longer than its callers wait, because they may have retried by then."""
    seconds = 0.5
    database.make_service()
    async with running(database.url) as group_commit:
        with monkeypatch.context() as shorter, database.locked():
            for module in (group_commit_module, queue_module):
                shorter.setattr(module, "REQUEST_SECONDS", seconds)
            shorter.setattr(queue_module, "_LEAST_SECONDS", 0.1)
            shorter.setattr(group_commit._deadlines, "_seconds", seconds)
            waiting = asyncio.create_task(reserve(group_commit, 10))
            await asyncio.to_thread(database.wait_until_blocked)
            deadline = database.value("SELECT clock_timestamp()") + timedelta(seconds=seconds)
            with pytest.raises(DatabaseDown):
                await waiting
            is_past = "SELECT clock_timestamp() > %s"
            await asyncio.to_thread(wait_until, lambda: database.value(is_past, deadline), "its deadline to pass")
        # The only lane sends it after the end of that call.
        assert (await reserve(group_commit, 12)).name == "done"
    assert database.value("SELECT array_agg(slot_start) FROM booking.reservations") == [at(12)]


async def test_a_step_of_the_servers_clock_is_detected(database: TestDatabase) -> None:
    """With the offset that was measured before, every deadline would be in the past."""
    database.make_service()
    async with running(database.url) as group_commit:
        await reserve(group_commit, 20)
        clock = group_commit.database._clock
        clock.set(clock.in_seconds(-3600))
        assert (await reserve(group_commit)).name == "done"


async def test_a_request_that_timed_out_is_never_granted(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for a connection until its caller's timeout; the connection became free afterwards."""
    database.make_service(capacity=10)
    async with open_database(database.url) as connections, running_group_commit(connections) as group_commit:
        with monkeypatch.context() as shorter:
            shorter.setattr(group_commit._deadlines, "_seconds", 0.2)
            async with connections.connection():
                with pytest.raises(Overloaded):
                    await reserve(group_commit, 10)
        assert (await reserve(group_commit, 12)).name == "done"
    assert database.value("SELECT array_agg(slot_start) FROM booking.reservations") == [at(12)]


async def test_a_timeout_behind_a_lock_tells_whether_the_request_was_sent(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request whose call is under way may have an effect; the queued one has none, and is safe to retry."""
    monkeypatch.setattr(group_commit_module, "REQUEST_SECONDS", 0.5)
    database.make_service()
    async with running(database.url) as group_commit:
        with database.locked():
            sent = asyncio.create_task(reserve(group_commit, 10))
            await asyncio.to_thread(database.wait_until_blocked)
            queued = asyncio.create_task(reserve(group_commit, 12))
            results = await asyncio.gather(sent, queued, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseDown, Overloaded]


@pytest.mark.parametrize(("in_doubt", "expected"), [(0, Overloaded), (1, DatabaseDown)])
async def test_a_request_with_hardly_any_time_left_is_not_sent(in_doubt: int, expected: type[Exception]) -> None:
    """A batch has the deadline of its earliest request. A request that was sent before may have taken effect."""
    operation = queue_module.Operation(
        "salon", "reserve", str(uuid4()), b"{}", print, time.monotonic() - REQUEST_SECONDS + 0.1, 0
    )
    operation.in_doubt = in_doubt
    assert queue_module.still_in_time([operation]) == []
    assert type(operation.outcome.exception()) is expected


@pytest.mark.parametrize(("in_doubt", "is_sent"), [(0, False), (1, True)])
async def test_a_request_that_could_not_wait_for_its_lock_is_not_sent(in_doubt: int, is_sent: bool) -> None:
    """Its caller would leave during the wait, without knowing that nothing was written. A request whose answer was lost
    is sent: its effect may be known already."""
    left = LOCK_SECONDS + 0.1
    operation = queue_module.Operation(
        "salon", "reserve", str(uuid4()), b"{}", print, time.monotonic() - REQUEST_SECONDS + left, 0
    )
    operation.in_doubt = in_doubt
    assert bool(queue_module.still_in_time([operation])) == is_sent
    assert operation.outcome.done() != is_sent
    assert is_sent or isinstance(operation.outcome.exception(), Overloaded)


async def test_each_wait_for_a_lock_that_cannot_be_had_is_observed(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each timeout is counted, and logged with its business; no request has an effect. The time limits are a fifth of
    the shipped ones, the margin is the same. Which error a request gets, tests/simulation checks in simulated time: on
    a machine without CPU time left an answer may come after the margin."""
    monkeypatch.setattr(connections_module, "LOCK_SECONDS", LOCK_SECONDS / 5)
    monkeypatch.setattr(queue_module, "_LEAST_SECONDS", queue_module._LEAST_SECONDS - LOCK_SECONDS * 4 / 5)
    for module in (group_commit_module, queue_module):
        monkeypatch.setattr(module, "REQUEST_SECONDS", REQUEST_SECONDS / 5)
    monkeypatch.setattr(failures_module, "_FIRST_PAUSE_SECONDS", 0.02)
    database.make_service(capacity=100)
    before = Scrape(exposition().decode())
    with structlog.testing.capture_logs() as log:
        async with running(database.url, lanes=2) as group_commit:
            with database.locked():
                tasks = []
                for _ in range(40):
                    tasks.append(asyncio.create_task(reserve(group_commit)))
                    await asyncio.sleep(0.05)
                refusals = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(refusal) for refusal in refusals} <= {Overloaded, DatabaseDown}
    assert database.value("SELECT count(*) FROM booking.reservations") == 0
    timed_out = [line for line in log if line["event"] == "lock_timed_out"]
    assert timed_out
    assert {(line["business_id"], line["log_level"]) for line in timed_out} == {("salon", "warning")}
    assert all(line["seconds"] >= LOCK_SECONDS / 5 for line in timed_out)
    after = Scrape(exposition().decode())
    assert grown(before, after, "holdfast_lock_wait_seconds_count") == len(timed_out)


async def test_callers_that_leave_before_their_resend_get_no_holds(database: TestDatabase) -> None:
    """Their batch failed, and they are cancelled before each is resent alone."""
    database.make_service(capacity=100)
    fail_first_calls(database, 1, "40001")
    async with running(database.url) as group_commit:
        with database.locked():
            # Their first call fails before it asks for the lock, for which the first one that is resent waits.
            tasks = [asyncio.create_task(reserve(group_commit)) for _ in range(20)]
            await asyncio.to_thread(database.wait_until_blocked)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (await reserve(group_commit, 12)).name == "done"
    # Only the request whose call was under way may have an effect.
    assert database.value("SELECT count(*) FROM booking.reservations WHERE status = 'held'") <= 2


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "58030", "25006"])
async def test_a_server_in_trouble_is_a_503(database: TestDatabase, sqlstate: str) -> None:
    """A full disk, a lack of memory, an I/O error and a read-only server are outages, not defects."""
    database.make_service()
    fail_first_calls(database, 1000, sqlstate)
    async with running(database.url) as group_commit:
        with pytest.raises(DatabaseDown):
            await reserve(group_commit)


async def test_a_lost_answer_is_recovered_by_a_resend(database: TestDatabase) -> None:
    """The connection breaks after the commit and before the answer: there is one hold, and the caller gets it."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url) as group_commit:
        proxy.lose_next_answer_to = b"booking.execute"
        outcome = await reserve(group_commit)
        assert proxy.lost.is_set()
    assert outcome.name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations") == 1
    assert outcome.body is not None
    assert database.status(outcome.body["reservation_id"]) == "held"


async def test_a_late_answer_is_recovered_by_a_resend(database: TestDatabase) -> None:
    """The connection is closed after a timeout, and the resend returns the result of the first call."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url, statement_seconds=0.1) as group_commit:
        await reserve(group_commit, 20)
        proxy.freeze()
        waiting = asyncio.create_task(reserve(group_commit))
        await asyncio.wait_for(proxy.hung_up.wait(), 10)
        proxy.thaw()
        assert (await waiting).name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations WHERE slot_start = %s", at(10)) == 1


async def test_lost_answers_of_a_batch_are_recovered_one_by_one(database: TestDatabase) -> None:
    """The batch has more requests than there is room: each gets its original outcome, and all the room is used."""
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
    """The old call outlives its connection and grants the hold after the lock is released; the resend returns that
    hold."""
    database.make_service()
    async with Proxy(database.url).running() as proxy, running(proxy.url) as group_commit:
        with database.locked():
            waiting = asyncio.create_task(reserve(group_commit))
            await asyncio.to_thread(database.wait_until_blocked)
            await proxy.cut()
        outcome = await waiting
    assert outcome.name == "done"
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


async def test_two_operations_are_two_requests(database: TestDatabase) -> None:
    """A second operation id for the same slot is refused."""
    database.make_service()
    async with running(database.url) as group_commit:
        outcomes = await asyncio.gather(reserve(group_commit), reserve(group_commit, operation_id=str(uuid4())))
    assert sorted(outcome.name for outcome in outcomes) == ["done", "slot_unavailable"]
