"""The lengths of slots that the public and the business itself may book, in minutes and in calendar days."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.database import Outcome, TestDatabase, at
from tests.sql.local_slots import (
    CHANGES,
    as_in_the_verbs,
    clock_around,
    put_service,
    refusals,
    set_timezone,
)
from tests.sql.random_examples import random_examples

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business in UTC."""
    as_in_the_verbs(database)
    database.make_business()
    set_timezone(database, "UTC")
    return database


def of_minutes(database: TestDatabase, *minutes: float) -> list[str | None]:
    """Returns why the public may not book slots of these lengths from ten o'clock on."""
    return refusals(database, [(at(10), at(10) + n * MINUTE) for n in minutes])


def of_days(database: TestDatabase, *days: float) -> list[str | None]:
    """Returns why the public may not book slots of these lengths from midnight on."""
    return refusals(database, [(at(0), at(0) + n * DAY) for n in days])


def reason(outcome: Outcome) -> str:
    """Returns the reason of a slot that is not bookable, or the name of another outcome."""
    return str(outcome.body["reason"]) if outcome.name == "slot_not_bookable" else outcome.name


def test_the_public_books_the_duration_by_default(salon: TestDatabase) -> None:
    """A service of 45 minutes cannot be booked for a minute or a day, and one of two days not for one or three."""
    put_service(salon, duration_minutes=45)
    assert of_minutes(salon, 1, 44, 45, 46, 1440) == ["too_short", "too_short", None, "too_long", "too_long"]
    put_service(salon, duration_days=2)
    assert of_days(salon, 1, 2, 3) == ["too_short", None, "too_long"]


def test_the_owner_allows_a_range(salon: TestDatabase) -> None:
    """Bounds are inclusive; one that is left out is the duration."""
    put_service(salon, duration_minutes=45, min_duration_minutes=30, max_duration_minutes=60)
    assert of_minutes(salon, 29, 30, 52, 60, 61) == ["too_short", None, None, None, "too_long"]
    put_service(salon, duration_minutes=45, min_duration_minutes=30)
    assert of_minutes(salon, 30, 45, 46) == [None, None, "too_long"]
    put_service(salon, duration_minutes=45, max_duration_minutes=60)
    assert of_minutes(salon, 44, 45, 60) == ["too_short", None, None]
    put_service(salon, duration_days=3, min_duration_days=2, max_duration_days=366)
    assert of_days(salon, 1, 2, 366, 367) == ["too_short", None, None, "too_long"]


def test_a_slot_of_days_ends_as_days_do(salon: TestDatabase) -> None:
    """Any other end is off_grid, within the range of lengths and outside of it."""
    put_service(salon, duration_days=3, min_duration_days=2)
    assert of_days(salon, 0.5, 1.5, 2.5, 2.999, 3.5) == ["off_grid"] * 5
    assert of_days(salon, 1, 2, 3, 4) == ["too_short", None, None, "too_long"]
    put_service(salon, duration_days=1, end_time="11:00")
    slots = [(at(14), at(24 + 11)), (at(14), at(24 + 14)), (at(14), at(20)), (at(9), at(11)), (at(9), at(24 + 11))]
    assert refusals(salon, slots) == [None, "off_grid", "off_grid", None, "too_long"]


def test_a_day_may_have_23_or_25_hours(salon: TestDatabase) -> None:
    """The length of a day is what its dates say, and minutes are elapsed time."""
    berlin = ZoneInfo("Europe/Berlin")
    put_service(salon, "Europe/Berlin", duration_days=1)
    for day in (datetime(2027, 3, 28, tzinfo=berlin), datetime(2026, 10, 25, tzinfo=berlin)):
        next_day = (day + DAY).astimezone(UTC)
        start = day.astimezone(UTC)
        assert refusals(salon, [(start, next_day), (start, start + DAY)])[0] is None
        assert refusals(salon, [(start, next_day - MINUTE), (start, next_day + MINUTE)]) == ["off_grid", "off_grid"]
    put_service(salon, duration_minutes=1440)
    start = datetime(2027, 3, 28, tzinfo=berlin).astimezone(UTC)
    assert refusals(salon, [(start, start + DAY), (start, start + DAY - timedelta(hours=1))]) == [None, "too_short"]


