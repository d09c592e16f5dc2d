"""booking.change of the status: completed and no_show from the start on, and the way back to confirmed."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at, book_request, change_request
from tests.sql.catalog import delete_resource, delete_service, put_seats
from tests.sql.changes import actions, move, stored_appointment, trail
from tests.sql.requests import names

INSTANT = timedelta(microseconds=1)
ENDED = pytest.mark.parametrize("ended", ["completed", "no_show"])


def set_status(database: TestDatabase, appointment_id: str, status: str, **request: Any) -> Outcome:
    """Sets the status of an appointment."""
    return database.change(appointment_id, set={"status": status}, **request)


# From the start on.


@ENDED
def test_an_appointment_ends_from_its_start_on(database: TestDatabase, booked: str, ended: str) -> None:
    """The refusal before the start has the start, whatever the buffers; the room stays taken."""
    database.put_service(capacity=1, buffer_before_minutes=60)
    buffered = database.book(14).id
    for appointment, hour in ((booked, 10), (buffered, 14)):
        database.freeze_clock(at(hour) - INSTANT)
        outcome = set_status(database, appointment, ended)
        assert outcome.name == "appointment_not_started"
        assert datetime.fromisoformat(outcome.body["slot_start"]) == at(hour)
        assert stored_appointment(database, appointment)["version"] == 1
        assert database.capacity(hour)["available"] == 0
        database.freeze_clock(at(hour))
        assert set_status(database, appointment, ended).body["status"] == ended
        assert actions(database, appointment) == [(1, "created"), (2, ended)]
        assert database.capacity(hour)["available"] == 1


def test_the_start_is_that_of_the_present_slot(database: TestDatabase, booked: str) -> None:
    """An appointment that was moved ahead has not started yet."""
    move(database, booked, 12)
    database.freeze_clock(at(11))
    assert set_status(database, booked, "completed").name == "appointment_not_started"
    move(database, booked, 9)
    assert set_status(database, booked, "completed").name == "done"


def test_a_cancellation_needs_no_start(database: TestDatabase, booked: str) -> None:
    """Only completed and no_show wait for the start."""
    assert set_status(database, booked, "cancelled").body["status"] == "cancelled"


def test_a_version_conflict_comes_before_the_start(database: TestDatabase, booked: str) -> None:
    """The caller's view is out of date: what it would be refused for may have changed."""
    assert set_status(database, booked, "no_show", expected_version=2).name == "version_conflict"


# The way back.


@ENDED
def test_an_ended_appointment_is_taken_back(database: TestDatabase, booked: str, ended: str) -> None:
    """The way back is a change like others: version, audit row, expected version, retry; and it takes its room."""
    before = stored_appointment(database, booked)
    database.freeze_clock(at(10.5))
    set_status(database, booked, ended)
    assert set_status(database, booked, "confirmed", expected_version=1).name == "version_conflict"
    request = change_request(booked, set={"status": "confirmed"}, expected_version=2)
    for _ in range(2):
        [outcome] = database.call("change", [request])
        assert (outcome.name, outcome.body["status"], outcome.body["version"]) == ("done", "confirmed", 3)
    assert actions(database, booked) == [(1, "created"), (2, ended), (3, "confirmed")]
    assert trail(database, booked)[-1]["changes"] == {"status": {"before": ended, "after": "confirmed"}}
    assert database.book(10, manual=True).name == "slot_unavailable"
    after = stored_appointment(database, booked)
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed == {"version", "updated_at"}
    assert set_status(database, booked, "no_show").body["version"] == 4
    assert database.book(10, manual=True).name == "done"


@ENDED
@pytest.mark.parametrize("rival", ["held", "booked"])
def test_the_way_back_needs_room(database: TestDatabase, ended: str, rival: str) -> None:
    """The refusal has the slot, and changes nothing; when the rival is gone there is room again."""
    database.make_service(capacity=3)
    appointment = database.book(10, 2, quantity=2).id
    database.freeze_clock(at(10))
    set_status(database, appointment, ended)
    taken = (database.reserve if rival == "held" else database.book)(11, quantity=2).id
    outcome = set_status(database, appointment, "confirmed")
    assert outcome.name == "slot_unavailable"
    slot = {name: outcome.body[name] for name in ("service_id", "quantity", "resource_id")}
    assert slot == {"service_id": "cut", "quantity": 2, "resource_id": None}
    assert stored_appointment(database, appointment)["status"] == ended
    assert actions(database, appointment)[-1] == (2, ended)
    if rival == "held":
        database.release(taken)
    else:
        database.change(taken, action="cancel")
    assert set_status(database, appointment, "confirmed").name == "done"
    assert database.capacity(10, 2)["available"] == 1


