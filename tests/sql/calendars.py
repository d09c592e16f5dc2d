"""Random calendars of a salon with all settings of services and hours, and a model of the slots that are listed."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, TestDatabase

MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)
RESOURCES = ("anna", "bea", "cleo")
SERVICES = ("alone", "pooled", "rival")

# Time zones, with days on which their clocks are changed, or not. In Santiago and Cairo that is at midnight.
DAYS = [
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Europe/Berlin", date(2027, 3, 28)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/Santiago", date(2026, 9, 6)),
    ("America/Santiago", date(2027, 4, 3)),
    ("Africa/Cairo", date(2027, 4, 30)),
    ("Africa/Cairo", date(2026, 10, 29)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2027, 4, 4)),
    ("Asia/Kolkata", date(2027, 4, 4)),
]

QUARTERS = st.integers(min_value=0, max_value=95)
TIMES = st.lists(st.sampled_from([0, 2, 32, 36, 56, 90]), min_size=1, max_size=3, unique=True)
OPENINGS = st.sampled_from([[(32, 48), (52, 72)], [(0, 96)], [(72, 96), (0, 8)], [(38, 54)], [(1, 95)]])
OWNERS = st.sampled_from([None, None, *RESOURCES])


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """Draws the settings of a service."""
    by_days = draw(st.sampled_from([False, False, True]))
    length = draw(st.sampled_from([1, 1, 2] if by_days else [30, 45, 60, 120]))
    unit = "days" if by_days else "minutes"
    return {
        "max_simultaneous_bookings": draw(st.sampled_from([None, None, 1, 2, 3])),
        "resource_sharing": draw(st.sampled_from(["exclusive", "session"])),
        "duration_minutes": None,
        "min_duration_minutes": None,
        "max_duration_minutes": None,
        f"duration_{unit}": length,
        f"min_duration_{unit}": draw(st.sampled_from([None, 1 if by_days else 15])),
        f"max_duration_{unit}": draw(st.sampled_from([None, 3 if by_days else 300])),
        "slot_step_minutes": draw(st.sampled_from([None, 720, 180, 180] if by_days else [None, 20, 30, 45])),
        "start_times": draw(st.none() | TIMES.map(lambda times: [time_of_day(quarters) for quarters in times])),
        "end_time": draw(st.sampled_from([None, "00:30:00", "11:00:00", "18:00:00"])) if by_days else None,
        "starts_on_grid": draw(st.booleans()),
        "hours_apply": draw(st.sampled_from([None, "ends"] if by_days else [None, "throughout", "ends"])),
        "buffer_before_minutes": draw(st.sampled_from([0, 0, 15, 25])),
        "buffer_after_minutes": draw(st.sampled_from([0, 0, 15, 25])),
        "min_notice_minutes": draw(st.sampled_from([0, 0, 0, 90])),
        "max_advance_days": draw(st.sampled_from([1, 30, 30, 30])),
        "booking_enabled": draw(st.sampled_from([True] * 11 + [False])),
    }


def time_of_day(quarters: int) -> str:
    """Returns a number of quarters as a time of day."""
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}:00"


def minutes_of(time_text: str) -> int:
    """Returns a time of day in minutes."""
    return int(time_text[:2]) * 60 + int(time_text[3:5])


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a claim of a listed slot, or from any quarter of the day: held, booked, or held and expired."""
    service_id = draw(st.sampled_from(SERVICES))
    return {
        "kind": draw(st.sampled_from(["held", "booked", "booked", "expired"])),
        "service_id": service_id,
        "listed": draw(st.sampled_from([None, None, 0, 1, 1, 2, 3, 5, 9, 15])),
        "from": draw(QUARTERS),
        "quarters": draw(st.integers(min_value=1, max_value=12)),
        "quantity": draw(st.sampled_from([1, 1, 2])),
        "resource_id": draw(st.sampled_from([None, None, *RESOURCES])) if service_id != "alone" else None,
    }


