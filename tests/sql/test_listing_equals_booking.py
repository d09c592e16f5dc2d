"""Listings agree with booking on random calendars: a slot is listed exactly if it can be booked."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.database import TestDatabase
from tests.sql.listings import availability

QUARTER = timedelta(minutes=15)
RESOURCES = ("anna", "bea", "cleo")
SERVICES = ("alone", "pooled", "rival")

# Counts how many claims of one unit reserve grants on a slot, one after the other, and rolls all of them back.
COUNT_GRANTED = """
CREATE FUNCTION testing.count_granted(p_request jsonb) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_granted integer := 0;
BEGIN
  WHILE v_granted < 9 AND (
    SELECT outcome = 'done' FROM booking.execute(ARRAY['salon'], ARRAY[jsonb_build_object('reserve', jsonb_build_array(
      p_request || jsonb_build_object('operation_id', gen_random_uuid())))], 'infinity')) LOOP
    v_granted := v_granted + 1;
  END LOOP;
  RAISE EXCEPTION USING ERRCODE = 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
  RETURN v_granted;
END
$$
"""

# Time zones, with days on which their clocks are changed, or not.
DAYS = [
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Europe/Berlin", date(2027, 3, 28)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/New_York", date(2027, 3, 14)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2027, 4, 4)),
    ("Asia/Kolkata", date(2027, 4, 4)),
]

QUARTERS = st.integers(min_value=0, max_value=95)
MINUTES = st.sampled_from([0, 0, 15, 25])
POOLS = st.lists(st.sampled_from(RESOURCES), min_size=1, unique=True)


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """Draws the settings of a service."""
    return {
        "capacity": draw(st.integers(min_value=1, max_value=3)),
        "duration_minutes": draw(st.sampled_from([30, 45, 60, 120])),
        "max_duration_minutes": 300,
        "slot_step_minutes": draw(st.sampled_from([20, 30, 45, 60])),
        "buffer_before_minutes": draw(MINUTES),
        "buffer_after_minutes": draw(MINUTES),
        "min_notice_minutes": draw(st.sampled_from([0, 0, 0, 90])),
        "max_advance_days": draw(st.sampled_from([1, 30, 30, 30])),
        "booking_enabled": draw(st.sampled_from([True] * 7 + [False])),
    }


@st.composite
def opening_hours(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draws opening hours around the day of the example, in whole quarters, of the business or of a resource."""
    entries = []
    for resource_id in draw(st.lists(st.sampled_from([None, None, *RESOURCES]), max_size=3)):
        opens, closes = sorted(draw(st.tuples(QUARTERS, QUARTERS)))
        wide = draw(st.booleans())
        entries.append(
            {
                "weekday": draw(st.sampled_from([6, 7, 7, 7])),
                "opens": time_of_day(0 if wide else opens),
                "closes": time_of_day(96 if wide else closes + 1),
                "resource_id": resource_id,
            }
        )
    return entries


