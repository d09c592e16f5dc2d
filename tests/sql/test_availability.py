"""Listed slots, the alternatives to a refused slot, and the cost of both."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.listings import availability, hour_of_iso
from tests.sql.random_examples import random_examples

STAFF = ["anna", "bea"]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Returns a database with a business."""
    database.make_business()
    return database


def make_service(database: TestDatabase, service_id: str = "cut", timezone: str = "UTC", **settings: Any) -> None:
    """Makes a service of the salon, and sets the time zone of the salon, by default to UTC."""
    database.make_service(service_id, **settings)
    database.rows("UPDATE booking.businesses SET timezone = %s", timezone)


def listing(
    database: TestDatabase,
    start: float = 8,
    end: float = 12,
    *,
    service_id: str = "cut",
    quantity: int = 1,
    resource_id: str | None = None,
) -> list[tuple[float, int, list[str]]]:
    """Lists the slots that start between two hours of the Monday of the tests: (hour, available, resource ids)."""
    outcome = availability(
        database, at(start), at(end), service_id=service_id, quantity=quantity, resource_id=resource_id
    )
    assert outcome.name == "done", outcome
    slots = outcome.body["slots"]
    return [(hour_of_iso(slot["slot_start"]), slot["available"], slot["resource_ids"]) for slot in slots]


def hours(database: TestDatabase, *arguments: float, **options: Any) -> list[float]:
    """Returns the hours at which the slots of a listing start."""
    return [hour for hour, _, _ in listing(database, *arguments, **options)]


def alternatives(
    database: TestDatabase,
    start: datetime,
    end: datetime | None = None,
    *,
    service_id: str = "cut",
    quantity: int = 1,
    resource_id: str | None = None,
) -> list[tuple[float, float, list[str]]]:
    """Returns the alternatives: (start, end, resource ids), in hours of the Monday of the tests."""
    rows = database.rows(
        "SELECT * FROM booking.alternatives('salon', %s, %s, %s, %s, %s, NULL)",
        service_id,
        start,
        end,
        quantity,
        resource_id,
    )
    hour = timedelta(hours=1)
    return [((starts - at(0)) / hour, (ends - at(0)) / hour, resource_ids) for starts, ends, resource_ids in rows]


def test_slots_begin_at_each_step_from_midnight(salon: TestDatabase) -> None:
    """Slots are listed from the first instant of the range up to its end, each as long as the service."""
    make_service(salon, slot_step_minutes=45, duration_minutes=90, capacity=3)
    assert listing(salon, 8.25, 10.5) == [(8.25, 3, []), (9.0, 3, []), (9.75, 3, [])]
    slot = availability(salon, at(9), at(9.5)).body["slots"][0]
    assert slot["slot_end"] == slot["slot_start"].replace("T09:00", "T10:30")
    make_service(salon, slot_step_minutes=2000)
    assert hours(salon, 1, 49) == [24.0, 48.0]


def test_full_slots_are_not_listed(salon: TestDatabase) -> None:
    """Slots with less room than the quantity are not listed; an expired hold takes no room, though no purge ran."""
    make_service(salon, capacity=3)
    salon.reserve(9, quantity=3, ttl_minutes=5)
    salon.commit(salon.reserve(10, quantity=2).id)
    assert listing(salon) == [(8.0, 3, []), (10.0, 1, []), (11.0, 3, [])]
    assert hours(salon, quantity=2) == [8.0, 11.0]
    assert hours(salon, quantity=4) == []
    salon.move_clock(timedelta(minutes=5))
    assert listing(salon, 9, 10) == [(9.0, 3, [])]


def test_claims_one_after_the_other_take_one_unit(salon: TestDatabase) -> None:
    """The peak decides: a slot of two hours over two claims of an hour each has room for one more."""
    make_service(salon, capacity=2, duration_minutes=120, slot_step_minutes=60)
    salon.reserve(9)
    salon.reserve(10)
    assert listing(salon, 8, 12) == [(8.0, 1, []), (9.0, 1, []), (10.0, 1, []), (11.0, 2, [])]
    salon.reserve(10.5, 0.5)
    assert hours(salon, 8, 12) == [8.0, 11.0]


def test_slots_whose_buffers_overlap_a_claim_are_not_listed(salon: TestDatabase) -> None:
    """The buffers of the listed slot are kept free, and the buffers that the claims were made with."""
    make_service(salon, buffer_after_minutes=30, slot_step_minutes=30)
    salon.reserve(10)
    assert hours(salon, 8, 12.5) == [8.0, 8.5, 11.5, 12.0]


