"""booking.execute: one call for the requests of all verbs of several businesses."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.concurrency.rivals import wait_for
from tests.database import (
    NO_DEADLINE,
    Outcome,
    TestDatabase,
    book_request,
    change_request,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.sql.requests import keyed_request, names, raises_sqlstate
from tests.sql.rivals import SECONDS, Rivals


def execute(
    database: TestDatabase,
    batches: list[dict[str, Any]],
    connection: psycopg.Connection | None = None,
    deadline: datetime = NO_DEADLINE,
) -> dict[str | None, Outcome]:
    """Makes one call with the batches of several businesses, and returns the outcomes by operation id."""
    business_ids = [batch["business_id"] for batch in batches]
    requests = [
        Jsonb({verb: requests for verb, requests in batch.items() if verb != "business_id"}) for batch in batches
    ]
    rows = (connection or database.admin).execute(
        "SELECT operation_id, outcome, body FROM booking.execute(%s, %s, %s)", [business_ids, requests, deadline]
    )
    return {operation_id and str(operation_id): Outcome(name, body) for operation_id, name, body in rows}


def test_one_call_carries_all_verbs_of_several_businesses(database: TestDatabase) -> None:
    """Each request gets the outcome that it would get in a call of its own."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id, capacity=2)
    held = [database.reserve(10, business_id=business_id).id for business_id in ("clinic", "clinic", "salon", "salon")]
    release, commit = release_request(held[0]), commit_request(held[1])
    extend, foreign_commit = extend_request(held[2], 20), commit_request(held[1])
    kennel, unknown, salon = reserve_request(10), reserve_request(10), reserve_request(10)
    outcomes = execute(
        database,
        [
            {"business_id": "clinic", "release": [release], "commit": [commit]},
            {"business_id": "kennel", "reserve": [kennel]},
            {"business_id": "nobody", "reserve": [unknown]},
            {"business_id": "salon", "extend": [extend], "commit": [foreign_commit], "reserve": [salon]},
        ],
    )
    expected = [
        (release, "done"),
        (commit, "done"),
        (kennel, "done"),
        (unknown, "service_not_found"),
        (extend, "done"),
        (foreign_commit, "reservation_not_found"),
        (salon, "slot_unavailable"),
    ]
    assert {request["operation_id"]: name for request, name in expected} == {
        operation_id: outcome.name for operation_id, outcome in outcomes.items()
    }


def test_a_key_that_another_business_used_in_the_same_call_is_free(database: TestDatabase) -> None:
    """The request of the clinic waits for a later round, because its window overlaps one before it."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=2)
    first, second, third = keyed_request("k"), reserve_request(9.5), keyed_request("k")
    outcomes = execute(
        database,
        [{"business_id": "salon", "reserve": [first]}, {"business_id": "clinic", "reserve": [second, third]}],
    )
    assert names(outcomes[request["operation_id"]] for request in (first, second, third)) == ["done"] * 3


def test_releases_come_before_reserves(database: TestDatabase) -> None:
    """A reserve that came in the same call as the release of its room is not refused."""
    database.make_service(capacity=1)
    held = database.reserve(10).id
    release, reserve = release_request(held), reserve_request(10)
    outcomes = execute(database, [{"business_id": "salon", "reserve": [reserve], "release": [release]}])
    assert {outcome.name for outcome in outcomes.values()} == {"done"}


def test_releases_come_before_rebooks(database: TestDatabase) -> None:
    """A commit with rebook may need room, so that commits come after the releases."""
    database.make_service(capacity=1)
    expired = database.reserve(10).id
    database.move_clock(timedelta(minutes=15))
    rival = database.reserve(10).id
    commit, release = commit_request(expired, if_expired="rebook"), release_request(rival)
    outcomes = execute(database, [{"business_id": "salon", "commit": [commit], "release": [release]}])
    assert names(outcomes.values()) == ["done", "done"]


def test_a_busy_business_behind_the_first_is_deferred(database: TestDatabase) -> None:
    """No request of the busy business is tried, and the requests of all others are decided."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id)
    held = database.reserve(10, business_id="kennel").id
    batches = [
        {"business_id": "clinic", "reserve": [reserve_request(10)]},
        {"business_id": "kennel", "release": [release_request(held)], "reserve": [reserve_request(10)]},
        {"business_id": "salon", "reserve": [reserve_request(10)]},
    ]
    with database.locked("kennel"):
        outcomes = execute(database, batches)
        assert sorted(names(outcomes.values())) == ["deferred", "deferred", "done", "done"]
    assert database.status(held) == "held"
    assert names(execute(database, [batches[1]]).values()) == ["done", "done"]


