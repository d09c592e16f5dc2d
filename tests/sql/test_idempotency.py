"""Idempotency keys of booking.reserve and booking.book: one effect per key, and what a retry gets."""

from datetime import datetime, timedelta

import pytest

from tests.database import TestDatabase, at, reserve_request
from tests.sql.catalog import delete_service
from tests.sql.requests import MAKE_KEYED_REQUEST, keyed_request, names

DAY = timedelta(hours=24)


def count(database: TestDatabase) -> int:
    """Counts the reservations."""
    number: int = database.value("SELECT count(*) FROM booking.reservations")
    return number


def test_a_retry_gets_the_first_answer(database: TestDatabase) -> None:
    """A retry makes no second hold, and gets the same body with the remaining time."""
    database.make_service(capacity=5)
    database.freeze_clock()
    [first] = database.call("reserve", [keyed_request("k")])
    [again] = database.call("reserve", [keyed_request("k")])
    assert (first.name, again.name) == ("done", "replayed")
    assert again.body == first.body
    database.move_clock(timedelta(seconds=2))
    [later] = database.call("reserve", [keyed_request("k")])
    assert later.body == {**first.body, "expires_in_seconds": first.body["expires_in_seconds"] - 2}
    assert count(database) == 1


def test_another_request_with_the_key_is_refused(database: TestDatabase) -> None:
    """The refusal reveals nothing, and the hold that was made with the key stays as it was."""
    database.make_service(capacity=5)
    [first] = database.call("reserve", [keyed_request("k")])
    before = database.rows("SELECT * FROM booking.reservations")
    [other] = database.call("reserve", [keyed_request("k", "that", 15)])
    assert (other.name, other.body) == ("idempotency_key_reused", {})
    assert database.rows("SELECT * FROM booking.reservations") == before
    assert database.call("reserve", [keyed_request("k")])[0].id == first.id


@pytest.mark.parametrize("verb", MAKE_KEYED_REQUEST)
def test_keys_of_two_businesses_are_independent(database: TestDatabase, verb: str) -> None:
    """Each business has its own keys, and a caller learns nothing about the keys of others."""
    make = MAKE_KEYED_REQUEST[verb]
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)
    [clinic] = database.call(verb, [make("k")], business_id="clinic")
    [salon] = database.call(verb, [make("k", "that")])
    assert (clinic.name, salon.name) == ("done", "done")
    assert clinic.id != salon.id


@pytest.mark.parametrize("ending", ["released", "expired", "expired and marked", "committed"])
def test_a_retry_after_the_hold_ended_gets_that_hold(database: TestDatabase, ending: str) -> None:
    """A retry makes no second hold, because the first attempt succeeded."""
    database.make_service(capacity=5)
    database.freeze_clock()
    [first] = database.call("reserve", [keyed_request("k")])
    if ending == "released":
        database.release(first.id)
    elif ending == "committed":
        database.commit(first.id)
    else:
        database.move_clock(timedelta(minutes=15))
        if ending == "expired and marked":
            assert database.purge() == (1, 0, False)
    [again] = database.call("reserve", [keyed_request("k")])
    assert (again.name, again.id) == ("replayed", first.id)
    assert (again.body["status"], again.body["expires_in_seconds"]) == (ending.partition(" ")[0], 0)
    assert count(database) == 1


def test_a_retry_shows_the_hold_as_it_is_now(database: TestDatabase) -> None:
    """Expiry and version are the current ones."""
    database.make_service(capacity=5)
    database.freeze_clock()
    [first] = database.call("reserve", [keyed_request("k")])
    extended = database.extend(first.id, 40)
    [again] = database.call("reserve", [keyed_request("k")])
    assert again.body == extended.body
    assert again.body["version"] == 2


