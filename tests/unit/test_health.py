"""Reservation health: its status, by the numbers from the database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.booking import health as booking_health
from service.booking.health import PURGE_LATE_SECONDS, Findings, HealthMonitor, ReservationHealth, judge
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
    unknown_timezones: dict[str, int] | None = None,
) -> ReservationHealth:
    """Returns the health for times that are given as their distance from now."""
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
        Findings({"overbooked_instants": violations}, unknown_timezones or {}),
    )


def test_nothing_to_purge_is_not_late() -> None:
    """A service that never purged and has nothing to purge is healthy."""
    assert health().status == "ok"


def test_no_ended_holds_have_no_conversion() -> None:
    """The share is undefined and not zero."""
    assert health().conversion is None
    assert health(committed=1, ended=3).conversion == 0.3333


@pytest.mark.parametrize(("last_purge", "late"), [(IN_TIME, False), (LATE, True)])
def test_the_purge_is_late_after_five_minutes(last_purge: timedelta, late: bool) -> None:
    """It does not matter whether any hold has expired."""
    assert health(last_purge=last_purge).purge_late is late
    assert health(last_purge=last_purge).status == ("degraded" if late else "ok")


def test_a_purge_that_never_ran_is_as_late_as_the_oldest_expired_hold() -> None:
    """There is no other time to compare with."""
    assert health(oldest_expired=IN_TIME).purge_late is False
    assert health(oldest_expired=LATE).purge_late is True


def test_expired_holds_that_stay_degrade_even_if_the_purge_runs() -> None:
    """The purge runs, but does not reach these holds."""
    judged = health(oldest_expired=LATE, last_purge=timedelta(seconds=10))
    assert (judged.status, judged.purge_late) == ("degraded", False)
    assert health(oldest_expired=IN_TIME, last_purge=timedelta(seconds=10)).status == "ok"


def test_a_violation_outweighs_everything() -> None:
    """The critical reason comes first."""
    judged = health(violations=2, last_purge=LATE)
    assert judged.status == "critical"
    assert judged.reasons[0] == "invariant_violated: overbooked_instants (2)"
    assert len(judged.reasons) == 2


def test_an_unknown_time_zone_degrades() -> None:
    """The calls that need the local time of these businesses are refused; all others work."""
    judged = health(unknown_timezones={"Mars/Olympus": 2})
    assert judged.status == "degraded"
    assert judged.reasons == ["unknown_timezone: the database server does not know Mars/Olympus; businesses in it: 2"]


class BlockedDatabase(Database):
    """Does not answer until an event is set, and then fails."""

    def __init__(self) -> None:
        self.queries = 0
        self.may_fail = asyncio.Event()

    async def observe(self, *_: object) -> tuple[list[tuple[object, ...]], tuple[int, ...]]:
        """Fails once the event is set."""
        self.queries += 1
        await self.may_fail.wait()
        raise DatabaseDown


@pytest.mark.anyio
async def test_callers_share_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a query for each, the last of four callers would wait four times as long as the first. A caller that comes
    soon afterwards does not wait for another one."""
    monkeypatch.setattr(booking_health, "_COUNTS_VALID_SECONDS", 60)
    database = BlockedDatabase()
    monitor = HealthMonitor(database)
    asking = [asyncio.create_task(monitor.health()) for _ in range(4)]
    await asyncio.sleep(0)
    database.may_fail.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseDown] * 4
    with pytest.raises(DatabaseDown):
        await monitor.health()
    assert database.queries == 1


class FailingDatabase(Database):
    """Answers what is asked about reservations, but for the first check of the invariants."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def observe(self, name: str, *_: object) -> tuple[list[tuple[Any, ...]], tuple[int, ...]]:
        """Fails once, at the check."""
        self.names.append(name)
        if name == "invariant_violations" and self.names.count(name) == 1:
            raise DatabaseDown
        return ([(NOW, 0, 0, None, None, 0, 0)] if name == "reservation_health" else []), ()


@pytest.mark.anyio
async def test_a_check_that_failed_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the most expensive query. Until the next one, the last findings count."""
    monkeypatch.setattr(booking_health, "_COUNTS_VALID_SECONDS", 0)
    database = FailingDatabase()
    monitor = HealthMonitor(database)
    with pytest.raises(DatabaseDown):
        await monitor.health()
    assert [(await monitor.health()).status for _ in range(2)] == ["ok", "ok"]
    assert database.names.count("invariant_violations") == 1
    monkeypatch.setattr(booking_health, "_FINDINGS_VALID_SECONDS", 0)
    await monitor.health()
    assert database.names.count("invariant_violations") == 2
