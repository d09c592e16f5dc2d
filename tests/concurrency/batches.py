"""Calls of booking.execute that carry the batches of several businesses, as the service sends them."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, Outcome, TestDatabase

Batch = dict[str, Any]


def bind(database: TestDatabase, batches: list[Batch], deadline: datetime = NO_DEADLINE) -> bytes:
    """Returns the call as one SQL statement with its arguments bound."""
    query = b"SELECT operation_id, outcome, body FROM booking.execute(%s, %s, %s) WHERE outcome <> 'lock_waited'"
    business_ids = [batch["business_id"] for batch in batches]
    requests = [
        Jsonb({verb: verb_requests for verb, verb_requests in batch.items() if verb != "business_id"})
        for batch in batches
    ]
    return psycopg.ClientCursor(database.admin).mogrify(query, [business_ids, requests, deadline]).encode()


def execute(database: TestDatabase, batches: list[Batch], *, deadline: datetime = NO_DEADLINE) -> dict[str, Outcome]:
    """Makes one call and returns the outcomes by operation id."""
    rows = database.admin.execute(bind(database, batches, deadline)).fetchall()
    outcomes = {str(operation_id): Outcome(name, body) for operation_id, name, body in rows}
    assert len(rows) == len(outcomes) == sum(len(requests) for requests in map(_requests, batches))
    return outcomes


def execute_all(database: TestDatabase, batches: list[Batch]) -> dict[str, Outcome]:
    """Makes calls until no request is deferred; deferred requests come first in the next call, as in the service."""
    outcomes: dict[str, Outcome] = {}
    while batches:
        answered = execute(database, batches)
        deferred = {operation_id for operation_id, outcome in answered.items() if outcome.name == "deferred"}
        outcomes |= {operation_id: answered[operation_id] for operation_id in answered.keys() - deferred}
        batches = [batch for batch in batches if any(r["operation_id"] in deferred for r in _requests(batch))]
    return outcomes


def _requests(batch: Batch) -> list[dict[str, Any]]:
    return [request for verb, requests in batch.items() if verb != "business_id" for request in requests]