def test_reserve_and_book_refuse_a_length_that_is_not_offered(salon: TestDatabase) -> None:
    """The reason is in the outcome, for holds and for one-call bookings."""
    put_service(salon, duration_minutes=45)
    assert reason(salon.reserve(10, 1 / 60)) == "too_short"
    assert reason(salon.reserve(10, 24)) == "too_long"
    assert reason(salon.book(10, 24)) == "too_long"
    assert reason(salon.reserve(10, 45 / 60)) == "done"
    put_service(salon, duration_days=1)
    assert reason(salon.reserve(24, 2)) == "off_grid"
    assert reason(salon.book(24, 48)) == "too_long"
    assert reason(salon.book(24, 24)) == "done"


def test_a_slot_that_was_shown_is_booked_as_shown_or_refused(salon: TestDatabase) -> None:
    """A service that grew from 30 to 45 minutes grants the old 30 minutes only if its owner allows a range."""
    put_service(salon, duration_minutes=45, min_duration_minutes=30)
    granted = salon.reserve(10, 0.5)
    length = datetime.fromisoformat(granted.body["slot_end"]) - datetime.fromisoformat(granted.body["slot_start"])
    assert length == 30 * MINUTE
    put_service(salon, duration_minutes=45)
    assert reason(salon.reserve(12, 0.5)) == "too_short"


def test_notice_and_horizon_come_before_the_length(salon: TestDatabase) -> None:
    """A slot in the past is past, whatever its length, and the length comes before the grid and the hours."""
    put_service(salon, duration_minutes=45, starts_on_grid=True)
    salon.put_hours([(1, "09:00", "18:00")])
    assert reason(salon.reserve(-24 * 365, 1)) == "past"
    assert reason(salon.reserve(5.1, 1)) == "too_long"
    assert reason(salon.reserve(10.1, 0.75)) == "off_grid"
    put_service(salon, duration_minutes=45)
    assert reason(salon.reserve(5.1, 0.75)) == "closed"


def test_the_business_itself_is_bound_by_30_days_or_366(salon: TestDatabase) -> None:
    """Manual creation and moves take any length up to that, off the grid and however short."""
    put_service(salon, duration_minutes=45, starts_on_grid=True)
    assert salon.book(0.1, 720, manual=True).name == "done"
    refused = salon.book(800, 720 + 1 / 60, manual=True)
    assert (refused.name, refused.body["parameters"]["maxDays"]) == ("validation_failed", 30)
    put_service(salon, duration_days=1, starts_on_grid=True)
    assert salon.book(800.1, 0.5, manual=True).name == "done"
    assert salon.book(1000, 366 * 24, manual=True).name == "done"
    refused = salon.book(1000, 368 * 24, manual=True)
    assert (refused.name, refused.body["parameters"]["maxDays"]) == ("validation_failed", 366)


def test_an_appointment_that_is_too_long_by_now_can_be_changed(salon: TestDatabase) -> None:
    """The service was by days when it was booked. Only a new slot is bound by the length of today."""
    put_service(salon, duration_days=1)
    appointment = salon.book(10, 60 * 24, manual=True).id
    put_service(salon, duration_minutes=45)
    assert salon.change(appointment, set={"slot_start": at(11).isoformat()}).name == "validation_failed"
    assert salon.change(appointment, set={"notes": "by the window"}).name == "done"
    assert salon.change(appointment, action="cancel", actor_kind="guest").name == "done"


