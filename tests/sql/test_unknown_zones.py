"""A time zone that this server does not know is refused when it is put, and later a refusal of what needs it.

A business keeps its zone when the server is replaced by one with an older time zone database.
"""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.database import NO_DEADLINE, Outcome, TestDatabase, at, book_request, commit_request, reserve_request
from tests.sql.catalog import put_special_hours
from tests.sql.listings import availability, available_days
from tests.sql.requests import names

NIGHT: dict[str, Any] = {"duration_minutes": None, "min_duration_minutes": None, "max_duration_minutes": None}
NIGHT |= {"duration_days": 1, "start_times": ["14:00"], "end_time": "11:00"}
# Services, and whether their slots depend on local time by themselves.
DEPENDS = {"cut": False, "night": True, "grid": True}
MARS = "Mars/Olympus"
# Settings of TimeZone and abbreviations that are no names of zones, and names near those of files.
STRAY_NAMES = [
    "UTC+2",
    "ETC/GMT+99",
    "FOO5",
    "FOO5BAR",
    "<A>-3",
    "3",
    "INTERVAL '3' HOUR",
    "infinity",
    "DEFAULT",
    ":UTC",
]
STRAY_NAMES += ["CEST", "Europe", "Europe/", "Europe//Berlin", "Europe/Berlin ", "../timezone/UTC", "posixrules"]


def put_business(database: TestDatabase, timezone: str, business_id: str = "salon") -> str:
    """Puts a business in a time zone, and returns the name of the outcome."""
    settings = json.dumps({"name": "x", "timezone": timezone})
    return database.outcome("put_business", business_id, settings, NO_DEADLINE).name


def lose_zone(database: TestDatabase) -> None:
    """Changes the time zone of the salon to one that the server does not know."""
    database.rows("UPDATE booking.businesses SET timezone = %s WHERE business_id = 'salon'", MARS)


def unknown(database: TestDatabase) -> list[tuple[str, int]]:
    """Returns the unknown time zones with their number of businesses."""
    return database.rows("SELECT timezone, businesses FROM booking.unknown_timezones() ORDER BY 1")


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes services of minutes, of nights and on a grid, and then loses the time zone of their business."""
    database.make_service(capacity=9)
    database.make_service("night", capacity=9, **NIGHT)
    database.make_service("grid", capacity=9, starts_on_grid=True)
    lose_zone(database)
    return database


def listing(database: TestDatabase, service_id: str) -> set[str]:
    """Returns the outcomes of both listings of a service."""
    return {
        availability(database, at(0), at(24), service_id=service_id).name,
        available_days(database, at(0).date(), at(24).date(), service_id=service_id).name,
    }


@pytest.mark.parametrize("timezone", [MARS, "", "europe/berlin", "Berlin", "UTC+2", "now"])
def test_a_zone_that_is_unknown_is_refused_when_it_is_put(database: TestDatabase, timezone: str) -> None:
    """The names are those of the server's list, and a refused put changes nothing."""
    assert put_business(database, "Europe/Berlin") == "created"
    assert put_business(database, timezone) == "validation_failed"
    assert put_business(database, timezone, "clinic") == "validation_failed"
    assert database.rows("SELECT business_id, timezone FROM booking.businesses") == [("salon", "Europe/Berlin")]


def test_every_zone_of_the_server_is_known(database: TestDatabase) -> None:
    """A zone that can be put is not reported as unknown."""
    lost = database.rows("SELECT name FROM pg_timezone_names WHERE NOT booking.is_timezone(name)")
    assert lost == []
    for name in (MARS, "", None):
        assert database.value("SELECT booking.is_timezone(%s)", name) is False


def test_the_names_that_can_be_put_are_those_of_the_list(database: TestDatabase) -> None:
    """Neither another case of a name, nor an abbreviation, nor an offset is one."""
    wrong = database.rows(
        """
        WITH listed AS MATERIALIZED (SELECT zone.name, zone.abbrev FROM pg_timezone_names AS zone), tried AS (
          SELECT unnest(ARRAY[name, lower(name), upper(name), initcap(name), abbrev]) AS name FROM listed
          UNION SELECT abbrev FROM pg_timezone_abbrevs
          UNION SELECT unnest(%s::text[])
        )
        SELECT name FROM tried WHERE booking.is_timezone_name(name) <> (name IN (SELECT listed.name FROM listed))
        """,
        STRAY_NAMES,
    )
    assert wrong == []
    assert database.value("SELECT booking.is_timezone_name(NULL)") is False
    assert not set(STRAY_NAMES) & {name for (name,) in database.rows("SELECT name FROM pg_timezone_names")}


