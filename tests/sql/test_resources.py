"""Services with a pool: each claim has one resource, and each resource has one claim at a time."""

from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at, reserve_request
from tests.sql.catalog import delete_resource
from tests.sql.requests import MAKE_REQUEST, granted_resources, names

TTL = timedelta(minutes=15)
TEN_CHAIRS = [f"chair-{number}" for number in range(10)]


def refusal_of(outcome: Outcome) -> tuple[str, Any]:
    """Returns the outcome and the reason of a refusal."""
    return outcome.name, outcome.body.get("reason")


# The choice of the resource.


def test_a_named_resource_is_given(database: TestDatabase) -> None:
    """A free resource that was not named is not given instead."""
    database.make_service(resource_ids=["anna", "bert", "cleo"])
    first = database.reserve(10, resource_id="bert")
    assert (first.name, first.body["resource_id"]) == ("done", "bert")
    assert database.reserve(10, resource_id="bert").name == "slot_unavailable"
    assert database.reserve(10.5, resource_id="bert").name == "slot_unavailable"
    assert database.reserve(11, resource_id="bert").name == "done"
    assert database.reserve(10, resource_id="anna").name == "done"


def test_any_resource_is_given_as_long_as_one_is_free(database: TestDatabase) -> None:
    """All resources of the pool are tried before a request is refused."""
    database.make_service(resource_ids=["anna", "bert", "cleo"])
    assert database.reserve(9.5, resource_id="anna").name == "done"
    database.commit(database.reserve(10.5, resource_id="bert").id)
    outcomes = [database.reserve(10) for _ in range(2)]
    assert names(outcomes) == ["done", "slot_unavailable"]
    assert granted_resources(outcomes) == ["cleo"]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_window_across_midnight_conflicts_with_claims_of_the_next_day(
    database: TestDatabase, verb: str, size: int
) -> None:
    """Work is counted on the day on which the window begins, and conflicts in the whole window."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    assert database.reserve(26, service_id="perm").name == "done"
    request = MAKE_REQUEST[verb]
    outcomes = database.call(verb, [request(20, 8) for _ in range(size)])
    assert names(outcomes) == ["slot_unavailable"] * size


def test_a_batch_gets_ten_different_resources_of_ten(database: TestDatabase) -> None:
    """The eleventh request is refused."""
    database.make_service(resource_ids=TEN_CHAIRS)
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(11)])
    assert names(outcomes) == ["done"] * 10 + ["slot_unavailable"]
    assert granted_resources(outcomes) == TEN_CHAIRS


def test_named_and_any_resources_in_one_batch_are_never_given_twice(database: TestDatabase) -> None:
    """Each window sees the resources that were given before it, whether they were named or not."""
    database.make_service(resource_ids=TEN_CHAIRS)
    named = [None, "chair-3", None, "chair-0", "chair-3", *[None] * 8]
    outcomes = database.call("reserve", [reserve_request(10, resource_id=resource_id) for resource_id in named])
    given = granted_resources(outcomes)
    assert len(given) == len(set(given)) == 10
    assert outcomes[4].name == "slot_unavailable"


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_all_free_resources_of_a_pool_are_given(database: TestDatabase, verb: str) -> None:
    """A resource that is claimed in any part of the window is passed over."""
    database.make_service(resource_ids=TEN_CHAIRS)
    for number in (0, 4, 9):
        database.reserve(10.5, resource_id=f"chair-{number}")
    request = MAKE_REQUEST[verb]
    outcomes = database.call(verb, [request(10) for _ in range(9)])
    assert names(outcomes) == ["done"] * 7 + ["slot_unavailable"] * 2
    assert sorted(set(map(str, granted_resources(outcomes)))) == [f"chair-{number}" for number in (1, 2, 3, 5, 6, 7, 8)]


# One claim at a time.


def test_a_resource_has_one_claim_at_a_time_in_all_its_services(database: TestDatabase) -> None:
    """Holds, committed holds and bookings of one service conflict with requests of the others."""
    for service_id in ("cut", "perm", "colour"):
        database.make_service(service_id, resource_ids=["anna"])
    claims: list[Callable[[], Outcome]] = [
        lambda: database.reserve(10, service_id="perm"),
        lambda: database.commit(database.reserve(10, service_id="perm").id),
        lambda: database.book(10, service_id="perm"),
    ]
    for claim in claims:
        with database.admin.transaction(force_rollback=True):
            assert claim().name == "done"
            for hour, hours in ((10, 1), (9.5, 1), (10.5, 1), (9, 3), (10.25, 0.5)):
                assert database.reserve(hour, hours).name == "slot_unavailable"
                assert database.book(hour, hours, service_id="colour").name == "slot_unavailable"
            assert database.reserve(9).name == "done"
            assert database.book(11, service_id="colour").name == "done"


WINDOWS: list[tuple[str, float, float]] = [("cut", 10, 1), ("perm", 10.5, 1), ("perm", 10, 1), ("cut", 11, 1)]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_resource_has_one_claim_at_a_time_within_a_batch(database: TestDatabase, verb: str) -> None:
    """Equal and overlapping windows of two services, in every order: a batch has the outcomes of single requests."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    request = MAKE_REQUEST[verb]
    for windows in permutations(WINDOWS):
        requests = [request(hour, hours, service_id=service_id) for service_id, hour, hours in windows]
        with database.admin.transaction(force_rollback=True):
            one_by_one = [database.call(verb, [request])[0].name for request in requests]
        with database.admin.transaction(force_rollback=True):
            assert names(database.call(verb, requests)) == one_by_one, windows
            assert database.rows("SELECT * FROM booking.double_booked_resources") == []


