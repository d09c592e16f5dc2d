"""The catalog: businesses and services are put, changed and deleted, without losing claims."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.concurrency.rivals import wait_for
from tests.database import NO_DEADLINE, Outcome, TestDatabase, at
from tests.sql.catalog import delete_resource, delete_service, put_service_on
from tests.sql.measuring import reads_of
from tests.sql.requests import raises_sqlstate
from tests.sql.rivals import SECONDS, Rivals

TTL = timedelta(minutes=15)


def put_business(database: TestDatabase, business_id: str, **settings: Any) -> Outcome:
    """Puts a business on the superuser's connection."""
    return put_business_on(database.admin, business_id, **settings)


def put_business_on(
    connection: psycopg.Connection, business_id: str, *, deadline: datetime = NO_DEADLINE, **settings: object
) -> Outcome:
    """Puts a business on a given connection."""
    complete = {"name": business_id, "slug": None, "timezone": "Europe/Berlin", "country": "DE", **settings}
    [(name, body)] = connection.execute(
        "SELECT outcome, body FROM booking.put_business(%s, %s, %s)", [business_id, json.dumps(complete), deadline]
    ).fetchall()
    return Outcome(name, body)


def put_late(connection: psycopg.Connection, deadline: datetime) -> object:
    """Puts the salon under another slug."""
    return put_business_on(connection, "salon", deadline=deadline, name="Late", slug="cuts")


def delete_late(connection: psycopg.Connection, deadline: datetime) -> object:
    """Deletes the salon."""
    return connection.execute("SELECT booking.delete_business('salon', %s)", [deadline])


def delete_business(database: TestDatabase, business_id: str) -> str:
    """Deletes a business, and returns the name of the outcome."""
    return database.outcome("delete_business", business_id, NO_DEADLINE).name


def businesses(database: TestDatabase) -> list[tuple[Any, ...]]:
    """Returns the id and slug of each business."""
    query = "SELECT business ->> 'business_id', business ->> 'slug' FROM booking.businesses() AS business"
    return database.rows(query)


def conflict_of(outcome: Outcome) -> tuple[str, datetime, datetime, int]:
    """Returns the outcome of a refused capacity, with the slot and the claimed quantity that it names."""
    start, end = (datetime.fromisoformat(outcome.body[name]) for name in ("slot_start", "slot_end"))
    return outcome.name, start, end, outcome.body["claimed"]


def test_a_business_is_made_once_and_then_changed(database: TestDatabase) -> None:
    """A second put replaces all settings and keeps the time of creation."""
    assert put_business(database, "salon", slug="hair").name == "created"
    made_at = database.value("SELECT created_at FROM booking.businesses")
    outcome = put_business(database, "salon", name="Salon", timezone="America/New_York", country="US")
    assert outcome.name == "done"
    settings = {name: outcome.body[name] for name in ("name", "slug", "timezone", "country")}
    assert settings == {"name": "Salon", "slug": None, "timezone": "America/New_York", "country": "US"}
    assert database.rows("SELECT * FROM booking.slugs") == []
    assert database.value("SELECT created_at FROM booking.businesses") == made_at


def test_a_timezone_that_postgresql_does_not_know_is_refused(database: TestDatabase) -> None:
    """Local times can't be computed in an unknown zone; the refused put stores no business."""
    refused = put_business(database, "salon", timezone="Europe/Atlantis")
    fault = {"field": "timezone", "code": "unknown_timezone", "parameters": {}}
    assert (refused.name, refused.body) == ("validation_failed", fault)
    assert businesses(database) == []


def test_an_invalid_id_is_refused(database: TestDatabase) -> None:
    """Ids appear in URLs, logs and keys without escaping.

    The service checks them first; the constraint is the backstop.
    """
    for business_id in ("", "-salon", "sal on", "s" * 65, "salön", "salon\n"):
        with pytest.raises(psycopg.errors.CheckViolation):
            put_business(database, business_id)
    assert put_business(database, "s" * 64).name == "created"


def test_a_slug_belongs_to_one_business(database: TestDatabase) -> None:
    """A slug identifies one business. The second business that claims it is not stored at all."""
    put_business(database, "salon", slug="hair")
    with raises_sqlstate("HF003"):
        put_business(database, "clinic", slug="hair")
    assert businesses(database) == [("salon", "hair")]
    assert put_business(database, "salon", slug="hair").name == "done"
    put_business(database, "salon", slug="cuts")
    assert put_business(database, "clinic", slug="hair").name == "created"
    assert businesses(database) == [("clinic", "hair"), ("salon", "cuts")]
    assert database.rows("SELECT slug, business_id FROM booking.slugs ORDER BY slug") == [
        ("cuts", "salon"),
        ("hair", "clinic"),
    ]


