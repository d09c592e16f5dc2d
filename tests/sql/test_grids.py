"""Where listed slots start: steps from each opening, start times, and requests that have to keep to them."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.local_slots import (
    CHANGES,
    as_in_the_verbs,
    clock_around,
    listed,
    put_service,
    put_special_hours,
    refusals,
    set_timezone,
)
from tests.sql.measuring import reads_of
from tests.sql.random_examples import random_examples
from tests.sql.windows import hour_of

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business in UTC."""
    as_in_the_verbs(database)
    database.make_business()
    set_timezone(database, "UTC")
    return database


def starts(database: TestDatabase, first: float = 0, last: float = 24, **length: int) -> list[float]:
    """Returns when listed slots of "cut" start, in hours of the Monday of the tests."""
    return [hour_of(start) for start, _ in listed(database, at(first), at(last), **(length or {"minutes": 60}))]


def test_steps_count_from_midnight_where_there_are_no_hours(salon: TestDatabase) -> None:
    """The step is the duration if it is not given; one of more than a day leaves midnight only."""
    put_service(salon, duration_minutes=90)
    assert starts(salon, 1, 8) == [1.5, 3, 4.5, 6, 7.5]
    put_service(salon, duration_minutes=90, slot_step_minutes=7 * 60)
    assert starts(salon, 0, 48) == [0, 7, 14, 21, 24, 31, 38, 45]
    put_service(salon, duration_minutes=90, slot_step_minutes=2000)
    assert starts(salon, 0, 72) == [0, 24, 48]


def test_steps_count_anew_from_each_opening(salon: TestDatabase) -> None:
    """After a lunch break the grid begins again, whatever the morning's. Hours of resources do not shift it."""
    salon.make_resource("chair")
    put_service(salon, "UTC", duration_minutes=60, slot_step_minutes=50)
    salon.put_hours(
        [
            (1, "13:10", "15:00"),
            (1, "08:30", "12:00"),
            {"weekday": 1, "opens": "09:07", "closes": "18:00", "resource_id": "chair"},
        ]
    )
    morning = [8.5 + n * 50 / 60 for n in range(5)]
    afternoon = [13 + 10 / 60 + n * 50 / 60 for n in range(3)]
    assert starts(salon) == pytest.approx(morning + afternoon)
    # A short time within the grid has the same starts.
    assert starts(salon, 9, 10.2) == pytest.approx([8.5 + 50 / 60, 8.5 + 100 / 60])
    assert starts(salon, 24, 48) == []


def test_steps_count_from_special_hours_too(salon: TestDatabase) -> None:
    """On dates with special hours the weekly ones have no starts; the hours after midnight have a grid of their own."""
    put_service(salon, duration_minutes=60)
    salon.put_hours([(1, "09:00", "12:00"), (2, "00:30", "02:00"), (2, "09:00", "11:00")])
    put_special_hours(salon, at(0).date(), [("22:15", "24:00")])
    put_special_hours(salon, at(0, day=7).date(), [])
    assert starts(salon, 0, 48) == [22.25, 23.25, 24.5, 25.5, 33, 34]
    assert starts(salon, 7 * 24, 9 * 24) == [24 * 8 + hour for hour in (0.5, 1.5, 9, 10)]


def test_start_times_replace_the_steps(salon: TestDatabase) -> None:
    """They are listed on every date and whatever the hours; hours are checked like those of any other slot."""
    put_service(salon, duration_minutes=60, slot_step_minutes=5, start_times=["17:30", "09:00"])
    salon.put_hours([(1, "08:50", "12:00")])
    assert starts(salon, 0, 48) == [9, 17.5, 33, 41.5]
    put_service(salon, duration_days=1, slot_step_minutes=5, start_times=["17:30", "09:00"])
    assert starts(salon, 0, 48, days=1) == [9, 17.5, 33, 41.5]


def test_days_start_with_the_first_opening_of_the_date(salon: TestDatabase) -> None:
    """Days have one start on each date that is open, by default; a step gives them more."""
    put_service(salon, duration_days=1)
    assert starts(salon, 0, 72, days=1) == [0, 24, 48]
    salon.put_hours([(1, "14:00", "18:00"), (1, "08:00", "11:00"), (2, "09:30", "12:00")])
    put_special_hours(salon, at(0, day=2).date(), [("10:00", "12:00")])
    assert starts(salon, 0, 96, days=1) == [8, 33.5, 58]
    put_service(salon, duration_days=1, slot_step_minutes=120)
    assert starts(salon, 0, 24, days=1) == [8, 10, 14, 16]


@pytest.mark.parametrize("change", CHANGES)
def test_the_grid_of_slots_follows_local_time(salon: TestDatabase, change: str) -> None:
    """The grid has a start every 45 minutes of local time: none in a skipped hour, and two in a repeated one."""
    timezone, day = CHANGES[change]
    put_service(salon, timezone, duration_minutes=60, slot_step_minutes=45)
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    quarters = [first + n * QUARTER for n in range(5 * 96)]
    local = {quarter: quarter.astimezone(ZoneInfo(timezone)) for quarter in quarters}
    expected = [
        (quarter, quarter + 2 * HOUR)
        for quarter, local_time in local.items()
        if (local_time.hour * 60 + local_time.minute) % 45 == 0
    ]
    assert listed(salon, first, first + timedelta(days=5), minutes=120) == expected


