"""booking.list_appointments in pages and with filters, and single appointments by id."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database import TestDatabase, at
from tests.sql.changes import move
from tests.sql.lists import list_page, list_pages, listed
from tests.sql.requests import GUEST


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
    page = list_page(database, 9, (at(10), ids[1]), since=at(0), until=at(24))
    assert [UUID(entry["appointment_id"]) for entry in page] == ids[2:]


def test_a_list_is_half_open_by_the_start_of_the_appointment(database: TestDatabase) -> None:
    """An appointment that starts at the end of the range is left out, and so is an earlier one."""
    database.make_service(capacity=9)
    for hour in (9, 10, 10.5, 11):
        database.book(hour, 2)
    starts = [datetime.fromisoformat(entry["slot_start"]) for entry in listed(database, since=at(10), until=at(11))]
    assert starts == [at(10), at(10.5)]


def test_an_overlapping_list_has_the_stays_under_way(database: TestDatabase) -> None:
    """A stay is listed on each of its days, from its first night to its last, and not on the day that it ends."""
    database.make_service("stay", capacity=9)
    database.make_service("cut", capacity=9)
    stay = database.book(15, 4 * 24 - 5, service_id="stay").id
    database.book(-4, 4, service_id="stay")  # ends as Monday begins
    cuts = [database.book(24 * day + 10).id for day in range(6)]

    def guests_of_day(day: int, **filters: Any) -> list[str]:
        during = {"since": at(24 * day), "until": at(24 * (day + 1))}
        return [entry["appointment_id"] for entry in listed(database, 1, overlapping=True, **during, **filters)]

    assert guests_of_day(0) == [cuts[0], stay]
    for day in (1, 2, 3):
        assert guests_of_day(day) == [stay, cuts[day]]
        assert guests_of_day(day, service_id="stay") == [stay]
        assert guests_of_day(day, service_id="cut") == [cuts[day]]
    assert guests_of_day(4) == [stay, cuts[4]]
    assert guests_of_day(5) == [cuts[5]]
    to_the_end: dict[str, Any] = {"since": at(24 * 4 + 10), "until": at(24 * 4 + 11)}
    assert [entry["appointment_id"] for entry in listed(database, overlapping=True, **to_the_end)] == [cuts[4]]
    assert listed(database, since=at(24), until=at(34)) == []


def test_an_overlapping_list_does_not_change_the_order_of_pages(database: TestDatabase) -> None:
    """Appointments that began before the range come first, and pages neither miss nor repeat any."""
    database.make_service(capacity=99)
    for hour in (8, 8, 9, 9.5, 10, 10, 10, 11):
        for hours in (0.5, 1, 3):
            database.book(hour, hours)
    expected = listed(database, overlapping=True, since=at(10), until=at(11))
    starts = [datetime.fromisoformat(entry["slot_start"]) for entry in expected]
    assert starts == sorted(starts) == [at(8)] * 2 + [at(9)] + [at(9.5)] * 2 + [at(10)] * 9
    for limit in (1, 2, 5):
        assert listed(database, limit, overlapping=True, since=at(10), until=at(11)) == expected


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


@pytest.mark.parametrize(
    ("lengths", "pages"),
    [
        ([1000, 1000, 1000], [3]),
        ([200_000, 200_000, 200_000, 10], [2, 2]),
        ([600_000, 10, 600_000, 600_000], [1, 1, 1, 1]),
        ([10, 478_500, 10], [2, 1]),
    ],
)
def test_a_page_is_bounded_by_its_bytes(database: TestDatabase, lengths: list[int], pages: list[int]) -> None:
    """An appointment that is longer than a page is one by itself. A character may have several bytes."""
    database.make_service(capacity=9)
    for hour, length in enumerate(lengths, start=10):
        appointment_id = database.book(hour).id
        database.rows(
            "UPDATE booking.appointments SET metadata = jsonb_build_object('a', repeat('\u00e9', %s)) "
            "WHERE appointment_id = %s",
            length // 2,
            appointment_id,
        )
    found = list(list_pages(database, 100, since=at(0), until=at(24)))
    assert [len(page) for page in found] == pages
    assert [entry["slot_start"] for page in found for entry in page] == sorted(
        entry["slot_start"] for page in found for entry in page
    )
