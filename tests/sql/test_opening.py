"""When a business is open: by the clock on its wall, whatever DST does with that."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.measuring import reads_of

# By what happens there: the zone, and the UTC date on which its clock is changed.
CHANGES = {
    "Berlin, an hour back": ("Europe/Berlin", date(2026, 10, 25)),
    "Berlin, an hour forward": ("Europe/Berlin", date(2027, 3, 28)),
    "New York, an hour back": ("America/New_York", date(2026, 11, 1)),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", date(2026, 10, 3)),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", date(2027, 4, 3)),
    "Cairo, forward at midnight": ("Africa/Cairo", date(2027, 4, 29)),
    "Santiago, back at midnight": ("America/Santiago", date(2027, 4, 4)),
    "Kolkata, no change": ("Asia/Kolkata", date(2027, 4, 4)),
}
HALF_HOUR = timedelta(minutes=30)


def instant(written: str) -> datetime:
    """An instant of UTC."""
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


def move_to(database: TestDatabase, timezone: str) -> None:
    """Puts the salon into another time zone."""
    database.rows("UPDATE booking.businesses SET timezone = %s", timezone)


def is_open(database: TestDatabase, start: datetime, end: datetime, whose: str = "") -> bool:
    """What the verbs ask for a slot: of a resource, or of the business itself."""
    query = "SELECT booking.open_during('salon', %s::text[], tstzrange(%s, %s))"
    found: list[str] = database.value(query, [whose], start, end)
    assert found in ([], [whose])
    return found == [whose]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """A business in Berlin with a chair."""
    database.make_business()
    database.make_resource("chair")
    return database


def test_without_hours_it_is_always_open(salon: TestDatabase) -> None:
    """Nobody has to write down what does not matter to them; and hours of a resource say nothing about the business."""
    assert is_open(salon, at(3), at(5000))
    found = salon.rows("SELECT whose, open::text FROM booking.open_stretches('salon', '{\"\"}', %s, %s)", at(0), at(1))
    assert found == [("", "{(,)}")]
    salon.put_hours([{"weekday": 1, "opens": "09:00", "closes": "10:00", "resource_id": "chair"}])
    assert is_open(salon, at(3), at(5000))
    assert not is_open(salon, at(3), at(4), "chair")


def test_all_of_the_slot_has_to_be_within_the_hours(salon: TestDatabase) -> None:
    """From the very opening to the very closing, but no minute before or after."""
    salon.put_hours([(1, "09:00", "13:00"), (1, "14:00", "18:00")])
    move_to(salon, "UTC")
    assert is_open(salon, at(9), at(13))
    assert is_open(salon, at(14), at(18))
    for start, end in ((9 - 1 / 60, 10), (17, 18 + 1 / 60), (12, 15), (13, 14), (33, 34)):
        assert not is_open(salon, at(start), at(end)), (start, end)


def test_a_night_is_two_rows_that_are_one_stretch(salon: TestDatabase) -> None:
    """24:00 is the 0:00 of the next day: what touches is one, and so are all seven days."""
    move_to(salon, "UTC")
    salon.put_hours([(1, "20:00", "24:00"), (2, "00:00", "04:00")])
    assert is_open(salon, at(20), at(28))
    assert not is_open(salon, at(27), at(29))
    assert not is_open(salon, at(0), at(4))
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    assert is_open(salon, at(3), at(24 * 30))


def test_hours_stay_local_across_a_dst_change(salon: TestDatabase) -> None:
    """Nine o'clock in Berlin is 7:00 UTC in summer and 8:00 UTC in winter."""
    salon.put_hours([(5, "09:00", "17:00"), (1, "09:00", "17:00")])
    assert is_open(salon, instant("2026-10-23T07:00"), instant("2026-10-23T15:00"))
    assert is_open(salon, instant("2026-10-26T08:00"), instant("2026-10-26T16:00"))
    assert not is_open(salon, instant("2026-10-26T07:00"), instant("2026-10-26T08:00"))


def test_a_closure_closes_what_it_is_about(salon: TestDatabase) -> None:
    """The business, or one resource; half-open, and whether there are hours or not."""
    salon.put_closure("holiday", at(12), at(14))
    salon.put_closure("away", at(16), at(18), resource_id="chair")
    for start, end, closed in ((12, 13, True), (11, 12, False), (14, 15, False), (11, 15, True), (16, 17, False)):
        assert is_open(salon, at(start), at(end)) is not closed, (start, end)
    for start, end, closed in ((16, 17, True), (15, 16, False), (18, 19, False), (12, 13, False)):
        assert is_open(salon, at(start), at(end), "chair") is not closed, (start, end)


def test_of_many_each_is_asked_about_by_itself(salon: TestDatabase) -> None:
    """With hours and without, closed or not, the business among them: the answer has those that are open, in order."""
    for resource_id in ("away", "early", "late", "off"):
        salon.make_resource(resource_id)
    move_to(salon, "UTC")
    hours = [("early", "08:00", "12:00"), ("late", "11:00", "19:00"), ("off", "08:00", "19:00")]
    salon.put_hours(
        [(1, "09:00", "17:00")]
        + [{"weekday": 1, "opens": opens, "closes": closes, "resource_id": whose} for whose, opens, closes in hours]
    )
    salon.put_closure("trip", at(0), at(24), "away")
    salon.put_closure("day-off", at(9), at(10), "off")
    everybody = ["off", "late", "early", "chair", "away", ""]
    expected = {
        8: "chair early off",
        9: " chair early",
        11: " chair early late off",
        16: " chair late off",
        18: "chair late off",
    }
    for hour, names in expected.items():
        found = salon.value(
            "SELECT booking.open_during('salon', %s, tstzrange(%s, %s))", everybody, at(hour), at(hour + 1)
        )
        assert found == names.split(" "), hour
    assert salon.value("SELECT booking.open_during('salon', '{}', tstzrange(%s, %s))", at(9), at(10)) == []


