"""booking.change: appointments are ended, edited and erased, with one audit row for each version."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.database import TestDatabase, at, change_request
from tests.sql.changes import actions, move, stored_appointment, trail
from tests.sql.requests import GUEST, names

INSTANT = timedelta(microseconds=1)
ENDINGS = ["cancelled", "completed", "no_show"]


# Ended states.


@pytest.mark.parametrize("ending", ENDINGS)
def test_ended_states_are_final(database: TestDatabase, booked: str, ending: str) -> None:
    """An ended appointment refuses another state, slot, quantity or resource; its texts may still be edited.

    The way back to `confirmed` is an exception: see test_statuses.py.
    """
    database.freeze_clock(at(10))
    assert database.change(booked, set={"status": ending}).body["status"] == ending
    members_to_refuse: list[dict[str, Any]] = [{"status": status} for status in ENDINGS if status != ending]
    if ending == "cancelled":
        members_to_refuse.append({"status": "confirmed"})
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
    database.freeze_clock(at(10))
    database.change(booked, set={"status": ending})
    for actor_kind in ("guest", "staff"):
        outcome = database.change(booked, action="cancel", actor_kind=actor_kind)
        assert (outcome.name, outcome.body) == ("appointment_ended", {"appointment_status": ending})


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ended_appointment_occupies_nothing(database: TestDatabase, annas_appointment: str, ending: str) -> None:
    """Service and resource are free as soon as the change is made."""
    database.freeze_clock(at(10))
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
    assert stored_appointment(database, late)["status"] == "confirmed"
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
    before = stored_appointment(database, booked)
    for action in ("change", "cancel", "erase"):
        for version in (1, 3):
            outcome = database.change(booked, action=action, set={"notes": "two"}, expected_version=version)
            assert (outcome.name, outcome.body) == ("version_conflict", {"current_version": 2})
    assert stored_appointment(database, booked) == before
    assert database.change(booked, set={"notes": "three"}).body["version"] == 3
    assert database.change(booked, action="cancel", expected_version=3).body["version"] == 4


def test_a_change_without_a_difference_changes_nothing(database: TestDatabase, booked: str) -> None:
    """Version, time of the last change and audit trail stay the same."""
    before = stored_appointment(database, booked)
    everything = {
        name: before[name]
        for name in (*GUEST, "metadata", "slot_start", "slot_end", "quantity", "status", "resource_id")
    }
    for members in ({}, {"slot_start": at(10).isoformat()}, {"notes": GUEST["notes"]}, everything):
        outcome = database.change(booked, set=members, expected_version=1)
        assert (outcome.name, outcome.body["version"]) == ("done", 1)
    assert stored_appointment(database, booked) == before
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
    after = stored_appointment(database, booked)
    for request in (*requests, *reversed(requests)):
        [again] = database.call("change", [request])
        assert (again.name, again.body["version"]) == ("done", 5)
    assert stored_appointment(database, booked) == after
    assert [entry["version"] for entry in trail(database, booked)] == [1, 2, 3, 4, 5]


def test_an_unknown_appointment_is_not_found(database: TestDatabase, booked: str) -> None:
    """An id of another business is unknown as well."""
    database.make_service(business_id="clinic")
    for business_id, appointment in (("salon", str(uuid4())), ("clinic", booked), ("nobody", booked)):
        for action in ("change", "cancel", "erase"):
            outcome = database.change(appointment, action=action, set={"notes": "x"}, business_id=business_id)
            assert outcome.name == "appointment_not_found"
    assert stored_appointment(database, booked)["version"] == 1


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


def test_a_cancellation_behind_a_move_makes_room_for_it(database: TestDatabase) -> None:
    """The changes of one call that free room come first, whatever their order."""
    database.make_service(capacity=1)
    one, two = database.book(10).id, database.book(11).id
    requests = [change_request(one, set={"slot_start": at(11).isoformat()}), change_request(two, action="cancel")]
    assert names(database.call("change", requests)) == ["done", "done"]


# Erasure and the audit trail.


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_erasure_removes_the_personal_data(database: TestDatabase, cancelled: bool) -> None:
    """Guest, notes, reason, fingerprint and metadata are erased; a confirmed appointment keeps its state and room."""
    database.make_service(capacity=1)
    request: dict[str, Any] = {"idempotency_key": "k", "fingerprint": "a digest over the guest"}
    appointment = database.book(10, **GUEST, metadata={"client": "ada-7"}, **request).id
    if cancelled:
        database.change(appointment, action="cancel", reason="a broken leg")
    before = stored_appointment(database, appointment)
    outcome = database.change(appointment, action="erase", expected_version=before["version"])
    assert outcome.name == "done"
    erased_columns = dict.fromkeys((*GUEST, "cancellation_reason", "fingerprint"))
    changed = {"version": before["version"] + 1, "updated_at": stored_appointment(database, appointment)["updated_at"]}
    assert stored_appointment(database, appointment) == {**before, **erased_columns, **changed, "metadata": {}}
    assert stored_appointment(database, appointment)["status"] == ("cancelled" if cancelled else "confirmed")
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
    """Each entry has the changed fields before and after; personal fields appear by name only. A key has its name."""
    database.make_service(resource_ids=["anna", "bert"], capacity=2)
    for key_id in ("desk", "office"):
        create_key = "SELECT booking.create_key('salon', %s, %s, 'staff', sha256('k'), NULL, 'infinity')"
        database.rows(create_key, key_id, key_id.title())
    created_at = database.freeze_clock(at(0))
    appointment = database.book(10, resource_id="anna", **GUEST, request_id="r1").id
    later = database.freeze_clock(at(1))
    author = {"actor_kind": "staff", "actor_id": "desk", "request_id": "r2"}
    move(database, appointment, 12)
    database.change(appointment, set={"resource_id": "bert", "notes": "new", "guest_phone": None}, **author)
    database.change(appointment, action="cancel", reason="ill", actor_kind="guest", request_id="r3")
    created, moved, reassigned, cancelled = trail(database, appointment)
    assert [datetime.fromisoformat(entry["at"]) for entry in (created, moved)] == [created_at, later]
    assert created["actor"] == {"kind": "guest", "id": None, "name": None}
    assert (reassigned["actor"], reassigned["request_id"]) == ({"kind": "staff", "id": "desk", "name": "Desk"}, "r2")
    instants = {
        name: [datetime.fromisoformat(change[when]) for when in ("before", "after")]
        for name, change in moved["changes"].items()
    }
    assert instants == {"slot_start": [at(10), at(12)], "slot_end": [at(11), at(13)]}
    assert reassigned["changes"] == {
        "resource_id": {"before": "anna", "after": "bert"},
        "notes": {},
        "guest_phone": {},
    }
    assert cancelled["changes"] == {
        "status": {"before": "confirmed", "after": "cancelled"},
        "cancellation_reason": {},
    }
    assert [entry["action"] for entry in (created, moved, reassigned, cancelled)] == [
        "created",
        "rescheduled",
        "rescheduled",
        "cancelled",
    ]
    assert stored_appointment(database, appointment)["updated_at"] == cancelled["at"]


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
