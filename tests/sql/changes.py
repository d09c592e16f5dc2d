"""Changes of appointments in short form, and the stored results of changes."""

from datetime import datetime
from typing import Any

from tests.database import Outcome, TestDatabase, at


def move(database: TestDatabase, appointment_id: str, hour: float, **members: Any) -> Outcome:
    """Moves an appointment to an hour on the Monday of the tests."""
    return database.change(appointment_id, set={"slot_start": at(hour).isoformat(), **members})


def slot_of(outcome: Outcome) -> tuple[datetime, datetime]:
    """Returns start and end of an appointment."""
    start, end = (datetime.fromisoformat(outcome.body[name]) for name in ("slot_start", "slot_end"))
    return start, end


def stored_appointment(database: TestDatabase, appointment_id: str) -> dict[str, Any]:
    """Returns an appointment as it is stored."""
    stored: dict[str, Any] = database.value(
        "SELECT to_jsonb(a) FROM booking.appointments a WHERE appointment_id = %s", appointment_id
    )
    return stored


def trail(database: TestDatabase, appointment_id: str) -> list[dict[str, Any]]:
    """Returns the audit trail of an appointment."""
    return [entry for (entry,) in database.rows("SELECT booking.audit_trail('salon', %s)", appointment_id)]


def actions(database: TestDatabase, appointment_id: str) -> list[tuple[int, str]]:
    """Returns version and action of each audit row of an appointment."""
    return [(entry["version"], entry["action"]) for entry in trail(database, appointment_id)]
