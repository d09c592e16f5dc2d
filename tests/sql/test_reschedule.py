"""booking.change with the action 'reschedule': guests move by the rules for the public, staff by room alone."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database import Outcome, TestDatabase, at, change_request, reserve_request
from tests.sql.calendars import SERVICES, Calendar, calendars, prepare
from tests.sql.catalog import delete_resource, delete_service
from tests.sql.changes import actions, move, slot_of, stored_appointment, trail
from tests.sql.listings import availability, available_days
from tests.sql.measuring import rolled_back
from tests.sql.requests import names

INSTANT = timedelta(microseconds=1)
# The settings of a service by nights, but for its times.
NIGHTS: dict[str, Any] = {
    **dict.fromkeys(("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes")),
    "duration_days": 1,
    "max_duration_days": 7,
}


def reschedule(
    database: TestDatabase, appointment_id: str, hour: float, *, actor_kind: str = "guest", **members: Any
) -> Outcome:
    """Moves an appointment, by its guest, to an hour on the Monday of the tests."""
    request = reschedule_request(appointment_id, hour, actor_kind=actor_kind, **members)
    return database.call("change", [request])[0]


def reschedule_request(
    appointment_id: str, hour: float, *, actor_kind: str = "guest", expected_version: int | None = None, **members: Any
) -> dict[str, Any]:
    """Returns a request to move an appointment to an hour on the Monday of the tests."""
    members = {"slot_start": at(hour).isoformat(), **members}
    return change_request(
        appointment_id, action="reschedule", actor_kind=actor_kind, expected_version=expected_version, set=members
    )


# The rules for the public.


def test_a_guest_moves_an_appointment(database: TestDatabase) -> None:
    """It keeps its length and guest; the old slot is free, and the audit trail names the guest."""
    database.make_service(capacity=1)
    appointment = database.book(10, 1.5).id
    moved = reschedule(database, appointment, 14, expected_version=1)
    assert (moved.name, slot_of(moved), moved.body["version"]) == ("done", (at(14), at(15.5)), 2)
    shortened = reschedule(database, appointment, 14, slot_end=at(15).isoformat())
    assert slot_of(shortened) == (at(14), at(15))
    assert [database.capacity(hour)["booked"] for hour in (10, 14)] == [0, 1]
    assert actions(database, appointment) == [(1, "created"), (2, "rescheduled"), (3, "rescheduled")]
    assert {entry["actor"]["kind"] for entry in trail(database, appointment)} == {"guest"}


NOTICE: dict[str, Any] = {"min_notice_minutes": 100 * 24 * 60}
SITUATIONS: dict[str, tuple[dict[str, Any], float, dict[str, Any], str]] = {
    "past": ({}, -24 * 60, {}, "past"),
    "too soon": (NOTICE, 14, {}, "too_soon"),
    "too far ahead": ({"max_advance_days": 1}, 14, {}, "too_far_ahead"),
    "too short": ({"min_duration_minutes": 60}, 14, {"slot_end": at(14.5).isoformat()}, "too_short"),
    "too long": ({"max_duration_minutes": 60}, 14, {"slot_end": at(16).isoformat()}, "too_long"),
    "off the grid": ({"starts_on_grid": True}, 14.5, {}, "off_grid"),
    "off the start times": ({"starts_on_grid": True, "start_times": ["09:00"]}, 14, {}, "off_grid"),
    "service closed to the public": ({"booking_enabled": False}, 14, {}, "not_online"),
    "outside of opening hours": ({}, 22, {}, "closed"),
    "in a closure": ({}, 16, {}, "closed"),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_guest_is_refused_for_the_reason_of_a_reserve(database: TestDatabase, situation: str) -> None:
    """The same slot, reserved by the public, has the same outcome; staff may move there."""
    settings, hour, members, reason = SITUATIONS[situation]
    database.make_service(capacity=9)
    appointment, other = database.book(10).id, database.book(10).id
    database.put_hours([(weekday, "06:00", "20:00") for weekday in range(1, 8)])
    database.put_closure("away", at(16), at(17))
    database.make_service(capacity=9, **settings)
    before = stored_appointment(database, appointment)
    refused = reschedule(database, appointment, hour, **members)
    assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": reason})
    end = members.get("slot_end", at(hour + 1).isoformat())
    reserved = database.reserve(hour, slot_end=end)
    assert (reserved.name, reserved.body) == (refused.name, refused.body)
    assert stored_appointment(database, appointment) == before
    for by_staff in (
        reschedule(database, appointment, hour, actor_kind="staff", **members),
        move(database, other, hour, **members),
    ):
        assert by_staff.name == "done"


def test_an_unknown_time_zone_is_reported(database: TestDatabase) -> None:
    """It comes before an unknown resource, as in the order of the codes."""
    database.make_service(resource_ids=["anna"])
    appointment = database.book(10).id
    database.make_service(resource_ids=["anna"], starts_on_grid=True)
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    for members in ({}, {"resource_id": "nobody"}):
        assert reschedule(database, appointment, 14, **members).name == "business_misconfigured"
    assert reschedule(database, appointment, 14, actor_kind="staff").name == "done"


def test_a_slot_that_is_taken_is_refused_and_the_old_one_kept(database: TestDatabase) -> None:
    """The refusal has the slot, for the search for alternatives; the own claim does not count."""
    database.make_service(capacity=1)
    appointment, rival = database.book(10).id, database.book(14).id
    refused = reschedule(database, appointment, 14)
    assert (refused.name, refused.body["service_id"], refused.body["quantity"]) == ("slot_unavailable", "cut", 1)
    assert database.reserve(10).name == "slot_unavailable"
    assert reschedule(database, appointment, 10.5).name == "done"
    assert stored_appointment(database, rival)["version"] == 1


@pytest.mark.parametrize(
    ("former", "present", "starts"), [(30, 0, [12, 16, 11, 17, 10]), (0, 30, [13, 15, 12, 16, 11])]
)
def test_the_alternatives_to_a_move_have_the_buffers_that_it_keeps(
    database: TestDatabase, former: int, present: int, starts: list[int]
) -> None:
    """The buffers of the service have changed since the booking: each alternative can be had, and none is left out."""
    for buffer in (former, present):
        database.make_service(capacity=1, buffer_before_minutes=buffer, buffer_after_minutes=buffer)
        if buffer == former:
            appointment = database.book(10).id
        if buffer == 0:
            database.book(14)
    assert reschedule(database, appointment, 14).name == "slot_unavailable"
    query = "SELECT slot_start FROM booking.alternatives('salon', 'cut', %s, %s, 1, NULL, %s)"
    assert database.rows(query, at(14), at(15), appointment) == [(at(hour),) for hour in starts]
    for hour in starts:
        with rolled_back(database):
            assert reschedule(database, appointment, hour).name == "done"


# The terms.


def test_a_guest_may_move_until_the_window_closes(database: TestDatabase) -> None:
    """At the instant itself a move is made; later only staff may. The refusal has the instant."""
    database.make_service(capacity=9, cancellation_window_minutes=600, reschedule_window_minutes=120)
    early, late = database.book(10).id, database.book(10).id
    database.freeze_clock(at(8))
    assert reschedule(database, early, 14).name == "done"
    database.freeze_clock(at(8) + INSTANT)
    refused = reschedule(database, late, 14)
    assert refused.name == "reschedule_window_closed"
    assert datetime.fromisoformat(refused.body["reschedulable_until"]) == at(8)
    assert reschedule(database, late, 14, actor_kind="staff").name == "done"


def test_the_window_is_by_default_the_one_to_cancel(database: TestDatabase) -> None:
    """It follows the slot that the appointment has now."""
    database.make_service(capacity=9, cancellation_window_minutes=60)
    appointment = database.book(10).id
    database.freeze_clock(at(9) + INSTANT)
    assert reschedule(database, appointment, 14).name == "reschedule_window_closed"
    assert move(database, appointment, 12).name == "done"
    assert reschedule(database, appointment, 14).name == "done"


def test_a_move_to_where_it_is_changes_nothing(database: TestDatabase) -> None:
    """So a retry under another operation id is answered, also when the window has closed and the slot is too soon."""
    database.make_service(resource_ids=["anna"])
    appointment = database.book(10).id
    database.make_service(resource_ids=["anna"], cancellation_window_minutes=60 * 24 * 366, **NOTICE)
    for members in ({}, {"resource_id": "anna"}, {"slot_end": at(11).isoformat()}):
        same = reschedule(database, appointment, 10, **members)
        assert (same.name, same.body["version"]) == ("done", 1)
    assert reschedule(database, appointment, 10, slot_end=at(10.5).isoformat()).name == "reschedule_window_closed"


@pytest.mark.parametrize("actor_kind", ["guest", "staff"])
@pytest.mark.parametrize("ending", ["cancelled", "completed", "no_show"])
def test_an_ended_appointment_is_not_moved(database: TestDatabase, booked: str, ending: str, actor_kind: str) -> None:
    """Not even to where it is, because it takes no room there."""
    now = database.freeze_clock()
    database.freeze_clock(at(10))
    database.change(booked, set={"status": ending})
    database.freeze_clock(now)
    for hour in (10, 14):
        outcome = reschedule(database, booked, hour, actor_kind=actor_kind)
        assert (outcome.name, outcome.body) == ("appointment_ended", {"appointment_status": ending})


def test_a_version_that_is_not_current_is_refused_first(database: TestDatabase, booked: str) -> None:
    """Before the window and the rules."""
    database.make_service(cancellation_window_minutes=60 * 24 * 366, booking_enabled=False)
    conflict = reschedule(database, booked, 14, expected_version=2)
    assert (conflict.name, conflict.body) == ("version_conflict", {"current_version": 1})
    assert reschedule(database, str(uuid4()), 14).name == "appointment_not_found"


def test_a_retry_has_one_effect(database: TestDatabase, booked: str) -> None:
    """The same operation gets the appointment as it is, also after the window has closed."""
    request = reschedule_request(booked, 14)
    [first] = database.call("change", [request])
    assert (first.name, first.body["version"]) == ("done", 2)
    database.make_service(cancellation_window_minutes=60 * 24 * 366)
    [again] = database.call("change", [request])
    assert (again.name, again.body["version"], slot_of(again)) == ("done", 2, (at(14), at(15)))
    assert actions(database, booked) == [(1, "created"), (2, "rescheduled")]


# Resources.


def test_a_guest_keeps_the_resource_unless_another_is_asked_for(database: TestDatabase, annas_appointment: str) -> None:
    """A start alone keeps Anna, a name takes that resource, and null any free one."""
    assert reschedule(database, annas_appointment, 14).body["resource_id"] == "anna"
    assert reschedule(database, annas_appointment, 14, resource_id="bert").body["resource_id"] == "bert"
    database.book(15, resource_id="bert")
    assert reschedule(database, annas_appointment, 15).name == "slot_unavailable"
    assert reschedule(database, annas_appointment, 15, resource_id=None).body["resource_id"] == "anna"
    for unknown in ("nobody", "cleo"):
        assert reschedule(database, annas_appointment, 14, resource_id=unknown).name == "resource_not_found"


def test_a_guest_gets_no_resource_that_the_public_cannot_book(database: TestDatabase, annas_appointment: str) -> None:
    """A closed resource, or one without public bookings, has the reasons of a reserve; null takes another one."""
    database.put_closure("away", at(14), at(15), "anna")
    refused = reschedule(database, annas_appointment, 14)
    assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": "closed"})
    assert reschedule(database, annas_appointment, 14, resource_id=None).body["resource_id"] == "bert"
    database.make_resource("bert", booking_enabled=False)
    refused = reschedule(database, annas_appointment, 16)
    assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": "not_online"})
    assert reschedule(database, annas_appointment, 16, resource_id=None).body["resource_id"] == "anna"


def test_a_resource_that_is_no_longer_there_is_replaced(database: TestDatabase, annas_appointment: str) -> None:
    """To another time the appointment moves to a resource of the pool as it is now."""
    delete_resource(database, "anna")
    assert reschedule(database, annas_appointment, 14).body["resource_id"] == "bert"


def test_an_appointment_is_shortened_in_its_place(database: TestDatabase) -> None:
    """It keeps its room and resource, whatever else is claimed, and by the rules for the public."""
    database.make_service(resource_ids=["anna", "bert"], capacity=2)
    appointment = database.book(10, 2, resource_id="anna").id
    database.book(10, 2, resource_id="bert")
    database.book(12, resource_id="anna")
    assert reschedule(database, appointment, 11).name == "slot_unavailable"
    shorter = reschedule(database, appointment, 11, slot_end=at(12).isoformat())
    assert (shorter.name, shorter.body["resource_id"]) == ("done", "anna")
    assert database.violations() == {}


def test_an_appointment_that_is_shortened_gets_a_resource_that_is_still_there(
    database: TestDatabase, annas_appointment: str
) -> None:
    """The public cannot book Anna any more: Bert takes it over, unless he is busy. Staff keep it with Anna."""
    delete_resource(database, "anna")
    with database.admin.transaction(force_rollback=True):
        database.book(10, resource_id="bert")
        refused = reschedule(database, annas_appointment, 10, slot_end=at(10.5).isoformat())
        assert (refused.name, refused.body["resource_id"]) == ("slot_unavailable", "bert")
    unchanged = reschedule(database, annas_appointment, 10, resource_id="anna")
    assert (unchanged.name, unchanged.body["version"]) == ("done", 1)
    shorter = reschedule(database, annas_appointment, 10, slot_end=at(10.75).isoformat(), actor_kind="staff")
    assert (shorter.name, shorter.body["resource_id"]) == ("done", "anna")
    shorter = reschedule(database, annas_appointment, 10, slot_end=at(10.5).isoformat())
    assert (shorter.name, shorter.body["resource_id"]) == ("done", "bert")


@pytest.mark.parametrize("end_time", ["09:00", "12:00", None])
@pytest.mark.parametrize("start_time", ["14:00", "16:00"])
def test_a_stay_keeps_its_nights_when_the_times_change(
    database: TestDatabase, start_time: str, end_time: str | None
) -> None:
    """Three nights are listed as three, and a start alone moves them, until the new time; to staff it is the length."""
    database.freeze_clock(datetime(2031, 3, 1, tzinfo=UTC))
    database.make_service("night", start_times=["14:00"], end_time="11:00", **NIGHTS)
    start, moved_start = datetime(2031, 3, 10, 13, tzinfo=UTC), datetime.fromisoformat(f"2031-03-28T{start_time}+01:00")
    end = start + timedelta(days=2, hours=21)
    slot: dict[str, Any] = {"slot_start": start.isoformat(), "slot_end": end.isoformat()}
    appointment = database.book(service_id="night", **slot).id
    database.put_service("night", start_times=[start_time], end_time=end_time, **NIGHTS)

    wanted: Any = {"service_id": "night", "appointment_id": appointment}
    [listed] = availability(database, moved_start, moved_start + timedelta(hours=1), **wanted).body["slots"]
    moved_end = datetime.fromisoformat(f"2031-03-31T{end_time or start_time}+02:00")
    assert datetime.fromisoformat(listed["slot_end"]) == moved_end
    by_staff = reschedule(database, appointment, 0, actor_kind="staff", slot_start=moved_start.isoformat())
    assert slot_of(by_staff) == (moved_start, moved_start + (end - start))
    assert reschedule(database, appointment, 0, actor_kind="staff", **slot).name == "done"
    by_guest = reschedule(database, appointment, 0, slot_start=moved_start.isoformat())
    assert slot_of(by_guest) == (moved_start, moved_end)


@pytest.mark.parametrize(
    ("times", "end", "new_times", "moved_end"),
    [
        (("00:00", None), "2031-03-12T00:00+01:00", ("09:00", "18:00"), "2031-03-31T18:00+02:00"),
        (("09:00", "18:00"), "2031-03-11T18:00+01:00", ("09:00", "24:00"), "2031-04-01T00:00+02:00"),
        (("09:00", "24:00"), "2031-03-12T00:00+01:00", ("09:00", "18:00"), "2031-03-31T18:00+02:00"),
        (("14:00", "00:00"), "2031-03-12T00:00+01:00", ("14:00", "11:00"), "2031-04-01T11:00+02:00"),
    ],
)
def test_a_rental_keeps_its_days_when_they_get_shorter_or_longer(
    database: TestDatabase,
    times: tuple[str, str | None],
    end: str,
    new_times: tuple[str, str | None],
    moved_end: str,
) -> None:
    """Two days stay two, of which the end is the nearest to the old one."""
    database.freeze_clock(datetime(2031, 3, 1, tzinfo=UTC))
    database.make_service("van", start_times=[times[0]], end_time=times[1], **NIGHTS)
    slot: dict[str, Any] = {"slot_start": f"2031-03-10T{times[0]}+01:00", "slot_end": end}
    appointment = database.book(service_id="van", **slot).id
    database.put_service("van", start_times=[new_times[0]], end_time=new_times[1], **NIGHTS)
    moved_start = datetime.fromisoformat(f"2031-03-30T{new_times[0]}+02:00")
    wanted: Any = {"service_id": "van", "appointment_id": appointment}
    [listed] = availability(database, moved_start, moved_start + timedelta(hours=1), **wanted).body["slots"]
    assert datetime.fromisoformat(listed["slot_end"]) == datetime.fromisoformat(moved_end)
    moved = reschedule(database, appointment, 0, slot_start=moved_start.isoformat())
    assert slot_of(moved) == (moved_start, datetime.fromisoformat(moved_end))


def test_a_guest_keeps_no_part_of_a_day(database: TestDatabase) -> None:
    """Four hours in a room that staff booked become no night by a move, and no length that the public can't book."""
    database.freeze_clock(datetime(2031, 3, 1, tzinfo=UTC))
    database.make_service("night", start_times=["14:00"], end_time="11:00", **{**NIGHTS, "max_duration_days": 2})
    checks: list[tuple[timedelta, str]] = [(timedelta(hours=4), "off_grid"), (timedelta(days=3), "too_long")]
    for length, reason in checks:
        start = datetime(2031, 3, 10, 13, tzinfo=UTC)
        slot: dict[str, Any] = {"slot_start": start.isoformat(), "slot_end": (start + length).isoformat()}
        appointment = database.book(service_id="night", manual=True, **slot).id
        moved_start = start + timedelta(days=5)
        refused = reschedule(database, appointment, 0, slot_start=moved_start.isoformat())
        assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": reason})
        wanted: Any = {"service_id": "night", "appointment_id": appointment}
        [listed] = availability(database, moved_start, moved_start + timedelta(hours=1), **wanted).body["slots"]
        assert datetime.fromisoformat(listed["slot_end"]) == moved_start + timedelta(hours=21)
        assert database.change(appointment, action="cancel").name == "done"


