"""booking.book: an appointment without a hold, for a guest or by the staff, and one effect per key."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.database import TestDatabase, at, book_request, reserve_request
from tests.sql.catalog import delete_service
from tests.sql.requests import GUEST, keyed_booking, keyed_request, names


def count(database: TestDatabase, table: str = "appointments") -> int:
    """Counts the rows of a table."""
    number: int = database.value(f"SELECT count(*) FROM booking.{table}")  # noqa: S608
    return number


@pytest.mark.parametrize("manual", [False, True], ids=["online", "manual"])
def test_a_free_slot_is_booked(database: TestDatabase, manual: bool) -> None:
    """The appointment has the guest's data, version 1 and the id of the operation, and no reservation."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    request = book_request(10, quantity=2, metadata={"price": 12}, source="widget", manual=manual, **GUEST)
    [outcome] = database.call("book", [request])
    assert outcome.name == "done"
    instants = ("slot_start", "slot_end", "created_at", "updated_at")
    assert [datetime.fromisoformat(outcome.body.pop(name)) for name in instants] == [at(10), at(11), now, now]
    for name in ("cancellable_until", "reschedulable_until"):
        assert datetime.fromisoformat(outcome.body.pop(name)) == at(10)
    assert outcome.body == {
        "appointment_id": request["operation_id"],
        "reservation_id": None,
        "business_id": "salon",
        "service_id": "cut",
        "resource_id": None,
        "quantity": 2,
        "status": "confirmed",
        "version": 1,
        **GUEST,
        "metadata": {"price": 12},
        "source": "widget",
        "cancellation_reason": None,
    }
    assert database.capacity(10) == {"capacity": 5, "held": 0, "booked": 2, "available": 3}
    assert count(database, "reservations") == 0


def test_a_slot_without_an_end_lasts_as_long_as_the_service(database: TestDatabase) -> None:
    """The service's duration applies, as in a reserve."""
    database.make_service(duration_minutes=45)
    outcome = database.book(10, slot_end=None)
    assert datetime.fromisoformat(outcome.body["slot_end"]) == at(10.75)


def test_metadata_defaults_to_an_empty_object(database: TestDatabase) -> None:
    """A request without metadata stores an empty object."""
    database.make_service()
    request = book_request(10)
    del request["metadata"]
    assert database.call("book", [request])[0].body["metadata"] == {}


# One effect per key: what holds for reserve as well is in test_idempotency.py.


@pytest.mark.parametrize("size", [1, 3])
def test_a_retry_gets_the_first_answer(database: TestDatabase, size: int) -> None:
    """A retry makes no second appointment, alone or in a batch, even if the slot is past and the service archived."""
    database.make_service(capacity=1)
    [first] = database.call("book", [keyed_booking("k")])
    database.freeze_clock(at(12))
    delete_service(database)
    outcomes = database.call("book", [keyed_booking("k") for _ in range(size)])
    assert names(outcomes) == ["replayed"] * size
    assert all(outcome.body == first.body for outcome in outcomes)
    assert count(database) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_another_request_with_the_key_is_refused(database: TestDatabase, size: int) -> None:
    """The refusal reveals nothing about the appointment that was made with the key."""
    database.make_service(capacity=5)
    database.call("book", [keyed_booking("k", **GUEST)])
    outcomes = database.call("book", [keyed_booking("k", "that", 15 + number) for number in range(size)])
    assert names(outcomes) == ["idempotency_key_reused"] * size
    assert [outcome.body for outcome in outcomes] == [{}] * size
    assert count(database) == 1


def test_a_retry_shows_the_appointment_as_it_is_now(database: TestDatabase) -> None:
    """Even if the appointment was cancelled meanwhile, a retry makes no second one."""
    database.make_service(capacity=1)
    [first] = database.call("book", [keyed_booking("k")])
    database.change(first.id, action="cancel")
    [again] = database.call("book", [keyed_booking("k")])
    assert (again.name, again.id, again.body["status"], again.body["version"]) == ("replayed", first.id, "cancelled", 2)
    [anew] = database.call("book", [keyed_booking("another key")])
    assert anew.name == "done"


def test_keys_of_holds_and_of_bookings_are_separate(database: TestDatabase) -> None:
    """The same key may be used for one hold and for one booking, in either order."""
    database.make_service(capacity=5)
    assert names(database.call("reserve", [keyed_request("k")])) == ["done"]
    assert names(database.call("book", [keyed_booking("k", "that", 15)])) == ["done"]
    assert names(database.call("book", [keyed_booking("l")])) == ["done"]
    assert names(database.call("reserve", [keyed_request("l", "that", 15)])) == ["done"]
    assert names(database.call("reserve", [keyed_request("k")])) == ["replayed"]


