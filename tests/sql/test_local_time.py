"""Local times and the instants at which the wall clock shows them, in every time zone of the server."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.database import TestDatabase
from tests.sql.local_slots import CHANGES, as_in_the_verbs, clock_around

QUARTER = timedelta(minutes=15)


@pytest.fixture
def server(database: TestDatabase) -> TestDatabase:
    """Returns a database; nothing of its catalog is read here."""
    as_in_the_verbs(database)
    return database


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_clock_is_found_to_the_second(server: TestDatabase, change: str) -> None:
    """There is one row for each offset, and they meet at the instant of the change."""
    timezone, day = CHANGES[change]
    midnight = datetime.combine(day, time(), UTC)
    phases: list[tuple[Any, ...]] = server.rows(
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


@pytest.mark.parametrize("change", CHANGES)
def test_a_local_time_is_the_first_instant_that_shows_it_or_a_later_one(server: TestDatabase, change: str) -> None:
    """Every quarter of five days is compared with the clock as Python reads it: skipped, repeated and ordinary ones."""
    timezone, day = CHANGES[change]
    midnight = datetime.combine(day, time())
    locals_ = [midnight + n * QUARTER for n in range(-2 * 96, 3 * 96)]
    clock = clock_around(timezone, day)
    found = server.value("SELECT booking.instants_of(%s, %s::timestamp[])", timezone, locals_)
    assert found == [clock.first(local) for local in locals_]


@pytest.mark.parametrize("year", [2011, 2027])
def test_local_times_of_a_year_are_found_in_every_zone(server: TestDatabase, year: int) -> None:
    """The clock shows the local time or a later one at the instant, and an earlier one a second before it."""
    wrong = server.rows(
        """
        WITH local AS (
          SELECT array_agg(at) AS times
          FROM generate_series(make_date(%s, 1, 1)::timestamp, make_date(%s, 12, 31), interval '6 hours') AS at
        )
        SELECT zone.name, answer.local, answer.instant
        FROM local
        CROSS JOIN pg_timezone_names AS zone
        CROSS JOIN LATERAL unnest(local.times, booking.instants_of(zone.name, local.times)) AS answer (local, instant)
        WHERE (answer.instant AT TIME ZONE zone.name >= answer.local
          AND (answer.instant - interval '1 second') AT TIME ZONE zone.name < answer.local) IS NOT TRUE
        """,
        year,
        year,
    )
    assert wrong == []


def test_many_local_times_are_answered_as_each_by_itself(server: TestDatabase) -> None:
    """The order and repetitions of the list are kept, and the span of the list changes no answer."""
    locals_ = [datetime(2027, month, 28, 2, 30) for month in (3, 11, 1, 3, 10, 7)]  # noqa: DTZ001 — local times
    query = "SELECT booking.instants_of('Europe/Berlin', %s::timestamp[])"
    assert server.value(query, locals_) == [server.value(query, [local])[0] for local in locals_]
    assert server.value(query, []) == []


def test_a_clock_that_is_set_back_for_a_month_has_three_phases(server: TestDatabase) -> None:
    """In Morocco the clock is an hour back during Ramadan, so the offset is equal before and after it."""
    query = "SELECT count(*) FROM booking.clock_phases('Africa/Casablanca', '2027-01-30Z', '2027-03-20Z')"
    assert server.value(query) == 3


def test_no_zone_changes_its_clock_and_back_within_nine_days(server: TestDatabase) -> None:
    """The short cut of booking.clock_phases relies on that. Every second day of the next years is looked at."""
    assert (
        server.rows(
            """
            WITH day AS (
              SELECT zone.name, at, at AT TIME ZONE zone.name - at AT TIME ZONE 'UTC' AS utc_offset
              FROM pg_timezone_names AS zone
              CROSS JOIN generate_series(timestamptz '2020-01-01 00:00Z', '2038-01-01', interval '2 days') AS at
            ), change AS (
              SELECT day.*, lag(utc_offset) OVER in_zone AS before FROM day
              WINDOW in_zone AS (PARTITION BY name ORDER BY at)
            )
            SELECT name, at FROM (
              SELECT name, at, utc_offset, lag(at) OVER in_zone AS changed_at, lag(before) OVER in_zone AS former
              FROM change WHERE utc_offset <> before WINDOW in_zone AS (PARTITION BY name ORDER BY at)
            ) AS pair
            WHERE at - changed_at <= interval '12 days' AND utc_offset = former
            """
        )
        == []
    )


def test_a_time_zone_is_known_if_the_server_can_convert_to_it(server: TestDatabase) -> None:
    """The question raises no error, so a transaction that asks it goes on."""
    with server.admin.transaction():
        for name in ("", "Europe", "Mars/Olympus", "Europe/Berlin; DROP", "x" * 300, None):
            assert server.value("SELECT booking.is_timezone(%s)", name) is False, name
        assert server.rows("SELECT name FROM pg_timezone_names WHERE NOT booking.is_timezone(name)") == []


def test_the_time_zone_of_a_business_is_null_if_it_is_unknown(server: TestDatabase) -> None:
    """That is the flag by which calls that need local time refuse, instead of an error that fails their batch."""
    server.make_business()
    assert server.value("SELECT booking.timezone_of('salon')") == "Europe/Berlin"
    server.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    assert server.value("SELECT booking.timezone_of('salon')") is None
    assert server.value("SELECT booking.timezone_of('nowhere')") is None