def test_a_service_that_is_not_offered_any_more_takes_no_moves(database: TestDatabase, booked: str) -> None:
    """Its appointments stay, and guests can still cancel them."""
    delete_service(database)
    refused = reschedule(database, booked, 14)
    assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": "not_online"})
    assert reschedule(database, booked, 14, actor_kind="staff").name == "done"
    assert database.change(booked, action="cancel", actor_kind="guest").name == "done"


def test_a_party_fits_the_resource_that_it_moves_to(database: TestDatabase) -> None:
    """As for a reserve, a resource with too few seats is refused."""
    for resource_id, seats in (("small", 2), ("large", 4)):
        database.make_resource(resource_id, seats=seats)
    database.put_service(resource_ids=["small", "large"], max_simultaneous_bookings=None)
    appointment = database.book(10, quantity=3).id
    assert reschedule(database, appointment, 14, resource_id="small").name == "validation_failed"
    assert reschedule(database, appointment, 14, resource_id=None).body["resource_id"] == "large"


# Batches.


def test_guests_and_staff_move_in_one_call(database: TestDatabase) -> None:
    """Each move is decided by its own rules, after those before it, in all businesses of the call."""
    requests: dict[str, list[dict[str, Any]]] = {}
    for business_id in ("salon", "clinic"):
        database.make_service(capacity=1, business_id=business_id)
        ids = [database.book(hour, business_id=business_id).id for hour in (9, 10, 11, 12)]
        database.make_service(capacity=1, business_id=business_id, starts_on_grid=True)
        requests[business_id] = [
            reschedule_request(ids[0], 14),
            reschedule_request(ids[1], 14),
            reschedule_request(ids[2], 15.5),
            reschedule_request(ids[3], 15.5, actor_kind="staff"),
        ]
    rows = database.rows(
        "SELECT operation_id::text, outcome FROM booking.execute(%s, %s::jsonb[], 'infinity')",
        list(requests),
        [json.dumps({"change": batch}) for batch in requests.values()],
    )
    outcomes = dict(rows)
    for batch in requests.values():
        found = [outcomes[request["operation_id"]] for request in batch]
        assert found == ["done", "slot_unavailable", "slot_not_bookable", "done"]


