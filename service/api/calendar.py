"""Calendar feeds for calendar programs, and the addresses that an owner subscribes to."""

from functools import partial
from typing import Final

from pydantic import Field
from starlette.types import ASGIApp

from service.api.shapes import Query
from service.booking.calendar import Calendars, forbidden
from service.booking.text import BusinessId, NamedBusiness, ResourceId
from service.http.endpoint import Access, endpoint
from service.http.streamed import StreamedAnswer
from service.naming import Record

_FEEDS: Final = "/api/booking/calendar"
_FEEDS_OF_BUSINESS: Final = "/api/catalog/businesses/{businessId}/calendar-feeds"


class FeedQuery(Query):
    """The key of a feed, and how much it shows."""

    key: str | None = Field(None, description="The secret of this feed, as `calendar-feeds` shows it.")
    busy: bool = Field(
        False,
        description="Name each event `busy`, without the guest, the notes, the service and the resource. The same key "
        "opens the feed with them, so it stays a secret.",
    )


class CalendarFeedPath(Record):
    """The address of a feed."""

    resource_id: str | None = Field(description="The resource of the calendar; `null` for the whole business.")
    path: str = Field(description="The path of the feed on this service, with its key. A secret.")


class CalendarFeeds(Record):
    """The feeds of a business: its own first, then one for each of its resources."""

    items: list[CalendarFeedPath] = Field(description="The feed of the business, then those of its resources by id.")


_call = partial(endpoint, tag="calendar", answer_headers={200: ("Cache-Control",)})
_of_owner = partial(_call, access=Access.OWNER)
_feed = partial(_call, "GET", answers={200: None}, refusals=("FORBIDDEN",), media_type="text/calendar")


class CalendarApi:
    def __init__(self, calendars: Calendars) -> None:
        self._calendars = calendars

    @_of_owner("GET", _FEEDS_OF_BUSINESS)
    async def list_calendar_feeds(self, business_id: BusinessId) -> CalendarFeeds:
        """List the calendar feeds.

        Put the address of the service before a `path` and subscribe to it in a calendar program. Its holder can read
        the guests' names and contact data, until the keys are rotated.
        """
        return _feeds(business_id, await self._calendars.keys(business_id))

    @_of_owner("POST", _FEEDS_OF_BUSINESS + "/rotate")
    async def rotate_calendar_feeds(self, business_id: BusinessId) -> CalendarFeeds:
        """Replace the keys of all calendar feeds.

        The old ones stop working at once: every calendar program needs its new path.
        """
        return _feeds(business_id, await self._calendars.rotate(business_id))

    @_feed(_FEEDS + "/{businessId}.ics")
    async def get_business_calendar(self, business_id: NamedBusiness, query: FeedQuery) -> ASGIApp:
        """Get the calendar feed of a business.

        iCalendar (RFC 5545): the time zone of the business, then its confirmed and completed appointments by start: all
        that have not ended, and those of the last `feedPastDays`. The `key` is a secret of its own, for calendar
        programs, which send no headers: take the whole path from `calendar-feeds`.
        """
        return await self._feed(business_id, None, query)

    @_feed(_FEEDS + "/{businessId}/{resourceId}.ics")
    async def get_resource_calendar(
        self, business_id: NamedBusiness, resource_id: ResourceId, query: FeedQuery
    ) -> ASGIApp:
        """Get the calendar feed of a resource.

        As the feed of a business, with the appointments of one resource.
        """
        return await self._feed(business_id, resource_id, query)

    async def _feed(self, business_id: str, resource_id: str | None, query: FeedQuery) -> ASGIApp:
        if query.key is None:
            raise forbidden()
        calendar = self._calendars.feed(business_id, resource_id, query.key, busy=query.busy)
        return await StreamedAnswer(calendar, "text/calendar; charset=utf-8").begun()


def _feeds(business_id: str, keys: dict[str | None, str]) -> CalendarFeeds:
    items = []
    for resource_id, key in keys.items():
        place = f"{business_id}/{resource_id}" if resource_id else business_id
        items.append(CalendarFeedPath(resource_id=resource_id, path=f"{_FEEDS}/{place}.ics?key={key}"))
    return CalendarFeeds(items=items)