@pytest.mark.parametrize(
    ("call", "blocking_statement"),
    [
        (put_late, "INSERT INTO booking.slugs (slug, business_id) VALUES ('cuts', 'clinic')"),
        (put_late, "SELECT FROM booking.slugs FOR UPDATE"),
        (delete_late, "SELECT FROM booking.slugs FOR UPDATE"),
    ],
)
def test_a_call_that_waits_for_a_slug_past_its_deadline_writes_nothing(
    database: TestDatabase,
    rivals: Rivals,
    call: Callable[[psycopg.Connection, datetime], object],
    blocking_statement: str,
) -> None:
    """After the lock of its business, a call may have to wait for a slug that another transaction has locked."""
    put_business(database, "salon", slug="hair")
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    with psycopg.connect(database.admin_url) as rival:
        rival.execute(blocking_statement.encode())
        answer = rivals.start(lambda connection: call(connection, deadline))
        database.wait_until_blocked()
        wait_for(database.admin, deadline)
        rival.rollback()
    with raises_sqlstate("HF001"):
        answer.result(SECONDS)
    business = database.value("SELECT booking.business('salon')")
    assert (business["name"], business["slug"]) == ("salon", "hair")


@pytest.mark.parametrize("first_commits", [True, False])
def test_of_two_concurrent_businesses_with_one_slug_the_second_waits(
    database: TestDatabase, rivals: Rivals, first_commits: bool
) -> None:
    """The second business gets the slug only if the first transaction is rolled back."""
    with database.connect(autocommit=False) as first:
        put_business_on(first, "salon", slug="hair")
        answer = rivals.start(lambda connection: put_business_on(connection, "clinic", slug="hair"))
        database.wait_until_blocked()
        first.commit() if first_commits else first.rollback()
    if first_commits:
        with raises_sqlstate("HF003"):
            answer.result(SECONDS)
    else:
        assert answer.result(SECONDS).name == "created"
    assert businesses(database) == [("salon" if first_commits else "clinic", "hair")]


def test_a_business_that_is_deleted_during_a_put_is_put_again(database: TestDatabase, rivals: Rivals) -> None:
    """The call finds the business, waits for its lock, and fails with an error after which the service repeats it."""
    put_business(database, "salon")
    with database.locked() as connection:
        answer = rivals.start(lambda rival: put_business_on(rival, "salon"))
        database.wait_until_blocked()
        connection.execute("SELECT booking.delete_business('salon', 'infinity')")
        connection.commit()
    with raises_sqlstate("40001"):
        answer.result(SECONDS)
    assert businesses(database) == []


def test_a_business_that_is_created_during_the_put_of_its_document_is_put_again(
    database: TestDatabase, rivals: Rivals
) -> None:
    """Its changes were computed for no business. The service sends it again, and computes them for the new business."""
    entries: dict[str, Any] = {member: {} for member in ("resources", "services", "special_hours", "closures")}
    document = json.dumps({"name": "Salon", "timezone": "UTC", "opening_hours": [], **entries})
    put = "SELECT outcome FROM booking.put_document('salon', %s, false, 'infinity')"
    with database.connect(autocommit=False) as first:
        put_business_on(first, "salon")
        answer = rivals.start(lambda rival: rival.execute(put, [document]).fetchone())
        database.wait_until_blocked()
        first.commit()
    with raises_sqlstate("40001"):
        answer.result(SECONDS)


def test_a_slug_is_the_id_of_no_other_business(database: TestDatabase) -> None:
    """Public calls name a business by either. Its own id is free to be its slug, and a deleted one's name too."""
    assert put_business(database, "salon", slug="salon").name == "created"
    assert put_business(database, "clinic", slug="doctor").name == "created"
    for business_id, slug in (("clinic", "salon"), ("doctor", "hair"), ("kennel", "clinic")):
        with raises_sqlstate("HF003"):
            put_business(database, business_id, slug=slug)
    assert businesses(database) == [("clinic", "doctor"), ("salon", "salon")]
    assert delete_business(database, "salon") == "done"
    assert put_business(database, "clinic", slug="salon").name == "done"
    assert put_business(database, "doctor").name == "created"
    assert database.rows("SELECT slug, business_id FROM booking.slugs") == [("salon", "clinic")]