def test_the_first_business_is_waited_for(database: TestDatabase, rivals: Rivals) -> None:
    """Otherwise a busy business would never be served. The wait is reported, and concurrent claims are seen."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)
    first, second = reserve_request(10), reserve_request(10)
    batches = [{"business_id": "clinic", "reserve": [first]}, {"business_id": "salon", "reserve": [second]}]
    with database.locked("clinic") as rival:
        answer = rivals.start(lambda connection: execute(database, batches, connection))
        database.wait_until_blocked()
        assert not answer.done()
        database.reserve(10, business_id="clinic", connection=rival)
        rival.commit()
        outcomes = answer.result(SECONDS)
    assert outcomes[first["operation_id"]].name == "slot_unavailable"
    assert outcomes[second["operation_id"]].name == "done"
    assert outcomes[None].name == "lock_waited"
    assert outcomes[None].body["seconds"] > 0


def test_a_call_that_waits_holds_no_other_lock(database: TestDatabase, rivals: Rivals) -> None:
    """Two calls with the same businesses in opposite orders can't deadlock."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)
    batches = [{"business_id": business_id, "reserve": [reserve_request(15)]} for business_id in ("clinic", "salon")]
    with database.locked("clinic"):
        answer = rivals.start(lambda connection: execute(database, batches, connection))
        database.wait_until_blocked()
        unhindered = execute(database, [{"business_id": "salon", "reserve": [reserve_request(10)]}])
        assert names(unhindered.values()) == ["done"]
    assert sorted(names(answer.result(SECONDS).values())) == ["done", "done", "lock_waited"]


@contextmanager
def service_locked(database: TestDatabase, business_id: str) -> Iterator[None]:
    """Locks the service of a business, so that no claim on it can be made during the block."""
    with psycopg.connect(database.admin_url) as rival:
        rival.execute("SELECT FROM booking.services WHERE business_id = %s FOR UPDATE", [business_id])
        yield


def test_a_call_that_has_its_locks_in_time_finishes_after_its_deadline(database: TestDatabase, rivals: Rivals) -> None:
    """A slow business delays the others of the call, and the deadline applies only to getting the locks."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id, capacity=2)
    book, reserve, other = book_request(10), reserve_request(10), reserve_request(10)
    batches = [
        {"business_id": "clinic", "book": [book], "reserve": [reserve]},
        {"business_id": "salon", "reserve": [other]},
    ]
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    with service_locked(database, "clinic"):
        answer = rivals.start(lambda connection: execute(database, batches, connection, deadline))
        database.wait_until_blocked()
        wait_for(database.admin, deadline)
    outcomes = {operation_id: outcome.name for operation_id, outcome in answer.result(SECONDS).items()}
    assert outcomes == {
        book["operation_id"]: "done",
        reserve["operation_id"]: "done",
        other["operation_id"]: "done",
    }
    assert database.rows("SELECT business_id FROM booking.reservations ORDER BY 1") == [("clinic",), ("salon",)]


def test_a_lock_after_the_deadline_leaves_all_businesses_of_the_call_unchanged(
    database: TestDatabase, rivals: Rivals
) -> None:
    """The deadline is checked once, after all locks, and then nothing is written for any business."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)
    batches = [{"business_id": business_id, "reserve": [reserve_request(10)]} for business_id in ("clinic", "salon")]
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    with database.locked("clinic"):
        answer = rivals.start(lambda connection: execute(database, batches, connection, deadline))
        database.wait_until_blocked()
        wait_for(database.admin, deadline)
    with raises_sqlstate("HF001"):
        answer.result(SECONDS)
    assert database.rows("SELECT FROM booking.reservations") == []


