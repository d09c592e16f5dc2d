"""The retention of guests' data: the purge erases it some days after the end of a slot."""

from datetime import timedelta
from typing import Any

import pytest

from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.changes import actions, stored_appointment, trail
from tests.sql.measuring import reads_of
from tests.sql.requests import GUEST

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
END = at(11)


def keep_guests_for(database: TestDatabase, days: int | None, business_id: str = "salon") -> None:
    """Sets the retention of a business."""
    database.rows(
        "UPDATE booking.businesses SET guest_retention_days = %s WHERE business_id = %s", *(days, business_id)
    )


def purge(database: TestDatabase, *business_ids: str, limit: int = 1000) -> int:
    """Purges businesses, by default the salon, in one step, and returns the number of erased appointments."""
    erased: int = database.value(
        "SELECT erased FROM booking.purge(%s, %s, %s, %s)",
        *(list(business_ids or ["salon"]), DAY, limit, NO_DEADLINE),
    )
    return erased


def due(database: TestDatabase) -> dict[str, int]:
    """Returns the number of rows to purge, by business."""
    return dict(database.rows("SELECT * FROM booking.due_businesses(%s)", DAY))


def test_guest_data_is_erased_when_its_retention_is_over(database: TestDatabase) -> None:
    """Not an instant before, and in the name of the system; what the purge leaves is what an erasure leaves."""
    database.make_service(capacity=5)
    keep_guests_for(database, 30)
    appointment = database.book(10, **GUEST, metadata={"client": "ada-7"}).id
    database.freeze_clock(END + 30 * DAY - INSTANT)
    assert (due(database), purge(database)) == ({}, 0)
    database.freeze_clock(END + 30 * DAY)
    assert (due(database), purge(database)) == ({"salon": 1}, 1)
    row = stored_appointment(database, appointment)
    assert {row[name] for name in GUEST} == {None}
    assert (row["metadata"], row["status"], row["version"]) == ({}, "confirmed", 2)
    entry = trail(database, appointment)[-1]
    assert (entry["action"], entry["actor"]) == ("erased", {"kind": "system", "id": None, "name": None})
    assert entry["changes"] == {name: {} for name in (*GUEST, "metadata")}
    assert database.violations() == {}


def test_nothing_is_erased_twice(database: TestDatabase) -> None:
    """Only data that was entered after the erasure is erased again."""
    database.make_service(capacity=5)
    keep_guests_for(database, 1)
    appointment = database.book(10, **GUEST).id
    database.freeze_clock(END + DAY)
    assert [purge(database), purge(database), due(database)] == [1, 0, {}]
    assert actions(database, appointment) == [(1, "created"), (2, "erased")]
    database.change(appointment, set={"notes": "left an umbrella"})
    assert [purge(database), purge(database)] == [1, 0]


@pytest.mark.parametrize("member", [*GUEST, "metadata", "fingerprint", "cancellation_reason"])
def test_each_member_that_may_be_personal_is_found(database: TestDatabase, member: str) -> None:
    """One of them alone is enough."""
    database.make_service(capacity=5)
    keep_guests_for(database, 1)
    value = {"metadata": {"client": "ada-7"}}.get(member, "personal")
    nothing: dict[str, Any] = dict.fromkeys(GUEST)
    request = {} if member == "cancellation_reason" else {member: value}
    appointment = database.book(10, **nothing | request).id
    if member == "cancellation_reason":
        database.change(appointment, action="cancel", reason="a broken leg")
    database.book(10, **nothing)
    database.freeze_clock(END + DAY)
    assert purge(database) == 1
    assert stored_appointment(database, appointment)[member] == ({} if member == "metadata" else None)
    assert purge(database) == 0


def test_a_business_without_a_retention_keeps_its_guests(database: TestDatabase) -> None:
    """That is the default; the retention of another business concerns only that one."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=5)
        database.book(10, business_id=business_id, **GUEST)
    keep_guests_for(database, 36_500, "clinic")
    database.freeze_clock(END + 36_499 * DAY)
    assert (due(database), purge(database, "salon", "clinic")) == ({}, 0)
    database.freeze_clock(END + 36_500 * DAY)
    assert (due(database), purge(database, "salon", "clinic")) == ({"clinic": 1}, 1)


def test_the_purge_erases_in_bounded_steps_and_not_beside_others(database: TestDatabase) -> None:
    """The limit holds for all businesses of a call together, and a busy business is left for a later run."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=5)
        keep_guests_for(database, 1, business_id)
        for hour in (8, 9, 10):
            database.book(hour, business_id=business_id, **GUEST)
    database.freeze_clock(END + DAY)
    with database.locked("clinic"):
        assert purge(database, "salon", "clinic", limit=2) == 2
    assert due(database) == {"salon": 1, "clinic": 3}
    assert [purge(database, "salon", "clinic", limit=2) for _ in range(3)] == [2, 2, 0]


def test_an_appointment_that_was_moved_is_kept_from_its_new_end_on(database: TestDatabase) -> None:
    """The retention counts from the slot as it is now."""
    database.make_service(capacity=5)
    keep_guests_for(database, 1)
    appointment = database.book(10, **GUEST).id
    database.change(appointment, set={"slot_start": at(34).isoformat()})
    database.freeze_clock(END + DAY)
    assert purge(database) == 0
    database.freeze_clock(END + 2 * DAY)
    assert purge(database) == 1


@pytest.mark.new_database
@pytest.mark.parametrize("analysed", [False, True])
def test_finding_nothing_to_erase_reads_no_appointment(database: TestDatabase, analysed: bool) -> None:
    """Neither those that were erased nor those whose retention lasts, however many there are."""
    database.make_service(capacity=1)
    keep_guests_for(database, 30)
    database.rows(
        """
        WITH booked AS (
          INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
            quantity, status, version, guest_email, metadata, source, created_at, updated_at)
          SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'),
            1, 'completed', 1, CASE WHEN n <= 700 THEN 'ada@example.com' END, '{}', 'online', at, at
          FROM generate_series(1, 10000) AS n CROSS JOIN LATERAL (
            SELECT booking.now() - n * interval '1 hour' AS at) AS slot
          RETURNING *
        )
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at FROM booked
        """
    )
    if analysed:
        database.rows("VACUUM ANALYZE booking.appointments")
    for call in (lambda: purge(database), lambda: due(database)):
        reads = reads_of(database, call)
        assert "idx_appointments_guest_retention" in reads.indexes
        assert reads.rows < 20
        assert reads.whole_tables == frozenset()
    keep_guests_for(database, 29)
    assert due(database) == {"salon": 4}
    assert reads_of(database, lambda: purge(database, limit=2)).rows < 60
