"""The catalog: special hours replace the weekly hours of a business or a resource on local dates."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.catalog import delete_resource, names_unknown, put_special_hours

DAY = [("09:00", "17:00")]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a salon that is open from nine to five every day, and two resources, in December 2030 (winter time)."""
    database.freeze_clock(datetime(2030, 12, 1, tzinfo=UTC))
    database.make_service(resource_ids=["anna", "bert"])
    database.put_hours([(weekday, "09:00", "17:00") for weekday in range(1, 8)])
    return database


def special_hours(database: TestDatabase, business_id: str = "salon") -> list[dict[str, Any]]:
    """Returns the special hours, as the catalog lists them."""
    return [entry for (entry,) in database.rows("SELECT booking.special_hours(%s)", business_id)]


def delete_special_hours(database: TestDatabase, special_hours_id: str, business_id: str = "salon") -> str:
    """Deletes special hours, and returns the name of the outcome."""
    return database.outcome("delete_special_hours", business_id, special_hours_id, NO_DEADLINE).name


def reserve(database: TestDatabase, day: int, hour: int, resource_id: str | None = None) -> str:
    """Reserves an hour of local time in December, releases it, and returns the reason of a refusal or the outcome."""
    start, end = (datetime(2030, 12, day, local - 1, tzinfo=UTC).isoformat() for local in (hour, hour + 1))
    outcome = database.reserve(slot_start=start, slot_end=end, resource_id=resource_id)
    if outcome.name == "done":
        database.release(outcome.id)
    return str(outcome.body.get("reason", outcome.name))


def test_special_hours_are_made_once_and_then_changed(salon: TestDatabase) -> None:
    """The answer is the entry as the catalog lists it; a second put replaces all of it."""
    outcome = put_special_hours(salon, "eve", "2030-12-24", [("12:00", "13:00"), ("09:00", "11:30")], name="Eve")
    assert outcome.name == "created"
    affected = outcome.body.pop("affected_appointments")
    assert affected == {"count": 0, "items": []}
    assert outcome.body == {
        "business_id": "salon",
        "special_hours_id": "eve",
        "date": "2030-12-24",
        "until": None,
        "hours": [{"opens": "09:00", "closes": "11:30"}, {"opens": "12:00", "closes": "13:00"}],
        "resource_id": None,
        "name": "Eve",
    }
    assert special_hours(salon) == [outcome.body]
    changed = put_special_hours(salon, "eve", "2030-12-25", [], until="2030-12-26", resource_id="anna")
    assert changed.name == "done"
    [entry] = special_hours(salon)
    assert (entry["date"], entry["until"], entry["hours"]) == ("2030-12-25", "2030-12-26", [])
    assert (entry["resource_id"], entry["name"]) == ("anna", None)


def test_special_hours_are_listed_by_their_first_date(salon: TestDatabase) -> None:
    """A single entry is found by its id, and those of other businesses are not listed."""
    salon.make_business("clinic")
    for special_hours_id, date in (("b", "2030-12-31"), ("a", "2031-01-06"), ("c", "2030-12-24")):
        assert put_special_hours(salon, special_hours_id, date, DAY).name == "created"
    assert [entry["special_hours_id"] for entry in special_hours(salon)] == ["c", "b", "a"]
    [[one]] = salon.rows("SELECT booking.special_hours('salon', 'b')")
    assert one["date"] == "2030-12-31"
    assert special_hours(salon, "clinic") == []


def test_special_hours_replace_the_weekly_hours_on_their_dates(salon: TestDatabase) -> None:
    """An empty list closes, and other hours open; the dates before and after keep their weekly hours."""
    put_special_hours(salon, "eve", "2030-12-24", [("09:00", "12:00")])
    put_special_hours(salon, "holidays", "2030-12-25", [], until="2030-12-26")
    put_special_hours(salon, "party", "2030-12-31", [("20:00", "24:00")])
    assert [reserve(salon, day, 10) for day in (23, 24, 25, 26, 27, 31)] == [
        "done",
        "done",
        *["closed"] * 2,
        "done",
        "closed",
    ]
    assert [reserve(salon, day, 14) for day in (23, 24, 31)] == ["done", "closed", "closed"]
    assert [reserve(salon, 31, hour) for hour in (19, 20, 23)] == ["closed", "done", "done"]
    assert delete_special_hours(salon, "holidays") == "done"
    assert reserve(salon, 25, 10) == "done"


def test_special_hours_of_a_resource_apply_beside_those_of_the_business(salon: TestDatabase) -> None:
    """A resource without weekly hours is closed on its dates, and its hours do not open a closed business."""
    put_special_hours(salon, "annas", "2030-12-24", [("09:00", "22:00")], resource_id="anna")
    put_special_hours(salon, "berts", "2030-12-24", [], resource_id="bert")
    assert [reserve(salon, 24, hour, "anna") for hour in (10, 18)] == ["done", "closed"]
    assert [reserve(salon, 24, hour, "bert") for hour in (10, 18)] == ["closed", "closed"]
    put_special_hours(salon, "eve", "2030-12-24", [("09:00", "20:00")])
    assert [reserve(salon, 24, hour, "anna") for hour in (10, 18, 20)] == ["done", "done", "closed"]


