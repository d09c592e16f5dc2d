"""Listed slots of one service, without regard to room and hours, and a model of local time in Python."""

import json
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from tests.database import NO_DEADLINE, TestDatabase

# Time zones and the UTC dates on which their clocks are changed.
CHANGES = {
    "Berlin, an hour back": ("Europe/Berlin", date(2026, 10, 25)),
    "Berlin, an hour forward": ("Europe/Berlin", date(2027, 3, 28)),
    "New York, an hour back": ("America/New_York", date(2026, 11, 1)),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", date(2026, 10, 3)),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", date(2027, 4, 3)),
    "Cairo, forward at midnight": ("Africa/Cairo", date(2027, 4, 29)),
    "Cairo, back at midnight": ("Africa/Cairo", date(2026, 10, 29)),
    "Beirut, forward at midnight": ("Asia/Beirut", date(2027, 3, 27)),
    "Santiago, forward at midnight": ("America/Santiago", date(2026, 9, 6)),
    "Santiago, back at midnight": ("America/Santiago", date(2027, 4, 4)),
    "Asuncion, forward at midnight": ("America/Asuncion", date(2023, 10, 1)),
    "Apia, a date is left out": ("Pacific/Apia", date(2011, 12, 30)),
    "Casey, three hours back over midnight": ("Antarctica/Casey", date(2010, 3, 4)),
    "Kolkata, no change": ("Asia/Kolkata", date(2027, 4, 4)),
}

# The settings of a service by days, and of one by minutes, with the defaults of everything that depends on the length.
NOTHING = dict.fromkeys(
    (
        *("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes"),
        *("duration_days", "min_duration_days", "max_duration_days", "start_times", "end_time", "hours_apply"),
    )
)


def as_in_the_verbs(database: TestDatabase) -> None:
    """Sets the planner as the verbs do, so that rules which are called by themselves are as fast as there."""
    for setting in ("jit = off", "plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_sort = off"):
        database.rows(f"SET {setting}")


def set_timezone(database: TestDatabase, timezone: str) -> None:
    """Sets the time zone of the salon."""
    database.rows("UPDATE booking.businesses SET timezone = %s", timezone)


def put_service(database: TestDatabase, timezone: str | None = None, **settings: Any) -> None:
    """Puts the service "cut" with nothing but the given lengths and starts, and sets the time zone of the salon."""
    outcome = database.put_service(**{"capacity": 1, **NOTHING, **settings})
    assert outcome.name in ("created", "done"), outcome
    if timezone:
        set_timezone(database, timezone)


def put_special_hours(
    database: TestDatabase,
    day: date,
    hours: list[tuple[str, str]],
    *,
    until: date | None = None,
    owner: str = "",
    business_id: str = "salon",
) -> None:
    """Puts special hours: (opens, closes) for the dates from `day` to `until`, of a resource or of the business."""
    settings = {
        "date": day.isoformat(),
        "until": until.isoformat() if until else None,
        "hours": [{"opens": opens, "closes": closes} for opens, closes in hours],
        "resource_id": owner or None,
    }
    outcome = database.outcome("put_special_hours", business_id, f"{owner}{day}", json.dumps(settings), NO_DEADLINE)
    assert outcome.name == "created"


def listed(
    database: TestDatabase, first: datetime, last: datetime, *, days: int | None = None, minutes: int | None = None
) -> list[tuple[datetime, datetime]]:
    """Returns the listed slots of a length that start from `first` on and before `last`, in their order."""
    return database.rows(
        "SELECT slot.* FROM booking.services s JOIN booking.businesses b ON b.business_id = s.business_id "
        "CROSS JOIN LATERAL booking.listed_slots("
        "s, b.timezone, tstzmultirange(tstzrange(%s, %s)), make_interval(mins => %s), %s) AS slot "
        "WHERE s.service_id = 'cut' ORDER BY slot.slot_start",
        first,
        last,
        minutes,
        days,
    )


def refusals(database: TestDatabase, slots: list[tuple[datetime, datetime]]) -> list[str | None]:
    """Returns why the public may not book each slot of "cut", on a day long before."""
    rows = database.rows(
        "SELECT booking.slot_refusal(s, b.timezone, slot.starts, slot.ends, slot.starts - interval '200 hours') "
        "FROM booking.services s JOIN booking.businesses b ON b.business_id = s.business_id "
        "CROSS JOIN unnest(%s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY AS slot (starts, ends, place) "
        "WHERE s.service_id = 'cut' ORDER BY slot.place",
        [start for start, _ in slots],
        [end for _, end in slots],
    )
    return [refusal for (refusal,) in rows]


def default_ends(database: TestDatabase, starts: list[datetime]) -> list[datetime]:
    """Returns when slots of "cut" end that are requested without an end."""
    rows = database.rows(
        "SELECT booking.slot_end(s, b.timezone, start.at, NULL) "
        "FROM booking.services s JOIN booking.businesses b ON b.business_id = s.business_id "
        "CROSS JOIN unnest(%s::timestamptz[]) WITH ORDINALITY AS start (at, place) "
        "WHERE s.service_id = 'cut' ORDER BY start.place",
        starts,
    )
    return [end for (end,) in rows]


@dataclass(frozen=True)
class Clock:
    """The wall clock of a time zone, quarter by quarter around a date, read with Python's time zones."""

    instants: list[datetime]
    shown: list[datetime]
    # The latest time that the clock has shown so far.
    reached: list[datetime]

    def first(self, local: datetime) -> datetime:
        """Returns the first instant at which the clock shows a local time or a later one."""
        place = bisect_left(self.reached, local)
        assert 0 < place < len(self.reached)
        return self.instants[place]

    def has_date(self, day: date) -> bool:
        """Returns whether the clock shows a date at any time."""
        return any(local.date() == day for local in self.shown)


@cache
def clock_around(timezone: str, day: date) -> Clock:
    """Reads the wall clock for twelve days before and after a date."""
    midnight = datetime.combine(day, time(), UTC)
    quarters = range(-12 * 96, 12 * 96)
    instants = [midnight + n * timedelta(minutes=15) for n in quarters]
    shown = [instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) for instant in instants]
    reached: list[datetime] = []
    for local in shown:
        reached.append(max(local, reached[-1]) if reached else local)
    return Clock(instants, shown, reached)