def test_invalid_guest_data_is_refused_unless_the_request_is_a_replay(database: TestDatabase) -> None:
    """The service detects the fault without knowing of earlier attempts; the refusal stores nothing, nor the key."""
    database.make_service(capacity=3)
    fault = {"field": "guest_phone", "code": "invalid_phone", "parameters": {}}

    first = database.call("book", [keyed_booking("k")])[0]
    requests = [
        keyed_booking("k", guest_fault=fault),
        keyed_booking("k", "that", guest_fault=fault),
        keyed_booking("l", guest_fault=fault),
    ]
    again, other, new = database.call("book", [*requests, keyed_booking("l")])[:3]
    assert (again.name, again.body) == ("replayed", first.body)
    assert other.name == "idempotency_key_reused"
    assert (new.name, new.body) == ("validation_failed", fault)
    assert database.value("SELECT count(*) FROM booking.appointments") == 2


def test_equal_keys_within_one_batch_have_one_effect(database: TestDatabase) -> None:
    """Equal requests make one appointment, a different one is refused, and a refused one leaves the key to others."""
    database.make_service(capacity=3)
    database.reserve(15, quantity=3)
    requests = [
        keyed_booking("k"),
        keyed_booking("k", "that", 12),
        keyed_booking("k"),
        keyed_booking("l", hour=15),
        keyed_booking("l", "that", 16),
    ]
    outcomes = database.call("book", requests)
    assert names(outcomes) == ["done", "idempotency_key_reused", "replayed", "slot_unavailable", "done"]
    assert outcomes[2].body == outcomes[0].body
    assert count(database) == 2


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k", "fingerprint": "this"}], ids=["no key", "key"])
def test_an_operation_that_is_sent_again_has_one_effect(database: TestDatabase, key: dict[str, Any], size: int) -> None:
    """A batch whose answer was lost is sent again under the same ids, and adds no appointment and no audit row."""
    database.make_service(capacity=1)
    request = book_request(10, **key)
    [first] = database.call("book", [request])
    again, *others = database.call("book", [request, *[book_request(10 + number) for number in range(1, size)]])
    assert (again.name, again.body) == ("done", first.body)
    assert names(others) == ["done"] * (size - 1)
    assert count(database) == count(database, "audit_logs") == size


# Rules for the public and for the business.


@pytest.mark.parametrize(
    ("hour", "hours", "settings", "reason"),
    [
        (9, 1, {}, "past"),
        (11, 1, {"min_notice_minutes": 120}, "too_soon"),
        (35, 1, {"max_advance_days": 1}, "too_far_ahead"),
        (12, 2, {"max_duration_minutes": 60}, "too_long"),
        (12, 1, {"booking_enabled": False}, "not_online"),
    ],
)
@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
def test_the_rules_for_the_public_do_not_bind_the_staff(
    database: TestDatabase, hour: float, hours: float, settings: dict[str, Any], reason: str, batched: bool
) -> None:
    """At ten o'clock, the staff may book slots that are refused to the public."""
    database.make_service(capacity=9, **settings)
    database.freeze_clock(at(10))
    public = [book_request(hour, hours) for _ in range(1 + batched)]
    for outcome in database.call("book", public):
        assert (outcome.name, outcome.body) == ("slot_not_bookable", {"reason": reason})
    manual = [book_request(hour, hours, manual=True) for _ in range(1 + batched)]
    assert set(names(database.call("book", manual))) == {"done"}
    mixed = [book_request(hour, hours), book_request(hour, hours, manual=True)]
    assert names(database.call("book", mixed)) == ["slot_not_bookable", "done"]


def test_hours_and_closures_do_not_bind_the_business(database: TestDatabase) -> None:
    """The public is refused with the reason `closed`, and the staff may book."""
    database.make_service()
    # Ten o'clock UTC is eleven or twelve o'clock in Berlin.
    database.put_hours([(1, "09:00", "13:30")])
    database.put_closure("holiday", at(10), at(11))
    for hour in (10, 15):
        outcome = database.book(hour)
        assert (outcome.name, outcome.body) == ("slot_not_bookable", {"reason": "closed"})
        assert database.book(hour, manual=True).name == "done"
    assert database.book(9).name == "done"


