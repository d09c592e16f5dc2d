"""The slots of a service that can be booked, and the capacity left in one slot."""

from datetime import datetime

from pydantic import AwareDatetime, Field
from pydantic_core import from_json

from service.booking.verbs import refusal
from service.database.connections import Database
from service.errors import Refused
from service.naming import Record


class Slot(Record):
    """A slot that can be booked now."""

    slot_start: AwareDatetime = Field(description="When the slot begins.")
    slot_end: AwareDatetime = Field(description="When the slot ends. That instant is not part of it.")
    available: int = Field(description="How many units are left. It may have changed since: only `reserve` decides.")
    resource_ids: list[str] = Field(description="The resources that are free then; none where the service has none.")


class Availability(Record):
    """Slots by their start."""

    slots: list[Slot] = Field(description="The slots, by their start.")


class Capacity(Record):
    """The units of a service during a slot."""

    capacity: int = Field(description="Units that the service has.")
    held: int = Field(description="Units on hold, at the fullest instant of the slot and its buffers.")
    booked: int = Field(description="Units booked, at that instant.")
    available: int = Field(description="Units left. It may have changed since: only `reserve` decides.")


async def availability(
    database: Database,
    business_id: str,
    service_id: str,
    starts_from: datetime,
    starts_before: datetime,
    quantity: int,
    resource_id: str | None,
) -> Availability:
    """Returns the slots of a service that start in a range of time and can be booked, by the same rules as reserve.

    With a `resource_id`, those where this one is free. Raises `Refused` (SERVICE_NOT_FOUND, RESOURCE_NOT_FOUND),
    `Invalid` (a quantity above 1 where each booking takes a resource) and `Unavailable`.
    """
    [(outcome, body)] = await database.fetch(
        "availability", business_id, service_id, starts_from, starts_before, quantity, resource_id
    )
    if outcome != "done":
        raise refusal(outcome, from_json(body) if body else None)
    return Availability.model_validate_json(body)


async def capacity(
    database: Database, business_id: str, service_id: str, slot_start: datetime, slot_end: datetime
) -> Capacity:
    """Returns the units of a service during a slot. Raises `Refused` (SERVICE_NOT_FOUND) and `Unavailable`."""
    [(body,)] = await database.fetch("capacity", business_id, service_id, slot_start, slot_end)
    if body is None:
        raise Refused("SERVICE_NOT_FOUND")
    return Capacity.model_validate_json(body)
