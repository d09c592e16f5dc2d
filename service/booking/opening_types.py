"""When a business and its resources are open: the settings that hours and closures are put with, and how they are
read."""

from datetime import date
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from service.booking.catalog_types import AS_INTEGER, MAX_LISTED, OfBusiness, Settings
from service.booking.instants import EndTime, LocalDate, ShownInstant, TimeOfDay, WrittenInstant, after
from service.booking.text import Identifier, Name, Notes, WrittenUuid
from service.faults import FaultCode, fault_error, fault_error_at
from service.naming import Record


def _after_opens(closes: str, info: ValidationInfo) -> str:
    if closes <= info.data.get("opens", ""):
        raise fault_error(FaultCode.CLOSES_TOO_EARLY)
    return closes


Closes = Annotated[EndTime, AfterValidator(_after_opens)]

_OPENS: Final = "When it opens, like `09:00`."
_CLOSES: Final = "When it closes, like `17:30`; `24:00` ends the day. A night is two entries."
# Of weekly and of special hours.
HOURS_OVERLAP: Final = "Hours may overlap: it is open in each of them, and the steps of slots begin with each."
_HOURS_RESOURCE: Final = "The one resource that these hours are for; `null` for the whole business."
_WEEKLY_RESOURCE: Final = (
    "The one resource that these hours are for, which is closed on every weekday without hours of its own; `null` for "
    "the whole business."
)
_CLOSURE_TO: Final = "When it ends: it is open from then on."
_CLOSURE_DATE: Final = "The local date that is closed, or the first one: instead of instants."
_CLOSURE_UNTIL: Final = "The last date that is closed; `null`: `date` alone."
_CLOSURE_RESOURCE: Final = "The one resource that is closed; `null` for the whole business."


class OpeningHoursSettings(Settings):
    """Opening hours of one day of the week, in the wall-clock time of the business."""

    weekday: Annotated[int, Field(ge=1, le=7), AS_INTEGER] = Field(description="1 for Monday, to 7 for Sunday.")
    opens: TimeOfDay = Field(description=_OPENS)
    closes: Closes = Field(description=_CLOSES)
    resource_id: Identifier | None = Field(None, description=_WEEKLY_RESOURCE)


class OpeningHours(Record):
    """Opening hours of one day of the week, in the wall-clock time of the business."""

    weekday: int = Field(description="1 for Monday, to 7 for Sunday.")
    opens: str = Field(description=_OPENS)
    closes: str = Field(description=_CLOSES)
    resource_id: str | None = Field(description=_WEEKLY_RESOURCE)


class ClosedByOwnHours(Record):
    """A resource that its own hours close while the business is open."""

    resource_id: str = Field(description="The resource.")
    weekdays: list[int] = Field(description="The weekdays on which only the business has hours, 1 for Monday.")


class WeeklyHours(Record):
    """The opening hours of a business, then those of its resources, through the week. None: always open."""

    items: list[OpeningHours] = Field(description="All of them: the business's first, then resource by resource.")


class PutWeeklyHoursAnswer(WeeklyHours):
    """The opening hours, and the resources that they close on some weekdays."""

    closed_by_own_hours: list[ClosedByOwnHours] = Field(
        description="The resources with hours of their own, and the weekdays on which these close them although the "
        "business is open. To open one, give it hours on that weekday, or none at all."
    )


class DayHours(Settings):
    """Hours of a day, in the wall-clock time of the business."""

    opens: TimeOfDay = Field(description=_OPENS)
    closes: Closes = Field(description=_CLOSES)


def _in_order(hours: list[DayHours]) -> list[DayHours]:
    """Sorts the hours, as they are read."""
    return sorted(hours, key=lambda entry: (entry.opens, entry.closes))


def _last_date(until: date | None, first: date) -> date | None:
    """Returns the last date, or None for a single date, as it is read. Refuses one before the first."""
    if until is not None and until < first:
        raise fault_error_at("until", FaultCode.BEFORE, field="date")
    return until if until != first else None


class SpecialHoursSettings(Settings):
    """What special hours are put with."""

    date: LocalDate = Field(description="The local date on which they apply, or the first one.")
    until: LocalDate | None = Field(None, description="The last date on which they apply. Left out, `date` alone.")
    hours: Annotated[list[DayHours], Field(max_length=MAX_LISTED), AfterValidator(_in_order)] = Field(
        description=f"When it is open on each of these dates. An empty list: closed. {HOURS_OVERLAP}"
    )
    resource_id: Identifier | None = Field(None, description=_HOURS_RESOURCE)
    name: Name | None = Field(None, description="What they are for, like `Christmas`.")

    @model_validator(mode="after")
    def _dates_ascend(self) -> Self:
        self.until = _last_date(self.until, self.date)
        return self


