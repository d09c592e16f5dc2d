"""Searches for overlaps reach back as far as the longest claim that was ever made, and no farther."""

from datetime import timedelta

import pytest

from tests.database import TestDatabase, at, reserve_request
from tests.sql.requests import names


def test_a_long_claim_blocks_a_short_window_deep_inside_it(database: TestDatabase) -> None:
    """The search reaches back as far as the longest claim of the service, beyond the usual length."""
    database.make_service(capacity=1)
    assert database.reserve(0, 24 * 20).name == "done"
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"
    assert database.reserve(24 * 20).name == "done"


@pytest.mark.parametrize("long_first", [True, False])
def test_a_long_claim_and_a_short_one_inside_it_conflict_in_one_batch(database: TestDatabase, long_first: bool) -> None:
    """The reach is raised before the claim is made, not after the batch."""
    database.make_service(capacity=1)
    requests = [reserve_request(0, 24 * 20), reserve_request(24 * 20 - 1)]
    outcomes = database.call("reserve", requests if long_first else requests[::-1])
    assert names(outcomes) == ["done", "slot_unavailable"]


def test_a_long_claim_blocks_slots_after_the_settings_were_lowered(database: TestDatabase) -> None:
    """The reach follows from the claims that were made, not from the current settings."""
    database.make_service(capacity=1, buffer_before_minutes=600)
    database.commit(database.reserve(0, 24 * 20).id)
    database.put_service(capacity=1, max_duration_minutes=60)
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"
    assert database.reserve(-10, 0.5).name == "slot_unavailable"
    assert names(database.call("reserve", [reserve_request(24 * 20 - 1), reserve_request(-10, 0.5)])) == [
        "slot_unavailable",
        "slot_unavailable",
    ]


def test_the_first_claim_of_another_service_in_the_call_does_not_shorten_the_reach(database: TestDatabase) -> None:
    """The call raises the reach of that service, and has a short claim of the one with the long claim too."""
    database.make_service(capacity=1)
    database.make_service("perm", capacity=1)
    database.reserve(0, 24 * 20)
    requests = [reserve_request(24 * 20), reserve_request(10, service_id="perm")]
    assert names(database.call("reserve", requests)) == ["done", "done"]
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"


def test_the_reach_includes_buffers(database: TestDatabase) -> None:
    """The slot is no longer than earlier ones, but with its buffers it is the longest claim."""
    database.make_service(capacity=1)
    assert database.reserve(30).name == "done"
    database.put_service(capacity=1, buffer_before_minutes=180)
    assert database.reserve(10).name == "done"
    database.put_service(capacity=1)
    assert database.reserve(7, 0.25).name == "slot_unavailable"
    assert database.reserve(10.5, 0.25).name == "slot_unavailable"


def test_a_long_claim_rebooked_with_another_resource_blocks_it_deep_inside(
    database: TestDatabase,
) -> None:
    """The hold raised the reach of its first resource; the rebook has to raise the reach of the second one."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert"])
    hold = database.reserve(0, 24 * 20)
    assert hold.body["resource_id"] == "anna"
    database.move_clock(timedelta(minutes=15))
    assert database.book(0, resource_id="anna").name == "done"
    assert database.commit(hold.id, if_expired="rebook").body["resource_id"] == "bert"
    assert database.reserve(24 * 20 - 1, service_id="perm").name == "slot_unavailable"


@pytest.mark.parametrize("way", ["held", "held in a batch", "booked", "moved"])
def test_the_reach_never_shrinks(database: TestDatabase, way: str) -> None:
    """A shorter claim keeps the reach of its service and its resource."""
    database.make_service(resource_ids=["anna"])
    reaches = []
    for day, hours in enumerate((2, 5, 1)):
        hour = 24 * day + 10
        if way == "held":
            outcomes = [database.reserve(hour, hours)]
        elif way == "held in a batch":
            outcomes = database.call("reserve", [reserve_request(hour, hours), reserve_request(hour + 6)])
        elif way == "booked":
            outcomes = [database.book(hour, hours)]
        else:
            slot = {"slot_start": at(hour).isoformat(), "slot_end": at(hour + hours).isoformat()}
            outcomes = [database.change(database.book(hour + 6).id, set=slot)]
        assert set(names(outcomes)) == {"done"}
        reaches += database.rows(
            "SELECT s.longest_occupied_seconds, r.longest_occupied_seconds FROM booking.services s, booking.resources r"
        )
    assert reaches == [(7200, 7200), (18000, 18000), (18000, 18000)]


@pytest.mark.parametrize(
    "size",
    [1, 2],
)
def test_a_refused_request_does_not_raise_the_reach(database: TestDatabase, size: int) -> None:
    """A refused request for a month must not slow down all later searches."""
    database.make_service(capacity=1)
    assert database.reserve(10).name == "done"
    outcomes = database.call("reserve", [reserve_request(0, 24 * 30) for _ in range(size)])
    assert set(names(outcomes)) == {"slot_unavailable"}
    assert database.value("SELECT longest_occupied_seconds FROM booking.services") == 3600


def reach(database: TestDatabase, resource_id: str = "anna") -> int:
    """Returns how far the searches for claims of a resource reach back, in seconds."""
    seconds: int = database.value(
        "SELECT longest_occupied_seconds FROM booking.resources WHERE resource_id = %s", resource_id
    )
    return seconds


@pytest.mark.parametrize("way", ["held", "booked", "moved", "in the same batch"])
def test_a_long_claim_of_a_resource_blocks_slots_deep_inside_it(database: TestDatabase, way: str) -> None:
    """The long claim came through another service than the request, whose own claims are short."""
    database.make_service(resource_ids=["anna"])
    database.make_service("retreat", resource_ids=["anna"])
    assert database.reserve(-5).name == "done"
    inside = reserve_request(24 * 20 - 1)
    if way == "held":
        assert database.reserve(0, 24 * 20, service_id="retreat").name == "done"
    elif way == "booked":
        assert database.book(0, 24 * 20, service_id="retreat").name == "done"
    elif way == "moved":
        moved = database.book(0, service_id="retreat").id
        assert database.change(moved, set={"slot_end": at(24 * 20).isoformat()}).name == "done"
    else:
        outcomes = database.call("reserve", [reserve_request(0, 24 * 20, service_id="retreat"), inside])
        assert names(outcomes) == ["done", "slot_unavailable"]
    assert database.call("reserve", [inside])[0].name == "slot_unavailable"
    assert database.reserve(24 * 20).name == "done"


def test_only_a_granted_claim_raises_the_reach_of_its_resource(database: TestDatabase) -> None:
    """The reach includes buffers; shorter claims and refused requests do not change it."""
    database.make_service(resource_ids=["anna", "bert"], buffer_after_minutes=30)
    database.reserve(10, 2, resource_id="anna")
    assert (reach(database), reach(database, "bert")) == (9000, 0)
    database.reserve(15, 1, resource_id="anna")
    assert database.reserve(0, 24 * 30, resource_id="anna").name == "slot_unavailable"
    assert names(database.call("reserve", [reserve_request(0, 24 * 30, resource_id="anna") for _ in range(2)])) == [
        "slot_unavailable",
        "slot_unavailable",
    ]
    assert (reach(database), reach(database, "bert")) == (9000, 0)
