"""booking.list_appointments in pages and with filters, and single appointments by id."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database import TestDatabase, at
from tests.sql.changes import move
from tests.sql.requests import GUEST


def listed(database: TestDatabase, limit: int = 100, **filters: Any) -> list[dict[str, Any]]:
    """Returns all pages of the list, each requested after the last entry of the one before."""
    entries: list[dict[str, Any]] = []
    after: tuple[Any, Any] = (None, None)
    while True:
        page = [
            entry
            for (entry,) in database.rows(
                "SELECT booking.list_appointments('salon', %s, %s, %s, %s, %s, %s, %s)",
                filters.get("since", at(0)),
                filters.get("until", at(24)),
                filters.get("resource_id"),
                filters.get("status"),
                *after,
                limit,
            )
        ]
        entries += page
        if len(page) < limit:
            return entries
        after = (page[-1]["slot_start"], page[-1]["appointment_id"])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_neither_miss_nor_repeat_anything(database: TestDatabase, limit: int) -> None:
    """Many appointments start at the same time: the order is by start and id, and the cursor has both."""
    database.make_service(capacity=99)
    for hour, number in ((10, 8), (9, 3), (10.5, 1), (11, 5)):
        for _ in range(number):
            database.book(hour, 0.5 * number)
    entries = listed(database, limit)
    places = [(datetime.fromisoformat(entry["slot_start"]), UUID(entry["appointment_id"])) for entry in entries]
    assert places == sorted(places)
    assert len(set(places)) == len(places) == 17


def test_a_cursor_stays_valid_when_its_entry_is_moved(database: TestDatabase) -> None:
    """The next page misses no other appointment after the entry of the cursor was moved away."""
    database.make_service(capacity=9)
    ids = sorted(UUID(database.book(10).id) for _ in range(4))
    move(database, str(ids[1]), 5)
    rows = database.rows(
        "SELECT booking.list_appointments('salon', %s, %s, NULL, NULL, %s, %s, 9)", at(0), at(24), at(10), ids[1]
    )
    assert [UUID(entry["appointment_id"]) for (entry,) in rows] == ids[2:]


def test_a_list_is_half_open_by_the_start_of_the_appointment(database: TestDatabase) -> None:
    """An appointment that starts at the end of the range is left out, and so is an earlier one."""
    database.make_service(capacity=9)
    for hour in (9, 10, 10.5, 11):
        database.book(hour, 2)
    starts = [datetime.fromisoformat(entry["slot_start"]) for entry in listed(database, since=at(10), until=at(11))]
    assert starts == [at(10), at(10.5)]


def test_a_list_is_filtered_by_resource_and_state(database: TestDatabase) -> None:
    """Appointments of other businesses are never listed."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service(business_id="clinic", resource_ids=["anna"])
    database.book(10, business_id="clinic")
    booked = {
        name: database.book(hour, resource_id=name[:4]).id for hour, name in enumerate(("anna1", "bert1", "anna2"))
    }
    database.change(booked["anna1"], action="cancel")

    def found(**filters: Any) -> set[str]:
        ids = {entry["appointment_id"] for entry in listed(database, limit=1, **filters)}
        return {name for name, appointment in booked.items() if appointment in ids}

    assert len(listed(database)) == 3
    assert found() == set(booked)
    assert found(resource_id="anna") == {"anna1", "anna2"}
    assert found(status="confirmed") == {"bert1", "anna2"}
    assert found(resource_id="anna", status="cancelled") == {"anna1"}
    assert found(resource_id="nobody") == set()


def test_an_appointment_is_read_by_its_business_and_id(database: TestDatabase, booked: str) -> None:
    """Another business finds neither the appointment nor its trail."""
    body = database.value("SELECT booking.appointment('salon', %s)", booked)
    assert (body["appointment_id"], body["guest_name"], body["version"]) == (booked, GUEST["guest_name"], 1)
    assert database.value("SELECT booking.appointment('clinic', %s)", booked) is None
    assert database.value("SELECT booking.business_of_appointment(%s)", booked) == "salon"
    assert database.value("SELECT booking.business_of_appointment(%s)", uuid4()) is None
    assert database.rows("SELECT booking.audit_trail('clinic', %s)", booked) == []
