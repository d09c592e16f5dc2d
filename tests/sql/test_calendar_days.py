"""Slots of calendar days: they follow the dates of the business, whatever its clock does in between."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.database import TestDatabase
from tests.sql.changes import slot_of
from tests.sql.listings import availability
from tests.sql.local_slots import (
    CHANGES,
    as_in_the_verbs,
    clock_around,
    default_ends,
    listed,
    put_service,
    refusals,
)
from tests.sql.measuring import statements_of
from tests.sql.random_examples import random_examples

DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
# Midnights at which a clock was changed: skipped (forward) or shown twice (back), or a date that was left out.
MIDNIGHTS = {
    "America/Asuncion, forward": ("America/Asuncion", date(2023, 10, 1)),
    "America/Asuncion, back": ("America/Asuncion", date(2024, 3, 24)),
    "America/Sao_Paulo, forward": ("America/Sao_Paulo", date(2018, 11, 4)),
    "America/Havana, forward": ("America/Havana", date(2023, 3, 12)),
    "America/Havana, back": ("America/Havana", date(2023, 11, 5)),
    "Asia/Gaza, forward": ("Asia/Gaza", date(2011, 4, 1)),
    "Asia/Tehran, back": ("Asia/Tehran", date(2022, 9, 22)),
    "Atlantic/Azores, forward": ("Atlantic/Azores", date(2025, 3, 30)),
    "Pacific/Apia, a date is left out": ("Pacific/Apia", date(2011, 12, 30)),
    "Pacific/Fakaofo, a date is left out": ("Pacific/Fakaofo", date(2011, 12, 30)),
    "Asia/Pyongyang, half an hour forward": ("Asia/Pyongyang", date(2018, 5, 5)),
}
MIDNIGHTS.update(CHANGES)

# The listed slots of a service by days in every time zone: how many dates have two, how many have none, and how many
# slots meet a condition, which says what is wrong with a slot.
IN_EVERY_ZONE = """
SELECT name, count(*) - count(DISTINCT day) AS repeated, max(day) - min(day) + 1 - count(DISTINCT day) AS missing,
       array_agg(day) FILTER (WHERE {is_wrong}) AS wrong