@dataclass(frozen=True)
class Calendar:
    """The catalog and the claims of one example. Hours are (opens, closes) in quarters of a local day."""

    timezone: str
    day: date
    services: dict[str, dict[str, Any]]
    pools: dict[str, list[str]]
    seats: tuple[int, ...]
    disabled: list[str]
    archived: list[str]
    weekly: list[tuple[int, list[tuple[int, int]], str | None]]
    special: dict[str | None, tuple[int, list[tuple[int, int]]]]
    closures: list[tuple[int, int, str | None]]
    claims: list[dict[str, Any]]
    now: int
    first: int

    @property
    def midnight(self) -> datetime:
        """Returns the first instant of the day."""
        return first_instant(self.timezone, datetime.combine(self.day, time()))

    @property
    def now_at(self) -> datetime:
        """Returns the time at which the slots are listed."""
        return self.midnight + self.now * QUARTER

    def window(self, service_id: str) -> tuple[datetime, datetime]:
        """Returns the time whose slots are compared: ten hours or, for a service by days, five days."""
        if self.services[service_id].get("duration_days"):
            return self.midnight - 2 * DAY, self.midnight + 3 * DAY
        return self.midnight + self.first * QUARTER, self.midnight + (self.first + 40) * QUARTER

    def hours_on(self, day: date) -> list[tuple[int, int]]:
        """Returns the hours of the business on a local date, in minutes."""
        if None in self.special and self.special_date(None) == day:
            entries = self.special[None][1]
        elif any(owner is None for *_, owner in self.weekly):
            entries = [
                entry
                for weekday, entries, owner in self.weekly
                for entry in entries
                if owner is None and weekday == day.isoweekday()
            ]
        else:
            entries = [(0, 96)]
        return [(opens * 15, closes * 15) for opens, closes in entries]

    def special_date(self, owner: str | None) -> date:
        """Returns the date of the special hours of an owner."""
        return self.day + self.special[owner][0] * DAY

    def local_starts(self, service_id: str, day: date) -> list[datetime]:
        """Returns the local times of a date at which slots are listed."""
        service = self.services[service_id]
        hours = self.hours_on(day)
        if service["start_times"]:
            minutes = {minutes_of(start) for start in service["start_times"]}
        elif step := service["slot_step_minutes"] or service.get("duration_minutes"):
            minutes = {minute for opens, closes in hours for minute in range(opens, closes, step)}
        else:
            minutes = {min(opens for opens, _ in hours)} if hours else set()
        return [datetime.combine(day, time()) + minute * MINUTE for minute in sorted(minutes)]

    def slots(
        self, service_id: str, window: tuple[datetime, datetime], length: int | None = None
    ) -> dict[datetime, datetime]:
        """Returns the slots of a service that start within a window, whatever room there is: start and end."""
        service = self.services[service_id]
        days = range(-3, (window[1] - window[0]) // DAY + 4)
        first_day = window[0].astimezone(ZoneInfo(self.timezone)).date()
        local_starts = [local for day in days for local in self.local_starts(service_id, first_day + day * DAY)]
        if service["start_times"] or service.get("duration_days"):
            counted: dict[datetime, datetime] = {}
            for local in local_starts:
                counted.setdefault(first_instant(self.timezone, local), local)
            starts = sorted(start for start in counted if window[0] <= start < window[1])
            if number := service.get("duration_days"):
                ends = {start: self.end_of_days(service, counted[start], length or number) for start in starts}
                return {
                    start: end for start, end in ends.items() if self.end_of_days(service, counted[start], 1) > start
                }
        else:
            shown = set(local_starts)
            minutes = (window[0] + n * MINUTE for n in range((window[1] - window[0]) // MINUTE))
            starts = [minute for minute in minutes if wall_clock(self.timezone, minute) in shown]
        return {start: start + (length or service["duration_minutes"]) * MINUTE for start in starts}

    def end_of_days(self, service: dict[str, Any], local: datetime, days: int) -> datetime:
        """Returns the end of a slot of some days from a local time on."""
        end_of_day = minutes_of(service["end_time"]) if service["end_time"] else local.hour * 60 + local.minute
        is_same_day = service["end_time"] and end_of_day > local.hour * 60 + local.minute
        last_day = local.date() + (days - 1 if is_same_day else days) * DAY
        return first_instant(self.timezone, datetime.combine(last_day, time()) + end_of_day * MINUTE)


@lru_cache(maxsize=100_000)
def wall_clock(timezone: str, instant: datetime) -> datetime:
    """Returns the local time of an instant, without its zone."""
    return instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)


@lru_cache(maxsize=100_000)
def first_instant(timezone: str, local: datetime) -> datetime:
    """Returns the first minute at which the wall clock shows a local time or later."""
    begin = local.replace(tzinfo=UTC) - timedelta(hours=15)
    candidates = (begin + n * MINUTE for n in range(30 * 60))
    before = takewhile(lambda instant: wall_clock(timezone, instant) < local, candidates)
    return begin + sum(1 for _ in before) * MINUTE


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """Draws a small catalog, with claims and closures on one day."""
    timezone, day = draw(st.sampled_from(DAYS))
    weekdays = [(day + n * DAY).isoweekday() for n in (-1, 0, 0, 1)]
    weekly = st.tuples(st.sampled_from(weekdays), OPENINGS, OWNERS)
    closure = st.tuples(QUARTERS, st.integers(min_value=1, max_value=16), OWNERS)
    pools = st.sampled_from([["anna"], ["anna", "bea"], ["bea", "cleo"], [*RESOURCES]])
    resource = st.sampled_from([[], [], [], [], ["anna"], ["bea"], ["cleo"]])
    special = st.tuples(st.sampled_from([-1, 0, 0, 1]), st.just([]) | OPENINGS)
    return Calendar(
        timezone,
        day,
        {service_id: draw(services()) for service_id in SERVICES},
        {"alone": [], **{service_id: draw(pools) for service_id in SERVICES[1:]}},
        draw(st.sampled_from([(1, 1, 1), (1, 2, 3), (3, 1, 2), (2, 3, 1)])),
        draw(resource),
        draw(resource),
        draw(st.just([]) | st.lists(weekly, min_size=1, max_size=4)),
        draw(st.just({}) | st.dictionaries(OWNERS, special, min_size=1, max_size=2)),
        draw(st.just([]) | st.lists(closure, min_size=1, max_size=2)),
        draw(st.lists(claims(), min_size=3, max_size=10)),
        draw(st.sampled_from([-60, -60, -4, 10, 30])),
        draw(st.integers(min_value=-12, max_value=60)),
    )


def prepare(database: TestDatabase, calendar: Calendar) -> None:
    """Replaces the catalog and the claims of the previous example."""
    database.forget_claims()
    for table in ("closures", "opening_hours", "special_hours"):
        database.rows(f"DELETE FROM booking.{table}")  # noqa: S608
    database.rows("UPDATE booking.resources SET archived_at = NULL, longest_occupied_seconds = 0")
    for resource_id, seats in zip(RESOURCES, calendar.seats, strict=True):
        database.make_resource(resource_id, seats=seats)
    database.rows("UPDATE booking.businesses SET timezone = %s", calendar.timezone)
    for service_id, service in calendar.services.items():
        # A service is put so that claims can be made: what would refuse them follows below.
        seats = sum(dict(zip(RESOURCES, calendar.seats, strict=True))[name] for name in calendar.pools[service_id])
        capacity = service["max_simultaneous_bookings"]
        settings = {
            "resource_ids": calendar.pools[service_id],
            "booking_enabled": True,
            "starts_on_grid": False,
            "max_simultaneous_bookings": capacity and min(capacity, seats or capacity),
        }
        assert database.put_service(service_id, **{**service, **settings}).name in ("created", "done")
    database.rows("UPDATE booking.services SET longest_occupied_seconds = 0")
    make_claims(database, calendar)
    put_hours(database, calendar)
    for service_id, service in calendar.services.items():
        database.rows(
            "UPDATE booking.services SET booking_enabled = %s, starts_on_grid = %s WHERE service_id = %s",
            service["booking_enabled"],
            service["starts_on_grid"],
            service_id,
        )
    database.rows(
        "UPDATE booking.resources SET booking_enabled = NOT resource_id = ANY (%s), "
        "archived_at = CASE WHEN resource_id = ANY (%s) THEN booking.now() END",
        calendar.disabled,
        calendar.archived,
    )


def put_hours(database: TestDatabase, calendar: Calendar) -> None:
    """Puts the drawn hours, special hours and closures."""

    def items(entries: list[tuple[int, int]]) -> list[dict[str, str]]:
        return [{"opens": time_of_day(opens), "closes": time_of_day(closes)} for opens, closes in entries]

    database.put_hours(
        [
            {"weekday": weekday, "resource_id": owner, **entry}
            for weekday, entries, owner in calendar.weekly
            for entry in items(entries)
        ]
    )
    for owner, (_, entries) in calendar.special.items():
        special = {"date": calendar.special_date(owner).isoformat(), "hours": items(entries), "resource_id": owner}
        assert (
            database.outcome("put_special_hours", "salon", f"s-{owner}", Jsonb(special), NO_DEADLINE).name == "created"
        )
    for number, (start, length, owner) in enumerate(calendar.closures):
        closed_at = calendar.midnight + start * QUARTER
        database.put_closure(f"c{number}", closed_at, closed_at + length * QUARTER, owner)


def make_claims(database: TestDatabase, calendar: Calendar) -> None:
    """Makes the drawn claims, as far as they are granted, and sets the clock to the time of the example."""
    # The clock is before all slots when the claims are made, so that past slots can be held too.
    database.freeze_clock(min(calendar.now_at, calendar.midnight) - timedelta(hours=12))
    for verb, kinds in (("reserve", ("held", "expired")), ("book", ("booked",))):
        requests = [request_of(calendar, drawn) for drawn in calendar.claims if drawn["kind"] in kinds]
        if requests:
            database.call(verb, requests)
    now = database.freeze_clock(calendar.now_at)
    database.rows(
        "UPDATE booking.reservations SET expires_at = %s + CASE WHEN ttl_clamped THEN interval '1 hour' ELSE '0' END",
        now,
    )
    database.recount()


def request_of(calendar: Calendar, drawn: dict[str, Any]) -> dict[str, Any]:
    """Returns a drawn claim as a request. A hold that must not expire asks for a longer time than the maximum."""
    start = calendar.midnight + drawn["from"] * QUARTER
    end = start + drawn["quarters"] * QUARTER
    slots = calendar.slots(drawn["service_id"], calendar.window(drawn["service_id"]))
    if drawn["listed"] is not None and slots:
        start, end = list(slots.items())[drawn["listed"] % len(slots)]
    return {
        "operation_id": str(uuid4()),
        "service_id": drawn["service_id"],
        "slot_start": start.isoformat(),
        "slot_end": end.isoformat(),
        "quantity": drawn["quantity"],
        "resource_id": drawn["resource_id"],
        "ttl_minutes": 1000 if drawn["kind"] == "held" else 1,
        "manual": True,
        "guest_name": "Ada",
        "metadata": {},
        "source": "manual",
        "actor_kind": "staff",
    }