@pytest.mark.parametrize("size", [1, 2])
def test_a_retry_precedes_every_other_rule(database: TestDatabase, size: int) -> None:
    """The slot is past, the service archived and the room taken, and the retry still gets the first hold."""
    database.make_service(capacity=1)
    [first] = database.call("reserve", [keyed_request("k")])
    database.freeze_clock(at(12))
    delete_service(database)
    outcomes = database.call("reserve", [keyed_request("k") for _ in range(size)])
    assert names(outcomes) == ["replayed"] * size
    assert outcomes[0].id == first.id


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("verb", MAKE_KEYED_REQUEST)
def test_a_refusal_keeps_no_key(database: TestDatabase, verb: str, size: int) -> None:
    """When there is room again, the same key gets it, for the same request or for another one."""
    make = MAKE_KEYED_REQUEST[verb]
    database.make_service(capacity=1)
    rival = database.reserve(10)
    assert set(names(database.call(verb, [make("k") for _ in range(size)]))) == {"slot_unavailable"}
    assert set(names(database.call(verb, [make("l", hour=-999) for _ in range(size)]))) == {"slot_not_bookable"}
    database.release(rival.id)
    assert names(database.call(verb, [make("k")])) == ["done"]
    assert names(database.call(verb, [make("l", "that", 15)])) == ["done"]


def test_a_new_key_is_a_new_attempt(database: TestDatabase) -> None:
    """A slot can be held again under a new key, any number of times, after the earlier hold was released."""
    database.make_service(capacity=1)
    for key in ("first", "second", "third"):
        [outcome] = database.call("reserve", [keyed_request(key)])
        assert outcome.name == "done"
        assert database.release(outcome.id).name == "done"
    assert count(database) == 3


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("key", [{}, {"idempotency_key": "k", "fingerprint": "this"}], ids=["no key", "key"])
def test_an_operation_that_is_sent_again_has_one_effect(database: TestDatabase, key: dict[str, str], size: int) -> None:
    """A batch whose answer was lost is sent again under the same ids, alone or with other requests."""
    database.make_service(capacity=1)
    database.freeze_clock()
    request = {**reserve_request(10), **key}
    [first] = database.call("reserve", [request])
    database.move_clock(timedelta(hours=1))
    others_of_batch = [reserve_request(10 + number) for number in range(1, size)]
    again, *others = database.call("reserve", [request, *others_of_batch])
    assert (again.name, again.id, again.body["status"]) == ("done", first.id, "expired")
    assert names(others) == ["done"] * (size - 1)
    assert count(database) == size


@pytest.mark.parametrize("verb", MAKE_KEYED_REQUEST)
def test_a_repeated_operation_is_answered_before_its_key(database: TestDatabase, verb: str) -> None:
    """The answer is `done` and not `replayed`, because the first answer was lost."""
    make = MAKE_KEYED_REQUEST[verb]
    database.make_service(capacity=5)
    request = make("k")
    outcomes = [database.call(verb, batch)[0] for batch in ([request], [request], [request, make("k")])]
    assert names(outcomes) == ["done"] * 3


def test_keys_are_kept_for_the_retention_and_no_longer(database: TestDatabase) -> None:
    """After the purge has deleted the reservation, a request with its key is a new attempt."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    [first] = database.call("reserve", [keyed_request("k")])
    database.release(first.id)
    database.freeze_clock(now + DAY - timedelta(seconds=1))
    assert database.purge(retention=DAY) == (0, 0, False)
    assert names(database.call("reserve", [keyed_request("k")])) == ["replayed"]
    database.freeze_clock(now + DAY)
    assert database.purge(retention=DAY) == (0, 1, False)
    [anew] = database.call("reserve", [keyed_request("k", "that")])
    assert anew.name == "done"
    assert anew.id != first.id


def test_retention_counts_from_the_end_of_the_hold(database: TestDatabase) -> None:
    """Counted from its beginning, a long-lived hold would be deleted as soon as it ended."""
    database.make_service(capacity=1, max_hold_ttl_minutes=2 * 24 * 60, max_hold_lifetime_minutes=2 * 24 * 60)
    database.freeze_clock()
    [first] = database.call("reserve", [keyed_request("k", ttl_minutes=2 * 24 * 60)])
    expires_at = datetime.fromisoformat(first.body["expires_at"])
    database.freeze_clock(expires_at)
    assert database.purge(retention=DAY) == (1, 0, False)
    assert names(database.call("reserve", [keyed_request("k")])) == ["replayed"]
