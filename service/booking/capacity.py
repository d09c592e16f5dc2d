"""The room in one slot."""

from datetime import datetime

from service.database.connections import Database
from service.errors import Refused
from service.naming import Record


class Capacity(Record):
    """Units of a service during a slot; held and booked at its fullest instant."""

    capacity: int
    held: int
    booked: int
    available: int


async def capacity(
    database: Database, business_id: str, service_id: str, slot_start: datetime, slot_end: datetime
) -> Capacity:
    """What is taken and left of a service during a slot and its buffers. It may have changed by the time it is read.

    Raises `Refused` (SERVICE_NOT_FOUND) and `Unavailable`.
    """
    [(body,)] = await database.fetch("capacity", business_id, service_id, slot_start, slot_end)
    if body is None:
        raise Refused("SERVICE_NOT_FOUND")
    return Capacity.model_validate(body)
