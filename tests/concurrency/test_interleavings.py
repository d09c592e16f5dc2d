"""Operations that meet at one business, in each order in which they can get its lock. Nothing is left to chance."""

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
    """The one unit of a service, held by a call of its own; the clock stands still at that moment."""
    database.make_service()
    database.freeze_clock()
    return database.reserve()


def expiry(hold: Outcome) -> datetime:
    """When a hold expires."""
    return datetime.fromisoformat(hold.body["expires_at"])


def meet(
    rivals: Rivals, hold: Outcome, order: tuple[str, ...], meanwhile: Callable[[], object] = lambda: None
) -> dict[str, str]:
    """Purge, commit and extend of one hold, in an order. Returns what each was told."""
    calls: dict[str, Callable[[TestDatabase], str]] = {
        "purge": purge,
        "commit": lambda client: client.commit(hold.id).name,
        "extend": lambda client: client.extend(hold.id).name,
    }
    return dict(zip(order, in_turn(rivals, [calls[name] for name in order], meanwhile), strict=True))


def assert_final(database: TestDatabase, hold: Outcome, status: str) -> None:
    """The hold has this state, and nothing changes it any more, not even if the clock steps back before its expiry."""

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
def test_at_the_instant_of_expiry_a_hold_is_nobodys(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """Whoever comes first marks it as expired, once, and the room goes to somebody else."""
    database.freeze_clock(expiry(hold))
    told = meet(rivals, hold, order)
    assert told["commit"] == told["extend"] == "reservation_expired"
    assert told["purge"] == ("1 expired" if order[0] == "purge" else "0 expired")
    assert database.value("SELECT version FROM booking.reservations") == 2
    assert database.reserve().name == "done"
    assert_final(database, hold, "expired")


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_just_before_its_expiry_a_hold_is_committed_in_any_order(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """A live hold can be committed whoever else has business with it, and what is committed is not extended."""
    database.freeze_clock(expiry(hold) + JUST_BEFORE)
    told = meet(rivals, hold, order)
    extended = order.index("extend") < order.index("commit")
    assert told == {
        "purge": "0 expired",
        "commit": "done",
        "extend": "done" if extended else "reservation_committed",
    }
    assert_final(database, hold, "committed")


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_who_has_the_lock_before_the_expiry_wins_and_who_waits_across_it_does_not(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...]
) -> None:
    """Each reads the clock when it has the lock: the first is in time, for the others the hold's time was up."""
    database.freeze_clock(expiry(hold) + JUST_BEFORE)
    told = meet(rivals, hold, order, meanwhile=lambda: database.freeze_clock(expiry(hold)))
    if order[0] == "commit":
        assert told == {"commit": "done", "extend": "reservation_committed", "purge": "0 expired"}
    elif order[0] == "extend":
        assert told == {"extend": "done", "commit": "done", "purge": "0 expired"}
    else:
        assert told == {"purge": "0 expired", "commit": "reservation_expired", "extend": "reservation_expired"}
    assert_final(database, hold, "expired" if order[0] == "purge" else "committed")


@pytest.mark.parametrize("rival_first", [False, True], ids=["commit-first", "rival-first"])
def test_a_commit_that_waits_across_the_expiry_and_a_rival_never_both_succeed(
    database: TestDatabase, rivals: Rivals, hold: Outcome, rival_first: bool
) -> None:
    """Both came while the hold was live and get the lock when it is not: the room is the rival's."""
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
    """The commit was in time and is under way. By the rival's clock the hold is over, and its room is taken anyway."""
    told = in_turn(
        rivals,
        [lambda own: own.commit(hold.id).name, lambda own: own.reserve().name],
        meanwhile=lambda: database.freeze_clock(expiry(hold)),
    )
    assert told == ["done", "slot_unavailable"]


def test_two_commits_of_one_hold_are_one_appointment(database: TestDatabase, rivals: Rivals, hold: Outcome) -> None:
    """A double click: the second is shown what the first made, whatever it says about the guest."""
    with database.locked() as lock:
        one = rivals.queue(lambda own: own.commit(hold.id, guest_name="Ada"))
        other = rivals.queue(lambda own: own.commit(hold.id, guest_name="Bob"))
        lock.commit()
        assert (one.result().name, other.result().name) == ("done", "replayed")
    assert one.result().body == other.result().body
    assert database.value("SELECT count(*) FROM booking.appointments") == 1
    assert database.value("SELECT count(*) FROM booking.audit_logs") == 1


@pytest.mark.parametrize(
    ("order", "told", "status"),
    [
        (("commit", "release"), ["done", "reservation_committed"], "committed"),
        (("release", "commit"), ["done", "reservation_released"], "released"),
    ],
    ids=["commit-first", "release-first"],
)
def test_of_commit_and_release_the_first_wins(
    database: TestDatabase, rivals: Rivals, hold: Outcome, order: tuple[str, ...], told: list[str], status: str
) -> None:
    """A guest who books and one who leaves, with one hold: it is an appointment or it is free, never both."""
    calls: dict[str, Callable[[TestDatabase], str]] = {
        "commit": lambda own: own.commit(hold.id).name,
        "release": lambda own: own.release(hold.id).name,
    }
    assert in_turn(rivals, [calls[name] for name in order]) == told
    assert database.reserve().name == ("done" if status == "released" else "slot_unavailable")
    assert_final(database, hold, status)


def test_two_requests_with_one_key_are_one_hold(database: TestDatabase, rivals: Rivals) -> None:
    """They come through different processes, so that no batch brings them together: the lock does."""
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
def test_whoever_waits_past_the_deadline_writes_nothing(
    database: TestDatabase, rivals: Rivals, hold: Outcome, verb: str
) -> None:
    """Its caller was told long ago that it had failed. It gets the lock all the same, and has to leave things alone."""
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
    """Each waits for its first business while it holds nothing, and does not wait for the other one at all."""
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
    """The owner takes a unit away while a guest takes it: one of them is refused."""
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
