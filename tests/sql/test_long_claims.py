"""Searches for overlaps reach back as far as the longest claim that was ever made, and no farther."""

from datetime import timedelta

import pytest

from tests.database import TestDatabase, at, reserve_request
from tests.sql.asking import names


def test_a_long_claim_is_seen_from_a_short_window_deep_inside_it(database: TestDatabase) -> None:
    """The search for claims reaches back as far as the longest one, not as far as the usual one."""
    database.make_service(capacity=1)
    assert database.reserve(0, 24 * 20).name == "done"
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"
    assert database.reserve(24 * 20).name == "done"


@pytest.mark.parametrize("long_first", [True, False])
def test_a_long_claim_and_a_short_one_inside_it_see_each_other_in_one_batch(
    database: TestDatabase, long_first: bool
) -> None:
    """How far the search reaches back is raised before the claim is made, not after the batch."""
    database.make_service(capacity=1)
    requests = [reserve_request(0, 24 * 20), reserve_request(24 * 20 - 1)]
    outcomes = database.call("reserve", requests if long_first else requests[::-1])
    assert names(outcomes) == ["done", "slot_unavailable"]


def test_a_long_claim_is_seen_after_the_settings_were_lowered(database: TestDatabase) -> None:
    """How far the search reaches back follows from what was claimed and not from what may be claimed today."""
    database.make_service(capacity=1, buffer_before_minutes=600)
    database.commit(database.reserve(0, 24 * 20).id)
    database.put_service(capacity=1, max_duration_minutes=60)
    assert database.reserve(24 * 20 - 1).name == "slot_unavailable"
    assert database.reserve(-10, 0.5).name == "slot_unavailable"
    assert names(database.call("reserve", [reserve_request(24 * 20 - 1), reserve_request(-10, 0.5)])) == [
        "slot_unavailable",
        "slot_unavailable",
    ]


def test_buffers_make_a_claim_longer(database: TestDatabase) -> None:
    """A slot no longer than those before it, and with its buffers longer than all of them."""
    database.make_service(capacity=1)
    assert database.reserve(30).name == "done"
    database.put_service(capacity=1, buffer_before_minutes=180)
    assert database.reserve(10).name == "done"
    database.put_service(capacity=1)
    assert database.reserve(7, 0.25).name == "slot_unavailable"
    assert database.reserve(10.5, 0.25).name == "slot_unavailable"


def test_a_long_claim_that_was_booked_again_with_another_resource_is_seen_from_deep_inside_it(
    database: TestDatabase,
) -> None:
    """Its hold had lengthened the search for the claims of the resource that it had, and not for this one's."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert"])
    hold = database.reserve(0, 24 * 20)
    assert hold.body["resource_id"] == "anna"
    database.move_clock(timedelta(minutes=15))
    assert database.book(0, resource_id="anna").name == "done"
    assert database.commit(hold.id, if_expired="rebook").body["resource_id"] == "bert"
    assert database.reserve(24 * 20 - 1, service_id="perm").name == "slot_unavailable"


@pytest.mark.parametrize("way", ["held", "held in a batch", "booked", "moved"])
def test_how_far_the_search_reaches_back_never_shrinks(database: TestDatabase, way: str) -> None:
    """A shorter claim says nothing about the longer ones before it, neither of its service nor of its resource."""
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
def test_what_is_refused_does_not_make_later_searches_longer(database: TestDatabase, size: int) -> None:
    """Somebody who asks for a month and gets nothing must not slow everybody else down for good."""
    database.make_service(capacity=1)
    assert database.reserve(10).name == "done"
    outcomes = database.call("reserve", [reserve_request(0, 24 * 30) for _ in range(size)])
    assert set(names(outcomes)) == {"slot_unavailable"}
    assert database.value("SELECT longest_occupied_seconds FROM booking.services") == 3600
