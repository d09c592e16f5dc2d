"""Listings agree with booking on random calendars: a slot is listed exactly if it can be booked."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import event
from hypothesis import strategies as st

from tests.database import TestDatabase
from tests.sql.calendars import MINUTE, RESOURCES, SERVICES, Calendar, calendars, prepare
from tests.sql.listings import availability
from tests.sql.random_examples import random_examples

# Returns the largest quantity that reserve grants on a slot, and rolls all claims back.
LARGEST_GRANTED = """
CREATE FUNCTION testing.largest_granted(p_request jsonb) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_granted integer := 0;
  v_outcome text := 'done';
BEGIN
  WHILE v_outcome = 'done' LOOP
    BEGIN
      SELECT outcome INTO v_outcome
      FROM booking.execute(ARRAY['salon'], ARRAY[jsonb_build_object('reserve', jsonb_build_array(p_request
        || jsonb_build_object('operation_id', gen_random_uuid(), 'quantity', v_granted + 1)))], 'infinity');
      RAISE EXCEPTION USING ERRCODE = 'UNDO1';
    EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
      v_granted := v_granted + CASE WHEN v_outcome = 'done' THEN 1 ELSE 0 END;
    END;
  END LOOP;
  RETURN v_granted;
END
$$
"""

Slot = tuple[datetime, datetime, int, int, list[str]]


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes the function that tries quantities out."""
    database.rows(LARGEST_GRANTED)
    return database


@random_examples(60, calendar=calendars(), is_long=st.booleans())
def test_a_slot_is_listed_exactly_if_reserve_grants_it(salon: TestDatabase, calendar: Calendar, is_long: bool) -> None:
    """The listing has the quantities that reserve grants, and the resources that it grants by name."""
    prepare(salon, calendar)
    for service_id in SERVICES:
        pool = calendar.pools[service_id]
        window = calendar.window(service_id)
        length = longest(calendar.services[service_id]) if is_long else {}
        slots = calendar.slots(service_id, window, *length.values())
        granted = {name: largest_granted(salon, service_id, slots.items(), name) for name in [None, *pool]}
        room = available(salon, service_id, slots)

        def expected(
            quantity: int,
            slots: dict[datetime, datetime] = slots,
            pool: list[str] = pool,
            granted: dict[str | None, dict[datetime, int]] = granted,
            room: dict[datetime, int] = room,
        ) -> list[Slot]:
            return [
                (start, end, room[start], granted[None][start], [n for n in pool if granted[n][start] >= quantity])
                for start, end in slots.items()
                if granted[None][start] >= quantity
            ]

        assert listed(salon, service_id, window, **length) == expected(1)
        if max((seats_of(calendar)[name] for name in pool), default=2) >= 2:
            assert listed(salon, service_id, window, quantity=2, **length) == expected(2)
        for name in set(pool) - set(calendar.archived):
            assert listed(salon, service_id, window, resource_id=name, **length) == [
                (start, slots[start], units, units, [name]) for start, units in granted[name].items() if units
            ]
        if calendar.services[service_id]["starts_on_grid"]:
            beside = {start + 7 * MINUTE: end + 7 * MINUTE for start, end in slots.items()}
            assert not any(
                largest_granted(salon, service_id, [slot for slot in beside.items() if slot[0] not in slots]).values()
            )
        if calendar.services[service_id]["max_simultaneous_bookings"] is None and pool:
            assert all(room[start] == sum(granted[name][start] for name in pool) for start, *_ in expected(1))
        count = len(expected(1))
        event(f"{service_id}: {'some' if 0 < count < len(slots) else 'all' if count else 'none'}")