def test_the_way_back_takes_the_room_of_an_expired_hold(database: TestDatabase, booked: str) -> None:
    """The hold is ended, so that a clock that is set back does not revive it."""
    now = database.freeze_clock(at(10))
    set_status(database, booked, "no_show")
    hold = database.reserve(10, ttl_minutes=1).id
    assert set_status(database, booked, "confirmed").name == "slot_unavailable"
    database.freeze_clock(now + timedelta(minutes=1))
    assert set_status(database, booked, "confirmed").name == "done"
    assert database.status(hold) == "expired"


def test_the_way_back_of_a_past_slot_needs_a_free_resource_and_no_room(database: TestDatabase) -> None:
    """A claim of the past competes with none but those of the same resource."""
    database.make_service(capacity=1)
    database.make_service("perm", resource_ids=["anna"])
    plain = database.book(10).id
    annas = database.book(10, service_id="perm").id
    database.freeze_clock(at(10))
    for appointment in (plain, annas):
        set_status(database, appointment, "no_show")
    database.book(10, manual=True)
    database.book(10.5, service_id="perm", manual=True)
    database.freeze_clock(at(20))
    assert set_status(database, plain, "confirmed").name == "done"
    assert set_status(database, annas, "confirmed").name == "slot_unavailable"


def test_cancelled_is_final(database: TestDatabase, booked: str) -> None:
    """The guest may have been notified: a new appointment is made instead."""
    database.freeze_clock(at(10))
    database.change(booked, action="cancel")
    for status in ("confirmed", "completed", "no_show"):
        outcome = set_status(database, booked, status)
        assert (outcome.name, outcome.body) == ("appointment_ended", {"appointment_status": "cancelled"})


@ENDED
def test_an_ended_status_is_replaced_by_way_of_confirmed(database: TestDatabase, booked: str, ended: str) -> None:
    """Neither another ended status nor a slot can be set in the same step."""
    database.freeze_clock(at(10))
    set_status(database, booked, ended)
    other = {"completed": "no_show", "no_show": "completed"}[ended]
    moved: list[dict[str, Any]] = [{"slot_start": at(14).isoformat()}, {"slot_end": at(12).isoformat()}]
    moved += [{"quantity": 2}, {"resource_id": "anna"}]
    for members in ({"status": other}, {"status": "cancelled"}, *({"status": "confirmed", **more} for more in moved)):
        assert database.change(booked, set=members).name == "appointment_ended", members
    unchanged = {"slot_start": at(10).isoformat(), "slot_end": at(11).isoformat(), "quantity": 1}
    assert database.change(booked, set={"status": "confirmed", **unchanged, "notes": "came late"}).name == "done"
    assert set_status(database, booked, other).body["status"] == other
    assert actions(database, booked)[1:] == [(2, ended), (3, "confirmed"), (4, other)]


# The resource.


def test_the_way_back_keeps_its_resource_or_is_refused(database: TestDatabase, annas_appointment: str) -> None:
    """The appointment was promised with this resource, so that another free one does not replace it."""
    database.freeze_clock(at(10))
    set_status(database, annas_appointment, "no_show")
    rival = database.book(10.5, service_id="perm", resource_id="anna").id
    outcome = set_status(database, annas_appointment, "confirmed")
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable", "anna")
    database.change(rival, action="cancel")
    assert set_status(database, annas_appointment, "confirmed").body["resource_id"] == "anna"
    assert database.reserve(10, resource_id="anna").name == "slot_unavailable"


