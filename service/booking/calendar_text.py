"""The text of calendar feeds: iCalendar (RFC 5545)."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from icalendar import Calendar, Event, vDuration, vText
from pydantic import AwareDatetime

from service.booking.calendar_zone import time_zone
from service.naming import Record

_REFRESH: Final = timedelta(minutes=15)


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


def empty_calendar(name: str, timezone: str, starts: datetime, ends: datetime) -> bytes:
    """Writes a calendar with its properties and its time zone, which is right from `starts` to `ends`."""
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", "-//Holdfast//Calendar feed//EN")
    calendar.add("X-WR-CALNAME", _on_one_line(name))
    # The standard's property, and the older one that programs still read.
    calendar.add("REFRESH-INTERVAL", _REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", vDuration(_REFRESH))
    calendar.add_component(time_zone(timezone, starts, ends))
    return bytes(calendar.to_ical())


def events(business_id: str, bodies: Iterable[bytes], busy: bool) -> bytes:
    """Writes the appointments that the database returned; with `busy`, only when they are."""
    entries = map(_Entry.model_validate_json, bodies)
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