def test_a_resource_of_two_pools_is_given_once(database: TestDatabase) -> None:
    """The shared resource is given to one service, and both pools are used up by the others."""
    database.make_service("cut", resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert", "cleo"])
    batch = [reserve_request(10, service_id=service_id) for service_id in ("cut", "perm", "cut", "perm", "cut")]
    outcomes = database.call("reserve", batch)
    given = granted_resources(outcomes)
    assert names(outcomes).count("done") == len(set(given)) == 3


def test_overlapping_windows_of_separate_pools_do_not_conflict(database: TestDatabase) -> None:
    """Two services without a common resource are independent."""
    database.make_service("cut", resource_ids=["anna"])
    database.make_service("perm", resource_ids=["bert"])
    requests = [reserve_request(10, service_id="cut"), reserve_request(10.5, service_id="perm")]
    outcomes = database.call("reserve", requests)
    assert (names(outcomes), granted_resources(outcomes)) == (["done", "done"], ["anna", "bert"])


def test_a_resource_is_occupied_for_the_buffers_of_its_claim(database: TestDatabase) -> None:
    """The claim keeps the buffers that it was made with, although the settings change later."""
    database.make_service("cut", resource_ids=["anna"])
    database.make_service("perm", resource_ids=["anna"], buffer_before_minutes=15, buffer_after_minutes=30)
    assert database.reserve(10, service_id="perm").name == "done"
    database.put_service("perm", resource_ids=["anna"])
    assert [database.reserve(hour, 0.25).name for hour in (9.5, 9.75, 11.25, 11.5)] == [
        "done",
        "slot_unavailable",
        "slot_unavailable",
        "done",
    ]
    database.put_service("perm", resource_ids=["anna"], buffer_before_minutes=15)
    assert database.reserve(11.75, 0.25, service_id="perm").name == "slot_unavailable"
    assert database.reserve(12, 0.25, service_id="perm").name == "done"


def test_resources_of_two_businesses_are_separate(database: TestDatabase) -> None:
    """Resource ids are unique within a business only."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, resource_ids=["anna"])
        assert database.reserve(10, business_id=business_id).name == "done"
        assert database.reserve(10, business_id=business_id).name == "slot_unavailable"


# Quantities and capacities.


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_claim_has_one_resource(database: TestDatabase, verb: str, batched: bool) -> None:
    """A quantity above the seats of each resource is invalid."""
    database.make_service(resource_ids=["anna", "bert"])
    request = MAKE_REQUEST[verb]
    for resource_id in (None, "anna"):
        requests = [request(10, quantity=2, resource_id=resource_id) for _ in range(1 + batched)]
        for outcome in database.call(verb, requests):
            assert outcome.name == "validation_failed"
            assert (outcome.body["field"], outcome.body["code"]) == ("quantity", "too_many_for_a_resource")
    assert database.reserve(10).name == "done"


def test_a_capacity_below_the_pool_limits_the_claims(database: TestDatabase) -> None:
    """Three resources are free, and two units can be claimed."""
    database.make_service(capacity=2, resource_ids=["anna", "bert", "cleo"])
    assert names(database.call("reserve", [reserve_request(10) for _ in range(3)])) == ["done"] * 2 + [
        "slot_unavailable"
    ]
    assert database.reserve(10, resource_id="cleo").name == "slot_unavailable"
    assert database.capacity(10)["available"] == 0


def test_a_pool_that_shrinks_below_the_capacity_limits_the_claims(database: TestDatabase) -> None:
    """One resource is left, although the capacity is two."""
    database.make_service(capacity=2, resource_ids=["anna", "bert"])
    delete_resource(database, "bert")
    assert database.capacity(10)["available"] == 1
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(2)])
    assert names(outcomes) == ["done", "slot_unavailable"]
    assert database.capacity(10) == {"capacity": 2, "held": 1, "booked": 0, "available": 0}


def test_requests_for_a_named_and_for_any_resource_share_the_capacity(database: TestDatabase) -> None:
    """Their pools differ, and the capacity is that of the service."""
    database.make_service(capacity=2, resource_ids=["anna", "bert", "cleo"])
    named = ["bert", None, "anna"]
    outcomes = database.call("reserve", [reserve_request(10, resource_id=resource_id) for resource_id in named])
    assert (names(outcomes), granted_resources(outcomes)) == (["done", "done", "slot_unavailable"], ["bert", "anna"])


# Resources that can't be given.


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_resource_outside_the_pool_is_not_found(database: TestDatabase, verb: str, batched: bool) -> None:
    """Unknown and archived resources are not found, nor any resource of a service without a pool."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["cleo"])
    database.make_service("wash")
    database.make_service(business_id="clinic", resource_ids=["dora"])
    delete_resource(database, "bert")
    request = MAKE_REQUEST[verb]
    for service_id, resource_id in (("cut", "dora"), ("cut", "bert"), ("cut", "cleo"), ("wash", "anna")):
        requests = [request(10, service_id=service_id, resource_id=resource_id) for _ in range(1 + batched)]
        assert set(names(database.call(verb, requests))) == {"resource_not_found"}, (service_id, resource_id)
    assert database.value("SELECT count(*) FROM booking.claims") == 0


def test_an_archived_resource_is_passed_over(database: TestDatabase) -> None:
    """If all of them are archived, every request is refused: the service is never booked without a resource."""
    database.make_service(capacity=2, resource_ids=["anna", "bert"])
    delete_resource(database, "anna")
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(2)])
    assert (names(outcomes), granted_resources(outcomes)) == (["done", "slot_unavailable"], ["bert"])
    delete_resource(database, "bert")
    assert database.reserve(15).name == "slot_unavailable"
    assert database.book(15, manual=True).name == "slot_unavailable"
    assert database.capacity(15)["available"] == 0
    database.make_resource("anna")
    assert database.reserve(15).body["resource_id"] == "anna"


