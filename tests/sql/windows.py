"""The counts of a business, and holds that are inserted in bulk without the verbs."""

from datetime import datetime, timedelta
from typing import Any

from tests.database import MONDAY, TestDatabase

# A window, in hours after midnight of the Monday of the tests: (service, resource or '', start, end).
Window = tuple[str, str, float, float]


def hour_of(instant: datetime) -> float:
    """Returns the hours from midnight of the Monday of the tests to an instant."""
    return (instant - MONDAY) / timedelta(hours=1)


def counts(database: TestDatabase, business_id: str = "salon") -> dict[Window, int]:
    """Returns the claimed quantity of each window in booking.occupancy."""
    rows = database.rows(
        "SELECT service_id, resource_id, starts, ends, claimed FROM booking.occupancy WHERE business_id = %s "
        "ORDER BY service_id, starts, ends, resource_id",
        business_id,
    )
    return {(service, resource, hour_of(starts), hour_of(ends)): n for service, resource, starts, ends, n in rows}


def statuses(database: TestDatabase) -> dict[str, int]:
    """Counts the reservations in each stored state, whether or not they are past their expiry."""
    return dict(database.rows("SELECT status, count(*) FROM booking.reservations GROUP BY status"))


def plant_holds(database: TestDatabase, number: int, start: datetime, *, minutes: int = 60, **columns: Any) -> datetime:
    """Inserts equal holds of one window, by default of one unit of "cut" for a minute, and returns their expiry."""
    row = {
        "service_id": "cut",
        "resource_id": None,
        "in_session": False,
        "quantity": 1,
        "ttl": timedelta(minutes=1),
        **columns,
    }
    end = start + timedelta(minutes=minutes)
    [(expiry,)] = database.rows(
        """
        WITH planted AS (
          INSERT INTO booking.reservations (business_id, reservation_id, service_id, resource_id, in_session,
            slot_start, slot_end, occupied, quantity, status, expires_at, ttl_clamped, version, last_operation_id,
            created_at)
          SELECT 'salon', gen_random_uuid(), %s, %s, %s, %s, %s, tstzrange(%s, %s), %s, 'held', booking.now() + %s,
            false, 1, gen_random_uuid(), booking.now()
          FROM generate_series(1, %s) RETURNING expires_at)
        SELECT max(expires_at) FROM planted
        """,
        *(row["service_id"], row["resource_id"], row["in_session"], start, end, start, end),
        *(row["quantity"], row["ttl"], number),
    )
    # The verbs maintain how far back a search for overlaps has to reach; an INSERT without them has to do it too.
    database.rows(
        "UPDATE booking.services SET longest_occupied_seconds = greatest(longest_occupied_seconds, %s) "
        "WHERE service_id = %s",
        minutes * 60,
        row["service_id"],
    )
    database.rows(
        "UPDATE booking.resources SET longest_occupied_seconds = greatest(longest_occupied_seconds, %s) "
        "WHERE resource_id = %s",
        minutes * 60,
        row["resource_id"],
    )
    database.recount()
    return expiry  # type: ignore[no-any-return]
