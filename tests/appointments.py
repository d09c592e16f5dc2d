"""Appointments as they may stand in the database, whichever way they came there."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.database import TestDatabase, at


def insert_appointment(database: TestDatabase, start: datetime, *, hours: float = 1, **columns: Any) -> UUID:
    """An appointment with its trail, by default a confirmed one of the salon's "cut"; returns its id."""
    appointment_id = uuid4()
    end = start + timedelta(hours=hours)
    row = {
        "business_id": "salon",
        "service_id": "cut",
        "resource_id": None,
        "quantity": 1,
        "status": "confirmed",
        "version": 1,
        "guest_name": None,
        "guest_email": "ada@example.com",
        "guest_phone": None,
        "notes": None,
        "updated_at": datetime.now(UTC) - timedelta(hours=1),
        **columns,
    }
    database.rows(
        """
        INSERT INTO booking.appointments (business_id, appointment_id, service_id, resource_id, slot_start, slot_end,
          occupied, quantity, status, version, guest_name, guest_email, guest_phone, notes, metadata, source,
          created_at, updated_at)
        VALUES (%s, %s, %s, %s, %s, %s, tstzrange(%s, %s), %s, %s, %s, %s, %s, %s, %s, '{}', 'online', %s, %s)
        """,
        *(row["business_id"], appointment_id, row["service_id"], row["resource_id"], start, end, start, end),
        *(row[name] for name in ("quantity", "status", "version", "guest_name", "guest_email", "guest_phone", "notes")),
        *(row["updated_at"], row["updated_at"]),
    )
    database.rows(
        """
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT %s, gen_random_uuid(), %s, version, 'created', 'guest', '{}', %s FROM generate_series(1, %s) AS version
        """,
        *(row["business_id"], appointment_id, row["updated_at"], row["version"]),
    )
    database.rows("SELECT booking.recount(%s, 'infinity')", row["business_id"])
    return appointment_id


def change_appointment(
    database: TestDatabase, appointment_id: UUID, *, version: int, hour: float, status: str = "confirmed"
) -> None:
    """Makes of an appointment its next version: another hour of the Monday of the tests, or another status."""
    database.rows(
        """
        WITH changed AS (
          UPDATE booking.appointments SET version = %s, slot_start = %s, slot_end = %s, occupied = tstzrange(%s, %s),
            status = %s, updated_at = booking.now()
          WHERE appointment_id = %s RETURNING business_id, updated_at)
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, gen_random_uuid(), %s, %s, 'changed', 'owner', '{}', updated_at FROM changed
        """,
        *(version, at(hour), at(hour + 1), at(hour), at(hour + 1), status, appointment_id, appointment_id, version),
    )
    database.recount()
