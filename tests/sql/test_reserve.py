"""booking.reserve, one request at a time: granted holds, their expiry, and refusals with their reasons."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, at, reserve_request
from tests.sql.catalog import delete_service
from tests.sql.requests import names

MINUTE = 1 / 60


def test_a_free_slot_is_held(database: TestDatabase) -> None:
    """The outcome has the slot, the expiry and the version of the hold."""
    database.make_service()
    now = database.freeze_clock()
    outcome = database.reserve(10)
    assert outcome.name == "done"
    instants = {name: datetime.fromisoformat(outcome.body.pop(name)) for name in ("slot_start", "slot_end")}
    assert instants == {"slot_start": at(10), "slot_end": at(11)}
    assert datetime.fromisoformat(outcome.body.pop("expires_at")) == now + timedelta(minutes=15)
    assert outcome.body == {
        "reservation_id": outcome.id,
        "business_id": "salon",
        "service_id": "cut",
        "resource_id": None,
        "quantity": 1,
        "status": "held",
        "expires_in_seconds": 900,
        "ttl_clamped": False,
        "version": 1,
    }


def test_a_hold_has_the_id_of_its_operation(database: TestDatabase) -> None:
    """The caller makes the id before the call, and can look up the hold if the answer is lost."""
    database.make_service()
    request = reserve_request(10)
    assert database.call("reserve", [request])[0].id == request["operation_id"]


def test_a_slot_without_an_end_lasts_as_long_as_the_service(database: TestDatabase) -> None:
    """The service's duration applies, and the next slot begins after it."""
    database.make_service(capacity=1, duration_minutes=45)
    outcome = database.reserve(10, slot_end=None)
    assert datetime.fromisoformat(outcome.body["slot_end"]) == at(10.75)
    assert database.reserve(10.5).name == "slot_unavailable"
    assert database.reserve(10.75).name == "done"


def test_a_hold_lives_for_the_requested_time_up_to_the_maximum(database: TestDatabase) -> None:
    """The outcome shows whether the time to live was limited."""
    database.make_service(capacity=9, hold_ttl_minutes=15, max_hold_ttl_minutes=60)
    database.freeze_clock()
    for ttl_minutes, seconds, clamped in (
        (None, 900, False),
        (60, 3600, False),
        (60.5, 3600, True),
        (10080, 3600, True),
        (0.5, 30, False),
        (0.02, 1.2, False),
    ):
        body = database.reserve(10, ttl_minutes=ttl_minutes).body
        assert (body["expires_in_seconds"], body["ttl_clamped"]) == (seconds, clamped), ttl_minutes


def test_the_shortest_time_to_live_is_a_millisecond(database: TestDatabase) -> None:
    """A time to live close to zero still makes a live hold."""
    database.make_service()
    database.freeze_clock()
    body = database.reserve(10, ttl_minutes=1e-12).body
    assert (body["status"], body["expires_in_seconds"]) == ("held", 0.001)


def test_quantities_add_up_to_the_capacity(database: TestDatabase) -> None:
    """The capacity counts units and not claims."""
    database.make_service(capacity=5)
    assert database.reserve(10, quantity=3).name == "done"
    assert database.reserve(10, quantity=3).name == "slot_unavailable"
    assert database.reserve(10, quantity=2).name == "done"
    assert database.reserve(10, quantity=1).name == "slot_unavailable"
    assert database.capacity(10) == {"capacity": 5, "held": 5, "booked": 0, "available": 0}


def test_a_quantity_above_the_capacity_is_refused(database: TestDatabase) -> None:
    """It is refused even in an empty slot."""
    database.make_service(capacity=5)
    assert database.reserve(10, quantity=6).name == "slot_unavailable"
    assert database.reserve(10, quantity=5).name == "done"


@pytest.mark.parametrize("is_booked", [False, True], ids=["held", "booked"])
def test_the_peak_of_a_window_decides(database: TestDatabase, is_booked: bool) -> None:
    """The claims form a staircase: 1 from ten, 3 from eleven, 2 from twelve, none from one, 2 again from two."""
    database.make_service(capacity=4)
    for hour, hours, quantity in ((10, 2, 1), (11, 2, 2), (14, 1, 2)):
        hold = database.reserve(hour, hours, quantity=quantity)
        if is_booked:
            database.commit(hold.id)
    kind = "booked" if is_booked else "held"
    for hour, hours, expected in ((9, 1, 0), (10, 1, 1), (9, 2, 1), (10, 2, 3), (12, 1, 2), (12, 5, 2), (8, 9, 3)):
        room = database.capacity(hour, hours)
        assert (room[kind], room["available"]) == (expected, 4 - expected), (hour, hours)
    assert database.reserve(8, 9, quantity=2).name == "slot_unavailable"
    assert database.reserve(8, 9, quantity=1).name == "done"


def test_a_slot_ends_where_the_next_one_begins(database: TestDatabase) -> None:
    """Slots are half-open: adjacent slots do not conflict, and slots that share an instant do."""
    cases = {
        "before": (9, 1, "done"),
        "after": (11, 1, "done"),
        "equal": (10, 1, "slot_unavailable"),
        "enclosing": (9, 3, "slot_unavailable"),
        "enclosed": (10.25, 0.5, "slot_unavailable"),
        "into-its-start": (9, 1 + MINUTE, "slot_unavailable"),
        "into-its-end": (11 - MINUTE, 1, "slot_unavailable"),
    }
    for case, (hour, hours, expected) in cases.items():
        database.make_service(case)
        assert database.reserve(10, service_id=case).name == "done"
        assert database.reserve(hour, hours, service_id=case).name == expected, case


