"""Closures by local dates: they mean whole days of the business's time zone, also where the clock changes."""

import json
from datetime import UTC, datetime

import pytest

from tests.database import NO_DEADLINE, Outcome, TestDatabase, at


def put(database: TestDatabase, date: str, until: str | None = None, **members: str) -> Outcome:
    """Puts the closure "days" of the salon."""
    settings = json.dumps({"date": date, "until": until, **members})
    return database.outcome("put_closure", "salon", "days", settings, NO_DEADLINE)


def move_to(database: TestDatabase, timezone: str) -> None:
    """Puts the salon in a time zone."""
    settings = json.dumps({"name": "Salon", "timezone": timezone})
    database.rows("SELECT booking.put_business('salon', %s, %s)", settings, NO_DEADLINE)


def closed(database: TestDatabase) -> tuple[str, str]:
    """Returns the first closed instant and the first open one, in UTC; empty for a closure without any."""
    return tuple(
        database.rows(
            "SELECT coalesce(to_char(lower(during) AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), ''), "
            "coalesce(to_char(upper(during) AT TIME ZONE 'UTC', 'MM-DD HH24:MI'), '') FROM booking.closures"
        )[0]
    )


@pytest.mark.parametrize(
    ("timezone", "date", "until", "expected"),
    [
        ("Europe/Berlin", "2027-03-27", None, ("03-26 23:00", "03-27 23:00")),
        # Of 23 and of 25 hours.
        ("Europe/Berlin", "2027-03-28", None, ("03-27 23:00", "03-28 22:00")),
        ("Europe/Berlin", "2027-10-30", "2027-10-31", ("10-29 22:00", "10-31 23:00")),
        # Beirut skips the midnight of March 28, and shows 23:00 of October 30 twice.
        ("Asia/Beirut", "2027-03-27", None, ("03-26 22:00", "03-27 22:00")),
        ("Asia/Beirut", "2027-03-28", None, ("03-27 22:00", "03-28 21:00")),
        ("Asia/Beirut", "2027-10-30", None, ("10-29 21:00", "10-30 22:00")),
        # Havana shows the hour after the midnight of November 7 twice.
        ("America/Havana", "2027-11-07", None, ("11-07 04:00", "11-08 05:00")),
        # Apia left out December 30.
        ("Pacific/Apia", "2011-12-29", "2011-12-30", ("12-29 10:00", "12-30 10:00")),
        ("Pacific/Apia", "2011-12-30", None, ("", "")),
    ],
)
def test_dates_are_whole_days_of_the_wall_clock(
    database: TestDatabase, timezone: str, date: str, until: str | None, expected: tuple[str, str]
) -> None:
    """They begin and end at local midnights or, where the clock skips one, right after the gap."""
    database.make_business()
    move_to(database, timezone)
    assert put(database, date, until).name == "created"
    assert closed(database) == expected


def test_the_public_cannot_book_on_the_dates(database: TestDatabase) -> None:
    """Both dates are closed from midnight to midnight in Berlin, which is ahead of UTC."""
    database.make_service(resource_ids=["anna", "bert"])
    database.freeze_clock(datetime(2030, 12, 1, tzinfo=UTC))
    put(database, "2030-12-24", "2030-12-25", resource_id="anna")

    def reserve(day: int, hour: int) -> str:
        start, end = (datetime(2030, 12, day, hour, minute, tzinfo=UTC).isoformat() for minute in (0, 30))
        outcome = database.reserve(slot_start=start, slot_end=end, resource_id="anna")
        return str(outcome.body.get("reason", outcome.name))

    assert [reserve(23, 22), reserve(23, 23), reserve(25, 22), reserve(25, 23)] == ["done", "closed", "closed", "done"]


def test_it_is_read_as_it_was_put(database: TestDatabase) -> None:
    """With dates and without instants, or the other way round; a closure can change from one to the other."""
    database.make_service()
    appointment = database.book(10).id
    day = at(0).date().isoformat()
    outcome = put(database, day, day)
    assert [item["appointment_id"] for item in outcome.body["affected_appointments"]["items"]] == [appointment]
    [[read]] = database.rows("SELECT booking.closures('salon')")
    assert (read["date"], read["until"], read["from"], read["to"]) == (day, None, None, None)
    database.put_closure("days", at(10), at(12))
    [[read]] = database.rows("SELECT booking.closures('salon')")
    assert (read["date"], read["until"]) == (None, None)
    assert [datetime.fromisoformat(read[name]) for name in ("from", "to")] == [at(10), at(12)]


def test_it_moves_with_the_time_zone_of_the_business(database: TestDatabase) -> None:
    """A closure by instants stays, and so do those of other businesses."""
    database.make_business()
    database.make_business("clinic")
    database.put_closure("away", at(10), at(12))
    database.put_closure("away", at(10), at(12), business_id="clinic")
    put(database, "2027-01-11")
    database.rows(
        "UPDATE booking.closures SET first_date = '2027-01-11', last_date = '2027-01-11' WHERE business_id = 'clinic'"
    )
    move_to(database, "America/New_York")
    ranges = database.rows("SELECT lower(during), upper(during) FROM booking.closures ORDER BY business_id, closure_id")
    new_york = datetime(2027, 1, 11, 5, tzinfo=UTC), datetime(2027, 1, 12, 5, tzinfo=UTC)
    assert ranges == [(at(10), at(12)), (at(10), at(12)), new_york]


def test_a_zone_that_is_unknown_refuses_dates(database: TestDatabase) -> None:
    """A closure that was made before still closes, and putting a known zone repairs the business."""
    database.make_service()
    day = at(0).date().isoformat()
    put(database, day)
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert put(database, day).name == "business_misconfigured"
    assert database.put_closure("away", at(30), at(31)).name == "created"
    assert database.reserve(10).body["reason"] == "closed"
    move_to(database, "Europe/Berlin")
    assert put(database, day).name == "done"


def test_the_constraints_are_the_backstop(database: TestDatabase) -> None:
    """Dates in the wrong order cannot be stored."""
    database.make_business()
    with pytest.raises(Exception, match=r"closures_last_date_check|range lower bound"):
        put(database, "2027-01-12", "2027-01-11")


def test_the_dates_between_the_first_and_the_last_cost_nothing(database: TestDatabase) -> None:
    """A closure is put under the lock of its business, and may be meant for ever: a hundred of centuries are."""
    database.rows("SET statement_timeout = '5s'")
    ranges = "SELECT booking.range_of_dates('Europe/Berlin', '2027-03-28', '2999-12-31') FROM generate_series(1, 100)"
    [closed] = {str(during) for (during,) in database.rows(ranges)}
    assert closed == str(database.value("SELECT '[2027-03-27 23:00Z,2999-12-31 23:00Z)'::tstzrange"))
