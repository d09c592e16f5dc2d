"""Concurrent changes of appointments, in each order in which they can get the lock, without dependence on timing."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.concurrency.rivals import Rivals
from tests.concurrency.turns import in_turn
from tests.database import Outcome, TestDatabase, at, change_request

IN_BOTH_ORDERS = pytest.mark.parametrize("swapped", [False, True], ids=["first", "second"])
Call = Callable[[TestDatabase], Any]


def move(appointment_id: str, hour: float, **request: Any) -> Callable[[TestDatabase], Outcome]:
    """Returns a call that moves an appointment to an hour on the Monday of the tests."""
    return lambda own: own.change(appointment_id, set={"slot_start": at(hour).isoformat()}, **request)


def reschedule(appointment_id: str, hour: float, **request: Any) -> Callable[[TestDatabase], Outcome]:
    """Returns a call by which a guest moves an appointment to an hour on the Monday of the tests."""
    return move(appointment_id, hour, action="reschedule", actor_kind="guest", **request)


def cancel(appointment_id: str, **request: Any) -> Callable[[TestDatabase], Outcome]:
    """Returns a call that cancels an appointment."""
    return lambda own: own.change(appointment_id, action="cancel", **request)


def in_order(rivals: Rivals, calls: list[Call], *, swapped: bool) -> list[Any]:
    """Makes two concurrent calls, the second one first if swapped; returns the answers in the order of `calls`."""
    return in_turn(rivals, calls[::-1])[::-1] if swapped else in_turn(rivals, calls)


def trail(database: TestDatabase, appointment_id: str) -> list[tuple[int, str]]:
    """Returns version and action of each audit row of an appointment."""
    return database.rows(
        "SELECT version, action FROM booking.audit_logs WHERE appointment_id = %s ORDER BY version", appointment_id
    )


@pytest.fixture
def at_version_5(database: TestDatabase) -> str:
    """Returns the only appointment of a service with capacity 1, at ten o'clock, after four changes."""
    database.make_service()
    appointment = database.book(10).id
    for number in range(2, 6):
        assert database.change(appointment, set={"notes": f"version {number}"}).body["version"] == number
    return appointment


@IN_BOTH_ORDERS
def test_of_two_changes_of_one_version_the_first_wins(
    database: TestDatabase, rivals: Rivals, at_version_5: str, swapped: bool
) -> None:
    """The second change is refused with the current version and overwrites nothing."""
    calls: list[Call] = [
        lambda own: own.change(at_version_5, set={"notes": "one"}, expected_version=5),
        lambda own: own.change(at_version_5, set={"notes": "two"}, expected_version=5),
    ]
    outcomes = in_order(rivals, calls, swapped=swapped)
    winner, loser = outcomes[::-1] if swapped else outcomes
    assert (winner.name, winner.body["version"]) == ("done", 6)
    assert (loser.name, loser.body) == ("version_conflict", {"current_version": 6})
    assert database.value("SELECT notes FROM booking.appointments") == ("two" if swapped else "one")
    assert [version for version, _ in trail(database, at_version_5)] == [1, 2, 3, 4, 5, 6]


def test_changes_without_a_version_follow_each_other(database: TestDatabase, rivals: Rivals, at_version_5: str) -> None:
    """Each change increments the version and keeps the effects of the changes before it."""
    calls: list[Call] = [
        lambda own: own.change(at_version_5, set={"guest_name": "Ada"}),
        lambda own: own.change(at_version_5, set={"guest_phone": "+4930123"}),
        move(at_version_5, 12),
    ]
    assert [outcome.body["version"] for outcome in in_turn(rivals, calls)] == [6, 7, 8]
    [row] = database.rows("SELECT guest_name, guest_phone, slot_start, version FROM booking.appointments")
    assert row == ("Ada", "+4930123", at(12), 8)


@pytest.mark.parametrize("version", [5, None], ids=["with a version", "without"])
@IN_BOTH_ORDERS
def test_a_cancel_and_a_move_of_one_appointment_free_its_room_once(
    database: TestDatabase, rivals: Rivals, at_version_5: str, version: int | None, swapped: bool
) -> None:
    """A move before the cancel is made, a move after it is refused, and neither order leaves room occupied."""
    calls = [cancel(at_version_5, expected_version=version), move(at_version_5, 14, expected_version=version)]
    names = [outcome.name for outcome in in_order(rivals, calls, swapped=swapped)]
    if not swapped:
        assert names == ["done", "version_conflict" if version else "appointment_ended"]
        assert trail(database, at_version_5)[5:] == [(6, "cancelled")]
    elif version:
        assert names == ["version_conflict", "done"]
        assert trail(database, at_version_5)[5:] == [(6, "rescheduled")]
    else:
        assert names == ["done", "done"]
        assert trail(database, at_version_5)[5:] == [(6, "rescheduled"), (7, "cancelled")]
    is_booked = names == ["version_conflict", "done"]
    assert [database.capacity(hour)["booked"] for hour in (10, 14)] == [0, int(is_booked)]


