"""Commits and reserves sent from many threads at the moment of expiry by the real clock, without a purge."""

import time
from collections import Counter
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from random import Random
from threading import Barrier

from tests.concurrency.rivals import Rivals
from tests.database import Outcome, TestDatabase

SLOTS = 6
CAPACITY = 3
TTL_SECONDS = 1.2
# All but one hold of each slot are committed at some moment of this span around the expiry, and other clients reserve
# during all of it. The remaining hold is never committed, so that its room can only go to a reserve.
SPAN_SECONDS = (-0.2, 0.05)
RIVALS_OF_EACH_SLOT = 3
# One round in which both commits and reserves succeed is enough. If the machine stalls for a moment, one side may win
# everything: then another round follows.
ROUNDS = 4

COMMITTED_TOO_LATE = """
SELECT a.created_at, r.expires_at FROM booking.appointments a
JOIN booking.reservations r USING (business_id, reservation_id)
WHERE a.created_at >= r.expires_at
"""


def test_at_the_moment_of_expiry_room_goes_to_the_commit_or_to_a_rival(database: TestDatabase, rivals: Rivals) -> None:
    """The room of a hold goes to exactly one of the two, and uncommitted room can be held although no purge ran."""
    database.make_service(capacity=CAPACITY)
    # The clients connect beforehand, because a round has to be ready before its holds expire.
    clients = [rivals.connect() for _ in range(SLOTS * (CAPACITY - 1 + RIVALS_OF_EACH_SLOT))]
    winners: Counter[str] = Counter()
    for first_slot in range(0, ROUNDS * SLOTS, SLOTS):
        winners += race_at_expiry(database, rivals, clients, [float(first_slot + i) for i in range(SLOTS)])
        if winners["commit"] and winners["rival"]:
            return
    raise AssertionError(f"commits and rivals never met: {winners}")


def race_at_expiry(
    database: TestDatabase, rivals: Rivals, clients: list[TestDatabase], hours: list[float]
) -> Counter[str]:
    """Runs a round on slots that are all fully held, and returns how many units went to commits and to reserves."""
    random = Random(1)
    ready = Barrier(len(clients))
    free = iter(clients)
    commits: list[tuple[float, Future[str]]] = []
    others: list[tuple[float, Future[int]]] = []
    held = {hour: [database.reserve(hour, ttl_minutes=TTL_SECONDS / 60) for _ in range(CAPACITY)] for hour in hours}
    for hour, (_, *holds) in held.items():
        for hold in holds:
            instant = expiry(hold) + random.uniform(*SPAN_SECONDS)
            commits.append((hour, rivals.start(partial(commit_at, ready, instant, hold), next(free))))
        rival = partial(reserve_around, ready, expiry(holds[-1]), hour)
        others += [(hour, rivals.start(rival, next(free))) for _ in range(RIVALS_OF_EACH_SLOT)]

    outcomes = [(hour, call.result()) for hour, call in commits]
    assert {name for _, name in outcomes} <= {"done", "reservation_expired"}
    committed = Counter(hour for hour, name in outcomes if name == "done")
    taken = Counter(hour for hour, call in others for _ in range(call.result()))
    for hour in hours:
        assert_sold_once(database, hour, committed[hour], taken[hour])
    assert database.rows(COMMITTED_TOO_LATE) == []
    return Counter(commit=committed.total(), rival=taken.total())


def assert_sold_once(database: TestDatabase, hour: float, committed: int, taken: int) -> None:
    """Checks that all granted units are stored and fit into the slot, and that the rest of the slot can be held."""
    left = CAPACITY - committed - taken
    assert left >= 0, f"{committed} commits and {taken} rivals in a slot of {CAPACITY}"
    room = database.capacity(hour)
    assert (room["booked"], room["held"], room["available"]) == (committed, taken, left)
    afterwards = [database.reserve(hour).name for _ in range(left + 1)]
    assert afterwards == ["done"] * left + ["slot_unavailable"]


def expiry(hold: Outcome) -> float:
    """Returns when a hold expires, in seconds as time.time() counts them: server and test run on one machine."""
    return datetime.fromisoformat(hold.body["expires_at"]).timestamp()


def commit_at(ready: Barrier, instant: float, hold: Outcome, own: TestDatabase) -> str:
    """Commits a hold at an instant, and returns the name of the outcome."""
    ready.wait()
    time.sleep(max(0, instant - time.time()))
    return own.commit(hold.id).name


def reserve_around(ready: Barrier, expires_at: float, hour: float, own: TestDatabase) -> int:
    """Tries to reserve a slot repeatedly while its holds expire, and returns how often it succeeded."""
    ready.wait()
    time.sleep(max(0, expires_at + SPAN_SECONDS[0] - time.time()))
    granted = 0
    while True:
        last = time.time() > expires_at + SPAN_SECONDS[1]
        granted += own.reserve(hour).name == "done"
        if last:
            return granted
