"""An answer that never arrived: the same operations are sent again, and each has its effect once."""

from collections.abc import Callable
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

SECONDS = 10


@pytest.fixture
def batch(database: TestDatabase) -> Batch:
    """One request of each verb, each with a hold of its own; the clock stands still."""
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
    """A call whose answer nobody reads."""

    def __init__(self, database: TestDatabase, batch: Batch, deadline: datetime = NO_DEADLINE) -> None:
        self._database = database
        self._connection = database.connect()
        self._backend = self._connection.info.backend_pid
        self._connection.pgconn.send_query(bind(database, [batch], deadline))
        self._connection.pgconn.flush()

    def is_over(self) -> bool:
        """Whether the server has ended the connection."""
        return not self._database.rows("SELECT pid FROM pg_stat_activity WHERE pid = %s", self._backend)

    def kill(self) -> None:
        """Ends the connection from the server's side, and returns when it is gone."""
        assert self._database.value("SELECT pg_terminate_backend(%s, %s)", self._backend, SECONDS * 1000)
        self._connection.close()

    def leave(self) -> None:
        """Ends the connection from the client's side, which the server does not notice while it waits for a lock."""
        self._connection.close()


def state(database: TestDatabase) -> list[Any]:
    """All that the verbs write."""
    return [
        database.rows(f"SELECT t FROM booking.{table} t ORDER BY t::text")  # noqa: S608 — names of our own
        for table in ("reservations", "appointments", "audit_logs", "occupancy")
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when a condition, asked again and again, holds."""
    give_up_at = datetime.now(UTC) + timedelta(seconds=SECONDS)
    while not condition():
        assert datetime.now(UTC) < give_up_at, "it never happened"


def send_again(database: TestDatabase, batch: Batch) -> None:
    """Sends the batch twice more, and checks that each operation is done, once, and answered alike each time.

    That is a minute later: otherwise a hold that is extended twice could not be told from one that is extended once.
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
    """It had no effect, and has its effect when it is sent again."""
    before = state(database)
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.kill()
    assert state(database) == before
    send_again(database, batch)


def test_killed_between_its_work_and_its_commit(database: TestDatabase, rivals: Rivals, batch: Batch) -> None:
    """What it had done is undone, and is done when it is sent again."""
    before = state(database)
    client = rivals.connect()
    client.rows("BEGIN")
    execute(client, [batch])
    backend = client.admin.info.backend_pid
    assert database.value("SELECT pg_terminate_backend(%s, %s)", backend, SECONDS * 1000)
    assert state(database) == before
    send_again(database, batch)


def test_killed_after_its_commit_and_before_its_answer_was_read(database: TestDatabase, batch: Batch) -> None:
    """The worst moment: all was done and nobody knows. Sent again, nothing more is done and everything is told."""
    before = state(database)
    call = LostCall(database, batch)
    wait_until(lambda: state(database) != before)
    call.kill()
    done = state(database)
    send_again(database, batch)
    assert state(database) == done


def test_its_caller_left_and_it_got_the_lock_in_time(database: TestDatabase, batch: Batch) -> None:
    """The server does not notice that nobody listens, and does the work. Sent again, nothing more is done."""
    before = state(database)
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.leave()
    wait_until(call.is_over)
    done = state(database)
    assert done != before
    send_again(database, batch)
    assert state(database) == done


def test_its_caller_left_and_it_got_the_lock_too_late(database: TestDatabase, batch: Batch) -> None:
    """Whoever sends it again after the deadline can be sure that nothing is left of the first call."""
    before = state(database)
    deadline = datetime.now(UTC) + timedelta(seconds=0.2)
    with database.locked() as lock:
        call = LostCall(database, batch, deadline)
        database.wait_until_blocked()
        call.leave()
        wait_for(lock, deadline)
    wait_until(call.is_over)
    assert state(database) == before
    send_again(database, batch)


def test_sent_again_while_the_first_call_still_waits(database: TestDatabase, rivals: Rivals, batch: Batch) -> None:
    """An impatient caller: both get the lock, one after the other, and the second finds everything done."""
    with database.locked():
        call = LostCall(database, batch)
        database.wait_until_blocked()
        call.leave()
        again = rivals.start(lambda own: execute(own, [batch]))
        database.wait_until_blocked(2)
    assert {outcome.name for outcome in again.result().values()} == {"done"}
    wait_until(call.is_over)
    send_again(database, batch)
