"""Bookings and moves of the business itself: the rules for the public do not bind it, but it is warned of each."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.database import Outcome, TestDatabase, at, book_request
from tests.sql.catalog import put_seats, put_special_hours
from tests.sql.changes import move

# Hours in UTC at which the salon is open, and closed, in winter and in summer: Berlin is one or two hours ahead.
MORNING, LUNCH = 8, 11
CLOSED = [("closed", None)]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a salon with a lunch break, and a service of an hour with two resources, one of them with own hours."""
    database.make_service(
        resource_ids=["anna", "bert"], min_duration_minutes=None, max_duration_minutes=None, max_advance_days=60
    )
    entries = (("08:00", "12:00"), ("14:00", "18:00"))
    hours = [(weekday, *entry) for weekday in range(1, 8) for entry in entries]
    database.put_hours([*hours, {"weekday": 2, "opens": "08:00", "closes": "18:00", "resource_id": "bert"}])
    return database


def warnings(outcome: Outcome) -> list[tuple[str, str | None]]:
    """Returns the code and the resource of each warning."""
    assert outcome.name == "done", outcome
    assert outcome.body.get("warnings") != []
    return [(warning["code"], warning.get("resource_id")) for warning in outcome.body.get("warnings", [])]


def test_a_slot_within_the_rules_has_no_warning(salon: TestDatabase) -> None:
    """Neither when it is made nor when it is moved to another one; the member is absent."""
    booked = salon.book(MORNING, manual=True, resource_id="anna")
    assert "warnings" not in booked.body
    for outcome in (
        move(salon, booked.id, MORNING - 0.5),
        move(salon, booked.id, 14),
        move(salon, booked.id, 24 + MORNING, resource_id="bert"),
        salon.change(booked.id, set={"notes": "x"}),
    ):
        assert outcome.name == "done"
        assert "warnings" not in outcome.body


def test_hours_closures_and_holidays_are_named(salon: TestDatabase) -> None:
    """Of the business without a resource, and of the resource with its id; both at once are two warnings."""
    assert warnings(salon.book(LUNCH, manual=True, resource_id="anna")) == CLOSED
    assert warnings(salon.book(MORNING, manual=True, resource_id="bert")) == [("closed", "bert")]
    booked = salon.book(14, manual=True, resource_id="anna").id
    assert warnings(move(salon, booked, 24 * 2 + LUNCH)) == CLOSED
    assert warnings(salon.change(booked, set={"resource_id": "bert"})) == [*CLOSED, ("closed", "bert")]
    put_special_hours(salon, "holiday", at(24 * 3).date().isoformat(), [])
    assert warnings(move(salon, booked, 24 * 3 + MORNING, resource_id="anna")) == CLOSED
    salon.put_closure("trip", at(24 * 4), at(24 * 5), "anna")
    assert warnings(move(salon, booked, 24 * 4 + MORNING)) == [("closed", "anna")]


def test_notice_horizon_and_past_are_named(salon: TestDatabase) -> None:
    """By the start of the slot; the hours are checked beside them."""
    salon.put_service(resource_ids=["anna", "bert"], min_notice_minutes=180, max_advance_days=7)
    salon.freeze_clock(at(MORNING))
    request: dict[str, Any] = {"manual": True, "resource_id": "anna"}
    assert warnings(salon.book(MORNING - 1, **request)) == [("past", None)]
    assert warnings(salon.book(MORNING, **request)) == [("too_soon", None)]
    assert warnings(salon.book(LUNCH - 0.5, **request)) == [*CLOSED, ("too_soon", None)]
    assert warnings(salon.book(24 * 8 + MORNING, **request)) == [("too_far_ahead", None)]


