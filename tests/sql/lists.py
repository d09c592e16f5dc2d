"""Pages of booking.list_appointments and booking.list_holds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.database import TestDatabase, at

Appointment = dict[str, Any]
Place = tuple[datetime | str | None, Any]
FIRST_PAGE: Place = (None, None)


def list_page(database: TestDatabase, limit: int, after: Place = FIRST_PAGE, **filters: Any) -> list[Appointment]:
    """Returns one page of the list, by default without any filter."""
    return [entry for entry in _rows(database, limit, after, **filters) if entry is not None]


def _rows(
    database: TestDatabase, limit: int, after: Place, *, business_id: str = "salon", **filters: Any
) -> list[Appointment | None]:
    """Returns one page of the list, and behind it None if there is another one."""
    rows = database.rows(
        "SELECT booking.list_appointments(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        *(business_id, filters.get("since"), filters.get("until"), filters.get("overlapping", False)),
        *(filters.get(name) for name in ("updated_since", "resource_id", "service_id", "status")),
        *(filters.get(name) for name in ("guest_email", "guest_phone")),
        *(*after, limit),
    )
    entries = [entry for (entry,) in rows]
    assert None not in entries[:-1]
    return entries


def place_of(entry: Appointment, **filters: Any) -> Place:
    """Returns the place of an entry in its list: the cursor of the page after it."""
    return entry["updated_at" if filters.get("updated_since") else "slot_start"], entry["appointment_id"]


def list_pages(database: TestDatabase, limit: int, **filters: Any) -> Iterator[list[Appointment]]:
    """Yields page after page, each requested after the last entry of the one before."""
    after = FIRST_PAGE
    while True:
        rows = _rows(database, limit, after, **filters)
        page = [entry for entry in rows if entry is not None]
        yield page
        # After a full page too: the list may have grown meanwhile.
        if len(page) == len(rows) < limit:
            return
        after = place_of(page[-1], **filters)


def listed(database: TestDatabase, limit: int = 100, **filters: Any) -> list[Appointment]:
    """Returns all pages of the list, by default of the Monday of the tests."""
    if not {"updated_since", "guest_email", "guest_phone"} & filters.keys():
        filters = {"since": at(0), "until": at(24), **filters}
    return [entry for page in list_pages(database, limit, **filters) for entry in page]


def list_holds(
    database: TestDatabase, limit: int = 100, after: tuple[Any, ...] = (None, None, None), **filters: Any
) -> list[tuple[Any, ...]]:
    """Returns one page of the live holds of the salon: the place of each, and its body."""
    return database.rows(
        "SELECT * FROM booking.list_holds('salon', %s, %s, %s, %s, %s, %s, %s, %s)",
        *(filters.get(name) for name in ("since", "until", "service_id", "resource_id")),
        *(*after, limit),
    )
