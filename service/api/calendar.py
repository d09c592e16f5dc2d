"""Calendar feeds for calendar programs, and the addresses that an owner subscribes to."""

from functools import partial
from typing import Final

from pydantic import Field

from service.api.shapes import Query
from service.booking.calendar import CalendarFeed, Calendars, forbidden
from service.booking.text import BusinessId, ResourceId
from service.http.answer import Answer, answer
from service.http.endpoint import Access, endpoint
from service.naming import Record

_FEEDS: Final = "/api/booking/calendar"
_FEEDS_OF_BUSINESS: Final = "/api/catalog/businesses/{businessId}/calendar-feeds"


class FeedQuery(Query):
    """The key of a feed."""

    key: str | None = Field(None, description="The secret of this feed, as `calendar-feeds` shows it.")


class CalendarFeedPath(Record):
    """The address of a feed."""

    resource_id: str | None = Field(description="The resource of the calendar; `null` for the whole business.")
    path: str = Field(description="The path of the feed on this service, with its key. A secret.")


class CalendarFeeds(Record):
    """The feeds of a business: its own first, then one for each of its resources."""

    items: list[CalendarFeedPath] = Field(description="The feed of the business, then those of its resources by id.")


_call = partial(endpoint, tag="calendar", answer_headers={200: ("Cache-Control",)})
_of_owner = partial(_call, answers={200: CalendarFeeds}, access=Access.OWNER, refusals=("BUSINESS_NOT_FOUND",))
_feed = partial(_call, "GET", answers={200: None}, refusals=("FORBIDDEN",), media_type="text/calendar")


class CalendarApi:
    def __init__(self, calendars: Calendars) -> None:
        self._calendars = calendars

    @_of_owner("GET", _FEEDS_OF_BUSINESS)
    async def list_calendar_feeds(self, business_id: BusinessId) -> Answer:
        """List the calendar feeds.

        Put the address of the service before a `path` and subscribe to it in a calendar program. Its holder can read
        the guests' names and contact data, until the keys are rotated.
        """
        return _feeds_answer(business_id, await self._calendars.feeds(business_id))

    @_of_owner("POST", _FEEDS_OF_BUSINESS + "/rotate")
    async def rotate_calendar_feeds(self, business_id: BusinessId) -> Answer:
        """Replace the keys of all calendar feeds.

        The old ones stop working at once: every calendar program needs its new path.
        """
        return _feeds_answer(business_id, await self._calendars.rotate(business_id))

    @_feed(_FEEDS + "/{businessId}.ics")
    async def get_business_calendar(self, business_id: BusinessId, query: FeedQuery) -> Answer:
        """Get the calendar feed of a business.

        iCalendar (RFC 5545): the confirmed and completed appointments from 31 days ago to 400 days ahead, at most 5000,
        the coming ones first. The `key` is a secret of its own, for calendar programs, which send no headers: take the
        whole path from `calendar-feeds`.
        """
        return await self._feed(business_id, None, query)

    @_feed(_FEEDS + "/{businessId}/{resourceId}.ics")
    async def get_resource_calendar(self, business_id: BusinessId, resource_id: ResourceId, query: FeedQuery) -> Answer:
        """Get the calendar feed of a resource.

        As the feed of a business, with the appointments of one resource.
        """
        return await self._feed(business_id, resource_id, query)

    async def _feed(self, business_id: str, resource_id: str | None, query: FeedQuery) -> Answer:
        if query.key is None:
            raise forbidden()
        calendar = await self._calendars.feed(business_id, resource_id, query.key)
        return Answer(calendar, media_type="text/calendar; charset=utf-8")


def _feeds_answer(business_id: str, feeds: list[CalendarFeed]) -> Answer:
    items = []
    for resource_id, key in feeds:
        place = f"{business_id}/{resource_id}" if resource_id else business_id
        items.append(CalendarFeedPath(resource_id=resource_id, path=f"{_FEEDS}/{place}.ics?key={key}"))
    return answer(CalendarFeeds(items=items))
