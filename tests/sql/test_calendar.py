"""Calendar feeds: the appointments in them, and the generation from which their keys are derived."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.appointments import insert_appointment
from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.catalog import delete_resource
from tests.sql.measuring import reads_of
from tests.sql.requests import raises_sqlstate

DAY = timedelta(days=1)


def feed_page(
    database: TestDatabase, after: tuple[datetime | None, UUID | None] = (None, None), limit: int = 5000, **of: Any
) -> list[tuple[datetime, UUID, Any]]:
    """Returns a page of a feed of the salon: the place and the body of each row."""
    since = of.pop("since", None) or database.value("SELECT booking.now() - interval '10 days'")
    return database.rows(
        "SELECT slot_start, appointment_id, body FROM booking.calendar_feed('salon', %s, %s, %s, %s, %s)",
        *(of.pop("resource_id", None), since, *after, limit),
    )


def feed(database: TestDatabase, resource_id: str | None = None, **of: Any) -> list[UUID]:
    """Returns the appointments in a feed of the salon, by default from ten days ago on."""
    return [appointment_id for _, appointment_id, body in feed_page(database, resource_id=resource_id, **of) if body]


def span(database: TestDatabase) -> list[tuple[Any, ...]]:
    """Returns the time zone of the salon, and the time that its feeds cover."""
    return database.rows("SELECT timezone, since, starts, ends FROM booking.feed_span('salon')")


def calendars(database: TestDatabase, business_id: str = "salon") -> list[tuple[str | None, str, str]]:
    """Returns resource id, name and generation of each feed of a business."""
    return database.rows("SELECT resource_id, name, generation FROM booking.calendars(%s)", business_id)


def rotate(database: TestDatabase, business_id: str = "salon", deadline: datetime = NO_DEADLINE) -> str:
    """Rotates the keys of the calendars, and returns the outcome."""
    return database.outcome("rotate_calendar", business_id, deadline).name


def test_a_business_and_each_of_its_resources_have_a_feed(database: TestDatabase) -> None:
    """The feed of the business comes first; archived resources have none."""
    assert calendars(database) == []
    database.make_resource("rosa", name="Rosa")
    database.make_resource("ivo", name="Ivo")
    database.make_resource("gone")
    database.make_resource("dora", business_id="clinic")
    database.rows("UPDATE booking.resources SET archived_at = booking.now() WHERE resource_id = 'gone'")
    feeds = [(resource_id, name) for resource_id, name, _ in calendars(database)]
    assert feeds == [(None, "salon"), ("ivo", "Ivo"), ("rosa", "Rosa")]


def test_a_feed_has_confirmed_and_completed_appointments(database: TestDatabase) -> None:
    """Cancelled appointments and no-shows are left out."""
    database.make_service()
    confirmed = insert_appointment(database, at(10))
    completed = insert_appointment(database, at(9), status="completed")
    insert_appointment(database, at(10), status="cancelled")
    insert_appointment(database, at(9), status="no_show")
    assert feed(database) == [completed, confirmed]


def test_a_feed_entry_has_the_names_of_service_and_resource(database: TestDatabase) -> None:
    """An entry has names instead of ids, and the guest's data. Other names with these ids are of another business."""
    for business_id, name, service_name in (("salon", "Rosa", "Haircut"), ("clinic", "Dr. Abel", "Check-up")):
        database.make_resource("rosa", business_id=business_id, name=name)
        database.make_service(business_id=business_id, name=service_name)
    details: dict[str, Any] = {
        "guest_name": "Ada",
        "guest_email": "ada@example.com",
        "guest_phone": "+49301234567",
        "notes": "short",
    }
    appointment_id = insert_appointment(database, at(10), resource_id="rosa", version=3, updated_at=at(9), **details)
    [(_, _, body)] = feed_page(database)
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


def test_a_feed_begins_with_what_had_not_ended(database: TestDatabase) -> None:
    """An appointment that began before is in it, however long it is; there is no last instant."""
    database.make_service(capacity=10, duration_minutes=24 * 60 * 5)
    stay = UUID(database.book(0, 24 * 5).id)
    upcoming = insert_appointment(database, at(0) + 100 * 365 * DAY)
    second = timedelta(seconds=1)
    for since in (at(0), at(0) + 5 * DAY - second):
        assert feed(database, since=since) == [stay, upcoming]
    assert feed(database, since=at(0) + 5 * DAY) == [upcoming]


