"""Calendar feeds: the appointments of a business, or of one of its resources, for calendar programs (RFC 5545)."""

import asyncio
import unicodedata
from collections.abc import Iterable
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from icalendar import Calendar, Event, vDuration
from pydantic import AwareDatetime

from service.booking.text import Identifier
from service.booking.tokens import CalendarKeys
from service.database.connections import Database
from service.errors import Refused
from service.naming import Record

PAST: Final = timedelta(days=31)
AHEAD: Final = timedelta(days=400)
MAX_APPOINTMENTS: Final = 5000

_REFRESH: Final = timedelta(minutes=15)
_WRONG_KEY: Final = "There is no calendar at this address, or its key is no longer valid."


class CalendarFeed(NamedTuple):
    """One feed: of a resource, or of the whole business where `resource_id` is None."""

    resource_id: str | None
    key: str


class _Source(NamedTuple):
    """The subject of a feed, and the generation of its key."""

    resource_id: str | None
    name: str
    generation: int


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

    def __init__(self, database: Database, keys: CalendarKeys) -> None:
        self._database = database
        self._keys = keys

    async def feeds(self, business_id: Identifier) -> list[CalendarFeed]:
        """Returns the feeds of a business: its own first, then one for each of its resources, by id."""
        sources = await self._sources(business_id)
        if not sources:
            raise Refused("BUSINESS_NOT_FOUND")
        return [
            CalendarFeed(resource_id, self._keys.make(business_id, resource_id, generation))
            for resource_id, _, generation in sources
        ]

    async def rotate(self, business_id: Identifier) -> list[CalendarFeed]:
        """Invalidates all keys of a business's feeds, and returns the feeds with their new ones."""
        [(outcome,)] = await self._database.change("rotate_calendar", business_id)
        if outcome != "done":
            raise Refused(outcome.upper())
        return await self.feeds(business_id)

    async def feed(self, business_id: Identifier, resource_id: Identifier | None, key: str) -> bytes:
        """Returns a feed as iCalendar. Every wrong address is refused in the same way."""
        sources = await self._sources(business_id)
        matching = [source for source in sources if source.resource_id == resource_id]
        if not matching or not self._keys.verify(key, business_id, resource_id, matching[0].generation):
            raise forbidden()
        name = sources[0].name if resource_id is None else f"{matching[0].name} \u2013 {sources[0].name}"
        rows = await self._database.fetch("calendar_feed", business_id, resource_id, PAST, AHEAD, MAX_APPOINTMENTS)
        entries = [_Entry.model_validate_json(body) for (body,) in rows]
        # In a thread: a full feed takes about a second to write.
        return await asyncio.to_thread(_written, name, business_id, entries)

    async def _sources(self, business_id: Identifier) -> list[_Source]:
        return [_Source(*row) for row in await self._database.fetch("calendars", business_id)]


def forbidden() -> Refused:
    """Builds the one refusal for every wrong address of a feed: it must not reveal which businesses exist."""
    return Refused("FORBIDDEN", _WRONG_KEY)


def _written(name: str, business_id: str, entries: Iterable[_Entry]) -> bytes:
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", "-//Holdfast//Calendar feed//EN")
    calendar.add("X-WR-CALNAME", _on_one_line(name))
    # The standard's property, and the older one that programs still read.
    calendar.add("REFRESH-INTERVAL", _REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", vDuration(_REFRESH))
    for entry in entries:
        calendar.add_component(_event(business_id, entry))
    return bytes(calendar.to_ical())


def _event(business_id: str, entry: _Entry) -> Event:
    event = Event()
    event.add("UID", f"{entry.appointment_id}@{business_id}")
    event.add("DTSTAMP", entry.updated_at)
    event.add("LAST-MODIFIED", entry.updated_at)
    event.add("SEQUENCE", entry.version - 1)
    event.add("DTSTART", entry.slot_start)
    event.add("DTEND", entry.slot_end)
    event.add("STATUS", "CONFIRMED")
    event.add("SUMMARY", _on_one_line(_summary(entry)))
    about = "\n".join(filter(None, (entry.guest_email, entry.guest_phone, entry.notes)))
    if about:
        event.add("DESCRIPTION", _on_lines(about))
    if entry.resource_name:
        event.add("LOCATION", _on_one_line(entry.resource_name))
    return event


def _summary(entry: _Entry) -> str:
    what = entry.service_name if entry.quantity == 1 else f"{entry.service_name} \u00d7 {entry.quantity}"
    return f"{what} \u2013 {entry.guest_name}" if entry.guest_name else what


def _on_one_line(text: str) -> str:
    return " ".join(_on_lines(text).split("\n"))


def _on_lines(text: str) -> str:
    """Removes control characters, which the format can't write, and turns every line break into a newline: some
    programs break lines where the standard does not, and a guest's notes must not become lines of the feed."""
    lines = ("".join(c for c in line if unicodedata.category(c) != "Cc" or c == "\t") for line in text.splitlines())
    return "\n".join(lines)