@pytest.mark.parametrize("first_commits", [True, False])
@pytest.mark.parametrize("calls", [[("hair", None), ("salon", "hair")], [("salon", "hair"), ("hair", None)]])
def test_of_a_slug_and_an_equal_id_made_concurrently_the_second_waits(
    database: TestDatabase, rivals: Rivals, calls: list[tuple[str, str | None]], first_commits: bool
) -> None:
    """Neither call sees the other's row before that commits, so both would succeed without a lock on the name."""
    (first_id, first_slug), (second_id, second_slug) = calls
    with database.connect(autocommit=False) as first:
        put_business_on(first, first_id, slug=first_slug)
        answer = rivals.start(lambda connection: put_business_on(connection, second_id, slug=second_slug))
        database.wait_until_blocked()
        first.commit() if first_commits else first.rollback()
    if first_commits:
        with raises_sqlstate("HF003"):
            answer.result(SECONDS)
    else:
        assert answer.result(SECONDS).name == "created"
    assert businesses(database) == [calls[not first_commits]]


@pytest.mark.new_database
@pytest.mark.parametrize("slug", ["hair", "cuts", None])
def test_the_slugs_of_other_businesses_are_not_read(database: TestDatabase, slug: str | None) -> None:
    """A slug is kept, changed or given up, and goes with its business, by a look-up of the key."""
    put_business(database, "salon", slug="hair")
    database.rows("INSERT INTO booking.slugs SELECT 's' || n, 'b' || n FROM generate_series(1, 1000) AS n")
    database.rows("ANALYZE booking.slugs")
    put = reads_of(database, lambda: put_business(database, "salon", slug=slug))
    assert "slugs_pkey" in put.indexes
    assert "slugs" not in put.whole_tables
    assert "slugs" not in reads_of(database, lambda: delete_business(database, "salon")).whole_tables


def test_an_id_precedes_an_equal_slug(database: TestDatabase) -> None:
    """A database may have both from before that was refused."""
    put_business(database, "salon", slug="hair")
    put_business(database, "clinic")
    database.rows("INSERT INTO booking.slugs VALUES ('clinic', 'salon')")
    named = "SELECT name, business_id FROM booking.businesses_named(%s)"
    assert database.rows(named, ["hair", "clinic", "salon", "nobody"]) == [
        ("hair", "salon"),
        ("clinic", "clinic"),
        ("salon", "salon"),
        ("nobody", None),
    ]


def test_slugs_that_lead_astray_are_reported(database: TestDatabase) -> None:
    """Those that are claimed for a business that does not have them, and those of a business that lead elsewhere.

    The former can be released. The release of a slug that its business has is without effect.
    """
    for business_id, slug in (("salon", "hair"), ("clinic", "doctor"), ("spa", "bath"), ("quiet", None)):
        put_business(database, business_id, slug=slug)
    stray = "SELECT slug, business_id FROM booking.stray_slugs() ORDER BY 1, 2"
    assert database.rows(stray) == []
    database.rows("INSERT INTO booking.slugs VALUES ('cuts', 'salon'), ('gone', 'deleted')")
    database.rows("UPDATE booking.slugs SET business_id = 'salon' WHERE slug = 'doctor'")
    database.rows("DELETE FROM booking.slugs WHERE slug = 'bath'")
    assert database.rows(stray) == [
        ("bath", "spa"),
        ("cuts", "salon"),
        ("doctor", "clinic"),
        ("doctor", "salon"),
        ("gone", "deleted"),
    ]
    for slug, business_id in (("gone", "deleted"), ("cuts", "salon"), ("hair", "salon")):
        database.rows("SELECT booking.release_slug(%s, %s)", slug, business_id)
    assert database.rows(stray) == [("bath", "spa"), ("doctor", "clinic"), ("doctor", "salon")]


def test_a_business_that_ever_had_a_service_cant_be_deleted(database: TestDatabase) -> None:
    """An archived service keeps its business, because of the appointments. A business without any frees its slug."""
    assert delete_business(database, "salon") == "business_not_found"
    database.make_service()
    assert delete_business(database, "salon") == "business_in_use"
    database.commit(database.reserve(10).id)
    assert delete_service(database) == "done"
    assert delete_business(database, "salon") == "business_in_use"
    put_business(database, "clinic", slug="hair")
    assert delete_business(database, "clinic") == "done"
    assert put_business(database, "kennel", slug="hair").name == "created"


