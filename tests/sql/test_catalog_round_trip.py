"""A put of what the catalog answered changes nothing: in random catalogs, with archived resources too."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.catalog import put_back
from tests.sql.measuring import rolled_back
from tests.sql.random_examples import random_examples

RESOURCES = ("anna", "bert", "cleo")
TABLES = ("businesses", "slugs", "services", "resources", "service_resources", "special_hours", "closures")
# A place among the opening hours orders them and has no other meaning.
STORED_HOURS = "SELECT (o.resource_id, o.weekday, o.opens, o.closes)::text FROM booking.opening_hours AS o ORDER BY 1"

owners = st.sampled_from([None, *RESOURCES])
times = st.sampled_from(["00:00", "06:30", "09:00", "12:15", "14:00", "20:00", "23:59"])
entries = st.tuples(times, st.just("24:00") | times).filter(lambda entry: entry[0] < entry[1])
pools = st.lists(st.sampled_from(RESOURCES), unique=True, max_size=3)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draws a setting, or None for one that is left out."""
    return st.none() | values


DESCRIBED = {
    "description": optional(st.sampled_from(["", "Grüße"])),
    "metadata": optional(st.sampled_from([{}, {"a": None, "b": [None, 1.50, {"c": "null"}]}])),
}
resources = st.fixed_dictionaries(
    DESCRIBED
    | {
        "name": st.sampled_from(["Anna", " "]),
        "kind": st.sampled_from(["staff", "room"]),
        "booking_enabled": st.booleans(),
        "seats": st.integers(1, 4),
    }
)

# The settings of each unit of length. The bounds are within the duration on one side and beyond it on the other.
IN_MINUTES = {
    "duration_minutes": st.integers(30, 90),
    "min_duration_minutes": optional(st.integers(1, 30)),
    "max_duration_minutes": optional(st.integers(90, 600)),
    "slot_step_minutes": optional(st.integers(5, 60)),
}
IN_DAYS = {
    "duration_days": st.integers(2, 3),
    "min_duration_days": optional(st.integers(1, 2)),
    "max_duration_days": optional(st.integers(3, 366)),
    "end_time": optional(times),
}
OF_ANY_LENGTH = DESCRIBED | {
    "name": st.sampled_from(["cut", "Schnitt"]),
    "max_simultaneous_bookings": optional(st.integers(1, 4)),
    "hold_ttl_minutes": st.integers(1, 15),
    "max_hold_ttl_minutes": optional(st.integers(15, 60)),
    "max_hold_lifetime_minutes": optional(st.integers(60, 120)),
    "buffer_before_minutes": st.sampled_from([0, 10]),
    "buffer_after_minutes": st.sampled_from([0, 10]),
    "min_notice_minutes": st.sampled_from([0, 60]),
    "max_advance_days": st.sampled_from([0, 365]),
    "cancellation_window_minutes": st.sampled_from([0, 1440]),
    "reschedule_window_minutes": optional(st.sampled_from([0, 60])),
    "max_upcoming_per_guest": optional(st.integers(1, 2)),
    "booking_enabled": st.booleans(),
    "start_times": optional(st.lists(times, max_size=3)),
    "starts_on_grid": optional(st.booleans()),
    "hours_apply": optional(st.sampled_from(["throughout", "ends"])),
    "resource_sharing": optional(st.sampled_from(["exclusive", "session"])),
    "resource_ids": optional(pools),
}
services = st.fixed_dictionaries(OF_ANY_LENGTH | IN_MINUTES) | st.fixed_dictionaries(OF_ANY_LENGTH | IN_DAYS)
catalogs = st.fixed_dictionaries(
    {
        "business": st.fixed_dictionaries(
            DESCRIBED
            | {
                "name": st.just("Salon"),
                "slug": optional(st.just("hair")),
                "timezone": st.sampled_from(["Europe/Berlin", "UTC", "America/Santiago"]),
                "country": optional(st.just("DE")),
                "feed_past_days": st.sampled_from([0, 400, 3660]),
                "guest_retention_days": optional(st.integers(1, 36_500)),
            }
        ),
        "resources": st.tuples(resources, resources, resources),
        "services": st.lists(services, min_size=1, max_size=3),
        "hours": st.lists(st.tuples(owners, st.integers(1, 7), entries), max_size=6),
        "special_hours": st.lists(st.tuples(owners, st.lists(entries, max_size=3), optional(st.just("2030-12-26")))),
        "closures": st.lists(owners, max_size=3),
        # Changes after the services were put.
        "changed_seats": st.dictionaries(st.sampled_from(RESOURCES), st.sampled_from([1, 1, 4])),
        "archived": st.sets(st.sampled_from(RESOURCES)),
    }
)


def put(database: TestDatabase, function: str, *parameters: Any) -> dict[str, Any]:
    """Calls a function of the catalog that puts an entry, and returns the body of its outcome."""
    values = [json.dumps(value) if isinstance(value, (dict, list)) else value for value in parameters]
    outcome = database.outcome(function, *values, NO_DEADLINE)
    is_put = outcome.name in ("created", "done")
    assert is_put or outcome.body["field"] in ("date", "max_simultaneous_bookings"), outcome
    return outcome.body


