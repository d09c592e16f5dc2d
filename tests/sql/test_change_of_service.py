"""booking.change: an appointment gets another service, with the room, length, buffers and resources of that one."""

from datetime import timedelta
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at
from tests.sql.catalog import delete_service
from tests.sql.changes import actions, slot_of, stored_appointment, trail
from tests.sql.requests import GUEST

MINUTE = timedelta(minutes=1)


def to(database: TestDatabase, appointment_id: str, service_id: str, **members: Any) -> Outcome:
    """Changes the service of an appointment."""
    return database.change(appointment_id, set={"service_id": service_id, **members})


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes two services without resources, of one and of two hours, each for one guest."""
    database.make_service()
    database.make_service("perm", duration_minutes=120, buffer_before_minutes=10, buffer_after_minutes=20)
    return database


def test_it_gets_the_length_and_the_buffers_of_its_service(salon: TestDatabase) -> None:
    """A new end in the same change overrides the length; the guest, the version and the trail go on."""
    appointment = salon.book(10, **GUEST).id
    changed = to(salon, appointment, "perm")
    assert (changed.name, changed.body["service_id"], slot_of(changed)) == ("done", "perm", (at(10), at(12)))
    assert (changed.body["guest_email"], changed.body["version"]) == (GUEST["guest_email"], 2)
    occupied = salon.value("SELECT occupied FROM booking.appointments")
    assert (occupied.lower, occupied.upper) == (at(10) - 10 * MINUTE, at(12) + 20 * MINUTE)
    moved = to(salon, appointment, "cut", slot_start=at(14).isoformat(), slot_end=at(14.5).isoformat())
    assert slot_of(moved) == (at(14), at(14.5))
    occupied = salon.value("SELECT occupied FROM booking.appointments")
    assert (occupied.lower, occupied.upper) == (at(14), at(14.5))
    assert actions(salon, appointment) == [(1, "created"), (2, "rescheduled"), (3, "rescheduled")]
    [_, first, _] = trail(salon, appointment)
    assert first["changes"]["service_id"] == {"before": "cut", "after": "perm"}
    assert salon.violations() == {}


def test_it_needs_room_in_its_new_service(salon: TestDatabase) -> None:
    """Its old claim does not count there, also where the new service has a claim of the same window."""
    salon.make_service("trim")
    appointment = salon.book(10).id
    salon.book(10, service_id="trim")
    refused = to(salon, appointment, "trim")
    assert refused.name == "slot_unavailable"
    assert refused.body["service_id"] == "trim"
    assert stored_appointment(salon, appointment)["service_id"] == "cut"
    salon.book(11, service_id="perm")
    assert to(salon, appointment, "perm").name == "slot_unavailable"
    assert salon.book(10).name == "slot_unavailable"
    assert to(salon, appointment, "perm", slot_start=at(14).isoformat()).name == "done"
    assert salon.book(10).name == "done"
    assert salon.book(15, service_id="perm").name == "slot_unavailable"
    assert salon.capacity(14, 2, "perm") == {"capacity": 1, "held": 0, "booked": 1, "available": 0}


def test_it_keeps_its_resource_if_that_serves_it(database: TestDatabase) -> None:
    """Its own claim does not stand in the way of the longer slot on the same resource, but that of another one does."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"], duration_minutes=120)
    appointment = database.book(10, resource_id="bert").id
    changed = to(database, appointment, "perm")
    assert (changed.name, changed.body["resource_id"], slot_of(changed)) == ("done", "bert", (at(10), at(12)))
    other = database.book(13, resource_id="bert").id
    assert to(database, appointment, "perm", slot_start=at(12).isoformat()).name == "slot_unavailable"
    anywhere = to(database, other, "perm", resource_id=None)
    assert (anywhere.name, anywhere.body["resource_id"]) == ("done", "bert")
    assert database.violations() == {}


def test_it_gets_a_resource_of_its_service_if_it_needs_one(database: TestDatabase) -> None:
    """From a service without resources, and from one whose resource is not in the pool; and it loses it."""
    database.make_service("talk")
    database.make_service("cut", resource_ids=["anna"])
    database.make_service("wash", resource_ids=["bert", "cleo"])
    appointment = database.book(10, service_id="talk").id
    assert to(database, appointment, "cut").body["resource_id"] == "anna"
    assert to(database, appointment, "wash", resource_id="cleo").body["resource_id"] == "cleo"
    assert to(database, appointment, "cut", resource_id="cleo").name == "resource_not_found"
    assert to(database, appointment, "cut").body["resource_id"] == "anna"
    assert to(database, appointment, "talk").body["resource_id"] is None
    assert to(database, appointment, "wash", quantity=2).body["field"] == "quantity"
    assert database.book(10, service_id="cut").name == "done"
    assert database.violations() == {}