def test_a_call_decides_a_bounded_number_of_moves(database: TestDatabase) -> None:
    """One move of a business in each round; the moves left are deferred, refused ones included."""
    database.make_service(capacity=1)
    appointments = [database.book(hour).id for hour in range(20)]
    outcomes = names(database.call("change", [reschedule_request(i, hour + 30) for hour, i in enumerate(appointments)]))
    assert outcomes == ["done"] * 16 + ["deferred"] * 4


def test_the_list_for_a_move_counts_nothing_for_a_cancelled_appointment(database: TestDatabase) -> None:
    """It has no room to give up: another one has taken its slot."""
    database.make_service(capacity=1)
    cancelled = database.book(10).id
    database.change(cancelled, action="cancel")
    database.book(10)
    listed = availability(database, at(9), at(12), appointment_id=cancelled).body["slots"]
    assert [datetime.fromisoformat(slot["slot_start"]) for slot in listed] == [at(9), at(11)]


# One predicate.


@settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
@given(calendar=calendars())
def test_a_guest_may_move_exactly_where_the_public_may_reserve(database: TestDatabase, calendar: Calendar) -> None:
    """On random calendars, for each listed slot and resource: the same outcome and the same reason."""
    prepare(database, calendar)
    for service_id in SERVICES:
        slots = list(calendar.slots(service_id, calendar.window(service_id)).items())[:6]
        pool = calendar.pools[service_id]
        with rolled_back(database):
            far: dict[str, Any] = {"slot_start": "2040-01-02T12:00:00Z", "slot_end": "2040-01-02T13:00:00Z"}
            booked = database.book(manual=True, service_id=service_id, **far)
            if booked.name != "done":
                continue  # each resource of the pool is archived
            for starts, ends in slots:
                for resource_id in [None, *pool]:
                    slot = {"slot_start": starts.isoformat(), "slot_end": ends.isoformat()}
                    members: dict[str, Any] = {**slot, "resource_id": resource_id}
                    moving = change_request(booked.id, action="reschedule", actor_kind="guest", set=members)
                    reserving = reserve_request(service_id=service_id, **members)
                    answers = []
                    for verb, request in (("change", moving), ("reserve", reserving)):
                        with rolled_back(database):
                            [outcome] = database.call(verb, [request])
                        body = outcome.body.get("reason") if outcome.name == "slot_not_bookable" else None
                        answers.append((outcome.name, body))
                    assert answers[0] == answers[1], (service_id, starts, ends, resource_id)


@settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
@given(calendar=calendars(), nth=st.integers(0, 9))
def test_the_lists_for_a_move_have_exactly_the_slots_that_it_gets(
    database: TestDatabase, calendar: Calendar, nth: int
) -> None:
    """The appointment takes no room from itself, and keeps its buffers after those of the service have changed."""
    prepare(database, calendar)
    for service_id in SERVICES:
        window = calendar.window(service_id)
        free = availability(database, *window, service_id=service_id).body["slots"]
        with rolled_back(database):
            for slot in free[nth % len(free) :][:1] if free else []:
                own = {name: slot[name] for name in ("slot_start", "slot_end")}
                booked = database.book(service_id=service_id, **own)
                database.rows("UPDATE booking.services SET buffer_before_minutes = 25 - buffer_before_minutes")
                wanted: Any = {"service_id": service_id, "appointment_id": booked.id}
                listed = availability(database, *window, **wanted).body["slots"]
                resources = {datetime.fromisoformat(one["slot_start"]): one["resource_ids"] for one in listed}
                for starts, ends in calendar.slots(service_id, window).items():
                    for resource_id in [None, *calendar.pools[service_id]]:
                        to = {"slot_start": starts.isoformat(), "slot_end": ends.isoformat()}
                        with rolled_back(database):
                            moved = reschedule(database, booked.id, 0, resource_id=resource_id, **to)
                        is_listed = starts in resources and resource_id in [None, *resources[starts]]
                        assert (moved.name == "done") == is_listed, (own, to, resource_id, moved)
                dates = [start.astimezone(ZoneInfo(calendar.timezone)).date() for start in resources]
                for date in set(dates):
                    [day] = available_days(database, date, date, **wanted).body["days"]
                    assert day["slots"] >= dates.count(date)
