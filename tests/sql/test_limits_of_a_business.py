"""The number of entries of each kind that a business may have. Keys: see test_keys.py."""

import json
from typing import Any

import pytest

from service.booking.catalog_types import MAX_LISTED
from tests.database import NO_DEADLINE, Outcome, TestDatabase, at
from tests.sql.catalog import delete_service, put_special_hours

# By kind: the limit, the columns of a planted entry beside the business, and their values for the number n.
PLANTED: dict[str, tuple[int, str, str]] = {
    "services": (
        1000,
        "service_id, name, hold_ttl_minutes, buffer_before_minutes, buffer_after_minutes, min_notice_minutes, "
        "max_advance_days, cancellation_window_minutes, booking_enabled, created_at, duration_minutes",
        "'x' || n, 'X', 15, 0, 0, 0, 60, 0, true, now(), 60",
    ),
    "resources": (2000, "resource_id, name, kind, booking_enabled, created_at", "'x' || n, 'X', 'staff', true, now()"),
    "closures": (10_000, "closure_id, during", "'x' || n, tstzrange('2030-01-01', '2030-01-02')"),
    "special_hours": (
        5000,
        "special_hours_id, first_date, last_date, opens, closes",
        "'x' || n, date '2030-01-01' + n::integer, date '2030-01-01' + n::integer, '{}', '{}'",
    ),
}


def put(database: TestDatabase, kind: str, entry_id: str, business_id: str = "salon") -> Outcome:
    """Puts an entry of a kind."""
    if kind == "services":
        return database.put_service(entry_id, business_id=business_id)
    if kind == "closures":
        return database.put_closure(entry_id, at(0), at(1), business_id=business_id)
    if kind == "special_hours":
        number = 100 + int(entry_id[1:]) if entry_id != "new" else 0
        return put_special_hours(database, entry_id, f"{2100 + number}-12-31", [])
    settings = {"name": entry_id, "kind": "staff", "booking_enabled": True}
    return database.outcome("put_resource", business_id, entry_id, json.dumps(settings), NO_DEADLINE)


@pytest.mark.parametrize("kind", PLANTED)
def test_an_entry_beyond_the_limit_is_refused(database: TestDatabase, kind: str) -> None:
    """Those that exist can be put again, and another business has a limit of its own."""
    database.make_business()
    database.make_business("clinic")
    limit, columns, values = PLANTED[kind]
    plant = (
        f"INSERT INTO booking.{kind} (business_id, {columns}) SELECT 'salon', {values} FROM generate_series(1, %s) n"  # noqa: S608 — constants
    )
    database.rows(plant, limit - 1)
    assert put(database, kind, "new").name == "created"
    refused = put(database, kind, "x0")
    assert (refused.name, refused.body) == ("limit_reached", {"limit": limit})
    assert put(database, kind, "new").name == "done"
    assert put(database, kind, "x1").name == "done"
    if kind != "special_hours":
        assert put(database, kind, "x0", "clinic").name == "created"
    assert database.value(f"SELECT count(*) FROM booking.{kind} WHERE business_id = 'salon'") == limit  # noqa: S608 — a constant


def test_the_opening_hours_of_a_business_are_bounded(database: TestDatabase) -> None:
    """Those of archived resources count, because they come back; those that a put replaces do not."""
    database.make_business()
    database.make_resource("gone")
    entry: dict[str, Any] = {"weekday": 1, "opens": "09:00", "closes": "17:00"}
    assert database.put_hours([{**entry, "resource_id": "gone"}] * 10).name == "done"
    database.rows("UPDATE booking.resources SET archived_at = now()")
    refused = database.put_hours([entry] * 4991)
    assert (refused.name, refused.body) == ("limit_reached", {"limit": 5000})
    for _ in range(2):
        assert database.put_hours([entry] * 4990).name == "done"


def test_restored_hours_can_be_put_again(database: TestDatabase) -> None:
    """A request has `MAX_LISTED` entries. A resource comes back with its hours only if all of them are not more."""
    entry: dict[str, Any] = {"weekday": 1, "opens": "09:00", "closes": "17:00"}
    for resource_id in ("gone", "without"):
        database.make_resource(resource_id)
    assert database.put_hours([{**entry, "resource_id": "gone"}] * 10).name == "done"
    database.rows("UPDATE booking.resources SET archived_at = now()")
    assert database.put_hours([entry] * (MAX_LISTED - 9)).name == "done"
    refused = put(database, "resources", "gone")
    assert (refused.name, refused.body) == ("limit_reached", {"limit": MAX_LISTED})
    assert put(database, "resources", "without").name == "done"
    assert database.put_hours([entry] * (MAX_LISTED - 10)).name == "done"
    assert put(database, "resources", "gone").name == "done"
    assert database.value("SELECT count(*) FROM booking.opening_hours('salon')") == MAX_LISTED
    assert put(database, "resources", "gone").name == "done"


def test_a_restored_pool_can_be_put_again(database: TestDatabase) -> None:
    """A request has `MAX_LISTED` resources. One comes back into its pools only if none of them gets more."""
    database.make_business()
    _, columns, values = PLANTED["resources"]
    plant = (
        f"INSERT INTO booking.resources (business_id, {columns}) SELECT 'salon', {values} FROM generate_series(0, %s) n"  # noqa: S608 — constants
    )
    database.rows(plant, MAX_LISTED)
    pool = [f"x{n}" for n in range(MAX_LISTED + 1)]
    assert database.put_service(resource_ids=pool[:-1]).name == "created"
    database.rows("UPDATE booking.resources SET archived_at = now() WHERE resource_id = 'x0'")
    assert database.put_service(resource_ids=pool[1:]).name == "done"
    refused = put(database, "resources", "x0")
    assert (refused.name, refused.body) == ("limit_reached", {"limit": MAX_LISTED})
    assert database.put_service(resource_ids=pool[2:]).name == "done"
    assert put(database, "resources", "x0").name == "done"
    [listed] = database.rows(
        "SELECT s ->> 'service_id', jsonb_array_length(s -> 'resource_ids') FROM booking.services('salon') s"
    )
    assert listed == ("cut", MAX_LISTED)


def test_archived_entries_count(database: TestDatabase) -> None:
    """Otherwise deleting and putting would add rows without end."""
    database.make_service()
    database.book(10, manual=True)
    _, columns, values = PLANTED["services"]
    plant = (
        f"INSERT INTO booking.services (business_id, {columns}) SELECT 'salon', {values} FROM generate_series(1, 999) n"  # noqa: S608 — constants
    )
    database.rows(plant)
    assert delete_service(database) == "done"
    assert database.put_service("new").name == "limit_reached"
    assert database.put_service("cut").name == "done"
