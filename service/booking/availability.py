"""The slots of a service that can be booked, and the capacity left in one slot."""

import asyncio
from datetime import date, datetime, timedelta
from typing import Final, Self
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from service.booking.businesses import found
from service.booking.catalog_types import Units
from service.booking.instants import LocalDate, WrittenInstant
from service.booking.service_types import SlotDays, SlotMinutes
from service.booking.text import Identifier, NamedBusiness, ServiceId
from service.booking.verbs import body_of
from service.database.connections import Reader
from service.faults import FaultCode, fault_error_at
from service.naming import Record

# Dates that one statement counts: those of a page of slots. With 500 busy resources it takes a second, and other
# callers get their turn between two of them.
_COUNTED_DATES: Final = timedelta(days=62)
# Slots of a page that are parsed and written before other requests get their turn.
_SLOTS_OF_TURN: Final = 100
# The text of jsonb between two slots. No id of a resource contains a brace.
_BETWEEN_SLOTS: Final = b"}, {"
_USUAL_LENGTH: Final = "Left out, that of the `appointmentId`, if the service has it, or of the service."


class Slot(Record):
    """A slot that can be booked now."""

    slot_start: WrittenInstant = Field(description="When the slot begins.")
    slot_end: WrittenInstant = Field(description="When the slot ends. That instant is not part of it.")
    available: int = Field(description="How many units are left. It may have changed since: only `reserve` decides.")
    max_quantity: int = Field(description="The largest `quantity` that one request can get: a party sits together.")
    resource_ids: list[str] = Field(description="The resources that are free then, at most 50; none without a pool.")


_SLOTS: Final = TypeAdapter(list[Slot])


class Availability(Record):
    """A page of slots by their start."""

    slots: list[Slot] = Field(description="The slots, by their start.")
    next_from: WrittenInstant | None = Field(description="The `from` of the next page; `null` on the last one.")


class Day(Record):
    """The slots that start on a date."""

    date: LocalDate = Field(description="The date, by the clock of the business.")
    slots: int = Field(description="How many slots can be booked that start on it; 100 stands for 100 or more.")
    first_slot_start: WrittenInstant | None = Field(description="When the first of them begins; `null` without one.")


class AvailableDays(Record):
    """Dates, each with the number of its slots."""

    days: list[Day] = Field(description="One entry for each date from `from` to `to`.")


class Capacity(Record):
    """The units of a service during a slot."""

    capacity: int = Field(description="Units that the service has.")
    held: int = Field(description="Units on hold, at the fullest instant of the slot and its buffers.")
    booked: int = Field(description="Units booked, at that instant.")
    available: int = Field(description="Units left. It may have changed since: only `reserve` decides.")


class Wanted(BaseModel):
    """The slots of a service that a caller looks for: members of the queries of the listings."""

    business_id: NamedBusiness
    service_id: ServiceId
    quantity: Units | None = Field(
        None,
        description="How many units are wanted. Slots with less room are not listed. Left out, those of the "
        "`appointmentId`, or 1.",
    )
    resource_id: Identifier | None = Field(None, description="Only the slots in which this one is free.")
    duration_minutes: SlotMinutes | None = Field(
        None, description=f"The length of the slots, of a service by minutes. {_USUAL_LENGTH}"
    )
    duration_days: SlotDays | None = Field(
        None, description=f"The length of the slots, of a service by days. {_USUAL_LENGTH}"
    )
    appointment_id: UUID | None = Field(
        None,
        description="An appointment that is to be moved, with its `Guest-Token`: it takes no room from itself, and the "
        "slots have its length and room for its quantity, if no others are sent.",
    )

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if self.duration_minutes is not None and self.duration_days is not None:
            raise fault_error_at("durationDays", FaultCode.NOT_WITH, fields=["durationMinutes"])
        return self


async def availability(
    reads: Reader, wanted: Wanted, starts_from: datetime, starts_before: datetime | None, limit: int
) -> bytes:
    """Returns a page of the slots of a service that can be booked, by the same rules as reserve: an `Availability` in
    JSON.

    They start from the first instant on and before the second, or as far ahead as the service can be booked. With a
    `resource_id`, those where this one is free. Raises `Refused` (SERVICE_NOT_FOUND, BUSINESS_MISCONFIGURED,
    RESOURCE_NOT_FOUND), `Invalid` (a quantity that no resource seats, or a length that the service does not have) and
    `Unavailable`.
    """
    return await _written(await _listed(reads, "availability", wanted, starts_from, starts_before, limit))


async def _written(body: bytes) -> bytes:
    """Writes a page of booking.availability as an `Availability`, part by part: the largest takes 8 ms at once."""
    listed, _, rest = body.removeprefix(b'{"slots": ').rpartition(b"]")
    slots = listed.removeprefix(b"[{").removesuffix(b"}").split(_BETWEEN_SLOTS) if listed != b"[" else []
    parts = []
    for first in range(0, len(slots), _SLOTS_OF_TURN):
        if first:
            await asyncio.sleep(0)
        part = _SLOTS.validate_json(b"[{" + _BETWEEN_SLOTS.join(slots[first : first + _SLOTS_OF_TURN]) + b"}]")
        parts.append(_SLOTS.dump_json(part, by_alias=True)[1:-1])
    page = Availability.model_validate_json(b'{"slots": []' + rest).model_dump_json().encode()
    return page.replace(b"[]", b"[" + b",".join(parts) + b"]", 1)


async def available_days(reads: Reader, wanted: Wanted, first: date, last: date) -> bytes:
    """Returns the number of slots that can be booked of each local date, both ends included: `AvailableDays` in JSON.
    Raises as `availability`."""
    days: list[Day] = []
    while first <= last:
        until = min(last, first + _COUNTED_DATES - timedelta(days=1))
        body = await _listed(reads, "available_days", wanted, first, until)
        days += AvailableDays.model_validate_json(body).days
        first += _COUNTED_DATES
    return AvailableDays(days=days).model_dump_json().encode()


async def _listed(reads: Reader, query: str, wanted: Wanted, first: date, last: date | None, *limit: int) -> bytes:
    """Calls one of the listings of sql/functions/reads/availability.sql, from a date or an instant to another."""
    length = wanted.duration_minutes, wanted.duration_days
    room = wanted.quantity, wanted.resource_id
    asked = wanted.business_id, wanted.service_id, first, last, *length, *room, *limit, wanted.appointment_id
    [row] = await reads.fetch(query, *asked)
    return body_of(*row)


async def capacity(
    reads: Reader, business_id: str, service_id: str, slot_start: datetime, slot_end: datetime
) -> Capacity:
    """Returns the units of a service during a slot. Raises `Refused` (SERVICE_NOT_FOUND) and `Unavailable`."""
    rows = await reads.fetch("capacity", business_id, service_id, slot_start, slot_end)
    return found(rows, Capacity, "SERVICE_NOT_FOUND")