@random_examples(
    40,
    calendar=calendars(),
    is_long=st.booleans(),
    nth=st.integers(0, 30),
    is_beside=st.booleans(),
    is_named=st.booleans(),
)
def test_alternatives_are_the_nearest_listed_slots(
    salon: TestDatabase, calendar: Calendar, is_long: bool, nth: int, is_beside: bool, is_named: bool
) -> None:
    """The alternatives are listed, or start as the refused slot does; they come in the promised order."""
    prepare(salon, calendar)
    for service_id, service in calendar.services.items():
        length = longest(service) if is_long else {}
        slots = list(calendar.slots(service_id, calendar.window(service_id), *length.values()).items())
        if not slots:
            continue
        start, end = slots[nth % len(slots)]
        if is_beside and not service.get("duration_days"):
            start, end = start + 7 * MINUTE, end + 7 * MINUTE
        pool = calendar.pools[service_id]
        resource_id = pool[0] if is_named and pool and pool[0] not in calendar.archived else None
        window = (start - timedelta(hours=168), start + timedelta(hours=168, seconds=1))
        bookable = {slot[:2]: slot[4] for slot in listed(salon, service_id, window, **length)}
        if largest_granted(salon, service_id, [(start, end)])[start]:
            names = [name for name in pool if largest_granted(salon, service_id, [(start, end)], name)[start]]
            bookable[start, end] = names
        nearest = sorted(
            bookable,
            key=lambda slot: (
                slot[0] != start,
                resource_id is not None and resource_id not in bookable[slot],
                abs(slot[0] - start),
                slot[0],
            ),
        )
        query = "SELECT * FROM booking.alternatives('salon', %s, %s, %s, 1, %s)"
        offered = salon.rows(query, service_id, start, end, resource_id)
        assert offered == [(*slot, bookable[slot]) for slot in nearest[:5]]


def seats_of(calendar: Calendar) -> dict[str, int]:
    """Returns the seats of the resources that are not archived; 0 for the others."""
    seats = zip(RESOURCES, calendar.seats, strict=True)
    return {name: 0 if name in calendar.archived else number for name, number in seats}


def largest_granted(
    database: TestDatabase,
    service_id: str,
    slots: Iterable[tuple[datetime, datetime]],
    resource_id: str | None = None,
) -> dict[datetime, int]:
    """Returns the largest quantity that reserve grants, by the start of the slot."""
    request = json.dumps({"service_id": service_id, "resource_id": resource_id})
    query = """
        SELECT slot.starts, testing.largest_granted(
          %s::jsonb || jsonb_build_object('slot_start', slot.starts, 'slot_end', slot.ends))
        FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS slot (starts, ends)
    """
    slots = list(slots)
    return dict(database.rows(query, request, [start for start, _ in slots], [end for _, end in slots]))


def available(database: TestDatabase, service_id: str, slots: dict[datetime, datetime]) -> dict[datetime, int]:
    """Returns the free seats of each slot, as booking.capacity counts them."""
    query = """
        SELECT slot.starts, (booking.capacity('salon', %s, slot.starts, slot.ends) ->> 'available')::integer
        FROM unnest(%s::timestamptz[], %s::timestamptz[]) AS slot (starts, ends)
    """
    return dict(database.rows(query, service_id, list(slots), list(slots.values())))


def listed(database: TestDatabase, service_id: str, window: tuple[datetime, datetime], **parameters: Any) -> list[Slot]:
    """Returns the listing as (start, end, available, largest quantity, resource ids)."""
    outcome = availability(database, *window, service_id=service_id, **parameters)
    assert (outcome.name, outcome.body.get("next_from")) == ("done", None), outcome
    return [
        (
            datetime.fromisoformat(slot["slot_start"]),
            datetime.fromisoformat(slot["slot_end"]),
            slot["available"],
            slot["max_quantity"],
            slot["resource_ids"],
        )
        for slot in outcome.body["slots"]
    ]


def longest(service: dict[str, Any]) -> dict[str, int]:
    """Returns the longest length of a service as a parameter of a listing."""
    if days := service.get("duration_days"):
        return {"days": service["max_duration_days"] or days}
    return {"minutes": service["max_duration_minutes"] or service["duration_minutes"]}