@pytest.mark.parametrize("change", CHANGES)
def test_start_times_are_listed_once(salon: TestDatabase, change: str) -> None:
    """A skipped one begins after the gap, a repeated one in the first pass, and a missing date has none."""
    timezone, day = CHANGES[change]
    times = [time(hour, minute) for hour in (0, 1, 2, 23) for minute in (0, 30)]
    put_service(salon, timezone, duration_minutes=60, start_times=[f"{each:%H:%M}" for each in times])
    clock = clock_around(timezone, day)
    dates = [day + timedelta(days=n) for n in range(-4, 6)]
    locals_ = [datetime.combine(each, start) for each in dates if clock.has_date(each) for start in times]
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    expected = sorted({clock.first(local) for local in locals_})
    assert [start for start, _ in listed(salon, first, first + timedelta(days=5), minutes=60)] == [
        start for start in expected if first <= start < first + timedelta(days=5)
    ]


def test_the_public_keeps_to_the_grid_if_the_service_asks_for_it(salon: TestDatabase) -> None:
    """A start that is not listed is off_grid, but not for the business itself, nor if the service leaves it open."""
    salon.put_hours([(1, "08:00", "18:00")])
    put_service(salon, duration_minutes=60, slot_step_minutes=30, starts_on_grid=True)
    refused = salon.reserve(10.25, 1)
    assert (refused.name, refused.body) == ("slot_not_bookable", {"reason": "off_grid"})
    assert salon.reserve(10.5, 1).name == "done"
    assert salon.book(8.25, 1, manual=True).name == "done"
    put_service(salon, duration_minutes=60, slot_step_minutes=30)
    assert salon.reserve(14.25, 1).name == "done"


def test_a_service_on_its_grid_needs_a_known_time_zone(salon: TestDatabase) -> None:
    """Without one its requests are refused each by itself; others of the batch are granted."""
    put_service(salon, "Mars/Olympus", duration_minutes=60, starts_on_grid=True)
    assert salon.reserve(10, 1).name == "business_misconfigured"
    assert salon.book(10, 1, manual=True).name == "done"
    put_service(salon, duration_minutes=60)
    assert salon.reserve(11, 1).name == "done"


@pytest.mark.new_database
def test_whether_a_start_is_listed_costs_no_more_on_a_fine_grid(salon: TestDatabase) -> None:
    """Reserve asks under the lock: the rows read depend neither on the step nor on other dates."""
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])

    def read_rows(step: int) -> int:
        put_service(salon, duration_minutes=60, slot_step_minutes=step, starts_on_grid=True)
        return reads_of(salon, lambda: refusals(salon, [(at(10), at(11))])).rows

    coarse = read_rows(60)
    for day in range(-100, 300):
        put_special_hours(salon, at(0, day=day).date(), [("00:00", "24:00")])
    assert read_rows(5) <= coarse + 3


QUARTERS = st.integers(0, 95)
ENTRIES = st.tuples(st.integers(1, 7), QUARTERS, QUARTERS).map(lambda entry: (entry[0], *sorted(entry[1:])))
HOURS = st.lists(ENTRIES, max_size=6)


@random_examples(
    60,
    change=st.sampled_from(sorted(CHANGES)),
    hours=HOURS,
    special=st.none() | st.lists(st.tuples(QUARTERS, QUARTERS).map(lambda pair: tuple(sorted(pair))), max_size=2),
    step=st.sampled_from([15, 30, 45, 75, 120]),
)
@example(change="Berlin, an hour forward", hours=[(7, 9, 20)], special=None, step=45)
@example(change="Kolkata, no change", hours=[(7, 30, 60), (7, 34, 50)], special=None, step=15)
@example(change="Santiago, back at midnight", hours=[(6, 80, 95), (7, 0, 9)], special=[(92, 95)], step=15)
def test_a_start_is_listed_exactly_if_the_wall_clock_shows_a_step(
    salon: TestDatabase, change: str, hours: list[Any], special: list[Any] | None, step: int
) -> None:
    """Every quarter around a change is compared with Python's time zones, and with what the public may book."""
    timezone, day = CHANGES[change]
    put_service(salon, timezone, duration_minutes=60, slot_step_minutes=step, starts_on_grid=True)
    salon.put_hours([(weekday, iso(opens), iso(closes + 1)) for weekday, opens, closes in hours])
    salon.rows("DELETE FROM booking.special_hours")
    if special is not None:
        put_special_hours(salon, day, [(iso(opens), iso(closes + 1)) for opens, closes in special])

    def entries(local_day: date) -> list[tuple[int, int]]:
        if special is not None and local_day == day:
            return special
        if not hours:
            return [(0, 95)]
        return [(opens, closes) for weekday, opens, closes in hours if weekday == local_day.isoweekday()]

    clock = clock_around(timezone, day)
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    last = first + timedelta(days=5)
    expected = []
    for instant, local in zip(clock.instants, clock.shown, strict=True):
        quarter = local.hour * 4 + local.minute // 15
        if first <= instant < last and any(
            opens <= quarter <= closes and (quarter - opens) * 15 % step == 0 for opens, closes in entries(local.date())
        ):
            expected.append(instant)
    assert [start for start, _ in listed(salon, first, last, minutes=60)] == expected
    probed = [first + n * QUARTER for n in range(2 * 96, 3 * 96)]
    assert refusals(salon, [(start, start + HOUR) for start in probed]) == [
        None if start in set(expected) else "off_grid" for start in probed
    ]


def iso(quarters: int) -> str:
    """Formats a number of quarters as a time of day, up to 24:00."""
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}"
