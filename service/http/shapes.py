"""What callers send: strict, in camelCase, with nothing unknown in it."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from service.booking.text import IdempotencyKey, Identifier, Metadata, Name, Notes, Phone

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_OFFSET_WITHOUT_SIGN = re.compile(r" \d\d:?\d\d$")

MAX_TTL_MINUTES = 10_080


def _written_as_iso_8601(value: object) -> str:
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise PydanticCustomError("instant", "Write an instant in ISO 8601, like 2026-11-21T09:00:00+01:00")
    if _OFFSET_WITHOUT_SIGN.search(value):
        raise PydanticCustomError("instant_plus", "In a URL the + of an offset is written %2B")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("instant_range", "This instant is outside the years 1 to 9999 in UTC") from error


# Not strict, because after a validator of ours a string no longer counts as JSON's; that one takes only strings.
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_as_iso_8601), AfterValidator(_in_utc)]
Quantity = Annotated[int, Field(ge=1, le=10_000_000)]
Version = Annotated[int, Field(ge=1, le=2_147_483_647)]
TtlMinutes = Annotated[float, Field(gt=0, le=MAX_TTL_MINUTES, allow_inf_nan=False)]


class Body(BaseModel):
    """A request's body. Strict: a number in quotes is not a number."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, hide_input_in_errors=True)


class Query(BaseModel):
    """A request's query: all strings, so not strict."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)


def _check_slot(slot_start: datetime, slot_end: datetime | None) -> None:
    if slot_end is not None and slot_end <= slot_start:
        raise PydanticCustomError("slot", "slotEnd must be after slotStart")


class ReserveBody(Body):
    """Holds a slot. Without slotEnd it is as long as the service; without ttlMinutes it is held as long as usual."""

    business_id: Identifier
    service_id: Identifier
    slot_start: Instant
    slot_end: Instant | None = None
    idempotency_key: IdempotencyKey | None = None
    ttl_minutes: TtlMinutes | None = None
    quantity: Quantity = 1
    resource_id: Identifier | None = None

    @model_validator(mode="after")
    def _slot(self) -> Self:
        _check_slot(self.slot_start, self.slot_end)
        return self


class CommitBody(Body):
    """Turns a hold into an appointment. An e-mail address or a phone number is required."""

    reservation_id: UUID
    guest_name: Name | None = None
    guest_email: Annotated[EmailStr, Field(max_length=254)] | None = None
    guest_phone: Phone | None = None
    notes: Notes | None = None
    metadata: Metadata = Field(default_factory=dict)
    expected_version: Version | None = None
    business_id: Identifier | None = None
    if_expired: Literal["rebook"] | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.guest_email is None and self.guest_phone is None:
            raise PydanticCustomError("guest", "guestEmail or guestPhone is required")
        return self


class ExtendBody(Body):
    """Prolongs a hold to so many minutes from now, if that is later than it is."""

    ttl_minutes: TtlMinutes
    expected_version: Version | None = None


class OfBusiness(Query):
    """Spares the look-up of the business, where the caller knows it."""

    business_id: Identifier | None = None


class CapacityQuery(Query):
    """The slot whose room is asked for."""

    business_id: Identifier
    service_id: Identifier
    slot_start: Instant
    slot_end: Instant

    @model_validator(mode="after")
    def _slot(self) -> Self:
        _check_slot(self.slot_start, self.slot_end)
        return self
