"""The opening hours and closures of a business and its resources."""

from functools import partial
from typing import Annotated, Final

from pydantic import Field, RootModel

from service.api.catalog import put_answer
from service.booking.catalog import CLOSURE, Catalog
from service.booking.catalog_types import MAX_LISTED, Closure, ClosureSettings, OpeningHours, OpeningHoursSettings
from service.booking.text import BusinessId, Identifier
from service.http.answer import Answer, answer, no_content
from service.http.endpoint import Access, endpoint
from service.naming import Record

ClosureId = Annotated[Identifier, Field(description="The closure, by its id within the business.")]
Week = Annotated[list[OpeningHoursSettings], Field(max_length=MAX_LISTED)]
_BUSINESS: Final = "/api/catalog/businesses/{businessId}"
_HOURS: Final = _BUSINESS + "/opening-hours"
_CLOSURES: Final = _BUSINESS + "/closures"
_CLOSURE: Final = _CLOSURES + "/{closureId}"
_call = partial(endpoint, tag="catalog")
_get = partial(_call, "GET", access=Access.READONLY)
_put = partial(_call, "PUT", access=Access.OWNER, refusals=("BUSINESS_NOT_FOUND",))
_delete = partial(_call, "DELETE", answers={204: None}, access=Access.OWNER)


class OpeningHoursBody(RootModel[Week], hide_input_in_errors=True):
    """All opening hours of a business and its resources. An empty list: always open."""


class WeeklyHours(Record):
    """The opening hours of a business, then those of its resources, through the week. None: always open."""

    items: list[OpeningHours] = Field(description="All of them: the business's first, then resource by resource.")


class Closures(Record):
    """The closures of a business and its resources, by their beginning."""

    items: list[Closure] = Field(description="All of them, by their beginning.")


class OpeningApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @_get(_HOURS, answers={200: WeeklyHours}, refusals=("BUSINESS_NOT_FOUND",))
    async def get_opening_hours(self, business_id: BusinessId) -> Answer:
        """Get the opening hours of a business."""
        return answer(WeeklyHours(items=await self._catalog.opening_hours(business_id)))

    @_put(_HOURS, answers={200: WeeklyHours})
    async def put_opening_hours(self, business_id: BusinessId, body: OpeningHoursBody) -> Answer:
        """Replace the opening hours of a business.

        All of them: those of the business, and those of its resources. They are in the wall-clock time of the business
        and stay so across a change of the clocks. Where hours are set, the public can only book within them; a resource
        that has hours of its own keeps to both. Bookings that exist stay. Without any hours the business is always
        open.
        """
        return answer(WeeklyHours(items=await self._catalog.put_opening_hours(business_id, body.root)))

    @_delete(_HOURS, refusals=("BUSINESS_NOT_FOUND",))
    async def delete_opening_hours(self, business_id: BusinessId) -> Answer:
        """Remove the opening hours of a business.

        From then on it is always open, and so are its resources.
        """
        await self._catalog.put_opening_hours(business_id, [])
        return no_content()

    @_get(_CLOSURES, answers={200: Closures}, refusals=("BUSINESS_NOT_FOUND",))
    async def list_closures(self, business_id: BusinessId) -> Answer:
        """List the closures of a business."""
        return answer(Closures(items=await self._catalog.entries(CLOSURE, business_id)))

    @_put(_CLOSURE, answers={200: Closure, 201: Closure})
    async def put_closure(self, business_id: BusinessId, closure_id: ClosureId, body: ClosureSettings) -> Answer:
        """Close a business, or one of its resources, for a time.

        The public can't book a slot that overlaps this time. Bookings that exist stay: it is up to the business to move
        or cancel them.
        """
        return put_answer(*await self._catalog.put(CLOSURE, business_id, closure_id, body))

    @_get(_CLOSURE, answers={200: Closure}, refusals=("CLOSURE_NOT_FOUND",))
    async def get_closure(self, business_id: BusinessId, closure_id: ClosureId) -> Answer:
        """Get a closure."""
        return answer(await self._catalog.get(CLOSURE, business_id, closure_id))

    @_delete(_CLOSURE, refusals=("CLOSURE_NOT_FOUND",))
    async def delete_closure(self, business_id: BusinessId, closure_id: ClosureId) -> Answer:
        """Delete a closure."""
        await self._catalog.delete(CLOSURE, business_id, closure_id)
        return no_content()