def test_lengths_and_the_grid_are_named(salon: TestDatabase) -> None:
    """A length only where it changes, and the grid only for a new start."""
    settings: dict[str, Any] = {"resource_ids": ["anna", "bert"], "slot_step_minutes": 60, "starts_on_grid": True}
    salon.put_service(**settings, min_duration_minutes=60, max_duration_minutes=60)
    outcome = salon.book(MORNING + 0.25, 0.5, manual=True, resource_id="anna")
    assert warnings(outcome) == [("off_grid", None), ("too_short", None)]
    assert warnings(move(salon, outcome.id, 24 + MORNING)) == []
    end = at(24 + MORNING + 1.25).isoformat()
    assert warnings(salon.change(outcome.id, set={"slot_end": end})) == [("too_long", None)]
    assert warnings(salon.change(outcome.id, set={"slot_end": at(24 + MORNING + 1).isoformat()})) == []
    assert warnings(move(salon, outcome.id, 24 + MORNING + 0.25)) == [("off_grid", None)]


def test_a_slot_of_days_is_checked_by_its_days(salon: TestDatabase) -> None:
    """A stay that is moved keeps its nights; another number of them, or half a day, is named once."""
    minutes = ("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes")
    night: dict[str, Any] = {
        **dict.fromkeys(minutes),
        "duration_days": 1,
        "max_duration_days": 7,
        "start_times": ["14:00"],
    }
    salon.make_service("stay", **night, starts_on_grid=True)
    salon.put_hours([])
    [start] = salon.value("SELECT booking.instants_of('Europe/Berlin', ARRAY[%s::timestamp])", f"{at(0).date()} 14:00")
    request: dict[str, Any] = {"service_id": "stay", "slot_start": start.isoformat(), "manual": True}
    stay = salon.book(**request, slot_end=None)
    assert warnings(stay) == []
    later = start + timedelta(hours=24)
    assert warnings(salon.change(stay.id, set={"slot_start": later.isoformat()})) == []
    evening, end = (later + timedelta(hours=hours) for hours in (6, 36))
    change = {"slot_start": evening.isoformat(), "slot_end": end.isoformat()}
    assert warnings(salon.change(stay.id, set=change)) == [("off_grid", None)]


def test_a_stay_that_is_moved_past_its_check_out_is_named_once(salon: TestDatabase) -> None:
    """It is as long as before, and ends an hour after the end of its night. On the next day that is no news."""
    night: dict[str, Any] = dict.fromkeys(("duration_minutes", "min_duration_minutes", "max_duration_minutes"))
    night |= {"duration_days": 1, "start_times": ["14:00"], "end_time": "11:00"}
    salon.make_service("stay", **night)
    salon.put_hours([])
    [start] = salon.value("SELECT booking.instants_of('Europe/Berlin', ARRAY[%s::timestamp])", f"{at(0).date()} 14:00")
    stay = salon.book(service_id="stay", slot_start=start.isoformat(), slot_end=None, manual=True)
    for hours, expected in ((1, [("off_grid", None)]), (25, []), (24, []), (49, [("off_grid", None)])):
        begins, ends = start + timedelta(hours=hours), start + timedelta(hours=hours + 21)
        change = {"slot_start": begins.isoformat(), "slot_end": ends.isoformat()}
        assert warnings(salon.change(stay.id, set=change)) == expected


def test_only_what_changes_is_checked(salon: TestDatabase) -> None:
    """A change of the quantity, of the guest or of the status has no warnings, whatever the slot is."""
    booked = salon.book(LUNCH, manual=True, resource_id="anna").id
    for change in ({"quantity": 1}, {"notes": "x"}, {"slot_start": at(LUNCH).isoformat()}):
        assert warnings(salon.change(booked, set=change)) == []
    salon.freeze_clock(at(LUNCH + 0.5))
    assert warnings(salon.change(booked, set={"status": "no_show"})) == []
    assert warnings(salon.change(booked, set={"status": "confirmed"})) == []
    # The guest stays for longer: the start is past, and is not what changes.
    assert warnings(salon.change(booked, set={"slot_end": at(14).isoformat()})) == [*CLOSED, ("too_long", None)]


