"""The opening hours, special hours and closures of a business and its resources."""

from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue, RootModel, model_validator

from service.api.catalog import OfPath, put_answer
from service.booking.catalog import CLOSURE, SPECIAL_HOURS, Catalog
from service.booking.catalog_types import MAX_LISTED
from service.booking.opening_types import (
    HOURS_OVERLAP,
    Closure,
    ClosureSettings,
    OpeningHoursSettings,
    PutClosureAnswer,
    PutSpecialHoursAnswer,
    PutWeeklyHoursAnswer,
    SpecialHours,
    SpecialHoursSettings,
    WeeklyHours,
)
from service.booking.text import BusinessId, Identifier
from service.http.answer import Answer
from service.http.endpoint import Access, endpoint
from service.naming import Record

ClosureId = Annotated[Identifier, Field(description="The closure, by its id within the business.")]
SpecialHoursId = Annotated[Identifier, Field(description="The special hours, by their id within the business.")]
Week = Annotated[list[OpeningHoursSettings], Field(max_length=MAX_LISTED, description=HOURS_OVERLAP)]
# A member of the answer to a put. The whole answer may be sent back.
Ignored = Annotated[JsonValue, Field(exclude=True, description="Read-only: sent back, it has no effect.")]
_BUSINESS: Final = "/api/catalog/businesses/{businessId}"
_HOURS: Final = _BUSINESS + "/opening-hours"
_SPECIAL: Final = _BUSINESS + "/special-hours"
_SPECIAL_HOURS: Final = _SPECIAL + "/{specialHoursId}"
_CLOSURES: Final = _BUSINESS + "/closures"
_CLOSURE: Final = _CLOSURES + "/{closureId}"
_call = partial(endpoint, tag="catalog")
_get = partial(_call, "GET", access=Access.READONLY)
_put = partial(_call, "PUT", access=Access.OWNER, refusals=("LIMIT_REACHED",))
_delete = partial(_call, "DELETE", access=Access.OWNER)


def _bare_or_items(schema: dict[str, Any]) -> None:
    """Adds the form of the answer to the schema of a list."""
    bare = {name: schema.pop(name) for name in ("type", "items", "maxItems")}
    members = {"items": bare, "closedByOwnHours": {"description": "Read-only: sent back, it has no effect."}}
    answer = {"type": "object", "properties": members, "required": ["items"], "additionalProperties": False}
    schema["anyOf"] = [bare, answer]


class OpeningHoursBody(RootModel[Week], hide_input_in_errors=True, json_schema_extra=_bare_or_items):
    """All opening hours of a business and its resources, as a list or as GET or PUT gave them. None: always open."""

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: object) -> object:
        """Takes the list out of `items`; faults are named by their place in the list in both forms."""
        if isinstance(value, dict) and {"items"} <= value.keys() <= {"items", "closedByOwnHours"}:
            return value["items"]
        return value


class SpecialHoursBody(SpecialHoursSettings):
    """What special hours are put with, or what GET or PUT gave."""

    business_id: OfPath = None
    special_hours_id: OfPath = None
    affected_appointments: Ignored = None


class ClosureBody(ClosureSettings):
    """What a closure is put with, or what GET or PUT gave."""

    business_id: OfPath = None
    closure_id: OfPath = None
    affected_appointments: Ignored = None


class SpecialHoursList(Record):
    """The special hours of a business and its resources, by their first date."""

    items: list[SpecialHours] = Field(description="All of them, by their first date.")


class Closures(Record):
    """The closures of a business and its resources, by their beginning."""

    items: list[Closure] = Field(description="All of them, by their beginning.")


class OpeningApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @_get(_HOURS)
    async def get_opening_hours(self, business_id: BusinessId) -> WeeklyHours:
        """Get the opening hours of a business."""
        return WeeklyHours(items=await self._catalog.opening_hours(business_id))

    @_put(_HOURS)
    async def put_opening_hours(self, business_id: BusinessId, body: OpeningHoursBody) -> PutWeeklyHoursAnswer:
        """Replace the opening hours of a business.

        All of them: those of the business, and those of its resources. They are in the wall-clock time of the business
        and stay so across a change of the clocks. Where hours are set, the public can only book within them. A resource
        that has hours of its own keeps to both, and is closed on every weekday on which it has none: a member of staff
        who leaves early on Saturdays needs entries for the other days too. `closedByOwnHours` shows such days. Bookings
        that exist stay. Without any hours the business is always open.
        """
        return await self._catalog.put_opening_hours(business_id, body.root)

    @_delete(_HOURS)
    async def delete_opening_hours(self, business_id: BusinessId) -> None:
        """Remove the opening hours of a business.

        From then on it is always open, and so are its resources.
        """
        await self._catalog.put_opening_hours(business_id, [])

    @_get(_SPECIAL)
    async def list_special_hours(self, business_id: BusinessId) -> SpecialHoursList:
        """List the special hours of a business."""
        return SpecialHoursList(items=await self._catalog.entries(SPECIAL_HOURS, business_id))

    @_put(_SPECIAL_HOURS, answers={200: PutSpecialHoursAnswer, 201: PutSpecialHoursAnswer})
    async def put_special_hours(
        self, business_id: BusinessId, special_hours_id: SpecialHoursId, body: SpecialHoursBody
    ) -> Answer:
        """Replace the weekly hours of a business, or of one of its resources, on dates.

        A long Thursday, or a holiday with an empty list of hours. The dates are those of the business's time zone, and
        no date has two special hours of the same business or resource. Bookings that exist stay:
        `affectedAppointments` are those from now on that the new hours would not permit.
        """
        return put_answer(*await self._catalog.put(SPECIAL_HOURS, business_id, special_hours_id, body))

    @_get(_SPECIAL_HOURS, refusals=("SPECIAL_HOURS_NOT_FOUND",))
    async def get_special_hours(self, business_id: BusinessId, special_hours_id: SpecialHoursId) -> SpecialHours:
        """Get special hours."""
        return await self._catalog.get(SPECIAL_HOURS, business_id, special_hours_id)

    @_delete(_SPECIAL_HOURS, refusals=("SPECIAL_HOURS_NOT_FOUND",))
    async def delete_special_hours(self, business_id: BusinessId, special_hours_id: SpecialHoursId) -> None:
        """Delete special hours.

        The weekly hours apply again on their dates.
        """
        await self._catalog.delete(SPECIAL_HOURS, business_id, special_hours_id)

    @_get(_CLOSURES)
    async def list_closures(self, business_id: BusinessId) -> Closures:
        """List the closures of a business."""
        return Closures(items=await self._catalog.entries(CLOSURE, business_id))

    @_put(
        _CLOSURE,
        answers={200: PutClosureAnswer, 201: PutClosureAnswer},
        refusals=("BUSINESS_MISCONFIGURED", "LIMIT_REACHED"),
    )
    async def put_closure(self, business_id: BusinessId, closure_id: ClosureId, body: ClosureBody) -> Answer:
        """Close a business, or one of its resources, for a time.

        From one instant to another, or on local dates: `date`, or `date` to `until`, both included. Dates follow the
        time zone of the business. The public can't book a slot that overlaps this time. Bookings that exist stay:
        `affectedAppointments` are those in this time, which the business moves or cancels.
        """
        return put_answer(*await self._catalog.put(CLOSURE, business_id, closure_id, body))

    @_get(_CLOSURE, refusals=("CLOSURE_NOT_FOUND",))
    async def get_closure(self, business_id: BusinessId, closure_id: ClosureId) -> Closure:
        """Get a closure."""
        return await self._catalog.get(CLOSURE, business_id, closure_id)

    @_delete(_CLOSURE, refusals=("CLOSURE_NOT_FOUND",))
    async def delete_closure(self, business_id: BusinessId, closure_id: ClosureId) -> None:
        """Delete a closure."""
        await self._catalog.delete(CLOSURE, business_id, closure_id)
