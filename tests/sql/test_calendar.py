"""Calendar feeds: the appointments in them, and the generation from which their keys are derived."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.appointments import insert_appointment
from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.measuring import reads_of
from tests.sql.requests import raises_sqlstate

DAY = timedelta(days=1)


def feed(database: TestDatabase, resource_id: str | None = None, *, limit: int = 5000) -> list[UUID]:
    """Returns the appointments in a feed of the salon, from ten days ago to a hundred days ahead."""
    rows = database.rows(
        "SELECT * FROM booking.calendar_feed('salon', %s, '10 days', '100 days', %s)", resource_id, limit
    )
    return [UUID(body["appointment_id"]) for (body,) in rows]


def calendars(database: TestDatabase, business_id: str = "salon") -> list[tuple[str | None, str, int]]:
    """Returns resource id, name and generation of each feed of a business."""
    return database.rows("SELECT resource_id, name, generation FROM booking.calendars(%s)", business_id)


def rotate(database: TestDatabase, business_id: str = "salon", deadline: datetime = NO_DEADLINE) -> str:
    """Rotates the keys of the calendars, and returns the outcome."""
    name: str = database.value("SELECT outcome FROM booking.rotate_calendar(%s, %s)", business_id, deadline)
    return name


def test_a_business_and_each_of_its_resources_have_a_feed(database: TestDatabase) -> None:
    """The feed of the business comes first; archived resources have none."""
    assert calendars(database) == []
    database.make_resource("rosa", name="Rosa")
    database.make_resource("ivo", name="Ivo")
    database.make_resource("gone")
    database.make_resource("dora", business_id="clinic")
    database.rows("UPDATE booking.resources SET archived_at = booking.now() WHERE resource_id = 'gone'")
    assert calendars(database) == [(None, "salon", 1), ("ivo", "Ivo", 1), ("rosa", "Rosa", 1)]


def test_a_feed_has_confirmed_and_completed_appointments(database: TestDatabase) -> None:
    """Cancelled appointments and no-shows are left out."""
    database.make_service()
    confirmed = insert_appointment(database, at(10))
    completed = insert_appointment(database, at(9), status="completed")
    insert_appointment(database, at(10), status="cancelled")
    insert_appointment(database, at(9), status="no_show")
    assert feed(database) == [completed, confirmed]


def test_a_feed_entry_has_the_names_of_service_and_resource(database: TestDatabase) -> None:
    """An entry has names instead of ids, and the guest's data."""
    database.make_resource("rosa", name="Rosa")
    database.make_service(name="Haircut")
    details: dict[str, Any] = {
        "guest_name": "Ada",
        "guest_email": "ada@example.com",
        "guest_phone": "+49301234567",
        "notes": "short",
    }
    appointment_id = insert_appointment(database, at(10), resource_id="rosa", version=3, updated_at=at(9), **details)
    [(body,)] = database.rows("SELECT * FROM booking.calendar_feed('salon', NULL, '0', '100 days', 10)")
    times = {name: datetime.fromisoformat(body.pop(name)) for name in ("slot_start", "slot_end", "updated_at")}
    assert times == {"slot_start": at(10), "slot_end": at(11), "updated_at": at(9)}
    assert body == {
        "appointment_id": str(appointment_id),
        "quantity": 1,
        "version": 3,
        "service_name": "Haircut",
        "resource_name": "Rosa",
        **details,
    }


def test_a_feed_is_limited_to_its_time_range(database: TestDatabase) -> None:
    """The range is half-open by the start of the appointment; opening hours and closures do not matter."""
    database.make_service(capacity=10)
    now = database.freeze_clock(datetime(2031, 1, 1, 12, tzinfo=UTC))
    second = timedelta(seconds=1)
    first = insert_appointment(database, now - 10 * DAY)
    insert_appointment(database, now - 10 * DAY - second)
    last = insert_appointment(database, now + 100 * DAY - second)
    insert_appointment(database, now + 100 * DAY)
    begins = insert_appointment(database, now)
    assert feed(database) == [first, begins, last]