@IN_BOTH_ORDERS
def test_two_cancels_of_one_appointment_have_one_effect(
    database: TestDatabase, rivals: Rivals, at_version_5: str, swapped: bool
) -> None:
    """The guest and the staff cancel at once: both get `done`, and the first one's reason is stored."""
    calls = [cancel(at_version_5, actor_kind="guest", reason="ill"), cancel(at_version_5, reason="closed")]
    one, other = in_order(rivals, calls, swapped=swapped)
    assert (one.name, other.name) == ("done", "done")
    assert one.body == other.body
    assert one.body["cancellation_reason"] == ("closed" if swapped else "ill")
    assert trail(database, at_version_5)[5:] == [(6, "cancelled")]


def test_an_operation_that_is_sent_again_while_it_is_under_way_has_one_effect(
    database: TestDatabase, rivals: Rivals, at_version_5: str
) -> None:
    """The second copy of the request waits for the first, and gets the same outcome."""
    request = change_request(at_version_5, set={"slot_start": at(14).isoformat()}, expected_version=5)
    call: Call = lambda own: own.call("change", [request])[0]  # noqa: E731
    one, other = in_turn(rivals, [call, call])
    assert (one.name, other.name) == ("done", "done")
    assert one.body == other.body
    assert trail(database, at_version_5)[5:] == [(6, "rescheduled")]


@IN_BOTH_ORDERS
def test_a_commit_sent_again_and_a_cancel_of_its_appointment(
    database: TestDatabase, rivals: Rivals, swapped: bool
) -> None:
    """A repeated commit returns the appointment in its current state, and makes no second one after the cancel."""
    database.make_service()
    hold = database.reserve(10).id
    appointment = database.commit(hold).id
    calls: list[Call] = [lambda own: own.commit(hold), cancel(appointment)]
    again, cancelled = in_order(rivals, calls, swapped=swapped)
    assert (again.name, again.id, cancelled.name) == ("replayed", appointment, "done")
    assert again.body["status"] == ("cancelled" if swapped else "confirmed")
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    assert database.capacity(10)["available"] == 1


@IN_BOTH_ORDERS
def test_a_commit_and_a_cancel_of_another_appointment_of_the_slot(
    database: TestDatabase, rivals: Rivals, swapped: bool
) -> None:
    """Both succeed in either order, and the room that the cancel frees is counted once."""
    database.make_service(capacity=2)
    hold = database.reserve(10).id
    other = database.book(10).id
    calls: list[Call] = [lambda own: own.commit(hold), cancel(other)]
    assert [outcome.name for outcome in in_order(rivals, calls, swapped=swapped)] == ["done", "done"]
    assert database.capacity(10) == {"capacity": 2, "held": 0, "booked": 1, "available": 1}


@pytest.mark.parametrize("by", [move, reschedule], ids=["staff", "guests"])
@pytest.mark.parametrize("pooled", [False, True], ids=["by capacity", "by resource"])
@IN_BOTH_ORDERS
def test_of_two_moves_onto_one_free_slot_the_first_wins(
    database: TestDatabase, rivals: Rivals, pooled: bool, swapped: bool, by: Callable[..., Call]
) -> None:
    """The second move is refused, and its appointment stays where it was."""
    pool = ["anna"] if pooled else []
    database.make_service(resource_ids=pool)
    database.make_service("perm", resource_ids=pool)
    service_ids = ("cut", "perm") if pooled else ("cut", "cut")
    one, other = (
        database.book(hour, service_id=service_id).id for hour, service_id in zip((9, 10), service_ids, strict=True)
    )
    outcomes = in_order(rivals, [by(one, 14), by(other, 14.5)], swapped=swapped)
    expected = ["done", "slot_unavailable"]
    assert [outcome.name for outcome in outcomes] == (expected[::-1] if swapped else expected)
    starts = database.rows("SELECT slot_start FROM booking.appointments ORDER BY slot_start")
    assert starts == ([(at(9),), (at(14.5),)] if swapped else [(at(10),), (at(14),)])


