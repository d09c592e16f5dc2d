"""The reads for those who run the service: the events of the last hours, the runs of the purge, and awaited locks."""

from datetime import datetime, timedelta
from threading import Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.clusters import RunningCluster
from tests.database import TestDatabase
from tests.sql.measuring import reads_of

HOUR = timedelta(hours=1)
NAMES = ("made", "committed", "released", "expired", "booked")
NONE = dict.fromkeys(NAMES, 0)
ROWS = 4_000


def hourly_counts(database: TestDatabase, hours: int) -> dict[datetime, dict[str, int]]:
    """Returns the events of each of the last hours."""
    rows = database.rows("SELECT * FROM booking.hourly_counts(%s)", hours)
    return {hour: dict(zip(NAMES, numbers, strict=True)) for hour, *numbers in rows}


def freeze_at_full_hour(database: TestDatabase) -> datetime:
    """Stops the clock at the beginning of an hour, and returns it."""
    return database.freeze_clock(database.value("SELECT date_trunc('hour', booking.now(), 'UTC')"))


def test_each_event_counts_in_its_hour(database: TestDatabase) -> None:
    """A hold counts when it was made and when it ended; an appointment when it was made, also without a hold."""
    database.make_service(capacity=10)
    database.make_service("wash", business_id="kennel", capacity=10)
    first = freeze_at_full_hour(database)
    holds = [database.reserve(10, ttl_minutes=60).id for _ in range(4)]
    database.commit(holds[0])
    database.freeze_clock(first + HOUR - timedelta(milliseconds=1))
    database.commit(holds[1])
    database.release(holds[2])
    database.book(10, service_id="wash", business_id="kennel")
    database.freeze_clock(first + HOUR)
    database.reserve(10, service_id="wash", business_id="kennel")
    database.freeze_clock(first + 2 * HOUR)
    counts = hourly_counts(database, 3)
    assert counts == {
        first: NONE | {"made": 4, "committed": 2, "released": 1, "booked": 3},
        first + HOUR: NONE | {"made": 1, "expired": 2},
        first + 2 * HOUR: NONE,
    }
    assert hourly_counts(database, 1) == {first + 2 * HOUR: NONE}


def test_an_expired_hold_counts_at_its_expiry_before_and_after_the_purge(database: TestDatabase) -> None:
    """It does not count while it is live; the purge may come hours later."""
    database.make_service()
    first = freeze_at_full_hour(database)
    database.reserve(10, ttl_minutes=15)
    assert hourly_counts(database, 1) == {first: NONE | {"made": 1}}
    expected = {first: NONE | {"made": 1, "expired": 1}}
    database.freeze_clock(first + timedelta(minutes=15))
    assert hourly_counts(database, 1) == expected
    database.freeze_clock(first + HOUR)
    expected[first + HOUR] = NONE
    assert hourly_counts(database, 2) == expected
    database.purge()
    assert hourly_counts(database, 2) == expected


def test_a_change_of_an_appointment_is_no_booking(database: TestDatabase) -> None:
    """Only the hour in which it was made counts it."""
    database.make_service()
    first = freeze_at_full_hour(database)
    appointment = database.book(10).id
    database.freeze_clock(first + HOUR)
    database.change(appointment, set={"notes": "by the window"})
    assert [hour["booked"] for hour in hourly_counts(database, 2).values()] == [1, 0]
    assert hourly_counts(database, 1)[first + HOUR]["booked"] == 0
    assert database.rows("SELECT * FROM booking.busiest_businesses(1, 10)") == []


def test_the_busiest_businesses_come_first(database: TestDatabase) -> None:
    """By holds and appointments together; those without any, in which an earlier hold ended, are left out."""
    first = freeze_at_full_hour(database)
    database.make_service(business_id="quiet")
    database.freeze_clock(first - timedelta(minutes=1))
    earlier = database.reserve(10, business_id="quiet")
    database.freeze_clock(first)
    database.release(earlier.id, business_id="quiet")
    for business_id, number in (("salon", 1), ("kennel", 3), ("clinic", 2)):
        database.make_service(business_id=business_id, capacity=10)
        for _ in range(number):
            database.book(10, business_id=business_id)
    database.reserve(10)
    database.reserve(10)
    busiest = "SELECT business_id, made, booked FROM booking.busiest_businesses(1, %s)"
    assert database.rows(busiest, 10) == [("kennel", 0, 3), ("salon", 2, 1), ("clinic", 0, 2)]
    assert database.rows(busiest, 1) == [("kennel", 0, 3)]


def test_the_last_purges_come_first(database: TestDatabase) -> None:
    """With their numbers, and no more than asked for."""
    now = database.freeze_clock()
    for minute in range(3):
        database.freeze_clock(now + timedelta(minutes=minute))
        database.rows("SELECT booking.record_purge(%s, %s, %s, 2, 3, 4)", uuid4(), now, minute)
    runs = database.rows(
        "SELECT started_at, finished_at, expired, deleted, erased, remaining FROM booking.purge_runs(2)"
    )
    assert runs == [(now, now + timedelta(minutes=minute), minute, 2, 3, 4) for minute in (2, 1)]


def test_the_health_tells_what_became_of_holds(database: TestDatabase) -> None:
    """A hold has expired from its expires_at on, unless it ended before; what ended counts for an hour."""
    database.make_service(capacity=9)
    now = database.freeze_clock()
    database.release(database.reserve(10).id)
    database.freeze_clock(now + timedelta(minutes=58))
    released, committed = (database.reserve(10).id for _ in range(2))
    database.release(released)
    database.commit(committed)
    for minutes in (1, 2, 3):
        database.reserve(10, ttl_minutes=minutes)
    database.freeze_clock(now + HOUR)
    expected = (now + HOUR, 1, 2, now + timedelta(minutes=59), None, 1, 2)
    assert database.rows("SELECT * FROM booking.reservation_health()") == [expected]


