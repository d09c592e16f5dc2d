"""The things of the catalog: the settings that each is put with, and how it is read."""

from typing import Annotated, Final, Self

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, ValidationInfo, model_validator

from service.booking.instants import Instant
from service.booking.text import BusinessId, FaultMessage, Identifier, Name, Notes, ResourceId, ServiceId, fault
from service.naming import Record

_YEAR_MINUTES = 366 * 24 * 60

Minutes = Annotated[int, Field(ge=0, le=_YEAR_MINUTES)]
SlotMinutes = Annotated[int, Field(ge=1, le=43_200)]
TtlMinutes = Annotated[int, Field(ge=1, le=10_080)]
AdvanceDays = Annotated[int, Field(ge=0, le=3660)]
Capacity = Annotated[int, Field(ge=1, le=10_000_000)]
BufferMinutes = Annotated[int, Field(ge=0, le=1440)]

Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"),
    FaultMessage("must be 1 to 64 lower-case letters, digits and hyphens, with no hyphen at either end"),
]

# For names that can't be one, and for those that the database does not know.
NO_TIMEZONE: Final = "is not a time zone of the IANA database, like Europe/Berlin"
NO_COUNTRY: Final = "is not an ISO 3166 code of a country that has phone numbers, like DE"

Timezone = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"), FaultMessage(NO_TIMEZONE)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$"), FaultMessage(NO_COUNTRY)]


def _after_opens(closes: str, info: ValidationInfo) -> str:
    if closes <= info.data.get("opens", ""):
        raise ValueError("must be after opens; a night is two entries, the first of which closes at 24:00")
    return closes


def _after_from(to: Instant, info: ValidationInfo) -> Instant:
    if "from_" in info.data and to <= info.data["from_"]:
        raise ValueError("must be after from")
    return to


