"""booking.change: appointments are moved, edited, cancelled and erased, with one audit row for each version."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database import Outcome, TestDatabase, at, change_request
from tests.sql.asking import names

GUEST: dict[str, Any] = {
    "guest_name": "Ada Lovelace",
    "guest_email": "ada@example.com",
    "guest_phone": "+4930123456",
    "notes": "by the window",
}
INSTANT = timedelta(microseconds=1)
ENDINGS = ["cancelled", "completed", "no_show"]


@pytest.fixture
def booked(database: TestDatabase) -> str:
    """Books Ada's appointment at ten o'clock, on a service with capacity 1."""
    database.make_service(capacity=1)
    return database.book(10, **GUEST, metadata={"price": 12}).id


def move(database: TestDatabase, appointment_id: str, hour: float, **members: Any) -> Outcome:
    """Moves an appointment to an hour on the Monday of the tests."""
    return database.change(appointment_id, set={"slot_start": at(hour).isoformat(), **members})


def slot_of(outcome: Outcome) -> tuple[datetime, datetime]:
    """Returns start and end of an appointment."""
    start, end = (datetime.fromisoformat(outcome.body[name]) for name in ("slot_start", "slot_end"))
    return start, end


def row(database: TestDatabase, appointment_id: str) -> dict[str, Any]:
    """Returns an appointment as it is stored."""
    stored: dict[str, Any] = database.value(
        "SELECT to_jsonb(a) FROM booking.appointments a WHERE appointment_id = %s", appointment_id
    )
    return stored


def trail(database: TestDatabase, appointment_id: str) -> list[dict[str, Any]]:
    """Returns the audit trail of an appointment."""
    return [entry for (entry,) in database.rows("SELECT booking.audit_trail('salon', %s)", appointment_id)]


def actions(database: TestDatabase, appointment_id: str) -> list[tuple[int, str]]:
    """Returns version and action of each audit row of an appointment."""
    return [(entry["version"], entry["action"]) for entry in trail(database, appointment_id)]


# Moves.


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
    assert row(database, appointment)["quantity"] == 4
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
    before = row(database, booked)
    outcome = move(database, booked, 13.5, guest_name="Bob", notes=None)
    assert outcome.name == "slot_unavailable"
    requested = {name: outcome.body[name] for name in ("service_id", "quantity", "resource_id")}
    assert (slot_of(outcome), requested) == (
        (at(13.5), at(14.5)),
        {"service_id": "cut", "quantity": 1, "resource_id": None},
    )
    assert row(database, booked) == before
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
    database.rows("SELECT * FROM booking.delete_service('salon', 'cut', 'infinity')")
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
        assert (outcome.name, sorted(outcome.body)) == ("validation_failed", ["field", "message"]), members
        assert outcome.body["field"] in ("slot_end", "status")
    assert actions(database, booked) == [(1, "created")]
    assert database.change(booked, set={"slot_end": (at(10) + timedelta(hours=720)).isoformat()}).name == "done"


# Resources.


@pytest.fixture
def annas_appointment(database: TestDatabase) -> str:
    """Books Anna at ten o'clock; Bert is free, and both are in the pool of another service too."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    database.make_resource("cleo")
    return database.book(10, resource_id="anna").id


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


def test_a_resource_outside_the_pool_is_not_found(database: TestDatabase, annas_appointment: str) -> None:
    """Unknown and archived resources are not found, nor any resource of a service without a pool."""
    database.make_service("wash")
    plain = database.book(10, service_id="wash").id
    database.rows("SELECT * FROM booking.delete_resource('salon', 'bert', 'infinity')")
    for resource_id in ("nobody", "cleo", "bert"):
        assert database.change(annas_appointment, set={"resource_id": resource_id}).name == "resource_not_found"
    assert database.change(plain, set={"resource_id": "anna"}).name == "resource_not_found"
    assert database.change(plain, set={"resource_id": None}).body["version"] == 1


def test_an_archived_resource_keeps_its_appointments(database: TestDatabase, annas_appointment: str) -> None:
    """An edit keeps the archived resource, and a move to another time gets an active one."""
    database.rows("SELECT * FROM booking.delete_resource('salon', 'anna', 'infinity')")
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


# Ended states.


