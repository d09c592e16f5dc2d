"""The purge: bounded batches, concurrent runs, a killed run, and its record."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.rivals import SECONDS, Rivals
from tests.sql.windows import statuses

DAY = timedelta(hours=24)
TTL = timedelta(minutes=15)


def purge(connection: psycopg.Connection, *, business_id: str = "salon", limit: int = 1000) -> tuple[Any, ...]:
    """Purges a business on a given connection: (expired, deleted, busy)."""
    [row] = connection.execute(
        "SELECT expired, deleted, busy <> '{}' FROM booking.purge(%s, %s, %s, %s)",
        [[business_id], DAY, limit, NO_DEADLINE],
    ).fetchall()
    return row


def due(database: TestDatabase) -> tuple[list[str], int]:
    """Returns the businesses that have rows to purge, and the number of these rows."""
    businesses = database.rows("SELECT business_id, due FROM booking.due_businesses(%s) ORDER BY business_id", DAY)
    return [business_id for business_id, _ in businesses], sum(number for _, number in businesses)


def make_due(database: TestDatabase, *, expired: int, ended: int) -> tuple[list[str], list[str]]:
    """Makes a salon with holds past their expiry, and with holds that were released a day ago."""
    database.make_service(capacity=1000)
    now = database.freeze_clock()
    old = [database.reserve(10).id for _ in range(ended)]
    for hold in old:
        database.release(hold)
    database.freeze_clock(now + DAY - TTL)
    expiring = [database.reserve(10, ttl_minutes=1 + number / 10).id for number in range(expired)]
    database.freeze_clock(now + DAY)
    return expiring, old


def test_the_purge_marks_holds_past_their_expiry(database: TestDatabase) -> None:
    """Live holds and reservations that ended otherwise stay as they are."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    holds = [database.reserve(10, ttl_minutes=ttl).id for ttl in (15, 15, 15, 16)]
    database.commit(holds[0])
    database.release(holds[1])
    database.freeze_clock(now + TTL)
    assert database.purge() == (1, 0, False)
    assert [database.status(hold) for hold in holds] == ["committed", "released", "expired", "held"]
    assert database.purge() == (0, 0, False)


def test_ended_reservations_are_deleted_after_the_retention(database: TestDatabase) -> None:
    """It counts from the end of a reservation, whatever its state; appointments and other businesses stay."""
    database.make_service(capacity=5)
    database.make_service(business_id="clinic")
    now = database.freeze_clock()
    elsewhere = database.reserve(10, business_id="clinic").id
    database.release(elsewhere, business_id="clinic")
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
    assert (statuses(database), database.status(elsewhere)) == ({"released": 1}, "released")
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    # The appointment has the id of its reservation.
    business = "SELECT booking.business_of_reservation(%s)"
    assert (database.value(business, committed), database.value(business, released)) == ("salon", None)


def test_the_purge_works_in_bounded_batches(database: TestDatabase) -> None:
    """A run is limited, so that it holds the lock only briefly; the oldest holds come first."""
    expired, old = make_due(database, expired=5, ended=3)
    assert database.purge(limit=2) == (2, 2, False)
    assert statuses(database) == {"expired": 2, "held": 3, "released": 1}
    assert [database.status(hold) for hold in expired] == ["expired"] * 2 + ["held"] * 3
    assert database.purge(limit=2) == (2, 1, False)
    assert database.purge(limit=2) == (1, 0, False)
    assert database.purge(limit=2) == (0, 0, False)
    assert [database.status(hold) for hold in old] == [None] * 3


def test_the_purge_skips_a_busy_business(database: TestDatabase) -> None:
    """The purge never waits for a lock, and works through the business in a later run."""
    make_due(database, expired=2, ended=0)
    with database.locked():
        assert database.purge() == (0, 0, True)
    assert database.purge() == (2, 0, False)


def test_two_concurrent_purges_do_the_work_once(database: TestDatabase) -> None:
    """The second one finds the business busy, and afterwards nothing to do."""
    make_due(database, expired=2, ended=2)
    with database.connect(autocommit=False) as first, database.connect() as second:
        assert purge(first) == (2, 2, False)
        assert purge(second) == (0, 0, True)
        first.commit()
        assert purge(second) == (0, 0, False)


