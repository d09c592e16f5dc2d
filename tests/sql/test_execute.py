"""booking.execute: one call for all verbs of several businesses."""

import json
from typing import Any

import psycopg

from tests.database import (
    NO_DEADLINE,
    Outcome,
    TestDatabase,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.sql.asking import names
from tests.sql.rivals import SECONDS, Rivals


def execute(
    database: TestDatabase, batches: list[dict[str, Any]], connection: psycopg.Connection | None = None
) -> dict[str | None, Outcome]:
    """Runs batches of several businesses in one call, and returns the outcomes by their operations."""
    rows = (connection or database.admin).execute(
        "SELECT operation_id, outcome, body FROM booking.execute(%s, %s)", [json.dumps(batches), NO_DEADLINE]
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