class SpecialHoursEntry(Record):
    """Hours that replace the weekly ones on dates."""

    date: LocalDate = Field(description="The local date on which they apply, or the first one.")
    until: LocalDate | None = Field(description="The last date on which they apply; `null`: `date` alone.")
    hours: list[DayHours] = Field(description="When it is open on each of these dates. An empty list: closed.")
    resource_id: str | None = Field(description=_HOURS_RESOURCE)
    name: str | None = Field(description="What they are for.")


class OfSpecialHours(Record):
    special_hours_id: Identifier = Field(description="The special hours, by their id within the business.")


class SpecialHours(SpecialHoursEntry, OfSpecialHours, OfBusiness):
    """Hours that replace the weekly ones of a business, or of one of its resources, on dates."""


class ClosureSettings(Settings):
    """What a closure is put with: instants, `from` and `to`, or local dates."""

    from_: ShownInstant | None = Field(
        None, description="When it begins. Either this, with `to`, or `date` is required."
    )
    to: Annotated[ShownInstant, after("from_")] | None = Field(None, description=_CLOSURE_TO)
    date: LocalDate | None = Field(None, description=_CLOSURE_DATE)
    until: LocalDate | None = Field(None, description=_CLOSURE_UNTIL)
    resource_id: Identifier | None = Field(None, description=_CLOSURE_RESOURCE)
    reason: Notes | None = Field(None, description="Why, for the business's own people.")

    @model_serializer(mode="wrap")
    def _in_names_of_sql(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes `from_`, which Python forbids without the underscore, as `from`."""
        return {name.removesuffix("_"): value for name, value in write(self).items()}

    @model_validator(mode="after")
    def _has_one_time(self) -> Self:
        """Checks that the closure has instants or dates, and all that it needs of them."""
        if self.date is None:
            if self.from_ is None:
                raise fault_error_at("from", FaultCode.REQUIRED_WITHOUT, fields=["date"])
            if self.to is None:
                raise fault_error_at("to", FaultCode.REQUIRED_WITHOUT, fields=["date"])
            if self.until is not None:
                raise fault_error_at("until", FaultCode.ONLY_WITH, fields=["date"])
            return self
        if self.from_ is not None or self.to is not None:
            raise fault_error_at("date", FaultCode.NOT_WITH, fields=["from", "to"])
        self.until = _last_date(self.until, self.date)
        return self


class ClosureEntry(Record):
    """A time at which the public can't book, from one instant to another or on local dates."""

    from_: WrittenInstant | None = Field(description="When it begins; `null`: it is one of dates.")
    to: WrittenInstant | None = Field(description=_CLOSURE_TO)
    date: LocalDate | None = Field(description=_CLOSURE_DATE)
    until: LocalDate | None = Field(description=_CLOSURE_UNTIL)
    resource_id: str | None = Field(description=_CLOSURE_RESOURCE)
    reason: str | None = Field(description="Why, for the business's own people.")


class OfClosure(Record):
    closure_id: Identifier = Field(description="The closure, by its id within the business.")


class Closure(ClosureEntry, OfClosure, OfBusiness):
    """A time at which a business, or one of its resources, takes no public bookings. Bookings that exist stay."""


class AffectedAppointment(Record):
    """An appointment at a time that is no longer open."""

    appointment_id: WrittenUuid = Field(description="The appointment.")
    service_id: str = Field(description="Its service.")
    resource_id: str | None = Field(description="Its resource, if the service has any.")
    slot_start: WrittenInstant = Field(description="When it begins.")
    slot_end: WrittenInstant = Field(description="When it ends.")
    version: int = Field(description="Its version, with which it can be moved or cancelled.")


class AffectedAppointments(Record):
    """The confirmed appointments from now on that lie at a time which is no longer open. They stay."""

    count: int = Field(description="How many there are.")
    items: list[AffectedAppointment] = Field(description="The first 100 of them, by their start.")


_AFFECTED: Final = "The appointments that are in the way: move or cancel them."


class PutClosureAnswer(Closure):
    """The closure, and the appointments in its time."""

    affected_appointments: AffectedAppointments = Field(description=_AFFECTED)


class PutSpecialHoursAnswer(SpecialHours):
    """The special hours, and the appointments outside of them."""

    affected_appointments: AffectedAppointments = Field(description=_AFFECTED)
