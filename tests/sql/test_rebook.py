"""booking.commit with if_expired = 'rebook': the slot of an expired hold is booked if it is still free."""

from concurrent.futures import Future
from datetime import datetime, timedelta

import pytest

from tests.database import Outcome, TestDatabase, at, commit_request
from tests.sql.catalog import delete_service
from tests.sql.requests import names
from tests.sql.rivals import SECONDS, Rivals

TTL = timedelta(minutes=15)


@pytest.fixture
def expired(database: TestDatabase) -> str:
    """Returns a hold of ten o'clock that has just expired, on a service with capacity 1."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL)
    return hold


def rebook(database: TestDatabase, hold: str, **request: object) -> Outcome:
    """Commits a hold, or books its slot again if it has expired."""
    return database.commit(hold, if_expired="rebook", **request)


def test_a_slot_that_is_still_free_is_booked(database: TestDatabase, expired: str) -> None:
    """The hold stays expired, and the appointment has its id."""
    outcome = rebook(database, expired)
    assert (outcome.name, outcome.body["reservation_id"], outcome.body["status"]) == ("done", expired, "confirmed")
    assert datetime.fromisoformat(outcome.body["slot_start"]) == at(10)
    assert database.status(expired) == "expired"
    assert database.capacity(10) == {"capacity": 1, "held": 0, "booked": 1, "available": 0}


@pytest.mark.parametrize(
    ("ttl_minutes", "outcome"), [(0.001, "reservation_expired"), (0.99, "reservation_expired"), (1, "done")]
)
def test_a_hold_too_short_to_pay_keeps_to_the_public_rules(
    database: TestDatabase, ttl_minutes: float, outcome: str
) -> None:
    """It would be a free option on a slot that the notice forbids by then. An extended hold is long enough."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold, extended = database.reserve(10, ttl_minutes=ttl_minutes).id, database.reserve(12, ttl_minutes=0.01).id
    assert database.extend(extended, 1).name == "done"
    database.put_service(capacity=1, min_notice_minutes=3 * 365 * 24 * 60)
    database.freeze_clock(now + timedelta(minutes=2))
    assert database.reserve(10).name == "slot_not_bookable"
    assert rebook(database, hold).name == outcome
    assert rebook(database, extended).name == "done"


def test_a_short_hold_of_a_slot_that_is_open_is_booked_again(database: TestDatabase) -> None:
    """It gets a resource that the public can book; where the business or all resources are closed, it gets none."""
    database.make_service(resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    holds = [database.reserve(hour, ttl_minutes=0.01).id for hour in (10, 12, 14)]
    database.freeze_clock(now + timedelta(minutes=1))
    database.put_closure("anna", at(10), at(15), "anna")
    database.put_closure("bert", at(12), at(13), "bert")
    database.put_closure("all", at(14), at(15))
    first, second, third = (rebook(database, hold) for hold in holds)
    assert (first.name, first.body["resource_id"]) == ("done", "bert")
    assert names([second, third]) == ["slot_unavailable", "reservation_expired"]


def test_a_rebook_of_a_live_hold_is_a_commit(database: TestDatabase) -> None:
    """The hold becomes committed, and its room is counted once."""
    database.make_service(capacity=1)
    hold = database.reserve(10).id
    assert rebook(database, hold).name == "done"
    assert database.status(hold) == "committed"


@pytest.mark.parametrize("is_booked", [False, True])
def test_a_slot_that_was_taken_meanwhile_is_not_booked_twice(
    database: TestDatabase, expired: str, is_booked: bool
) -> None:
    """Held and booked claims of others stay as they are."""
    rival = database.reserve(10).id
    if is_booked:
        database.commit(rival)
    assert rebook(database, expired).name == "slot_unavailable"
    assert database.status(rival) == ("committed" if is_booked else "held")
    assert database.status(expired) == "expired"


def test_a_refused_rebook_may_be_repeated(database: TestDatabase, expired: str) -> None:
    """The rebook succeeds after the other claim was released."""
    rival = database.reserve(10).id
    assert rebook(database, expired).name == "slot_unavailable"
    database.release(rival)
    assert rebook(database, expired).name == "done"


def test_a_plain_commit_of_an_expired_hold_is_refused(database: TestDatabase, expired: str) -> None:
    """A rebook after the refusal still succeeds."""
    assert database.commit(expired).name == "reservation_expired"
    assert rebook(database, expired).name == "done"


def test_a_rebook_that_is_repeated_gets_the_same_appointment(database: TestDatabase, expired: str) -> None:
    """Repeated commits with and without rebook are replayed; the operation itself, sent again, is done."""
    request = commit_request(expired, if_expired="rebook")
    [first] = database.call("commit", [request])
    [resent] = database.call("commit", [request])
    assert (resent.name, resent.body) == ("done", first.body)
    for again in (rebook(database, expired), database.commit(expired)):
        assert (again.name, again.body) == ("replayed", first.body)


def test_copies_of_a_rebook_take_room_once(database: TestDatabase) -> None:
    """Also where there is room for a second appointment; the counts are those of one."""
    database.make_service(capacity=2)
    hold = database.reserve(10).id
    database.move_clock(TTL)
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for _ in range(2)])
    assert names(outcomes) == ["done", "replayed"]
    assert database.capacity(10)["available"] == 1


