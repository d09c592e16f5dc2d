"""What the catalog consists of: what each thing is put with, and how it is read."""

from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.booking.faults import Told, fault_at
from service.booking.instants import Instant
from service.booking.text import Identifier, Name, Notes
from service.naming import Record

_YEAR_MINUTES = 366 * 24 * 60

Minutes = Annotated[int, Field(ge=0, le=_YEAR_MINUTES)]

Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"),
    Told("must be 1 to 64 lower-case letters, digits and hyphens, with no hyphen at either end"),
]

# Of those that can't be such names, and of those that are none.
NO_TIMEZONE: Final = "is not a time zone of the IANA database, like Europe/Berlin"
NO_COUNTRY: Final = "is not an ISO 3166 code of a country that has phone numbers, like DE"

# What one list of a request may have: more would not fit into a body.
MAX_LISTED = 500


def _without_repetition(resource_ids: list[str]) -> list[str]:
    """By id, as they are read."""
    if len(set(resource_ids)) < len(resource_ids):
        raise ValueError("must not name a resource twice")
    return sorted(resource_ids)


class Settings(Record, strict=True, extra="forbid", validate_by_name=False):
    """What is put. What is left out has the default, whatever it was before."""


class BusinessSettings(Settings):
    """What a business is put with. The time zone is an IANA name, the country an ISO 3166 code."""

    name: Name
    slug: Slug | None = None
    timezone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"), Told(NO_TIMEZONE)] = "UTC"
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$"), Told(NO_COUNTRY)]


class Business(Record):
    """A tenant."""

    business_id: str
    name: str
    slug: str | None
    timezone: str
    country: str


class ResourceSettings(Settings):
    """What a resource is put with. What is left out has the default, whatever it was before."""

    name: Name
    kind: Identifier = "resource"
    booking_enabled: bool = True


class Resource(Record):
    """What can be in one place at a time: a member of staff, a suite, a room."""

    business_id: str
    resource_id: str
    name: str
    kind: str
    booking_enabled: bool


class ServiceSettings(Settings):
    """What a service is put with. What is left out has the default, whatever it was before."""

    name: Name
    max_simultaneous_bookings: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    duration_minutes: Annotated[int, Field(ge=1, le=43_200)]
    max_duration_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    hold_ttl_minutes: Annotated[int, Field(ge=1, le=10_080)] = 15
    max_hold_ttl_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    max_hold_lifetime_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    slot_step_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    buffer_before_minutes: Annotated[int, Field(ge=0, le=1440)] = 0
    buffer_after_minutes: Annotated[int, Field(ge=0, le=1440)] = 0
    min_notice_minutes: Minutes = 0
    max_advance_days: Annotated[int, Field(ge=0, le=3660)] = 365
    cancellation_window_minutes: Minutes = 0
    booking_enabled: bool = True
    resource_ids: Annotated[
        list[Identifier],
        Field(default_factory=list, max_length=MAX_LISTED, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_without_repetition),
    ]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Fills in what follows from other settings, and checks that they agree."""
        self.max_simultaneous_bookings = self.max_simultaneous_bookings or max(1, len(self.resource_ids))
        self.max_duration_minutes = self.max_duration_minutes or max(self.duration_minutes, 1440)
        self.max_hold_ttl_minutes = self.max_hold_ttl_minutes or max(self.hold_ttl_minutes, 60)
        self.max_hold_lifetime_minutes = self.max_hold_lifetime_minutes or 4 * self.max_hold_ttl_minutes
        self.slot_step_minutes = self.slot_step_minutes or self.duration_minutes
        if self.max_duration_minutes < self.duration_minutes:
            raise fault_at("maxDurationMinutes", "must not be less than durationMinutes")
        if self.max_hold_ttl_minutes < self.hold_ttl_minutes:
            raise fault_at("maxHoldTtlMinutes", "must not be less than holdTtlMinutes")
        if self.max_hold_lifetime_minutes < self.max_hold_ttl_minutes:
            raise fault_at("maxHoldLifetimeMinutes", "must not be less than maxHoldTtlMinutes")
        return self


class Service(Record):
    """What is booked."""

    business_id: str
    service_id: str
    name: str
    max_simultaneous_bookings: int
    duration_minutes: int
    max_duration_minutes: int
    hold_ttl_minutes: int
    max_hold_ttl_minutes: int
    max_hold_lifetime_minutes: int
    slot_step_minutes: int
    buffer_before_minutes: int
    buffer_after_minutes: int
    min_notice_minutes: int
    max_advance_days: int
    cancellation_window_minutes: int
    booking_enabled: bool
    resource_ids: list[str]


class OpeningHoursSettings(Settings):
    """From when to when it is open on one day of the week, in the wall-clock time of the business."""

    weekday: Annotated[int, Field(ge=1, le=7)]
    opens: Annotated[
        str,
        StringConstraints(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$"),
        Told("must be a time of day from 00:00 to 23:59, like 09:00"),
    ]
    closes: Annotated[
        str,
        StringConstraints(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"),
        Told("must be a time of day from 00:00 to 24:00, like 17:30"),
    ]
    resource_id: Identifier | None = None

    @field_validator("closes")
    @classmethod
    def _after_it_opens(cls, closes: str, info: ValidationInfo) -> str:
        if closes <= info.data.get("opens", ""):
            raise ValueError("must be after opens; a night is two entries, the first of which closes at 24:00")
        return closes


class OpeningHours(Record):
    """From when to when it is open on one day of the week, in the wall-clock time of the business."""

    weekday: int
    opens: str
    closes: str
    resource_id: str | None


class ClosureSettings(Settings):
    """What a closure is put with. It is closed from the one instant until before the other."""

    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    resource_id: Identifier | None = None
    reason: Notes | None = None

    @field_validator("to")
    @classmethod
    def _after_it_begins(cls, to: Instant, info: ValidationInfo) -> Instant:
        if "from_" in info.data and to <= info.data["from_"]:
            raise ValueError("must be after from")
        return to


class Closure(Record):
    """A time at which a business, or one of its resources, takes no public bookings. What is booked stays."""

    business_id: str
    closure_id: str
    from_: Annotated[AwareDatetime, Field(alias="from")]
    to: AwareDatetime
    resource_id: str | None
    reason: str | None
