"""A time zone as calendar programs read it: a VTIMEZONE (RFC 5545, section 3.6.5) with the changes of the clock."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from icalendar import Timezone, TimezoneDaylight, TimezoneStandard, vUTCOffset

# Between two changes of a clock there are weeks, even where Ramadan interrupts daylight saving time.
_STEP: Final = timedelta(days=7)
_SECONDS: Final = range(int(_STEP.total_seconds()))


class _Phase(NamedTuple):
    """The time of a zone between two changes."""

    offset: timedelta
    name: str
    is_daylight: bool


def time_zone(name: str, starts: datetime, ends: datetime) -> Timezone:
    """Builds the component of a zone, right from `starts` to `ends`; of UTC if the zone is unknown.

    `Timezone.from_tzinfo` is not used: it puts each change to daylight saving time an hour too late.
    """
    zone = _zone(name)
    component = Timezone()
    component.add("TZID", zone.key)
    onsets: dict[tuple[timedelta, _Phase], list[datetime]] = {}
    for instant, before, after in _changes(zone, starts, ends):
        # The onset of a phase is the local time before the change.
        onsets.setdefault((before.offset, after), []).append((instant + before.offset).replace(tzinfo=None))
    for (offset_before, phase), (first, *others) in onsets.items():
        observance = TimezoneDaylight() if phase.is_daylight else TimezoneStandard()
        observance.add("DTSTART", first)
        if others:
            observance.add("RDATE", others)
        observance.add("TZOFFSETFROM", vUTCOffset(offset_before))
        observance.add("TZOFFSETTO", vUTCOffset(phase.offset))
        observance.add("TZNAME", phase.name)
        component.add_component(observance)
    return component


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _changes(zone: ZoneInfo, starts: datetime, ends: datetime) -> Iterator[tuple[datetime, _Phase, _Phase]]:
    """Yields the first phase, and then each change until `ends`: its instant and the phases before and after it."""
    instant = datetime(starts.year, starts.month, starts.day, tzinfo=UTC)
    before = _phase(zone, instant)
    yield instant, before, before
    while instant <= ends:
        if _phase(zone, instant + _STEP) == before:
            instant += _STEP
            continue
        seconds = bisect_left(_SECONDS, True, key=lambda second: _differs(zone, instant, second, before))
        instant += timedelta(seconds=seconds)
        after = _phase(zone, instant)
        yield instant, before, after
        before = after


def _differs(zone: ZoneInfo, instant: datetime, seconds: int, phase: _Phase) -> bool:
    return _phase(zone, instant + timedelta(seconds=seconds)) != phase


def _phase(zone: ZoneInfo, instant: datetime) -> _Phase:
    local = instant.astimezone(zone)
    return _Phase(local.utcoffset() or timedelta(), local.tzname() or zone.key, bool(local.dst()))