def test_slots_that_the_public_cant_book_are_not_listed(salon: TestDatabase) -> None:
    """Slots in the past, too soon, too far ahead, outside the hours or of an offline service are not listed."""
    make_service(salon, min_notice_minutes=60, max_advance_days=1)
    salon.freeze_clock(at(9))
    assert hours(salon, 0, 48)[0] == 10.0
    assert hours(salon, 0, 48)[-1] == 33.0
    salon.put_hours([(1, "11:00", "14:00"), (1, "14:00", "16:00")])
    salon.put_closure("lunch", at(13), at(13.5))
    assert hours(salon, 0, 48) == [11.0, 12.0, 14.0, 15.0]
    make_service(salon, booking_enabled=False)
    assert hours(salon, 0, 48) == []
    make_service(salon, min_notice_minutes=1441, max_advance_days=1)
    assert hours(salon, 0, 48) == []


def test_a_slot_of_a_pool_is_listed_with_its_free_resources(salon: TestDatabase) -> None:
    """A resource that is claimed through another service is left out, and so are archived, offline and absent ones."""
    make_service(salon, resource_ids=STAFF, max_simultaneous_bookings=None)
    make_service(salon, "perm", resource_ids=["bea", "cleo"], max_simultaneous_bookings=None)
    salon.reserve(9, service_id="perm", resource_id="bea")
    salon.put_closure("away", at(10), at(11), resource_id="anna")
    assert listing(salon, 8, 11) == [(8.0, 2, STAFF), (9.0, 1, ["anna"]), (10.0, 1, ["bea"])]
    assert listing(salon, 8, 11, resource_id="bea") == [(8.0, 1, ["bea"]), (10.0, 1, ["bea"])]
    salon.rows("UPDATE booking.resources SET booking_enabled = false WHERE resource_id = 'anna'")
    salon.rows("UPDATE booking.resources SET archived_at = booking.now() WHERE resource_id = 'bea'")
    assert listing(salon) == []
    assert listing(salon, resource_id="anna") == []


def test_a_capacity_below_the_pool_limits_the_listing(salon: TestDatabase) -> None:
    """Two resources are free, but the capacity of the service is one."""
    make_service(salon, resource_ids=STAFF, capacity=1)
    assert listing(salon, 8, 9) == [(8.0, 1, STAFF)]
    salon.reserve(8)
    assert listing(salon, 8, 9) == []


def test_a_listing_that_is_not_possible_is_refused(salon: TestDatabase) -> None:
    """An unknown service or resource is refused, and so is a quantity above the seats of each resource."""
    make_service(salon, resource_ids=STAFF)
    make_service(salon, "class", capacity=3)

    def outcome(service_id: str, quantity: int = 1, resource_id: str | None = None) -> str:
        return availability(salon, at(8), at(9), service_id=service_id, quantity=quantity, resource_id=resource_id).name

    assert outcome("perm") == "service_not_found"
    assert outcome("cut", resource_id="cleo") == "resource_not_found"
    assert outcome("class", resource_id="anna") == "resource_not_found"
    assert outcome("cut", quantity=2) == "validation_failed"
    salon.rows("UPDATE booking.resources SET archived_at = booking.now() WHERE resource_id = 'bea'")
    assert outcome("cut", resource_id="bea") == "resource_not_found"
    assert outcome("class", quantity=3) == "done"


def test_claims_from_before_the_pool_are_counted(salon: TestDatabase) -> None:
    """They have no resource, and take seats of a service that has as many as its pool."""
    make_service(salon)
    salon.book(9)
    make_service(salon, resource_ids=["anna"], max_simultaneous_bookings=None)
    assert hours(salon, 8, 11) == [8.0, 10.0]


def test_a_session_of_another_service_takes_the_resource(salon: TestDatabase) -> None:
    """It has free seats, in the same window, but not for guests of this service."""
    salon.make_resource("hall", seats=5)
    shared: dict[str, Any] = {"resource_sharing": "session", "max_simultaneous_bookings": None}
    for service_id in ("cut", "perm"):
        make_service(salon, service_id, resource_ids=["hall"], **shared)
    salon.reserve(9, service_id="perm")
    assert hours(salon, 8, 11) == [8.0, 10.0]


def test_available_is_at_most_the_number_of_free_resources(salon: TestDatabase) -> None:
    """booking.capacity() also counts only the resources that are free in the slot."""
    make_service(salon, resource_ids=STAFF)
    make_service(salon, "perm", resource_ids=["bea"])
    assert salon.capacity(9)["available"] == 2
    salon.reserve(9, service_id="perm")
    assert salon.capacity(9) == {"capacity": 2, "held": 0, "booked": 0, "available": 1}
    salon.put_closure("away", at(9), at(10), resource_id="anna")
    assert salon.capacity(9)["available"] == 0


def test_the_nearest_slots_are_offered_as_alternatives(salon: TestDatabase) -> None:
    """At most five slots of the requested length, before and after; of two equally near ones, the earlier first."""
    make_service(salon, capacity=2)
    salon.reserve(10, 2, quantity=2)
    assert alternatives(salon, at(10)) == [(9, 10, []), (8, 9, []), (12, 13, []), (7, 8, []), (13, 14, [])]
    assert alternatives(salon, at(10), at(12))[:3] == [(8, 10, []), (12, 14, []), (7, 9, [])]
    salon.reserve(9)
    assert alternatives(salon, at(10), quantity=2)[:2] == [(8, 9, []), (12, 13, [])]


