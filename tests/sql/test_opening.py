"""Opening hours and closures in the local time of the business, across DST changes."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.local_slots import CHANGES, as_in_the_verbs, put_special_hours, set_timezone
from tests.sql.measuring import reads_of
from tests.sql.random_examples import random_examples

HALF_HOUR = timedelta(minutes=30)


def utc_instant(iso: str) -> datetime:
    """Parses an instant in UTC."""
    return datetime.fromisoformat(iso).replace(tzinfo=UTC)


def is_open(
    database: TestDatabase, start: datetime, end: datetime, owner: str = "", *, apply: str = "throughout"
) -> bool:
    """Returns whether hours permit a slot, as the verbs ask: of a resource, or of the business ("")."""
    query = "SELECT booking.open_during('salon', %s::text[], tstzrange(%s, %s), %s)"
    found: list[str] = database.value(query, [owner], start, end, apply)
    assert found in ([], [owner])
    return found == [owner]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business in Berlin with a chair."""
    as_in_the_verbs(database)
    database.make_business()
    database.make_resource("chair")
    return database


def test_without_hours_it_is_always_open(salon: TestDatabase) -> None:
    """Without hours of its own, a business is always open; hours of a resource do not restrict the business."""
    assert is_open(salon, at(3), at(5000))
    query = "SELECT owner_id, hours::text, closed::text FROM booking.open_periods('salon', '{\"\"}', tstzrange(%s, %s))"
    assert salon.rows(query, at(0), at(1)) == [("", "{(,)}", "{}")]
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


def test_a_slot_may_span_a_clock_that_is_set_back_to_the_date_before(salon: TestDatabase) -> None:
    """In Casey, Friday 02:00 became Thursday 23:00: a slot that begins on Friday ends within Thursday's hours."""
    set_timezone(salon, "Antarctica/Casey")
    start = utc_instant("2010-03-04T14:30")
    friday, thursday = (5, "01:30", "02:00"), (4, "23:00", "23:15")
    for hours, expected in (([friday, thursday], True), ([friday], False), ([thursday], False)):
        salon.put_hours(hours)
        for apply in ("throughout", "ends"):
            assert is_open(salon, start, start + timedelta(minutes=45), apply=apply) is expected, (hours, apply)


def test_a_closure_applies_to_the_business_or_to_one_resource(salon: TestDatabase) -> None:
    """Closures are half-open, apply with and without opening hours, and concern no other business."""
    salon.put_closure("holiday", at(12), at(14))
    salon.put_closure("away", at(16), at(18), resource_id="chair")
    salon.make_resource("chair", business_id="clinic")
    for closure_id, resource_id in (("holiday", None), ("away", "chair")):
        salon.put_closure(closure_id, at(0), at(24), resource_id, business_id="clinic")
    for start, end, closed in ((12, 13, True), (11, 12, False), (14, 15, False), (11, 15, True), (16, 17, False)):
        assert is_open(salon, at(start), at(end)) is not closed, (start, end)
    for start, end, closed in ((16, 17, True), (15, 16, False), (18, 19, False), (12, 13, False)):
        assert is_open(salon, at(start), at(end), "chair") is not closed, (start, end)


def test_hours_of_another_business_do_not_apply(salon: TestDatabase) -> None:
    """Neither its weekly nor its special hours: it is open all Monday, and by special hours all Tuesday."""
    salon.make_business("clinic")
    salon.put_hours([(weekday, "09:00", "17:00") for weekday in (1, 2)])
    salon.put_hours([(1, "00:00", "24:00")], business_id="clinic")
    put_special_hours(salon, at(24).date(), [("00:00", "24:00")], business_id="clinic")
    for day in (0, 1):
        slots = [(at(hour, day=day), at(hour + 1, day=day)) for hour in (3, 12, 20)]
        assert [is_open(salon, *slot) for slot in slots] == [False, True, False]


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
            "SELECT booking.open_during('salon', %s, tstzrange(%s, %s), 'throughout')", owners, at(hour), at(hour + 1)
        )
        assert found == names.split(" "), hour
    query = "SELECT booking.open_during('salon', '{}', tstzrange(%s, %s), 'throughout')"
    assert salon.value(query, at(9), at(10)) == []


