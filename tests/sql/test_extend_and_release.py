"""booking.extend and booking.release: a hold lives longer, or is given up."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from tests.database import TestDatabase, extend_request, release_request
from tests.sql.requests import names

TTL = timedelta(minutes=15)
INSTANT = timedelta(microseconds=1)


def row(database: TestDatabase, hold: str) -> tuple[object, ...]:
    """Returns the stored row of a reservation."""
    [stored] = database.rows("SELECT * FROM booking.reservations WHERE reservation_id = %s", hold)
    return stored


def test_an_extended_hold_lives_for_the_requested_time_from_now(database: TestDatabase) -> None:
    """The new expiry counts from booking.now() and not from the old expiry, whatever the client's clock shows."""
    database.make_service()
    now = database.freeze_clock()
    hold = database.reserve(10).id
    now = database.freeze_clock(now + timedelta(minutes=10))
    outcome = database.extend(hold, 20.5)
    assert outcome.name == "done"
    assert datetime.fromisoformat(outcome.body["expires_at"]) == now + timedelta(minutes=20.5)
    assert (outcome.body["expires_in_seconds"], outcome.body["version"], outcome.body["ttl_clamped"]) == (
        1230,
        2,
        False,
    )
    database.freeze_clock(now + timedelta(minutes=20.5) - INSTANT)
    assert database.commit(hold).name == "done"


def test_an_extend_never_shortens_a_hold(database: TestDatabase) -> None:
    """The expiry is the later of the old and the requested one; if it stays the same, so does the version."""
    database.make_service()
    database.freeze_clock()
    first = database.reserve(10)
    for ttl_minutes in (5, 15):
        outcome = database.extend(first.id, ttl_minutes)
        assert (outcome.name, outcome.body) == ("done", first.body)


def test_an_extend_is_limited_to_the_maximum_of_the_service(database: TestDatabase) -> None:
    """The answer shows the limit with ttl_clamped, as the answer of a reserve does."""
    database.make_service(max_hold_ttl_minutes=60)
    database.freeze_clock()
    body = database.extend(database.reserve(10).id, 90).body
    assert (body["expires_in_seconds"], body["ttl_clamped"]) == (3600, True)


def test_an_extend_past_the_lifetime_of_the_hold_is_refused(database: TestDatabase) -> None:
    """The lifetime counts from the creation of the hold, and may be used up to its end.

    The refusal has the latest possible expiry, and changes nothing.
    """
    database.make_service(max_hold_ttl_minutes=60, max_hold_lifetime_minutes=90)
    made_at = database.freeze_clock()
    hold = database.reserve(10, ttl_minutes=60).id
    database.freeze_clock(made_at + timedelta(minutes=50))
    before = row(database, hold)
    refused = database.extend(hold, 40.001)
    assert refused.name == "hold_lifetime_exceeded"
    assert datetime.fromisoformat(refused.body["max_expires_at"]) == made_at + timedelta(minutes=90)
    assert row(database, hold) == before
    assert database.extend(hold, 40).name == "done"
    database.freeze_clock(made_at + timedelta(minutes=90))
    assert database.commit(hold).name == "reservation_expired"


def test_a_hold_lives_by_default_for_four_times_the_longest_time(database: TestDatabase) -> None:
    """The longest time that a request may ask for counts, not the default."""
    database.make_service(hold_ttl_minutes=15, max_hold_ttl_minutes=30, max_hold_lifetime_minutes=None)
    made_at = database.freeze_clock()
    hold = database.reserve(10, ttl_minutes=30).id
    for minutes, outcome in ((25, "done"), (50, "done"), (75, "done"), (90, "done"), (91, "hold_lifetime_exceeded")):
        database.freeze_clock(made_at + timedelta(minutes=minutes))
        assert database.extend(hold, 30).name == outcome


def test_an_extend_with_another_expected_version_is_refused(database: TestDatabase) -> None:
    """The refusal has the current version, and changes nothing."""
    database.make_service()
    hold = database.reserve(10).id
    database.extend(hold, 20)
    before = row(database, hold)
    outcome = database.extend(hold, 40, expected_version=1)
    assert (outcome.name, outcome.body) == ("version_conflict", {"current_version": 2})
    assert row(database, hold) == before
    assert database.extend(hold, 40, expected_version=2).body["version"] == 3


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(days=1)])
def test_an_expired_hold_cant_be_extended(database: TestDatabase, delay: timedelta) -> None:
    """Its room may be given to others: after the refusal it stays expired, even if the clock steps back.

    Only the refusal that ended it names the freed slot.
    """
    database.make_service()
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL + delay)
    refused = database.extend(hold)
    assert (refused.name, set(refused.body)) == ("reservation_expired", {"freed"})
    assert database.status(hold) == "expired"
    database.freeze_clock(now)
    again = database.extend(hold)
    assert (again.name, again.body) == ("reservation_expired", {})