def test_a_look_at_a_name_leaves_the_time_zone_of_the_session(database: TestDatabase) -> None:
    """It is restored after a name that is known and after one that is not, within the transaction too."""
    with database.admin.transaction():
        database.rows("SET TimeZone = 'Asia/Tokyo'")
        for timezone in ("Europe/Berlin", MARS):
            put_business(database, timezone)
            assert database.value("SHOW TimeZone") == "Asia/Tokyo"


def test_unknown_zones_are_reported_until_they_are_repaired(database: TestDatabase) -> None:
    """The report counts the businesses of each zone, and a put of a known zone ends it."""
    for business_id in ("salon", "clinic", "kennel", "court"):
        put_business(database, "Europe/Berlin", business_id)
    assert unknown(database) == []
    for business_id, timezone in (("salon", MARS), ("clinic", MARS), ("court", "Atlantis")):
        database.rows("UPDATE booking.businesses SET timezone = %s WHERE business_id = %s", timezone, business_id)
    assert unknown(database) == [("Atlantis", 1), (MARS, 2)]
    assert put_business(database, "UTC", "salon") == "done"
    assert unknown(database) == [("Atlantis", 1), (MARS, 1)]


@pytest.mark.parametrize("service_id", DEPENDS)
def test_requests_that_need_local_time_are_refused(salon: TestDatabase, service_id: str) -> None:
    """Days, grids and listings need it; a slot of minutes does not, unless there are hours."""
    refused = "business_misconfigured"
    expected = refused if DEPENDS[service_id] else "done"
    slot: dict[str, Any] = {"slot_end": None} if service_id == "night" else {}
    assert salon.reserve(10, service_id=service_id, **slot).name == expected
    assert salon.book(10, service_id=service_id, **slot).name == expected
    fault = {"field": "guest_phone", "code": "invalid_phone", "parameters": {}}
    assert salon.book(10, service_id=service_id, guest_fault=fault, **slot).name == "validation_failed"
    assert listing(salon, service_id) == {refused}
    assert salon.rows("SELECT booking.alternatives('salon', %s, %s, NULL, 1, NULL)", service_id, at(10)) == []
    salon.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    assert salon.reserve(10, service_id=service_id, **slot).name == refused
    assert put_business(salon, "Europe/Berlin") == "done"
    assert listing(salon, service_id) == {"done"}


@pytest.mark.parametrize("service_id", DEPENDS)
def test_bookings_of_the_business_itself_have_one_warning(salon: TestDatabase, service_id: str) -> None:
    """Rules that need local time are not checked, so neither its length nor its start is named."""
    expected = [{"code": "misconfigured"}] if DEPENDS[service_id] else None
    assert salon.book(10.25, service_id=service_id, manual=True).body.get("warnings") == expected


def test_special_hours_need_local_time_near_their_dates_only(salon: TestDatabase) -> None:
    """Far from the dates of special hours the business is open without a look at the clock."""
    put_special_hours(salon, "monday", at(0).date().isoformat(), [])
    put_special_hours(salon, "later", at(24 * 9).date().isoformat(), [])
    assert names([salon.reserve(10), salon.reserve(10 + 24 * 7)]) == ["business_misconfigured", "done"]
    salon.make_resource("anna")
    salon.make_service("perm", resource_ids=["anna"])
    lose_zone(salon)
    assert salon.reserve(10 + 24 * 7, service_id="perm").name == "done"
    put_special_hours(salon, "annas", at(24 * 8).date().isoformat(), [], resource_id="anna")
    assert salon.reserve(10 + 24 * 7, service_id="perm").name == "business_misconfigured"


