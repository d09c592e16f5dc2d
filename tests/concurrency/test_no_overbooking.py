"""Many concurrent clients: the capacity is sold exactly, never one unit above or below it."""

from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest

from tests.concurrency.batches import execute_all
from tests.concurrency.designs import OURS
from tests.concurrency.race import CLIENTS, ROUNDS, Tally, racing
from tests.concurrency.rivals import Rivals
from tests.database import Outcome, TestDatabase, commit_request, reserve_request

CAPACITY = 5
BUFFER_BEFORE = timedelta(minutes=10)
BUFFER_AFTER = timedelta(minutes=5)
BUFFERS: dict[str, Any] = {"buffer_before_minutes": 10, "buffer_after_minutes": 5}
BUSINESSES = ("clinic", "kennel", "salon")
# Two worker processes with four concurrent calls each.
LANES = 8

# Start and end of the window, and the quantity.
Claim = tuple[Any, ...]


@pytest.mark.parametrize("gate", [False, True], ids=["free", "gate"])
@pytest.mark.parametrize("capacity", [1, 5, CLIENTS])
def test_a_race_for_one_slot_sells_exactly_its_capacity(database: TestDatabase, capacity: int, gate: bool) -> None:
    """No unit is sold above the capacity, none is left unsold, and no client is refused while there is room."""
    with racing(database, database.url) as race:
        tallies = list(race.rounds(OURS, capacity=capacity, gate=gate))
    assert tallies == [Tally()] * ROUNDS


def test_windows_that_overlap_without_being_equal_are_never_sold_twice(database: TestDatabase, rivals: Rivals) -> None:
    """Fifty clients reserve random windows and quantities with buffers: no instant is claimed above the capacity."""
    database.make_service(capacity=CAPACITY, **BUFFERS)
    random = Random(1)
    sequences = [[_any_request(random) for _ in range(6)] for _ in range(CLIENTS)]

    def reserve_each(requests: list[dict[str, Any]], client: TestDatabase) -> list[Outcome]:
        return [client.call("reserve", [request])[0] for request in requests]

    futures = [rivals.start(partial(reserve_each, requests)) for requests in sequences]
    answers = {
        request["operation_id"]: (request, outcome.name)
        for requests, future in zip(sequences, futures, strict=True)
        for request, outcome in zip(requests, future.result(), strict=True)
    }

    _assert_sold_fairly(database, "salon", list(answers.values()))


def test_batches_of_several_businesses_never_sell_a_unit_twice(database: TestDatabase, rivals: Rivals) -> None:
    """Eight lanes send batches for several businesses in random order: no deadlock, and no false refusal."""
    for business_id in BUSINESSES:
        database.make_service(business_id=business_id, capacity=CAPACITY, **BUFFERS)

    def work(seed: int, client: TestDatabase) -> list[tuple[str, dict[str, Any], str]]:
        random = Random(seed)
        answers = []
        held: dict[str, list[str]] = {business_id: [] for business_id in BUSINESSES}
        for _ in range(5):
            reserves = {business_id: [_any_request(random) for _ in range(8)] for business_id in BUSINESSES}
            batches: list[dict[str, Any]] = [
                {
                    "business_id": business_id,
                    "commit": [commit_request(reservation_id) for reservation_id in held[business_id]],
                    "reserve": reserves[business_id],
                }
                for business_id in random.sample(BUSINESSES, len(BUSINESSES))
            ]
            outcomes = execute_all(client, batches)
            for batch in batches:
                business_id = batch["business_id"]
                assert {outcomes[commit["operation_id"]].name for commit in batch["commit"]} <= {"done"}
                named = [(request, outcomes[request["operation_id"]].name) for request in batch["reserve"]]
                held[business_id] = [request["operation_id"] for request, name in named if name == "done"]
                answers += [(business_id, request, name) for request, name in named]
        return answers

    futures = [rivals.start(partial(work, seed)) for seed in range(LANES)]
    answers = [answer for future in futures for answer in future.result()]

    for business_id in BUSINESSES:
        _assert_sold_fairly(database, business_id, [(r, name) for owner, r, name in answers if owner == business_id])


def _any_request(random: Random) -> dict[str, Any]:
    start = random.randrange(0, 48) / 4
    return reserve_request(start, random.choice((0.25, 0.5, 1, 1.5, 3)), quantity=random.choice((1, 1, 2, 3)))


def _assert_sold_fairly(database: TestDatabase, business_id: str, answers: list[tuple[dict[str, Any], str]]) -> None:
    """Checks that the capacity is never exceeded; as no room was freed, a refused request must still not fit."""
    assert {name for _, name in answers} == {"done", "slot_unavailable"}
    assert database.rows("SELECT * FROM booking.overbooked_instants") == []
    claims = database.rows(
        "SELECT lower(occupied), upper(occupied), quantity FROM booking.claims WHERE business_id = %s", business_id
    )
    assert len(claims) == sum(name == "done" for _, name in answers)
    assert max(_claimed_at(claims, start) for start, _, _ in claims) == CAPACITY
    refused = [request for request, name in answers if name == "slot_unavailable"]
    assert not [request for request in refused if _still_fits(claims, request)], "refused although there was room"


def _still_fits(claims: list[Claim], request: dict[str, Any]) -> bool:
    """Returns whether there is room for a request, computed independently of the verbs."""
    starts = datetime.fromisoformat(request["slot_start"]) - BUFFER_BEFORE
    ends = datetime.fromisoformat(request["slot_end"]) + BUFFER_AFTER
    instants = [starts, *(start for start, _, _ in claims if starts <= start < ends)]
    return max(_claimed_at(claims, instant) for instant in instants) + int(request["quantity"]) <= CAPACITY


def _claimed_at(claims: list[Claim], instant: datetime) -> int:
    return sum(quantity for start, end, quantity in claims if start <= instant < end)
