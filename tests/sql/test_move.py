"""booking.change: appointments are moved to other slots, quantities and resources."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, at
from tests.sql.catalog import delete_resource, delete_service
from tests.sql.changes import actions, move, slot_of, stored_appointment

INSTANT = timedelta(microseconds=1)
MINUTES = ("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes")
# The settings of a service by days.
BY_DAYS: dict[str, Any] = {**dict.fromkeys(MINUTES), "duration_days": 1, "max_duration_days": 7}


def test_a_slot_that_is_moved_keeps_its_length(database: TestDatabase) -> None:
    """A new start keeps the length, a new end changes it, and both may be set at once."""
    database.make_service(duration_minutes=30)
    appointment = database.book(10, 1.5).id
    for members, expected in (
        ({"slot_start": at(14)}, (14, 15.5)),
        ({"slot_end": at(15)}, (14, 15)),
        ({"slot_start": at(12), "slot_end": at(16)}, (12, 16)),
    ):
        outcome = database.change(appointment, set={name: instant.isoformat() for name, instant in members.items()})
        assert (outcome.name, slot_of(outcome)) == ("done", (at(expected[0]), at(expected[1])))
    assert actions(database, appointment) == [
        (1, "created"),
        (2, "rescheduled"),
        (3, "rescheduled"),
        (4, "rescheduled"),
    ]


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_a_length_is_elapsed_time_across_a_dst_change(database: TestDatabase, timezone: str) -> None:
    """Two days and their buffers are 48 hours across a DST change, in whichever time zone the session is."""
    database.make_service(capacity=1, buffer_before_minutes=24 * 60, buffer_after_minutes=24 * 60)
    start = datetime(2031, 3, 10, 12, tzinfo=UTC)
    appointment = database.book(
        slot_start=start.isoformat(), slot_end=(start + timedelta(hours=48)).isoformat(), manual=True
    ).id
    over_the_change = datetime(2031, 3, 29, 12, tzinfo=UTC)
    with database.connect() as connection:
        connection.execute(f"SET timezone = '{timezone}'".encode())
        outcome = database.change(appointment, set={"slot_start": over_the_change.isoformat()}, connection=connection)
    assert slot_of(outcome) == (over_the_change, over_the_change + timedelta(hours=48))
    occupied = database.value("SELECT occupied FROM booking.appointments")
    assert (over_the_change - occupied.lower, occupied.upper - over_the_change) == (
        timedelta(hours=24),
        timedelta(hours=72),
    )


def test_a_move_does_not_count_its_own_claim(database: TestDatabase, booked: str) -> None:
    """A full service allows moves onto a part of the old slot, and longer or shorter slots."""
    for hour, hours in ((10.5, 1), (10, 1), (10, 3), (10, 0.5), (9.75, 1)):
        assert move(database, booked, hour, slot_end=at(hour + hours).isoformat()).name == "done"
    assert database.reserve(9.75).name == "slot_unavailable"
    assert database.reserve(10.75).name == "done"


def test_a_quantity_grows_within_the_capacity(database: TestDatabase) -> None:
    """Only the additional units need room."""
    database.make_service(capacity=5)
    appointment = database.book(10, quantity=3).id
    rival = database.book(10).id
    assert database.change(appointment, set={"quantity": 4}).body["quantity"] == 4
    outcome = database.change(appointment, set={"quantity": 5})
    assert outcome.name == "slot_unavailable"
    assert stored_appointment(database, appointment)["quantity"] == 4
    database.change(rival, action="cancel")
    assert database.change(appointment, set={"quantity": 5}).name == "done"
    assert database.change(appointment, set={"quantity": 1}).name == "done"
    assert database.capacity(10)["available"] == 4
    assert actions(database, appointment)[-1] == (4, "changed")


@pytest.mark.parametrize("is_held", [False, True], ids=["booked", "held"])
def test_a_refused_move_changes_nothing(database: TestDatabase, booked: str, is_held: bool) -> None:
    """The refusal has the slot that was asked for, so that the caller can look for alternatives."""
    if is_held:
        database.reserve(14)
    else:
        database.book(14)
    before = stored_appointment(database, booked)
    outcome = move(database, booked, 13.5, guest_name="Bob", notes=None)
    assert outcome.name == "slot_unavailable"
    requested = {name: outcome.body[name] for name in ("service_id", "quantity", "resource_id")}
    assert (slot_of(outcome), requested) == (
        (at(13.5), at(14.5)),
        {"service_id": "cut", "quantity": 1, "resource_id": None},
    )
    assert stored_appointment(database, booked) == before
    assert actions(database, booked) == [(1, "created")]
    assert database.reserve(10).name == "slot_unavailable"


def test_a_move_frees_the_old_slot_and_takes_the_new_one(database: TestDatabase, booked: str) -> None:
    """The old slot can be held, and the new one can't."""
    assert move(database, booked, 14).name == "done"
    assert database.reserve(14).name == "slot_unavailable"
    assert database.reserve(10).name == "done"