@pytest.mark.parametrize("manual", [False, True], ids=["online", "manual"])
def test_the_capacity_binds_the_public_and_the_business(database: TestDatabase, manual: bool) -> None:
    """Held and booked room is not sold twice, and expired holds block no booking."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    expired = database.reserve(10, quantity=2, ttl_minutes=1).id
    assert database.book(10, manual=manual).name == "slot_unavailable"
    database.freeze_clock(now + timedelta(minutes=1))
    assert database.book(10, manual=manual).name == "done"
    assert database.status(expired) == "expired"
    assert database.book(9.5, 2, quantity=2, manual=manual).name == "slot_unavailable"
    assert database.book(9.5, 2, manual=manual).name == "done"
    assert database.book(10, manual=manual).name == "slot_unavailable"
    assert database.book(11.5, manual=manual).name == "done"


@pytest.mark.parametrize("manual", [False, True], ids=["online", "manual"])
def test_a_service_that_is_not_offered_is_not_found(database: TestDatabase, manual: bool) -> None:
    """An unknown business, an unknown service and an archived service have the same outcome."""
    database.make_service()
    database.make_service("perm")
    database.book(10, service_id="perm")
    delete_service(database, "perm")
    for business_id, service_id in (("nobody", "cut"), ("salon", "nothing"), ("salon", "perm")):
        for size in (1, 2):
            requests = [book_request(15, service_id=service_id, manual=manual) for _ in range(size)]
            outcomes = database.call("book", requests, business_id=business_id)
            assert names(outcomes) == ["service_not_found"] * size


# Batches.


def test_a_batch_for_one_slot_is_granted_exactly_the_capacity(database: TestDatabase) -> None:
    """The first requests of the batch are granted."""
    database.make_service(capacity=4)
    outcomes = database.call("book", [book_request(10) for _ in range(10)])
    assert names(outcomes) == ["done"] * 4 + ["slot_unavailable"] * 6
    assert count(database) == count(database, "audit_logs") == 4


def test_windows_that_overlap_are_decided_in_order(database: TestDatabase) -> None:
    """A request sees the grants of the requests before it, and holds."""
    database.make_service(capacity=1)
    database.reserve(14)
    outcomes = database.call("book", [book_request(hour) for hour in (10, 10.5, 11, 13.5, 12)])
    assert names(outcomes) == ["done", "slot_unavailable", "done", "slot_unavailable", "done"]


def test_a_reserve_sees_bookings_and_their_buffers(database: TestDatabase) -> None:
    """Bookings and holds are counted together."""
    database.make_service(capacity=2, buffer_after_minutes=30)
    database.book(10)
    outcomes = database.call("reserve", [reserve_request(11), reserve_request(11.25)])
    assert names(outcomes) == ["done", "slot_unavailable"]


def test_a_refusal_undoes_no_other_request_of_the_batch(database: TestDatabase) -> None:
    """Outcomes are data: a refusal does not abort the call."""
    database.make_service(capacity=2)
    requests = [
        book_request(10),
        book_request(10, service_id="nothing"),
        book_request(-999),
        book_request(10, quantity=3),
        book_request(10, resource_id="nobody"),
        book_request(10),
    ]
    expected = ["done", "service_not_found", "slot_not_bookable", "slot_unavailable", "resource_not_found", "done"]
    assert names(database.call("book", requests)) == expected


# The audit trail.


def test_each_booking_has_its_audit_row(database: TestDatabase) -> None:
    """The row has the actor, the request and the id of the operation, and no personal data."""
    database.make_service(resource_ids=["anna"])
    now = database.freeze_clock()
    secret = f"secret {uuid4()}"
    request = keyed_booking(
        "k", actor_kind="staff", actor_id="desk", request_id="request 7", **GUEST, metadata={"id": secret}
    )
    database.call("book", [request])
    [row] = database.rows(
        "SELECT audit_id::text, appointment_id::text, version, action, actor_kind, actor_id, request_id, at "
        "FROM booking.audit_logs"
    )
    assert row == (request["operation_id"],) * 2 + (1, "created", "staff", "desk", "request 7", now)
    changes = database.value("SELECT changes FROM booking.audit_logs")
    assert {name for name, change in changes.items() if change == {}} == {*GUEST, "metadata"}
    named = {"service_id": "cut", "resource_id": "anna", "quantity": 1, "status": "confirmed", "source": "online"}
    for name, value in named.items():
        assert changes.pop(name) == {"before": None, "after": value}
    for name, instant in (("slot_start", at(10)), ("slot_end", at(11))):
        change = changes.pop(name)
        assert (change["before"], datetime.fromisoformat(change["after"])) == (None, instant)
    assert set(changes) == {*GUEST, "metadata"}
    text = database.value("SELECT (l.*)::text FROM booking.audit_logs l")
    assert not [value for value in (*GUEST.values(), secret) if value in text]
