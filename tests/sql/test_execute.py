"""booking.execute: one call for all verbs of several businesses."""

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
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.sql.asking import names
from tests.sql.rivals import SECONDS, Rivals


def execute(
    database: TestDatabase,
    batches: list[dict[str, Any]],
    connection: psycopg.Connection | None = None,
    deadline: datetime = NO_DEADLINE,
) -> dict[str | None, Outcome]:
    """Runs batches of several businesses in one call, and returns the outcomes by their operations."""
    business_ids = [batch["business_id"] for batch in batches]
    requests = [Jsonb({verb: asked for verb, asked in batch.items() if verb != "business_id"}) for batch in batches]
    rows = (connection or database.admin).execute(
        "SELECT operation_id, outcome, body FROM booking.execute(%s, %s, %s)", [business_ids, requests, deadline]
    )
    return {operation_id and str(operation_id): Outcome(name, body) for operation_id, name, body in rows}


def test_one_call_carries_all_verbs_of_several_businesses(database: TestDatabase) -> None:
    """Each request gets the outcome that it would have had in a call of its own."""
    for business_id in ("clinic", "kennel", "salon"):
        database.make_service(business_id=business_id, capacity=2)
    held = [database.reserve(10, business_id=business_id).id for business_id in ("clinic", "clinic", "salon", "salon")]
    release, commit = release_request(held[0]), commit_request(held[1])
    extend, other_tenants = extend_request(held[2], 20), commit_request(held[1])
    kennel, nobody, salon = reserve_request(10), reserve_request(10), reserve_request(10)
    outcomes = execute(
        database,
        [
            {"business_id": "clinic", "release": [release], "commit": [commit]},
            {"business_id": "kennel", "reserve": [kennel]},
            {"business_id": "nobody", "reserve": [nobody]},
            {"business_id": "salon", "extend": [extend], "commit": [other_tenants], "reserve": [salon]},
        ],
    )
    expected = [
        (release, "done"),
        (commit, "done"),
        (kennel, "done"),
        (nobody, "service_not_found"),
        (extend, "done"),
        (other_tenants, "reservation_not_found"),
        (salon, "slot_unavailable"),
    ]
    assert {request["operation_id"]: name for request, name in expected} == {
        operation_id: outcome.name for operation_id, outcome in outcomes.items()
    }


def test_what_makes_room_comes_before_what_takes_it(database: TestDatabase) -> None:
    """A release and a reserve that came together: refusing the second would be a false refusal."""
    database.make_service(capacity=1)
    held = database.reserve(10).id
    release, reserve = release_request(held), reserve_request(10)
    outcomes = execute(database, [{"business_id": "salon", "reserve": [reserve], "release": [release]}])
    assert {outcome.name for outcome in outcomes.values()} == {"done"}


def test_a_release_makes_room_for_a_rebook_that_came_with_it(database: TestDatabase) -> None:
    """A commit may take room too, so that it comes after the releases."""
    database.make_service(capacity=1)
    expired = database.reserve(10).id
    database.move_clock(timedelta(minutes=15))
    rival = database.reserve(10).id
    commit, release = commit_request(expired, if_expired="rebook"), release_request(rival)
    outcomes = execute(database, [{"business_id": "salon", "commit": [commit], "release": [release]}])
    assert names(outcomes.values()) == ["done", "done"]


def test_a_busy_business_behind_the_first_is_deferred(database: TestDatabase) -> None:
    """One tenant's stampede never stalls the rest: nothing of it is tried, and all others are served."""
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
    """Or a busy tenant would never be served. How long it took is told, and what it waited for is seen."""
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
    """So two calls with the same businesses in opposite orders can't wait for each other."""
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
def slowed_down(database: TestDatabase, business_id: str) -> Iterator[None]:
    """While the block lasts no claim can be made on the service of a business: a call that is at it goes no further."""
    with psycopg.connect(database.admin_url) as rival:
        rival.execute("SELECT FROM booking.services WHERE business_id = %s FOR UPDATE", [business_id])
        yield


def test_a_slow_business_costs_the_others_a_delay_and_nobody_what_was_granted(
    database: TestDatabase, rivals: Rivals
) -> None:
    """The deadline is about getting the locks: a call that has them in time finishes the work of all businesses."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id, capacity=2)
    book, reserve, other = book_request(10), reserve_request(10), reserve_request(10)
    batches = [
        {"business_id": "clinic", "book": [book], "reserve": [reserve]},
        {"business_id": "salon", "reserve": [other]},
    ]
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    with slowed_down(database, "clinic"):
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


def test_a_lock_that_comes_too_late_leaves_all_businesses_of_the_call_as_they_were(
    database: TestDatabase, rivals: Rivals
) -> None:
    """Those too whose lock was free: the deadline is looked at once, when all locks are there."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id)
    batches = [{"business_id": business_id, "reserve": [reserve_request(10)]} for business_id in ("clinic", "salon")]
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    with database.locked("clinic"):
        answer = rivals.start(lambda connection: execute(database, batches, connection, deadline))
        database.wait_until_blocked()
        wait_for(database.admin, deadline)
    with pytest.raises(psycopg.Error) as raised:
        answer.result(SECONDS)
    assert raised.value.sqlstate == "HF001"
    assert database.rows("SELECT FROM booking.reservations") == []


def test_all_businesses_of_a_call_are_decided_at_one_instant(database: TestDatabase, rivals: Rivals) -> None:
    """The clock is read once, after the last lock: whichever of them is decided last."""
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
        lock.commit()
        assert sorted(names(answer.result(SECONDS).values())) == ["done"] * 6 + ["lock_waited"]
    [(first, last, number)] = database.rows(
        "SELECT min(created_at), max(created_at), count(*) FROM ("
        "SELECT created_at FROM booking.reservations UNION ALL SELECT created_at FROM booking.appointments) AS made"
    )
    assert (first, number) == (last, 6)
    assert first > granted_from


def test_past_its_deadline_a_call_begins_nothing(database: TestDatabase) -> None:
    """Neither with a lock that is free nor with one that it would have to wait for: whoever sent it has given up."""
    database.make_service()
    with pytest.raises(psycopg.Error) as raised:
        execute(database, [{"business_id": "salon", "reserve": [reserve_request(10)]}], deadline=datetime.now(UTC))
    assert raised.value.sqlstate == "HF001"
    assert database.rows("SELECT FROM booking.reservations") == []


def test_locks_are_tried_without_waiting(database: TestDatabase) -> None:
    """A transaction that gets one has it until its end; where there is no business, there is none to wait for."""
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
    [(1, [], "off"), (9, [], "on"), (1, ["release"], "on")],
    ids=["refused", "granted", "refused beside a release"],
)
def test_only_a_call_that_refuses_everything_does_not_wait_for_the_disk(
    database: TestDatabase, capacity: int, also: list[str], waits: str
) -> None:
    """What a call has done is safe on the disk before it is answered; a refusal has done nothing."""
    database.make_service(capacity=capacity)
    hold = database.reserve(10).id
    elsewhere = database.reserve(12).id
    batch: dict[str, Any] = {"business_id": "salon", "reserve": [reserve_request(10)]}
    if also:
        batch["release"] = [release_request(elsewhere)]
    with database.admin.transaction(force_rollback=True):
        outcomes = execute(database, [batch])
        assert outcomes[batch["reserve"][0]["operation_id"]].name == ("done" if capacity > 1 else "slot_unavailable")
        assert database.value("SELECT current_setting('synchronous_commit')") == waits
    assert database.value("SELECT current_setting('synchronous_commit')") == "on"
    assert database.status(hold) == "held"