def test_a_hold_marked_by_the_purge_can_be_rebooked(database: TestDatabase, expired: str) -> None:
    """The mark makes no difference, but a deleted reservation is not found."""
    assert database.purge() == (1, 0, False)
    database.release(expired)
    assert rebook(database, expired).name == "done"
    other = database.reserve(20).id
    for _ in range(2):
        database.move_clock(timedelta(days=2))
        database.purge()
    assert rebook(database, other).name == "reservation_not_found"


def test_a_rebook_keeps_the_quantity_and_the_buffers_of_its_hold(database: TestDatabase) -> None:
    """The rebook makes the claim of the hold again, not one by the current settings."""
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


def test_a_slot_that_has_begun_is_rebooked(database: TestDatabase, expired: str) -> None:
    """The guest has paid, and may already be there."""
    database.freeze_clock(at(11) - timedelta(microseconds=1))
    assert rebook(database, expired).name == "done"


def test_a_past_slot_is_not_rebooked(database: TestDatabase, expired: str) -> None:
    """The rebook is refused alone and in a batch, whose other requests are granted."""
    later = database.reserve(11).id
    database.freeze_clock(at(11))
    assert rebook(database, expired).name == "slot_unavailable"
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in (expired, later)])
    assert names(outcomes) == ["slot_unavailable", "done"]


def test_a_slot_of_an_archived_service_is_not_rebooked(database: TestDatabase, expired: str) -> None:
    """A live hold of the service could be committed, but a rebook is a new claim."""
    delete_service(database)
    assert rebook(database, expired).name == "slot_unavailable"


def test_a_refused_rebook_ends_its_hold_even_if_the_clock_steps_back(database: TestDatabase, expired: str) -> None:
    """This holds even if no room was searched for, because a payment may have been refunded."""
    delete_service(database)
    assert rebook(database, expired).name == "slot_unavailable"
    database.move_clock(-TTL)
    assert database.commit(expired).name == "reservation_expired"


def test_a_refused_rebook_returns_the_slot_that_its_hold_leaves(database: TestDatabase, expired: str) -> None:
    """It returns the slot once, with the call that ends the hold: the purge will not find it."""
    delete_service(database)
    freed = {"service_id": "cut", "resource_id": None, "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}
    assert [rebook(database, expired).body.get("freed") for _ in range(2)] == [freed, None]


def test_a_rebook_on_another_resource_says_that_it_frees_more(database: TestDatabase) -> None:
    """The former resource has room; a rebook on the same resource frees nothing."""
    database.make_service(resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    hold, named = database.reserve(10), database.reserve(14, resource_id="anna")
    database.freeze_clock(now + TTL)
    # The resource with less work on the day gets a claim.
    database.book(12, resource_id=hold.body["resource_id"])
    request = commit_request(hold.id, if_expired="rebook")
    booked = database.call("commit", [request])[0].body
    assert (booked["resource_id"] == hold.body["resource_id"], booked["frees_more"]) == (False, True)
    assert "frees_more" not in database.call("commit", [request])[0].body
    assert "frees_more" not in rebook(database, named.id).body


def test_of_two_refused_rebooks_of_a_hold_the_first_returns_its_slot(database: TestDatabase, expired: str) -> None:
    """In one call as in two."""
    delete_service(database)
    outcomes = database.call("commit", [commit_request(expired, if_expired="rebook") for _ in range(2)])
    assert names(outcomes) == ["slot_unavailable", "slot_unavailable"]
    assert ["freed" in outcome.body for outcome in outcomes] == [True, False]


def test_rebooks_in_one_batch_share_the_room(database: TestDatabase) -> None:
    """The first request gets the room, and a second rebook of its hold is replayed."""
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


def test_a_plain_commit_beside_a_rebook_of_its_hold(database: TestDatabase, expired: str) -> None:
    """The plain commit is refused, or replays the appointment of the rebook."""
    outcomes = database.call("commit", [commit_request(expired), commit_request(expired, if_expired="rebook")])
    assert outcomes[0].name in ("reservation_expired", "replayed")
    assert outcomes[1].name == "done"


def test_two_concurrent_rebooks_of_the_last_unit(database: TestDatabase, rivals: Rivals) -> None:
    """Both wait for the lock, and the second one sees the booking of the first."""
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