def test_all_businesses_of_a_call_are_decided_at_one_instant(database: TestDatabase, rivals: Rivals) -> None:
    """The clock is read once, after the last lock."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id)
    batches = [
        {"business_id": business_id, "reserve": [reserve_request(10)], "book": [book_request(12)]}
        for business_id in ("clinic", "kennel", "salon")
    ]
    with database.locked("clinic") as lock:
        answer = rivals.start(lambda connection: execute(database, batches, connection))
        database.wait_until_blocked()
        granted_from = database.value("SELECT booking.now()")
        while database.value("SELECT booking.now()") == granted_from:
            pass  # the clock counts in milliseconds
        lock.commit()
        assert sorted(names(answer.result(SECONDS).values())) == ["done"] * 6 + ["lock_waited"]
    [(first, last, number)] = database.rows(
        "SELECT min(created_at), max(created_at), count(*) FROM ("
        "SELECT created_at FROM booking.reservations UNION ALL SELECT created_at FROM booking.appointments) AS made"
    )
    assert (first, number) == (last, 6)
    assert first > granted_from


def test_a_call_that_starts_past_its_deadline_writes_nothing(database: TestDatabase) -> None:
    """The call raises although the lock is free."""
    database.make_service()
    with raises_sqlstate("HF001"):
        execute(database, [{"business_id": "salon", "reserve": [reserve_request(10)]}], deadline=datetime.now(UTC))
    assert database.rows("SELECT FROM booking.reservations") == []


def test_locks_are_tried_without_waiting(database: TestDatabase) -> None:
    """A lock is kept until the end of the transaction; an unknown business needs no lock."""
    for business_id in ("clinic", "salon"):
        database.make_business(business_id)
    query = "SELECT ready, waited_seconds FROM booking.lock_businesses(%s, 'infinity', false)"
    with database.locked():
        assert database.rows(query, ["salon", "nobody", "clinic"]) == [(["nobody", "clinic"], None)]
    with database.admin.transaction():
        assert database.rows(query, ["clinic", "salon"]) == [(["clinic", "salon"], None)]
        assert database.rows(query, ["clinic", "salon"]) == [(["clinic", "salon"], None)]
        with psycopg.connect(database.admin_url) as rival:
            assert rival.execute(query.encode(), [["salon", "clinic"]]).fetchall() == [([], None)]


@pytest.mark.parametrize(
    ("capacity", "also", "waits"),
    [
        (1, None, "off"),
        (9, None, "on"),
        *((1, verb, "on") for verb in ("release", "commit", "extend", "change", "book")),
    ],
)
def test_only_a_call_that_refuses_everything_commits_asynchronously(
    database: TestDatabase, capacity: int, also: str | None, waits: str
) -> None:
    """A call that wrote is flushed to disk before its answer; a call of refusals wrote nothing."""
    database.make_service(capacity=capacity)
    hold = database.reserve(10).id
    elsewhere = database.reserve(12).id
    batch: dict[str, Any] = {"business_id": "salon", "reserve": [reserve_request(10)]}
    others = {
        "release": release_request(elsewhere),
        "commit": commit_request(elsewhere),
        "extend": extend_request(elsewhere, 20),
        "change": change_request(elsewhere),
        "book": book_request(14),
    }
    if also:
        batch[also] = [others[also]]
    with database.admin.transaction(force_rollback=True):
        outcomes = execute(database, [batch])
        assert outcomes[batch["reserve"][0]["operation_id"]].name == ("done" if capacity > 1 else "slot_unavailable")
        assert database.value("SELECT current_setting('synchronous_commit')") == waits
    assert database.value("SELECT current_setting('synchronous_commit')") == "on"
    assert database.status(hold) == "held"


def test_a_grant_is_flushed_to_disk_although_a_later_round_only_refuses(database: TestDatabase) -> None:
    """The second window overlaps the first one, so it is decided in a round of its own."""
    database.make_service(capacity=1)
    with database.admin.transaction(force_rollback=True):
        outcomes = database.call("reserve", [reserve_request(10), reserve_request(10.5)])
        assert names(outcomes) == ["done", "slot_unavailable"]
        assert database.value("SELECT current_setting('synchronous_commit')") == "on"


def test_a_release_is_flushed_to_disk_beside_a_booking_that_is_refused(database: TestDatabase) -> None:
    """The refusal wrote nothing, and the call did."""
    database.make_service(capacity=1)
    database.reserve(10)
    batch = {"business_id": "salon", "release": [release_request(database.reserve(12).id)], "book": [book_request(10)]}
    with database.admin.transaction(force_rollback=True):
        outcomes = execute(database, [batch])
        assert sorted(names(outcomes.values())) == ["done", "slot_unavailable"]
        assert database.value("SELECT current_setting('synchronous_commit')") == "on"


@pytest.mark.parametrize("full", ["clinic", "salon"])
def test_an_equal_attempt_at_another_business_has_a_limit_of_its_own(database: TestDatabase, full: str) -> None:
    """A client that may hold one place in each has it at one of them already."""
    client: dict[str, Any] = {"client_address_hmac": "address", "max_live_holds": 1}
    requests = {name: keyed_request("key", **client) for name in ("clinic", "salon")}
    for business_id in requests:
        database.make_service(business_id=business_id, capacity=2)
    database.reserve(8, business_id=full, **client)
    outcomes = execute(database, [{"business_id": name, "reserve": [one]} for name, one in requests.items()])
    for business_id, request in requests.items():
        expected = "too_many_holds" if business_id == full else "done"
        assert outcomes[request["operation_id"]].name == expected