Opens = Annotated[
    str,
    StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"),
    FaultMessage("must be a time of day from 00:00 to 23:59, like 09:00"),
]
Closes = Annotated[
    str,
    StringConstraints(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"),
    FaultMessage("must be a time of day from 00:00 to 24:00, like 17:30"),
    AfterValidator(_after_opens),
]

# The longest list in a request: more would not fit into a body.
MAX_LISTED = 500


def _without_repetition(resource_ids: list[str]) -> list[str]:
    """Sorts the ids, as they are read, and refuses one that is named twice."""
    if len(set(resource_ids)) < len(resource_ids):
        raise ValueError("must not name a resource twice")
    return sorted(resource_ids)


Pool = Annotated[
    list[Identifier],
    Field(max_length=MAX_LISTED, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_without_repetition),
]


class Settings(Record, strict=True, extra="forbid", validate_by_name=False):
    """Settings as they are put. A member that is left out gets its default, whatever it was before."""


class BusinessSettings(Settings):
    """What a business is put with."""

    name: Name = Field(description="The name that people read.")
    slug: Slug | None = Field(None, description="Its name in public addresses: lower-case letters, digits and hyphens.")
    timezone: Timezone = Field("UTC", description="A time zone of the IANA database, like `Europe/Berlin`.")
    country: Country = Field(description="An ISO 3166 code of two letters, like `DE`.")


class Business(Record):
    """A business."""

    business_id: BusinessId
    name: str = Field(description="The name that people read.")
    slug: str | None = Field(description="Its name in public addresses.")
    timezone: str = Field(description="A time zone of the IANA database.")
    country: str = Field(description="An ISO 3166 code of two letters.")


class ResourceSettings(Settings):
    """What a resource is put with. A member that is left out gets its default, whatever it was before."""

    name: Name = Field(description="The name that people read.")
    kind: Identifier = Field("resource", description="The sort of resource, in your own words: `staff`, `room`.")
    booking_enabled: bool = Field(True, description="Whether the public may reserve it.")


class Resource(Record):
    """A member of staff, a suite, a room: one claim at a time takes it."""

    business_id: BusinessId
    resource_id: ResourceId
    name: str = Field(description="The name that people read.")
    kind: str = Field(description="The sort of resource, in your own words.")
    booking_enabled: bool = Field(description="Whether the public may reserve it.")


class ServiceSettings(Settings):
    """What a service is put with. A member that is left out gets its default, whatever it was before."""

    name: Name = Field(description="The name that people read.")
    max_simultaneous_bookings: Capacity | None = Field(
        None, description="The capacity: how many units may overlap. Left out, the number of `resourceIds`, or 1."
    )
    duration_minutes: SlotMinutes = Field(description="The length of a slot, where a caller does not give one.")
    max_duration_minutes: SlotMinutes | None = Field(
        None, description="The longest slot. Left out, a day, or `durationMinutes` if that is longer."
    )
    hold_ttl_minutes: TtlMinutes = Field(15, description="How long a slot is held, where a caller does not say.")
    max_hold_ttl_minutes: TtlMinutes | None = Field(
        None, description="How long one request may hold a slot. Left out, an hour, or `holdTtlMinutes` if longer."
    )
    max_hold_lifetime_minutes: SlotMinutes | None = Field(
        None, description="How long a hold can live if it is extended. Left out, four times `maxHoldTtlMinutes`."
    )
    slot_step_minutes: SlotMinutes | None = Field(
        None, description="The distance between the starts of listed slots. Left out, `durationMinutes`."
    )
    buffer_before_minutes: BufferMinutes = Field(0, description="Kept free before each slot.")
    buffer_after_minutes: BufferMinutes = Field(0, description="Kept free after each slot.")
    min_notice_minutes: Minutes = Field(0, description="How long before its start a slot must be reserved.")
    max_advance_days: AdvanceDays = Field(365, description="How many days ahead a slot may be reserved.")
    cancellation_window_minutes: Minutes = Field(0, description="How long before the start guests must cancel.")
    booking_enabled: bool = Field(True, description="Whether the public may reserve it.")
    resource_ids: Pool = Field(default_factory=list, description="The pool: a booking takes a free one. Default: none.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Fills in the defaults that depend on other settings, and checks that the settings agree."""
        self.max_simultaneous_bookings = self.max_simultaneous_bookings or max(1, len(self.resource_ids))
        self.max_duration_minutes = self.max_duration_minutes or max(self.duration_minutes, 1440)
        self.max_hold_ttl_minutes = self.max_hold_ttl_minutes or max(self.hold_ttl_minutes, 60)
        self.max_hold_lifetime_minutes = self.max_hold_lifetime_minutes or 4 * self.max_hold_ttl_minutes
        self.slot_step_minutes = self.slot_step_minutes or self.duration_minutes
        if self.max_duration_minutes < self.duration_minutes:
            raise fault("maxDurationMinutes", "must not be less than durationMinutes")
        if self.max_hold_ttl_minutes < self.hold_ttl_minutes:
            raise fault("maxHoldTtlMinutes", "must not be less than holdTtlMinutes")
        if self.max_hold_lifetime_minutes < self.max_hold_ttl_minutes:
            raise fault("maxHoldLifetimeMinutes", "must not be less than maxHoldTtlMinutes")
        return self


class Service(Record):
    """What is booked."""

    business_id: BusinessId
    service_id: ServiceId
    name: str = Field(description="The name that people read.")
    max_simultaneous_bookings: int = Field(description="The capacity: how many units may overlap at one instant.")
    duration_minutes: int = Field(description="The length of a slot, where a caller does not give one.")
    max_duration_minutes: int = Field(description="The longest slot.")
    hold_ttl_minutes: int = Field(description="How long a slot is held, where a caller does not say.")
    max_hold_ttl_minutes: int = Field(description="How long one request may hold a slot.")
    max_hold_lifetime_minutes: int = Field(description="How long a hold can live, however often it is extended.")
    slot_step_minutes: int = Field(description="The distance between the starts of listed slots.")
    buffer_before_minutes: int = Field(description="Kept free before each slot.")
    buffer_after_minutes: int = Field(description="Kept free after each slot.")
    min_notice_minutes: int = Field(description="How long before its start a slot must be reserved.")
    max_advance_days: int = Field(description="How many days ahead a slot may be reserved.")
    cancellation_window_minutes: int = Field(description="How long before the start guests must cancel.")
    booking_enabled: bool = Field(description="Whether the public may reserve it.")
    resource_ids: list[str] = Field(description="The pool: each booking takes one of these resources.")


_HOURS_RESOURCE: Final = "The one resource that these hours are for; `null` for the whole business."
_CLOSURE_RESOURCE: Final = "The one resource that is closed; `null` for the whole business."


class OpeningHoursSettings(Settings):
    """Opening hours of one day of the week, in the wall-clock time of the business."""

    weekday: Annotated[int, Field(ge=1, le=7)] = Field(description="1 for Monday, to 7 for Sunday.")
    opens: Opens = Field(description="When it opens, like `09:00`.")
    closes: Closes = Field(description="When it closes, like `17:30`; `24:00` ends the day. A night is two entries.")
    resource_id: Identifier | None = Field(None, description=_HOURS_RESOURCE)


class OpeningHours(Record):
    """Opening hours of one day of the week, in the wall-clock time of the business."""

    weekday: int = Field(description="1 for Monday, to 7 for Sunday.")
    opens: str = Field(description="When it opens, like `09:00`.")
    closes: str = Field(description="When it closes, like `17:30`; `24:00` is the end of the day.")
    resource_id: str | None = Field(description=_HOURS_RESOURCE)


class ClosureSettings(Settings):
    """What a closure is put with."""

    from_: Annotated[Instant, Field(alias="from")] = Field(description="When it begins.")
    to: Annotated[Instant, AfterValidator(_after_from)] = Field(description="When it ends: it is open from then on.")
    resource_id: Identifier | None = Field(None, description=_CLOSURE_RESOURCE)
    reason: Notes | None = Field(None, description="Why, for the business's own people.")


class Closure(Record):
    """A time at which a business, or one of its resources, takes no public bookings. Bookings that exist stay."""

    business_id: BusinessId
    closure_id: Identifier = Field(description="The closure, by its id within the business.")
    from_: AwareDatetime = Field(alias="from", description="When it begins.")
    to: AwareDatetime = Field(description="When it ends: it is open from then on.")
    resource_id: str | None = Field(description=_CLOSURE_RESOURCE)
    reason: str | None = Field(description="Why, for the business's own people.")