def overlaps(salon: TestDatabase, date: str, until: str | None = None, **members: Any) -> str | None:
    """Puts special hours, deletes them again, and returns the field of a refusal."""
    outcome = put_special_hours(salon, "new", date, DAY, until=until, **members)
    if outcome.name == "created":
        delete_special_hours(salon, "new")
    field: str | None = outcome.body.get("field")
    return field


def test_the_dates_of_one_owner_do_not_overlap(salon: TestDatabase) -> None:
    """The refusal names the other entry; adjacent dates, other owners and the entry itself are no overlap."""
    put_special_hours(salon, "holidays", "2030-12-24", [], until="2030-12-26")
    for date, until in (
        ("2030-12-24", None),
        ("2030-12-26", None),
        ("2030-12-20", "2030-12-24"),
        ("2030-12-01", "2031-01-31"),
    ):
        assert overlaps(salon, date, until) == "date"
    for date, until in (("2030-12-23", None), ("2030-12-27", None), ("2030-12-20", "2030-12-23")):
        assert overlaps(salon, date, until) is None
    assert overlaps(salon, "2030-12-24", resource_id="anna") is None
    refused = put_special_hours(salon, "new", "2030-12-25", DAY)
    assert refused.body["parameters"] == {"specialHoursId": "holidays"}
    assert put_special_hours(salon, "holidays", "2030-12-25", [], until="2030-12-27").name == "done"
    put_special_hours(salon, "annas", "2030-12-24", [], resource_id="anna")
    moved = put_special_hours(salon, "annas", "2030-12-25", [])
    assert (moved.name, moved.body["field"]) == ("validation_failed", "date")


@pytest.mark.parametrize("hours", [[("13:00", "09:00")], [("09:00", "09:00")], [*DAY, ("24:00", "24:00")]])
def test_hours_that_close_before_they_open_are_refused(salon: TestDatabase, hours: list[tuple[str, str]]) -> None:
    """They are no range of time, and every request that reads them would fail."""
    outcome = put_special_hours(salon, "eve", "2030-12-24", hours)
    assert (outcome.name, outcome.body["field"]) == ("validation_failed", "hours")
    assert special_hours(salon) == []


@pytest.mark.parametrize(
    ("special_hours_id", "date", "until"), [("no slash/", "2030-12-24", None), ("eve", "2030-12-24", "2030-12-23")]
)
def test_invalid_special_hours_are_refused(
    salon: TestDatabase, special_hours_id: str, date: str, until: str | None
) -> None:
    """The service checks them first; the constraints are the backstop."""
    with pytest.raises(psycopg.errors.CheckViolation):
        put_special_hours(salon, special_hours_id, date, DAY, until=until)


def test_special_hours_of_an_unknown_owner_are_refused(database: TestDatabase) -> None:
    """The owner exists and is not archived."""
    assert put_special_hours(database, "eve", "2030-12-24", []).name == "business_not_found"
    database.make_service(resource_ids=["anna"])
    database.make_resource("zoe", business_id="clinic")
    delete_resource(database)
    for unknown in ("nobody", "zoe", "anna"):
        assert names_unknown(put_special_hours(database, "eve", "2030-12-24", [], resource_id=unknown), unknown)
    assert special_hours(database) == []


def test_special_hours_are_deleted_once(salon: TestDatabase) -> None:
    """Only those of the named business are deleted."""
    put_special_hours(salon, "eve", "2030-12-24", [])
    salon.make_business("clinic")
    assert [
        delete_special_hours(salon, "eve", business_id) for business_id in ("clinic", "nobody", "salon", "salon")
    ] == [
        "special_hours_not_found",
        "special_hours_not_found",
        "done",
        "special_hours_not_found",
    ]


def test_special_hours_of_an_archived_resource_are_restored_with_it(salon: TestDatabase) -> None:
    """While the resource is archived they are not listed, their id is taken, and they block no dates of others."""
    put_special_hours(salon, "annas", "2030-12-24", [], resource_id="anna")
    delete_resource(salon)
    assert special_hours(salon) == []
    refused = put_special_hours(salon, "annas", "2030-12-31", [])
    assert (refused.name, refused.body["field"]) == ("validation_failed", "special_hours_id")
    assert delete_special_hours(salon, "annas") == "special_hours_not_found"
    assert put_special_hours(salon, "eve", "2030-12-24", [], resource_id="bert").name == "created"
    salon.make_resource("anna")
    assert [entry["special_hours_id"] for entry in special_hours(salon)] == ["annas", "eve"]
    assert reserve(salon, 24, 10, "anna") == "closed"


def test_a_business_is_deleted_with_its_special_hours(database: TestDatabase) -> None:
    """They belong to the business or to an archived resource, neither of which keeps it."""
    database.make_resource("anna")
    put_special_hours(database, "eve", "2030-12-24", [])
    put_special_hours(database, "annas", "2030-12-24", [], resource_id="anna")
    delete_resource(database)
    assert database.value("SELECT outcome FROM booking.delete_business('salon', %s)", NO_DEADLINE) == "done"
    assert database.value("SELECT count(*) FROM booking.special_hours") == 0
