"""booking.commit with if_expired = 'rebook': the money came after the hold had gone."""

from concurrent.futures import Future
from datetime import datetime, timedelta

import pytest

from tests.database import Outcome, TestDatabase, at, commit_request
from tests.sql.asking import names
from tests.sql.rivals import SECONDS, Rivals

TTL = timedelta(minutes=15)


@pytest.fixture
def expired(database: TestDatabase) -> str:
    """A hold of ten o'clock that has just expired, on a service for one guest at a time."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL)
    return hold


def rebook(database: TestDatabase, hold: str, **request: object) -> Outcome:
    """Commits a hold, or books its slot again if it has expired."""
    return database.commit(hold, if_expired="rebook", **request)


def test_a_slot_that_is_still_free_is_booked(database: TestDatabase, expired: str) -> None:
    """The hold stays what it is, expired, and the appointment remembers it."""
    outcome = rebook(database, expired)
    assert (outcome.name, outcome.body["reservation_id"], outcome.body["status"]) == ("done", expired, "confirmed")
    assert datetime.fromisoformat(outcome.body["slot_start"]) == at(10)
    assert database.status(expired) == "expired"
    assert database.capacity(10) == {"capacity": 1, "held": 0, "booked": 1, "available": 0}


def test_a_live_hold_needs_no_rebooking(database: TestDatabase) -> None:
    """Then it is an ordinary commit, of a hold whose room is counted once."""
    database.make_service(capacity=1)
    hold = database.reserve(10).id
    assert rebook(database, hold).name == "done"
    assert database.status(hold) == "committed"


@pytest.mark.parametrize("is_booked", [False, True])
def test_a_slot_that_was_taken_meanwhile_is_not_booked_twice(
    database: TestDatabase, expired: str, is_booked: bool
) -> None:
    """Nobody else's claim is touched, whether it is held or booked."""
    rival = database.reserve(10).id
    if is_booked:
        database.commit(rival)
    assert rebook(database, expired).name == "slot_unavailable"
    assert database.status(rival) == ("committed" if is_booked else "held")
    assert database.status(expired) == "expired"


def test_a_refused_rebook_may_be_tried_again(database: TestDatabase, expired: str) -> None:
    """When the rival has gone, the slot is free again and the money is still there."""
    rival = database.reserve(10).id
    assert rebook(database, expired).name == "slot_unavailable"
    database.release(rival)
    assert rebook(database, expired).name == "done"


def test_without_asking_for_it_nothing_is_booked_again(database: TestDatabase, expired: str) -> None:
    """And a refusal does not stand in the way of asking."""
    assert database.commit(expired).name == "reservation_expired"
    assert rebook(database, expired).name == "done"


def test_a_rebook_that_is_repeated_gets_the_same_appointment(database: TestDatabase, expired: str) -> None:
    """With or without the wish to rebook, and when the operation itself is sent again."""
    request = commit_request(expired, if_expired="rebook")
    [first] = database.call("commit", [request])
    [resent] = database.call("commit", [request])
    assert (resent.name, resent.body) == ("done", first.body)
    for again in (rebook(database, expired), database.commit(expired)):
        assert (again.name, again.body) == ("replayed", first.body)


def test_a_hold_that_the_purge_has_marked_can_be_booked_again(database: TestDatabase, expired: str) -> None:
    """It is the state of the hold that counts, not who found out; but what was deleted is not found any more."""
    assert database.purge() == (1, 0, False)
    database.release(expired)
    assert rebook(database, expired).name == "done"
    other = database.reserve(20).id
    for _ in range(2):
        database.move_clock(timedelta(days=2))
        database.purge()
    assert rebook(database, other).name == "reservation_not_found"


def test_a_rebook_wants_the_quantity_and_the_buffers_of_its_hold(database: TestDatabase) -> None:
    """It is the same claim again, as it was made, and not one by the rules of today."""
    database.make_service(capacity=3, buffer_after_minutes=30)
    now = database.freeze_clock()
    hold = database.reserve(10, quantity=2).id
    database.freeze_clock(now + TTL)
    database.put_service(capacity=3)
    rival = database.reserve(11, quantity=2).id
    assert rebook(database, hold).name == "slot_unavailable"
    database.release(rival)
    database.reserve(11)
    assert rebook(database, hold).body["quantity"] == 2


def test_the_slot_may_have_begun_meanwhile(database: TestDatabase, expired: str) -> None:
    """The guest has paid, and may be sitting in the chair."""
    database.freeze_clock(at(11) - timedelta(microseconds=1))
    assert rebook(database, expired).name == "done"


def test_a_slot_that_is_over_is_not_booked(database: TestDatabase, expired: str) -> None:
    """Nobody can come to it any more: the money goes back, alone or in a batch with others that are free."""
    later = database.reserve(11).id
    database.freeze_clock(at(11))
    assert rebook(database, expired).name == "slot_unavailable"
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in (expired, later)])
    assert names(outcomes) == ["slot_unavailable", "done"]


def test_a_slot_of_a_service_that_is_gone_is_not_booked(database: TestDatabase, expired: str) -> None:
    """Its live holds could still be committed; this one would be a new claim."""
    database.rows("SELECT * FROM booking.delete_service('salon', 'cut', 'infinity')")
    assert rebook(database, expired).name == "slot_unavailable"


def test_a_refused_rebook_is_the_end_of_its_hold_even_if_the_clock_steps_back(
    database: TestDatabase, expired: str
) -> None:
    """Also where nobody looked for room, as the service is gone: the money went back when it was refused."""
    database.rows("SELECT * FROM booking.delete_service('salon', 'cut', 'infinity')")
    assert rebook(database, expired).name == "slot_unavailable"
    database.move_clock(-TTL)
    assert database.commit(expired).name == "reservation_expired"


def test_two_rebooks_in_one_batch_share_what_room_there_is(database: TestDatabase) -> None:
    """First come, first served; and one hold that is rebooked twice is one appointment."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    holds = [database.reserve(10).id, database.reserve(10).id]
    database.freeze_clock(now + TTL)
    rival = database.reserve(10).id
    requests = [commit_request(hold, if_expired="rebook") for hold in (holds[0], holds[1], holds[0])]
    requests.append(commit_request(rival))
    outcomes = database.call("commit", requests)
    assert names(outcomes) == ["done", "slot_unavailable", "replayed", "done"]
    assert outcomes[2].body == outcomes[0].body


def test_only_those_of_a_batch_that_ask_for_it_are_booked_again(database: TestDatabase, expired: str) -> None:
    """A plain commit of the same expired hold is refused, or gets the appointment that its neighbour made."""
    outcomes = database.call("commit", [commit_request(expired), commit_request(expired, if_expired="rebook")])
    assert outcomes[0].name in ("reservation_expired", "replayed")
    assert outcomes[1].name == "done"


def test_two_rebooks_at_once_for_the_last_unit(database: TestDatabase, rivals: Rivals) -> None:
    """Both wait for the lock, and whoever has it second sees what the first one booked."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    first = database.reserve(10).id
    database.freeze_clock(now + TTL)
    second = database.reserve(10).id
    database.freeze_clock(now + TTL * 2)

    def start(hold: str) -> Future[Outcome]:
        return rivals.start(lambda connection: rebook(database, hold, connection=connection))

    with database.locked() as lock:
        answers = [start(first), start(second)]
        database.wait_until_blocked(2)
        lock.commit()
        outcomes = [answer.result(SECONDS) for answer in answers]
    assert sorted(names(outcomes)) == ["done", "slot_unavailable"]
