"""Calendar feeds: the appointments of a business, or of one of its resources, for calendar programs (RFC 5545)."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from icalendar import Calendar, Event, Timezone, vDuration, vText
from pydantic import AwareDatetime

from service.booking.calendar_zone import time_zone
from service.booking.text import Identifier
from service.booking.tokens import CalendarKeys
from service.booking.verbs import body_of
from service.database.connections import Database, Reader
from service.errors import Refused
from service.naming import Record

# Rows that are read at once: a feed of any length needs the memory of one page.
PAGE_ROWS: Final = 500

_END: Final = b"END:VCALENDAR\r\n"
_REFRESH: Final = timedelta(minutes=15)
_WRONG_KEY: Final = "There is no calendar at this address, or its key is no longer valid."


class _Source(NamedTuple):
    """The subject of a feed, a resource or (None) the whole business, and the generation of its key."""

    resource_id: str | None
    name: str
    generation: str


class _Entry(Record):
    """An appointment, as a feed shows it."""

    appointment_id: UUID
    slot_start: AwareDatetime
    slot_end: AwareDatetime
    quantity: int
    version: int
    guest_name: str | None
    guest_email: str | None
    guest_phone: str | None
    notes: str | None
    service_name: str
    resource_name: str | None
    updated_at: AwareDatetime


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
    ) -> AsyncIterator[bytes]:
        """Returns a feed as iCalendar, in parts; with `busy` it shows only when there is an appointment.

        The first page is read before the answer begins, so that an outage is answered as such. Every wrong address is
        refused in the same way. Each page sees what was committed before it: an appointment that moves while a feed is
        read can be missing or doubled until the next read.
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
        pages = self._pages(business_id, resource_id, since, busy)
        return _parts(_head(name, time_zone(timezone, starts, ends)) + await anext(pages), pages)

    async def _pages(
        self, business_id: str, resource_id: str | None, since: datetime, busy: bool
    ) -> AsyncIterator[bytes]:
        place: tuple[datetime | None, UUID | None] = (None, None)
        while True:
            rows = await self._reads.fetch("calendar_feed", business_id, resource_id, since, *place, PAGE_ROWS)
            entries = [_Entry.model_validate_json(body) for _, _, body in rows if body is not None]
            # In a thread: a page takes about a tenth of a second to write.
            yield await asyncio.to_thread(_events, business_id, entries, busy)
            if len(rows) < PAGE_ROWS:
                return
            place = rows[-1][:2]

    async def _sources(self, business_id: Identifier) -> list[_Source]:
        return [_Source(*row) for row in await self._database.fetch("calendars", business_id)]


def forbidden() -> Refused:
    """Builds the one refusal for every wrong address of a feed: it must not reveal which businesses exist."""
    return Refused("FORBIDDEN", _WRONG_KEY)


async def _parts(first: bytes, pages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for page in pages:
        yield page
    yield _END


def _head(name: str, zone: Timezone) -> bytes:
    """Writes the properties of a calendar and its time zone, without the end of the calendar."""
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", "-//Holdfast//Calendar feed//EN")
    calendar.add("X-WR-CALNAME", _on_one_line(name))
    # The standard's property, and the older one that programs still read.
    calendar.add("REFRESH-INTERVAL", _REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", vDuration(_REFRESH))
    calendar.add_component(zone)
    return bytes(calendar.to_ical()).removesuffix(_END)


def _events(business_id: str, entries: Iterable[_Entry], busy: bool) -> bytes:
    return b"".join(_event(business_id, entry, busy).to_ical() for entry in entries)


def _event(business_id: str, entry: _Entry, busy: bool) -> Event:
    event = Event()
    event.add("UID", f"{entry.appointment_id}@{business_id}")
    event.add("DTSTAMP", entry.updated_at)
    event.add("LAST-MODIFIED", entry.updated_at)
    event.add("SEQUENCE", entry.version - 1)
    event.add("DTSTART", entry.slot_start)
    event.add("DTEND", entry.slot_end)
    event.add("STATUS", "CONFIRMED")
    if busy:
        event.add("SUMMARY", "busy")
        return event
    event.add("SUMMARY", _on_one_line(_summary(entry)))
    about = "\n".join(filter(None, (entry.guest_email, entry.guest_phone, entry.notes)))
    if about:
        event.add("DESCRIPTION", _on_lines(about))
    if entry.resource_name:
        event.add("LOCATION", _on_one_line(entry.resource_name))
    return event


def _summary(entry: _Entry) -> str:
    claimed = entry.service_name if entry.quantity == 1 else f"{entry.service_name} \u00d7 {entry.quantity}"
    return f"{claimed} \u2013 {entry.guest_name}" if entry.guest_name else claimed


class _Text(vText):
    """A text as the standard escapes it (section 3.3.11): the library takes `\\N` for a line break."""

    def to_ical(self) -> bytes:
        return re.sub(r"[\\;,]", r"\\\g<0>", self).replace("\n", "\\n").encode()


def _on_one_line(text: str) -> _Text:
    return _Text(" ".join(_on_lines(text).split("\n")))


def _on_lines(text: str) -> _Text:
    """Removes control characters, which the format can't write, and turns every line break into a newline: some
    programs break lines where the standard does not, and a guest's notes must not become lines of the feed."""
    lines = ("".join(c for c in line if unicodedata.category(c) != "Cc" or c == "\t") for line in text.splitlines())
    return _Text("\n".join(lines))
