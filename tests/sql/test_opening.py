"""Opening hours and closures in the local time of the business, across DST changes."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.measuring import reads_of

# Time zones and the UTC dates on which their clocks are changed.
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


def utc_instant(iso: str) -> datetime:
    """Parses an instant in UTC."""
    return datetime.fromisoformat(iso).replace(tzinfo=UTC)


def set_timezone(database: TestDatabase, timezone: str) -> None:
    """Sets the time zone of the salon."""
    database.rows("UPDATE booking.businesses SET timezone = %s", timezone)


def is_open(database: TestDatabase, start: datetime, end: datetime, owner: str = "") -> bool:
    """Returns whether a slot is within the hours, as the verbs ask: of a resource, or of the business ("")."""
    query = "SELECT booking.open_during('salon', %s::text[], tstzrange(%s, %s))"
    found: list[str] = database.value(query, [owner], start, end)
    assert found in ([], [owner])
    return found == [owner]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business in Berlin with a chair."""
    database.make_business()
    database.make_resource("chair")
    return database


def test_without_hours_it_is_always_open(salon: TestDatabase) -> None:
    """Without hours of its own, a business is always open; hours of a resource do not restrict the business."""
    assert is_open(salon, at(3), at(5000))
    found = salon.rows("SELECT whose, open::text FROM booking.open_stretches('salon', '{\"\"}', %s, %s)", at(0), at(1))
    assert found == [("", "{(,)}")]
    salon.put_hours([{"weekday": 1, "opens": "09:00", "closes": "10:00", "resource_id": "chair"}])
    assert is_open(salon, at(3), at(5000))
    assert not is_open(salon, at(3), at(4), "chair")


def test_all_of_the_slot_has_to_be_within_the_hours(salon: TestDatabase) -> None:
    """A slot may begin at the opening and end at the closing, and not a minute earlier or later."""
    salon.put_hours([(1, "09:00", "13:00"), (1, "14:00", "18:00")])
    set_timezone(salon, "UTC")
    assert is_open(salon, at(9), at(13))
    assert is_open(salon, at(14), at(18))
    for start, end in ((9 - 1 / 60, 10), (17, 18 + 1 / 60), (12, 15), (13, 14), (33, 34)):
        assert not is_open(salon, at(start), at(end)), (start, end)


def test_hours_that_touch_at_midnight_are_continuous(salon: TestDatabase) -> None:
    """24:00 is the 0:00 of the next day; seven whole days are continuous."""
    set_timezone(salon, "UTC")
    salon.put_hours([(1, "20:00", "24:00"), (2, "00:00", "04:00")])
    assert is_open(salon, at(20), at(28))
    assert not is_open(salon, at(27), at(29))
    assert not is_open(salon, at(0), at(4))
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    assert is_open(salon, at(3), at(24 * 30))


def test_hours_stay_local_across_a_dst_change(salon: TestDatabase) -> None:
    """Nine o'clock in Berlin is 7:00 UTC in summer and 8:00 UTC in winter."""
    salon.put_hours([(5, "09:00", "17:00"), (1, "09:00", "17:00")])
    assert is_open(salon, utc_instant("2026-10-23T07:00"), utc_instant("2026-10-23T15:00"))
    assert is_open(salon, utc_instant("2026-10-26T08:00"), utc_instant("2026-10-26T16:00"))
    assert not is_open(salon, utc_instant("2026-10-26T07:00"), utc_instant("2026-10-26T08:00"))


def test_a_closure_applies_to_the_business_or_to_one_resource(salon: TestDatabase) -> None:
    """Closures are half-open, and apply with and without opening hours."""
    salon.put_closure("holiday", at(12), at(14))
    salon.put_closure("away", at(16), at(18), resource_id="chair")
    for start, end, closed in ((12, 13, True), (11, 12, False), (14, 15, False), (11, 15, True), (16, 17, False)):
        assert is_open(salon, at(start), at(end)) is not closed, (start, end)
    for start, end, closed in ((16, 17, True), (15, 16, False), (18, 19, False), (12, 13, False)):
        assert is_open(salon, at(start), at(end), "chair") is not closed, (start, end)