def test_a_move_onto_an_expired_hold_ends_the_hold(database: TestDatabase, booked: str) -> None:
    """The hold stays expired if the clock steps back."""
    now = database.freeze_clock()
    expired = database.reserve(14).id
    assert move(database, booked, 14).name == "slot_unavailable"
    database.freeze_clock(now + timedelta(minutes=15))
    assert move(database, booked, 14).name == "done"
    database.freeze_clock(now)
    assert database.status(expired) == "expired"
    assert database.commit(expired).name == "reservation_expired"


def test_the_staff_may_move_to_slots_that_the_public_may_not_book(database: TestDatabase, booked: str) -> None:
    """The staff may move into the past, outside the opening hours, and within an archived service."""
    database.put_hours([(1, "09:00", "12:00")])
    database.freeze_clock(at(9))
    assert move(database, booked, 20).name == "done"
    assert move(database, booked, 8).name == "done"
    delete_service(database)
    assert move(database, booked, 12).name == "done"


def test_a_move_keeps_the_buffers_of_the_appointment(database: TestDatabase) -> None:
    """The current settings of the service do not change the buffers, neither by themselves nor by a move."""
    database.make_service(capacity=1, buffer_before_minutes=10, buffer_after_minutes=20)
    appointment = database.book(10).id
    database.put_service(capacity=1)
    assert move(database, appointment, 14).name == "done"
    assert [database.reserve(hour, 0.25).name for hour in (13.5, 13.75, 15, 15.25, 15.5)] == [
        "done",
        "slot_unavailable",
        "slot_unavailable",
        "slot_unavailable",
        "done",
    ]


def test_a_move_respects_buffers(database: TestDatabase) -> None:
    """The buffers of other claims are kept free, and so are the buffers of the moved one."""
    database.make_service(capacity=1, buffer_after_minutes=30)
    appointment = database.book(10).id
    database.book(14)
    assert move(database, appointment, 12.75).name == "slot_unavailable"
    assert move(database, appointment, 12.5).name == "done"
    assert move(database, appointment, 15.25).name == "slot_unavailable"
    assert move(database, appointment, 15.5).name == "done"


def test_a_claim_made_longer_by_a_move_blocks_slots_deep_inside_it(database: TestDatabase, booked: str) -> None:
    """A change raises how far back searches for overlaps reach, as a booking does."""
    assert database.change(booked, set={"slot_end": at(24 * 20).isoformat()}).name == "done"
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"


def test_a_change_that_contradicts_the_stored_appointment_is_invalid(database: TestDatabase, booked: str) -> None:
    """The refusal names the member; a slot of the maximum length is allowed."""
    for members in (
        {"slot_end": at(10).isoformat()},
        {"slot_end": at(9).isoformat()},
        {"slot_start": at(12).isoformat(), "slot_end": at(11).isoformat()},
        {"slot_end": (at(10) + timedelta(hours=720) + INSTANT).isoformat()},
        {"slot_start": at(12).isoformat(), "status": "completed"},
        {"resource_id": "nobody", "status": "completed"},
        {"quantity": 2, "status": "cancelled"},
    ):
        outcome = database.change(booked, set=members)
        assert (outcome.name, sorted(outcome.body)) == ("validation_failed", ["code", "field", "parameters"]), members
        assert outcome.body["field"] in ("slot_end", "status")
    assert actions(database, booked) == [(1, "created")]
    assert database.change(booked, set={"slot_end": (at(10) + timedelta(hours=720)).isoformat()}).name == "done"


# Resources.


def test_an_appointment_is_given_to_another_resource(database: TestDatabase, annas_appointment: str) -> None:
    """The named resource has to be free in the slot."""
    rival = database.reserve(10.5, service_id="perm", resource_id="bert").id
    outcome = database.change(annas_appointment, set={"resource_id": "bert"})
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable", "bert")
    database.release(rival)
    assert database.change(annas_appointment, set={"resource_id": "bert"}).body["resource_id"] == "bert"
    assert database.reserve(10, resource_id="bert").name == "slot_unavailable"
    assert database.reserve(10).body["resource_id"] == "anna"
    assert database.change(annas_appointment, set={"resource_id": "anna"}).name == "slot_unavailable"
    assert actions(database, annas_appointment) == [(1, "created"), (2, "rescheduled")]


