"""Pages of a listing: what one holds, where the next one begins, and which lengths can be listed."""

import json
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.calendars import RESOURCES, SERVICES, Calendar, calendars, prepare
from tests.sql.listings import availability, hour_of_iso, pages
from tests.sql.random_examples import random_examples

DAY = timedelta(days=1)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business with three resources."""
    for resource_id in RESOURCES:
        database.make_resource(resource_id)
    database.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    return database


def hours(slots: list[dict[str, Any]]) -> list[float]:
    """Returns the hours at which slots start."""
    return [hour_of_iso(slot["slot_start"]) for slot in slots]


@random_examples(25, calendar=calendars(), limit=st.integers(min_value=1, max_value=9), quantity=st.integers(1, 2))
def test_pages_joined_are_the_whole_listing(salon: TestDatabase, calendar: Calendar, limit: int, quantity: int) -> None:
    """Pages of any size have the slots of one large page, in order, each once."""
    prepare(salon, calendar)
    for service_id in SERVICES:
        start, end = calendar.window(service_id)
        whole = availability(salon, start, end, service_id=service_id, quantity=quantity)
        if whole.name == "validation_failed":
            continue
        assert whole.body["next_from"] is None
        parts = list(pages(salon, start, end, service_id=service_id, quantity=quantity, limit=limit))
        assert list(chain.from_iterable(parts)) == whole.body["slots"]
        assert all(len(part) == limit for part in parts[:-1])


def test_a_page_of_one_slot_is_the_first_free_one(salon: TestDatabase) -> None:
    """Without an end the listing goes on to the horizon of the service, whose last instant is included."""
    salon.make_service(max_advance_days=40, slot_step_minutes=1440)
    salon.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    salon.freeze_clock(at(0))
    salon.reserve(0)
    first = availability(salon, at(0), None, limit=1)
    assert (hours(first.body["slots"]), first.body["next_from"]) == ([24.0], at(48).isoformat())
    every_page = list(pages(salon, at(0), None, limit=7))
    assert hours(list(chain.from_iterable(every_page))) == [24.0 * day for day in range(1, 41)]


def test_a_page_looks_at_62_days(salon: TestDatabase) -> None:
    """A page without a slot tells where the next one begins; the last page has no next one."""
    salon.make_service(max_advance_days=300)
    salon.freeze_clock(at(0))
    salon.put_closure("year", at(0), at(0, day=200))
    empty = availability(salon, at(1), None)
    assert empty.body == {"slots": [], "next_from": at(1, day=62).isoformat()}
    found = list(pages(salon, at(1), None, limit=3))
    assert [len(page) for page in found[:4]] == [0, 0, 0, 3]
    assert hours(found[3]) == [200 * 24.0, 200 * 24.0 + 1, 200 * 24.0 + 2]
    assert availability(salon, at(1), at(0, day=63)).body["next_from"] == at(1, day=62).isoformat()
    assert availability(salon, at(1), at(1, day=62)).body["next_from"] is None


@pytest.mark.parametrize("settings", [{"booking_enabled": False}, {"min_notice_minutes": 10_000}])
def test_a_service_that_has_no_slots_has_no_next_page(salon: TestDatabase, settings: dict[str, Any]) -> None:
    """No page is offered of a service that is not booked online, or whose notice is longer than its horizon."""
    salon.make_service(**{"max_advance_days": 5, **settings})
    assert availability(salon, at(0), None).body == {"slots": [], "next_from": None}
    assert availability(salon, at(0), at(0, day=300)).body == {"slots": [], "next_from": None}


def test_a_page_is_bounded_in_characters(salon: TestDatabase) -> None:
    """A slot has at most fifty resources, and a page ends before it is too large; nothing is lost between pages."""
    pool = [f"{number:02}".ljust(64, "x") for number in range(60)]
    salon.make_service(resource_ids=pool, slot_step_minutes=5, max_simultaneous_bookings=None)
    start, end = at(0), at(24)
    found = list(pages(salon, start, end))
    assert len(found) > 1
    assert all(len(json.dumps(page)) <= 480_000 for page in found)
    assert min(len(json.dumps(page)) for page in found[:-1]) > 470_000
    slots = list(chain.from_iterable(found))
    assert hours(slots) == pytest.approx([step / 12 for step in range(288)])
    assert {tuple(slot["resource_ids"]) for slot in slots} == {tuple(pool[:50])}
    assert {(slot["available"], slot["max_quantity"]) for slot in slots} == {(60, 1)}


def test_the_seats_of_a_large_pool_are_summed(salon: TestDatabase) -> None:
    """A business may have 2000 resources of ten million seats each: together more than an integer has room for."""
    pool = ["north", "south"]
    for stand in pool:
        salon.make_resource(stand, seats=2_000_000_000)
    salon.make_service(resource_ids=pool, max_simultaneous_bookings=None)
    [slot] = availability(salon, at(9), at(10)).body["slots"]
    assert (slot["available"], slot["max_quantity"]) == (4_000_000_000, 2_000_000_000)


def test_free_seats_and_the_largest_party_differ(salon: TestDatabase) -> None:
    """Seats of a resource that is too small for the quantity count as available; the capacity limits both numbers."""
    salon.make_resource("bea", seats=4)
    salon.make_service(resource_ids=["anna", "bea"], max_simultaneous_bookings=None)

    def room(quantity: int) -> list[tuple[int, int, list[str]]]:
        slots = availability(salon, at(9), at(10), quantity=quantity).body["slots"]
        return [(slot["available"], slot["max_quantity"], slot["resource_ids"]) for slot in slots]

    assert (room(1), room(3)) == ([(5, 4, ["anna", "bea"])], [(5, 4, ["bea"])])
    salon.put_service(resource_ids=["anna", "bea"], max_simultaneous_bookings=3)
    assert room(3) == [(3, 3, ["bea"])]
    assert room(4) == []
    assert salon.reserve(9, quantity=4).name == "slot_unavailable"
    assert availability(salon, at(9), at(10), quantity=5).name == "validation_failed"


def test_a_quantity_above_the_capacity_has_no_slots(salon: TestDatabase) -> None:
    """A service without a claim has no slot for more than its capacity, and no next page for it."""
    salon.make_service(capacity=2)
    assert availability(salon, at(9), at(12), quantity=3, limit=1).body == {"slots": [], "next_from": None}


def test_slots_of_another_length_are_listed(salon: TestDatabase) -> None:
    """A listing takes a length of the service, in its unit, and refuses any other one."""
    salon.make_service(min_duration_minutes=30, max_duration_minutes=120)
    nights: dict[str, Any] = {"duration_minutes": None, "min_duration_minutes": None, "max_duration_minutes": None}
    salon.make_service("room", **nights, duration_days=1, max_duration_days=3, slot_step_minutes=None)
    salon.rows("UPDATE booking.businesses SET timezone = 'UTC'")

    def lengths(service_id: str, **length: Any) -> list[timedelta] | tuple[str, Any]:
        outcome = availability(salon, at(0), at(1), service_id=service_id, **length)
        if outcome.name == "validation_failed":
            return outcome.body["field"], outcome.body["parameters"]
        bounds = [(slot["slot_start"], slot["slot_end"]) for slot in outcome.body["slots"]]
        return [datetime.fromisoformat(end) - datetime.fromisoformat(start) for start, end in bounds]

    assert lengths("cut") == [timedelta(hours=1)]
    assert lengths("cut", minutes=120) == [timedelta(hours=2)]
    assert lengths("room") == [DAY]
    assert lengths("room", days=3) == [3 * DAY]
    in_minutes = {"min": 30, "max": 120, "unit": "minutes"}
    in_days = {"min": 1, "max": 3, "unit": "days"}
    for minutes in (29, 121):
        assert lengths("cut", minutes=minutes) == ("duration_minutes", in_minutes)
    assert lengths("cut", days=1) == ("duration_days", in_minutes)
    for days in (0, 4):
        assert lengths("room", days=days) == ("duration_days", in_days)
    assert lengths("room", minutes=60) == ("duration_minutes", in_days)


def test_a_listing_needs_a_known_time_zone(salon: TestDatabase) -> None:
    """A zone that this server does not know is an outcome, and alternatives are none."""
    salon.make_service()
    salon.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert availability(salon, at(0), at(1)).name == "business_misconfigured"
    assert salon.rows("SELECT * FROM booking.alternatives('salon', 'cut', %s, NULL, 1, NULL)", at(9)) == []