FROM (
  SELECT zone.name, listed.*, (listed.slot_start AT TIME ZONE zone.name)::date AS day,
         lead(listed.slot_start) OVER (PARTITION BY zone.name ORDER BY listed.slot_start) AS next_start
  FROM pg_timezone_names AS zone
  CROSS JOIN booking.services AS s
  CROSS JOIN LATERAL booking.listed_slots(s, zone.name, tstzmultirange(tstzrange(%s, %s)), NULL, 1) AS listed
  WHERE s.service_id = 'cut'
) AS slot
GROUP BY name
"""
SAMOA = ("Pacific/Apia", "Pacific/Fakaofo")


@pytest.fixture
def house(database: TestDatabase) -> TestDatabase:
    """Makes a business in Berlin."""
    as_in_the_verbs(database)
    database.make_business()
    return database


def in_every_zone(database: TestDatabase, year: int, is_wrong: str) -> dict[str, tuple[int, int, list[date] | None]]:
    """Returns the zones with (repeated dates, missing dates, dates of wrong slots) in a year, if there are any."""
    first, last = (datetime(year + n, 1, 1, tzinfo=UTC) for n in range(2))
    rows = database.rows(IN_EVERY_ZONE.format(is_wrong=is_wrong), first, last)
    assert len(rows) > 400
    return {name: tuple(found) for name, *found in rows if any(found)}


@pytest.mark.parametrize("year", [2011, 2027])
def test_days_are_back_to_back_through_a_year_in_every_zone(house: TestDatabase, year: int) -> None:
    """No day overlaps the next one, none leaves a gap, and each date that the wall clock shows has one."""
    put_service(house, duration_days=1)
    odd = in_every_zone(house, year, "slot_end <= slot_start OR slot_end <> next_start")
    assert odd == (dict.fromkeys(SAMOA, (0, 1, None)) if year == 2011 else {})


@pytest.mark.parametrize("year", [2011, 2027])
def test_each_date_has_its_night_in_every_zone(house: TestDatabase, year: int) -> None:
    """Nights from 14:00 to 11:00 show these times, on each date, and do not overlap."""
    put_service(house, duration_days=1, start_times=["14:00"], end_time="11:00")
    odd = in_every_zone(
        house,
        year,
        "slot_start AT TIME ZONE name <> day + time '14:00' OR slot_end AT TIME ZONE name <> day + 1 + time '11:00' "
        "OR slot_end > next_start",
    )
    # The night before the date that is left out ends with that date.
    assert odd == (dict.fromkeys(SAMOA, (0, 1, [date(2011, 12, 29)])) if year == 2011 else {})


def test_no_day_of_any_zone_is_longer_than_watchers_are_told(house: TestDatabase) -> None:
    """Also where the clock changes by two hours, in Antarctica/Troll: a claim at the end of a day concerns its slot."""
    put_service(house, duration_days=1)
    longest = "(SELECT r.longest_slot FROM booking.reaches('salon') AS r WHERE r.service_id = 'cut')"
    assert in_every_zone(house, 2027, f"slot_end > slot_start + {longest}") == {}


@pytest.mark.parametrize("change", MIDNIGHTS)
def test_days_around_a_midnight_that_is_changed_are_booked_as_they_are_listed(house: TestDatabase, change: str) -> None:
    """Two weeks of days on either side are listed, back to back, and each is what a request without an end gets."""
    timezone, day = MIDNIGHTS[change]
    put_service(house, timezone, duration_days=1, starts_on_grid=True)
    first = datetime.combine(day - 14 * DAY, time(), UTC)
    slots = listed(house, first, first + 28 * DAY, days=1)
    assert [end for _, end in slots[:-1]] == [start for start, _ in slots[1:]]
    local_days = [start.astimezone(ZoneInfo(timezone)).date() for start, _ in slots]
    expected = [local_days[0] + n * DAY for n in range((local_days[-1] - local_days[0]).days + 1)]
    assert local_days == [each for each in expected if not ("left out" in change and each == day)]
    assert default_ends(house, [start for start, _ in slots]) == [end for _, end in slots]
    assert set(refusals(house, slots)) == {None}


def test_a_week_ends_seven_dates_later(house: TestDatabase) -> None:
    """A slot of several days has an hour less or more in it when the clock is changed, as a single day has."""
    put_service(house, "Europe/Berlin", duration_days=7)
    start = datetime(2027, 3, 25, tzinfo=BERLIN)
    assert listed(house, start, start + timedelta(hours=1), days=7) == [(start, datetime(2027, 4, 1, tzinfo=BERLIN))]
    assert default_ends(house, [start]) == [start.astimezone(UTC) + timedelta(hours=7 * 24 - 1)]


def test_an_end_time_later_than_the_start_is_on_the_last_date(house: TestDatabase) -> None:
    """A boat from 9 to 18 o'clock is one day; a night to 11 o'clock ends on the next date, and so does 9 to 9."""
    start = datetime(2027, 5, 3, 9, tzinfo=BERLIN)
    for end_time, days, end in (
        ("18:00", 1, datetime(2027, 5, 3, 18, tzinfo=BERLIN)),
        ("18:00", 3, datetime(2027, 5, 5, 18, tzinfo=BERLIN)),
        ("08:00", 1, datetime(2027, 5, 4, 8, tzinfo=BERLIN)),
        ("09:00", 1, datetime(2027, 5, 4, 9, tzinfo=BERLIN)),
        (None, 2, datetime(2027, 5, 5, 9, tzinfo=BERLIN)),
    ):
        put_service(house, duration_days=days, start_times=["09:00"], end_time=end_time)
        assert default_ends(house, [start]) == [end], (end_time, days)
        assert listed(house, start, start + timedelta(hours=1), days=days) == [(start, end)]


def test_a_skipped_start_counts_as_the_skipped_time(house: TestDatabase) -> None:
    """In Cairo a day that begins at a skipped midnight begins at one o'clock, and ends at the next midnight."""
    put_service(house, "Africa/Cairo", duration_days=1)
    one_oclock = datetime(2027, 4, 30, 1, tzinfo=ZoneInfo("Africa/Cairo"))
    midnight = datetime(2027, 5, 1, tzinfo=ZoneInfo("Africa/Cairo"))
    assert default_ends(house, [one_oclock]) == [midnight]
    # One o'clock is no start of the list on any other date, and not if the list has only two o'clock.
    assert default_ends(house, [one_oclock + DAY]) == [one_oclock + 2 * DAY]
    put_service(house, duration_days=1, start_times=["02:00"])
    assert default_ends(house, [one_oclock]) == [one_oclock + DAY]


