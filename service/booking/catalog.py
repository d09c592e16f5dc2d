"""The catalog: businesses and the services they offer."""

from typing import Annotated, Any, Self

import psycopg
from pydantic import Field, StringConstraints, model_validator

from service.booking.holds import refusal
from service.booking.text import Identifier, Name
from service.database.connections import Database
from service.errors import Invalid, Refused
from service.naming import Record

_YEAR_MINUTES = 366 * 24 * 60

Minutes = Annotated[int, Field(ge=0, le=_YEAR_MINUTES)]
PositiveMinutes = Annotated[int, Field(ge=1, le=_YEAR_MINUTES)]


class BusinessSettings(Record, strict=True, extra="forbid", validate_by_name=False):
    """What a business is put with. The time zone is an IANA name, the country an ISO 3166 code."""

    name: Name
    slug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")] | None = None
    timezone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$")] = "UTC"
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Business(Record):
    """A tenant."""

    business_id: str
    name: str
    slug: str | None
    timezone: str
    country: str


class ServiceSettings(Record, strict=True, extra="forbid", validate_by_name=False):
    """What a service is put with. What is left out has the default, whatever it was before."""

    name: Name
    max_simultaneous_bookings: Annotated[int, Field(ge=1, le=10_000_000)] = 1
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Fills in what follows from other settings, and checks that they agree."""
        self.max_duration_minutes = self.max_duration_minutes or max(self.duration_minutes, 1440)
        self.max_hold_ttl_minutes = self.max_hold_ttl_minutes or max(self.hold_ttl_minutes, 60)
        self.max_hold_lifetime_minutes = self.max_hold_lifetime_minutes or 4 * self.max_hold_ttl_minutes
        self.slot_step_minutes = self.slot_step_minutes or self.duration_minutes
        if self.max_duration_minutes < self.duration_minutes:
            raise ValueError("maxDurationMinutes must not be less than durationMinutes")
        if self.max_hold_ttl_minutes < self.hold_ttl_minutes:
            raise ValueError("maxHoldTtlMinutes must not be less than holdTtlMinutes")
        if self.max_hold_lifetime_minutes < self.max_hold_ttl_minutes:
            raise ValueError("maxHoldLifetimeMinutes must not be less than maxHoldTtlMinutes")
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


class Catalog:
    """The verbs on the catalog. Each raises `Refused` and `Unavailable`, and takes the lock of its business."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_business(self, business_id: Identifier, settings: BusinessSettings) -> tuple[Business, bool]:
        """Makes a business or replaces its settings; returns it, and whether it is new."""
        try:
            outcome, body = await self._change("put_business", business_id, _json(settings))
        except psycopg.Error as error:
            if error.sqlstate == "HF003":
                raise Refused("SLUG_TAKEN") from error
            raise
        if outcome == "timezone_unknown":
            fault = {"field": "timezone", "message": "is not a time zone of the IANA database, like Europe/Berlin"}
            raise Invalid("VALIDATION_FAILED", errors=[fault])
        return Business.model_validate(body), outcome == "created"

    async def business(self, business_id: Identifier) -> Business:
        """One business."""
        return Business.model_validate(await self._one("BUSINESS_NOT_FOUND", "business", business_id))

    async def businesses(self) -> list[Business]:
        """All businesses, by id."""
        return [Business.model_validate(body) for (body,) in await self._database.fetch("businesses")]

    async def delete_business(self, business_id: Identifier) -> None:
        """Deletes a business that has no service."""
        await self._change("delete_business", business_id)

    async def put_service(
        self, business_id: Identifier, service_id: Identifier, settings: ServiceSettings
    ) -> tuple[Service, bool]:
        """Makes a service or replaces its settings; returns it, and whether it is new."""
        outcome, body = await self._change("put_service", business_id, service_id, _json(settings))
        return Service.model_validate(body), outcome == "created"

    async def service(self, business_id: Identifier, service_id: Identifier) -> Service:
        """One service."""
        return Service.model_validate(await self._one("SERVICE_NOT_FOUND", "service", business_id, service_id))

    async def services(self, business_id: Identifier) -> list[Service]:
        """The services of a business, by id."""
        await self.business(business_id)
        return [Service.model_validate(body) for (body,) in await self._database.fetch("services", business_id)]

    async def delete_service(self, business_id: Identifier, service_id: Identifier) -> None:
        """Takes a service off the catalog; one that was ever booked is archived."""
        await self._change("delete_service", business_id, service_id)

    async def _one(self, missing: str, query: str, *parameters: str) -> Any:
        rows = await self._database.fetch(query, *parameters)
        if not rows:
            raise Refused(missing)
        return rows[0][0]

    async def _change(self, query: str, *parameters: str) -> tuple[str, Any]:
        """Runs a change and returns its outcome and body."""
        outcome: str
        [(outcome, body)] = await self._database.change(query, *parameters)
        if outcome not in ("created", "done", "timezone_unknown"):
            raise refusal(outcome, body)
        return outcome, body


def _json(settings: BusinessSettings | ServiceSettings) -> str:
    return settings.model_dump_json(by_alias=False)
