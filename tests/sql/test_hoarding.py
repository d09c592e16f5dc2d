"""The limits of the places that a client holds, and books on a day, in a business: by its address and by its id."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, TestDatabase, at, book_request, commit_request, reserve_request
from tests.sql.requests import names

CAP = 3


@pytest.fixture(autouse=True)
def stopped_clock(database: TestDatabase) -> None:
    """Stops the clock at noon: bookings are counted by days in UTC, and none may end during a test."""
    database.freeze_clock(at(12, day=-1))


def client(address: str | None = "address", client_id: str | None = None, **request: Any) -> dict[str, Any]:
    """Returns the members of a request that identify and limit a client."""
    return {"client_address_hmac": address, "client_id_hmac": client_id, "max_live_holds": CAP, **request}


def daily(address: str | None = "address", client_id: str | None = None, **request: Any) -> dict[str, Any]:
    """Returns the members of a request that limit what a client takes on a day; it may hold as many places."""
    return client(address, client_id, max_live_holds=1000, max_daily_bookings=CAP, **request)


# A client that is known by its address, and another one by its own id alone.
NAMED = pytest.mark.parametrize("named", [client(), client(None, "id")], ids=["address", "id"])


def outcomes(database: TestDatabase, *requests: dict[str, Any], batched: bool) -> list[str]:
    """Returns the names of the outcomes of requests, made in one batch or one by one."""
    batches = [list(requests)] if batched else [[request] for request in requests]
    return [outcome.name for batch in batches for outcome in database.call("reserve", batch)]


@pytest.mark.parametrize("batched", [False, True])
def test_a_client_is_refused_one_hold_more_than_it_may_have(database: TestDatabase, *, batched: bool) -> None:
    """The limit applies by address, in one batch and one by one."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client()) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, batched=batched) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("batched", [False, True])
def test_places_are_counted(database: TestDatabase, *, batched: bool) -> None:
    """A hold of many places uses up the limit as many holds do; one that is refused counts for no other."""
    database.make_service(capacity=100)
    requests = [reserve_request(10, quantity=quantity, **client()) for quantity in (CAP + 1, CAP - 1, 2, 1)]
    expected = ["too_many_holds", "done", "too_many_holds", "done"]
    if batched:
        # The third fits by itself, so the fourth counts it as granted.
        expected[3] = "too_many_holds"
    assert outcomes(database, *requests, batched=batched) == expected
    assert database.reserve(10, **client()).name == ("done" if batched else "too_many_holds")


@pytest.mark.parametrize("batched", [False, True])
def test_another_id_does_not_raise_the_limit_of_an_address(database: TestDatabase, *, batched: bool) -> None:
    """A client can make up ids, but not addresses."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client(client_id=f"id {hour}")) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, batched=batched) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("batched", [False, True])
def test_an_id_is_limited_across_addresses(database: TestDatabase, *, batched: bool) -> None:
    """A client that changes its address is recognised by its id."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client(f"address {hour}", "id")) for hour in range(CAP + 1)]
    assert outcomes(database, *requests, batched=batched) == ["done"] * CAP + ["too_many_holds"]


@pytest.mark.parametrize("resource_ids", [[], ["anna", "bert", "cleo", "dora"]], ids=["room", "resources"])
@pytest.mark.parametrize("batched", [False, True])
def test_holds_of_an_id_count_across_addresses(
    database: TestDatabase, *, batched: bool, resource_ids: list[str]
) -> None:
    """The limit applies to the next hold alone and in a batch, with and without resources."""
    database.make_service(capacity=4, resource_ids=resource_ids)
    for number in range(CAP - 1):
        assert database.reserve(**client(f"before {number}", "id")).name == "done"
    requests = [reserve_request(**client(f"after {number}", "id")) for number in range(2)]
    assert outcomes(database, *requests, batched=batched) == ["done", "too_many_holds"]


@pytest.mark.parametrize("batched", [False, True])
def test_holds_of_other_clients_do_not_count(database: TestDatabase, *, batched: bool) -> None:
    """Holds of clients without a limit do not count either."""
    database.make_service(capacity=10)
    requests = [reserve_request(10, **client("a")), reserve_request(10, **client("b")), reserve_request(10)]
    assert outcomes(database, *requests, batched=batched) == ["done"] * 3
    again = [reserve_request(12, **client("a")) for _ in range(CAP)]
    assert outcomes(database, *again, batched=batched) == ["done"] * (CAP - 1) + ["too_many_holds"]


