"""When a business and its resources are open: weekly hours, and closures."""

from typing import Annotated

from pydantic import ConfigDict, Field, RootModel
from starlette.responses import Response

from service.booking.catalog import Catalog
from service.booking.catalog_settings import (
    MAX_LISTED,
    Closure,
    ClosureSettings,
    OpeningHours,
    OpeningHoursSettings,
)
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.naming import Record


class OpeningHoursBody(RootModel[Annotated[list[OpeningHoursSettings], Field(max_length=MAX_LISTED)]]):
    """All opening hours of a business and its resources. An empty list: always open."""

    model_config = ConfigDict(hide_input_in_errors=True)


class WeeklyHours(Record):
    """The opening hours of a business, then those of its resources, through the week. None: always open."""

    items: list[OpeningHours]


class Closures(Record):
    """The closures of a business and its resources, by their beginning."""

    items: list[Closure]


class OpeningEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        business = "/api/catalog/businesses/{businessId}"
        hours = business + "/opening-hours"
        closures = business + "/closures"
        closure = closures + "/{closureId}"
        return [
            Endpoint(
                "GET",
                hours,
                self.get_opening_hours,
                "The opening hours of a business",
                {200: WeeklyHours},
                access=Access.READONLY,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="getOpeningHours",
                tag="catalog",
                examples=examples.OPENING_HOURS,
            ),
            Endpoint(
                "PUT",
                hours,
                self.put_opening_hours,
                "Replace the opening hours of a business",
                {200: WeeklyHours},
                "All of them: its own, and those of its resources. They are in the wall-clock time of the business and "
                "stay so across a DST change. Where hours are set, the public can only book within them; a resource "
                "that has hours of its own keeps to both. What is booked stays. Without any hours it is always open.",
                access=Access.OWNER,
                body=OpeningHoursBody,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="putOpeningHours",
                tag="catalog",
                examples=examples.OPENING_HOURS,
            ),
            Endpoint(
                "DELETE",
                hours,
                self.delete_opening_hours,
                "Remove the opening hours of a business",
                {204: None},
                "From then on it is always open, and so are its resources.",
                access=Access.OWNER,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="deleteOpeningHours",
                tag="catalog",
            ),
            Endpoint(
                "GET",
                closures,
                self.list_closures,
                "The closures of a business",
                {200: Closures},
                access=Access.READONLY,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listClosures",
                tag="catalog",
                examples=examples.CLOSURES,
            ),
            Endpoint(
                "PUT",
                closure,
                self.put_closure,
                "Close a business, or one of its resources, for a time",
                {200: Closure, 201: Closure},
                "The public can't book a slot that overlaps this time. What is booked stays: it is up to the business "
                "to move or cancel it.",
                access=Access.OWNER,
                body=ClosureSettings,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="putClosure",
                tag="catalog",
                examples=examples.PUT_CLOSURE,
            ),
            Endpoint(
                "GET",
                closure,
                self.get_closure,
                "One closure",
                {200: Closure},
                access=Access.READONLY,
                refusals=("CLOSURE_NOT_FOUND",),
                operation_id="getClosure",
                tag="catalog",
                examples=examples.GET_CLOSURE,
            ),
            Endpoint(
                "DELETE",
                closure,
                self.delete_closure,
                "Delete a closure",
                {204: None},
                access=Access.OWNER,
                refusals=("CLOSURE_NOT_FOUND",),
                operation_id="deleteClosure",
                tag="catalog",
            ),
        ]

    async def get_opening_hours(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/opening-hours"""
        return answer(WeeklyHours(items=await self._catalog.opening_hours(call.path_id("businessId"))))

    async def put_opening_hours(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}/opening-hours"""
        return answer(
            WeeklyHours(items=await self._catalog.put_opening_hours(call.path_id("businessId"), call.body.root))
        )

    async def delete_opening_hours(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/opening-hours"""
        await self._catalog.put_opening_hours(call.path_id("businessId"), [])
        return Response(status_code=204)

    async def list_closures(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/closures"""
        return answer(Closures(items=await self._catalog.closures(call.path_id("businessId"))))

    async def put_closure(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}/closures/{closureId}"""
        ids = call.path_id("businessId"), call.path_id("closureId")
        closure, created = await self._catalog.put_closure(*ids, call.body)
        return answer(closure, 201 if created else 200)

    async def get_closure(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/closures/{closureId}"""
        return answer(await self._catalog.closure(call.path_id("businessId"), call.path_id("closureId")))

    async def delete_closure(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/closures/{closureId}"""
        await self._catalog.delete_closure(call.path_id("businessId"), call.path_id("closureId"))
        return Response(status_code=204)