def test_many_concurrent_purges_do_all_the_work_once(database: TestDatabase, rivals: Rivals) -> None:
    """With several schedulers, each row is counted by exactly one run."""
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


def test_a_killed_purge_has_no_effect(database: TestDatabase, rivals: Rivals) -> None:
    """Neither a change nor a lock is left, and the next run does all the work."""
    make_due(database, expired=2, ended=2)
    with psycopg.connect(database.admin_url) as blocking_connection:
        blocking_connection.execute("SELECT FROM booking.reservations WHERE status = 'released' FOR UPDATE")
        pids: list[int] = []

        def purge_until_blocked(connection: psycopg.Connection) -> object:
            pids.append(connection.info.backend_pid)
            return purge(connection)

        answer = rivals.start(purge_until_blocked)
        database.wait_until_blocked()
        database.rows("SELECT pg_terminate_backend(%s)", pids[0])
        with pytest.raises(psycopg.errors.AdminShutdown):
            answer.result(SECONDS)
        assert statuses(database) == {"held": 2, "released": 2}
    assert database.purge() == (2, 2, False)


def test_a_hold_that_is_being_extended_is_not_purged(database: TestDatabase) -> None:
    """An extend just before the expiry wins: the purge finds a busy business, and then nothing to do."""
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


def test_only_businesses_with_rows_to_purge_are_due(database: TestDatabase) -> None:
    """A run takes one short transaction for each business that has rows to purge, and none for the others."""
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


def test_one_call_purges_several_businesses_and_skips_busy_ones(database: TestDatabase) -> None:
    """The call waits for no lock, and reports the freed room once for each business and service."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id, capacity=5)
        for _ in range(2):
            database.reserve(10, business_id=business_id)
    database.move_clock(TTL)

    def freed(*business_ids: str) -> list[dict[str, Any]]:
        return [{"business_id": name, "service_id": "cut", "resource_id": None} for name in business_ids]

    with database.locked("kennel"):
        expired, deleted, freed_room, busy = purge_all(database, "kennel", "clinic", "nobody", "salon")
    assert (expired, deleted, busy) == (4, 0, ["kennel"])
    assert sorted(freed_room, key=lambda room: room["business_id"]) == freed("clinic", "salon")
    assert due(database) == (["kennel"], 2)
    assert purge_all(database, "kennel") == (2, 0, freed("kennel"), [])


def test_the_limit_of_a_purge_applies_to_the_whole_call(database: TestDatabase) -> None:
    """The work of a call is bounded, for any number of businesses."""
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


def test_runs_are_recorded_for_a_month(database: TestDatabase) -> None:
    """The record shows when the purge last ran, and does not grow for ever."""
    now = database.freeze_clock()
    for run_at in (now - timedelta(days=31), now - timedelta(days=29), now):
        database.freeze_clock(run_at)
        database.rows("SELECT booking.record_purge(%s, %s, 4, 3, 2, 1)", uuid4(), run_at - timedelta(seconds=5))
    runs = database.rows(
        "SELECT finished_at, finished_at - started_at, expired, deleted, erased, remaining "
        "FROM booking.maintenance_runs ORDER BY finished_at"
    )
    assert runs == [(at, timedelta(seconds=5), 4, 3, 2, 1) for at in (now - timedelta(days=29), now)]
    assert database.value("SELECT last_purge_at FROM booking.reservation_health()") == now


def test_a_run_of_the_future_is_not_the_last_one(database: TestDatabase) -> None:
    """The clock was ahead, and was set back: a purge that stops then must not seem to have run just now."""
    now = database.freeze_clock()
    for run_at in (now + timedelta(days=365), now):
        database.freeze_clock(run_at)
        database.rows("SELECT booking.record_purge(%s, %s, 4, 3, 2, 1)", uuid4(), run_at)
    assert database.value("SELECT last_purge_at FROM booking.reservation_health()") == now
    assert database.rows("SELECT finished_at FROM booking.purge_runs(10)") == [(now,)]


def test_a_run_recorded_twice_has_one_row(database: TestDatabase) -> None:
    """A record whose answer was lost is sent again under the same id."""
    run_id = uuid4()
    for _ in range(2):
        database.rows("SELECT booking.record_purge(%s, now(), 4, 3, 2, 1)", run_id)
    assert database.rows("SELECT run_id, expired FROM booking.maintenance_runs") == [(run_id, 4)]