def test_a_move_keeps_its_resource_or_is_refused(database: TestDatabase, annas_appointment: str) -> None:
    """A move that names no resource never replaces the one that the appointment has."""
    database.book(14, service_id="perm", resource_id="anna")
    outcome = move(database, annas_appointment, 13.5)
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable", "anna")
    assert move(database, annas_appointment, 13).body["resource_id"] == "anna"
    assert move(database, annas_appointment, 12.5).body["resource_id"] == "anna"
    assert move(database, annas_appointment, 12.5, resource_id="anna").body["version"] == 3


def test_a_move_across_midnight_conflicts_with_claims_of_the_next_day(database: TestDatabase) -> None:
    """Those claims have the same resource and came through another service."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    assert database.reserve(26, service_id="perm").name == "done"
    moved = database.book(10).id
    assert move(database, moved, 20, slot_end=at(28).isoformat()).name == "slot_unavailable"
    assert move(database, moved, 20, slot_end=at(26).isoformat()).name == "done"


def test_a_move_to_any_resource_keeps_the_current_one_if_it_is_free(
    database: TestDatabase, annas_appointment: str
) -> None:
    """Otherwise another free resource is given, and the move is refused only if all are taken."""
    outcome = database.change(annas_appointment, set={"resource_id": None})
    assert (outcome.name, outcome.body["resource_id"], outcome.body["version"]) == ("done", "anna", 1)
    database.book(14, service_id="perm", resource_id="anna")
    assert move(database, annas_appointment, 14.5, resource_id=None).body["resource_id"] == "bert"
    for hour in (7, 8):
        database.book(hour, service_id="perm", resource_id="bert")
    assert move(database, annas_appointment, 16, resource_id=None).body["resource_id"] == "bert"
    database.book(18, service_id="perm", resource_id="anna")
    database.reserve(18.5, service_id="perm", resource_id="bert")
    assert move(database, annas_appointment, 18, resource_id=None).name == "slot_unavailable"


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_claim_from_before_the_pool_gets_a_free_resource_that_seats_it(database: TestDatabase, is_busy: bool) -> None:
    """It has no resource to keep: it gets one as a new claim would, or is refused."""
    database.make_service(capacity=3)
    party = database.book(quantity=2).id
    for resource_id, seats in (("alcove", 1), ("table", 4)):
        database.make_resource(resource_id, seats=seats)
    database.put_service(resource_ids=["alcove", "table"], max_simultaneous_bookings=None)
    if is_busy:
        database.book(resource_id="table")
    outcome = database.change(party, set={"resource_id": None})
    expected = ("slot_unavailable", None) if is_busy else ("done", "table")
    assert (outcome.name, outcome.body["resource_id"]) == expected


def test_a_claim_from_before_the_pool_gets_a_resource_for_a_new_window(database: TestDatabase) -> None:
    """Within its window it stays without one. At another time or for longer it takes one, or is refused."""
    database.make_service()
    appointment = database.book(10, 2).id
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    shorter = move(database, appointment, 10.5, slot_end=at(11).isoformat())
    assert (shorter.name, shorter.body["resource_id"]) == ("done", None)
    rival = database.book(14, service_id="perm").id
    assert move(database, appointment, 14).name == "slot_unavailable"
    assert stored_appointment(database, appointment)["resource_id"] is None
    assert move(database, rival, 11.5).name == "done"
    assert move(database, appointment, 10.5, slot_end=at(12).isoformat()).name == "slot_unavailable"
    assert move(database, appointment, 14).body["resource_id"] == "anna"


def test_a_resource_outside_the_pool_is_not_found(database: TestDatabase, annas_appointment: str) -> None:
    """Unknown and archived resources are not found, nor any resource of a service without a pool."""
    database.make_service("wash")
    plain = database.book(10, service_id="wash").id
    delete_resource(database, "bert")
    for resource_id in ("nobody", "cleo", "bert"):
        assert database.change(annas_appointment, set={"resource_id": resource_id}).name == "resource_not_found"
    assert database.change(plain, set={"resource_id": "anna"}).name == "resource_not_found"
    assert database.change(plain, set={"resource_id": None}).body["version"] == 1


def test_an_archived_resource_keeps_its_appointments(database: TestDatabase, annas_appointment: str) -> None:
    """An edit keeps the archived resource, and a move to another time gets an active one."""
    delete_resource(database)
    assert database.change(annas_appointment, set={"notes": "by the window"}).body["resource_id"] == "anna"
    assert move(database, annas_appointment, 12).body["resource_id"] == "bert"


@pytest.mark.parametrize("busy", [True, False])
def test_a_resource_that_left_the_pool_gets_no_moved_appointments(
    database: TestDatabase, annas_appointment: str, busy: bool
) -> None:
    """The moved appointment gets a resource of the current pool, or is refused if none is free."""
    database.put_service(resource_ids=["bert"])
    if busy:
        database.book(12, resource_id="bert")
    outcome = move(database, annas_appointment, 12)
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable" if busy else "done", "bert")


def test_a_move_within_a_service_without_a_pool_drops_the_resource(
    database: TestDatabase, annas_appointment: str
) -> None:
    """The service was put without resources after the booking."""
    database.put_service(capacity=1, resource_ids=[])
    moved = move(database, annas_appointment, 12)
    assert (moved.name, moved.body["resource_id"]) == ("done", None)


def test_an_appointment_has_one_resource(database: TestDatabase, annas_appointment: str) -> None:
    """The quantity can't exceed the seats of the resource."""
    outcome = database.change(annas_appointment, set={"quantity": 2})
    assert (outcome.name, outcome.body["field"]) == ("validation_failed", "quantity")
    assert database.change(annas_appointment, set={"quantity": 1}).body["version"] == 1


