"""Calendar feeds: the appointments of a business, or of one of its resources, for calendar programs (RFC 5545)."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from service.booking.text import Identifier
from service.booking.tokens import CalendarKeys
from service.booking.verbs import body_of
from service.database.connections import Database, Reader
from service.errors import Refused

# Rows that are read at once: a feed of any length needs the memory of one page.
PAGE_ROWS: Final = 500

_END: Final = b"END:VCALENDAR\r\n"
_WRONG_KEY: Final = "There is no calendar at this address, or its key is no longer valid."


class _Source(NamedTuple):
    """The subject of a feed, a resource or (None) the whole business, and the generation of its key."""

    resource_id: str | None
    name: str
    generation: str


class Calendars:
    """The feeds of businesses. Each method raises `Refused` and `Unavailable`."""

    def __init__(self, database: Database, reads: Reader, keys: CalendarKeys) -> None:
        self._database = database
        self._reads = reads
        self._keys = keys

    async def keys(self, business_id: Identifier) -> dict[str | None, str]:
        """Returns the keys of a business's feeds: of its own first, as None, then of each of its resources, by id."""
        sources = await self._sources(business_id)
        if not sources:
            raise Refused("BUSINESS_NOT_FOUND")
        return {
            resource_id: self._keys.make(business_id, resource_id, generation) for resource_id, _, generation in sources
        }

    async def rotate(self, business_id: Identifier) -> dict[str | None, str]:
        """Invalidates all keys of a business's feeds, and returns the new ones."""
        [row] = await self._database.change("rotate_calendar", business_id)
        body_of(*row)
        return await self.keys(business_id)

    async def feed(
        self, business_id: Identifier, resource_id: Identifier | None, key: str, *, busy: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yields a feed as iCalendar, in parts; with `busy` it shows only when there is an appointment.

        Every wrong address is refused in the same way. Each page sees what was committed before it: an appointment that
        moves while a feed is read can be missing or doubled until the next read.
        """
        sources = await self._sources(business_id)
        matching = [source for source in sources if source.resource_id == resource_id]
        if not matching or not self._keys.verify(key, business_id, resource_id, matching[0].generation):
            raise forbidden()
        name = sources[0].name if resource_id is None else f"{matching[0].name} \u2013 {sources[0].name}"
        span = await self._reads.fetch("feed_span", business_id)
        if not span:
            raise forbidden()
        [(timezone, since, starts, ends)] = span
        part = await asyncio.to_thread(_head, name, timezone, starts, ends)
        place: tuple[datetime | None, UUID | None] = (None, None)
        while True:
            rows = await self._reads.fetch("calendar_feed", business_id, resource_id, since, *place, PAGE_ROWS)
            bodies = [body for _, _, body in rows if body is not None]
            # In a thread: a page takes about a tenth of a second to write.
            yield part + await asyncio.to_thread(_events, business_id, bodies, busy)
            if len(rows) < PAGE_ROWS:
                break
            part, place = b"", rows[-1][:2]
        yield _END

    async def _sources(self, business_id: Identifier) -> list[_Source]:
        return [_Source(*row) for row in await self._database.fetch("calendars", business_id)]


def forbidden() -> Refused:
    """Builds the one refusal for every wrong address of a feed: it must not reveal which businesses exist."""
    return Refused("FORBIDDEN", _WRONG_KEY)


# The text of feeds is written in threads. They also import its module: with the library that takes a tenth of a start,
# and few workers are asked for a feed.


def _head(name: str, timezone: str, starts: datetime, ends: datetime) -> bytes:
    """Writes a calendar up to its first event."""
    from service.booking.calendar_text import empty_calendar

    return empty_calendar(name, timezone, starts, ends).removesuffix(_END)


def _events(business_id: str, bodies: list[bytes], busy: bool) -> bytes:
    from service.booking.calendar_text import events

    return events(business_id, bodies, busy)
