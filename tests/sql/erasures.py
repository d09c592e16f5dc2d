"""Calls of booking.erase_guest."""

from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, Outcome, TestDatabase

AUTHOR = {"actor_kind": "owner", "actor_id": "key", "request_id": "request"}


def erase_guest(
    database: TestDatabase,
    *,
    guest_email: str | None = None,
    guest_phone: str | None = None,
    business_id: str = "salon",
    limit: int = 1000,
) -> Outcome:
    """Erases one guest from a business, in one step, and returns the outcome."""
    return database.outcome("erase_guest", business_id, guest_email, guest_phone, Jsonb(AUTHOR), limit, NO_DEADLINE)
