"""Claims in the past take no room: only the part of a window from now on is compared with the capacity."""

from typing import Any
from uuid import uuid4

from hypothesis import strategies as st

from tests.database import TestDatabase, at, book_request, change_request, reserve_request
from tests.sql.listings import availability
from tests.sql.model import STEP, Claim, Model
from tests.sql.random_examples import random_examples
from tests.sql.requests import names

CAPACITY = 2
BUFFERS = {"plain": 0 * STEP, "buffered": STEP}
# About half of the requested slots are over by noon.
STARTS = st.integers(min_value=0, max_value=12)
LENGTHS = st.integers(min_value=1, max_value=8)
QUANTITIES = st.sampled_from([1, 1, 2])
SLOTS = st.tuples(st.sampled_from(sorted(BUFFERS)), STARTS, LENGTHS, QUANTITIES)
MOVES = st.tuples(st.integers(min_value=0, max_value=3), STARTS, LENGTHS, QUANTITIES)
BEGINNING = at(10)
NOON = BEGINNING + 6 * STEP


@random_examples(
    150, earlier=st.lists(SLOTS, max_size=5), later=st.lists(SLOTS, max_size=3), moves=st.lists(MOVES, max_size=4)
)
def test_bookings_and_moves_count_claims_from_now_on(
    database: TestDatabase,
    earlier: list[tuple[str, int, int, int]],
    later: list[tuple[str, int, int, int]],
    moves: list[tuple[int, int, int, int]],
) -> None:
    """Past, current and future slots are booked and moved by the staff, and compared with the model."""
    business_id = f"b{uuid4().hex}"
    for service_id, buffer in BUFFERS.items():
        minutes = buffer.seconds // 60
        database.make_service(
            service_id,
            business_id=business_id,
            capacity=CAPACITY,
            buffer_before_minutes=minutes,
            buffer_after_minutes=minutes,
        )
    model = Model(database.freeze_clock(BEGINNING), dict.fromkeys(BUFFERS, CAPACITY))
    for slot in earlier:
        book(database, business_id, model, *slot)
    model.now = database.freeze_clock(NOON)
    for slot in later:
        book(database, business_id, model, *slot)
    for index, start, length, quantity in moves:
        if index < len(model.appointments):
            move(database, business_id, model, sorted(model.appointments)[index], start, length, quantity)
    assert database.violations() == {}


def book(
    database: TestDatabase, business_id: str, model: Model, service_id: str, start: int, length: int, quantity: int
) -> None:
    """Books one slot on behalf of the business, and compares the outcome with the model."""
    slot_start, slot_end = BEGINNING + start * STEP, BEGINNING + (start + length) * STEP
    outcome = database.book(
        business_id=business_id,
        service_id=service_id,
        slot_start=slot_start.isoformat(),
        slot_end=slot_end.isoformat(),
        quantity=quantity,
        manual=True,
    )
    requested = Claim(service_id, slot_start - BUFFERS[service_id], slot_end + BUFFERS[service_id], quantity)
    name = outcome.id if outcome.name == "done" else ""
    assert outcome.name == model.book(name, requested, None)


def move(
    database: TestDatabase, business_id: str, model: Model, name: str, start: int, length: int, quantity: int
) -> None:
    """Moves one appointment, and compares the outcome with the model."""
    claim = model.appointments[name].claim
    slot_start, slot_end = BEGINNING + start * STEP, BEGINNING + (start + length) * STEP
    buffer = BUFFERS[claim.service_id]
    members: dict[str, Any] = {
        "slot_start": slot_start.isoformat(),
        "slot_end": slot_end.isoformat(),
        "quantity": quantity,
    }
    [outcome] = database.call("change", [change_request(name, set=members)], business_id=business_id)
    requested = Claim(claim.service_id, slot_start - buffer, slot_end + buffer, quantity)
    assert outcome.name == model.move(name, requested, None)


def test_past_claims_take_no_room_in_a_batch(database: TestDatabase) -> None:
    """Bookings that begin before now conflict only with claims that still last."""
    database.freeze_clock(at(8))
    database.make_service()
    database.book(8)
    database.freeze_clock(at(10))
    requests = [book_request(8.5, hours, manual=True) for hours in (1, 1.5, 2)]
    assert names(database.call("book", requests)) == ["done"] * 3
    assert database.book(9.5, manual=True).name == "slot_unavailable"


def test_a_buffer_that_begins_before_now_conflicts_only_with_current_claims(database: TestDatabase) -> None:
    """Capacity, listing and reserve ignore a claim that ended within the buffer of the slot."""
    database.freeze_clock(at(8))
    database.make_service(buffer_before_minutes=30)
    database.book(8.75)
    database.freeze_clock(at(9.75))
    slots = availability(database, at(10), at(10.5)).body["slots"]
    assert [slot["available"] for slot in slots] == [1]
    assert database.capacity(10)["available"] == 1
    assert names(database.call("reserve", [reserve_request(10), reserve_request(10)])) == ["done", "slot_unavailable"]
    assert database.reserve(11.25).name == "slot_unavailable"


def test_no_quantity_is_ever_above_the_capacity(database: TestDatabase) -> None:
    """This holds for past slots as well."""
    database.freeze_clock(at(12))
    database.make_service(capacity=2)
    for hour in (8, 14):
        requests = [book_request(hour, quantity=3, manual=True), book_request(hour, quantity=2, manual=True)]
        assert names(database.call("book", requests)) == ["slot_unavailable", "done"]


def test_the_capacity_of_a_past_slot_counts_all_its_claims(database: TestDatabase) -> None:
    """The capacity of a slot that has begun counts the claims from now on."""
    database.freeze_clock(at(8))
    database.make_service(capacity=3)
    database.book(8, quantity=2)
    database.book(9, 4)
    database.freeze_clock(at(9))
    database.reserve(9, 4, ttl_minutes=60)
    database.freeze_clock(at(9.5))
    assert database.capacity(8) == {"capacity": 3, "held": 0, "booked": 2, "available": 1}
    assert database.capacity(8, 2) == {"capacity": 3, "held": 1, "booked": 1, "available": 1}
    database.freeze_clock(at(12))
    assert database.capacity(8, 2) == {"capacity": 3, "held": 0, "booked": 2, "available": 1}


def test_a_change_that_needs_no_more_room_is_never_refused_for_lack_of_it(database: TestDatabase) -> None:
    """A shorter slot or a smaller quantity is granted although the capacity was lowered since."""
    database.freeze_clock(at(8))
    database.make_service(capacity=5)
    long_appointment, large_appointment = database.book(8, 4).id, database.book(8, quantity=4).id
    database.freeze_clock(at(10))
    assert database.put_service(capacity=1).name == "done"
    assert database.change(long_appointment, set={"slot_end": at(11).isoformat()}).name == "done"
    assert database.change(large_appointment, set={"quantity": 3}).name == "done"
    assert database.change(large_appointment, set={"quantity": 4}).name == "slot_unavailable"
    assert (
        database.change(long_appointment, set={"slot_end": at(12).isoformat(), "quantity": 2}).name
        == "slot_unavailable"
    )