def time_of_day(quarters: int) -> str:
    """Returns a number of quarters as a time of day."""
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}"


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a claim from any quarter of the day: held, booked, or held and expired."""
    service_id = draw(st.sampled_from(SERVICES))
    resource_id = draw(st.sampled_from([None, *RESOURCES])) if service_id != "alone" else None
    return {
        "kind": draw(st.sampled_from(["held", "booked", "booked", "expired"])),
        "service_id": service_id,
        "from": draw(QUARTERS),
        "quarters": draw(st.integers(min_value=1, max_value=12)),
        "quantity": draw(st.sampled_from([1, 1, 2])) if service_id == "alone" else 1,
        "resource_id": resource_id,
    }


@dataclass(frozen=True)
class Calendar:
    """The catalog and the claims of one example."""

    timezone: str
    day: date
    services: tuple[dict[str, Any], ...]
    pools: tuple[list[str], list[str]]
    disabled: list[str]
    archived: list[str]
    hours: list[dict[str, Any]]
    closures: list[tuple[int, int, str | None]]
    claims: list[dict[str, Any]]
    now: int
    first: int

    @property
    def midnight(self) -> datetime:
        """Returns the first instant of the day."""
        return datetime.combine(self.day, time(), ZoneInfo(self.timezone)).astimezone(UTC)

    def starts(self, step_minutes: int, window: tuple[datetime, datetime]) -> list[datetime]:
        """Returns the starts of slots: multiples of the step since midnight, by local time."""
        minutes = int((window[1] - window[0]) / timedelta(minutes=1))
        instants = (window[0] + timedelta(minutes=n) for n in range(minutes))
        local_times = {instant: instant.astimezone(ZoneInfo(self.timezone)) for instant in instants}
        return [
            instant for instant, local in local_times.items() if (local.hour * 60 + local.minute) % step_minutes == 0
        ]


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """Draws a small catalog, with claims and closures on one day."""
    timezone, day = draw(st.sampled_from(DAYS))
    one_resource = st.lists(st.sampled_from(RESOURCES), max_size=1)
    closure = st.tuples(QUARTERS, st.integers(min_value=1, max_value=16), st.sampled_from([None, *RESOURCES]))
    return Calendar(
        timezone,
        day,
        tuple(draw(services()) for _ in SERVICES),
        (draw(POOLS), draw(POOLS)),
        draw(st.just([]) | one_resource),
        draw(st.just([]) | one_resource),
        draw(opening_hours()),
        draw(st.lists(closure, max_size=2)),
        draw(st.lists(claims(), max_size=10)),
        draw(st.sampled_from([-60, -4, 10, 30])),
        draw(st.integers(min_value=-12, max_value=60)),
    )


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business with three resources."""
    database.make_business()
    for resource_id in RESOURCES:
        database.make_resource(resource_id)
    database.rows(COUNT_GRANTED)
    return database


@settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(calendar=calendars())
def test_a_slot_is_listed_exactly_if_reserve_grants_it(salon: TestDatabase, calendar: Calendar) -> None:
    """The listing has as many units as reserve grants one after the other, and the resources granted by name."""
    prepare(salon, calendar)
    window = (calendar.midnight + calendar.first * QUARTER, calendar.midnight + (calendar.first + 40) * QUARTER)
    for service_id, service in zip(SERVICES, calendar.services, strict=True):
        pool = sorted(dict(zip(SERVICES[1:], calendar.pools, strict=True)).get(service_id, []))
        starts = calendar.starts(service["slot_step_minutes"], window)
        units = count_granted(salon, service_id, starts)
        units_by_resource = {resource_id: count_granted(salon, service_id, starts, resource_id) for resource_id in pool}
        length = timedelta(minutes=service["duration_minutes"])
        expected = [
            (start, start + length, units[start], [name for name in pool if units_by_resource[name][start]])
            for start in starts
            if units[start]
        ]
        assert listed_slots(salon, service_id, window) == expected
        event(f"{service_id}: {'some' if 0 < len(expected) < len(starts) else 'all' if expected else 'none'}")
        if not pool:
            assert listed_slots(salon, service_id, window, quantity=2) == [slot for slot in expected if slot[2] > 1]
        for resource_id in set(pool) - set(calendar.archived):
            assert listed_slots(salon, service_id, window, resource_id=resource_id) == [
                (start, end, 1, [resource_id]) for start, end, _, names in expected if resource_id in names
            ]


