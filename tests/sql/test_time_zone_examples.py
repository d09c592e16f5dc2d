"""The examples on the page on time zones are true: sql/time-zones.md."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.local_slots import as_in_the_verbs, default_ends, listed, put_service, refusals

PAGE = (Path(__file__).parents[2] / "sql" / "time-zones.md").read_text()
BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
NIGHT: dict[str, Any] = {"start_times": ["14:00"], "end_time": "11:00"}
BOAT: dict[str, Any] = {"start_times": ["09:00"], "end_time": "18:00"}
# The stays on the page: the number of days, and the settings of their service.
STAYS = {
    "a night": (1, NIGHT),
    "two nights": (2, NIGHT),
    "a day on the boat": (1, BOAT),
    "two days on the boat": (2, BOAT),
}


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business in Berlin, long before all examples."""
    as_in_the_verbs(database)
    database.make_business()
    database.freeze_clock(datetime(2026, 10, 1, tzinfo=UTC))
    return database


def section(title: str) -> str:
    """Returns the text under a heading of the page."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def steps() -> dict[str, list[tuple[str, ...]]]:
    """Returns the rows of the tables of steps, by their date."""
    parts = re.findall(r"\*\*(\d{4}-\d\d-\d\d)\*\*:(.*?)\n\n(?=\*\*|Hours)", section("Steps"), re.DOTALL)
    rows = r"\| `(\S+)` \| (\S+) \((\w+)\) \| `(\S+)` \| (\S+) \((\w+)\) \|"
    return {day: re.findall(rows, text) for day, text in parts}


def days() -> list[tuple[datetime, datetime, int]]:
    """Returns the rows of the tables of days: (start, end, hours)."""
    rows = re.findall(r"\n\| `(\S+)` \| `(\S+)` \| (\d+) \|", section("Days"))
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end), int(hours)) for start, end, hours in rows]


def stays() -> list[tuple[str, datetime, datetime, int]]:
    """Returns the rows of the table of nights: (name, start, end, hours)."""
    rows = re.findall(r"\n\| (\w[\w ]+) \| `(\S+)` \| `(\S+)` \| (\d+) \|", section("Nights"))
    return [(name, datetime.fromisoformat(start), datetime.fromisoformat(end), int(n)) for name, start, end, n in rows]


def test_the_page_has_its_examples() -> None:
    """The page has the expected number of examples, so that the tests below can't pass without trying any."""
    assert {day: len(rows) for day, rows in steps().items()} == {"2026-10-25": 7, "2027-03-28": 3}
    assert len(days()) == 7
    assert sorted({name for name, *_ in stays()}) == sorted(STAYS)


