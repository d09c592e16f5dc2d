"""A client may have only so many live holds in a business, whatever it calls itself."""

from datetime import timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, reserve_request

CAP = 3


def client(address: str | None = "address", client_id: str | None = None, **request: Any) -> dict[str, Any]:
    """What the service says of a client."""
    return {"client_address_hmac": address, "client_id_hmac": client_id, "max_live_holds": CAP, **request}


def outcomes(database: TestDatabase, *requests: dict[str, Any], together: bool) -> list[str]:
    """The outcomes of requests, in one batch or one after the other."""
    batches = [list(requests)] if together else [[request] for request in requests]
    return [outcome.name for batch in batches for outcome in database.call("reserve", batch)]


@pytest.mark.parametrize("together", [False, True])
def test_a_client_is_refused_one_hold_more_than_it_may_have(database: TestDatabase, *, together: bool) -> None:
    """By its address, in one batch as one by one."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client()) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, together=together) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("together", [False, True])
def test_another_id_does_not_get_around_the_address(database: TestDatabase, *, together: bool) -> None:
    """A hoarder can make up ids, but not addresses."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client(client_id=f"id {hour}")) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, together=together) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("together", [False, True])
def test_an_id_counts_besides_the_address(database: TestDatabase, *, together: bool) -> None:
    """Somebody who changes addresses is still one client to the frontend that knows it."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client(f"address {hour}", "id")) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, together=together) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("resource_ids", [[], ["anna", "bert", "cleo", "dora"]], ids=["room", "resources"])
@pytest.mark.parametrize("together", [False, True])
def test_what_an_id_holds_already_counts_from_every_address(
    database: TestDatabase, *, together: bool, resource_ids: list[str]
) -> None:
    """However the hold after it is asked for, alone or in a batch, and whether the service has resources or not."""
    database.make_service(capacity=4, resource_ids=resource_ids)
    for number in range(CAP - 1):
        assert database.reserve(**client(f"before {number}", "id")).name == "done"
    requests = [reserve_request(**client(f"after {number}", "id")) for number in range(2)]
    assert outcomes(database, *requests, together=together) == ["done", "too_many_holds"]


@pytest.mark.parametrize("together", [False, True])
def test_others_are_not_counted(database: TestDatabase, *, together: bool) -> None:
    """Neither other clients nor those that are not limited."""
    database.make_service(capacity=10)
    requests = [reserve_request(10, **client("a")), reserve_request(10, **client("b")), reserve_request(10)]
    assert outcomes(database, *requests, together=together) == ["done"] * 3
    again = [reserve_request(12, **client("a")) for _ in range(CAP)]
    assert outcomes(database, *again, together=together) == ["done"] * (CAP - 1) + ["too_many_holds"]


def test_only_live_holds_count(database: TestDatabase) -> None:
    """A hold that was released, committed, or is past its time leaves its place to another, purged or not."""
    database.make_service(capacity=10)
    released, committed, _ = (database.reserve(hour, **client()) for hour in range(CAP))
    assert database.reserve(9, **client()).name == "too_many_holds"
    database.release(released.id)
    assert database.reserve(9, **client()).name == "done"
    database.commit(committed.id)
    assert database.reserve(10, **client()).name == "done"
    assert database.reserve(11, **client()).name == "too_many_holds"
    database.move_clock(timedelta(minutes=15))
    assert database.reserve(11, **client()).name == "done"


def test_a_replay_is_answered_whatever_the_client_holds(database: TestDatabase) -> None:
    """The retry of an attempt makes no hold."""
    database.make_service(capacity=10)
    first = reserve_request(9, **client(idempotency_key="key", fingerprint="f"))
    assert database.call("reserve", [first])[0].name == "done"
    for hour in range(CAP - 1):
        database.reserve(hour, **client())
    again = reserve_request(9, **client(idempotency_key="key", fingerprint="f"))
    assert database.call("reserve", [again])[0].name == "replayed"


def test_equal_requests_of_one_attempt_count_once(database: TestDatabase) -> None:
    """Forty copies of one request are one hold, and share its fate."""
    database.make_service(capacity=10)
    copies = [reserve_request(10, **client(idempotency_key="key", fingerprint="f")) for _ in range(2 * CAP)]
    assert outcomes(database, *copies, together=True) == ["done"] + ["replayed"] * (2 * CAP - 1)
    for hour in range(CAP - 1):
        assert database.reserve(hour, **client()).name == "done"
    copies = [reserve_request(10, **client(idempotency_key="other", fingerprint="f")) for _ in range(2)]
    assert outcomes(database, *copies, together=True) == ["too_many_holds"] * 2


def test_another_request_with_the_key_does_not_share_a_refusal(database: TestDatabase) -> None:
    """Only equal ones are one attempt: this one is of somebody else, who has no hold, and a refusal keeps no key."""
    database.make_service(capacity=10)
    database.reserve(8, **client("full", max_live_holds=1))
    requests = [
        reserve_request(hour, **client(address, idempotency_key="key", fingerprint=address, max_live_holds=1))
        for hour, address in ((10, "full"), (12, "free"))
    ]
    assert outcomes(database, *requests, together=True) == ["too_many_holds", "done"]


def test_each_business_counts_for_itself(database: TestDatabase) -> None:
    """Tenants know nothing of each other."""
    database.make_service(capacity=10)
    database.make_service(capacity=10, business_id="clinic")
    for hour in range(CAP):
        database.reserve(hour, **client())
    assert database.reserve(10, business_id="clinic", **client()).name == "done"


@pytest.mark.parametrize(("first", "second", "expected"), [("full", "free", "too_many_holds"), ("free", "full", None)])
def test_copies_from_two_addresses_share_one_fate(
    database: TestDatabase, first: str, second: str, expected: str | None
) -> None:
    """A phone changes its network between two tries: the first one's address counts, and nobody waits for ever."""
    database.make_service(capacity=10)
    database.reserve(8, **client("full", max_live_holds=1))
    copies = [
        reserve_request(10, **client(address, idempotency_key="key", fingerprint="f", max_live_holds=1))
        for address in (first, second)
    ]
    assert outcomes(database, *copies, together=True) == ([expected] * 2 if expected else ["done", "replayed"])
