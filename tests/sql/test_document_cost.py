"""What a put of a whole catalog reads grows with its entries, not with their square."""

import json
from typing import Any

import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.measuring import reads_of

pytestmark = pytest.mark.new_database

SERVICE: dict[str, Any] = {
    "name": "Cut",
    "duration_minutes": 60,
    "hold_ttl_minutes": 15,
    "buffer_before_minutes": 0,
    "buffer_after_minutes": 0,
    "min_notice_minutes": 0,
    "max_advance_days": 60,
    "cancellation_window_minutes": 0,
    "booking_enabled": True,
}
RESOURCE = {"name": "Anna", "kind": "staff", "booking_enabled": True}
# Entries by their ids.
MEMBERS: dict[str, Any] = {"services": SERVICE, "resources": RESOURCE}


@pytest.mark.parametrize("member", MEMBERS)
def test_the_rows_that_a_document_reads_grow_with_its_entries(database: TestDatabase, member: str) -> None:
    """New services and resources: twice as many read twice as many rows. The lock is held for as long as that takes."""

    def rows(number: int) -> int:
        document = {
            "name": "Salon",
            "timezone": "UTC",
            **{name: {} for name in ("services", "resources", "special_hours", "closures")},
            "opening_hours": [],
            member: {f"entry-{n:03}": MEMBERS[member] for n in range(number)},
        }

        def put() -> None:
            outcome = database.outcome("put_document", "salon", json.dumps(document), False, NO_DEADLINE)
            assert (outcome.name, len(outcome.body["changes"])) == ("done", number + 1)

        return reads_of(database, put).rows

    few, many = rows(100), rows(200)
    assert many <= 2.2 * few