def test_public_requests_have_no_warnings(salon: TestDatabase) -> None:
    """They are bound by the rules, so a slot that breaks one is refused; a replay names nothing either."""
    assert "warnings" not in salon.book(MORNING).body
    assert salon.book(LUNCH).body == {"reason": "closed"}
    request: dict[str, Any] = {"manual": True, "resource_id": "anna", "idempotency_key": "key", "fingerprint": "this"}
    assert warnings(salon.book(LUNCH, **request)) == CLOSED
    replay = salon.book(LUNCH, **request)
    assert (replay.name, "warnings" in replay.body) == ("replayed", False)


def test_public_requests_check_nothing_more(salon: TestDatabase) -> None:
    """The rules that warn the business are not computed for them."""
    salon.rows(
        "CREATE OR REPLACE FUNCTION booking.warnings(p_before booking.appointments, p_after booking.appointments, "
        "p_now timestamptz) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE 'warned'; END $$"
    )
    assert salon.book(MORNING).name == "done"
    assert salon.commit(salon.reserve(MORNING + 24).id).name == "done"
    with pytest.raises(psycopg.errors.RaiseException, match="warned"):
        salon.book(MORNING, manual=True)


def test_what_is_not_online_is_no_reason_to_warn(salon: TestDatabase) -> None:
    """A service for the phone only would warn of each booking; its other rules are checked."""
    salon.put_service(resource_ids=["anna", "bert"], booking_enabled=False, min_duration_minutes=60)
    assert warnings(salon.book(MORNING, manual=True, resource_id="anna")) == []
    assert warnings(salon.book(LUNCH, manual=True, resource_id="anna")) == CLOSED


def test_an_unknown_time_zone_is_named(salon: TestDatabase) -> None:
    """Whether the business is open is not known then, and the booking is made all the same."""
    salon.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert warnings(salon.book(LUNCH, manual=True, resource_id="anna")) == [("misconfigured", None)]


def test_warnings_are_not_stored(salon: TestDatabase) -> None:
    """Neither in the appointment nor in its audit trail."""
    booked = salon.book(LUNCH, manual=True, resource_id="anna").id
    stored = salon.value("SELECT booking.appointment('salon', %s)", booked)
    assert "warnings" not in stored
    assert "warnings" not in str(salon.rows("SELECT booking.audit_trail('salon', %s)", booked))


# Any resource: the open ones come first.


def test_an_open_resource_comes_before_a_closed_one(salon: TestDatabase) -> None:
    """Bert is closed by his own hours, and gets the bookings for any resource only while Anna has no room."""
    salon.put_closure("trip", at(24 * 7), at(24 * 8), "anna")
    assert [granted(salon.book(hour, manual=True)) for hour in (8, 9, 10)] == ["anna"] * 3
    assert granted(salon.book(8, manual=True)) == "bert"
    assert salon.book(8, manual=True).name == "slot_unavailable"
    # Where both are closed or both are open, work decides as ever.
    assert [granted(salon.book(24 * 7 + hour, manual=True)) for hour in (8, 9)] == ["anna", "bert"]
    assert [granted(salon.book(24 * 8 + hour, manual=True)) for hour in (8, 9)] == ["anna", "bert"]


def test_an_open_resource_comes_before_a_smaller_closed_one(salon: TestDatabase) -> None:
    """A table that is closed is not given to a party of two while a larger one is open."""
    for resource_id, seats in (("nook", 2), ("hall", 8)):
        put_seats(salon, resource_id, seats)
    salon.make_service("table", resource_ids=["hall", "nook"], max_simultaneous_bookings=None)
    salon.put_closure("repair", at(0), at(24), "nook")
    request: dict[str, Any] = {"service_id": "table", "manual": True, "quantity": 2}
    assert [granted(salon.book(MORNING, **request)) for _ in range(2)] == ["hall", "nook"]