def prepare(database: TestDatabase, calendar: Calendar) -> None:
    """Replaces the catalog and the claims of the previous example."""
    database.forget_claims()
    for table in ("closures", "opening_hours"):
        database.rows(f"DELETE FROM booking.{table}")  # noqa: S608
    database.rows("UPDATE booking.businesses SET timezone = %s", calendar.timezone)
    database.rows(
        "UPDATE booking.resources SET booking_enabled = true, archived_at = NULL, longest_occupied_seconds = 0"
    )
    for service_id, service in zip(SERVICES, calendar.services, strict=True):
        # A service is put with booking enabled, so that claims can be made; the drawn setting follows below.
        pool = dict(zip(SERVICES[1:], calendar.pools, strict=True)).get(service_id, [])
        outcome = database.put_service(service_id, **{**service, "booking_enabled": True, "resource_ids": pool})
        assert outcome.name in ("created", "done")
    database.rows("UPDATE booking.services SET longest_occupied_seconds = 0")
    claim(database, calendar)
    database.put_hours(calendar.hours)
    for number, (start, length, resource_id) in enumerate(calendar.closures):
        closed_at = calendar.midnight + start * QUARTER
        database.put_closure(f"c{number}", closed_at, closed_at + length * QUARTER, resource_id)
    for service_id, service in zip(SERVICES, calendar.services, strict=True):
        database.rows(
            "UPDATE booking.services SET booking_enabled = %s WHERE service_id = %s",
            service["booking_enabled"],
            service_id,
        )
    database.rows(
        "UPDATE booking.resources SET booking_enabled = NOT resource_id = ANY (%s), "
        "archived_at = CASE WHEN resource_id = ANY (%s) THEN booking.now() END",
        calendar.disabled,
        calendar.archived,
    )


def claim(database: TestDatabase, calendar: Calendar) -> None:
    """Makes the drawn claims, as far as they are granted, and sets the clock to the time of the example."""
    now = calendar.midnight + calendar.now * QUARTER
    # The clock is before all slots when the claims are made, so that past slots can be held too.
    database.freeze_clock(min(now, calendar.midnight) - timedelta(hours=12))
    for verb, kinds in (("reserve", ("held", "expired")), ("book", ("booked",))):
        requests = [request_of(calendar, drawn) for drawn in calendar.claims if drawn["kind"] in kinds]
        if requests:
            database.call(verb, requests)
    database.freeze_clock(now)
    database.rows(
        "UPDATE booking.reservations SET expires_at = %s + CASE WHEN ttl_clamped THEN interval '1 hour' ELSE '0' END",
        now,
    )
    database.recount()


def request_of(calendar: Calendar, drawn: dict[str, Any]) -> dict[str, Any]:
    """Returns a drawn claim as a request. A hold that must not expire asks for a longer time than the maximum."""
    start = calendar.midnight + drawn["from"] * QUARTER
    return {
        "operation_id": str(uuid4()),
        "service_id": drawn["service_id"],
        "slot_start": start.isoformat(),
        "slot_end": (start + drawn["quarters"] * QUARTER).isoformat(),
        "quantity": drawn["quantity"],
        "resource_id": drawn["resource_id"],
        "ttl_minutes": 1000 if drawn["kind"] == "held" else 1,
        "manual": True,
        "guest_name": "Ada",
        "metadata": {},
        "source": "manual",
        "actor_kind": "staff",
    }


def count_granted(
    database: TestDatabase, service_id: str, starts: list[datetime], resource_id: str | None = None
) -> dict[datetime, int]:
    """Counts the claims that reserve grants on each slot of the service's duration."""
    request = json.dumps({"service_id": service_id, "quantity": 1, "resource_id": resource_id})
    return dict(
        database.rows(
            "SELECT start, testing.count_granted(%s::jsonb || jsonb_build_object('slot_start', start)) "
            "FROM unnest(%s::timestamptz[]) AS start",
            request,
            starts,
        )
    )


def listed_slots(
    database: TestDatabase,
    service_id: str,
    window: tuple[datetime, datetime],
    quantity: int = 1,
    resource_id: str | None = None,
) -> list[tuple[datetime, datetime, int, list[str]]]:
    """Returns the listing as (start, end, available, resource ids)."""
    outcome = availability(database, *window, service_id=service_id, quantity=quantity, resource_id=resource_id)
    assert outcome.name == "done"
    return [
        (
            datetime.fromisoformat(slot["slot_start"]),
            datetime.fromisoformat(slot["slot_end"]),
            slot["available"],
            slot["resource_ids"],
        )
        for slot in outcome.body["slots"]
    ]
