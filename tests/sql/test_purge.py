"""The purge: in bounded batches, beside others, killed in the middle; and nothing depends on it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.rivals import SECONDS, Rivals

DAY = timedelta(hours=24)
TTL = timedelta(minutes=15)


def purge(connection: psycopg.Connection, *, business_id: str = "salon", limit: int = 1000) -> tuple[Any, ...]:
    """Purges a business on a connection of the caller's: (expired, deleted, busy)."""
    [row] = connection.execute(
        "SELECT expired, deleted, busy <> '{}' FROM booking.purge(%s, %s, %s, %s)",
        [[business_id], DAY, limit, NO_DEADLINE],
    ).fetchall()
    return row


def due(database: TestDatabase) -> tuple[list[str], int]:
    """The businesses that have something to purge, and how much there is in all."""
    businesses = database.rows("SELECT business_id, due FROM booking.due_businesses(%s) ORDER BY business_id", DAY)
    return [business_id for business_id, _ in businesses], sum(number for _, number in businesses)


def make_due(database: TestDatabase, *, expired: int, ended: int) -> tuple[list[str], list[str]]:
    """A salon with some holds that are past their expiry, and some that were given up a day ago."""
    database.make_service(capacity=1000)
    now = database.freeze_clock()
    old = [database.reserve(10).id for _ in range(ended)]
    for hold in old:
        database.release(hold)
    database.freeze_clock(now + DAY - TTL)
    expiring = [database.reserve(10, ttl_minutes=1 + number / 10).id for number in range(expired)]
    database.freeze_clock(now + DAY)
    return expiring, old


def statuses(database: TestDatabase) -> dict[str, int]:
    """How many reservations there are in each state."""
    return dict(database.rows("SELECT status, count(*) FROM booking.reservations GROUP BY status"))


def test_what_is_past_its_expiry_becomes_expired(database: TestDatabase) -> None:
    """And what is live, or ended in another way, stays as it is."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    holds = [database.reserve(10, ttl_minutes=ttl).id for ttl in (15, 15, 15, 16)]
    database.commit(holds[0])
    database.release(holds[1])
    database.freeze_clock(now + TTL)
    assert database.purge() == (1, 0, False)
    assert [database.status(hold) for hold in holds] == ["committed", "released", "expired", "held"]
    assert database.purge() == (0, 0, False)


def test_what_ended_is_kept_for_the_retention_and_then_deleted(database: TestDatabase) -> None:
    """Counted from its end: committed, released and expired reservations alike; appointments stay."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    committed, released, _ = (database.reserve(10).id for _ in range(3))
    database.commit(committed)
    database.release(released)
    database.freeze_clock(now + TTL)
    assert database.purge(retention=DAY) == (1, 0, False)
    database.freeze_clock(now + DAY - timedelta(seconds=1))
    assert database.purge(retention=DAY) == (0, 0, False)
    database.freeze_clock(now + DAY)
    assert database.purge(retention=DAY) == (0, 2, False)
    database.freeze_clock(now + DAY + TTL)
    assert database.purge(retention=DAY) == (0, 1, False)
    assert (statuses(database), database.value("SELECT count(*) FROM booking.appointments")) == ({}, 1)


def test_it_works_in_bounded_batches(database: TestDatabase) -> None:
    """So that it never has the lock for long, however much there is to do: the oldest first."""
    expired, old = make_due(database, expired=5, ended=3)
    assert database.purge(limit=2) == (2, 2, False)
    assert statuses(database) == {"expired": 2, "held": 3, "released": 1}
    assert [database.status(hold) for hold in expired] == ["expired"] * 2 + ["held"] * 3
    assert database.purge(limit=2) == (2, 1, False)
    assert database.purge(limit=2) == (1, 0, False)
    assert database.purge(limit=2) == (0, 0, False)
    assert [database.status(hold) for hold in old] == [None] * 3


def test_a_busy_business_is_left_alone(database: TestDatabase) -> None:
    """It never waits, and keeps nobody waiting: there is a next time."""
    make_due(database, expired=2, ended=0)
    with database.locked():
        assert database.purge() == (0, 0, True)
    assert database.purge() == (2, 0, False)


def test_two_at_once_do_the_work_once(database: TestDatabase) -> None:
    """One finds that the other one is there; what it does is not done twice."""
    make_due(database, expired=2, ended=2)
    with database.connect(autocommit=False) as one, database.connect() as other:
        assert purge(one) == (2, 2, False)
        assert purge(other) == (0, 0, True)
        one.commit()
        assert purge(other) == (0, 0, False)


def test_many_at_once_do_all_of_it_once(database: TestDatabase, rivals: Rivals) -> None:
    """Several schedulers that call at the same minute: each row is counted by exactly one of them."""
    make_due(database, expired=30, ended=30)

    def until_nothing_is_due(connection: psycopg.Connection) -> tuple[int, int]:
        expired = deleted = 0
        for _ in range(2000):
            if due(database) == ([], 0):
                break
            more = purge(connection, limit=4)
            expired, deleted = expired + more[0], deleted + more[1]
        return expired, deleted

    answers = [rivals.start(until_nothing_is_due) for _ in range(4)]
    expired, deleted = zip(*(answer.result(SECONDS) for answer in answers), strict=True)
    assert (sum(expired), sum(deleted)) == (30, 30)


