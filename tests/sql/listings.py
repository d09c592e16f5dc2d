"""Calls of booking.availability, and their slots in hours."""

from datetime import datetime, timedelta

from tests.database import Outcome, TestDatabase, at


def availability(
    database: TestDatabase,
    start: datetime,
    end: datetime,
    *,
    service_id: str = "cut",
    quantity: int = 1,
    resource_id: str | None = None,
) -> Outcome:
    """Lists the bookable slots of a service of the salon that start in a range."""
    query = "SELECT outcome, body FROM booking.availability('salon', %s, tstzrange(%s, %s), %s, %s)"
    [(name, body)] = database.rows(query, service_id, start, end, quantity, resource_id)
    return Outcome(name, body)


def hour_of_iso(iso_instant: str) -> float:
    """Returns an ISO instant in hours after midnight of the Monday of the tests."""
    return (datetime.fromisoformat(iso_instant) - at(0)) / timedelta(hours=1)
