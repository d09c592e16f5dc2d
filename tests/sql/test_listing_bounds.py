"""The cost of listings: rows read and statements run, whatever the step, the history and the claims of a slot."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.database import TestDatabase, at
from tests.sql.listings import availability, available_days
from tests.sql.local_slots import put_service
from tests.sql.measuring import Reads, compiled_in, reads_of, rows_returned_by, statements_of

pytestmark = pytest.mark.new_database

STAFF = ["anna", "bea", "cleo"]
WEEKDAYS = range(1, 8)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a service with a pool, and opening hours of the business and of each of the staff."""
    database.make_service(resource_ids=STAFF)
    database.rows("UPDATE booking.businesses SET timezone = 'UTC'")
    return database


def open_daily(database: TestDatabase) -> None:
    """Puts hours with a lunch break for the business, and hours for each of the staff."""
    entries = [{"weekday": day, "opens": "08:00", "closes": "12:00"} for day in WEEKDAYS]
    entries += [{"weekday": day, "opens": "13:00", "closes": "19:00"} for day in WEEKDAYS]
    entries += [
        {"weekday": day, "opens": "09:00", "closes": "18:00", "resource_id": name} for day in WEEKDAYS for name in STAFF
    ]
    assert database.put_hours(entries).name == "done"


def fill(database: TestDatabase, first_day: int, last_day: int, claimed: int = 1) -> None:
    """Counts a claim of each of the staff for every other hour of some days, without an ANALYZE afterwards."""
    database.rows(
        """
        INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed)
        SELECT 'salon', 'cut', at, at + interval '1 hour', resource_id, %s
        FROM generate_series(%s, %s - interval '1 hour', interval '2 hours') AS at
        CROSS JOIN unnest(%s::text[]) AS resource_id
        """,
        claimed,
        at(0, day=first_day),
        at(0, day=last_day),
        STAFF,
    )
    database.rows("UPDATE booking.services SET longest_occupied_seconds = 3600")
    database.rows("UPDATE booking.resources SET longest_occupied_seconds = 3600")


@pytest.fixture(autouse=True)
def forget(database: TestDatabase) -> Any:
    """Deletes the counts at the end, because they count claims that were never made."""
    yield
    database.forget_claims()


def page(database: TestDatabase, step_minutes: int, limit: int = 2000, days: int = 62) -> Callable[[], object]:
    """Returns a call that lists a page of the pool, with a given step."""
    database.put_service(slot_step_minutes=step_minutes, resource_ids=STAFF)
    return lambda: availability(database, at(0), at(0, day=days), limit=limit)


def month(database: TestDatabase, days: int = 31) -> Callable[[], object]:
    """Returns a call that counts the slots of the dates of a month."""
    return lambda: available_days(database, at(0).date(), at(0, day=days - 1).date())


def test_a_listing_reads_the_counts_of_its_time_once(salon: TestDatabase) -> None:
    """The rows read do not grow with the slots, nor with the claims of other days; no table is read as a whole."""
    fill(salon, 0, 31)
    counts = 31 * 12 * len(STAFF)

    def read(step_minutes: int) -> Reads:
        salon.put_service(slot_step_minutes=step_minutes, resource_ids=STAFF)
        return reads_of(salon, month(salon))

    coarse, fine = read(720), read(5)
    # Each count is read for the service and for its resource.
    assert fine.rows <= 2 * counts + 150
    assert abs(fine.rows - coarse.rows) < 100
    assert fine.whole_tables == coarse.whole_tables == frozenset()
    fill(salon, -60, 0)
    fill(salon, 40, 100)
    after = read(5)
    assert after.rows <= fine.rows + 100
    assert after.whole_tables == frozenset()


def test_a_page_reads_no_further_than_its_slots(salon: TestDatabase) -> None:
    """A page that is full after two days reads the counts of two days, not of 62."""
    fill(salon, 0, 62)
    two_days = 2 * 12 * len(STAFF)
    # For the service and its resources, then once more for the slots of the page.
    assert reads_of(salon, page(salon, 60, limit=1)).rows <= 3 * two_days + 150
    # One slot a day: ten are found in 14 days.
    salon.put_service(start_times=["01:00"], resource_ids=STAFF)
    reads = reads_of(salon, lambda: availability(salon, at(0), at(0, day=62), limit=10))
    assert 14 * 12 * len(STAFF) < reads.rows <= 4 * (2 + 14) * 12 * len(STAFF) + 150


def test_a_page_without_slots_reads_62_days(salon: TestDatabase) -> None:
    """Two days are looked at, then 14, then 62, and no more, however much time is asked for."""
    fill(salon, 0, 100)
    salon.put_closure("year", at(0), at(0, day=365))
    reads = reads_of(salon, page(salon, 60, days=365))
    assert reads.rows <= 2 * (2 + 14 + 62) * 12 * len(STAFF) + 150
    assert reads.whole_tables == frozenset()


@pytest.mark.parametrize("has_hours", [False, True])
def test_the_number_of_statements_is_bounded(salon: TestDatabase, has_hours: bool) -> None:
    """No statement runs for each slot, day or count: neither for pages nor for days."""
    if has_hours:
        open_daily(salon)
    few = statements_of(salon, page(salon, 720, days=62)), statements_of(salon, month(salon, 62))
    fill(salon, 0, 366)
    fine = statements_of(salon, page(salon, 5, days=62))
    # A coarse page looks at 2, 14 and 62 days, a fine one at fewer.
    assert fine <= few[0]
    assert statements_of(salon, month(salon, 62)) == few[1]
    assert statements_of(salon, month(salon, 366)) == few[1]


