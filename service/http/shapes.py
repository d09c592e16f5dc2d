"""What callers send: strict, in camelCase, with nothing unknown in it."""

from datetime import MAXYEAR, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from service.booking.appointments import Status
from service.booking.faults import fault_at
from service.booking.instants import Instant, SlotInstant
from service.booking.text import IdempotencyKey, Identifier, Metadata, Name, Notes, Phone

MAX_TTL_MINUTES = 10_080

# The longest that a service's slots can be: what reaches further could not be found by scans that are bounded in time.
MAX_SLOT = timedelta(minutes=43_200)

# How much time one listing of slots covers.
MAX_LISTING = timedelta(days=62)


def _without_a_name(email: object) -> object:
    """The parser would take `Ada <ada@example.com>`, and drop the name."""
    if isinstance(email, str) and "<" in email:
        raise PydanticCustomError("email", "must be the address alone, like ada@example.com")
    return email


Email = Annotated[EmailStr, Field(max_length=254), BeforeValidator(_without_a_name)]
Quantity = Annotated[int, Field(ge=1, le=10_000_000)]
Version = Annotated[int, Field(ge=1, le=2_147_483_647)]
TtlMinutes = Annotated[float, Field(gt=0, le=MAX_TTL_MINUTES, allow_inf_nan=False)]


def _leaves_room_for_its_end(start: datetime) -> datetime:
    """Instants are written up to the year 9999, and a slot that begins in it might end after it."""
    if start.year == MAXYEAR:
        raise PydanticCustomError("slot_start", "must be before the year 9999")
    return start


SlotStart = Annotated[Instant, AfterValidator(_leaves_room_for_its_end)]


class Body(BaseModel):
    """A request's body. Strict: a number in quotes is not a number."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, hide_input_in_errors=True)


class Query(BaseModel):
    """A request's query: all strings, so not strict."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)


def _after_its_start(slot_end: datetime, info: ValidationInfo) -> datetime:
    slot_start = info.data.get("slot_start")
    if slot_start and slot_end <= slot_start:
        raise PydanticCustomError("slot", "slotEnd must be after slotStart")
    return slot_end


def _within_reach(slot_end: datetime, info: ValidationInfo) -> datetime:
    slot_start = info.data.get("slot_start")
    if slot_start and slot_end - slot_start > MAX_SLOT:
        raise PydanticCustomError("slot", "slotEnd must be at most 30 days after slotStart")
    return slot_end


# Beside the slotStart that was declared before it. How long a slot may be reserved, its service says.
SlotEnd = Annotated[SlotInstant, AfterValidator(_after_its_start)]
SlotEndWithinReach = Annotated[SlotEnd, AfterValidator(_within_reach)]


class SlotBody(Body):
    """A slot of a service, and the caller's name for the attempt to have it."""

    business_id: Identifier
    service_id: Identifier
    slot_start: SlotStart
    slot_end: SlotEnd | None = None
    idempotency_key: IdempotencyKey | None = None
    quantity: Quantity = 1
    resource_id: Identifier | None = None

    def wish(self) -> dict[str, object]:
        """What is asked for, in the arguments of the verbs."""
        wish = {"service_id", "slot_start", "slot_end", "quantity", "resource_id"}
        return self.model_dump(mode="json", by_alias=False, include=wish)


class ReserveBody(SlotBody):
    """Holds a slot. Without slotEnd it is as long as the service; without ttlMinutes it is held as long as usual."""

    ttl_minutes: TtlMinutes | None = None


class GuestBody(Body):
    """Who comes, and what there is to know about it."""

    guest_name: Name | None = None
    guest_email: Email | None = None
    guest_phone: Phone | None = None
    notes: Notes | None = None
    metadata: Metadata = Field(default_factory=dict)

    def guest(self) -> dict[str, object]:
        """The guest, in the arguments of the verbs."""
        return self.model_dump(mode="json", by_alias=False, include=set(GuestBody.model_fields))


def _check_reachable(guest: GuestBody) -> None:
    if guest.guest_email is None and guest.guest_phone is None:
        raise fault_at("guestEmail", "guestEmail or guestPhone is required")


class CommitBody(GuestBody):
    """Turns a hold into an appointment. An e-mail address or a phone number is required."""

    reservation_id: UUID
    expected_version: Version | None = None
    business_id: Identifier | None = None
    if_expired: Literal["rebook"] | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        _check_reachable(self)
        return self


class BookingBody(ReserveBody, GuestBody):
    """Books a slot at once. What a hold would take is taken too: there is nothing that ttlMinutes could hold."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        _check_reachable(self)
        return self


class AppointmentBody(SlotBody, GuestBody):
    """Books a slot on behalf of the business, for a guest who may be known by no more than a name."""

    slot_end: SlotEndWithinReach | None = None
    source: Identifier = "manual"


def _left_out() -> Any:
    """The default of what may be left out but is never null: a default that is made is not told by the schema."""
    return None


class ChangeBody(Body):
    """Changes what is named. Null removes what an appointment can do without; a resource of null means any free one."""

    expected_version: Version | None = None
    slot_start: SlotStart = Field(default_factory=_left_out)
    slot_end: SlotInstant = Field(default_factory=_left_out)
    resource_id: Identifier | None = None
    quantity: Quantity = Field(default_factory=_left_out)
    status: Status = Field(default_factory=_left_out)
    guest_name: Name | None = None
    guest_email: Email | None = None
    guest_phone: Phone | None = None
    notes: Notes | None = None
    metadata: Metadata = Field(default_factory=dict)

    def changes(self) -> dict[str, object]:
        """What is named, in the arguments of the verb."""
        return self.model_dump(mode="json", by_alias=False, include=self.model_fields_set - {"expected_version"})


class CancelBody(Body):
    """Cancels an appointment, as its guest by the token or on behalf of the business."""

    cancellation_token: str | None = None
    expected_version: Version | None = None
    reason: Notes | None = None


class AppointmentsQuery(Query):
    """A page of the appointments that start from `from` up to `to`."""

    business_id: Identifier
    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    resource_id: Identifier | None = None
    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = None

    @field_validator("to")
    @classmethod
    def _after_from(cls, to: datetime, info: ValidationInfo) -> datetime:
        if "from_" in info.data and to <= info.data["from_"]:
            raise PydanticCustomError("range", "to must be after from")
        return to


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
    slot_start: SlotInstant
    slot_end: SlotEndWithinReach


class AvailabilityQuery(Query):
    """Which slots are asked for: those that start from `from` up to `to`."""

    business_id: Identifier
    service_id: Identifier
    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    quantity: Quantity = 1
    resource_id: Identifier | None = None

    @field_validator("to")
    @classmethod
    def _within_reach(cls, to: datetime, info: ValidationInfo) -> datetime:
        starts_from = info.data.get("from_")
        if starts_from is not None and not timedelta(0) < to - starts_from <= MAX_LISTING:
            raise PydanticCustomError("range", "to must be after from, by 62 days at most")
        return to
