"""The moment of expiry by the real clock: commits and rivals fired at it from many threads, and no purge."""

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
# Around the expiry: a commit of each hold but one at some moment of this span, and rivals all along it. The one is
# of a guest who never comes back, so that nothing but a rival's reserve has to do with it.
SPAN_SECONDS = (-0.2, 0.05)
RIVALS_OF_EACH_SLOT = 3
# A round in which commits and rivals both win is enough. On a machine that stands still for a moment one side may
# have it all: then there is another round.
ROUNDS = 4

COMMITTED_TOO_LATE = """
SELECT a.created_at, r.expires_at FROM booking.appointments a
JOIN booking.reservations r USING (business_id, reservation_id)
WHERE a.created_at >= r.expires_at
"""


def test_at_the_moment_of_expiry_room_goes_to_the_commit_or_to_a_rival(database: TestDatabase, rivals: Rivals) -> None:
    """Never both, and never neither: what was not committed can be held, though no purge ever ran."""
    database.make_service(capacity=CAPACITY)
    # Connected beforehand: a round has to be ready before its holds expire.
    clients = [rivals.connect() for _ in range(SLOTS * (CAPACITY - 1 + RIVALS_OF_EACH_SLOT))]
    winners: Counter[str] = Counter()
    for first_slot in range(0, ROUNDS * SLOTS, SLOTS):
        winners += shoot(database, rivals, clients, [float(first_slot + i) for i in range(SLOTS)])
        if winners["commit"] and winners["rival"]:
            return
    raise AssertionError(f"commits and rivals never met: {winners}")


def shoot(database: TestDatabase, rivals: Rivals, clients: list[TestDatabase], hours: list[float]) -> Counter[str]:
    """One round, on slots that are all held to the last unit. Returns how many units went to each side."""
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

    told = [(hour, call.result()) for hour, call in commits]
    assert {name for _, name in told} <= {"done", "reservation_expired"}
    committed = Counter(hour for hour, name in told if name == "done")
    taken = Counter(hour for hour, call in others for _ in range(call.result()))
    for hour in hours:
        assert_never_both(database, hour, committed[hour], taken[hour])
    assert database.rows(COMMITTED_TOO_LATE) == []
    return Counter(commit=committed.total(), rival=taken.total())


def assert_never_both(database: TestDatabase, hour: float, committed: int, taken: int) -> None:
    """What was granted is there, fits into the slot, and what is left of it can be held."""
    left = CAPACITY - committed - taken
    assert left >= 0, f"{committed} commits and {taken} rivals in a slot of {CAPACITY}"
    room = database.capacity(hour)
    assert (room["booked"], room["held"], room["available"]) == (committed, taken, left)
    afterwards = [database.reserve(hour).name for _ in range(left + 1)]
    assert afterwards == ["done"] * left + ["slot_unavailable"]


def expiry(hold: Outcome) -> float:
    """When a hold expires, in seconds as time.time() counts them: server and test are on one machine."""
    return datetime.fromisoformat(hold.body["expires_at"]).timestamp()


def commit_at(ready: Barrier, instant: float, hold: Outcome, own: TestDatabase) -> str:
    """Commits a hold at an instant, and says what came of it."""
    ready.wait()
    time.sleep(max(0, instant - time.time()))
    return own.commit(hold.id).name


def reserve_around(ready: Barrier, expires_at: float, hour: float, own: TestDatabase) -> int:
    """Tries to reserve a slot again and again while its holds expire, and says how often it succeeded."""
    ready.wait()
    time.sleep(max(0, expires_at + SPAN_SECONDS[0] - time.time()))
    granted = 0
    while True:
        last = time.time() > expires_at + SPAN_SECONDS[1]
        granted += own.reserve(hour).name == "done"
        if last:
            return granted
