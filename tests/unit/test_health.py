"""What the numbers of reservation health mean."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from service.booking.health import PURGE_LATE_SECONDS, HealthMonitor, ReservationHealth, judge
from service.database.connections import Database
from service.errors import DatabaseDown

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATE = timedelta(seconds=PURGE_LATE_SECONDS + 1)
IN_TIME = timedelta(seconds=PURGE_LATE_SECONDS)


def health(
    *,
    oldest_expired: timedelta | None = None,
    last_purge: timedelta | None = None,
    committed: int = 0,
    ended: int = 0,
    violations: int = 0,
) -> ReservationHealth:
    """The judgement, with times given as how long ago they were."""
    return judge(
        (
            NOW,
            0,
            1 if oldest_expired else 0,
            NOW - oldest_expired if oldest_expired else None,
            NOW - last_purge if last_purge else None,
            committed,
            ended,
        ),
        {"overbooked_instants": violations},
    )


def test_nothing_to_purge_is_not_late() -> None:
    """A service that never purged and has nothing to purge is well."""
    assert health().status == "ok"


def test_no_ended_holds_have_no_conversion() -> None:
    """Nought of nought is not zero."""
    assert health().conversion is None
    assert health(committed=1, ended=3).conversion == 0.3333


@pytest.mark.parametrize(("last_purge", "late"), [(IN_TIME, False), (LATE, True)])
def test_the_purge_is_late_after_five_minutes(last_purge: timedelta, late: bool) -> None:
    """Not before, and then whether or not anything has expired."""
    assert health(last_purge=last_purge).purge_late is late
    assert health(last_purge=last_purge).status == ("degraded" if late else "ok")


def test_a_purge_that_never_ran_is_as_late_as_the_oldest_expired_hold() -> None:
    """There is nothing else to measure it by."""
    assert health(oldest_expired=IN_TIME).purge_late is False
    assert health(oldest_expired=LATE).purge_late is True


def test_expired_holds_that_stay_degrade_even_if_the_purge_runs() -> None:
    """Then it runs and does not get at them."""
    judged = health(oldest_expired=LATE, last_purge=timedelta(seconds=10))
    assert (judged.status, judged.purge_late) == ("degraded", False)


def test_a_violation_outweighs_everything() -> None:
    """Critical comes first among the reasons."""
    judged = health(violations=2, last_purge=LATE)
    assert judged.status == "critical"
    assert judged.reasons[0] == "invariant_violated: overbooked_instants (2)"
    assert len(judged.reasons) == 2


class Silent(Database):
    """A database that answers nobody until it has been asked, and then fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.gives_up = asyncio.Event()

    async def fetch(self, *_: object) -> list[tuple[object, ...]]:
        """Fails in the end."""
        self.asked += 1
        await self.gives_up.wait()
        raise DatabaseDown


@pytest.mark.anyio
async def test_those_who_ask_at_once_share_a_failure() -> None:
    """They asked one after the other: the fourth was told after four times as long as the first."""
    database = Silent()
    monitor = HealthMonitor(database)
    asking = [asyncio.create_task(monitor.health()) for _ in range(4)]
    await asyncio.sleep(0)
    database.gives_up.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseDown] * 4
    assert database.asked == 1