def test_offline_services_and_resources_are_refused_to_the_public_only(database: TestDatabase) -> None:
    """A named offline resource is refused with the reason; among any, it is passed over."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["cleo"], booking_enabled=False)
    database.make_resource("anna", booking_enabled=False)
    assert refusal_of(database.reserve(10, resource_id="anna")) == ("slot_not_bookable", "not_online")
    assert refusal_of(database.book(10, resource_id="anna")) == ("slot_not_bookable", "not_online")
    outcomes = [database.reserve(10) for _ in range(2)]
    assert (names(outcomes), granted_resources(outcomes)) == (["done", "slot_unavailable"], ["bert"])
    assert refusal_of(database.reserve(10, service_id="perm", resource_id="cleo")) == (
        "slot_not_bookable",
        "not_online",
    )
    assert database.book(10, manual=True).body["resource_id"] == "anna"
    assert database.book(10, service_id="perm", manual=True).body["resource_id"] == "cleo"
    database.make_resource("bert", booking_enabled=False)
    assert refusal_of(database.reserve(15)) == ("slot_not_bookable", "not_online")
    assert database.book(15, manual=True, resource_id="bert").name == "done"


def test_the_hours_of_a_resource_bind_the_public_only(database: TestDatabase) -> None:
    """Weekly hours and closures of a resource do not bind the staff."""
    database.make_service(resource_ids=["anna", "bert"])
    # Ten o'clock UTC is eleven or twelve o'clock in Berlin.
    database.put_hours([{"weekday": 1, "opens": "09:00", "closes": "13:00", "resource_id": "anna"}])
    assert refusal_of(database.reserve(14, resource_id="anna")) == ("slot_not_bookable", "closed")
    assert database.reserve(14).body["resource_id"] == "bert"
    assert database.reserve(14).name == "slot_unavailable"
    database.put_closure("holiday", at(9), at(12), "bert")
    assert refusal_of(database.reserve(10, resource_id="bert")) == ("slot_not_bookable", "closed")
    assert granted_resources([database.reserve(10), database.reserve(10)]) == ["anna"]
    assert database.book(10, manual=True).body["resource_id"] == "bert"
    database.put_closure("leave", at(17), at(18), "bert")
    assert refusal_of(database.reserve(17)) == ("slot_not_bookable", "closed")
    assert database.book(17, manual=True, resource_id="anna").name == "done"


def test_claims_from_before_a_pool_count_against_the_capacity(database: TestDatabase) -> None:
    """Earlier claims have no resource, and later claims get one."""
    database.make_service(capacity=2)
    before = database.reserve(10)
    database.make_service(capacity=2, resource_ids=["anna", "bert"])
    assert before.body["resource_id"] is None
    assert granted_resources([database.reserve(10), database.reserve(10)]) == ["anna"]
    assert database.commit(before.id).body["resource_id"] is None


def test_a_resource_that_left_the_pool_keeps_its_claims(database: TestDatabase) -> None:
    """The claim conflicts with requests of every other service of the resource."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna"])
    hold = database.reserve(10, resource_id="anna").id
    database.make_service(resource_ids=["bert"], max_simultaneous_bookings=None)
    assert database.reserve(10, resource_id="anna").name == "resource_not_found"
    assert database.reserve(10, service_id="perm").name == "slot_unavailable"
    assert database.commit(hold).body["resource_id"] == "anna"
