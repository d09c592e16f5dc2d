"""The peak, where claims follow each other and so do not share an instant: the window has to be swept."""

import pytest

from tests.database import TestDatabase, reserve_request


def fill(database: TestDatabase, kind: str) -> None:
    """Claims from ten to eleven and from eleven to twelve."""
    for hour in (10, 11):
        hold = database.reserve(hour)
        assert hold.name == "done"
        if kind == "booked" or (kind == "mixed" and hour == 10):
            database.commit(hold.id)


@pytest.mark.parametrize("kind", ["held", "booked", "mixed"])
def test_a_long_window_over_a_full_service_is_refused(database: TestDatabase, kind: str) -> None:
    """Alone and in a batch, whether what is there is held, booked, or some of each."""
    database.make_service(capacity=1)
    fill(database, kind)
    assert database.reserve(10, 2).name == "slot_unavailable"
    batch = database.call("reserve", [reserve_request(10, 2), reserve_request(9.5, 3)])
    assert [outcome.name for outcome in batch] == ["slot_unavailable"] * 2
    assert database.capacity(10, 2)["available"] == 0


@pytest.mark.parametrize("kind", ["held", "booked", "mixed"])
def test_back_to_back_claims_use_one_unit(database: TestDatabase, kind: str) -> None:
    """Two of three are left all the way, and can be sold: alone and in a batch."""
    database.make_service(capacity=3)
    fill(database, kind)
    room = database.capacity(10, 2)
    assert (room["held"] + room["booked"], room["available"]) == (1, 2)
    batch = database.call("reserve", [reserve_request(10, 2), reserve_request(10, 2), reserve_request(10, 2)])
    assert [outcome.name for outcome in batch] == ["done", "done", "slot_unavailable"]
