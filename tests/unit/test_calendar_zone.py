"""The VTIMEZONE of calendar feeds, read by the parsers of icalendar and dateutil and compared with zoneinfo."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from dateutil.tz import tzical  # type: ignore[import-untyped]
from icalendar import Timezone

from service.booking.calendar_zone import time_zone

STARTS, ENDS = datetime(2024, 2, 20, 7, tzinfo=UTC), datetime(2028, 2, 20, tzinfo=UTC)
# Without changes, in both hemispheres, with changes at midnight, by half an hour, in Ramadan, with negative daylight
# saving time, and with rules that changed: of Kazakhstan, Mexico, Egypt and Paraguay.
ZONES = (
    *("UTC", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "Australia/Sydney"),
    *("America/Santiago", "Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe", "Africa/Casablanca", "Europe/Dublin"),
    *("Asia/Almaty", "America/Mexico_City", "America/Asuncion", "Pacific/Chatham", "Pacific/Kiritimati"),
)


def misread(name: str, starts: datetime, ends: datetime) -> list[datetime]:
    """Returns the instants, every hour and a second before it, at which the component has another offset than zoneinfo.

    The component is read from its text, by the rule of RFC 5545: the offset is that of the last onset.
    """
    component = Timezone.from_ical(time_zone(name, starts, ends).to_ical())
    assert isinstance(component, Timezone)
    onsets, phases = component.get_transitions()
    hours = [starts + timedelta(hours=hour) for hour in range(int((ends - starts) / timedelta(hours=1)))]
    instants = [starts, *(instant for hour in hours[1:] for instant in (hour - timedelta(seconds=1), hour)), ends]
    return [
        instant
        for instant in instants
        if phases[bisect_right(onsets, instant.replace(tzinfo=None)) - 1][0]
        != instant.astimezone(ZoneInfo(name)).utcoffset()
    ]


@pytest.mark.parametrize("name", ZONES)
def test_a_component_is_right_for_the_time_it_covers(name: str) -> None:
    """Every hour of four years has the offset of the zone, and so has the second before it."""
    assert misread(name, STARTS, ENDS) == []


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Africa/Casablanca"])
def test_another_parser_reads_the_same_local_times(name: str) -> None:
    """dateutil knows no zone by its name: it reads the component."""
    text = time_zone(name, STARTS, ENDS).to_ical().decode()
    read = tzical(StringIO(f"BEGIN:VCALENDAR\r\n{text}END:VCALENDAR\r\n")).get()
    for day in range((ENDS - STARTS).days):
        local = STARTS.replace(tzinfo=None) + timedelta(days=day)
        assert local.replace(tzinfo=read).utcoffset() == local.replace(tzinfo=ZoneInfo(name)).utcoffset(), local


@pytest.mark.parametrize(
    ("name", "onsets"),
    [
        # At 02:00 of the local time before the change, and at 03:00 of summer time.
        ("Europe/Berlin", ["20270101T010000", "20270328T020000", "20271031T030000"]),
        ("America/Santiago", ["20261231T210000", "20270404T000000", "20270905T000000"]),
        ("Asia/Tokyo", ["20270101T090000"]),
    ],
)
def test_a_change_begins_at_the_local_time_before_it(name: str, onsets: list[str]) -> None:
    """RFC 5545: DTSTART of an observance is a time of TZOFFSETFROM."""
    component = time_zone(name, datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 12, 31, tzinfo=UTC))
    assert [f"{observance.DTSTART:%Y%m%dT%H%M%S}" for observance in component.subcomponents] == onsets


@pytest.mark.parametrize(
    ("name", "change"),
    [("Asia/Almaty", datetime(2024, 2, 29, 19, tzinfo=UTC)), ("Europe/Berlin", datetime(2027, 3, 28, 1, tzinfo=UTC))],
)
@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_change_at_the_edge_is_covered(name: str, change: datetime, seconds: int) -> None:
    """A feed that begins or ends at the change of a clock has the offset of either side."""
    edge = change + timedelta(seconds=seconds)
    assert misread(name, edge, edge + timedelta(days=1)) == []
    assert misread(name, edge - timedelta(days=1), edge) == []


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "", "/etc/localtime", "x" * 300])
def test_an_unknown_zone_is_utc(name: str) -> None:
    """Every event has instants in UTC, so a feed is right without the zone."""
    component = time_zone(name, STARTS, ENDS)
    assert component["TZID"] == "UTC"
    [observance] = component.subcomponents
    assert (observance.name, observance.TZOFFSETTO) == ("STANDARD", timedelta())


def test_a_thousand_years_are_written() -> None:
    """The last year of slots bounds a component: two changes a year."""
    last = datetime(3000, 12, 31, tzinfo=UTC)
    assert len(time_zone("Europe/Berlin", STARTS, last).to_ical()) < 50_000
    assert misread("Europe/Berlin", last - timedelta(days=400), last) == []