@IN_BOTH_ORDERS
def test_a_move_and_a_cancel_by_the_guest(
    database: TestDatabase, rivals: Rivals, at_version_5: str, swapped: bool
) -> None:
    """Two windows of one guest: a move before the cancellation is made, and one after it is refused."""
    calls = [cancel(at_version_5, actor_kind="guest"), reschedule(at_version_5, 14)]
    names = [outcome.name for outcome in in_order(rivals, calls, swapped=swapped)]
    assert names == ["done", "done" if swapped else "appointment_ended"]
    last = [(6, "rescheduled"), (7, "cancelled")] if swapped else [(6, "cancelled")]
    assert trail(database, at_version_5)[5:] == last
    assert [database.capacity(hour)["booked"] for hour in (10, 14)] == [0, 0]


@IN_BOTH_ORDERS
def test_a_move_by_the_guest_and_a_change_by_the_staff(
    database: TestDatabase, rivals: Rivals, at_version_5: str, swapped: bool
) -> None:
    """The staff read version 5: a guest who was first is not overwritten. The guest named none, and is moved."""
    calls: list[Call] = [reschedule(at_version_5, 14), move(at_version_5, 16, expected_version=5)]
    by_guest, by_staff = in_order(rivals, calls, swapped=swapped)
    assert by_guest.name == "done"
    assert by_staff.name == ("done" if swapped else "version_conflict")
    assert by_guest.body["version"] == (7 if swapped else 6)
    assert database.value("SELECT slot_start FROM booking.appointments") == at(14)
    assert [database.capacity(hour)["booked"] for hour in (10, 14, 16)] == [0, 1, 0]


def test_a_move_by_the_guest_that_is_sent_again_has_one_effect(
    database: TestDatabase, rivals: Rivals, at_version_5: str
) -> None:
    """Whether the retry has the operation id, or comes from a second window of the browser."""
    set_ = {"slot_start": at(14).isoformat()}
    request = change_request(at_version_5, action="reschedule", actor_kind="guest", set=set_)
    again: Call = lambda own: own.call("change", [request])[0]  # noqa: E731
    outcomes = in_turn(rivals, [again, again, reschedule(at_version_5, 14)])
    assert [(outcome.name, outcome.body["version"]) for outcome in outcomes] == [("done", 6)] * 3
    assert trail(database, at_version_5)[5:] == [(6, "rescheduled")]


@pytest.mark.parametrize("freed_by", ["move", "cancel"])
@IN_BOTH_ORDERS
def test_a_freed_slot_goes_to_the_reserve_that_comes_after(
    rivals: Rivals, at_version_5: str, freed_by: str, swapped: bool
) -> None:
    """A reserve that comes before is refused, because the slot is still taken then."""
    free = move(at_version_5, 14) if freed_by == "move" else cancel(at_version_5)
    calls: list[Call] = [free, lambda own: own.reserve(10)]
    freed, reserved = in_order(rivals, calls, swapped=swapped)
    assert (freed.name, reserved.name) == ("done", "slot_unavailable" if swapped else "done")


@IN_BOTH_ORDERS
def test_a_reserve_and_a_move_to_the_same_slot(
    database: TestDatabase, rivals: Rivals, at_version_5: str, swapped: bool
) -> None:
    """Exactly one of the two gets the slot, and a refused move keeps its old slot."""
    calls: list[Call] = [lambda own: own.reserve(14), move(at_version_5, 13.5)]
    outcomes = in_order(rivals, calls, swapped=swapped)
    expected = ["done", "slot_unavailable"]
    assert [outcome.name for outcome in outcomes] == (expected[::-1] if swapped else expected)
    assert database.capacity(10)["available"] == int(swapped)


def test_two_appointments_that_want_each_others_slot_both_stay(database: TestDatabase, rivals: Rivals) -> None:
    """Neither slot is free: both moves are refused, and there is no deadlock."""
    database.make_service()
    one, other = database.book(10).id, database.book(11).id
    outcomes = in_turn(rivals, [move(one, 11), move(other, 10)])
    assert [outcome.name for outcome in outcomes] == ["slot_unavailable", "slot_unavailable"]


def test_eleven_concurrent_bookings_of_ten_resources_leave_one_refused(database: TestDatabase, rivals: Rivals) -> None:
    """Ten bookings through two services that share a pool each get a different resource; the last one is refused."""
    pool = [f"chair-{number}" for number in range(10)]
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=pool)
    with database.locked() as lock:
        calls = [
            rivals.queue(lambda own, service_id=service_id: own.book(10, service_id=service_id))  # type: ignore[misc]
            for service_id in ("cut", "perm") * 5 + ("cut",)
        ]
        lock.commit()
        outcomes = [call.result() for call in calls]
    assert [outcome.name for outcome in outcomes] == ["done"] * 10 + ["slot_unavailable"]
    assert sorted(outcome.body["resource_id"] for outcome in outcomes[:10]) == pool
