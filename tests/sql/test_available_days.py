"""Counts of bookable slots by local date."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import event
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.calendars import RESOURCES, SERVICES, Calendar, calendars, prepare
from tests.sql.listings import availability, available_days, pages
from tests.sql.random_examples import random_examples

DAY = timedelta(days=1)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business with three resources."""
    for resource_id in RESOURCES:
        database.make_resource(resource_id)
    database.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    return database


def counts(database: TestDatabase, first: date, last: date, **parameters: Any) -> list[int]:
    """Returns the number of slots on each date."""
    outcome = available_days(database, first, last, **parameters)
    assert outcome.name == "done", outcome
    dates = [day["date"] for day in outcome.body["days"]]
    assert dates == [(first + n * DAY).isoformat() for n in range((last - first).days + 1)]
    return [day["slots"] for day in outcome.body["days"]]


@random_examples(25, calendar=calendars(), quantity=st.integers(1, 2), is_named=st.booleans())
def test_days_count_the_slots_of_the_listing(
    salon: TestDatabase, calendar: Calendar, quantity: int, is_named: bool
) -> None:
    """Each date has the number and the first of the listed slots that start on it by the clock of the business."""
    prepare(salon, calendar)
    first, last = calendar.day - DAY, calendar.day + 2 * DAY
    for service_id in SERVICES:
        pool = calendar.pools[service_id]
        parameters: dict[str, Any] = {
            "service_id": service_id,
            "quantity": quantity,
            "resource_id": pool[0] if pool and is_named else None,
        }
        # A day more on either side: the dates of the slots are computed here.
        listed = availability(salon, calendar.midnight - 3 * DAY, calendar.midnight + 5 * DAY, **parameters)
        outcome = available_days(salon, first, last, **parameters)
        assert outcome.name == listed.name
        if listed.name != "done":
            continue
        assert listed.body["next_from"] is None
        starts = [datetime.fromisoformat(slot["slot_start"]) for slot in listed.body["slots"]]
        by_date: dict[str, list[datetime]] = {}
        for start in starts:
            local_date = start.astimezone(ZoneInfo(calendar.timezone)).date()
            by_date.setdefault(local_date.isoformat(), []).append(start)
        dates = [(first + n * DAY).isoformat() for n in range(4)]
        expected = [
            (day, min(len(by_date.get(day, [])), 100), min(by_date.get(day, []), default=None)) for day in dates
        ]
        assert expected == [
            (day["date"], day["slots"], day["first_slot_start"] and datetime.fromisoformat(day["first_slot_start"]))
            for day in outcome.body["days"]
        ]


def test_a_date_counts_up_to_a_hundred_slots(salon: TestDatabase) -> None:
    """A date with more slots says a hundred; a date that is closed or over says none."""
    salon.make_service(slot_step_minutes=5)
    salon.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    salon.freeze_clock(at(22))
    salon.put_closure("holiday", at(0, day=2), at(0, day=3))
    monday = at(0).date()
    assert counts(salon, monday - DAY, monday + 3 * DAY) == [0, 24, 100, 0, 100]
    assert counts(salon, monday, monday, quantity=2) == [0]
    salon.put_hours([(5, "00:00", "24:00"), (5, "00:01", "24:00")])  # two grids, each with more than a hundred slots
    assert counts(salon, monday + 4 * DAY, monday + 4 * DAY) == [100]
    salon.put_hours([])
    [day] = available_days(salon, monday, monday).body["days"]
    assert day == {"date": monday.isoformat(), "slots": 24, "first_slot_start": at(22).isoformat()}