@NAMED
def test_only_live_holds_count(database: TestDatabase, named: dict[str, Any]) -> None:
    """Released, committed and expired holds do not count, whether purged or not."""
    database.make_service(capacity=10)
    released, committed, _ = (database.reserve(hour, **named) for hour in range(CAP))
    assert database.reserve(9, **named).name == "too_many_holds"
    database.release(released.id)
    assert database.reserve(9, **named).name == "done"
    database.commit(committed.id)
    assert database.reserve(10, **named).name == "done"
    assert database.reserve(11, **named).name == "too_many_holds"
    database.move_clock(timedelta(minutes=15))
    assert database.reserve(11, **named).name == "done"


def test_a_booking_is_no_hold(database: TestDatabase) -> None:
    """A client that holds all that it may can book."""
    database.make_service(capacity=10)
    for hour in range(CAP):
        database.reserve(hour, **client())
    assert database.book(10, **client()).name == "done"


def test_requests_of_one_client_have_their_own_limits(database: TestDatabase) -> None:
    """Each request is judged by its own, and the holds of the client count once for each."""
    database.make_service(capacity=10)
    requests = [reserve_request(hour, **client(max_live_holds=1 + hour)) for hour in (1, 2)]
    assert outcomes(database, *requests, batched=True) == ["done", "done"]


def test_a_replay_is_answered_at_the_limit(database: TestDatabase) -> None:
    """The retry of an attempt makes no hold."""
    database.make_service(capacity=10)
    first = reserve_request(9, **client(idempotency_key="key", fingerprint="f"))
    assert database.call("reserve", [first])[0].name == "done"
    for hour in range(CAP - 1):
        database.reserve(hour, **client())
    again = reserve_request(9, **client(idempotency_key="key", fingerprint="f"))
    assert database.call("reserve", [again])[0].name == "replayed"


def test_equal_requests_of_one_attempt_count_once(database: TestDatabase) -> None:
    """Duplicate requests make one hold, and get the same outcome."""
    database.make_service(capacity=10)
    copies = [reserve_request(10, **client(idempotency_key="key", fingerprint="f")) for _ in range(2 * CAP)]
    assert outcomes(database, *copies, batched=True) == ["done"] + ["replayed"] * (2 * CAP - 1)
    for hour in range(CAP - 1):
        assert database.reserve(hour, **client()).name == "done"
    copies = [reserve_request(10, **client(idempotency_key="other", fingerprint="f")) for _ in range(2)]
    assert outcomes(database, *copies, batched=True) == ["too_many_holds"] * 2


def test_copies_of_an_attempt_leave_room_for_requests_behind_them(database: TestDatabase) -> None:
    """One hold is counted for all of them, in the same batch too."""
    database.make_service(capacity=10)
    copies = [reserve_request(10, **client(idempotency_key="key", fingerprint="f")) for _ in range(CAP)]
    others = [reserve_request(hour, **client()) for hour in range(CAP - 1)]
    granted = ["done"] + ["replayed"] * (CAP - 1) + ["done"] * (CAP - 1)
    assert outcomes(database, *copies, *others, batched=True) == granted


def test_another_request_with_the_key_does_not_share_a_refusal(database: TestDatabase) -> None:
    """Only equal requests are one attempt: this one is of another client, and a refusal keeps no key."""
    database.make_service(capacity=10)
    database.reserve(8, **client("full", max_live_holds=1))
    requests = [
        reserve_request(hour, **client(address, idempotency_key="key", fingerprint=address, max_live_holds=1))
        for hour, address in ((10, "full"), (12, "free"))
    ]
    assert outcomes(database, *requests, batched=True) == ["too_many_holds", "done"]


@NAMED
def test_each_business_counts_separately(database: TestDatabase, named: dict[str, Any]) -> None:
    """Holds in one business do not count in another."""
    database.make_service(capacity=10)
    database.make_service(capacity=10, business_id="clinic")
    for hour in range(CAP):
        database.reserve(hour, **named)
    assert database.reserve(10, business_id="clinic", **named).name == "done"


@pytest.mark.parametrize(("first", "second", "expected"), [("full", "free", "too_many_holds"), ("free", "full", None)])
def test_copies_from_two_addresses_get_one_outcome(
    database: TestDatabase, first: str, second: str, expected: str | None
) -> None:
    """If a client changes its network between two tries, the address of the first try counts."""
    database.make_service(capacity=10)
    database.reserve(8, **client("full", max_live_holds=1))
    copies = [
        reserve_request(10, **client(address, idempotency_key="key", fingerprint="f", max_live_holds=1))
        for address in (first, second)
    ]
    assert outcomes(database, *copies, batched=True) == ([expected] * 2 if expected else ["done", "replayed"])


