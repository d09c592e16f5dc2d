"""Work is spread over equal resources: by the local week, then the day, then the one assigned longest ago."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.database import Outcome, TestDatabase, reserve_request
from tests.sql.catalog import delete_resource, put_seats
from tests.sql.random_examples import random_examples
from tests.sql.requests import MAKE_REQUEST, granted_resources, names

THREE = ["anna", "bert", "cleo"]
DAY, WEEK = 24, 7 * 24


def resource_of(database: TestDatabase, hour: float, **request: Any) -> str:
    """Reserves any resource at an hour, and returns the one that was given."""
    given: str = database.reserve(hour, **request).body["resource_id"]
    return given


# The order.


def test_work_is_spread_over_the_resources(database: TestDatabase) -> None:
    """The resource with the fewest claims comes first, and of equals the one that was assigned longest ago."""
    database.make_service(resource_ids=["cleo", "anna", "bert"])
    assert [resource_of(database, 8 + hour) for hour in range(4)] == ["anna", "bert", "cleo", "anna"]
    database.reserve(15, resource_id="bert")
    database.reserve(16, resource_id="bert")
    assert [resource_of(database, hour) for hour in (17, 18, 19)] == ["cleo", "anna", "cleo"]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_one_booking_a_day_is_spread_over_the_week(database: TestDatabase, verb: str) -> None:
    """Each day has room for every resource, and none of them works twice before the others have worked."""
    database.make_service(resource_ids=THREE)
    make = MAKE_REQUEST[verb]
    given = [granted_resources(database.call(verb, [make(day * DAY + 10)]))[0] for day in range(6)]
    assert given == THREE * 2


def test_one_booking_a_week_is_spread_by_the_last_assignment(database: TestDatabase) -> None:
    """In each week all are equal, so that the order in which they were assigned decides, whatever the weeks."""
    database.make_service(resource_ids=THREE)
    assert [resource_of(database, week * WEEK + 10) for week in (3, 0, 5, 1, 4, 2)] == THREE * 2


def test_the_week_comes_before_the_day(database: TestDatabase) -> None:
    """Two claims on other days of the week outweigh one on this day."""
    database.make_service(resource_ids=["anna", "bert"])
    for day in (1, 2):
        database.reserve(day * DAY + 8, resource_id="anna")
    database.reserve(3 * DAY + 8, resource_id="bert")
    assert resource_of(database, 3 * DAY + 10) == "bert"


def test_the_day_decides_between_equals_of_the_week(database: TestDatabase) -> None:
    """Bert was assigned later, and is given all the same because Anna works on this day already."""
    database.make_service(resource_ids=["anna", "bert"])
    database.reserve(8, resource_id="anna")
    database.reserve(DAY + 8, resource_id="bert")
    assert resource_of(database, 12) == "bert"


def test_the_last_assignment_decides_between_equals_of_the_day(database: TestDatabase) -> None:
    """The assignment by name counts too, also in another week; a clock that is set back does not change the order."""
    database.make_service(resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    database.reserve(2 * WEEK, resource_id="anna")
    assert resource_of(database, 10) == "bert"
    database.freeze_clock(now - timedelta(hours=1))
    assert [resource_of(database, week * WEEK) for week in (3, 4, 5, 6)] == ["anna", "bert"] * 2


def test_a_smaller_resource_comes_before_less_work(database: TestDatabase) -> None:
    """A large table stays free for a large party, however often the small one was taken."""
    database.make_business()
    for resource_id, seats in (("large", 6), ("small", 2), ("tiny", 2)):
        put_seats(database, resource_id, seats)
    database.make_service(resource_ids=["large", "small", "tiny"], max_simultaneous_bookings=None)
    assert [resource_of(database, hour, quantity=2) for hour in (8, 10, 12, 14)] == ["small", "tiny"] * 2
    assert resource_of(database, 16, quantity=3) == "large"


def test_expired_released_and_cancelled_claims_do_not_count_as_work(database: TestDatabase) -> None:
    """Live holds and confirmed appointments count, of whichever service."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    database.book(11, service_id="perm", resource_id="bert")
    now += timedelta(minutes=1)
    database.freeze_clock(now)
    database.reserve(8, resource_id="anna", ttl_minutes=1)
    database.release(database.reserve(9, resource_id="anna").id)
    cancelled = database.book(10, resource_id="anna").id
    database.change(cancelled, action="cancel")
    database.freeze_clock(now + timedelta(minutes=1))
    assert resource_of(database, 14) == "anna"