@pytest.mark.parametrize(
    ("timezone", "change"), [("Europe/Berlin", date(2026, 10, 25)), ("Europe/Berlin", date(2027, 3, 28))]
)
@random_examples(
    10,
    taken=st.lists(st.tuples(st.integers(0, 47), st.integers(1, 300)), max_size=8),
    hours=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4), st.integers(0, 2)), max_size=4),
    step=st.sampled_from([1, 1, 3]),
    quantity=st.integers(1, 2),
)
def test_a_fine_grid_is_counted_whatever_is_taken(
    salon: TestDatabase,
    timezone: str,
    change: date,
    taken: list[tuple[int, int]],
    hours: list[tuple[int, int, int]],
    step: int,
    quantity: int,
) -> None:
    """A date that has more than a hundred slots is counted up to them, also if its first hours are taken or closed, if
    its hours overlap, and where the clock is changed."""
    salon.forget_claims()
    salon.put_service(capacity=2, duration_minutes=7, slot_step_minutes=step)
    salon.rows("UPDATE booking.businesses SET timezone = %s", timezone)
    begin = datetime.combine(change, datetime.min.time(), UTC) - DAY
    salon.freeze_clock(begin - 3 * DAY)
    entries = [
        (day, f"{opens:02}:{3 * minute:02}", f"{opens + n:02}:00") for day in range(1, 8) for opens, n, minute in hours
    ]
    assert salon.put_hours(entries).name == "done"
    for n, (hour, minutes) in enumerate(taken):
        salon.rows(
            "INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed) "
            "VALUES ('salon', 'cut', %s, %s, '', 1) ON CONFLICT DO NOTHING",
            begin + timedelta(hours=hour, minutes=n),
            begin + timedelta(hours=hour, minutes=n + minutes),
        )
    salon.rows("UPDATE booking.services SET longest_occupied_seconds = 18000")
    slots = [
        datetime.fromisoformat(slot["slot_start"])
        for page in pages(salon, begin - DAY, begin + 4 * DAY, quantity=quantity)
        for slot in page
    ]
    first = change - DAY
    found = available_days(salon, first, first + 2 * DAY, quantity=quantity).body["days"]
    salon.forget_claims()
    for day in found:
        starts = [s for s in slots if s.astimezone(ZoneInfo(timezone)).date().isoformat() == day["date"]]
        event("all counted" if len(starts) <= 100 else "more than a hundred")
        assert day["slots"] == min(100, len(starts))
        assert day["first_slot_start"] == (min(starts).isoformat() if starts else None)


def test_a_date_that_the_zone_leaves_out_has_no_slots(salon: TestDatabase) -> None:
    """Samoa had no 30 December 2011."""
    salon.make_service()
    salon.rows("UPDATE booking.businesses SET timezone = 'Pacific/Apia'")
    salon.freeze_clock(datetime(2011, 12, 20, tzinfo=UTC))
    assert counts(salon, date(2011, 12, 29), date(2011, 12, 31)) == [24, 0, 24]


def test_a_date_goes_on_after_the_next_one_has_begun(salon: TestDatabase) -> None:
    """In Newfoundland the clock was set back from 00:01 to 23:01 of the day before."""
    salon.make_service(slot_step_minutes=30)
    salon.rows("UPDATE booking.businesses SET timezone = 'America/St_Johns'")
    salon.freeze_clock(datetime(2010, 11, 1, tzinfo=UTC))
    # 23:30 and 00:00 are shown twice.
    days = [date(2010, 11, day) for day in (5, 6, 7, 8)]
    assert [counts(salon, day, day) for day in days] == [[48], [49], [49], [48]]
    assert counts(salon, days[0], days[-1]) == [48, 49, 49, 48]


def test_days_are_refused_as_listings_are(salon: TestDatabase) -> None:
    """The outcomes are those of booking.availability."""
    salon.make_service(resource_ids=["anna"])
    monday = at(0).date()
    outcomes = Counter(
        available_days(salon, monday, monday, **parameters).name
        for parameters in (
            {"service_id": "perm"},
            {"resource_id": "bea"},
            {"quantity": 2},
            {"days": 1},
            {"minutes": 0},
        )
    )
    assert outcomes == {"service_not_found": 1, "resource_not_found": 1, "validation_failed": 3}
    salon.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert available_days(salon, monday, monday).name == "business_misconfigured"
