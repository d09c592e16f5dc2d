"""Services of the catalog: the settings that each is put with, and how it is read."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.alias_generators import to_camel

from service.booking.catalog_types import AS_INTEGER, MAX_LISTED, Named, NamedSettings, OfBusiness, Units
from service.booking.instants import EndTime, TimeOfDay
from service.booking.text import Identifier, ServiceId
from service.faults import FaultCode, fault_error, fault_error_at
from service.naming import Record

_YEAR_DAYS = 366

Minutes = Annotated[int, Field(ge=0, le=_YEAR_DAYS * 24 * 60), AS_INTEGER]
SlotMinutes = Annotated[int, Field(ge=1, le=43_200), AS_INTEGER]
SlotDays = Annotated[int, Field(ge=1, le=_YEAR_DAYS), AS_INTEGER]
TtlMinutes = Annotated[int, Field(ge=1, le=10_080), AS_INTEGER]
AdvanceDays = Annotated[int, Field(ge=0, le=3660), AS_INTEGER]
BufferMinutes = Annotated[int, Field(ge=0, le=1440), AS_INTEGER]
# A commit reads as many appointments of its guest.
GuestLimit = Annotated[int, Field(ge=1, le=1000), AS_INTEGER]


def _sorted(texts: list[str]) -> list[str]:
    """Sorts ids or times, as they are read, and refuses one that is named twice."""
    if len(set(texts)) < len(texts):
        raise fault_error(FaultCode.REPEATED)
    return sorted(texts)


Pool = Annotated[
    list[Identifier], Field(max_length=MAX_LISTED, json_schema_extra={"uniqueItems": True}), AfterValidator(_sorted)
]
StartTimes = Annotated[
    list[TimeOfDay],
    Field(min_length=1, max_length=MAX_LISTED, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_sorted),
]
HoursApply = Literal["throughout", "ends"]
ResourceSharing = Literal["exclusive", "session"]


class ServiceSettings(NamedSettings):
    """What a service is put with. A member that is left out, or null where its type allows that, gets its default."""

    max_simultaneous_bookings: Units | None = Field(
        None, description="The capacity: how many guests may overlap. Left out, the seats of `resourceIds`, or 1."
    )
    duration_minutes: SlotMinutes | None = Field(
        None, description="The length of a slot in minutes. Either this or `durationDays` is required."
    )
    min_duration_minutes: SlotMinutes | None = Field(
        None, description="The shortest slot that the public may ask for. Left out, `durationMinutes`."
    )
    max_duration_minutes: SlotMinutes | None = Field(
        None, description="The longest slot that the public may ask for. Left out, `durationMinutes`."
    )
    duration_days: SlotDays | None = Field(
        None, description="The length of a slot in calendar days of the business: nights, day rentals."
    )
    min_duration_days: SlotDays | None = Field(
        None, description="The fewest days that the public may ask for. Left out, `durationDays`."
    )
    max_duration_days: SlotDays | None = Field(
        None, description="The most days that the public may ask for. Left out, `durationDays`."
    )
    start_times: StartTimes | None = Field(
        None, description="The local times at which slots are listed, instead of every `slotStepMinutes`."
    )
    end_time: EndTime | None = Field(
        None,
        description="With `durationDays`: the local time at which a slot ends, on the last day if that is later than "
        "its start, else on the next. Left out, the time of its start, on the next day.",
    )
    slot_step_minutes: SlotMinutes | None = Field(
        None,
        description="The distance between listed starts, counted anew from each opening. Left out, `durationMinutes`, "
        "or one start a day.",
    )
    starts_on_grid: bool = Field(False, description="Whether the public may book only the starts that are listed.")
    hours_apply: HoursApply | None = Field(
        None,
        description="Whether opening hours bind the whole slot (`throughout`) or only its start and end (`ends`). "
        "Left out, `throughout` for minutes and `ends` for days.",
    )
    hold_ttl_minutes: TtlMinutes = Field(15, description="How long a slot is held, where a caller does not say.")
    max_hold_ttl_minutes: TtlMinutes | None = Field(
        None, description="How long one request may hold a slot. Left out, an hour, or `holdTtlMinutes` if longer."
    )
    max_hold_lifetime_minutes: SlotMinutes | None = Field(
        None, description="How long a hold can live if it is extended. Left out, four times `maxHoldTtlMinutes`."
    )
    buffer_before_minutes: BufferMinutes = Field(0, description="Kept free before each slot.")
    buffer_after_minutes: BufferMinutes = Field(0, description="Kept free after each slot.")
    min_notice_minutes: Minutes = Field(0, description="How long before its start a slot must be reserved.")
    max_advance_days: AdvanceDays = Field(365, description="How many days ahead a slot may be reserved.")
    cancellation_window_minutes: Minutes = Field(0, description="How long before the start guests must cancel.")
    reschedule_window_minutes: Minutes | None = Field(
        None,
        description="How long before the start guests must move an appointment. Left out, `cancellationWindowMinutes`; "
        "if it is less, guests can move an appointment that they can't cancel any more, and then cancel it.",
    )
    max_upcoming_per_guest: GuestLimit | None = Field(
        None,
        description="How many confirmed appointments that have not begun one guest, by e-mail address (in any case) or "
        "phone number, may have. Binds the public only. Left out, any number.",
    )
    booking_enabled: bool = Field(True, description="Whether the public may reserve it.")
    resource_sharing: ResourceSharing = Field(
        "exclusive",
        description="`exclusive`: a booking takes a whole resource, whose seats its quantity must fit. `session`: "
        "bookings of the same slot share a resource up to its seats, as in a class.",
    )
    resource_ids: Pool = Field(default_factory=list, description="The pool: a booking takes a free one. Default: none.")

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        """Checks that the length has one unit, which its bounds share, and lies between them."""
        if self.duration_minutes is None and self.duration_days is None:
            raise fault_error_at("durationMinutes", FaultCode.REQUIRED_WITHOUT, fields=["durationDays"])
        if self.duration_minutes is not None and self.duration_days is not None:
            raise fault_error_at("durationDays", FaultCode.NOT_WITH, fields=["durationMinutes"])
        if self.duration_days is None:
            self._only_with("durationDays", "min_duration_days", "max_duration_days", "end_time")
            self._must_ascend("min_duration_minutes", "duration_minutes", "max_duration_minutes")
        else:
            self._only_with("durationMinutes", "min_duration_minutes", "max_duration_minutes")
            self._must_ascend("min_duration_days", "duration_days", "max_duration_days")
        return self

    @model_validator(mode="after")
    def _hold_times_agree(self) -> Self:
        """Checks that each bound of a hold, given or by default, is not less than the one before it."""
        longest = self.max_hold_ttl_minutes or max(self.hold_ttl_minutes, 60)
        if longest < self.hold_ttl_minutes:
            raise fault_error_at("maxHoldTtlMinutes", FaultCode.LESS_THAN_FIELD, field="holdTtlMinutes")
        if self.max_hold_lifetime_minutes is not None and self.max_hold_lifetime_minutes < longest:
            raise fault_error_at("maxHoldLifetimeMinutes", FaultCode.LESS_THAN_FIELD, field="maxHoldTtlMinutes")
        return self

    def _only_with(self, length: str, *members: str) -> None:
        for member in members:
            if getattr(self, member) is not None:
                raise fault_error_at(to_camel(member), FaultCode.ONLY_WITH, fields=[length])

    def _must_ascend(self, shortest: str, length: str, longest: str) -> None:
        """Checks the bounds of a length, which may be left out."""
        least, default, most = (getattr(self, member) for member in (shortest, length, longest))
        if least is not None and least > default:
            raise fault_error_at(to_camel(shortest), FaultCode.MORE_THAN_FIELD, field=to_camel(length))
        if most is not None and most < default:
            raise fault_error_at(to_camel(longest), FaultCode.LESS_THAN_FIELD, field=to_camel(length))


class OfferedService(Named):
    """What the public and the business see of a service."""

    duration_minutes: int | None = Field(description="The length of a slot in minutes; `null`: it is in days.")
    duration_days: int | None = Field(description="The length of a slot in calendar days; `null`: it is in minutes.")
    start_times: list[str] | None = Field(description="The local times at which slots are listed; `null`: in steps.")
    end_time: str | None = Field(description="The local time at which a slot of days ends; `null`: that of its start.")
    starts_on_grid: bool = Field(description="Whether the public may book only the starts that are listed.")
    hold_ttl_minutes: int = Field(description="How long a slot is held, where a caller does not say.")
    min_notice_minutes: int = Field(description="How long before its start a slot must be reserved.")
    max_advance_days: int = Field(description="How many days ahead a slot may be reserved.")
    cancellation_window_minutes: int = Field(description="How long before the start guests must cancel.")
    max_upcoming_per_guest: int | None = Field(
        description="How many upcoming appointments one guest may have; `null`: any number."
    )
    resource_sharing: ResourceSharing = Field(description="Whether bookings of the same slot may share a resource.")


class ServiceEntry(OfferedService):
    """The settings of a service. One that was left out is null, and has its default."""

    max_simultaneous_bookings: int | None = Field(
        description="The capacity: how many guests may overlap; `null`: the seats of the pool, or 1."
    )
    min_duration_minutes: int | None = Field(description="The shortest slot; `null`: `durationMinutes`.")
    max_duration_minutes: int | None = Field(description="The longest slot; `null`: `durationMinutes`.")
    min_duration_days: int | None = Field(description="The fewest days; `null`: `durationDays`.")
    max_duration_days: int | None = Field(description="The most days; `null`: `durationDays`.")
    slot_step_minutes: int | None = Field(
        description="The distance between listed starts; `null`: `durationMinutes`, or one start a day."
    )
    hours_apply: HoursApply | None = Field(
        description="Whether opening hours bind the whole slot or its ends; `null`: `throughout` for minutes, `ends` "
        "for days."
    )
    max_hold_ttl_minutes: int | None = Field(
        description="How long one request may hold a slot; `null`: an hour, or `holdTtlMinutes` if longer."
    )
    max_hold_lifetime_minutes: int | None = Field(
        description="How long a hold can live, however often it is extended; `null`: four times `maxHoldTtlMinutes`."
    )
    buffer_before_minutes: int = Field(description="Kept free before each slot.")
    buffer_after_minutes: int = Field(description="Kept free after each slot.")
    reschedule_window_minutes: int | None = Field(
        description="How long before the start guests must move an appointment; `null`: `cancellationWindowMinutes`."
    )
    booking_enabled: bool = Field(description="Whether the public may reserve it.")
    resource_ids: list[str] = Field(
        description="The pool: each booking takes one of these resources. If all of them are removed from the catalog, "
        "they are listed here still, and nothing can be booked: put others, or none."
    )


class OfService(Record):
    service_id: ServiceId


class Service(ServiceEntry, OfService, OfBusiness):
    """An offer that can be booked. A setting that was left out is null, and has its default."""

    archived_resource_ids: list[str] = Field(
        description="Those of the pool that are removed from the catalog: they get no new bookings."
    )


class PublicService(OfferedService, OfService):
    """A service that the public can book. A member that does not apply is null; defaults are computed."""

    min_duration_minutes: int | None = Field(description="The shortest slot in minutes.")
    max_duration_minutes: int | None = Field(description="The longest slot in minutes.")
    min_duration_days: int | None = Field(description="The fewest days.")
    max_duration_days: int | None = Field(description="The most days.")
    slot_step_minutes: int | None = Field(
        description="The distance between listed starts; `null`: there are `startTimes`, or one start a day."
    )
    reschedule_window_minutes: int = Field(description="How long before the start guests must move an appointment.")
    max_quantity: int = Field(
        description="The largest `quantity` that one request can get; 0: none of its resources can be booked."
    )
    resource_ids: list[str] = Field(description="Those of `resources` that it can be booked with; none without a pool.")