def test_a_class_with_many_bookings_costs_as_much_as_one_with_few(salon: TestDatabase) -> None:
    """A slot is one count, however many bookings it has."""
    salon.make_service("class", capacity=200_000)
    reads = []
    for claimed in (10, 100_000):
        salon.forget_claims()
        salon.rows(
            "INSERT INTO booking.occupancy (business_id, service_id, starts, ends, resource_id, claimed) "
            "VALUES ('salon', 'class', %s, %s, '', %s)",
            at(10),
            at(11),
            claimed,
        )
        salon.rows("UPDATE booking.services SET longest_occupied_seconds = 3600")
        reads.append(reads_of(salon, lambda: availability(salon, at(0), at(48), service_id="class")).rows)
        [slot] = availability(salon, at(10), at(11), service_id="class").body["slots"]
        assert (slot["available"], slot["max_quantity"]) == (200_000 - claimed,) * 2
    assert reads[0] == reads[1]


def test_alternatives_read_two_weeks(salon: TestDatabase) -> None:
    """A refusal reads the counts of a week before and after its slot, for any resource and for the one it names."""
    fill(salon, -100, 100)
    query = "SELECT * FROM booking.alternatives('salon', 'cut', %s, NULL, 1, 'anna')"
    reads = reads_of(salon, lambda: salon.rows(query, at(0)))
    assert reads.rows <= 4 * 15 * 12 * len(STAFF) + 150
    assert reads.whole_tables == frozenset()


def starts_of(database: TestDatabase, call: Callable[[], object]) -> int:
    """Counts the starts of the grid that a call generates."""
    with rows_returned_by(database, "listed_starts") as numbers:
        call()
    return sum(numbers)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_fine_grid_is_generated_as_far_as_it_is_needed(salon: TestDatabase, is_closed: bool) -> None:
    """Of 1440 starts a day as many as the answer counts, and none in a time that is taken or closed."""
    alternatives = "SELECT * FROM booking.alternatives('salon', 'cut', %s, NULL, 1, 'anna')"
    calls: dict[Callable[[], object], int] = {
        month(salon, 62): 100 * 63,
        page(salon, 1, limit=1): 2 * 3,
        page(salon, 1, limit=100): 101 * 3,
        # On both sides of the start, among all resources and of the requested one.
        lambda: salon.rows(alternatives, at(10)): 2 * 2 * 5 * 16,
    }
    if is_closed:
        salon.put_closure("year", at(0, day=-30), at(0, day=365))
        calls = dict.fromkeys(calls, 0)
    else:
        # Every other hour is taken, so an hour has 1 start: at its beginning.
        fill(salon, 40, 62)
    for call, most in calls.items():
        assert starts_of(salon, call) <= most


def test_slots_with_one_end_are_computed_at_once(salon: TestDatabase) -> None:
    """Slots that start at each minute and end at 11:00 have 1440 lengths; a resource is looked at once an end."""

    def computed(call: Callable[[], object]) -> tuple[int, int]:
        """Counts how often the starts of a resource are computed, and the room of slots."""
        with rows_returned_by(salon, "pool_starts") as starts:
            call()
        with rows_returned_by(salon, "room_in_windows") as rooms:
            call()
        return sum(starts) // len(STAFF), len(rooms)

    days: dict[str, Any] = {"duration_days": 1, "end_time": "11:00", "resource_ids": STAFF, "capacity": 2}
    put_service(salon, **days, slot_step_minutes=1)
    alternatives = "SELECT * FROM booking.alternatives('salon', 'cut', %s, NULL, 1, NULL)"
    # The dates that are looked at and one more, of which the page and the alternatives have one or two.
    assert computed(month(salon, 7)) == (9, 0)
    assert computed(lambda: availability(salon, at(0), at(0, day=7), limit=1)) == (3 + 1, 1)
    assert computed(lambda: availability(salon, at(0), at(0, day=7), limit=1000)) == (3 + 2, 2)
    assert computed(lambda: salon.rows(alternatives, at(12))) == (15 + 1, 1)
    # Nights have one length, and more ends.
    put_service(salon, **days, start_times=["14:00"])
    assert computed(lambda: availability(salon, at(0), at(0, day=7))) == (1 + 1 + 1, 1)


def test_hours_that_overlap_have_each_start_once(salon: TestDatabase) -> None:
    """Entries with steps in common are one row of the grid, so a hundred of them cost what one does."""
    salon.put_service(slot_step_minutes=20, resource_ids=STAFF)
    entries = [{"weekday": day, "opens": "08:00", "closes": "12:00"} for day in WEEKDAYS for _ in range(50)]
    entries += [{"weekday": day, "opens": "09:20", "closes": "19:00"} for day in WEEKDAYS]
    entries += [{"weekday": day, "opens": "08:10", "closes": "09:00"} for day in WEEKDAYS]
    assert salon.put_hours(entries).name == "done"
    grid = salon.rows(
        "SELECT opens, closes FROM booking.services s, booking.grid(s, %s, %s) ORDER BY opens",
        at(0).date(),
        at(0).date(),
    )
    monday = at(0).replace(tzinfo=None)
    expected = [((8, 0), (19, 0)), ((8, 10), (9, 0))]
    assert grid == [tuple(monday.replace(hour=hour, minute=minute) for hour, minute in row) for row in expected]


def test_no_plan_of_a_listing_is_compiled(salon: TestDatabase) -> None:
    """PostgreSQL compiles what it estimates as expensive, which would take longer than the listing itself."""
    open_daily(salon)
    fill(salon, 0, 62)
    query = "SELECT * FROM booking.alternatives('salon', 'cut', %s, NULL, 1, 'anna')"
    for call in (page(salon, 5), month(salon), lambda: salon.rows(query, at(10))):
        assert compiled_in(salon, call) == []