def test_ended_and_unknown_holds_cant_be_extended(database: TestDatabase) -> None:
    """Each state has its own outcome, in one batch."""
    database.make_service(capacity=5)
    released, committed, live = (database.reserve(10).id for _ in range(3))
    database.release(released)
    database.commit(committed)
    requests = [extend_request(hold, 30) for hold in (released, committed, str(uuid4()), live)]
    assert names(database.call("extend", requests)) == [
        "reservation_released",
        "reservation_committed",
        "reservation_not_found",
        "done",
    ]
    assert database.extend(live, business_id="nobody").name == "reservation_not_found"


def test_extends_of_one_hold_in_one_batch_see_each_other(database: TestDatabase) -> None:
    """A call decides the first extend of a hold and defers the others, which then see its effect."""
    database.make_service(capacity=2, max_hold_ttl_minutes=60, max_hold_lifetime_minutes=60)
    database.freeze_clock()
    hold, other = database.reserve(10).id, database.reserve(10).id
    requests = [
        extend_request(hold, 20, expected_version=1),
        extend_request(hold, 30, expected_version=1),
        extend_request(other, 20),
        extend_request(hold, 40, expected_version=2),
        extend_request(hold, 25),
    ]
    outcomes = database.call("extend", requests)
    assert names(outcomes) == ["done", "deferred", "done", "deferred", "deferred"]
    assert [outcomes[0].body["version"], outcomes[2].body["version"]] == [2, 2]
    outcomes = database.call("extend", [requests[1], requests[3], requests[4]])
    assert names(outcomes) == ["version_conflict", "deferred", "deferred"]
    outcomes = database.call("extend", [requests[3], requests[4]])
    assert (names(outcomes), outcomes[0].body["version"]) == (["done", "deferred"], 3)
    [last] = database.call("extend", [requests[4]])
    assert (last.body["version"], last.body["expires_in_seconds"]) == (3, 2400)


def test_an_extend_that_is_sent_again_has_one_effect(database: TestDatabase) -> None:
    """An extend sent again after its answer was lost does not extend the hold a second time."""
    database.make_service()
    now = database.freeze_clock()
    hold = database.reserve(10).id
    request = extend_request(hold, 30, expected_version=1)
    [first] = database.call("extend", [request])
    for later, status in ((timedelta(minutes=5), "held"), (timedelta(minutes=40), "expired")):
        database.freeze_clock(now + later)
        [again] = database.call("extend", [request])
        assert (again.name, again.body["status"], again.body["version"]) == ("done", status, 2)
        assert again.body["expires_at"] == first.body["expires_at"]


def test_a_released_hold_frees_its_room(database: TestDatabase) -> None:
    """The room is free at once, and a second release changes nothing."""
    database.make_service(capacity=1)
    hold = database.reserve(10).id
    assert database.release(hold).name == "done"
    assert (database.status(hold), database.capacity(10)["available"]) == ("released", 1)
    before = row(database, hold)
    assert database.release(hold).name == "done"
    assert row(database, hold) == before


def test_releasing_an_expired_hold_is_done(database: TestDatabase) -> None:
    """The hold ends as expired, and a step back of the clock does not revive it."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    unmarked = database.reserve(10).id
    marked = database.reserve(15).id
    database.freeze_clock(now + TTL)
    database.commit(marked)
    assert names(database.call("release", [release_request(unmarked), release_request(marked)])) == ["done", "done"]
    assert [database.status(hold) for hold in (unmarked, marked)] == ["expired", "expired"]
    database.freeze_clock(now)
    assert database.capacity(10)["available"] == 1


def test_an_appointment_cant_be_released(database: TestDatabase) -> None:
    """A committed hold can only be cancelled as an appointment; an unknown hold is not found."""
    database.make_service(capacity=5)
    committed, live = database.reserve(10).id, database.reserve(10).id
    database.commit(committed)
    requests = [release_request(hold) for hold in (committed, str(uuid4()), live, live)]
    outcomes = database.call("release", requests)
    assert names(outcomes) == ["reservation_committed", "reservation_not_found", "done", "done"]
    assert [outcome.body != {} for outcome in outcomes] == [False, False, True, True]
    assert database.capacity(10)["booked"] == 1
    assert database.release(live, business_id="nobody").name == "reservation_not_found"


def test_a_hold_of_another_business_is_not_found(database: TestDatabase) -> None:
    """The id of a hold of another business is unknown, and the hold stays as it is."""
    database.make_service()
    database.make_service(business_id="clinic")
    hold = database.reserve(10).id
    before = row(database, hold)
    assert database.extend(hold, business_id="clinic").name == "reservation_not_found"
    assert database.release(hold, business_id="clinic").name == "reservation_not_found"
    assert row(database, hold) == before


def test_a_session_releases_before_and_after_a_column_is_added(database: TestDatabase) -> None:
    """A newer release adds columns while processes of the former one go on with their connections."""
    database.make_service()
    for column in ("made_later", "made_last"):
        assert database.release(database.reserve(10).id).name == "done"
        database.admin.execute(f"ALTER TABLE booking.reservations ADD COLUMN {column} text DEFAULT 'new'".encode())
