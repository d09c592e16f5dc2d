"""The slots that can be booked."""

from datetime import datetime

from pydantic import AwareDatetime

from service.booking.outcomes import refusal
from service.database.connections import Database
from service.naming import Record


class Slot(Record):
    """A slot that can be booked now. `resource_ids` are those that are free then."""

    slot_start: AwareDatetime
    slot_end: AwareDatetime
    available: int
    resource_ids: list[str]


class Availability(Record):
    """Slots by their start."""

    slots: list[Slot]


async def availability(
    database: Database,
    business_id: str,
    service_id: str,
    starts_from: datetime,
    starts_before: datetime,
    quantity: int,
    resource_id: str | None,
) -> Availability:
    """The slots of a service that start in a stretch of time and can be booked, by the same rules as reserve.

    With a `resource_id`, those where this one is free. Raises `Refused` (SERVICE_NOT_FOUND, RESOURCE_NOT_FOUND),
    `Invalid` (a quantity above 1 where each booking takes a resource) and `Unavailable`.
    """
    [(outcome, body)] = await database.fetch(
        "availability", business_id, service_id, starts_from, starts_before, quantity, resource_id
    )
    if outcome != "done":
        raise refusal(outcome, body)
    return Availability.model_validate(body)
