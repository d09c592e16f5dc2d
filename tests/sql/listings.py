"""Calls of booking.availability and booking.available_days, and the slots in hours."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from tests.database import Outcome, TestDatabase, at


def availability(
    database: TestDatabase,
    start: datetime,
    end: datetime | None,
    *,
    service_id: str = "cut",
    minutes: int | None = None,
    days: int | None = None,
    quantity: int = 1,
    resource_id: str | None = None,
    limit: int = 2000,
    appointment_id: str | None = None,
) -> Outcome:
    """Lists a page of the bookable slots of a service of the salon that start in a range."""
    wanted = minutes, days, quantity, resource_id, limit, appointment_id
    return database.outcome("availability", "salon", service_id, start, end, *wanted)


def pages(
    database: TestDatabase, start: datetime, end: datetime | None, **parameters: Any
) -> Iterator[list[dict[str, Any]]]:
    """Lists all pages of a range, and yields the slots of each."""
    next_from: datetime | None = start
    while next_from is not None:
        outcome = availability(database, next_from, end, **parameters)
        assert outcome.name == "done", outcome
        yield outcome.body["slots"]
        then = outcome.body["next_from"]
        assert then is None or datetime.fromisoformat(then) > next_from
        next_from = then and datetime.fromisoformat(then)


def available_days(
    database: TestDatabase,
    first: date,
    last: date,
    *,
    service_id: str = "cut",
    minutes: int | None = None,
    days: int | None = None,
    quantity: int = 1,
    resource_id: str | None = None,
    appointment_id: str | None = None,
) -> Outcome:
    """Counts the bookable slots of a service of the salon on each of some local dates."""
    wanted = minutes, days, quantity, resource_id, appointment_id
    return database.outcome("available_days", "salon", service_id, first, last, *wanted)


def hour_of_iso(iso_instant: str) -> float:
    """Returns an ISO instant in hours after midnight of the Monday of the tests."""
    return (datetime.fromisoformat(iso_instant) - at(0)) / timedelta(hours=1)