@pytest.mark.parametrize("ending", ENDINGS)
def test_ended_states_are_final(database: TestDatabase, booked: str, ending: str) -> None:
    """An ended appointment refuses another state, slot, quantity or resource; its texts may still be edited."""
    assert database.change(booked, set={"status": ending}).body["status"] == ending
    members_to_refuse: list[dict[str, Any]] = [
        {"status": status} for status in ("confirmed", *ENDINGS) if status != ending
    ]
    members_to_refuse += [{"slot_start": at(14).isoformat()}, {"slot_end": at(12).isoformat()}]
    members_to_refuse += [{"quantity": 2}, {"resource_id": "anna"}]
    for members in members_to_refuse:
        outcome = database.change(booked, set=members)
        assert (outcome.name, outcome.body) == ("appointment_ended", {"appointment_status": ending}), members
    assert database.change(booked, set={"status": ending, "notes": "late"}).body["notes"] == "late"
    assert actions(database, booked) == [(1, "created"), (2, ending), (3, "changed")]


@pytest.mark.parametrize("ending", ["completed", "no_show"])
def test_a_completed_or_missed_appointment_cant_be_cancelled(database: TestDatabase, booked: str, ending: str) -> None:
    """The refusal is the same for guest and staff."""
    database.change(booked, set={"status": ending})
    for actor_kind in ("guest", "staff"):
        outcome = database.change(booked, action="cancel", actor_kind=actor_kind)
        assert (outcome.name, outcome.body) == ("appointment_ended", {"appointment_status": ending})


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ended_appointment_occupies_nothing(database: TestDatabase, annas_appointment: str, ending: str) -> None:
    """Service and resource are free as soon as the change is made."""
    database.change(annas_appointment, set={"status": ending})
    assert database.reserve(10, resource_id="anna").name == "done"


def test_a_cancelled_appointment_frees_its_room_once(database: TestDatabase) -> None:
    """Repeated cancels are done and change nothing."""
    database.make_service(capacity=5)
    appointment = database.book(10, quantity=2).id
    database.book(10, quantity=3)
    first = database.change(appointment, action="cancel", reason="ill")
    assert (first.name, first.body["status"], first.body["version"]) == ("done", "cancelled", 2)
    assert first.body["cancellation_reason"] == "ill"
    for request in ({"reason": "another one"}, {"expected_version": 1}, {"actor_kind": "guest"}):
        again = database.change(appointment, action="cancel", **request)
        assert (again.name, again.body) == ("done", first.body)
    assert database.capacity(10) == {"capacity": 5, "held": 0, "booked": 3, "available": 2}
    assert actions(database, appointment) == [(1, "created"), (2, "cancelled")]


def test_the_cancellation_window_binds_guests_and_not_the_staff(database: TestDatabase) -> None:
    """A guest may cancel until two hours before the start, to the microsecond; the refusal has that instant."""
    database.make_service(capacity=9, cancellation_window_minutes=120)
    early, late, by_staff = (database.book(10).id for _ in range(3))
    database.freeze_clock(at(8))
    assert database.change(early, action="cancel", actor_kind="guest").name == "done"
    database.freeze_clock(at(8) + INSTANT)
    outcome = database.change(late, action="cancel", actor_kind="guest")
    assert outcome.name == "cancellation_window_closed"
    assert {name: datetime.fromisoformat(value) for name, value in outcome.body.items()} == {"cancellable_until": at(8)}
    assert row(database, late)["status"] == "confirmed"
    database.freeze_clock(at(20))
    assert database.change(by_staff, action="cancel").name == "done"


def test_the_cancellation_window_follows_the_current_slot(database: TestDatabase) -> None:
    """A move shifts the window; without one, a guest may cancel until the start."""
    database.make_service(capacity=9)
    appointment, other = database.book(10).id, database.book(10).id
    move(database, other, 14)
    database.freeze_clock(at(10) + INSTANT)
    assert database.change(appointment, action="cancel", actor_kind="guest").name == "cancellation_window_closed"
    assert database.change(other, action="cancel", actor_kind="guest").name == "done"


# Versions and operations.


def test_a_change_of_another_version_is_refused(database: TestDatabase, booked: str) -> None:
    """The refusal has the current version; a change without an expected version applies to any."""
    assert database.change(booked, set={"notes": "one"}, expected_version=1).body["version"] == 2
    before = row(database, booked)
    for action in ("change", "cancel", "erase"):
        for version in (1, 3):
            outcome = database.change(booked, action=action, set={"notes": "two"}, expected_version=version)
            assert (outcome.name, outcome.body) == ("version_conflict", {"current_version": 2})
    assert row(database, booked) == before
    assert database.change(booked, set={"notes": "three"}).body["version"] == 3
    assert database.change(booked, action="cancel", expected_version=3).body["version"] == 4