def test_the_span_of_a_feed_follows_the_setting_and_the_appointments(database: TestDatabase) -> None:
    """It ends with the last slot, and begins early enough for a slot as long as the longest one."""
    assert span(database) == []
    database.make_business()
    now = database.freeze_clock(at(0))
    assert span(database) == [("Europe/Berlin", now - 400 * DAY, now - 400 * DAY, now)]
    database.make_service(capacity=10, duration_minutes=24 * 60)
    database.book(24, 24)
    database.book(12)
    database.rows("UPDATE booking.businesses SET feed_past_days = 7, timezone = 'Mars/Olympus'")
    assert span(database) == [("Mars/Olympus", now - 7 * DAY, now - 8 * DAY, now + 2 * DAY)]


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


def test_pages_have_every_row_once(database: TestDatabase) -> None:
    """A page counts the rows that are in no feed too, so its work is bounded; the last page is shorter."""
    database.make_service(capacity=10)
    ids = [insert_appointment(database, at(10 + number // 3), quantity=1 + number % 2) for number in range(7)]
    cancelled = [insert_appointment(database, at(11), status="cancelled") for _ in range(3)]
    found: list[tuple[datetime, UUID, Any]] = []
    place: tuple[datetime | None, UUID | None] = (None, None)
    for _ in range(4):
        page = feed_page(database, place, limit=3)
        found += page
        place = page[-1][:2]
    assert len(page) == 1
    assert [row[:2] for row in found] == sorted(row[:2] for row in found)
    assert {name for _, name, body in found if body} == {*ids}
    assert {name for _, name, body in found if not body} == {*cancelled}


@pytest.mark.new_database
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
    calls = {
        "recent": (lambda: feed(database), 50),
        "the first page": (lambda: feed_page(database, limit=10, since=at(-10_000)), 50),
        "a page in between": (lambda: feed_page(database, (at(-2_000), UUID(int=0)), limit=10, since=at(-10_000)), 50),
        "the span": (lambda: span(database), 10),
    }
    for name, (call, rows) in calls.items():
        reads = reads_of(database, call)
        assert reads.rows < rows, name
        assert reads.whole_tables == set(), name
        assert "idx_appointments_calendar" in reads.indexes, name


def generations(database: TestDatabase, business_id: str = "salon") -> set[str]:
    """Returns the generations of the feeds of a business, each of which is unique."""
    feeds = calendars(database, business_id)
    unique = {generation for _, _, generation in feeds}
    assert len(unique) == len(feeds)
    return unique


def test_rotating_renews_the_generations_of_one_business(database: TestDatabase) -> None:
    """All feeds of the business get new keys, and no feed of another business does."""
    database.make_resource("rosa")
    database.make_business("clinic")
    seen, clinic = generations(database), generations(database, "clinic")
    for _ in range(2):
        assert rotate(database) == "done"
        assert len(generations(database)) == 2
        assert not generations(database) & seen
        seen |= generations(database)
    assert generations(database, "clinic") == clinic
    assert rotate(database, "nobody") == "business_not_found"


def test_rotating_takes_the_lock_of_the_business(database: TestDatabase) -> None:
    """Past its deadline the call raises and changes nothing, as every verb does."""
    database.make_business()
    before = calendars(database)
    with raises_sqlstate("HF001"):
        rotate(database, deadline=datetime(2020, 1, 1, tzinfo=UTC))
    assert calendars(database) == before


def test_a_put_keeps_the_generations(database: TestDatabase) -> None:
    """A change of settings does not invalidate the calendars of the staff."""
    database.make_resource("rosa")
    rotate(database)
    before = calendars(database)
    database.make_business()
    database.make_resource("rosa")
    assert calendars(database) == before


def test_a_business_that_is_made_again_has_other_generations(database: TestDatabase) -> None:
    """The addresses of the feeds of a deleted business do not open those of its successor."""
    seen: set[str] = set()
    for _ in range(2):
        database.make_resource("rosa")
        assert not generations(database) & seen
        seen |= generations(database)
        delete_resource(database, "rosa")
        assert database.value("SELECT outcome FROM booking.delete_business('salon', 'infinity')") == "done"


@pytest.mark.parametrize("archived", [False, True])
def test_a_resource_that_is_made_again_has_another_generation(database: TestDatabase, *, archived: bool) -> None:
    """It may be another person, of the same name as the one who left, whether the row was deleted or archived."""
    database.make_service(resource_ids=["rosa"] if archived else [])
    database.make_resource("rosa")
    before = calendars(database)
    delete_resource(database, "rosa")
    database.make_resource("rosa")
    after = calendars(database)
    assert after[0] == before[0]
    assert after[1][2] != before[1][2]