def make(database: TestDatabase, catalog: dict[str, Any]) -> None:
    """Makes a business from its catalog. Entries that the rules refuse are left out."""
    put(database, "put_business", "salon", catalog["business"])
    for resource_id, resource in zip(RESOURCES, catalog["resources"], strict=True):
        put(database, "put_resource", "salon", resource_id, resource)
    for place, service in enumerate(catalog["services"]):
        put(database, "put_service", "salon", f"service{place}", service)
    put(
        database,
        "put_opening_hours",
        "salon",
        [
            {"resource_id": owner, "weekday": weekday, "opens": opens, "closes": closes}
            for owner, weekday, (opens, closes) in catalog["hours"]
        ],
    )
    for place, (owner, hours, until) in enumerate(catalog["special_hours"]):
        body = {"date": "2030-12-24", "until": until, "resource_id": owner, "name": until}
        body["hours"] = [{"opens": opens, "closes": closes} for opens, closes in hours]
        put(database, "put_special_hours", "salon", f"special{place}", body)
    for place, owner in enumerate(catalog["closures"]):
        time = {"from": at(place).isoformat(), "to": at(place + 1).isoformat()}
        dates = {"date": "2030-12-24", "until": "2030-12-26" if owner else None}
        body = {**(dates if place % 2 else time), "resource_id": owner, "reason": owner}
        put(database, "put_closure", "salon", f"closure{place}", body)
    for resource_id, seats in catalog["changed_seats"].items():
        [(resource,)] = database.rows("SELECT booking.resources('salon', %s)", resource_id)
        put(database, "put_resource", "salon", resource_id, resource | {"seats": seats})
    for resource_id in catalog["archived"]:
        put(database, "delete_resource", "salon", resource_id)


def read(database: TestDatabase, function: str) -> list[dict[str, Any]]:
    """Returns the entries that a read of the catalog returns."""
    return [entry for (entry,) in database.rows(f"SELECT booking.{function}('salon')")]


# For each read of the catalog, the call that puts one of its entries back.
PUTS: dict[str, Callable[[TestDatabase, dict[str, Any]], dict[str, Any]]] = {
    "business": lambda database, entry: put(database, "put_business", "salon", entry),
    "resources": lambda database, entry: put(database, "put_resource", "salon", entry["resource_id"], entry),
    "services": lambda database, entry: put_back(database, entry).body,
    "special_hours": lambda database, entry: put(
        database, "put_special_hours", "salon", entry["special_hours_id"], entry
    ),
    "closures": lambda database, entry: put(database, "put_closure", "salon", entry["closure_id"], entry),
}


def stored(database: TestDatabase) -> list[Any]:
    """Returns every column of the catalog."""
    rows = [database.rows(f"SELECT t::text FROM booking.{table} AS t ORDER BY 1") for table in TABLES]  # noqa: S608
    return [*rows, database.rows(STORED_HOURS)]


@random_examples(60, catalog=catalogs)
def test_a_put_of_what_was_read_changes_nothing(database: TestDatabase, catalog: dict[str, Any]) -> None:
    """The answer of each put is what was read, and no column of the catalog changes."""
    with rolled_back(database):
        make(database, catalog)
        before = stored(database)
        for function, put_entry in PUTS.items():
            for entry in read(database, function):
                answer = put_entry(database, entry)
                answer.pop("affected_appointments", None)
                assert answer == entry
        hours = read(database, "opening_hours")
        assert put(database, "put_opening_hours", "salon", hours)["items"] == hours
        assert stored(database) == before


def test_what_was_left_out_is_null(database: TestDatabase) -> None:
    """A setting that is left out is stored and answered as null, so that its default follows the other settings."""
    complete = {"name": "cut", "duration_minutes": 30, "hold_ttl_minutes": 15, "max_advance_days": 365}
    complete |= dict.fromkeys(("buffer_before_minutes", "buffer_after_minutes", "min_notice_minutes"), 0)
    complete |= {"cancellation_window_minutes": 0, "booking_enabled": True}
    database.make_business()
    service = put(database, "put_service", "salon", "cut", complete)
    left_out = {
        *("max_simultaneous_bookings", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes"),
        *("max_hold_ttl_minutes", "max_hold_lifetime_minutes", "hours_apply", "start_times", "end_time"),
        *("duration_days", "min_duration_days", "max_duration_days", "description", "metadata"),
        *("reschedule_window_minutes", "max_upcoming_per_guest"),
    }
    assert {name for name, value in service.items() if value is None} == left_out
    assert (service["resource_sharing"], service["starts_on_grid"], service["resource_ids"]) == ("exclusive", False, [])
    assert put(database, "put_service", "salon", "cut", service | {"duration_minutes": 90}) == service | {
        "duration_minutes": 90
    }


def test_start_times_are_stored_in_order_and_once(database: TestDatabase) -> None:
    """An empty list is none."""
    database.make_business()
    service = database.put_service(start_times=["14:00", "09:00", "14:00"]).body
    assert service["start_times"] == ["09:00", "14:00"]
    assert database.put_service(start_times=[]).body["start_times"] is None