def test_a_start_in_the_second_pass_ends_after_it_begins(house: TestDatabase) -> None:
    """In Santiago 23:00 to 24:00 comes twice: a slot from 23:30 to 23:45 of the second pass would be over before."""
    santiago = ZoneInfo("America/Santiago")
    put_service(house, "America/Santiago", duration_days=1, start_times=["23:30"], end_time="23:45")
    first = datetime(2027, 4, 3, 23, 30, tzinfo=santiago).astimezone(UTC)
    second = first + timedelta(hours=1)
    next_end = datetime(2027, 4, 4, 23, 45, tzinfo=santiago).astimezone(UTC)
    assert default_ends(house, [first, second]) == [first + timedelta(minutes=15), next_end]
    assert listed(house, first - timedelta(hours=3), second + timedelta(hours=3), days=1) == [
        (first, first + timedelta(minutes=15))
    ]
    # A listing that ends in the second pass, when the clock shows less than at the start.
    assert listed(house, first - timedelta(hours=3), second - timedelta(minutes=20), days=1) == [
        (first, first + timedelta(minutes=15))
    ]
    assert refusals(house, [(second, next_end), (second, next_end + timedelta(minutes=15))]) == [None, "off_grid"]


def test_a_date_that_is_left_out_has_no_slot(house: TestDatabase) -> None:
    """Samoa had no 30 December 2011: no night begins on it, and the stay before it is of one day and of two."""
    apia = ZoneInfo("Pacific/Apia")
    put_service(house, "Pacific/Apia", duration_days=1, max_duration_days=3, start_times=["14:00"], end_time="11:00")
    first = datetime(2011, 12, 28, tzinfo=apia)
    nights = listed(house, first, first + 5 * DAY, days=1)
    assert [start.astimezone(apia).day for start, _ in nights] == [28, 29, 31, 1]
    assert nights[1][1] == datetime(2011, 12, 31, tzinfo=apia)
    put_service(house, duration_days=2)
    stay = (datetime(2011, 12, 29, tzinfo=apia), datetime(2011, 12, 31, tzinfo=apia))
    assert refusals(house, [stay]) == [None]
    put_service(house, duration_days=1)
    assert refusals(house, [stay]) == [None]
    put_service(house, duration_days=3)
    assert refusals(house, [stay]) == ["too_short"]


def test_a_stay_with_an_empty_first_day_keeps_its_length(house: TestDatabase) -> None:
    """In Cairo the first of two days from a skipped midnight would end at 00:45, which is skipped too. A guest who
    moves the stay keeps two days, the only length of the service, and finds such stays listed."""
    house.freeze_clock(datetime(2027, 4, 1, tzinfo=UTC))
    cairo = ZoneInfo("Africa/Cairo")
    put_service(house, "Africa/Cairo", duration_days=2, start_times=["00:00"], end_time="00:45", starts_on_grid=True)
    stay = house.book(slot_start=datetime(2027, 4, 30, 1, tzinfo=cairo).isoformat(), slot_end=None)
    assert slot_of(stay)[1] == datetime(2027, 5, 1, 0, 45, tzinfo=cairo)
    other = (datetime(2027, 5, 4, tzinfo=cairo), datetime(2027, 5, 5, 0, 45, tzinfo=cairo))
    [found] = availability(house, other[0], other[0] + DAY, appointment_id=stay.id).body["slots"]
    assert tuple(datetime.fromisoformat(found[name]) for name in ("slot_start", "slot_end")) == other
    move = {"slot_start": other[0].isoformat()}
    assert slot_of(house.change(stay.id, action="reschedule", actor_kind="guest", set=move)) == other


def test_the_day_after_a_change_of_the_clock_is_granted(house: TestDatabase) -> None:
    """A van that is booked for the Sunday of 23 hours is free on Monday, and the Sunday of 25 hours leaves no gap."""
    house.freeze_clock(datetime(2026, 10, 1, tzinfo=UTC))
    put_service(house, "Europe/Berlin", duration_days=1, resource_ids=[house.make_resource("van")], capacity=None)
    for sunday in (date(2027, 3, 28), date(2026, 10, 25)):
        midnights = [datetime.combine(sunday + n * DAY, time(), BERLIN) for n in range(3)]
        granted = [house.reserve(slot_start=start.isoformat(), slot_end=None) for start in midnights[:2]]
        assert [outcome.name for outcome in granted] == ["done", "done"]
        for outcome, start, end in zip(granted, midnights, midnights[1:], strict=False):
            assert datetime.fromisoformat(outcome.body["slot_start"]) == start
            assert datetime.fromisoformat(outcome.body["slot_end"]) == end
        assert house.reserve(slot_start=midnights[0].isoformat(), slot_end=None).name == "slot_unavailable"