def test_a_session_counts_once(database: TestDatabase) -> None:
    """A class of many guests is one piece of work."""
    database.make_business()
    for resource_id in ("anna", "bert"):
        put_seats(database, resource_id, 5)
    shared: dict[str, Any] = {"resource_sharing": "session", "max_simultaneous_bookings": None}
    database.make_service("yoga", resource_ids=["anna", "bert"], **shared)
    for _ in range(4):
        assert resource_of(database, 8, service_id="yoga") == "anna"
    database.reserve(DAY + 8, service_id="yoga", resource_id="bert")
    database.reserve(DAY + 10, service_id="yoga", resource_id="bert")
    assert resource_of(database, 12, service_id="yoga") == "anna"


def test_businesses_of_a_call_are_spread_by_their_own_work(database: TestDatabase) -> None:
    """Resources of another business may have the same ids."""
    batches = []
    for business_id in ("clinic", "salon"):
        database.make_service(business_id=business_id, resource_ids=["anna", "bert"])
        batches.append(Jsonb({"reserve": [reserve_request(10)]}))
    given = database.rows(
        "SELECT body ->> 'resource_id' FROM booking.execute('{clinic,salon}', %s, 'infinity')", batches
    )
    assert given == [("anna",)] * 2


def test_a_resource_that_was_archived_is_not_tried(database: TestDatabase) -> None:
    """It has the least work, and is not in the pool."""
    database.make_service(resource_ids=THREE)
    delete_resource(database, "anna")
    assert [resource_of(database, hour) for hour in (8, 9, 10)] == ["bert", "cleo", "bert"]


# Local time.


def test_the_week_and_the_day_are_local_to_the_business(database: TestDatabase) -> None:
    """In winter, Monday in Berlin begins on Sunday at 23:00 UTC; claims around it are another week's work."""
    database.make_service(resource_ids=["anna", "bert"])
    winter = datetime(datetime.now(UTC).year + 1, 1, 12, tzinfo=UTC)
    monday = winter - timedelta(days=winter.weekday())

    def book(hour: float, resource_id: str | None = None) -> str:
        start = monday + timedelta(hours=hour)
        outcome = database.book(
            slot_start=start.isoformat(), slot_end=(start + timedelta(hours=1)).isoformat(), resource_id=resource_id
        )
        given: str = outcome.body["resource_id"]
        return given

    for hour in (20, 21, 22):  # the evening of Sunday, and of the next Sunday after midnight in Berlin
        book(hour - DAY, "anna")
        book(WEEK + hour - 21, "anna")
    book(12, "bert")
    assert book(14) == "anna"
    book(-1, "anna")  # Monday, 00:00 in Berlin
    assert book(16) == "bert"
    assert book(WEEK - 2) == "anna"  # two each: Bert was assigned last; Sunday, 23:00 in Berlin
    book(2 * WEEK + 12, "bert")
    book(2 * WEEK + DAY + 12, "anna")
    book(2 * WEEK - 36, "anna")
    assert book(2 * WEEK - 1) == "anna"  # one each in its week, but Bert works on its day: Monday, 00:00 in Berlin


def test_work_is_spread_without_a_known_time_zone(database: TestDatabase) -> None:
    """The weeks are those of UTC then, and no call fails."""
    database.make_service(resource_ids=THREE)
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert [resource_of(database, day * DAY) for day in (6, 7, 8, 0)] == [*THREE, "bert"]
    database.rows("UPDATE booking.businesses SET timezone = 'Europe/Berlin'")


