"""Calendar feeds, for calendar programs; and what an owner needs to subscribe to them."""

from typing import Final

from starlette.responses import Response

from service.booking.calendar import CalendarFeed, Calendars, forbidden
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.http.shapes import Query
from service.naming import Record

_FEEDS: Final = "/api/booking/calendar"
# What is in a feed is personal, and the path of a feed is a secret.
_NO_STORE: Final = {"Cache-Control": "no-store"}
_WHAT_IS_IN_IT: Final = (
    "iCalendar (RFC 5545): the confirmed and completed appointments from 31 days ago to 400 days ahead, at most 5000, "
    "the coming ones first. The `key` is a secret of its own, for calendar programs, which send no headers: get the "
    "whole path from `calendar-feeds`."
)


class FeedQuery(Query):
    """What opens a feed."""

    key: str | None = None


class CalendarFeedPath(Record):
    """Where a feed is: of a resource, or of the whole business where `resource_id` is null."""

    resource_id: str | None
    path: str


class CalendarFeeds(Record):
    """The feeds of a business: its own first, then one for each of its resources."""

    items: list[CalendarFeedPath]


class CalendarEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, calendars: Calendars) -> None:
        self._calendars = calendars

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        feeds = "/api/catalog/businesses/{businessId}/calendar-feeds"
        return [
            Endpoint(
                "GET",
                feeds,
                self.list_feeds,
                "List the calendar feeds",
                {200: CalendarFeeds},
                "Put the address of the service before a `path` and subscribe to it in a calendar program. Whoever has "
                "it can read the guests' names and contact data, until the keys are rotated.",
                access=Access.OWNER,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listCalendarFeeds",
                tag="calendar",
                answer_headers={200: ("Cache-Control",)},
                examples=examples.CALENDAR_FEEDS,
            ),
            Endpoint(
                "POST",
                feeds + "/rotate",
                self.rotate,
                "Replace the keys of all calendar feeds",
                {200: CalendarFeeds},
                "The old ones stop working at once: every calendar program needs its new path.",
                access=Access.OWNER,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="rotateCalendarFeeds",
                tag="calendar",
                answer_headers={200: ("Cache-Control",)},
                examples=examples.ROTATE_CALENDAR_FEEDS,
            ),
            Endpoint(
                "GET",
                f"{_FEEDS}/{{businessId}}.ics",
                self.feed,
                "Calendar feed of a business",
                {200: None},
                _WHAT_IS_IN_IT,
                query=FeedQuery,
                refusals=("FORBIDDEN",),
                operation_id="getBusinessCalendar",
                tag="calendar",
                media_type="text/calendar",
                answer_headers={200: ("Cache-Control",)},
                examples=examples.BUSINESS_CALENDAR,
            ),
            Endpoint(
                "GET",
                f"{_FEEDS}/{{businessId}}/{{resourceId}}.ics",
                self.feed,
                "Calendar feed of a resource",
                {200: None},
                _WHAT_IS_IN_IT,
                query=FeedQuery,
                refusals=("FORBIDDEN",),
                operation_id="getResourceCalendar",
                tag="calendar",
                media_type="text/calendar",
                answer_headers={200: ("Cache-Control",)},
                examples=examples.RESOURCE_CALENDAR,
            ),
        ]

    async def list_feeds(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/calendar-feeds"""
        business_id = call.path_id("businessId")
        return _told(business_id, await self._calendars.feeds(business_id))

    async def rotate(self, call: Call) -> Response:
        """POST /api/catalog/businesses/{businessId}/calendar-feeds/rotate"""
        business_id = call.path_id("businessId")
        return _told(business_id, await self._calendars.rotate(business_id))

    async def feed(self, call: Call) -> Response:
        """GET /api/booking/calendar/{businessId}.ics, GET /api/booking/calendar/{businessId}/{resourceId}.ics"""
        business_id = call.path_id("businessId")
        resource_id = call.path_id("resourceId") if "resourceId" in call.path else None
        if call.query.key is None:
            raise forbidden()
        calendar = await self._calendars.feed(business_id, resource_id, call.query.key)
        return Response(calendar, headers=_NO_STORE, media_type="text/calendar")


def _told(business_id: str, feeds: list[CalendarFeed]) -> Response:
    items = [
        CalendarFeedPath(
            resource_id=feed.resource_id,
            path=f"{_FEEDS}/{'/'.join(filter(None, (business_id, feed.resource_id)))}.ics?key={feed.key}",
        )
        for feed in feeds
    ]
    return answer(CalendarFeeds(items=items), headers=_NO_STORE)
