"""Cursors: the place in a list at which a page ends, opaque to callers."""

import base64
from datetime import datetime
from typing import Any
from uuid import UUID

from service.errors import Invalid
from service.faults import FaultCode


def cursor(*place: datetime | UUID) -> str:
    """Returns the cursor of a place: the instants by which the list is sorted, and the id of the last entry."""
    text = " ".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in place)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_at(cursor: str, *, instants: int = 1) -> Any:
    """Returns the place of a cursor: a tuple of a number of instants and an id. Raises `Invalid`."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        *written, entry_id = text.split(" ")
        place = [datetime.fromisoformat(instant) for instant in written]
        if len(place) == instants and all(instant.tzinfo for instant in place):
            return *place, UUID(entry_id)
    except ValueError:
        pass
    raise Invalid.at("cursor", FaultCode.INVALID_CURSOR)