@pytest.mark.parametrize("day", ["2026-10-25", "2027-03-28"])
def test_steps_are_listed_as_on_the_page(salon: TestDatabase, day: str) -> None:
    """The listings of days with 25 and 23 hours have exactly the slots on the page, with its local times."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    put_service(salon, duration_minutes=60, slot_step_minutes=30)
    salon.put_hours([(7, "01:00", "04:00")])
    slots = salon.value(
        "SELECT body -> 'slots' FROM booking.availability('salon', 'cut', %s, %s, NULL, NULL, 1, NULL, 500)",
        midnight,
        midnight + DAY,
    )
    rows = steps()[day]
    assert [tuple(datetime.fromisoformat(slot[name]) for name in ("slot_start", "slot_end")) for slot in slots] == [
        (datetime.fromisoformat(row[0]), datetime.fromisoformat(row[3])) for row in rows
    ]
    for row in rows:
        for iso_instant, shown, season in (row[:3], row[3:]):
            local = datetime.fromisoformat(iso_instant).astimezone(BERLIN)
            assert (f"{local:%H:%M}", "summer" if local.dst() else "winter") == (shown, season)


def test_hours_within_a_change_of_the_clock_are_as_on_the_page(salon: TestDatabase) -> None:
    """Hours in a repeated hour are open twice, and those in a skipped hour never."""
    salon.rows("SET timezone = 'UTC'")

    def periods_of(opens: str, closes: str, day: str) -> str:
        salon.put_hours([(7, opens, closes)])
        periods: str = salon.value(
            "SELECT hours::text FROM booking.open_periods("
            "'salon', '{\"\"}', tstzrange(%s::timestamptz, %s::timestamptz + interval '1 day'))",
            day,
            day,
        )
        return re.sub(r"(\d{4}-\d\d-\d\d |:00\+00|\")", "", periods)

    assert periods_of("02:15", "02:45", "2026-10-25") == "{[00:15,00:45),[01:15,01:45)}"
    assert periods_of("02:15", "02:45", "2027-03-28") == "{}"
    assert periods_of("02:30", "03:30", "2027-03-28") == "{[01:00,01:30)}"


def test_a_lunch_break_shifts_the_steps_as_on_the_page(salon: TestDatabase) -> None:
    """The table has the entries of the hours, each with its starts; each of them is within the hours."""
    rows = re.findall(r"\| `(\d\d:\d\d)`\N{EN DASH}`(\d\d:\d\d)` \| (.+) \|", section("Steps"))
    assert len(rows) == 2
    put_service(salon, duration_minutes=60, slot_step_minutes=90)
    salon.put_hours([(1, opens, closes) for opens, closes, _ in rows])
    monday = datetime(2027, 1, 11, tzinfo=BERLIN)
    slots = salon.value(
        "SELECT body -> 'slots' FROM booking.availability('salon', 'cut', %s, %s, NULL, NULL, 1, NULL, 500)",
        monday,
        monday + DAY,
    )
    found = [datetime.fromisoformat(slot["slot_start"]).astimezone(BERLIN) for slot in slots]
    assert [f"{each:%H:%M}" for each in found] == re.findall(r"\d\d:\d\d", " ".join(starts for *_, starts in rows))


def test_days_are_as_on_the_page(salon: TestDatabase) -> None:
    """Each row is listed, is what a request without an end gets, and has the hours that the table says."""
    for timezone, rows in (("Europe/Berlin", days()[:4]), ("Africa/Cairo", days()[4:])):
        put_service(salon, timezone, duration_days=1)
        for start, end, hours in rows:
            assert listed(salon, start, start + timedelta(hours=1), days=1) == [(start, end)]
            assert end - start == timedelta(hours=hours)
        assert default_ends(salon, [start for start, *_ in rows]) == [end for _, end, _ in rows]
        assert refusals(salon, [(start, end) for start, end, _ in rows]) == [None] * len(rows)


def test_a_date_that_is_left_out_is_as_on_the_page(salon: TestDatabase) -> None:
    """The day before it ends where the day after it starts."""
    put_service(salon, "Pacific/Apia", duration_days=1)
    start = datetime(2011, 12, 29, tzinfo=ZoneInfo("Pacific/Apia"))
    after = datetime(2011, 12, 31, tzinfo=ZoneInfo("Pacific/Apia"))
    slots = listed(salon, start, after + timedelta(hours=1), days=1)
    assert slots == [(start, after), (after, after + DAY)]


@pytest.mark.parametrize("place", range(len(stays())))
def test_nights_are_as_on_the_page(salon: TestDatabase, place: int) -> None:
    """Each row is listed, is what a request without an end gets, and has the hours that the table says."""
    name, start, end, hours = stays()[place]
    number, times = STAYS[name]
    put_service(salon, "Europe/Berlin", duration_days=number, **times)
    assert listed(salon, start, start + timedelta(hours=1), days=number) == [(start, end)]
    assert default_ends(salon, [start]) == [end]
    assert end - start == timedelta(hours=hours)


def test_closures_on_dates_are_as_on_the_page(salon: TestDatabase) -> None:
    """Each row is what the dates mean in the time zone of the business."""
    rows = re.findall(r"\n\| `(\S+)` \| (?:`(\S+)` )?\| `(\S+)` \| `(\S+)` \| (\d+) \|", section("Closures on dates"))
    assert len(rows) == 3
    for date, until, closed_from, to, hours in rows:
        closure = json.dumps({"date": date, "until": until or None})
        salon.rows("SELECT booking.put_closure('salon', 'days', %s, %s)", closure, NO_DEADLINE)
        [during] = salon.rows("SELECT lower(during), upper(during) FROM booking.closures")
        assert during == (datetime.fromisoformat(closed_from), datetime.fromisoformat(to))
        assert during[1] - during[0] == timedelta(hours=int(hours))


def test_postgresql_and_python_disagree_as_on_the_page(salon: TestDatabase) -> None:
    """A local time that is repeated is resolved to different instants."""
    in_postgresql = salon.value("SELECT timestamp '2026-10-25 02:30' AT TIME ZONE 'Europe/Berlin'")
    in_python = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    assert in_postgresql == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert in_python.astimezone(UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