def test_hours_apply_to_the_ends_or_throughout(salon: TestDatabase) -> None:
    """A night starts at [opens, closes) of one opening and ends at [opens, closes] of another, or of the same one."""
    set_timezone(salon, "UTC")
    salon.put_hours([(1, "09:00", "12:00"), (1, "14:00", "18:00"), (2, "08:00", "11:00")])
    for start, end, expected in (
        (9, 12, True),
        (9, 13, False),
        (9, 14, True),
        (11.5, 18, True),
        (12, 15, False),
        (8.5, 12, False),
        (17.5, 24 + 8, True),
        (18, 24 + 9, False),
        (14, 24 + 11, True),
        (14, 24 + 11.5, False),
        (14, 24 + 7.5, False),
    ):
        assert is_open(salon, at(start), at(end), apply="ends") is expected, (start, end)
        assert is_open(salon, at(start), at(end, day=14), apply="ends") is expected, (start, end, "two weeks later")
        assert is_open(salon, at(start), at(end)) is (expected and end == 12), (start, end)


def test_a_closure_bars_a_slot_that_it_overlaps_however_hours_apply(salon: TestDatabase) -> None:
    """A closure in the middle of a stay bars it, though the hours in the middle are not asked for."""
    set_timezone(salon, "UTC")
    salon.put_hours([(weekday, "08:00", "12:00") for weekday in range(1, 8)])
    assert is_open(salon, at(9), at(24 * 3 + 9), apply="ends")
    salon.put_closure("repairs", at(36), at(37))
    assert not is_open(salon, at(9), at(24 * 3 + 9), apply="ends")
    assert is_open(salon, at(9), at(36), apply="ends")
    assert is_open(salon, at(48 + 8), at(24 * 3 + 9), apply="ends")


def test_special_hours_replace_the_week_on_their_dates(salon: TestDatabase) -> None:
    """Both dates are included, an empty list closes, and hours on either side of a midnight are one period."""
    set_timezone(salon, "UTC")
    salon.put_hours([(weekday, "09:00", "17:00") for weekday in range(1, 7)] + [(2, "00:00", "02:00")])
    put_special_hours(salon, at(0).date(), [("20:00", "24:00")])
    put_special_hours(salon, at(48).date(), [], until=at(72).date())
    put_special_hours(salon, at(0, day=6).date(), [("10:00", "12:00"), ("13:00", "15:00")])
    assert not is_open(salon, at(9), at(10))
    assert is_open(salon, at(20), at(26))
    assert is_open(salon, at(24 + 9), at(24 + 17))
    for day, expected in ((2, False), (3, False), (4, True)):
        assert is_open(salon, at(9, day=day), at(10, day=day)) is expected
    for hour, expected in ((9, False), (10, True), (12, False), (13, True)):
        assert is_open(salon, at(hour, day=6), at(hour + 1, day=6)) is expected
    assert not is_open(salon, at(9, day=13), at(10, day=13))


def test_special_hours_apply_where_there_are_no_weekly_ones(salon: TestDatabase) -> None:
    """An owner without weekly hours is open all day on the other dates. A resource's hours are its own."""
    set_timezone(salon, "UTC")
    put_special_hours(salon, at(0).date(), [("10:00", "12:00")], owner="chair")
    for start, end, expected in ((-5, 0, True), (9, 11, False), (10, 12, True), (11, 13, False), (24, 60, True)):
        assert is_open(salon, at(start), at(end), "chair") is expected, (start, end)
        assert is_open(salon, at(start), at(end))


