"""The catalog: businesses, their services and resources, and when they are open."""

from typing import Any

import psycopg
from pydantic import TypeAdapter
from pydantic_core import from_json

from service.booking.catalog_settings import (
    NO_COUNTRY,
    NO_TIMEZONE,
    Business,
    BusinessSettings,
    Closure,
    ClosureSettings,
    OpeningHours,
    OpeningHoursSettings,
    Resource,
    ResourceSettings,
    Service,
    ServiceSettings,
    Settings,
)
from service.booking.guests import COUNTRIES
from service.booking.outcomes import refusal
from service.booking.text import Identifier
from service.booking.verbs import Announce
from service.database.connections import Database, Transaction
from service.errors import Invalid, Refused

_HOURS: TypeAdapter[list[OpeningHoursSettings]] = TypeAdapter(list[OpeningHoursSettings])


class Catalog:
    """The verbs on the catalog. Each raises `Refused`, `Invalid` and `Unavailable`, and takes the lock of its business.

    A put returns what was put, and whether it is new. With `announce`, changes are reported to those who watch.
    """

    def __init__(self, database: Database | Transaction, announce: Announce | None = None) -> None:
        self._database = database
        self._announce = announce

    # Businesses.

    async def put_business(self, business_id: Identifier, settings: BusinessSettings) -> tuple[Business, bool]:
        """Creates a business or replaces its settings."""
        if settings.country not in COUNTRIES:
            raise Invalid.at("country", NO_COUNTRY)
        try:
            outcome, body = await self._change("put_business", business_id, _json(settings))
        except psycopg.Error as error:
            if error.sqlstate == "HF003":
                raise Refused("SLUG_TAKEN") from error
            raise
        if outcome == "timezone_unknown":
            raise Invalid.at("timezone", NO_TIMEZONE)
        return Business.model_validate_json(body), outcome == "created"

    async def business(self, business_id: Identifier) -> Business:
        """Returns a business."""
        return Business.model_validate_json(await self._one("BUSINESS_NOT_FOUND", "business", business_id))

    async def businesses(self) -> list[Business]:
        """Returns all businesses, by id."""
        return [Business.model_validate_json(body) for (body,) in await self._database.fetch("businesses")]

    async def delete_business(self, business_id: Identifier) -> None:
        """Deletes a business that has no services and no resources."""
        await self._change("delete_business", business_id)

    # Resources.

    async def put_resource(
        self, business_id: Identifier, resource_id: Identifier, settings: ResourceSettings
    ) -> tuple[Resource, bool]:
        """Creates a resource or replaces its settings."""
        outcome, body = await self._change("put_resource", business_id, resource_id, _json(settings))
        return Resource.model_validate_json(body), outcome == "created"

    async def resource(self, business_id: Identifier, resource_id: Identifier) -> Resource:
        """Returns a resource."""
        return Resource.model_validate_json(
            await self._one("RESOURCE_NOT_FOUND", "resources", business_id, resource_id)
        )

    async def resources(self, business_id: Identifier) -> list[Resource]:
        """Returns the resources of a business, by id."""
        return [Resource.model_validate_json(body) for body in await self._all("resources", business_id, None)]

    async def delete_resource(self, business_id: Identifier, resource_id: Identifier) -> None:
        """Removes a resource from the catalog; one that was ever used is archived."""
        await self._change("delete_resource", business_id, resource_id)

    # Services.

    async def put_service(
        self, business_id: Identifier, service_id: Identifier, settings: ServiceSettings
    ) -> tuple[Service, bool]:
        """Creates a service or replaces its settings and its pool of resources."""
        outcome, body = await self._change("put_service", business_id, service_id, _json(settings), about=service_id)
        if outcome == "resource_unknown":
            raise _no_resource("resourceIds", from_json(body)["resource_id"])
        return Service.model_validate_json(body), outcome == "created"

    async def service(self, business_id: Identifier, service_id: Identifier) -> Service:
        """Returns a service."""
        return Service.model_validate_json(await self._one("SERVICE_NOT_FOUND", "services", business_id, service_id))

    async def services(self, business_id: Identifier) -> list[Service]:
        """Returns the services of a business, by id."""
        return [Service.model_validate_json(body) for body in await self._all("services", business_id, None)]

    async def delete_service(self, business_id: Identifier, service_id: Identifier) -> None:
        """Removes a service from the catalog; one that was ever booked is archived."""
        await self._change("delete_service", business_id, service_id, about=service_id)

    # When it is open.

    async def put_opening_hours(self, business_id: Identifier, hours: list[OpeningHoursSettings]) -> list[OpeningHours]:
        """Replaces all opening hours of a business and its resources. An empty list: always open."""
        written = _HOURS.dump_json(hours, by_alias=False).decode()
        outcome, body = await self._change("put_opening_hours", business_id, written)
        if outcome == "resource_unknown":
            missing = from_json(body)
            raise _no_resource(f"{missing['position']}.resourceId", missing["resource_id"])
        return [OpeningHours.model_validate(entry) for entry in from_json(body)["items"]]

    async def opening_hours(self, business_id: Identifier) -> list[OpeningHours]:
        """Returns the opening hours of a business, then those of its resources, through the week."""
        return [OpeningHours.model_validate_json(body) for body in await self._all("opening_hours", business_id)]

    async def put_closure(
        self, business_id: Identifier, closure_id: Identifier, settings: ClosureSettings
    ) -> tuple[Closure, bool]:
        """Creates a closure or replaces it."""
        outcome, body = await self._change(
            "put_closure",
            business_id,
            closure_id,
            settings.from_,
            settings.to,
            settings.resource_id,
            settings.reason,
        )
        if outcome == "resource_unknown":
            raise _no_resource("resourceId", settings.resource_id)
        return Closure.model_validate_json(body), outcome == "created"

    async def closure(self, business_id: Identifier, closure_id: Identifier) -> Closure:
        """Returns a closure."""
        return Closure.model_validate_json(await self._one("CLOSURE_NOT_FOUND", "closures", business_id, closure_id))

    async def closures(self, business_id: Identifier) -> list[Closure]:
        """Returns the closures of a business and its resources, by their beginning."""
        return [Closure.model_validate_json(body) for body in await self._all("closures", business_id, None)]

    async def delete_closure(self, business_id: Identifier, closure_id: Identifier) -> None:
        """Removes a closure from the catalog."""
        await self._change("delete_closure", business_id, closure_id)

    async def _one(self, missing: str, query: str, *parameters: str) -> Any:
        rows = await self._database.fetch(query, *parameters)
        if not rows:
            raise Refused(missing)
        return rows[0][0]

    async def _all(self, query: str, business_id: str, *parameters: None) -> list[Any]:
        """Returns the entries of a business, as JSON. Raises `Refused` if there is no such business."""
        rows = await self._database.fetch(query, business_id, *parameters)
        if not rows:
            await self.business(business_id)
        return [body for (body,) in rows]

    async def _change(
        self, query: str, business_id: str, *parameters: object, about: str | None = None
    ) -> tuple[str, Any]:
        """Runs a change and returns its outcome and body. `about` is the service that changes, if it is only one."""
        outcome: str
        [(outcome, body)] = await self._database.change(query, business_id, *parameters)
        if outcome in ("created", "done"):
            if self._announce:
                self._announce(business_id, {"service_id": about}, moved=False)
        elif outcome not in ("timezone_unknown", "resource_unknown"):
            raise refusal(outcome, from_json(body) if body else None)
        return outcome, body


def _json(settings: Settings) -> str:
    return settings.model_dump_json(by_alias=False)


def _no_resource(field: str, resource_id: str | None) -> Invalid:
    return Invalid.at(field, f"there is no resource {resource_id} in this business")