# One call with many requests.


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_batch_is_spread_as_its_requests_one_by_one(database: TestDatabase, verb: str) -> None:
    """Windows of one round see what those before them were given."""
    database.make_service(resource_ids=THREE)
    make = MAKE_REQUEST[verb]
    requests = [make(day * DAY + 10) for day in range(6)]
    assert granted_resources(database.call(verb, requests)) == THREE * 2
    weekly = [make(week * WEEK) for week in range(2, 8)]
    assert granted_resources(database.call(verb, weekly)) == THREE * 2


SERVICES: dict[str, dict[str, Any]] = {
    "cut": {"resource_ids": ["anna", "bert", "cleo"]},
    "perm": {"resource_ids": ["bert", "cleo", "dora"]},
    "yoga": {"resource_ids": ["emil", "fay"], "resource_sharing": "session"},
}
# The room of the class and its twin have two seats, everyone else one.
SEATS = {"emil": 2, "fay": 2}
WISHES = st.lists(
    st.fixed_dictionaries(
        {
            "service_id": st.sampled_from(["cut", "cut", "perm", "yoga"]),
            "day": st.integers(0, 9),
            "hour": st.sampled_from([10, 10, 11, 10.5]),
            "named": st.sampled_from([None, None, None, None, 0, 1]),
        }
    ),
    min_size=2,
    max_size=14,
)


@pytest.fixture
def twins(database: TestDatabase) -> TestDatabase:
    """Makes two equal businesses."""
    for business_id in ("many", "single"):
        database.make_business(business_id)
        for resource_id, seats in SEATS.items():
            put_seats(database, resource_id, seats, business_id=business_id)
        for service_id, service in SERVICES.items():
            database.make_service(service_id, business_id=business_id, max_simultaneous_bookings=None, **service)
    return database


@random_examples(60, history=WISHES, wishes=WISHES)
def test_random_batches_are_spread_as_their_requests_one_by_one(
    twins: TestDatabase, history: list[dict[str, Any]], wishes: list[dict[str, Any]]
) -> None:
    """Each request gets the same resource, in a call with others or alone.

    Windows that overlap without being equal are left out: the rounds of a call decide them in another order.
    """
    twins.forget_claims()
    now = twins.freeze_clock()

    def call(requests: list[dict[str, Any]], business_id: str) -> list[Outcome]:
        nonlocal now
        now = twins.freeze_clock(now + timedelta(seconds=1))
        return twins.call("reserve", requests, business_id=business_id)

    def requests_of(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
        requests: dict[tuple[Any, ...], dict[str, Any]] = {}
        for wish in drawn:
            pool = SERVICES[wish["service_id"]]["resource_ids"]
            named = None if wish["named"] is None else pool[wish["named"]]
            hour = wish["day"] * DAY + wish["hour"]
            place = (wish["service_id"], named)
            taken = {key[0]: key[1] for key in requests}
            if taken.get(wish["day"], (wish["hour"], place)) == (wish["hour"], place):
                key = (wish["day"], (wish["hour"], place), len(requests))
                requests[key] = reserve_request(hour, service_id=wish["service_id"], resource_id=named)
        # A call decides equal windows together, where the first of them stands.
        first = [(key[0], key[1]) for key in requests]
        return [requests[key] for key in sorted(requests, key=lambda key: (first.index((key[0], key[1])), key[2]))]

    for drawn in (history, wishes):
        requests = requests_of(drawn)
        together = call(requests, "many")
        alone = [call([request], "single")[0] for request in requests]
        assert names(together) == names(alone)
        assert granted_resources(together) == granted_resources(alone)
    rows = "SELECT resource_id, longest_occupied_seconds FROM booking.resources WHERE business_id = %s ORDER BY 1"
    assert twins.rows(rows, "many") == twins.rows(rows, "single")