def test_a_change_without_a_difference_changes_nothing(database: TestDatabase, booked: str) -> None:
    """Version, time of the last change and audit trail stay the same."""
    before = row(database, booked)
    everything = {
        name: before[name]
        for name in (*GUEST, "metadata", "slot_start", "slot_end", "quantity", "status", "resource_id")
    }
    for members in ({}, {"slot_start": at(10).isoformat()}, {"notes": GUEST["notes"]}, everything):
        outcome = database.change(booked, set=members, expected_version=1)
        assert (outcome.name, outcome.body["version"]) == ("done", 1)
    assert row(database, booked) == before
    assert actions(database, booked) == [(1, "created")]


def test_an_unchanged_slot_needs_no_room(database: TestDatabase, booked: str) -> None:
    """A change that sends the current slot along with an edit does not need room a second time."""
    members = {"slot_start": at(10).isoformat(), "slot_end": at(11).isoformat(), "quantity": 1, "notes": "late"}
    assert database.change(booked, set=members).name == "done"
    assert actions(database, booked)[-1] == (2, "changed")


def test_an_operation_that_is_sent_again_has_one_effect(database: TestDatabase, booked: str) -> None:
    """Operations sent again under their ids return their outcomes, even after later changes."""
    requests = [
        change_request(booked, set={"slot_start": at(14).isoformat()}, expected_version=1),
        change_request(booked, set={"notes": "late"}),
        change_request(booked, action="cancel", reason="ill", expected_version=3),
        change_request(booked, action="erase"),
    ]
    for number, request in enumerate(requests):
        [first] = database.call("change", [request])
        assert (first.name, first.body["version"]) == ("done", number + 2)
    after = row(database, booked)
    for request in (*requests, *reversed(requests)):
        [again] = database.call("change", [request])
        assert (again.name, again.body["version"]) == ("done", 5)
    assert row(database, booked) == after
    assert [entry["version"] for entry in trail(database, booked)] == [1, 2, 3, 4, 5]


def test_an_unknown_appointment_is_not_found(database: TestDatabase, booked: str) -> None:
    """An id of another business is unknown as well."""
    database.make_service(business_id="clinic")
    for business_id, appointment in (("salon", str(uuid4())), ("clinic", booked), ("nobody", booked)):
        for action in ("change", "cancel", "erase"):
            outcome = database.change(appointment, action=action, set={"notes": "x"}, business_id=business_id)
            assert outcome.name == "appointment_not_found"
    assert row(database, booked)["version"] == 1


def test_the_changes_of_a_batch_are_made_in_their_order(database: TestDatabase) -> None:
    """Each change sees the effects of those before it, and a refusal undoes none of the others."""
    database.make_service(capacity=1)
    one, two = database.book(10).id, database.book(11).id
    outcomes = database.call(
        "change",
        [
            change_request(one, set={"slot_start": at(11).isoformat()}),
            change_request(two, set={"slot_start": at(12).isoformat()}),
            change_request(one, set={"slot_start": at(11).isoformat()}, expected_version=1),
            change_request(one, set={"notes": "late"}, expected_version=1),
            change_request(str(uuid4()), action="cancel"),
            change_request(two, action="cancel"),
            change_request(one, set={"slot_start": at(12).isoformat()}),
        ],
    )
    expected = ["slot_unavailable", "done", "done", "version_conflict", "appointment_not_found", "done", "done"]
    assert names(outcomes) == expected
    assert [outcome.body.get("version") for outcome in outcomes if outcome.name == "done"] == [2, 2, 3, 3]


