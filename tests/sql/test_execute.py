"""booking.execute: one call for all verbs of several businesses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

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
    rows = (connection or database.admin).execute(
        "SELECT operation_id, outcome, body FROM booking.execute(%s, %s)", [json.dumps(batches), deadline]
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
    """The deadline is about getting the lock: who has it in time finishes; whose turn comes too late is given back."""
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id, capacity=2)
    book, reserve, late = book_request(10), reserve_request(10), reserve_request(10)
    batches = [
        {"business_id": "clinic", "book": [book], "reserve": [reserve]},
        {"business_id": "salon", "reserve": [late]},
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
        late["operation_id"]: "deferred",
    }
    assert database.rows("SELECT DISTINCT business_id FROM booking.reservations") == [("clinic",)]
    assert names(execute(database, [batches[1]]).values()) == ["done"]


def test_past_its_deadline_a_call_begins_nothing(database: TestDatabase) -> None:
    """Neither with a lock that is free nor with one that it would have to wait for: whoever sent it has given up."""
    database.make_service()
    with pytest.raises(psycopg.Error) as raised:
        execute(database, [{"business_id": "salon", "reserve": [reserve_request(10)]}], deadline=datetime.now(UTC))
    assert raised.value.sqlstate == "HF001"
    assert database.rows("SELECT FROM booking.reservations") == []


def test_the_lock_is_tried_without_waiting(database: TestDatabase) -> None:
    """Who gets it has it until the end of the transaction; where there is no business, there is none to get."""
    database.make_business()
    query = "SELECT booking.try_lock_business(%s)"
    with database.locked():
        assert database.value(query, "salon") is False
    assert database.value(query, "nobody") is None
    with database.admin.transaction():
        assert database.value(query, "salon") is True
        with psycopg.connect(database.admin_url) as rival:
            assert rival.execute(query.encode(), ["salon"]).fetchone() == (False,)