def test_a_business_without_services_is_deleted_with_its_dependent_rows(database: TestDatabase) -> None:
    """Its hours, closures, keys and archived resources are deleted too; an active resource keeps the business."""
    database.make_resource("anna")
    database.put_hours([{"weekday": 2, "opens": "09:00", "closes": "17:00", "resource_id": "anna"}])
    database.put_closure("away", at(10), at(12), "anna")
    database.rows("SELECT booking.create_key('salon', 'k', 'key', 'owner', sha256('k'), NULL, %s)", NO_DEADLINE)
    assert delete_business(database, "salon") == "business_in_use"
    delete_resource(database)
    assert delete_business(database, "salon") == "done"
    for table in ("businesses", "resources", "opening_hours", "closures", "api_keys"):
        assert database.value(f"SELECT count(*) FROM booking.{table}") == 0  # noqa: S608


def test_entries_are_listed_in_order(database: TestDatabase) -> None:
    """Services and resources by their ids, closures by their beginning and then by their ids."""
    for entry_id in ("b", "c", "a"):
        database.make_service(entry_id)
        database.make_resource(entry_id)
    for closure_id, hour in (("c", 9), ("b", 10), ("a", 10)):
        database.put_closure(closure_id, at(hour), at(11))
    for function, name, expected in (
        ("services", "service_id", ["a", "b", "c"]),
        ("resources", "resource_id", ["a", "b", "c"]),
        ("closures", "closure_id", ["c", "a", "b"]),
    ):
        rows = database.rows(f"SELECT booking.{function}('salon') ->> %s", name)
        assert [entry_id for (entry_id,) in rows] == expected


def test_a_service_is_made_once_and_then_changed(database: TestDatabase) -> None:
    """A second put replaces all settings and keeps the reach of its searches for overlaps."""
    assert database.put_service(business_id="nobody").name == "business_not_found"
    database.make_business()
    assert database.put_service(capacity=3).name == "created"
    database.reserve(10, 5)
    outcome = database.put_service(capacity=7, name="Cut", duration_minutes=30, booking_enabled=False)
    assert outcome.name == "done"
    assert outcome.body == database.value("SELECT booking.services('salon', 'cut')")
    assert (outcome.body["max_simultaneous_bookings"], outcome.body["booking_enabled"]) == (7, False)
    assert database.value("SELECT longest_occupied_seconds FROM booking.services") == 5 * 3600


def test_inconsistent_settings_are_refused(database: TestDatabase) -> None:
    """The service checks them first; the constraints are the backstop."""
    database.make_business()
    nonsense: list[dict[str, Any]] = [
        {"capacity": 0},
        {"duration_minutes": 0},
        {"duration_minutes": 90, "max_duration_minutes": 60},
        {"hold_ttl_minutes": 90, "max_hold_ttl_minutes": 60},
        {"max_hold_ttl_minutes": 90, "max_hold_lifetime_minutes": 60},
        {"buffer_before_minutes": -1},
        {"max_advance_days": 3661},
        {"min_notice_minutes": -1},
    ]
    for settings in nonsense:
        with pytest.raises(psycopg.errors.CheckViolation):
            database.put_service(**settings)
    assert database.value("SELECT count(*) FROM booking.services") == 0


def test_the_capacity_is_not_lowered_below_the_claims(database: TestDatabase) -> None:
    """The refusal names the first conflicting slot and the quantity claimed in it, and changes nothing."""
    database.make_service(capacity=5)
    database.freeze_clock(at(0))
    database.commit(database.reserve(15, quantity=3).id)
    database.reserve(12, quantity=2)
    assert conflict_of(database.put_service(capacity=1)) == ("capacity_in_use", at(12), at(13), 2)
    assert conflict_of(database.put_service(capacity=2)) == ("capacity_in_use", at(15), at(16), 3)
    assert database.capacity(15)["capacity"] == 5
    assert database.put_service(capacity=3).name == "done"
    assert database.capacity(15) == {"capacity": 3, "held": 0, "booked": 3, "available": 0}


def test_a_lower_capacity_is_compared_with_the_peak(database: TestDatabase) -> None:
    """Adjacent claims need one unit; the refusal names the slot in which claims overlap."""
    database.make_service(capacity=5)
    for hour, hours in ((10, 1), (11, 1), (12, 2), (13, 1)):
        database.commit(database.reserve(hour, hours).id)
    assert conflict_of(database.put_service(capacity=1)) == ("capacity_in_use", at(13), at(14), 2)
    assert database.put_service(capacity=2).name == "done"


def test_past_and_ended_claims_allow_a_lower_capacity(database: TestDatabase) -> None:
    """Claims count from now on, including the rest of a claim that has begun."""
    database.make_service(capacity=5)
    database.freeze_clock(at(0))
    database.commit(database.reserve(10, quantity=3).id)
    database.release(database.reserve(15, quantity=4).id)
    database.reserve(16, quantity=4)
    database.freeze_clock(at(10.5))
    assert conflict_of(database.put_service(capacity=1)) == ("capacity_in_use", at(10.5), at(11), 3)
    database.freeze_clock(at(11))
    assert database.put_service(capacity=1).name == "done"


