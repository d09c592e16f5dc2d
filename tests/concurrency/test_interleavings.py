"""Concurrent verbs on one business, in each order in which they can get its lock, without dependence on timing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import psycopg
import pytest

from tests.concurrency.batches import execute
from tests.concurrency.rivals import Rivals, wait_for
from tests.concurrency.turns import in_turn, purge
from tests.database import (
    Outcome,
    TestDatabase,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)

JUST_BEFORE = -timedelta(microseconds=1)
ORDERS = list(permutations(("purge", "commit", "extend")))


@pytest.fixture
def hold(database: TestDatabase) -> Outcome:
    """Returns a hold of the only unit of a service, with the clock frozen at the instant of the reserve."""
    database.make_service()
    database.freeze_clock()
    return database.reserve()


def expiry(hold: Outcome) -> datetime:
    """Returns when a hold expires."""
    return datetime.fromisoformat(hold.body["expires_at"])


def meet(
    rivals: Rivals, hold: Outcome, order: tuple[str, ...], meanwhile: Callable[[], object] = lambda: None
) -> dict[str, str]:
    """Runs purge, commit and extend on one hold in a given order, and returns the result of each."""
    calls: dict[str, Callable[[TestDatabase], str]] = {
        "purge": purge,
        "commit": lambda client: client.commit(hold.id).name,
        "extend": lambda client: client.extend(hold.id).name,
    }
    return dict(zip(order, in_turn(rivals, [calls[name] for name in order], meanwhile), strict=True))


def assert_final(database: TestDatabase, hold: Outcome, status: str) -> None:
    """Checks the hold's state, and that nothing changes it, even if the clock steps back before its expiry."""

    def state() -> list[tuple[Any, ...]]:
        return database.rows(
            "SELECT r.status, r.version, r.expires_at, r.ended_at, a.appointment_id, a.version "
            "FROM booking.reservations r LEFT JOIN booking.appointments a USING (business_id, reservation_id) "
            "WHERE r.reservation_id = %s",
            hold.id,
        )

    before = state()
    assert before[0][0] == status
    database.move_clock(-timedelta(minutes=10))
    database.extend(hold.id)
    database.commit(hold.id)
    database.release(hold.id)
    database.purge()
    assert state() == before


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_at_the_instant_of_its_expiry_a_hold_is_expired_for_every_verb(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """The first verb marks the hold as expired, once, and the room can be held again."""
    database.freeze_clock(expiry(hold))
    results = meet(rivals, hold, order)
    assert results["commit"] == results["extend"] == "reservation_expired"
    assert results["purge"] == ("1 expired" if order[0] == "purge" else "0 expired")
    assert database.value("SELECT version FROM booking.reservations") == 2
    assert database.reserve().name == "done"
    assert_final(database, hold, "expired")


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_just_before_its_expiry_a_hold_is_committed_in_any_order(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """A live hold can be committed after any other verb, and a committed hold can't be extended."""
    database.freeze_clock(expiry(hold) + JUST_BEFORE)
    results = meet(rivals, hold, order)
    extended = order.index("extend") < order.index("commit")
    assert results == {
        "purge": "0 expired",
        "commit": "done",
        "extend": "done" if extended else "reservation_committed",
    }
    assert_final(database, hold, "committed")


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_verb_that_waits_for_the_lock_across_the_expiry_is_too_late(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """Each verb reads the clock after it gets the lock: the first one before the expiry, the others after it."""
    database.freeze_clock(expiry(hold) + JUST_BEFORE)
    results = meet(rivals, hold, order, meanwhile=lambda: database.freeze_clock(expiry(hold)))
    if order[0] == "commit":
        assert results == {"commit": "done", "extend": "reservation_committed", "purge": "0 expired"}
    elif order[0] == "extend":
        assert results == {"extend": "done", "commit": "done", "purge": "0 expired"}
    else:
        assert results == {"purge": "0 expired", "commit": "reservation_expired", "extend": "reservation_expired"}
    assert_final(database, hold, "expired" if order[0] == "purge" else "committed")


@pytest.mark.parametrize("rival_first", [False, True], ids=["commit-first", "rival-first"])
def test_a_commit_that_waits_across_the_expiry_and_a_rival_never_both_succeed(
    database: TestDatabase, rivals: Rivals, hold: Outcome, rival_first: bool
) -> None:
    """Both begin while the hold is live and get the lock after its expiry: the commit fails, the rival gets the
    room."""
    with database.locked() as lock:
        if rival_first:
            rival = rivals.queue(lambda own: own.reserve())
            commit = rivals.queue(lambda own: own.commit(hold.id))
        else:
            commit = rivals.queue(lambda own: own.commit(hold.id))
            rival = rivals.queue(lambda own: own.reserve())
        database.freeze_clock(expiry(hold))
        lock.commit()
        assert (commit.result().name, rival.result().name) == ("reservation_expired", "done")
    assert_final(database, hold, "expired")


def test_a_rival_that_waits_for_a_commit_across_the_expiry_sees_its_appointment(
    database: TestDatabase, rivals: Rivals, hold: Outcome
) -> None:
    """The commit began in time and is still open. The hold is past its expiry for the rival, but its room is booked."""
    results = in_turn(
        rivals,
        [lambda own: own.commit(hold.id).name, lambda own: own.reserve().name],
        meanwhile=lambda: database.freeze_clock(expiry(hold)),
    )
    assert results == ["done", "slot_unavailable"]


def test_two_commits_of_one_hold_are_one_appointment(database: TestDatabase, rivals: Rivals, hold: Outcome) -> None:
    """The second commit names the appointment of the first. Its own guest data is ignored, and shows it no other."""
    with database.locked() as lock:
        one = rivals.queue(lambda own: own.commit(hold.id, guest_name="Ada"))
        other = rivals.queue(lambda own: own.commit(hold.id, guest_name="Bob"))
        lock.commit()
        assert (one.result().name, other.result().name) == ("done", "replayed")
    appointment = one.result().body
    assert other.result().body == {name: appointment[name] for name in ("appointment_id", "status")}
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    assert database.value("SELECT count(*) FROM booking.audit_logs") == 1


@pytest.mark.parametrize(
    ("order", "results", "status"),
    [
        (("commit", "release"), ["done", "reservation_committed"], "committed"),
        (("release", "commit"), ["done", "reservation_released"], "released"),
    ],
    ids=["commit-first", "release-first"],
)
def test_of_commit_and_release_the_first_wins(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...], results: list[str], status: str
) -> None:
    """A hold that is committed and released at once becomes an appointment or is freed, never both."""
    calls: dict[str, Callable[[TestDatabase], str]] = {
        "commit": lambda own: own.commit(hold.id).name,
        "release": lambda own: own.release(hold.id).name,
    }
    assert in_turn(rivals, [calls[name] for name in order]) == results
    assert database.reserve().name == ("done" if status == "released" else "slot_unavailable")
    assert_final(database, hold, status)


def test_two_requests_with_one_key_are_one_hold(database: TestDatabase, rivals: Rivals) -> None:
    """Requests from different processes are in different batches, so that only the lock orders them."""
    database.make_service(capacity=5)
    database.freeze_clock()
    one, other, different = in_turn(
        rivals,
        [
            lambda own: own.reserve(idempotency_key="k", fingerprint="f"),
            lambda own: own.reserve(idempotency_key="k", fingerprint="f"),
            lambda own: own.reserve(11, idempotency_key="k", fingerprint="g"),
        ],
    )
    assert [one.name, other.name, different.name] == ["done", "replayed", "idempotency_key_reused"]
    assert one.body == other.body
    assert database.capacity()["held"] == 1


@pytest.mark.parametrize("verb", ["release", "commit", "extend", "reserve"])
def test_a_call_that_waits_past_its_deadline_writes_nothing(
    database: TestDatabase, rivals: Rivals, hold: Outcome, verb: str
) -> None:
    """The caller of such a call has already received an error: the call gets the lock afterwards and must not write."""
    request = {
        "release": release_request(hold.id),
        "commit": commit_request(hold.id),
        "extend": extend_request(hold.id),
        "reserve": reserve_request(12),
    }[verb]
    before = database.rows("SELECT * FROM booking.reservations")
    deadline = datetime.now(UTC) + timedelta(seconds=0.2)
    with database.locked() as lock:
        late = rivals.queue(lambda own: execute(own, [{"business_id": "salon", verb: [request]}], deadline=deadline))
        wait_for(lock, deadline)
        lock.commit()
        with pytest.raises(psycopg.Error) as raised:
            late.result()
    assert raised.value.sqlstate == "HF001"
    assert database.rows("SELECT * FROM booking.reservations") == before
    assert database.rows("SELECT * FROM booking.appointments") == []


def test_calls_with_two_businesses_in_opposite_order_do_not_deadlock(database: TestDatabase, rivals: Rivals) -> None:
    """Each call waits for its first business while it holds no lock, and defers the other business without waiting."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)

    def call(*business_ids: str) -> Callable[[TestDatabase], list[str]]:
        requests = [reserve_request() for _ in business_ids]
        batches = [
            {"business_id": business_id, "reserve": [request]}
            for business_id, request in zip(business_ids, requests, strict=True)
        ]

        def run(client: TestDatabase) -> list[str]:
            outcomes = execute(client, batches)
            return [outcomes[request["operation_id"]].name for request in requests]

        return run

    one = rivals.connect()
    one.rows("BEGIN")
    with database.locked("clinic"):
        assert call("salon", "clinic")(one) == ["done", "deferred"]
        other = rivals.queue(call("clinic", "salon"))
    assert other.result() == ["done", "deferred"]
    one.rows("COMMIT")


@pytest.mark.parametrize("lowered_first", [True, False], ids=["lowered-first", "reserved-first"])
def test_a_capacity_is_lowered_before_a_reserve_or_after_it(
    database: TestDatabase, rivals: Rivals, lowered_first: bool
) -> None:
    """The owner removes a unit while a guest reserves it: the second of the two is refused."""
    database.make_service(capacity=2)
    database.reserve()

    def lower(own: TestDatabase) -> str:
        return own.put_service(capacity=1).name

    def reserve(own: TestDatabase) -> str:
        return own.reserve().name

    if lowered_first:
        assert in_turn(rivals, [lower, reserve]) == ["done", "slot_unavailable"]
    else:
        assert in_turn(rivals, [reserve, lower]) == ["done", "capacity_in_use"]
