"""Listings of seats agree with reserve, on random catalogs of parties and sessions."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import event
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.sql.catalog import delete_resource
from tests.sql.listings import availability, hour_of_iso
from tests.sql.local_slots import put_service
from tests.sql.random_examples import random_examples

RESOURCES = ("attic", "cellar", "hall")
SERVICES = ("first", "second")
HOURS = range(1, 5)
QUANTITIES = (1, 2, 3, 5)

# Returns whether reserve grants a request, and rolls it back.
IS_GRANTED = """
CREATE FUNCTION testing.is_granted(p_request jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_granted boolean;
BEGIN
  SELECT outcome = 'done' INTO v_granted
  FROM booking.execute(ARRAY['salon'], ARRAY[jsonb_build_object('reserve', jsonb_build_array(p_request))], 'infinity');
  RAISE EXCEPTION USING ERRCODE = 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
  RETURN v_granted;
END
$$
"""


@dataclass(frozen=True)
class Catalog:
    """The catalog and the claims of one example."""

    seats: tuple[int, ...]
    services: tuple[dict[str, Any], ...]
    claims: list[dict[str, Any]]
    hidden: str | None
    archived: str | None


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """Draws the settings of a service with a pool."""
    return {
        "resource_ids": sorted(draw(st.sets(st.sampled_from(RESOURCES), min_size=1))),
        "resource_sharing": draw(st.sampled_from(["exclusive", "session", "session"])),
        "max_simultaneous_bookings": draw(st.none() | st.integers(min_value=1, max_value=8)),
        "buffer_after_minutes": draw(st.sampled_from([0, 0, 30])),
    }


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    """Draws a claim of a listed window, or of one that overlaps it."""
    return {
        "kind": draw(st.sampled_from(["held", "held", "booked", "expired", "cancelled"])),
        "service_id": draw(st.sampled_from(SERVICES)),
        "resource_id": draw(st.sampled_from([None, None, None, *RESOURCES])),
        "hour": draw(st.sampled_from([1, 2, 2, 3, 3, 4, 1.5, 2.5])),
        "hours": draw(st.sampled_from([1, 1, 1, 0.5, 2])),
        "quantity": draw(st.sampled_from([1, 1, 2, 3])),
    }


CATALOGS = st.builds(
    Catalog,
    st.tuples(*[st.integers(min_value=1, max_value=5) for _ in RESOURCES]),
    st.tuples(*[services() for _ in SERVICES]),
    st.lists(claims(), min_size=2, max_size=14),
    st.none() | st.sampled_from(RESOURCES),
    st.none() | st.sampled_from(RESOURCES),
)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a business with three rooms."""
    for resource_id in RESOURCES:
        database.make_resource(resource_id)
    database.rows(IS_GRANTED)
    return database


@random_examples(60, catalog=CATALOGS)
def test_a_slot_is_listed_exactly_with_the_seats_that_reserve_grants(salon: TestDatabase, catalog: Catalog) -> None:
    """For each quantity, the listed resources are those that are granted by name, and available equals capacity()."""
    prepare(salon, catalog)
    for service_id, service in zip(SERVICES, catalog.services, strict=True):
        for quantity in QUANTITIES:
            listing = listed_hours(salon, service_id, quantity)
            event(f"{service['resource_sharing']}, {len(listing)} of {len(HOURS)}")
            for hour in HOURS:
                names = [
                    name for name in service["resource_ids"] if is_granted(salon, service_id, hour, quantity, name)
                ]
                assert is_granted(salon, service_id, hour, quantity) == bool(names)
                assert listing.get(hour, (0, []))[1] == names
                room = salon.capacity(hour, 1, service_id)["available"]
                if names:
                    assert listing[hour][0] == room >= quantity
                if quantity == 1 and service["resource_sharing"] == "session":
                    assert bool(names) == (room > 0)


@random_examples(40, catalog=CATALOGS)
def test_a_session_can_be_filled_up_to_its_available_seats(salon: TestDatabase, catalog: Catalog) -> None:
    """Requests one by one and in a batch get all available seats, and no seat more."""
    prepare(salon, catalog)
    for service_id, service in zip(SERVICES, catalog.services, strict=True):
        if service["resource_sharing"] == "session":
            for hour in HOURS:
                room = salon.capacity(hour, 1, service_id)["available"]
                requests = [request(service_id, hour, 1) for _ in range(room + 1)]
                with salon.admin.transaction(force_rollback=True):
                    in_a_batch = [outcome.name for outcome in salon.call("reserve", requests)]
                with salon.admin.transaction(force_rollback=True):
                    one_by_one = [salon.call("reserve", [one_request])[0].name for one_request in requests]
                assert in_a_batch == one_by_one
                assert (in_a_batch.count("done"), in_a_batch[-1] == "done") == (room, False)


def prepare(database: TestDatabase, catalog: Catalog) -> None:
    """Replaces the catalog of the previous example, and makes the drawn claims as far as they are granted."""
    database.forget_claims()
    database.freeze_clock(at(0))
    for resource_id, seats in zip(RESOURCES, catalog.seats, strict=True):
        database.make_resource(resource_id, seats=seats)
    for service_id, service in zip(SERVICES, catalog.services, strict=True):
        seats = sum(catalog.seats[RESOURCES.index(name)] for name in service["resource_ids"])
        capacity = service["max_simultaneous_bookings"]
        settings = {**service, "max_simultaneous_bookings": capacity and min(capacity, seats)}
        assert database.put_service(service_id, **settings).name in ("created", "done")
    for claim in catalog.claims:
        request_of_claim = {name: value for name, value in claim.items() if name != "kind"}
        if claim["kind"] in ("held", "expired"):
            database.reserve(**request_of_claim, ttl_minutes=60 if claim["kind"] == "held" else 1)
        else:
            outcome = database.book(**request_of_claim)
            if claim["kind"] == "cancelled" and outcome.name == "done":
                database.change(outcome.id, action="cancel")
    database.freeze_clock(at(0.5))
    if catalog.hidden:
        database.rows(
            "UPDATE booking.resources SET booking_enabled = false WHERE resource_id = %s",
            catalog.hidden,
        )
    if catalog.archived:
        delete_resource(database, catalog.archived)


def request(service_id: str, hour: float, quantity: int, resource_id: str | None = None) -> dict[str, Any]:
    """Builds a request for an hour on the Monday of the tests."""
    return {
        "operation_id": str(uuid4()),
        "service_id": service_id,
        "slot_start": at(hour).isoformat(),
        "slot_end": at(hour + 1).isoformat(),
        "quantity": quantity,
        "resource_id": resource_id,
    }


def is_granted(
    database: TestDatabase, service_id: str, hour: float, quantity: int, resource_id: str | None = None
) -> bool:
    """Returns whether reserve grants a request."""
    request_json = json.dumps(request(service_id, hour, quantity, resource_id))
    answer: bool = database.value("SELECT testing.is_granted(%s)", request_json)
    return answer


def listed_hours(database: TestDatabase, service_id: str, quantity: int) -> dict[float, tuple[int, list[str]]]:
    """Returns the listed hours with available units and resources; empty if no resource has enough seats."""
    outcome = availability(database, at(min(HOURS)), at(max(HOURS) + 1), service_id=service_id, quantity=quantity)
    assert outcome.name in ("done", "validation_failed")
    slots = outcome.body.get("slots", [])
    return {hour_of_iso(slot["slot_start"]): (slot["available"], slot["resource_ids"]) for slot in slots}


def test_a_session_shorter_than_the_buffers_of_today_is_not_listed(database: TestDatabase) -> None:
    """Its window with larger buffers would end before it starts; the claim bars other slots as before."""
    database.make_resource("hall", seats=5)
    settings: dict[str, Any] = {"duration_days": 1, "slot_step_minutes": 60, "resource_sharing": "session"}
    put_service(database, "UTC", **settings, end_time="12:00", resource_ids=["hall"], capacity=5)
    assert database.book(11, 1).name == "done"
    settings |= {"buffer_before_minutes": 60, "buffer_after_minutes": 60}
    put_service(database, **settings, end_time="11:00", resource_ids=["hall"], capacity=5)
    slots = availability(database, at(0), at(24)).body["slots"]
    assert [hour_of_iso(slot["slot_start"]) for slot in slots] == list(range(13, 24))