def test_available_is_never_negative(database: TestDatabase) -> None:
    """In a past slot more may be booked than the current capacity."""
    database.make_service(capacity=2)
    for _ in range(2):
        database.book(10)
    database.freeze_clock(at(12))
    assert database.put_service(capacity=1).name == "done"
    assert database.capacity(10) == {"capacity": 1, "held": 0, "booked": 2, "available": 0}


def test_a_hold_ended_by_a_lower_capacity_stays_expired_when_the_clock_steps_back(
    database: TestDatabase,
) -> None:
    """The lower capacity was granted because a hold is expired, which ends that hold for good."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    database.reserve(10, quantity=2)
    database.freeze_clock(now + TTL)
    assert database.put_service(capacity=1).name == "done"
    database.freeze_clock(now)
    violations = database.violations()
    database.freeze_clock(now + TTL)
    assert violations == {}


def test_a_lower_capacity_waits_for_a_concurrent_reserve(database: TestDatabase, rivals: Rivals) -> None:
    """put_service takes the lock of the business, and then sees the claims that were made while it waited."""
    database.make_business()
    settings = {**database.put_service(capacity=2).body, "max_simultaneous_bookings": 1}
    with database.connect(autocommit=False) as connection:
        database.reserve(10, quantity=2, connection=connection)
        answer = rivals.start(lambda rival: put_service_on(rival, settings))
        database.wait_until_blocked()
        connection.commit()
    assert answer.result(SECONDS) == "capacity_in_use"


def test_a_service_that_was_never_reserved_is_deleted(database: TestDatabase) -> None:
    """An unused service leaves no trace, and its id can be used again."""
    assert delete_service(database) == "service_not_found"
    database.make_service()
    assert delete_service(database) == "done"
    assert database.value("SELECT count(*) FROM booking.services") == 0
    assert delete_service(database) == "service_not_found"
    assert database.put_service().name == "created"


@pytest.mark.parametrize("is_booked", [False, True])
def test_a_service_that_was_reserved_is_archived(database: TestDatabase, is_booked: bool) -> None:
    """No new claims are made on it; its holds can still be committed. It keeps its pool, and others are left alone."""
    database.make_service(resource_ids=["anna", "ben"])
    database.make_service("perm", resource_ids=["anna"])
    hold = database.reserve(10).id
    if is_booked:
        database.commit(hold)
    assert delete_service(database) == "done"
    assert database.reserve(10).name == "service_not_found"
    assert database.capacity(10) is None
    [(other,)] = database.rows("SELECT booking.services('salon')")
    assert (other["service_id"], other["resource_ids"]) == ("perm", ["anna"])
    assert delete_service(database) == "service_not_found"
    assert delete_service(database, "perm") == "done"
    assert database.rows("SELECT service_id FROM booking.services") == [("cut",)]
    assert database.rows("SELECT service_id, resource_id FROM booking.service_resources ORDER BY 2") == [
        ("cut", "anna"),
        ("cut", "ben"),
    ]
    assert database.commit(hold).name == ("replayed" if is_booked else "done")


def test_a_service_whose_claims_were_purged_is_archived_too(database: TestDatabase) -> None:
    """The service itself records whether it ever had a claim, so that no claims are looked up."""
    database.make_service()
    database.release(database.reserve(10).id)
    database.move_clock(timedelta(hours=24))
    assert database.purge() == (0, 1, False)
    assert delete_service(database) == "done"
    assert database.value("SELECT archived_at IS NOT NULL FROM booking.services") is True


def test_an_archived_service_that_is_put_again_keeps_its_claims(database: TestDatabase) -> None:
    """Otherwise its room would be sold twice."""
    database.make_service(capacity=1)
    database.commit(database.reserve(10).id)
    delete_service(database)
    assert database.put_service(capacity=1).name == "done"
    assert database.reserve(10).name == "slot_unavailable"
    assert database.reserve(11).name == "done"


def test_the_time_of_creation_is_that_of_the_booking_clock(database: TestDatabase) -> None:
    """created_at is booking.now() and not the server's clock."""
    now = database.freeze_clock(datetime(2031, 1, 1, tzinfo=UTC))
    database.make_service()
    assert database.value("SELECT created_at FROM booking.businesses") == now
    assert database.value("SELECT created_at FROM booking.services") == now