# Erasure and the audit trail.


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_erasure_removes_the_personal_data(database: TestDatabase, cancelled: bool) -> None:
    """Guest, notes, reason, fingerprint and metadata are erased; a confirmed appointment keeps its state and room."""
    database.make_service(capacity=1)
    request: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "a digest over the guest"}
    appointment = database.book(10, **GUEST, metadata={"client": "ada-7"}, **request).id
    if cancelled:
        database.change(appointment, action="cancel", reason="a broken leg")
    before = row(database, appointment)
    outcome = database.change(appointment, action="erase", expected_version=before["version"])
    assert outcome.name == "done"
    erased_columns = dict.fromkeys((*GUEST, "cancellation_reason", "fingerprint"))
    changed = {"version": before["version"] + 1, "updated_at": row(database, appointment)["updated_at"]}
    assert row(database, appointment) == {**before, **erased_columns, **changed, "metadata": {}}
    assert row(database, appointment)["status"] == ("cancelled" if cancelled else "confirmed")
    assert database.reserve(10).name == ("done" if cancelled else "slot_unavailable")
    erased = trail(database, appointment)[-1]
    named = {*GUEST, "metadata"} | ({"cancellation_reason"} if cancelled else set())
    assert (erased["action"], erased["changes"]) == ("erased", {name: {} for name in named})
    again = database.change(appointment, action="erase")
    assert (again.name, again.body) == ("done", outcome.body)


def test_an_erased_appointment_can_be_moved_and_cancelled(database: TestDatabase, booked: str) -> None:
    """Each change after the erasure has its version and audit row."""
    database.change(booked, action="erase")
    assert move(database, booked, 14).name == "done"
    assert database.change(booked, action="cancel").body["version"] == 4
    assert actions(database, booked) == [(1, "created"), (2, "erased"), (3, "rescheduled"), (4, "cancelled")]


def test_the_trail_has_actor_time_and_changed_fields(database: TestDatabase) -> None:
    """Each entry has the changed fields before and after; personal fields appear by name only."""
    database.make_service(resource_ids=["anna", "bert"], capacity=2)
    made = database.freeze_clock(at(0))
    appointment = database.book(10, resource_id="anna", **GUEST, request_id="r1").id
    later = database.freeze_clock(at(1))
    author = {"actor_kind": "staff", "actor_id": "desk", "request_id": "r2"}
    move(database, appointment, 12)
    database.change(appointment, set={"resource_id": "bert", "notes": "new", "guest_phone": None}, **author)
    database.change(appointment, action="cancel", reason="ill", actor_kind="guest", request_id="r3")
    created, moved, given, cancelled = trail(database, appointment)
    assert [datetime.fromisoformat(entry["at"]) for entry in (created, moved)] == [made, later]
    assert created["actor"] == {"kind": "guest", "id": None}
    assert (given["actor"], given["request_id"]) == ({"kind": "staff", "id": "desk"}, "r2")
    instants = {
        name: [datetime.fromisoformat(change[when]) for when in ("before", "after")]
        for name, change in moved["changes"].items()
    }
    assert instants == {"slot_start": [at(10), at(12)], "slot_end": [at(11), at(13)]}
    assert given["changes"] == {
        "resource_id": {"before": "anna", "after": "bert"},
        "notes": {},
        "guest_phone": {},
    }
    assert cancelled["changes"] == {
        "status": {"before": "confirmed", "after": "cancelled"},
        "cancellation_reason": {},
    }
    assert [entry["action"] for entry in (created, moved, given, cancelled)] == [
        "created",
        "rescheduled",
        "rescheduled",
        "cancelled",
    ]
    assert row(database, appointment)["updated_at"] == cancelled["at"]


def test_the_trail_never_has_personal_data(database: TestDatabase) -> None:
    """The trail outlives an erasure, so that no personal value may be stored in it."""
    database.make_service(capacity=9)
    secrets = [f"secret-{number}" for number in range(12)]
    texts: dict[str, Any] = dict(zip(GUEST, secrets[:4], strict=True))
    other: dict[str, Any] = dict(zip(GUEST, secrets[4:8], strict=True))
    held = database.commit(database.reserve(10).id, **texts, metadata={"m": secrets[8]}).id
    once = database.book(10, **texts, metadata={secrets[9]: 1}).id
    for appointment in (held, once):
        database.change(appointment, set={**other, "metadata": {"m": [secrets[10]]}})
        database.change(appointment, set=dict.fromkeys(texts))
        database.change(appointment, action="cancel", reason=secrets[11])
        database.change(appointment, action="erase")
    everything = json.dumps(database.rows("SELECT to_jsonb(l) FROM booking.audit_logs l"))
    assert everything.count('"erased"') == 2
    assert [text for text in secrets if text in everything] == []


# Lists of appointments.


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
    """An appointment that starts at the end of the range is left out, and so is one that started before it."""
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