def test_nights_are_granted_one_after_the_other(house: TestDatabase) -> None:
    """A room from 14:00 to 11:00 is booked for three nights in a row, in any order, and each once."""
    house.freeze_clock(datetime(2027, 1, 1, tzinfo=UTC))
    put_service(
        house,
        "UTC",
        duration_days=1,
        start_times=["14:00"],
        end_time="11:00",
        starts_on_grid=True,
        resource_ids=[house.make_resource("s1")],
        capacity=None,
    )
    week = (datetime(2027, 2, 1, tzinfo=UTC), datetime(2027, 2, 8, tzinfo=UTC))
    assert listed(house, *week, days=1) == [
        (week[0] + n * DAY + timedelta(hours=14), week[0] + n * DAY + timedelta(hours=35)) for n in range(7)
    ]
    nights = [f"2027-02-01T{14}:00Z", "2027-02-02T14:00Z", "2027-01-31T14:00Z", "2027-02-02T14:00Z"]
    outcomes = [house.reserve(slot_start=start, slot_end=None).name for start in nights]
    assert outcomes == ["done", "done", "done", "slot_unavailable"]
    off_grid = house.reserve(slot_start="2027-02-04T21:00Z", slot_end=None)
    assert (off_grid.name, off_grid.body) == ("slot_not_bookable", {"reason": "off_grid"})


QUARTERS = st.integers(0, 95).map(lambda n: f"{n // 4:02}:{n % 4 * 15:02}")
START_TIMES = st.lists(QUARTERS, min_size=1, max_size=3, unique=True)


@random_examples(
    80,
    change=st.sampled_from(sorted(CHANGES)),
    start_times=START_TIMES,
    end_time=st.none() | QUARTERS,
    days=st.integers(1, 4),
)
@example(change="Apia, a date is left out", start_times=["14:00"], end_time="11:00", days=1)
@example(change="Apia, a date is left out", start_times=["00:30"], end_time=None, days=2)
@example(change="Cairo, forward at midnight", start_times=["00:00", "00:30"], end_time="00:45", days=1)
@example(change="Cairo, forward at midnight", start_times=["00:00", "01:00"], end_time="00:45", days=2)
def test_listed_days_are_those_of_the_wall_clock(
    house: TestDatabase, change: str, start_times: list[str], end_time: str | None, days: int
) -> None:
    """Every date around a change is compared with Python's time zones, and so is the request without an end."""
    timezone, day = CHANGES[change]
    put_service(house, timezone, duration_days=days, start_times=start_times, end_time=end_time, starts_on_grid=True)
    clock = clock_around(timezone, day)
    expected: dict[datetime, datetime] = {}
    for n in range(-4, 5):
        for start_time in sorted(start_times):
            start = datetime.combine(day + n * DAY, time.fromisoformat(start_time))

            def end_after(length: int, start: datetime = start) -> datetime:
                ends_at = time.fromisoformat(end_time) if end_time else start.time()
                is_same_date = end_time is not None and ends_at > start.time()
                return clock.first(datetime.combine(start.date() + (length - is_same_date) * DAY, ends_at))

            if clock.has_date(start.date()) and clock.first(start) < end_after(days):
                expected.setdefault(clock.first(start), end_after(days))
    first = datetime.combine(day - 3 * DAY, time(), UTC)
    slots = listed(house, first, first + 6 * DAY, days=days)
    assert slots == sorted(slot for slot in expected.items() if first <= slot[0] < first + 6 * DAY)
    assert default_ends(house, [start for start, _ in slots]) == [end for _, end in slots]
    assert refusals(house, slots) == [None] * len(slots)


@pytest.mark.new_database
def test_the_statements_do_not_grow_with_the_dates(house: TestDatabase) -> None:
    """Dates are computed as sets: a listing of a year takes as many statements as one of a day, a long stay as a night.

    A change of the clock within nine days is the one thing that adds a statement.
    """
    start = datetime(2027, 5, 3, tzinfo=BERLIN)

    def counted(days: int) -> list[int]:
        put_service(house, "Europe/Berlin", duration_days=days, max_duration_days=366, starts_on_grid=True)
        end = datetime.combine(start.date() + days * DAY, time(), BERLIN)
        return [
            statements_of(house, lambda: listed(house, start, start + 300 * DAY, days=days)),
            statements_of(house, lambda: default_ends(house, [start])),
            statements_of(house, lambda: refusals(house, [(start, end)])),
        ]

    assert counted(1) == counted(100)
    listing_of_a_day = statements_of(house, lambda: listed(house, start, start + DAY, days=100))
    # The changes of the clock within a year are looked for in a statement more, for the starts and both ends.
    assert counted(100)[0] - listing_of_a_day <= 3