def test_one_call_returns_those_that_are_open_in_order(salon: TestDatabase) -> None:
    """Each resource has its own hours and closures or none, and the business is among them."""
    for resource_id in ("away", "early", "late", "off"):
        salon.make_resource(resource_id)
    set_timezone(salon, "UTC")
    hours = [("early", "08:00", "12:00"), ("late", "11:00", "19:00"), ("off", "08:00", "19:00")]
    salon.put_hours(
        [(1, "09:00", "17:00")]
        + [{"weekday": 1, "opens": opens, "closes": closes, "resource_id": owner} for owner, opens, closes in hours]
    )
    salon.put_closure("trip", at(0), at(24), "away")
    salon.put_closure("day-off", at(9), at(10), "off")
    owners = ["off", "late", "early", "chair", "away", ""]
    expected = {
        8: "chair early off",
        9: " chair early",
        11: " chair early late off",
        16: " chair late off",
        18: "chair late off",
    }
    for hour, names in expected.items():
        found = salon.value(
            "SELECT booking.open_during('salon', %s, tstzrange(%s, %s))", owners, at(hour), at(hour + 1)
        )
        assert found == names.split(" "), hour
    assert salon.value("SELECT booking.open_during('salon', '{}', tstzrange(%s, %s))", at(9), at(10)) == []


def test_the_cost_does_not_grow_with_the_length_of_the_slot(salon: TestDatabase) -> None:
    """A request may ask for thousands of years under the lock of the business, whose weeks must not be enumerated."""
    salon.put_hours([(1, "09:00", "17:00")])
    salon.rows("SET statement_timeout = '2s'")
    far = datetime.max.replace(tzinfo=UTC)
    assert not is_open(salon, at(9), far)
    assert not is_open(salon, datetime.min.replace(tzinfo=UTC), far)
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    assert is_open(salon, at(9), far)


def test_past_closures_add_no_cost(salon: TestDatabase) -> None:
    """Closures are never deleted by time, and reserve reads them for every slot."""
    for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_sort = off"):
        salon.rows(f"SET {setting}")
    # Without autovacuum, the planner keeps the statistics of an empty table.
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


# Half hours of a week, so that hours also begin and end within a change of the clock.
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
def test_a_business_is_open_exactly_when_its_local_time_is_within_its_hours(
    salon: TestDatabase, change: str, hours: list[tuple[int, int, int]]
) -> None:
    """Every half hour around a change of the clock is compared with its local time."""
    timezone, day = CHANGES[change]
    set_timezone(salon, timezone)
    salon.put_hours([(weekday, iso(opens), iso(closes)) for weekday, opens, closes in hours])
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
    expected = [(half, *2 * [is_within_hours(half.astimezone(ZoneInfo(timezone)), hours)]) for half in halves]
    assert found == expected


def iso(half_hours: int) -> str:
    """Formats a number of half hours as a time of day, up to 24:00."""
    return f"{half_hours // 2:02}:{half_hours % 2 * 30:02}"


def is_within_hours(local: datetime, hours: list[tuple[int, int, int]]) -> bool:
    """Returns whether the half hour that begins at a local time is within the hours."""
    half = local.hour * 2 + local.minute // 30
    return any(weekday == local.isoweekday() and opens <= half < closes for weekday, opens, closes in hours)


@pytest.mark.parametrize("change", CHANGES)
def test_the_grid_of_slots_follows_local_time(salon: TestDatabase, change: str) -> None:
    """The grid has a start every 45 minutes of local time: none in a skipped hour, and two in a repeated one."""
    timezone, day = CHANGES[change]
    set_timezone(salon, timezone)
    first = datetime.combine(day, time(), UTC) - timedelta(days=2)
    quarters = [first + n * timedelta(minutes=15) for n in range(5 * 96)]
    found = salon.rows(
        "SELECT at FROM booking.slot_grid('salon', 45, tstzrange(%s, %s)) AS at ORDER BY at",
        first,
        first + timedelta(days=5),
    )
    local = {quarter: quarter.astimezone(ZoneInfo(timezone)) for quarter in quarters}
    expected = [
        quarter for quarter, local_time in local.items() if (local_time.hour * 60 + local_time.minute) % 45 == 0
    ]
    assert [at for (at,) in found] == expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_clock_is_found_to_the_second(salon: TestDatabase, change: str) -> None:
    """There is one row for each offset, and they meet at the instant of the change."""
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
