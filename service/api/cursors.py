"""Cursors: the place in a list at which a page ends, opaque to callers."""

import base64
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from service.errors import Invalid
from service.faults import FaultCode


def cursor(query: BaseModel, *place: datetime | UUID) -> str:
    """Returns the cursor of a place: the instants by which the list is sorted, and the id of the last entry."""
    text = " ".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in (*place, _list_of(query)))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place_at(cursor: str, query: BaseModel, *, instants: int = 1) -> Any:
    """Returns the place of a cursor: a tuple of a number of instants and an id. Raises `Invalid`, also for a cursor of
    another query: its place may be anywhere in this list."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        *written, entry_id, list_name = text.split(" ")
        place = [datetime.fromisoformat(instant) for instant in written]
        if list_name == _list_of(query) and len(place) == instants and all(instant.tzinfo for instant in place):
            return *place, UUID(entry_id)
    except ValueError:
        pass
    raise Invalid.at("cursor", FaultCode.INVALID_CURSOR)


def _list_of(query: BaseModel) -> str:
    """Names the list whose pages a query asks for: a digest of its parameters, except those that choose the page."""
    parameters = query.model_dump_json(exclude={"cursor", "limit"})
    return sha256(f"{type(query).__name__} {parameters}".encode()).hexdigest()[:16]