def lock_waits(database: TestDatabase) -> list[tuple[Any, ...]]:
    """Returns the businesses that are waited for, with the number of waiting sessions and the blocking ones."""
    return database.rows("SELECT business_id, waiting, blocker_pids FROM booking.lock_waits()")


def test_a_lock_that_is_waited_for_is_named_with_its_holder(database: TestDatabase) -> None:
    """Of two sessions that wait, one waits for the holder, and the other for the first one's place in the queue.

    The business whose first session has waited longest comes first.
    """
    database.make_service(capacity=10)
    database.make_service(business_id="kennel", capacity=10)

    def reserve(business_id: str, connection: psycopg.Connection) -> None:
        database.reserve(10, business_id=business_id, connection=connection)

    with (
        database.connect() as second,
        database.connect() as first,
        database.connect() as visitor,
        database.locked("kennel") as other_holder,
        database.locked() as holder,
    ):
        assert lock_waits(database) == []
        # The session that was made later, with the higher pid as a rule, waits first.
        calls = (("salon", first), ("kennel", visitor), ("salon", second))
        rivals = [Thread(target=reserve, args=call) for call in calls]
        for number, rival in enumerate(rivals, 1):
            rival.start()
            database.wait_until_blocked(number)
        blockers = [[connection.info.backend_pid] for connection in (holder, other_holder)]
        assert lock_waits(database) == [("salon", 2, blockers[0]), ("kennel", 1, blockers[1])]
        assert 0 < database.value("SELECT seconds FROM booking.lock_waits()") < 60
        holder.rollback()
        other_holder.rollback()
        for rival in rivals:
            rival.join()
    assert lock_waits(database) == []


@pytest.mark.new_database
def test_a_lock_of_another_table_is_not_named(database: TestDatabase) -> None:
    """One of its rows has the place that the business has in its own."""
    for number in range(5):
        database.make_service(f"cut-{number}")
    lock = b"SELECT s.* FROM booking.services s JOIN booking.businesses b ON s.ctid = b.ctid FOR UPDATE OF s"
    with (
        psycopg.connect(database.admin_url, autocommit=True) as waiting,
        psycopg.connect(database.admin_url) as holder,
    ):
        assert holder.execute(lock).fetchall()
        rival = Thread(target=waiting.execute, args=(lock,))
        rival.start()
        database.wait_until_blocked()
        assert lock_waits(database) == []
        holder.rollback()
        rival.join()


@pytest.mark.new_database
def test_a_lock_of_another_database_of_the_server_is_not_named(
    database: TestDatabase, running_cluster: RunningCluster
) -> None:
    """Copies of one database have the same numbers for their tables, and the same places for their rows."""
    database.make_business()
    with running_cluster.new_database() as other:
        other.make_service()
        with other.connect() as waiting, other.locked() as holder:
            rival = Thread(target=other.reserve, args=(10,), kwargs={"connection": waiting})
            rival.start()
            other.wait_until_blocked()
            assert lock_waits(other) == [("salon", 1, [holder.info.backend_pid])]
            assert lock_waits(database) == []
            holder.rollback()
            rival.join()


def add_history(database: TestDatabase) -> None:
    """Inserts holds that ended and appointments that changed five hours ago, and businesses without any."""
    database.rows(
        """
        INSERT INTO booking.reservations (business_id, reservation_id, service_id, slot_start, slot_end, occupied,
          quantity, status, expires_at, ttl_clamped, version, last_operation_id, created_at, ended_at)
        SELECT business_id, gen_random_uuid(), service_id, slot_start, slot_end, occupied, quantity, 'released',
          expires_at, ttl_clamped, version, gen_random_uuid(), ended_at - interval '5 hours',
          ended_at - interval '5 hours'
        FROM booking.reservations CROSS JOIN generate_series(1, %s) WHERE status = 'released'
        """,
        ROWS,
    )
    database.rows(
        """
        INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
          quantity, status, version, metadata, source, created_at, updated_at)
        SELECT business_id, gen_random_uuid(), service_id, slot_start, slot_end, occupied, quantity, 'cancelled', 1,
          metadata, source, created_at - interval '5 hours', updated_at - interval '5 hours'
        FROM booking.appointments CROSS JOIN generate_series(1, %s)
        """,
        ROWS,
    )
    database.rows(
        """
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at
        FROM booking.appointments WHERE status = 'cancelled'
        """
    )


@pytest.mark.new_database
@pytest.mark.parametrize("analysed", [False, True])
def test_only_the_asked_hours_are_read(database: TestDatabase, analysed: bool) -> None:
    """The page asks every few seconds: what happened hours ago must cost nothing, whatever the planner knows."""
    database.make_service(capacity=10)
    database.release(database.reserve(10).id)
    database.book(10)
    for table in ("reservations", "appointments"):
        database.rows(f"ALTER TABLE booking.{table} SET (autovacuum_enabled = off)")
    calls = {
        "hours": lambda: database.rows("SELECT booking.hourly_counts(2)"),
        "businesses": lambda: database.rows("SELECT booking.busiest_businesses(2, 10)"),
    }
    before = {name: reads_of(database, call) for name, call in calls.items()}
    add_history(database)
    if analysed:
        database.rows("ANALYZE")
    database.rows("DISCARD PLANS")
    for name, call in calls.items():
        after = reads_of(database, call)
        assert after.rows <= before[name].rows + 10, name
        assert after.whole_tables == set(), name