def test_special_hours_are_on_dates_of_the_business(salon: TestDatabase) -> None:
    """A date in Kiritimati begins 14 hours before that of UTC, and one in Pago Pago 11 hours after it."""
    put_special_hours(salon, at(0).date(), [])
    for timezone, begins in (("Pacific/Kiritimati", -14), ("Pacific/Pago_Pago", 11), ("UTC", 0)):
        set_timezone(salon, timezone)
        for hour, expected in ((-1, True), (0, False), (23, False), (24, True)):
            assert is_open(salon, at(begins + hour), at(begins + hour + 1)) is expected, (timezone, hour)


def test_hours_in_an_unknown_time_zone_are_neither_open_nor_closed(salon: TestDatabase) -> None:
    """The answer is NULL, and no error. Owners without hours and closures do not depend on the time zone."""
    set_timezone(salon, "Mars/Olympus")
    query = "SELECT booking.open_during('salon', %s, tstzrange(%s, %s), %s)"
    salon.put_closure("holiday", at(12), at(14))
    assert is_open(salon, at(9), at(10))
    assert not is_open(salon, at(12), at(13))
    salon.put_hours([{"weekday": 1, "opens": "09:00", "closes": "10:00", "resource_id": "chair"}])
    for apply in ("throughout", "ends"):
        assert salon.value(query, ["", "chair"], at(9), at(10), apply) is None
        assert salon.value(query, [""], at(9), at(10), apply) == [""]
    set_timezone(salon, "UTC")
    assert salon.value(query, ["", "chair"], at(9), at(10), "throughout") == ["", "chair"]


@pytest.mark.new_database
def test_the_cost_of_a_stay_does_not_grow_with_its_length(salon: TestDatabase) -> None:
    """Only the hours at its ends are read, of however many dates there are special ones."""
    salon.put_hours([(weekday, "09:00", "17:00") for weekday in range(1, 8)])

    def read_rows(days: int) -> int:
        return reads_of(salon, lambda: is_open(salon, at(10), at(11, day=days), apply="ends")).rows

    night, year = read_rows(1), read_rows(366)
    assert read_rows(8) == year <= 2 * night
    for day in range(400):
        put_special_hours(salon, at(10, day=day).date(), [("09:00", "17:00")])
    # The special hours of the first and the last date, each with its neighbours.
    assert read_rows(366) <= year + 20
    assert read_rows(1) <= night + 20


@pytest.mark.new_database
def test_past_closures_add_no_cost(salon: TestDatabase) -> None:
    """Closures are never deleted by time, and reserve reads them for every slot."""
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


@random_examples(60, change=st.sampled_from(sorted(CHANGES)), hours=HOURS)
@example(change="Casey, three hours back over midnight", hours=[(4, 46, 48)])
@example(change="Casey, three hours back over midnight", hours=[(5, 0, 4)])
@example(change="Berlin, an hour back", hours=[(7, 4, 6)])
@example(change="Berlin, an hour back", hours=[(7, 2, 4)])
@example(change="Berlin, an hour forward", hours=[(7, 5, 6), (7, 6, 7)])
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
        "SELECT at, booking.open_during('salon', '{\"\"}', tstzrange(at, at + interval '30 minutes'), apply) <> '{}', "
        "at <@ period.hours "
        "FROM booking.open_periods('salon', '{\"\"}', tstzrange(%s, %s)) AS period, unnest(%s::timestamptz[]) AS at, "
        "unnest(ARRAY['throughout', 'ends']) AS apply ORDER BY at",
        halves[0],
        halves[-1] + HALF_HOUR,
        halves,
    )
    expected = [(half, *2 * [is_within_hours(half.astimezone(ZoneInfo(timezone)), hours)]) for half in halves]
    expected = [row for row in expected for _ in ("throughout", "ends")]
    assert found == expected


def iso(half_hours: int) -> str:
    """Formats a number of half hours as a time of day, up to 24:00."""
    return f"{half_hours // 2:02}:{half_hours % 2 * 30:02}"


def is_within_hours(local: datetime, hours: list[tuple[int, int, int]]) -> bool:
    """Returns whether the half hour that begins at a local time is within the hours."""
    half = local.hour * 2 + local.minute // 30
    return any(weekday == local.isoweekday() and opens <= half < closes for weekday, opens, closes in hours)
