"""The peak of a window in which claims follow each other without sharing an instant."""

import pytest

from tests.database import TestDatabase, reserve_request


def make_adjacent_claims(database: TestDatabase, kind: str) -> None:
    """Claims ten to eleven and eleven to twelve."""
    for hour in (10, 11):
        hold = database.reserve(hour)
        assert hold.name == "done"
        if kind == "booked" or (kind == "mixed" and hour == 10):
            database.commit(hold.id)


@pytest.mark.parametrize("kind", ["held", "booked", "mixed"])
def test_a_long_window_over_a_full_service_is_refused(database: TestDatabase, kind: str) -> None:
    """The window is refused alone and in a batch, over holds, appointments, or both."""
    database.make_service(capacity=1)
    make_adjacent_claims(database, kind)
    assert database.reserve(10, 2).name == "slot_unavailable"
    batch = database.call("reserve", [reserve_request(10, 2), reserve_request(9.5, 3)])
    assert [outcome.name for outcome in batch] == ["slot_unavailable"] * 2
    assert database.capacity(10, 2)["available"] == 0


@pytest.mark.parametrize("kind", ["held", "booked", "mixed"])
def test_back_to_back_claims_use_one_unit(database: TestDatabase, kind: str) -> None:
    """The long window has two of three units left, which can be claimed alone and in a batch."""
    database.make_service(capacity=3)
    make_adjacent_claims(database, kind)
    room = database.capacity(10, 2)
    assert (room["held"] + room["booked"], room["available"]) == (1, 2)
    batch = database.call("reserve", [reserve_request(10, 2), reserve_request(10, 2), reserve_request(10, 2)])
    assert [outcome.name for outcome in batch] == ["done", "done", "slot_unavailable"]


def test_the_claims_of_the_fullest_instant_are_told_apart(database: TestDatabase) -> None:
    """A hold that ends at that instant is not held in it; a hold that begins then is."""
    database.make_service(capacity=3)
    database.reserve(9)
    database.book(10, 2, quantity=2)
    database.reserve(10)
    assert database.capacity(9, 3) == {"capacity": 3, "held": 1, "booked": 2, "available": 0}