def test_a_slot_of_any_length_is_answered_at_once(salon: TestDatabase) -> None:
    """A caller may ask for eight thousand years, under the lock of the business: nobody counts their Mondays."""
    salon.put_hours([(1, "09:00", "17:00")])
    salon.rows("SET statement_timeout = '2s'")
    far = datetime.max.replace(tzinfo=UTC)
    assert not is_open(salon, at(9), far)
    assert not is_open(salon, datetime.min.replace(tzinfo=UTC), far)
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    assert is_open(salon, at(9), far)


def test_closures_of_the_past_cost_nothing(salon: TestDatabase) -> None:
    """They are kept, and reserve asks for every slot."""
    for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_sort = off"):
        salon.rows(f"SET {setting}")
    # The planner goes on believing that there are none.
    salon.rows("ALTER TABLE booking.closures SET (autovacuum_enabled = off)")
    salon.rows("ANALYZE")

    def ask() -> object:
        return is_open(salon, at(9), at(10))

    before = reads_of(salon, ask)
    salon.rows(
        "INSERT INTO booking.closures (business_id, closure_id, during) "
        "SELECT 'salon', 'c' || n, tstzrange(%s - (n + 1) * interval '1 hour', %s - n * interval '1 hour') "
        "FROM generate_series(24, 5000) AS n",
        at(0),
        at(0),
    )
    after = reads_of(salon, ask)
    assert after.rows <= before.rows + 5
    assert after.blocks <= before.blocks + 5


# A week of half hours, so that hours begin and end within the change of the clock too.
HOURS = st.lists(
    st.tuples(st.integers(1, 7), st.integers(0, 47), st.integers(1, 48)).filter(lambda entry: entry[1] < entry[2]),
    min_size=1,
    max_size=8,
)


@example(change="Berlin, an hour back", hours=[(7, 4, 6)])
@example(change="Berlin, an hour back", hours=[(7, 2, 4)])
@example(change="Berlin, an hour forward", hours=[(7, 5, 6), (7, 6, 7)])
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=st.sampled_from(sorted(CHANGES)), hours=HOURS)
def test_it_is_open_exactly_when_the_clock_on_the_wall_says_so(
    salon: TestDatabase, change: str, hours: list[tuple[int, int, int]]
) -> None:
    """The one rule, tried on every half hour around a change of the clock: what does the clock show, is that open?"""
    timezone, day = CHANGES[change]
    move_to(salon, timezone)
    salon.put_hours([(weekday, written(opens), written(closes)) for weekday, opens, closes in hours])
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    halves = [first + n * HALF_HOUR for n in range(5 * 48)]
    found = salon.rows(
        "SELECT at, booking.open_during('salon', '{\"\"}', tstzrange(at, at + interval '30 minutes')) <> '{}', "
        "at <@ stretch.open "
        "FROM booking.open_stretches('salon', '{\"\"}', %s, %s) AS stretch, unnest(%s::timestamptz[]) AS at "
        "ORDER BY at",
        halves[0],
        halves[-1] + HALF_HOUR,
        halves,
    )
    expected = [(half, *2 * [shows_an_opening_time(half.astimezone(ZoneInfo(timezone)), hours)]) for half in halves]
    assert found == expected


def written(half_hours: int) -> str:
    """A time of day, 24:00 included."""
    return f"{half_hours // 2:02}:{half_hours % 2 * 30:02}"


def shows_an_opening_time(local: datetime, hours: list[tuple[int, int, int]]) -> bool:
    """Whether the clock shows an opening time from this instant on, for half an hour."""
    half = local.hour * 2 + local.minute // 30
    return any(weekday == local.isoweekday() and opens <= half < closes for weekday, opens, closes in hours)


@pytest.mark.parametrize("change", CHANGES)
def test_the_grid_is_what_the_clock_on_the_wall_shows(salon: TestDatabase, change: str) -> None:
    """Every 45 minutes from midnight: nothing in what the clock skips, and twice in what it repeats."""
    timezone, day = CHANGES[change]
    move_to(salon, timezone)
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    quarters = [first + n * timedelta(minutes=15) for n in range(5 * 96)]
    found = salon.rows(
        "SELECT at FROM booking.slot_grid('salon', 45, tstzrange(%s, %s)) AS at ORDER BY at",
        first,
        first + timedelta(days=5),
    )
    local = {quarter: quarter.astimezone(ZoneInfo(timezone)) for quarter in quarters}
    expected = [quarter for quarter, shown in local.items() if (shown.hour * 60 + shown.minute) % 45 == 0]
    assert [at for (at,) in found] == expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_clock_is_found_to_the_second(salon: TestDatabase, change: str) -> None:
    """One row for each offset, and between them the instant at which it changes."""
    timezone, day = CHANGES[change]
    midnight = datetime.combine(day, time(), UTC)
    phases: list[tuple[Any, ...]] = salon.rows(
        "SELECT utc_offset, lower(during), upper(during) FROM booking.clock_phases(%s, %s, %s) ORDER BY during",
        timezone,
        midnight,
        midnight + timedelta(days=1),
    )
    assert len(phases) == (1 if "no change" in change else 2)
    assert phases[0][1] is None
    assert phases[-1][2] is None
    for offset, starts, ends in phases:
        inside = ends - timedelta(seconds=1) if ends else starts or midnight
        assert inside.astimezone(ZoneInfo(timezone)).utcoffset() == offset
        if starts:
            assert starts.astimezone(ZoneInfo(timezone)).utcoffset() == offset
