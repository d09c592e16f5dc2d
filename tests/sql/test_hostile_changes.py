"""booking.change as the service's role: the members of `set` reach their own columns only, and by the rules."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.database import TestDatabase, at
from tests.sql.changes import actions, stored_appointment
from tests.sql.requests import GUEST

# The members of booking.change. Every other column is the verb's own.
SETTABLE = {*GUEST, "service_id", "slot_start", "slot_end", "resource_id", "quantity", "status", "metadata"}


@pytest.fixture
def service(database: TestDatabase) -> Iterator[psycopg.Connection]:
    """Connects as the service does: with the right to call booking.execute, and none on tables."""
    with database.connect() as connection:
        yield connection


def test_no_member_reaches_a_column_that_a_change_does_not_set(
    database: TestDatabase, booked: str, service: psycopg.Connection
) -> None:
    """The business, the ids, the version, the window and all other columns keep their values, and there is no audit row
    of a change that changed nothing."""
    other = database.book(14).id
    before, before_other = stored_appointment(database, booked), stored_appointment(database, other)
    hostile = {
        **{name: value if isinstance(value, bool) else "x" for name, value in before.items() if name not in SETTABLE},
        "business_id": "clinic",
        "appointment_id": other,
        "reservation_id": str(uuid4()),
        "occupied": f"[{at(0).isoformat()},{at(1).isoformat()})",
        "version": 7,
        "is_exclusive": False,
        "created_at": at(0).isoformat(),
        "updated_at": at(0).isoformat(),
    }
    assert hostile.keys() | SETTABLE == before.keys()
    for member, value in hostile.items():
        outcome = database.change(booked, set={member: value}, connection=service)
        assert (outcome.name, outcome.body["version"]) == ("done", 1), member
    assert stored_appointment(database, booked) == before
    noted = database.change(booked, set={**hostile, "notes": "late"}, connection=service)
    changed = {"notes": "late", "version": 2, "updated_at": stored_appointment(database, booked)["updated_at"]}
    assert stored_appointment(database, booked) == before | changed
    assert (noted.body["version"], actions(database, booked)) == (2, [(1, "created"), (2, "changed")])
    assert stored_appointment(database, other) == before_other


@pytest.mark.parametrize(
    "hostile",
    [
        {"quantity": -1},
        {"quantity": 0},
        {"quantity": None},
        {"status": "paid"},
        {"status": None},
        {"slot_start": None},
        {"slot_start": "infinity"},
        {"slot_start": "-infinity"},
        {"slot_end": "infinity"},
        {"metadata": None},
    ],
    ids=str,
)
def test_a_value_that_no_appointment_can_have_changes_nothing(
    database: TestDatabase, booked: str, service: psycopg.Connection, hostile: dict[str, Any]
) -> None:
    """A constraint stops what the rules do not know, and the call writes nothing."""
    before = stored_appointment(database, booked)
    try:
        answer = database.change(booked, set=hostile, connection=service).name
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        answer = type(error).__name__
    assert answer in ("validation_failed", "CheckViolation", "NotNullViolation", "DatetimeFieldOverflow")
    assert stored_appointment(database, booked) == before
    assert database.capacity(10)["booked"] == 1
    assert database.reserve(10, connection=service).name == "slot_unavailable"


def test_a_change_cannot_overbook(database: TestDatabase, booked: str, service: psycopg.Connection) -> None:
    """More units, another slot and another resource are granted as room allows, whatever else the request says."""
    database.make_resource("anna")
    later = database.book(14).id
    for members, refused_as in (
        ({"quantity": 2}, "slot_unavailable"),
        ({"slot_start": at(14).isoformat()}, "slot_unavailable"),
        ({"slot_end": at(15).isoformat()}, "slot_unavailable"),
        ({"slot_start": at(14).isoformat(), "status": "cancelled"}, "validation_failed"),
        ({"resource_id": "anna"}, "resource_not_found"),
    ):
        free = {"occupied": "empty", "is_exclusive": False}
        assert database.change(booked, set={**members, **free}, connection=service).name == refused_as, members
    assert [actions(database, appointment) for appointment in (booked, later)] == [[(1, "created")]] * 2
