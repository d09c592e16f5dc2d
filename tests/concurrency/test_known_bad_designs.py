"""The negative control: the race harness detects the fault of each known bad design."""

from collections.abc import Iterator

import pytest

from tests.concurrency.designs import (
    BAD,
    COUNT_AND_INSERT,
    LOCK_INSIDE,
    LOCK_OVERLAPPING,
    SERIALIZABLE,
    Design,
)
from tests.concurrency.race import CLIENTS, Race, Tally, racing
from tests.database import TestDatabase

# Measured where commits cost nothing (fsync off) and two processors run fifty clients, a single round of a free race
# catches a bad design in 4 to 9 cases out of 10. If it were 1 in 20, two hundred rounds would miss it once in 30 000
# runs. The first violation ends the race, so it mostly ends after two rounds.
ROUNDS = 200


@pytest.fixture
def race(database: TestDatabase) -> Iterator[Race]:
    """Returns connected clients. The claims of the bad designs are deleted before the invariants are checked."""
    with racing(database) as race:
        yield race
    database.forget_claims()


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        (COUNT_AND_INSERT, Tally(above_capacity=CLIENTS - 5)),
        (LOCK_INSIDE, Tally(above_capacity=CLIENTS - 5)),
        (LOCK_OVERLAPPING, Tally(above_capacity=CLIENTS - 1)),
        (SERIALIZABLE, Tally(unsold=4, false_refusals=CLIENTS - 1, errors=CLIENTS - 1)),
    ],
    ids=lambda value: value.name if isinstance(value, Design) else "",
)
def test_a_bad_design_fails_in_the_worst_way_when_all_decide_before_any_writes(
    database: TestDatabase, race: Race, design: Design, expected: Tally
) -> None:
    """One round with a gate fails with certainty: a fault of the real design would be detected in the same way."""
    assert list(race.rounds(design, rounds=1, gate=True)) == [expected]
    database.recount()
    assert ("overbooked_instants" in database.violations()) == (expected.above_capacity > 0)


@pytest.mark.parametrize("design", BAD, ids=lambda design: design.name)
def test_a_bad_design_fails_in_a_free_race(race: Race, design: Design) -> None:
    """Within 200 rounds the interleavings of the scheduler alone make each bad design fail."""
    tallies = race.rounds(design, rounds=ROUNDS)
    assert any(tally.above_capacity or tally.false_refusals for tally in tallies)