def test_an_endless_slot_is_refused_before_its_hours_are_read(salon: TestDatabase) -> None:
    """A request may ask for thousands of years under the lock of the business, whose weeks must not be enumerated."""
    salon.put_hours([(1, "09:00", "17:00")])
    salon.rows("SET statement_timeout = '2s'")
    far = datetime.max.replace(tzinfo=UTC, microsecond=0).isoformat()
    for unit, length in (("duration_minutes", 60), ("duration_days", 1)):
        put_service(salon, None, **{unit: length, "starts_on_grid": True})
        assert reason(salon.reserve(9, slot_end=far)) == ("too_long" if unit == "duration_minutes" else "off_grid")
        assert salon.book(9, slot_end=far, manual=True).name == "validation_failed"


def test_a_length_in_days_needs_a_known_time_zone(salon: TestDatabase) -> None:
    """Requests with an end and without, public and manual ones, are refused by themselves; minutes go on."""
    put_service(salon, "Mars/Olympus", duration_days=1)
    salon.put_service("massage", duration_minutes=60)
    requests: list[dict[str, Any]] = [{"slot_end": None}, {}, {"service_id": "massage"}]
    assert [salon.reserve(0, 24, **request).name for request in requests[:2]] == ["business_misconfigured"] * 2
    assert salon.reserve(0, 1, **requests[2]).name == "done"
    assert salon.book(0, 24, slot_end=None, manual=True).name == "business_misconfigured"
    assert salon.book(0, 24, manual=True).name == "done"


ENDS = st.integers(1, 6 * 96).map(lambda quarters: quarters * timedelta(minutes=15))


@random_examples(
    150,
    change=st.sampled_from(sorted(CHANGES)),
    start=st.integers(-3 * 96, 2 * 96),
    end=ENDS,
    bounds=st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda pair: (min(pair), max(pair))),
    end_time=st.none() | st.sampled_from(["00:00", "00:30", "02:30", "11:00", "23:45"]),
)
@example(change="Apia, a date is left out", start=-96, end=timedelta(days=1), bounds=(1, 1), end_time=None)
@example(change="Apia, a date is left out", start=-96, end=timedelta(days=1), bounds=(2, 2), end_time=None)
@example(
    change="Casey, three hours back over midnight", start=-139, end=timedelta(hours=50.25), bounds=(1, 2), end_time=None
)
def test_a_length_in_days_is_refused_exactly_if_no_number_of_days_has_it(
    salon: TestDatabase, change: str, start: int, end: timedelta, bounds: tuple[int, int], end_time: str | None
) -> None:
    """Any start and any end around a change is compared with the ends of one to eight days by Python's time zones."""
    timezone, day = CHANGES[change]
    # The start time is no quarter of an hour and never skipped, so that each start counts as what the clock shows.
    put_service(
        salon,
        timezone,
        duration_days=bounds[1],
        min_duration_days=bounds[0],
        start_times=["12:01"],
        end_time=end_time,
    )
    clock = clock_around(timezone, day)
    starts_at = datetime.combine(day, time(), UTC) + start * timedelta(minutes=15)
    ends_at = starts_at + end
    shown = clock.shown[clock.instants.index(starts_at)]
    time_of_end = time.fromisoformat(end_time) if end_time else shown.time()
    is_same_date = end_time is not None and time_of_end > shown.time()
    ends = [
        clock.first(datetime.combine(shown.date() + (days - is_same_date) * DAY, time_of_end)) for days in range(1, 9)
    ]
    # A first end that is over when the slot begins (in the second pass of an hour) is no end.
    ends[0] = ends[0] if ends[0] > starts_at else ends[1]
    lengths = [days for days, each in enumerate(ends, 1) if each == ends_at]
    expected = (
        None
        if any(bounds[0] <= days <= bounds[1] for days in lengths)
        else "off_grid"
        if not lengths
        else "too_short"
        if max(lengths) < bounds[0]
        else "too_long"
    )
    assert refusals(salon, [(starts_at, ends_at)]) == [expected]