def test_copies_with_and_without_an_id_get_one_outcome_each(database: TestDatabase) -> None:
    """The client of the first try counts, also where a later one has an id that the first one lacks."""
    database.make_service(capacity=10)
    database.reserve(8, **client("full", "id", max_live_holds=1))
    copies = [
        reserve_request(10, **client("full", client_id, idempotency_key="key", fingerprint="f", max_live_holds=1))
        for client_id in (None, "id")
    ]
    rows = database.rows(
        "SELECT operation_id::text, outcome FROM booking.execute(%s, %s, %s)",
        ["salon"],
        [Jsonb({"reserve": copies})],
        NO_DEADLINE,
    )
    assert sorted(rows) == sorted((copy["operation_id"], "too_many_holds") for copy in copies)


def test_an_id_of_a_later_copy_does_not_count(database: TestDatabase) -> None:
    """The first try is within the limits of its client, and the others repeat it."""
    database.make_service(capacity=10)
    database.reserve(8, **client("other", "full", max_live_holds=1))
    copies = [
        reserve_request(10, **client("free", client_id, idempotency_key="key", fingerprint="f", max_live_holds=1))
        for client_id in (None, "full")
    ]
    assert outcomes(database, *copies, batched=True) == ["done", "replayed"]


def booked(database: TestDatabase) -> dict[str, int]:
    """Returns the places that clients booked, by their names."""
    return dict(database.rows("SELECT client_hmac, places FROM booking.client_bookings"))


@pytest.mark.parametrize("verb", ["book", "commit"])
@pytest.mark.parametrize("client_of", [lambda n: ("a", f"id {n}"), lambda n: (f"a {n}", "id")], ids=["address", "id"])
def test_a_client_books_no_more_places_on_a_day_than_it_may(
    database: TestDatabase, verb: str, client_of: Callable[[int], tuple[str, str]]
) -> None:
    """Places count by address and by id, whether they were held before or booked at once."""
    database.make_service(capacity=100)
    for number, quantity in enumerate((1, CAP - 1)):
        request = daily(*client_of(number), quantity=quantity)
        if verb == "book":
            assert database.book(10, **request).name == "done"
        else:
            assert database.commit(database.reserve(10, **request).id).name == "done"
    assert database.book(11, **daily(*client_of(3))).name == "too_many_bookings"
    assert database.reserve(11, **daily(*client_of(4))).name == "too_many_bookings"
    assert database.book(11, **daily("other", "other")).name == "done"


@pytest.mark.parametrize("batched", [False, True])
def test_bookings_of_one_batch_count_together(database: TestDatabase, *, batched: bool) -> None:
    """The limit applies in one batch and one by one."""
    database.make_service(capacity=100)
    requests = [book_request(10 + number, **daily()) for number in range(CAP + 1)]
    batches = [requests] if batched else [[request] for request in requests]
    found = names(outcome for batch in batches for outcome in database.call("book", batch))
    assert found == ["done"] * CAP + ["too_many_bookings"]
    assert booked(database) == {"address": CAP}


def test_a_booking_beyond_the_limit_counts_for_none_behind_it(database: TestDatabase) -> None:
    """A smaller one in the same batch gets the places."""
    database.make_service(capacity=100)
    requests = [book_request(10, quantity=quantity, **daily()) for quantity in (CAP + 1, CAP)]
    assert names(database.call("book", requests)) == ["too_many_bookings", "done"]


def test_the_limit_of_live_holds_is_named_before_that_of_a_day(database: TestDatabase) -> None:
    """The address holds too many places, and the id has booked too many."""
    database.make_service(capacity=100)
    limited = partial(client, max_daily_bookings=CAP)
    assert database.book(10, quantity=CAP, **limited("other", "id")).name == "done"
    assert database.reserve(10, quantity=CAP, **limited("address")).name == "done"
    assert database.reserve(10, **limited("address", "id")).name == "too_many_holds"


def test_the_limit_of_a_day_applies_without_one_of_live_holds(database: TestDatabase) -> None:
    """Each of the two limits may be left out."""
    database.make_service(capacity=100)
    request = client(max_live_holds=None, max_daily_bookings=CAP)
    assert [database.book(10, **request).name for _ in range(CAP + 1)] == ["done"] * CAP + ["too_many_bookings"]
    refused = database.reserve(10, **request)
    assert (refused.name, refused.body) == ("too_many_bookings", {})


