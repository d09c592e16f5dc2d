"""booking.commit: a live hold becomes an appointment, once."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from tests.database import Outcome, TestDatabase, at, commit_request
from tests.sql.catalog import delete_service
from tests.sql.requests import GUEST, keyed_request, names

TTL = timedelta(minutes=15)
INSTANT = timedelta(microseconds=1)


def appointments(database: TestDatabase) -> int:
    """Counts the appointments."""
    number: int = database.value("SELECT count(*) FROM booking.appointments")
    return number


def test_a_live_hold_becomes_an_appointment(database: TestDatabase) -> None:
    """The appointment has the slot and quantity of the hold, the guest's data, and version 1."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    hold = database.reserve(10, quantity=2)
    request = commit_request(hold.id, **GUEST, metadata={"price": 12}, source="widget")
    [outcome] = database.call("commit", [request])
    assert outcome.name == "done"
    instants = ("slot_start", "slot_end", "created_at", "updated_at")
    assert [datetime.fromisoformat(outcome.body.pop(name)) for name in instants] == [at(10), at(11), now, now]
    for name in ("cancellable_until", "reschedulable_until"):
        assert datetime.fromisoformat(outcome.body.pop(name)) == at(10)
    assert outcome.body == {
        "appointment_id": request["operation_id"],
        "reservation_id": hold.id,
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
    assert database.status(hold.id) == "committed"
    assert database.capacity(10) == {"capacity": 5, "held": 0, "booked": 2, "available": 3}


def test_a_hold_can_be_committed_until_its_expiry(database: TestDatabase) -> None:
    """Neither a refused reserve, nor archiving the service, nor the purge takes the room of a live hold."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.reserve(10)
    delete_service(database)
    database.freeze_clock(now + TTL - INSTANT)
    assert database.purge() == (0, 0, False)
    assert database.commit(hold).name == "done"


@pytest.mark.parametrize("delay", [timedelta(0), INSTANT, timedelta(days=100)])
def test_a_hold_at_or_past_its_expiry_cant_be_committed(database: TestDatabase, delay: timedelta) -> None:
    """The clock ends a hold although no purge ran, and the answer is reservation_expired, with the freed slot once."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL + delay)
    outcome = database.commit(hold)
    freed = {"service_id": "cut", "resource_id": None, "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}
    assert (outcome.name, outcome.body) == ("reservation_expired", {"freed": freed})
    assert database.commit(hold).body == {}
    assert (appointments(database), database.status(hold)) == (0, "expired")
    assert database.capacity(10)["available"] == 1


def test_a_refused_commit_is_final_even_if_the_clock_steps_back(database: TestDatabase) -> None:
    """The caller has received the refusal, and may have refunded a payment."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL)
    assert database.commit(hold).name == "reservation_expired"
    database.freeze_clock(now)
    assert database.commit(hold).name == "reservation_expired"
    assert database.extend(hold).name == "reservation_expired"
    assert database.reserve(10).name == "done"


def status_only(outcome: Outcome) -> dict[str, Any]:
    """Returns what a replayed commit tells a caller that is not known to be the holder."""
    return {name: outcome.body[name] for name in ("appointment_id", "status")}


def test_a_repeated_commit_gets_the_same_appointment(database: TestDatabase) -> None:
    """The reservation serves as the key, and the guest's data proves that the caller is the holder."""
    database.make_service()
    hold = database.reserve(10).id
    first = database.commit(hold, **GUEST, metadata={"price": 12})
    again = database.commit(hold, **GUEST, metadata={"price": 12}, expected_version=9, if_expired="rebook")
    assert (first.name, again.name) == ("done", "replayed")
    assert again.body == first.body
    assert appointments(database) == 1


@pytest.mark.parametrize("member", [*GUEST, "metadata"])
def test_a_commit_with_other_guest_data_gets_id_and_status_only(database: TestDatabase, member: str) -> None:
    """The id of a hold does not reveal the guest, to a caller that does not know each part of the data."""
    database.make_service()
    hold = database.reserve(10, client_id_hmac="ada").id
    guest = {**GUEST, "metadata": {"price": 12}}
    first = database.commit(hold, **guest)
    others: tuple[Any, Any] = ({}, {"price": 13}) if member == "metadata" else (None, "another")
    for other, client_id in product(others, (None, "eve")):
        again = database.commit(hold, **{**guest, member: other}, client_id_hmac=client_id)
        assert (again.name, again.body) == ("replayed", status_only(first))
    assert appointments(database) == 1


def test_the_client_of_the_hold_gets_the_appointment_again(database: TestDatabase) -> None:
    """Its id proves that it is the holder, whatever guest its commit names; a missing id proves nothing."""
    database.make_service(capacity=2)
    held, anonymous = database.reserve(10, client_id_hmac="ada").id, database.reserve(10).id
    first, other = database.commit(held, **GUEST), database.commit(anonymous, **GUEST)
    assert database.commit(held, client_id_hmac="ada").body == first.body
    assert database.commit(anonymous, client_id_hmac="ada").body == status_only(other)
    assert database.commit(anonymous, client_id_hmac=None).body == status_only(other)


def test_a_commit_sent_again_under_its_id_is_done(database: TestDatabase) -> None:
    """The operation id marks the repeated call of a lost answer, even after the hold would have expired."""
    database.make_service()
    request = commit_request(database.reserve(10).id)
    [first] = database.call("commit", [request])
    database.move_clock(timedelta(days=1))
    [again] = database.call("commit", [request])
    assert (again.name, again.body) == ("done", first.body)


def test_eight_commits_of_one_hold_in_one_batch_are_one_appointment(database: TestDatabase) -> None:
    """The first request makes it, and those for the same guest get the same body."""
    database.make_service()
    hold = database.reserve(10).id
    outcomes = database.call("commit", [commit_request(hold, guest_name=str(number % 4)) for number in range(8)])
    assert names(outcomes) == ["done"] + ["replayed"] * 7
    first = outcomes[0]
    assert first.body["guest_name"] == "0"
    assert [outcome.body for outcome in outcomes] == [first.body, *[status_only(first)] * 3] * 2
    assert appointments(database) == 1


def test_the_first_commit_of_a_batch_with_the_right_version_succeeds(database: TestDatabase) -> None:
    """An earlier request with a different expected version is refused, and does not affect the others."""
    database.make_service()
    hold = database.reserve(10).id
    requests = [
        commit_request(hold, expected_version=2),
        commit_request(hold, expected_version=1),
        commit_request(hold),
    ]
    outcomes = database.call("commit", requests)
    assert names(outcomes)[1:] == ["done", "replayed"]
    assert names(outcomes)[0] in ("version_conflict", "replayed")


def test_a_commit_with_another_expected_version_is_refused(database: TestDatabase) -> None:
    """The hold was extended meanwhile; the refusal has the current version."""
    database.make_service()
    hold = database.reserve(10).id
    assert database.extend(hold, 30).body["version"] == 2
    for expected in (1, 3):
        outcome = database.commit(hold, expected_version=expected)
        assert (outcome.name, outcome.body) == ("version_conflict", {"current_version": 2})
        assert database.status(hold) == "held"
    assert database.commit(hold, expected_version=2).name == "done"


def test_a_released_hold_cant_be_committed(database: TestDatabase) -> None:
    """A rebook is refused as well, because the hold was given up."""
    database.make_service()
    hold = database.reserve(10).id
    database.release(hold)
    assert database.commit(hold).name == "reservation_released"
    assert database.commit(hold, if_expired="rebook").name == "reservation_released"
    assert appointments(database) == 0


def test_an_unknown_hold_is_not_found(database: TestDatabase) -> None:
    """The id of a hold of another business is unknown as well."""
    database.make_service()
    database.make_service(business_id="clinic")
    hold = database.reserve(10).id
    for business_id, reservation_id in (("salon", str(uuid4())), ("clinic", hold), ("nobody", hold)):
        assert database.commit(reservation_id, business_id=business_id).name == "reservation_not_found"
    assert database.status(hold) == "held"
    database.commit(hold)
    assert database.commit(hold, business_id="clinic").name == "reservation_not_found"


def test_a_commit_is_replayed_after_the_purge_has_deleted_its_reservation(database: TestDatabase) -> None:
    """The appointment keeps the id of its hold, which by then tells no more than its id and status."""
    database.make_service()
    hold = database.reserve(10, client_id_hmac="ada").id
    first = database.commit(hold)
    database.move_clock(timedelta(days=2))
    assert database.purge() == (0, 1, False)
    assert database.status(hold) is None
    again = database.commit(hold, client_id_hmac="ada")
    assert (again.name, again.body) == ("replayed", status_only(first))


def test_a_batch_decides_each_hold_independently(database: TestDatabase) -> None:
    """The refusal of one request never undoes the others."""
    database.make_service(capacity=9)
    now = database.freeze_clock(datetime.now(UTC))
    expired, live, released, booked = (database.reserve(10, ttl_minutes=ttl).id for ttl in (1, 30, 30, 30))
    database.release(released)
    database.commit(booked)
    database.freeze_clock(now + timedelta(minutes=1))
    requests = [commit_request(hold) for hold in (expired, live, released, str(uuid4()), booked)]
    assert names(database.call("commit", requests)) == [
        "reservation_expired",
        "done",
        "reservation_released",
        "reservation_not_found",
        "replayed",
    ]


def test_each_appointment_has_its_audit_row(database: TestDatabase) -> None:
    """It is written in the same transaction, with the id of the operation and the actor."""
    database.make_service()
    now = database.freeze_clock()
    request = commit_request(
        database.reserve(10).id, actor_kind="key", actor_id="desk", request_id="request 7", **GUEST
    )
    database.call("commit", [request])
    database.commit(request["reservation_id"])
    [(audit_id, appointment_id, *rest)] = database.rows(
        "SELECT audit_id, appointment_id, version, action, actor_kind, actor_id, request_id, at FROM booking.audit_logs"
    )
    assert str(audit_id) == str(appointment_id) == request["operation_id"]
    assert rest == [1, "created", "key", "desk", "request 7", now]


def test_the_audit_trail_names_personal_data_and_does_not_repeat_it(database: TestDatabase) -> None:
    """The trail outlives an erasure: it shows that a field was set, and never its value; the hold's id is not in it."""
    database.make_service()
    hold = database.reserve(10).id
    database.commit(hold, **GUEST, metadata={"client": "ada-7"})
    changes = database.value("SELECT changes FROM booking.audit_logs")
    assert {name for name, change in changes.items() if change == {}} == {*GUEST, "metadata"}
    assert changes["status"] == {"before": None, "after": "confirmed"}
    assert changes["quantity"] == {"before": None, "after": 1}
    text = database.value("SELECT (l.*)::text FROM booking.audit_logs l")
    assert not [value for value in (*GUEST.values(), "ada-7", hold) if value in text]


def test_a_keyed_hold_is_replayed_as_committed(database: TestDatabase) -> None:
    """A repeated reserve with the key shows that the hold is committed."""
    database.make_service()
    [hold] = database.call("reserve", [keyed_request("k")])
    database.commit(hold.id)
    [again] = database.call("reserve", [keyed_request("k")])
    assert (again.name, again.id, again.body["status"]) == ("replayed", hold.id, "committed")


def test_invalid_guest_data_is_refused_unless_the_commit_is_a_replay(database: TestDatabase) -> None:
    """The service detects the fault without knowing of an earlier commit.

    The hold stays as it is, and whether it was released or has expired is not examined. An unknown hold is not found,
    whatever the guest's data are: a fault may depend on the country of the business, and must not reveal that there is
    one.
    """
    database.make_service(capacity=4)
    fault = {"field": "guest_phone", "code": "invalid_phone", "parameters": {}}
    holds = [database.reserve(10).id for _ in range(2)]
    expired = database.reserve(10, ttl_minutes=1).id
    released = database.reserve(10).id
    database.release(released)
    database.move_clock(timedelta(minutes=1))
    requests = [
        commit_request(hold, guest_fault=fault, if_expired="rebook")
        for hold in (holds[0], str(uuid4()), expired, released)
    ]
    first, unknown, *ended = database.call("commit", requests)
    assert (unknown.name, unknown.body) == ("reservation_not_found", {})
    for outcome in (first, *ended):
        assert (outcome.name, outcome.body) == ("validation_failed", fault)
    assert [database.status(hold) for hold in holds] == ["held", "held"]
    assert database.value("SELECT count(*) FROM booking.appointments") == 0
    committed = database.commit(holds[0])
    for again in (database.commit(holds[0], guest_fault=fault), *database.call("commit", requests[:1])):
        assert (again.name, again.body) == ("replayed", committed.body)
    pair = [commit_request(holds[1]), commit_request(holds[1], guest_fault=fault)]
    assert names(database.call("commit", pair)) == ["done", "replayed"]