def test_alternatives_are_within_a_week_and_bookable(salon: TestDatabase) -> None:
    """There may be no alternative at all, also because the service is unknown or no slot can be that long."""
    make_service(salon, max_duration_minutes=300)
    salon.put_hours([(1, "10:00", "12:00")])
    salon.commit(salon.reserve(10).id)
    week = 7 * 24
    assert [hour for hour, _, _ in alternatives(salon, at(10))] == [11, 11 - week, 10 - week, 10 + week]
    salon.freeze_clock(at(9))
    assert alternatives(salon, at(10)) == [(11, 12, []), (10 + week, 11 + week, [])]
    assert alternatives(salon, at(10), at(16)) == []
    assert alternatives(salon, at(10), service_id="perm") == []
    assert alternatives(salon, at(10), quantity=2) == []


def test_the_same_time_with_another_resource_is_offered_first(salon: TestDatabase) -> None:
    """Then come the times at which the named resource is free, the nearest first, and then any others."""
    make_service(salon, resource_ids=[*STAFF, "cleo"])
    salon.put_hours([(1, "08:00", "12:00")])
    for hour in (9, 10):
        salon.reserve(hour, resource_id="anna")
    salon.reserve(10, resource_id="bea")
    offered = alternatives(salon, at(10), resource_id="anna")
    all_resources = [*STAFF, "cleo"]
    week = 7 * 24
    assert offered[:3] == [(10, 11, ["cleo"]), (11, 12, all_resources), (8, 9, all_resources)]
    assert [hour for hour, _, _ in offered[3:]] == [8 + week, 11 - week]
    salon.put_closure("away", at(0, day=-8), at(0, day=8), resource_id="anna")
    assert [hour for hour, _, _ in alternatives(salon, at(10), resource_id="anna")] == [10, 9, 11, 8, 8 + week]


@pytest.mark.parametrize(("starts_on_grid", "nearest"), [(False, [10.5, 10, 11]), (True, [10, 11, 9])])
def test_the_same_time_is_offered_only_if_the_public_can_book_it(
    salon: TestDatabase, starts_on_grid: bool, nearest: list[float]
) -> None:
    """The business itself may book between two steps, where no guest of a service on a grid may."""
    make_service(salon, resource_ids=STAFF, starts_on_grid=starts_on_grid)
    salon.put_hours([(1, "09:00", "12:00")])
    assert salon.book(10.5, 0.5, resource_id="anna", manual=True).name == "done"
    offered = [hour for hour, _, _ in alternatives(salon, at(10.5), at(11))]
    assert offered[:3] == nearest


def test_the_named_resource_is_offered_whatever_the_size_of_its_pool(salon: TestDatabase) -> None:
    """A slot lists 50 resources at most, and the named one first of them."""
    rooms = [f"room-{number}" for number in range(100, 152)]
    make_service(salon, resource_ids=rooms)
    for hour in (8, 9, 10, 11):
        salon.reserve(hour, resource_id=rooms[-1])
    offered = alternatives(salon, at(10), resource_id=rooms[-1])
    assert [hour for hour, _, _ in offered] == [10, 12, 7, 13, 6]
    assert offered[0][2] == rooms[:50]
    assert offered[1][2] == [rooms[-1], *rooms[:49]]


WINDOWS = st.lists(st.integers(min_value=0, max_value=60), min_size=1, max_size=30, unique=True)
CLAIMS = st.lists(
    st.tuples(st.integers(min_value=0, max_value=60), st.integers(min_value=1, max_value=20), st.integers(1, 3)),
    max_size=15,
)


@random_examples(60, starts=WINDOWS, length=st.integers(min_value=1, max_value=25), claims=CLAIMS)
def test_many_windows_have_the_peaks_that_each_has_by_itself(
    salon: TestDatabase, starts: list[int], length: int, claims: list[tuple[int, int, int]]
) -> None:
    """The sweep over all windows is compared with booking.peak, which decides a single window."""
    salon.forget_claims()
    salon.put_service(capacity=1000)
    for hour, size, quantity in claims:
        salon.reserve(hour, size, quantity=quantity)
    compared = salon.rows(
        """
        SELECT s.max_simultaneous_bookings - peak.room, one.claimed
        FROM booking.services s
        CROSS JOIN booking.room_in_windows(s, ARRAY(
          SELECT tstzrange(at, at + %s * interval '1 hour') FROM unnest(%s::timestamptz[]) AS at
        ), booking.now(), NULL) AS peak
        CROSS JOIN LATERAL booking.peak(
          s.business_id, s.service_id, s.longest_occupied_seconds, NULL, greatest(lower(peak.during), booking.now()),
          upper(peak.during), NULL, booking.now(), 0) AS one (claimed)
        WHERE s.service_id = 'cut'
        """,
        length,
        [at(start) for start in starts],
    )
    assert len(compared) == len(starts)
    assert [row for row in compared if row[0] != row[1]] == []