def test_neighbours_in_a_batch_are_not_disturbed(salon: TestDatabase) -> None:
    """Requests that do not need local time are granted beside those that do, of this business and of others."""
    salon.make_service("night", business_id="clinic", capacity=9, **NIGHT)
    services = ["night", "cut", "grid", "cut"]
    outcomes = salon.call("reserve", [reserve_request(10, service_id=service_id) for service_id in services])
    assert names(outcomes) == ["business_misconfigured", "done", "business_misconfigured", "done"]
    batches = [
        json.dumps({"book": [book_request(10, service_id="night", slot_end=None)]}),
        json.dumps({"book": [book_request(10, service_id="night", slot_end=None)]}),
    ]
    rows = salon.rows(
        "SELECT outcome FROM booking.execute('{salon,clinic}', %s::jsonb[], %s) WHERE outcome <> 'lock_waited'",
        *(batches, NO_DEADLINE),
    )
    assert sorted(name for (name,) in rows) == ["business_misconfigured", "done"]


def test_holds_and_appointments_live_on(database: TestDatabase) -> None:
    """What was granted can be committed, extended, changed and cancelled; a move of nights is refused."""
    database.make_service("night", capacity=9, **NIGHT)
    database.put_hours([(weekday, "00:00", "24:00") for weekday in range(1, 8)])
    night: dict[str, Any] = {"service_id": "night", "slot_start": at(13).isoformat(), "slot_end": None}
    holds = [database.reserve(**night).id for _ in range(3)]
    database.freeze_clock()
    lose_zone(database)
    stay = database.commit(holds[0]).id
    assert database.extend(holds[1], 20).name == "done"
    assert database.release(holds[1]).name == "done"
    later = {"slot_start": at(37).isoformat()}
    assert database.change(stay, set=later).name == "business_misconfigured"
    assert database.change(stay, set={"notes": "late", "quantity": 2}).name == "done"
    assert database.change(stay, set=later | {"slot_end": at(60).isoformat()}).name == "done"
    assert database.change(stay, action="cancel").name == "done"
    assert database.call("commit", [commit_request(holds[2], if_expired="rebook")])[0].name == "done"
    assert database.violations() == {}


def test_a_short_hold_is_not_booked_again_without_its_resource(database: TestDatabase) -> None:
    """Whether the public could book the resource depends on its hours. Its appointment would be in no place."""
    database.make_service(resource_ids=["anna"])
    database.put_hours([{"weekday": 1, "opens": "09:00", "closes": "18:00", "resource_id": "anna"}])
    hold = database.reserve(10, ttl_minutes=0.01).id
    database.move_clock(timedelta(minutes=1))
    lose_zone(database)
    assert database.commit(hold, if_expired="rebook").name == "slot_unavailable"
    assert database.book(10, manual=True).body["resource_id"] == "anna"


def test_the_catalog_and_the_reads_work(salon: TestDatabase) -> None:
    """A business whose zone was lost is shown, and each of its settings can be put."""
    appointment = salon.book(10).id
    assert salon.value("SELECT booking.business('salon') ->> 'timezone'") == MARS
    assert salon.put_service("night", capacity=8, **NIGHT).name == "done"
    assert salon.put_hours([(1, "09:00", "17:00")]).name == "done"
    closed = salon.put_closure("away", at(0), at(24)).body["affected_appointments"]
    assert [item["appointment_id"] for item in closed["items"]] == [appointment]
    special = put_special_hours(salon, "monday", at(0).date().isoformat(), [])
    assert (special.name, special.body["affected_appointments"]) == ("created", {"count": 0, "items": []})
    assert salon.capacity(10)["booked"] == 1
    feed = "SELECT count(body) FROM booking.calendar_feed('salon', NULL, '2026-01-01 00:00Z', NULL, NULL, 10)"
    assert salon.value(feed) == 1
    assert Outcome("done", salon.value("SELECT booking.appointment('salon', %s)", appointment)).id == appointment


def test_resources_without_hours_are_assigned_by_the_days_of_utc(salon: TestDatabase) -> None:
    """Work is spread over them, and a resource with hours can be booked by the business itself only."""
    salon.make_resource("anna")
    salon.make_service("perm", resource_ids=["anna", "bert"])
    lose_zone(salon)
    assert {salon.reserve(10, service_id="perm").body["resource_id"] for _ in range(2)} == {"anna", "bert"}
    salon.put_hours([{"weekday": 1, "opens": "00:00", "closes": "24:00", "resource_id": "anna"}])
    assert salon.reserve(12, service_id="perm", resource_id="bert").name == "done"
    assert salon.reserve(12, service_id="perm", resource_id="anna").name == "business_misconfigured"
    assert salon.book(12, service_id="perm", resource_id="anna", manual=True).name == "done"
    assert salon.capacity(10, service_id="perm")["held"] == 2
