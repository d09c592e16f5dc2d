"""Calls whose answer is lost: the same operations are sent again, and each has exactly one effect."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.concurrency.batches import Batch, bind, execute
from tests.concurrency.rivals import Rivals, wait_for
from tests.database import (
    NO_DEADLINE,
    TestDatabase,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.serving import wait_until

SECONDS = 10


@pytest.fixture
def batch(database: TestDatabase) -> Batch:
    """Returns one request of each verb, each with a hold of its own; the clock is frozen."""
    database.make_service(capacity=4)
    database.freeze_clock()
    released, committed, extended = (database.reserve().id for _ in range(3))
    return {
        "business_id": "salon",
        "release": [release_request(released)],
        "commit": [commit_request(committed)],
        "extend": [extend_request(extended)],
        "reserve": [reserve_request()],
    }


class LostCall:
    """A call whose answer is never read."""

    def __init__(self, database: TestDatabase, batch: Batch, deadline: datetime = NO_DEADLINE) -> None:
        self._database = database
        self._connection = database.connect()
        self._backend = self._connection.info.backend_pid
        self._connection.pgconn.send_query(bind(database, [batch], deadline))
        self._connection.pgconn.flush()

    def is_over(self) -> bool:
        """Returns whether the server has closed the connection."""
        return not self._database.rows("SELECT pid FROM pg_stat_activity WHERE pid = %s", self._backend)

    def kill(self) -> None:
        """Terminates the backend, and returns when it has ended."""
        assert self._database.value("SELECT pg_terminate_backend(%s, %s)", self._backend, SECONDS * 1000)
        self._connection.close()

    def leave(self) -> None:
        """Closes the connection from the client's side, which the server does not notice while it waits for a lock."""
        self._connection.close()


def state(database: TestDatabase) -> list[Any]:
    """Returns all rows that the verbs write."""
    return [
        database.rows(f"SELECT t FROM booking.{table} t ORDER BY t::text")  # noqa: S608 — the tables are named above
        for table in ("reservations", "appointments", "audit_logs", "occupancy")
    ]


def send_again(database: TestDatabase, batch: Batch) -> None:
    """Sends the batch twice more, and checks that each operation is done once and answered alike each time.

    The clock moves on by a minute before that: otherwise a hold extended twice would look like a hold extended once.
    """
    database.move_clock(timedelta(minutes=1))
    answers = execute(database, [batch])
    assert {outcome.name for outcome in answers.values()} == {"done"}
    once = state(database)
    again = execute(database, [batch])
    assert {i: outcome.body for i, outcome in again.items()} == {i: outcome.body for i, outcome in answers.items()}
    assert {outcome.name for outcome in again.values()} == {"done"}
    assert state(database) == once

    [commit], [reserve], [extend] = batch["commit"], batch["reserve"], batch["extend"]
    assert answers[commit["operation_id"]].id == commit["operation_id"]
    assert answers[reserve["operation_id"]].id == reserve["operation_id"]
    assert answers[extend["operation_id"]].body["version"] == 2
    assert database.rows("SELECT status, version FROM booking.reservations ORDER BY status, version") == [
        ("committed", 2),
        ("held", 1),
        ("held", 2),
        ("released", 2),
    ]
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    assert database.value("SELECT count(*) FROM booking.audit_logs") == 1


def test_killed_while_it_waits_for_the_lock(database: TestDatabase, batch: Batch) -> None:
    """The killed call has no effect, and the batch takes effect when it is sent again."""
    before = state(database)
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.kill()
    assert state(database) == before
    send_again(database, batch)


def test_killed_between_its_work_and_its_commit(database: TestDatabase, rivals: Rivals, batch: Batch) -> None:
    """The work of the killed call is rolled back, and the batch takes effect when it is sent again."""
    before = state(database)
    client = rivals.connect()
    client.rows("BEGIN")
    execute(client, [batch])
    backend = client.admin.info.backend_pid
    assert database.value("SELECT pg_terminate_backend(%s, %s)", backend, SECONDS * 1000)
    assert state(database) == before
    send_again(database, batch)


def test_killed_after_its_commit_and_before_its_answer_was_read(database: TestDatabase, batch: Batch) -> None:
    """The work is committed without an answer: sending the batch again changes nothing and returns the outcomes."""
    before = state(database)
    call = LostCall(database, batch)
    wait_until(lambda: state(database) != before, "its effect")
    call.kill()
    done = state(database)
    send_again(database, batch)
    assert state(database) == done


def test_a_call_whose_caller_left_gets_the_lock_before_its_deadline(database: TestDatabase, batch: Batch) -> None:
    """The server does not notice that the client is gone, and commits. Sending the batch again changes nothing."""
    before = state(database)
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.leave()
    wait_until(call.is_over, "the call to end")
    done = state(database)
    assert done != before
    send_again(database, batch)
    assert state(database) == done


def test_a_call_whose_caller_left_gets_the_lock_after_its_deadline(database: TestDatabase, batch: Batch) -> None:
    """The late call writes nothing, so that a batch sent again after the deadline can't collide with it."""
    before = state(database)
    deadline = datetime.now(UTC) + timedelta(seconds=0.2)
    with database.locked() as lock:
        call = LostCall(database, batch, deadline)
        database.wait_until_blocked()
        call.leave()
        wait_for(lock, deadline)
    wait_until(call.is_over, "the call to end")
    assert state(database) == before
    send_again(database, batch)


def test_sent_again_while_the_first_call_still_waits(database: TestDatabase, rivals: Rivals, batch: Batch) -> None:
    """Both calls get the lock, one after the other, and the second finds all operations done."""
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.leave()
        again = rivals.start(lambda own: execute(own, [batch]))
        database.wait_until_blocked(2)
    assert {outcome.name for outcome in again.result().values()} == {"done"}
    wait_until(call.is_over, "the call to end")
    send_again(database, batch)