@pytest.mark.parametrize("left_by", ["archived", "removed"])
@pytest.mark.parametrize("busy", [False, True], ids=["another is free", "another is busy"])
def test_the_way_back_gives_nothing_to_a_resource_that_left(
    database: TestDatabase, annas_appointment: str, left_by: str, busy: bool
) -> None:
    """The appointment gets a resource of the pool as it is now, or is refused."""
    database.freeze_clock(at(10))
    set_status(database, annas_appointment, "completed")
    if left_by == "archived":
        delete_resource(database)
    else:
        database.put_service(resource_ids=["bert"])
    if busy:
        database.book(10, resource_id="bert")
    outcome = set_status(database, annas_appointment, "confirmed")
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable" if busy else "done", "bert")
    if not busy:
        assert trail(database, annas_appointment)[-1]["changes"]["resource_id"] == {"before": "anna", "after": "bert"}


def test_the_way_back_without_any_resource_left_is_refused(database: TestDatabase) -> None:
    """An appointment is never confirmed without the resource that its service needs."""
    database.make_service(resource_ids=["anna"])
    appointment = database.book(10).id
    database.freeze_clock(at(10))
    set_status(database, appointment, "completed")
    delete_resource(database)
    assert set_status(database, appointment, "confirmed").name == "slot_unavailable"


def test_the_way_back_of_a_claim_from_before_the_pool_takes_a_resource(database: TestDatabase) -> None:
    """It is refused while none is free, though the capacity of the service has room."""
    database.make_service()
    appointment = database.book(10).id
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    database.freeze_clock(at(10))
    set_status(database, appointment, "completed")
    rival = database.book(10, service_id="perm").id
    assert set_status(database, appointment, "confirmed").name == "slot_unavailable"
    database.change(rival, action="cancel")
    assert set_status(database, appointment, "confirmed").body["resource_id"] == "anna"


def test_the_way_back_into_a_session_takes_its_seats(database: TestDatabase) -> None:
    """A claim of the same window shares the resource up to its seats; another window of it is a conflict."""
    put_seats_of_kim(database)
    first, second = (database.book(10, quantity=2, service_id="yoga").id for _ in range(2))
    database.freeze_clock(at(10))
    set_status(database, first, "no_show")
    assert set_status(database, first, "confirmed").name == "done"
    set_status(database, first, "no_show")
    database.book(10, quantity=1, service_id="yoga")
    assert set_status(database, first, "confirmed").name == "slot_unavailable"
    set_status(database, second, "no_show")
    assert set_status(database, first, "confirmed").name == "done"


def put_seats_of_kim(database: TestDatabase) -> None:
    """Makes a class of four seats, taught by Kim."""
    database.make_business()
    put_seats(database, "kim", 4)
    database.make_service("yoga", resource_ids=["kim"], resource_sharing="session", max_simultaneous_bookings=None)


def test_the_way_back_is_possible_in_an_archived_service(database: TestDatabase, booked: str) -> None:
    """The offer has ended, and what happened can still be corrected."""
    database.freeze_clock(at(10))
    set_status(database, booked, "no_show")
    delete_service(database)
    assert set_status(database, booked, "confirmed").name == "done"


# In a batch.


def test_of_two_appointments_that_need_the_same_room_one_is_taken_back(database: TestDatabase) -> None:
    """Within one call, the first gets the room and the second is refused."""
    database.make_service(capacity=1)
    ids = []
    database.freeze_clock(at(10))
    for _ in range(2):
        ids.append(database.book(10).id)
        set_status(database, ids[-1], "no_show")
    outcomes = database.call("change", [change_request(name, set={"status": "confirmed"}) for name in ids])
    assert names(outcomes) == ["done", "slot_unavailable"]


def test_a_batch_ends_takes_back_and_ends_again(database: TestDatabase, booked: str) -> None:
    """Each change sees the status that the one before it set, and a claim of the same batch sees the room."""
    database.freeze_clock(at(10))
    statuses = ["no_show", "confirmed", "completed", "confirmed", "completed"]
    outcomes = database.call("change", [change_request(booked, set={"status": status}) for status in statuses])
    assert [outcome.body["status"] for outcome in outcomes] == statuses
    assert [action for _, action in actions(database, booked)] == ["created", *statuses]
    assert database.call("book", [book_request(10)])[0].name == "done"
