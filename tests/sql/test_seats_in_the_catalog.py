"""Seats in the catalog: capacities that are their sum, changes that would take them from claims, and the backstops."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import Outcome, TestDatabase, at, reserve_request
from tests.sql.catalog import delete_resource, put_seats
from tests.sql.listings import availability, hour_of_iso
from tests.sql.measuring import reads_of, rolled_back
from tests.sql.requests import names
from tests.sql.windows import plant_holds

ROOMS = {"hall": 4, "attic": 2}
SUM: dict[str, Any] = {"max_simultaneous_bookings": None}
SESSION: dict[str, Any] = {**SUM, "resource_sharing": "session", "resource_ids": [*ROOMS]}
EXCLUSIVE: dict[str, Any] = {**SUM, "resource_ids": [*ROOMS]}


@pytest.fixture
def rooms(database: TestDatabase) -> TestDatabase:
    """A business with two rooms, and "cut" as a service that shares them."""
    for resource_id, seats in ROOMS.items():
        database.make_resource(resource_id, seats=seats)
    database.make_service(**SESSION)
    return database


def conflict_of(outcome: Outcome) -> tuple[str, float, float, int]:
    """Returns the outcome of a refusal, the hours of the first conflicting window, and its claimed quantity."""
    start, end = (hour_of_iso(outcome.body[name]) for name in ("slot_start", "slot_end"))
    return outcome.name, start, end, outcome.body["claimed"]


# A capacity that is the sum of the seats.


def test_a_service_without_a_capacity_has_that_of_its_pool(rooms: TestDatabase) -> None:
    """The capacity is the sum of the seats of the resources that are in the pool and not archived."""
    assert rooms.capacity()["capacity"] == 6
    put_seats(rooms, "hall", 9)
    assert rooms.capacity()["capacity"] == 11
    delete_resource(rooms, "attic")
    assert rooms.capacity() == {"capacity": 9, "held": 0, "booked": 0, "available": 9}
    put_seats(rooms, "attic", 2)
    assert rooms.capacity()["capacity"] == 11
    rooms.put_service(**{**SESSION, "resource_ids": ["attic"]})
    assert rooms.capacity()["capacity"] == 2


def test_a_service_without_a_pool_has_a_capacity_of_one_by_default(database: TestDatabase) -> None:
    """A capacity that was left out is null, and follows the pool: one unit without any."""
    database.make_service(**SUM, resource_ids=["anna", "bert"])
    assert database.capacity()["capacity"] == 2
    outcome = database.put_service(**SUM, resource_ids=[])
    assert (outcome.name, outcome.body["max_simultaneous_bookings"]) == ("done", None)
    assert names([database.reserve(), database.reserve()]) == ["done", "slot_unavailable"]
    assert database.capacity() == {"capacity": 1, "held": 1, "booked": 0, "available": 0}


def test_a_capacity_above_the_seats_of_the_pool_is_refused(rooms: TestDatabase) -> None:
    """The refusal names the seats, of archived resources too, because they return to the pool."""
    delete_resource(rooms, "attic")
    assert rooms.put_service(**SESSION | {"resource_ids": ["hall"], "max_simultaneous_bookings": 6}).name == "done"
    for capacity, ids, seats in ((7, ["hall"], 6), (1000, ["hall"], 6)):
        outcome = rooms.put_service(**SESSION | {"resource_ids": ids, "max_simultaneous_bookings": capacity})
        assert (outcome.name, outcome.body["field"]) == ("validation_failed", "max_simultaneous_bookings")
        assert (outcome.body["code"], outcome.body["parameters"]) == ("more_than_seats", {"max": seats})
    rooms.make_resource("kim")
    refused = rooms.put_service("yoga", resource_ids=["kim"], max_simultaneous_bookings=8)
    assert (refused.name, refused.body["field"]) == ("validation_failed", "max_simultaneous_bookings")
    assert rooms.value("SELECT count(*) FROM booking.services") == 1
    assert rooms.put_service("yoga", max_simultaneous_bookings=8).name == "created"


def test_a_capacity_that_the_pool_lost_is_kept_until_it_changes(rooms: TestDatabase) -> None:
    """Seats may be lowered below a capacity. What the catalog answers then can be put back, and a new pool cannot."""
    capacity = {"max_simultaneous_bookings": 6}
    assert rooms.put_service(**SESSION | capacity).name == "done"
    assert put_seats(rooms, "hall", 1).name == "done"
    read = rooms.value("SELECT booking.services('salon', 'cut')")
    assert rooms.put_service(**read | {"name": "Renamed"}).body == read | {"name": "Renamed"}
    rooms.make_resource("cellar")
    changes: list[dict[str, Any]] = [
        {"max_simultaneous_bookings": 5},
        {"resource_ids": ["hall"]},
        {"resource_ids": [*ROOMS, "cellar"]},
    ]
    for change in changes:
        assert rooms.put_service(**SESSION | capacity | change).name == "validation_failed"
    assert rooms.put_service(**SESSION | {"max_simultaneous_bookings": 3}).name == "done"


@pytest.mark.parametrize("sharing", ["exclusive", "session"])
def test_claims_without_a_resource_count_against_the_seats(database: TestDatabase, sharing: str) -> None:
    """Claims from before the service had a pool are counted against the sum of the seats."""
    database.make_service(capacity=3)
    assert names([database.book(10, quantity=2), database.reserve(10)]) == ["done", "done"]
    for resource_id, seats in ROOMS.items():
        database.make_resource(resource_id, seats=seats)
    database.put_service(**{**SESSION, "resource_sharing": sharing})
    assert database.capacity() == {"capacity": 6, "held": 1, "booked": 2, "available": 3}
    assert names([database.reserve(quantity=q) for q in (4, 3, 1)]) == ["slot_unavailable", "done", "slot_unavailable"]
    assert database.reserve(11, quantity=4).name == "done"


def test_claims_of_a_resource_that_left_the_pool_do_not_count(rooms: TestDatabase) -> None:
    """A resource that leaves the pool takes along its seats and its claims, and both count again when it returns."""
    for claim in (rooms.book, rooms.book, rooms.reserve):
        assert claim(resource_id="hall").name == "done"
    assert rooms.put_service(**{**SESSION, "resource_ids": ["attic"]}).name == "done"
    assert rooms.capacity() == {"capacity": 2, "held": 0, "booked": 0, "available": 2}
    assert names([rooms.reserve(quantity=q) for q in (2, 1)]) == ["done", "slot_unavailable"]
    assert rooms.capacity() == {"capacity": 2, "held": 2, "booked": 0, "available": 0}
    assert rooms.violations() == {}
    assert rooms.put_service(**SESSION).name == "done"
    assert rooms.capacity() == {"capacity": 6, "held": 3, "booked": 2, "available": 1}
    assert names([rooms.reserve(quantity=q) for q in (2, 1)]) == ["slot_unavailable", "done"]


def test_claims_of_an_archived_resource_do_not_count(rooms: TestDatabase) -> None:
    """An archived resource takes its seats and its claims along, and gets no new claims."""
    rooms.book(resource_id="hall", quantity=3)
    assert delete_resource(rooms, "hall").name == "done"
    assert rooms.capacity() == {"capacity": 2, "held": 0, "booked": 0, "available": 2}
    assert [rooms.reserve().body.get("resource_id") for _ in range(3)] == ["attic", "attic", None]
    assert rooms.violations() == {}
    assert put_seats(rooms, "hall", 4).name == "done"
    assert rooms.reserve(quantity=2).name == "slot_unavailable"
    assert rooms.reserve().body["resource_id"] == "hall"


def test_an_appointment_is_moved_without_a_resource_after_the_service_lost_its_pool(database: TestDatabase) -> None:
    """An appointment of a service that has no pool any more moves to another time without a resource."""
    database.make_service(resource_ids=["anna", "bert"])
    appointment = database.book(10, resource_id="anna").id
    assert database.put_service(capacity=2).name == "done"
    moved = database.change(appointment, set={"slot_start": at(12).isoformat()})
    assert (moved.name, moved.body.get("resource_id")) == ("done", None)


def test_an_archived_resource_comes_back_with_fewer_seats(rooms: TestDatabase) -> None:
    """Seats that come back are additional, so that fewer of them conflict with no claim."""
    rooms.book(resource_id="attic")
    assert delete_resource(rooms, "hall").name == "done"
    assert put_seats(rooms, "hall", 2).name == "done"
    assert rooms.capacity() == {"capacity": 4, "held": 0, "booked": 1, "available": 3}


def test_available_is_at_most_the_free_seats_of_the_pool(rooms: TestDatabase) -> None:
    """capacity() limits `available` to the seats of the free resources."""
    rooms.make_service("dinner", **EXCLUSIVE)
    rooms.reserve()
    rooms.book()
    assert rooms.capacity() == {"capacity": 6, "held": 1, "booked": 1, "available": 4}
    assert rooms.reserve(10.5, service_id="dinner", resource_id="hall").name == "done"
    assert rooms.capacity() == {"capacity": 6, "held": 1, "booked": 1, "available": 0}
    assert rooms.capacity(10, service_id="dinner") == {"capacity": 6, "held": 1, "booked": 0, "available": 0}
    assert rooms.capacity(11.5, service_id="dinner") == {"capacity": 6, "held": 0, "booked": 0, "available": 6}


# Changes of the catalog.


def test_seats_are_not_lowered_below_the_claims(rooms: TestDatabase) -> None:
    """The refusal names the first window, from now on, that claims more than the new seats."""
    for hour, quantity in ((14, 3), (12, 4), (10, 1), (16, 4)):
        rooms.book(hour, resource_id="hall", quantity=quantity)
    assert conflict_of(put_seats(rooms, "hall", 3)) == ("capacity_in_use", 12, 13, 4)
    assert conflict_of(put_seats(rooms, "hall", 2)) == ("capacity_in_use", 12, 13, 4)
    rooms.freeze_clock(at(13))
    assert conflict_of(put_seats(rooms, "hall", 2)) == ("capacity_in_use", 14, 15, 3)
    rooms.freeze_clock(at(17))
    assert put_seats(rooms, "hall", 1).name == "done"


def test_seats_are_not_lowered_below_a_party(rooms: TestDatabase) -> None:
    """The seats of an exclusive resource can be lowered to its largest party and no further. Left out, they are one."""
    rooms.put_service(**EXCLUSIVE)
    rooms.reserve(resource_id="hall", quantity=3)
    for seats in (2, None):
        assert conflict_of(put_seats(rooms, "hall", seats)) == ("capacity_in_use", 10, 11, 3)
    assert put_seats(rooms, "hall", 3).name == "done"


def test_seats_that_claims_without_a_resource_need_are_not_lowered(database: TestDatabase) -> None:
    """Fewer seats, a deleted resource and a smaller pool are refused where claims without a resource need the seats."""
    database.make_service(capacity=5)
    database.reserve(10, quantity=5)
    for resource_id, seats in ROOMS.items():
        database.make_resource(resource_id, seats=seats)
    database.put_service(**SESSION)
    expected = ("capacity_in_use", 10, 11, 5)
    assert conflict_of(put_seats(database, "hall", 2)) == expected
    assert conflict_of(delete_resource(database, "attic")) == expected
    assert conflict_of(database.put_service(**{**SESSION, "resource_ids": ["hall"]})) == expected
    assert conflict_of(database.put_service(**SESSION | {"max_simultaneous_bookings": 4})) == expected
    assert put_seats(database, "hall", 3).name == "done"
    assert database.violations() == {}


def test_a_session_that_is_shared_does_not_become_exclusive(rooms: TestDatabase) -> None:
    """The refusal names the first window that more than one claim shares; a single claim of any quantity is a party."""
    rooms.reserve(9, quantity=2)
    for hour in (14, 14, 12, 12, 10):
        rooms.book(hour, resource_id="hall", quantity=2)
    assert conflict_of(rooms.put_service(**EXCLUSIVE)) == ("capacity_in_use", 12, 13, 4)
    rooms.freeze_clock(at(13))
    assert conflict_of(rooms.put_service(**EXCLUSIVE)) == ("capacity_in_use", 14, 15, 4)
    rooms.freeze_clock(at(15))
    assert rooms.put_service(**EXCLUSIVE).name == "done"


@pytest.mark.parametrize("early", ROOMS)
def test_the_first_conflict_of_several_resources_is_named(rooms: TestDatabase, early: str) -> None:
    """By its time, whichever of the resources has it."""
    for resource_id in ROOMS:
        for _ in range(2):
            rooms.book(12 if resource_id == early else 14, resource_id=resource_id)
    assert conflict_of(rooms.put_service(**EXCLUSIVE)) == ("capacity_in_use", 12, 13, 2)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_session_outside_of_the_pool_does_not_become_exclusive(rooms: TestDatabase, at_once: bool) -> None:
    """The resource left the pool before the change to exclusive, or leaves it with that change."""
    for _ in range(2):
        rooms.book(14, resource_id="hall", quantity=2)
    if not at_once:
        assert rooms.put_service(**{**SESSION, "resource_ids": ["attic"]}).name == "done"
    assert conflict_of(rooms.put_service(**{**EXCLUSIVE, "resource_ids": ["attic"]})) == ("capacity_in_use", 14, 15, 4)
    rooms.freeze_clock(at(15))
    assert rooms.put_service(**{**EXCLUSIVE, "resource_ids": ["attic"]}).name == "done"


def test_expired_holds_keep_no_session_shared(rooms: TestDatabase) -> None:
    """The change to exclusive ends expired holds, so that no step back of the clock revives a second party."""
    now = rooms.freeze_clock()
    rooms.book(resource_id="hall")
    expired = rooms.reserve(resource_id="hall", ttl_minutes=1).id
    assert rooms.put_service(**EXCLUSIVE).name == "capacity_in_use"
    rooms.freeze_clock(now + timedelta(minutes=2))
    assert rooms.put_service(**EXCLUSIVE).name == "done"
    rooms.freeze_clock(now)
    assert rooms.violations() == {}
    assert rooms.commit(expired).name == "reservation_expired"


def test_the_current_sharing_of_the_service_decides(rooms: TestDatabase) -> None:
    """Whether a request may join a claim of a resource depends on the current setting, not on an earlier one."""
    assert rooms.book(resource_id="hall", quantity=2).name == "done"
    assert rooms.put_service(**EXCLUSIVE).name == "done"
    assert rooms.reserve(resource_id="hall").name == "slot_unavailable"
    held = rooms.book(12, resource_id="hall", quantity=2).id
    assert rooms.put_service(**SESSION).name == "done"
    assert names([rooms.book(hour, resource_id="hall", quantity=2) for hour in (10, 12, 12)]) == [
        "done",
        "done",
        "slot_unavailable",
    ]
    assert rooms.change(held, set={"slot_start": at(16).isoformat()}).name == "done"
    assert rooms.violations() == {}


CATALOG_CALLS: dict[str, Callable[[TestDatabase], Outcome]] = {
    "put_service": lambda database: database.put_service(**SESSION),
    "put_resource": lambda database: put_seats(database, "hall", 3),
    "delete_resource": lambda database: delete_resource(database, "hall"),
}


@pytest.mark.new_database
@pytest.mark.parametrize("call", CATALOG_CALLS)
def test_a_change_of_the_catalog_reads_nothing_of_other_businesses(rooms: TestDatabase, call: str) -> None:
    """The cost under the lock of a business does not grow with the windows that others have ahead."""
    rooms.make_service(business_id="clinic", resource_ids=["anna"])
    rooms.reserve(10, business_id="clinic")
    reads_alone = reads_of(rooms, lambda: CATALOG_CALLS[call](rooms))
    with rolled_back(rooms):
        rooms.rows(
            "INSERT INTO booking.occupancy SELECT (jsonb_populate_record(o, jsonb_build_object("
            "'starts', o.starts + n * interval '1 hour', 'ends', o.ends + n * interval '1 hour'))).* "
            "FROM booking.occupancy o, generate_series(1, 1000) AS n WHERE o.business_id = 'clinic'"
        )
        beside_many = reads_of(rooms, lambda: CATALOG_CALLS[call](rooms))
    assert beside_many.rows <= reads_alone.rows + 10


@pytest.mark.parametrize("first_ends", ["commit", "expiry"])
def test_the_expiry_of_a_hold_is_noticed_after_the_sharing_of_the_service_changed(
    rooms: TestDatabase, first_ends: str
) -> None:
    """A joined hold from the time of exclusive sharing, once committed, does not hide the expiry of the second hold."""
    rooms.put_service(**EXCLUSIVE)
    first = rooms.reserve(resource_id="hall", ttl_minutes=5).id
    rooms.put_service(**SESSION)
    assert rooms.reserve(resource_id="hall", quantity=3, ttl_minutes=15).name == "done"
    if first_ends == "commit":
        assert rooms.commit(first).name == "done"
    assert rooms.violations() == {}
    rooms.move_clock(timedelta(minutes=20))
    assert rooms.reserve(resource_id="hall", quantity=3).name == "done"


# Writes that bypass the verbs.


def copy(database: TestDatabase, appointment_id: str, **columns: Any) -> None:
    """Inserts a copy of an appointment with other columns, without the verbs."""
    database.rows(
        "INSERT INTO booking.appointments SELECT (jsonb_populate_record(a, jsonb_build_object('appointment_id', "
        "gen_random_uuid()) || %s::jsonb)).* FROM booking.appointments a WHERE appointment_id = %s",
        Jsonb(columns),
        appointment_id,
    )


def test_the_table_refuses_two_exclusive_appointments_of_a_resource(rooms: TestDatabase) -> None:
    """The exclusion constraint refuses overlapping exclusive appointments and allows those of one session."""
    session = rooms.book(10, resource_id="hall").id
    rooms.put_service(**EXCLUSIVE)
    party = rooms.book(12, resource_id="hall").id
    rooms.make_service("dinner", **EXCLUSIVE)
    for overlapping in ({}, {"service_id": "dinner"}, {"occupied": f'["{at(11)}","{at(14)}")'}):
        with pytest.raises(psycopg.errors.ExclusionViolation), rooms.admin.transaction():
            copy(rooms, party, **overlapping)
    with rolled_back(rooms):
        copy(rooms, party, status="cancelled")
        copy(rooms, party, resource_id="attic")
        copy(rooms, party, resource_id=None)
        copy(rooms, session)
        copy(rooms, session)


def test_appointments_know_whether_they_are_exclusive(rooms: TestDatabase) -> None:
    """is_exclusive follows the service as it was when the appointment got its resource or its window."""
    rooms.make_service("dinner", **EXCLUSIVE)
    appointment_ids = [rooms.book(10).id, rooms.book(12, service_id="dinner").id, rooms.commit(rooms.reserve(14).id).id]

    def exclusive() -> list[bool]:
        rows = dict(rooms.rows("SELECT appointment_id::text, is_exclusive FROM booking.appointments"))
        return [rows[appointment_id] for appointment_id in appointment_ids]

    assert exclusive() == [False, True, False]
    rooms.put_service(**EXCLUSIVE)
    rooms.put_service("dinner", **SESSION)
    assert names([rooms.change(appointment, set={"quantity": 2}) for appointment in appointment_ids]) == ["done"] * 3
    assert exclusive() == [False, True, False]
    for appointment, hour in zip(appointment_ids, (16, 18, 20), strict=True):
        assert rooms.change(appointment, set={"slot_start": at(hour).isoformat()}).name == "done"
    assert exclusive() == [True, False, True]


DOUBLE: dict[str, list[dict[str, Any]]] = {
    "two windows": [{}, {"start": at(10.5)}],
    "a window inside another": [{"minutes": 180}, {"start": at(11)}],
    "two services": [{}, {"service_id": "dinner"}],
    "beyond the seats": [{"number": 5}],
    "a party beyond the seats": [{"service_id": "dinner", "quantity": 5}],
    "two parties": [{"service_id": "dinner", "number": 2}],
}
SINGLE: dict[str, list[dict[str, Any]]] = {
    "a full session": [{"number": 4}],
    "two sessions one after the other": [{"number": 4}, {"number": 4, "start": at(11)}],
    "two resources": [{}, {"start": at(10.5), "resource_id": "attic"}],
    "a party": [{"service_id": "dinner", "quantity": 4}],
    "expired holds": [{"number": 9, "ttl": timedelta(0)}, {"start": at(10.5)}],
    "what is over": [{"start": at(-1000)}, {"start": at(-1000), "service_id": "dinner"}],
}


@pytest.mark.parametrize("name", [*DOUBLE, *SINGLE])
def test_the_view_reports_a_resource_that_is_claimed_twice(rooms: TestDatabase, name: str) -> None:
    """The view reports overlapping windows, other services, too many seats and two parties, and nothing else."""
    rooms.make_service("dinner", **EXCLUSIVE)
    with rolled_back(rooms):
        for planted in {**DOUBLE, **SINGLE}[name]:
            settings = {"number": 1, "start": at(10), "resource_id": "hall", **planted}
            plant_holds(rooms, settings.pop("number"), settings.pop("start"), **settings)
        reported = {
            resource_id for (resource_id,) in rooms.rows("SELECT resource_id FROM booking.double_booked_resources")
        }
        assert reported == ({"hall"} if name in DOUBLE else set())
        assert bool(rooms.violations().get("double_booked_resources")) == (name in DOUBLE)


# Listings.


def listed_hours(database: TestDatabase, quantity: int = 1) -> dict[float, tuple[int, list[str]]]:
    """Returns the bookable hours of Monday morning with the available units and the resources with room."""
    slots = availability(database, at(9), at(12), quantity=quantity).body["slots"]
    return {hour_of_iso(slot["slot_start"]): (slot["available"], slot["resource_ids"]) for slot in slots}


def test_a_listing_has_the_free_seats_and_the_resources_for_the_quantity(rooms: TestDatabase) -> None:
    """A listing counts the seats left in a begun session, all seats of a free resource and none of a busy one."""
    for _ in range(3):
        rooms.reserve(10, resource_id="hall")
    rooms.reserve(10.5, resource_id="attic")
    assert listed_hours(rooms) == {9: (6, ["attic", "hall"]), 10: (1, ["hall"]), 11: (4, ["hall"])}
    assert listed_hours(rooms, 2) == {9: (6, ["attic", "hall"]), 11: (4, ["hall"])}
    assert listed_hours(rooms, 3) == {9: (6, ["hall"]), 11: (4, ["hall"])}
    rooms.put_service(**EXCLUSIVE | {"resource_ids": ["hall"]})
    assert rooms.call("reserve", [reserve_request(9)])[0].name == "done"


def test_a_listing_of_parties_has_the_seats_of_the_free_resources(rooms: TestDatabase) -> None:
    """A listing of an exclusive service counts the seats of the resources that are free."""
    rooms.put_service(**EXCLUSIVE)
    rooms.reserve(10, resource_id="hall")
    assert listed_hours(rooms) == {9: (6, ["attic", "hall"]), 10: (2, ["attic"]), 11: (6, ["attic", "hall"])}
    assert listed_hours(rooms, 3) == {9: (6, ["hall"]), 11: (6, ["hall"])}
    rooms.put_service(**EXCLUSIVE | {"max_simultaneous_bookings": 3})
    assert listed_hours(rooms) == {9: (3, ["attic", "hall"]), 10: (2, ["attic"]), 11: (3, ["attic", "hall"])}