def test_a_move_ends_an_expired_hold_of_its_resource(database: TestDatabase, annas_appointment: str) -> None:
    """The hold of another service is marked as expired."""
    now = database.freeze_clock()
    expired = database.reserve(14, service_id="perm", resource_id="anna").id
    assert move(database, annas_appointment, 14).name == "slot_unavailable"
    database.freeze_clock(now + timedelta(minutes=15))
    assert move(database, annas_appointment, 14).name == "done"
    assert database.status(expired) == "expired"


def test_the_capacity_limits_moves(database: TestDatabase) -> None:
    """A free resource is not enough if the capacity of the service is used up."""
    database.make_service(capacity=1, resource_ids=["anna", "bert"])
    database.book(10, resource_id="anna")
    appointment = database.book(14, resource_id="bert").id
    assert move(database, appointment, 10).name == "slot_unavailable"
    assert move(database, appointment, 11).name == "done"


def test_a_move_by_days_keeps_the_number_of_days(database: TestDatabase) -> None:
    """Two days across a DST change are two days elsewhere, not 47 hours; other lengths stay elapsed time."""
    database.make_service("van", capacity=9, **BY_DAYS)
    midnight = datetime(2031, 3, 28, 23, tzinfo=UTC)  # Saturday, 29 March in Berlin; the clock changes on Sunday

    def book(start: datetime, end: datetime) -> str:
        return database.book(service_id="van", slot_start=start.isoformat(), slot_end=end.isoformat(), manual=True).id

    def moved(appointment: str, start: datetime) -> timedelta:
        outcome = database.change(appointment, set={"slot_start": start.isoformat()})
        assert (outcome.name, slot_of(outcome)[0]) == ("done", start)
        return slot_of(outcome)[1] - start

    two_days = book(midnight, midnight + timedelta(hours=47))
    assert moved(two_days, midnight + timedelta(days=7, hours=-1)) == timedelta(hours=48)
    assert moved(two_days, midnight) == timedelta(hours=47)
    assert moved(two_days, midnight + timedelta(days=1)) == timedelta(hours=47)
    no_days = book(midnight, midnight + timedelta(hours=5))
    assert moved(no_days, midnight + timedelta(days=1)) == timedelta(hours=5)


def test_a_move_by_days_needs_a_known_time_zone(database: TestDatabase) -> None:
    """An unchanged start, a given end and an edit do not depend on it."""
    database.make_service("van", capacity=9, **BY_DAYS)
    start, end = at(0).isoformat(), at(24).isoformat()
    appointment = database.book(service_id="van", slot_start=start, slot_end=end, manual=True).id
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert move(database, appointment, 48).name == "business_misconfigured"
    assert move(database, appointment, 0, notes="x").name == "done"
    assert move(database, appointment, 48, slot_end=at(72).isoformat()).name == "done"
    database.rows("UPDATE booking.businesses SET timezone = 'Europe/Berlin'")


def test_a_named_resource_that_left_the_pool_is_not_found(database: TestDatabase, annas_appointment: str) -> None:
    """The appointment keeps it while its window does not grow, and gets no new window of it by name either."""
    delete_resource(database)
    shorter = database.change(annas_appointment, set={"slot_end": at(10.5).isoformat()})
    assert (shorter.name, shorter.body["resource_id"]) == ("done", "anna")
    assert move(database, annas_appointment, 12, resource_id="anna").name == "resource_not_found"
    assert move(database, annas_appointment, 12).body["resource_id"] == "bert"