def test_live_holds_count_as_bookings_to_come(database: TestDatabase) -> None:
    """So that every live hold can be committed."""
    database.make_service(capacity=100)
    holds = [database.reserve(10, **daily()).id for _ in range(CAP)]
    assert database.reserve(10, **daily()).name == "too_many_bookings"
    assert database.book(10, **daily()).name == "too_many_bookings"
    assert [database.commit(hold).name for hold in holds] == ["done"] * CAP
    assert database.book(10, **daily()).name == "too_many_bookings"


def test_live_holds_up_to_the_limit_of_a_day_are_committed(database: TestDatabase) -> None:
    """They were counted when they were made, also where the service limits the appointments of a guest."""
    database.make_service(capacity=100, max_upcoming_per_guest=CAP)
    holds = [database.reserve(10, **daily()).id for _ in range(CAP)]
    assert [database.commit(hold, max_daily_bookings=CAP).name for hold in holds] == ["done"] * CAP


@pytest.mark.parametrize("batched", [False, True])
def test_a_rebook_keeps_to_the_limit_of_a_day(database: TestDatabase, *, batched: bool) -> None:
    """Else short holds, one after the other, would become any number of bookings. A live hold is committed."""
    database.make_service(capacity=100)
    limits = {"max_live_holds": 1000, "max_daily_bookings": CAP}
    expired = [database.reserve(hour, ttl_minutes=1, **client()).id for hour in range(CAP)]
    database.move_clock(timedelta(minutes=1))
    live = database.reserve(10, **client()).id
    requests = [commit_request(hold, if_expired="rebook", **limits) for hold in expired]
    batches = [requests] if batched else [[request] for request in requests]
    outcomes = names(outcome for batch in batches for outcome in database.call("commit", batch))
    assert sorted(outcomes) == ["done"] * (CAP - 1) + ["reservation_expired"]
    assert database.commit(live, if_expired="rebook", **limits).name == "done"
    assert database.commit(live, if_expired="rebook", **limits).name == "replayed"


def test_a_booking_counts_once(database: TestDatabase) -> None:
    """Neither a replay, nor a call sent again, nor a refusal counts; a hold that is booked again does."""
    database.make_service(capacity=2)
    expired = database.reserve(9, quantity=2, ttl_minutes=1, **client("late")).id
    database.move_clock(timedelta(minutes=1))
    book = book_request(10, **daily(idempotency_key="key", fingerprint="f"))
    commit = commit_request(database.reserve(10, **daily("b", "id")).id)
    for _ in range(2):
        assert names(database.call("book", [book])) == ["done"]
        assert names(database.call("commit", [commit])) == ["done"]
    assert database.call("book", [{**book, "operation_id": str(uuid4())}])[0].name == "replayed"
    assert database.commit(commit["reservation_id"]).name == "replayed"
    assert database.book(10, **daily()).name == "slot_unavailable"
    assert names(database.commit(expired, if_expired="rebook") for _ in range(2)) == ["done", "replayed"]
    assert booked(database) == {"address": 1, "b": 1, "id": 1, "late": 2}


def test_a_day_ends_at_midnight_utc(database: TestDatabase) -> None:
    """The purge deletes the counts of former days, of every business."""
    database.make_service(capacity=100)
    database.make_service(business_id="clinic")
    database.freeze_clock(at(0, day=-1))
    for business_id in ("salon", "clinic"):
        assert database.book(10, business_id=business_id, **daily(quantity=1)).name == "done"
    assert database.book(10, **daily(quantity=CAP)).name == "too_many_bookings"
    database.freeze_clock(at(0))
    assert database.book(10, **daily(quantity=CAP)).name == "done"
    database.rows("SELECT booking.record_purge(gen_random_uuid(), now(), 0, 0, 0, 0)")
    assert database.rows("SELECT business_id, places FROM booking.client_bookings") == [("salon", CAP)]


def test_bookings_without_a_known_client_are_not_counted(database: TestDatabase) -> None:
    """Those of staff, and all where the limits are switched off: then a hold has no address."""
    database.make_service(capacity=10)
    assert database.book(10, manual=True).name == "done"
    assert database.commit(database.reserve(10).id).name == "done"
    assert database.commit(database.reserve(10, client_id_hmac="id").id).name == "done"
    assert booked(database) == {}