def test_the_feed_of_a_resource_has_only_its_own_appointments(database: TestDatabase) -> None:
    """The feed of the business has the appointments of all its resources, and none of another business."""
    database.make_resource("rosa")
    database.make_resource("ivo")
    database.make_service(capacity=10)
    of_rosa = insert_appointment(database, at(10), resource_id="rosa")
    of_ivo = insert_appointment(database, at(11), resource_id="ivo")
    of_nobody = insert_appointment(database, at(12))
    database.make_resource("rosa", business_id="clinic")
    database.make_service(business_id="clinic")
    insert_appointment(database, at(10), business_id="clinic", resource_id="rosa")
    assert feed(database, "rosa") == [of_rosa]
    assert feed(database, "ivo") == [of_ivo]
    assert feed(database) == [of_rosa, of_ivo, of_nobody]


def test_a_feed_above_its_limit_keeps_the_coming_appointments(database: TestDatabase) -> None:
    """Past appointments are dropped first, the oldest before the others."""
    database.make_service(capacity=10)
    now = database.freeze_clock()
    past = [insert_appointment(database, now - days * DAY) for days in (3, 2, 1)]
    ahead = [insert_appointment(database, now + days * DAY) for days in (0, 1, 2)]
    assert feed(database, limit=6) == past + ahead
    assert feed(database, limit=4) == past[-1:] + ahead
    assert feed(database, limit=2) == ahead[:2]


@pytest.mark.parametrize("is_analysed", [False, True])
def test_a_feed_does_not_read_the_history(database: TestDatabase, is_analysed: bool) -> None:
    """A feed reads only the appointments of its range, because calendar programs poll it for years."""
    for table in ("appointments", "services", "businesses", "audit_logs"):
        database.rows(f"ALTER TABLE booking.{table} SET (autovacuum_enabled = off)")
    database.make_service()
    for day in range(5):
        insert_appointment(database, at(10, day=day))
    database.rows(
        """
        WITH past AS (
          INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
            quantity, status, version, metadata, source, created_at, updated_at)
          SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'),
            1, 'completed', 1, '{}', 'online', at, at
          FROM generate_series(1, 5000) AS n
          CROSS JOIN LATERAL (SELECT booking.now() - interval '11 days' - n * interval '1 hour' AS at) AS slot
          RETURNING business_id, appointment_id, created_at)
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at FROM past
        """
    )
    if is_analysed:
        database.rows("VACUUM ANALYZE")
    reads = reads_of(database, lambda: feed(database))
    assert reads.rows < 50
    assert reads.whole_tables == set()
    assert "idx_appointments_calendar" in reads.indexes


def test_rotating_raises_the_generation_of_one_business(database: TestDatabase) -> None:
    """All feeds of the business get new keys, and no feed of another business does."""
    database.make_resource("rosa")
    database.make_business("clinic")
    assert rotate(database) == "done"
    assert [generation for _, _, generation in calendars(database)] == [2, 2]
    assert rotate(database) == "done"
    assert [generation for _, _, generation in calendars(database)] == [3, 3]
    assert [generation for _, _, generation in calendars(database, "clinic")] == [1]
    assert rotate(database, "nobody") == "business_not_found"


def test_rotating_takes_the_lock_of_the_business(database: TestDatabase) -> None:
    """Past its deadline the call raises and changes nothing, as every verb does."""
    database.make_business()
    with raises_sqlstate("HF001"):
        rotate(database, deadline=datetime(2020, 1, 1, tzinfo=UTC))
    assert calendars(database) == [(None, "salon", 1)]


def test_putting_a_business_keeps_the_generation_of_its_calendars(database: TestDatabase) -> None:
    """A change of its settings does not invalidate the calendars of its staff."""
    database.make_business()
    rotate(database)
    database.make_business()
    assert calendars(database) == [(None, "salon", 2)]