def test_a_session_on_an_open_resource_comes_before_one_on_a_closed_resource(salon: TestDatabase) -> None:
    """A class that has begun to fill under a teacher who is closed by now is filled after the others."""
    for resource_id in ("emil", "fay"):
        put_seats(salon, resource_id, 2)
    salon.make_service("yoga", resource_ids=["emil", "fay"], resource_sharing="session", max_simultaneous_bookings=None)
    request: dict[str, Any] = {"service_id": "yoga", "manual": True}
    salon.book(MORNING, **request, resource_id="emil")
    salon.put_closure("ill", at(0), at(24), "emil")
    assert [granted(salon.book(MORNING, **request)) for _ in range(3)] == ["fay", "fay", "emil"]
    salon.put_closure("still-ill", at(24), at(48), "emil")
    salon.put_closure("trip", at(24), at(48), "fay")
    assert [granted(salon.book(24 + MORNING, **request)) for _ in range(3)] == ["fay", "fay", "emil"]


def test_a_move_to_any_resource_leaves_a_closed_one(salon: TestDatabase) -> None:
    """The appointment keeps its resource where that is open, or where no open one is free."""
    booked = salon.book(24 + MORNING, manual=True, resource_id="bert").id
    assert granted(move(salon, booked, 24 + MORNING + 1, resource_id=None)) == "bert"
    assert granted(move(salon, booked, MORNING, resource_id=None)) == "anna"
    salon.change(booked, set={"resource_id": "bert"})
    salon.book(MORNING + 1, manual=True, resource_id="anna")
    assert granted(move(salon, booked, MORNING + 1, resource_id=None)) == "bert"


def test_a_late_commit_prefers_an_open_resource(salon: TestDatabase) -> None:
    """Hours do not bind the rebook of a hold that lasted long enough to pay."""
    now = salon.freeze_clock()
    salon.reserve(MORNING + 1, ttl_minutes=60, resource_id="anna")
    hold = salon.reserve(MORNING).id
    salon.put_closure("ill", at(0), at(24), "anna")
    salon.put_hours([])
    salon.freeze_clock(now + timedelta(minutes=15))
    assert granted(salon.commit(hold, if_expired="rebook")) == "bert"


def test_requests_for_any_resource_are_decided_by_the_open_ones_in_one_call(salon: TestDatabase) -> None:
    """Requests of the public and of the business for one slot share its room."""
    requests = [book_request(MORNING, manual=manual) for manual in (True, False, True)]
    outcomes = salon.call("book", requests)
    assert [outcome.body.get("resource_id") for outcome in outcomes] == ["anna", None, "bert"]


def test_without_a_known_time_zone_no_resource_is_preferred(salon: TestDatabase) -> None:
    """The booking is made as if all were open."""
    salon.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert [granted(salon.book(hour, manual=True)) for hour in (8, 9)] == ["anna", "bert"]
    salon.rows("UPDATE booking.businesses SET timezone = 'Europe/Berlin'")


def test_a_pool_without_hours_takes_no_statement_for_them(salon: TestDatabase) -> None:
    """Whether its resources have hours or closures is found out by the statement that reads the pool."""
    salon.put_hours([(weekday, "08:00", "18:00") for weekday in range(1, 8)])
    salon.rows(
        "CREATE OR REPLACE FUNCTION booking.open_during(p_business_id text, p_owner_ids text[], p_slot tstzrange, "
        "p_hours_apply text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$ BEGIN "
        "ASSERT '' = ANY (p_owner_ids), 'asked for the pool'; RETURN p_owner_ids; END $$"
    )
    booked = salon.book(MORNING, manual=True)
    assert granted(move(salon, booked.id, MORNING + 1, resource_id=None)) == granted(booked)
    salon.put_closure("trip", at(0), at(24), "anna")
    with pytest.raises(psycopg.errors.AssertFailure, match="asked for the pool"):
        salon.book(MORNING, manual=True)


def granted(outcome: Outcome) -> str:
    """Returns the resource that was granted."""
    assert outcome.name == "done", outcome
    resource_id: str = outcome.body["resource_id"]
    return resource_id