def test_a_session_is_shared_by_those_of_its_service(database: TestDatabase) -> None:
    """Two bookings of one window and one resource of different services are no session: the second needs another."""
    session: dict[str, Any] = {"resource_sharing": "session", "capacity": 4, "max_simultaneous_bookings": None}
    database.make_resource("hall", seats=4)
    database.make_service("yoga", resource_ids=["hall"], **session)
    database.make_service("dance", resource_ids=["hall"], **session)
    first, second = (database.book(10, service_id="yoga").id for _ in range(2))
    assert to(database, first, "dance").name == "slot_unavailable"
    assert to(database, first, "dance", slot_start=at(12).isoformat()).name == "done"
    assert to(database, second, "dance", slot_start=at(12).isoformat()).name == "done"
    assert database.violations() == {}


def test_a_service_by_days_sets_its_days(database: TestDatabase) -> None:
    """From the start that it has; with an unknown time zone the end cannot be computed."""
    database.make_service()
    minutes = ("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes")
    stay: dict[str, Any] = {**dict.fromkeys(minutes), "duration_days": 2}
    database.make_service("stay", **stay)
    appointment = database.book(10).id
    start, end = slot_of(to(database, appointment, "stay"))
    assert (start, end - start) == (at(10), timedelta(days=2))
    assert slot_of(to(database, appointment, "cut")) == (at(10), at(11))
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert to(database, appointment, "stay").name == "business_misconfigured"


def test_unknown_and_archived_services_are_refused(salon: TestDatabase) -> None:
    """An appointment of an archived service can name it, and can leave it, but not come back."""
    appointment = salon.book(10).id
    salon.book(16, service_id="perm")
    assert to(salon, appointment, "nothing").name == "service_not_found"
    assert delete_service(salon, "perm") == "done"
    assert to(salon, appointment, "perm").name == "service_not_found"
    salon.make_service("trim")
    assert delete_service(salon, "cut") == "done"
    assert to(salon, appointment, "cut", notes="x").name == "done"
    assert to(salon, appointment, "trim").name == "done"
    assert to(salon, appointment, "cut").name == "service_not_found"


def test_the_service_of_an_ended_appointment_is_final(salon: TestDatabase) -> None:
    """As its slot; the version is checked before."""
    appointment = salon.book(10).id
    assert to(salon, appointment, "cut").body["version"] == 1
    salon.change(appointment, action="cancel")
    assert salon.change(appointment, set={"service_id": "perm"}, expected_version=1).name == "version_conflict"
    assert to(salon, appointment, "perm").name == "appointment_ended"


def test_a_repeated_operation_has_one_effect(salon: TestDatabase) -> None:
    """The second call answers with the appointment as it is now."""
    appointment = salon.book(10).id
    request = {
        "operation_id": "5f771b07-4d4a-4d5e-9e8a-a3d9a553b2e5",
        "appointment_id": appointment,
        "action": "change",
        "actor_kind": "staff",
        "set": {"service_id": "perm"},
    }
    for _ in range(2):
        [outcome] = salon.call("change", [request])
        assert (outcome.name, outcome.body["version"]) == ("done", 2)


def test_staff_are_warned_by_the_rules_of_the_new_service(salon: TestDatabase) -> None:
    """Its lengths and its horizon are checked as those of a new booking."""
    salon.put_service("perm", duration_minutes=120, min_duration_minutes=120, max_duration_minutes=120)
    salon.put_service("trim", max_advance_days=1)
    appointment = salon.book(10).id
    assert "warnings" not in to(salon, appointment, "perm").body
    changed = to(salon, appointment, "cut", slot_end=at(10.5).isoformat())
    assert "warnings" not in changed.body
    changed = to(salon, appointment, "perm", slot_end=at(10.5).isoformat())
    assert changed.body["warnings"] == [{"code": "too_short"}]
    assert to(salon, appointment, "trim").body["warnings"] == [{"code": "too_far_ahead"}]


def test_alternatives_leave_its_own_claim_out(database: TestDatabase) -> None:
    """A refused change is offered slots of the new service, beside its own claim on a shared resource."""
    database.make_service(resource_ids=["anna"])
    database.make_service("perm", resource_ids=["anna"], duration_minutes=120, slot_step_minutes=60)
    appointment = database.book(10).id
    database.book(11)
    assert to(database, appointment, "perm").name == "slot_unavailable"
    starts = database.rows(
        "SELECT slot_start FROM booking.alternatives('salon', 'perm', %s, %s, 1, 'anna', %s)",
        *(at(10), at(12), appointment),
    )
    assert (at(9),) in starts


def test_alternatives_have_the_buffers_of_the_new_service(salon: TestDatabase) -> None:
    """Those with which the appointment was made are no longer in force."""
    salon.put_service("perm", buffer_after_minutes=30, slot_step_minutes=30)
    appointment = salon.book(10).id
    salon.book(10, service_id="perm")
    assert to(salon, appointment, "perm").name == "slot_unavailable"
    starts = salon.rows(
        "SELECT slot_start FROM booking.alternatives('salon', 'perm', %s, NULL, 1, NULL, %s)", at(10), appointment
    )
    assert (at(8.5),) in starts
    assert (at(9),) not in starts