def test_buffers_keep_neighbours_away(database: TestDatabase) -> None:
    """A claim occupies its slot and the buffers before and after it."""
    database.make_service(capacity=1, buffer_before_minutes=10, buffer_after_minutes=20)
    assert database.reserve(10).name == "done"
    hours = (8.5, 8.5 + MINUTE, 11.5 - MINUTE, 11.5)
    assert [database.capacity(hour)["available"] for hour in hours] == [1, 0, 0, 1]
    assert database.reserve(11.5 - MINUTE).name == "slot_unavailable"
    assert database.reserve(11.5).name == "done"
    assert database.reserve(8.5 + MINUTE).name == "slot_unavailable"
    assert database.reserve(8.5).name == "done"


def test_a_claim_keeps_the_buffers_that_it_was_made_with(database: TestDatabase) -> None:
    """A change of the settings affects neither existing claims nor the claims beside them."""
    database.make_service(capacity=1, buffer_after_minutes=30)
    database.commit(database.reserve(10).id)
    database.put_service(capacity=1)
    assert database.reserve(11).name == "slot_unavailable"
    assert database.reserve(11.5, 0.5).name == "done"
    database.put_service(capacity=1, buffer_after_minutes=30)
    assert database.reserve(12, 0.5).name == "done"
    assert database.reserve(12.75).name == "slot_unavailable"


def test_a_slot_that_the_public_may_not_book_is_refused_with_the_reason(database: TestDatabase) -> None:
    """At ten o'clock, a slot on each limit can be booked, and one beyond it can't."""
    cases: list[tuple[float, float, dict[str, Any], str | None]] = [
        (10 - MINUTE, 1, {}, "past"),
        (10, 1, {}, None),
        (12 - MINUTE, 1, {"min_notice_minutes": 120}, "too_soon"),
        (12, 1, {"min_notice_minutes": 120}, None),
        (34 + MINUTE, 1, {"max_advance_days": 1}, "too_far_ahead"),
        (34, 1, {"max_advance_days": 1}, None),
        (10, 2 + MINUTE, {"max_duration_minutes": 120}, "too_long"),
        (10, 2, {"max_duration_minutes": 120}, None),
        (10, 1, {"booking_enabled": False}, "not_online"),
    ]
    database.freeze_clock(at(10))
    for number, (hour, hours, settings, reason) in enumerate(cases):
        service_id = database.make_service(f"s{number}", **settings)
        outcome = database.reserve(hour, hours, service_id=service_id)
        expected = ("slot_not_bookable", reason) if reason else ("done", None)
        assert (outcome.name, outcome.body.get("reason")) == expected, (hour, hours, settings)
    bookable = [reason for *_, reason in cases if reason is None]
    assert database.value("SELECT count(*) FROM booking.reservations") == len(bookable)


def test_the_limit_of_days_ahead_counts_24_hours_in_every_time_zone_of_the_session(database: TestDatabase) -> None:
    """A day is 24 hours, although an interval of a day has 23 or 25 hours across a DST change."""
    database.make_service(max_advance_days=1)
    with database.connect() as connection:
        connection.execute("SET timezone = 'Europe/Berlin'")
        database.freeze_clock(datetime.fromisoformat("2031-03-29T12:00:00+00:00"))
        limit = datetime.fromisoformat("2031-03-30T12:00:00+00:00")
        for minutes, expected in ((1, "slot_not_bookable"), (0, "done")):
            start = limit + timedelta(minutes=minutes)
            outcome = database.reserve(connection=connection, slot_start=start.isoformat(), slot_end=None)
            assert outcome.name == expected


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
def test_a_service_that_is_not_offered_is_not_found(database: TestDatabase, batched: bool) -> None:
    """An unknown business, an unknown service and an archived service have the same outcome."""
    database.make_service()
    database.make_service("perm")
    assert database.reserve(10, service_id="perm").name == "done"
    delete_service(database, "perm")
    for business_id, service_id in (("nobody", "cut"), ("salon", "nothing"), ("salon", "perm")):
        requests = [reserve_request(15, service_id=service_id) for _ in range(1 + batched)]
        outcomes = database.call("reserve", requests, business_id=business_id)
        assert set(names(outcomes)) == {"service_not_found"}


def test_services_have_separate_capacities(database: TestDatabase) -> None:
    """A full service does not affect the other services and businesses."""
    database.make_service("cut")
    database.make_service("perm")
    database.make_service("cut", business_id="clinic")
    assert database.reserve(10).name == "done"
    assert database.reserve(10, service_id="perm").name == "done"
    assert database.reserve(10, business_id="clinic").name == "done"


def test_the_room_of_an_expired_hold_is_given_away(database: TestDatabase) -> None:
    """No purge is needed, and the hold ends as expired."""
    database.make_service(capacity=1)
    database.freeze_clock()
    expired = database.reserve(10).id
    database.move_clock(timedelta(minutes=15))
    assert database.capacity(10)["available"] == 1
    assert database.reserve(10).name == "done"
    assert database.status(expired) == "expired"


def test_a_released_hold_frees_its_room(database: TestDatabase) -> None:
    """The room is free at once, before the expiry."""
    database.make_service(capacity=1)
    database.release(database.reserve(10).id)
    assert database.reserve(10).name == "done"