def test_killed_in_the_middle_it_leaves_nothing_half_done(database: TestDatabase, rivals: Rivals) -> None:
    """Neither rows nor a lock: holds expire when their time is up, and the next run does it all."""
    make_due(database, expired=2, ended=2)
    with psycopg.connect(database.admin_url) as in_the_way:
        in_the_way.execute("SELECT FROM booking.reservations WHERE status = 'released' FOR UPDATE")
        pids: list[int] = []

        def in_the_middle(connection: psycopg.Connection) -> object:
            pids.append(connection.info.backend_pid)
            return purge(connection)

        answer = rivals.start(in_the_middle)
        database.wait_until_blocked()
        database.rows("SELECT pg_terminate_backend(%s)", pids[0])
        with pytest.raises(psycopg.errors.AdminShutdown):
            answer.result(SECONDS)
        assert statuses(database) == {"held": 2, "released": 2}
    assert database.purge() == (2, 2, False)


def test_a_hold_that_is_being_extended_is_not_purged_under_its_hands(database: TestDatabase) -> None:
    """An extend that has the lock and an instant left wins: the purge finds first a busy business, then nothing due."""
    database.make_service()
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL - timedelta(milliseconds=1))
    with database.connect(autocommit=False) as connection:
        assert database.extend(hold, connection=connection).name == "done"
        database.freeze_clock(now + TTL)
        assert database.purge() == (0, 0, True)
        connection.commit()
    assert database.purge() == (0, 0, False)
    assert database.status(hold) == "held"


def test_only_businesses_that_have_something_due_are_visited(database: TestDatabase) -> None:
    """Ten thousand tenants, of which three have something to purge, are three short transactions."""
    for business_id in ("expired", "ended", "live", "nothing"):
        database.make_service(business_id=business_id, capacity=5)
    now = database.freeze_clock()
    database.release(database.reserve(10, business_id="ended").id, business_id="ended")
    database.freeze_clock(now + DAY)
    database.reserve(10, business_id="expired", ttl_minutes=1)
    database.reserve(10, business_id="live")
    assert due(database) == (["ended"], 1)
    database.freeze_clock(now + DAY + timedelta(minutes=1))
    assert due(database) == (["ended", "expired"], 2)
    assert [purge(database.admin, business_id=business_id) for business_id in ("ended", "expired", "nobody")] == [
        (0, 1, False),
        (1, 0, False),
        (0, 0, False),
    ]
    assert due(database) == ([], 0)


def purge_all(
    database: TestDatabase, *business_ids: str, limit: int = 1000
) -> tuple[int, int, list[dict[str, Any]], list[str]]:
    """Purges several businesses in one call: (expired, deleted, freed, busy)."""
    [(expired, deleted, freed, busy)] = database.rows(
        "SELECT expired, deleted, freed, busy FROM booking.purge(%s, %s, %s, %s)",
        list(business_ids),
        DAY,
        limit,
        NO_DEADLINE,
    )
    return expired, deleted, freed, busy


def test_one_call_purges_several_businesses_and_leaves_out_the_busy_ones(database: TestDatabase) -> None:
    """It waits for none of them, and what was freed is named by its business, once for each service."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id, capacity=5)
        for _ in range(2):
            database.reserve(10, business_id=business_id)
    database.move_clock(TTL)

    def freed(*business_ids: str) -> list[dict[str, Any]]:
        return [{"business_id": name, "service_id": "cut", "resource_id": None} for name in business_ids]

    with database.locked("kennel"):
        expired, deleted, more_room, busy = purge_all(database, "kennel", "clinic", "nobody", "salon")
    assert (expired, deleted, busy) == (4, 0, ["kennel"])
    assert sorted(more_room, key=lambda room: room["business_id"]) == freed("clinic", "salon")
    assert due(database) == (["kennel"], 2)
    assert purge_all(database, "kennel") == (2, 0, freed("kennel"), [])


def test_the_limit_is_that_of_the_call_and_not_of_each_business(database: TestDatabase) -> None:
    """A call is bounded, whatever the number of its businesses."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id, capacity=5)
        for _ in range(2):
            database.reserve(10, business_id=business_id)
    database.move_clock(TTL)
    assert purge_all(database, "clinic", "salon", limit=3)[0] == 3
    assert purge_all(database, "clinic", "salon", limit=3)[0] == 1
    database.move_clock(DAY)
    assert purge_all(database, "clinic", "salon", limit=3)[1] == 3
    assert purge_all(database, "clinic", "salon", limit=3)[1] == 1


def test_each_run_is_written_down_and_last_months_are_forgotten(database: TestDatabase) -> None:
    """Operations see when the purge last ran, and the record does not grow for ever."""
    now = database.freeze_clock()
    for run_at in (now - timedelta(days=31), now - timedelta(days=29), now):
        database.freeze_clock(run_at)
        database.rows("SELECT booking.record_purge(%s, %s, 3, 2, 1)", uuid4(), run_at - timedelta(seconds=5))
    runs = database.rows(
        "SELECT finished_at, finished_at - started_at, expired, deleted, remaining "
        "FROM booking.maintenance_runs ORDER BY finished_at"
    )
    assert runs == [(at, timedelta(seconds=5), 3, 2, 1) for at in (now - timedelta(days=29), now)]
    assert database.value("SELECT last_purge_at FROM booking.reservation_health()") == now


def test_a_run_that_is_written_down_again_stands_there_once(database: TestDatabase) -> None:
    """The answer was lost, and whoever asked sends it again under the same id."""
    run_id = uuid4()
    for _ in range(2):
        database.rows("SELECT booking.record_purge(%s, now(), 3, 2, 1)", run_id)
    assert database.rows("SELECT run_id, expired FROM booking.maintenance_runs") == [(run_id, 3)]
