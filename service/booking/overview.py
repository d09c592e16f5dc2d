"""What operators see of the whole service at a glance: the last hours, and the locks that are waited for now."""

from collections import Counter
from typing import Final

from pydantic import Field

from service.booking.instants import WrittenInstant
from service.database.connections import Database
from service.naming import Record

_BUSINESSES: Final = 10
# The last hour, at a run a minute.
_PURGE_RUNS: Final = 60


class HourlyCounts(Record):
    """What happened in one hour."""

    hour: WrittenInstant = Field(description="When the hour begins, in UTC.")
    made: int = Field(description="Holds that were made.")
    committed: int = Field(description="Holds that became appointments.")
    released: int = Field(description="Holds that were given up.")
    expired: int = Field(description="Holds that expired, purged or not.")
    booked: int = Field(description="Appointments that were made, with a hold or without.")


class BusyBusiness(Record):
    """A business, and how much happened in it."""

    business_id: str = Field(description="The business.")
    name: str = Field(description="Its name.")
    made: int = Field(description="Holds that were made.")
    booked: int = Field(description="Appointments that were made.")


class PurgeRun(Record):
    """A run of the purge."""

    started_at: WrittenInstant = Field(description="When it began.")
    finished_at: WrittenInstant = Field(description="When it ended.")
    expired: int = Field(description="Holds that it marked as expired.")
    deleted: int = Field(description="Ended reservations that it deleted.")
    erased: int = Field(description="Appointments whose guest's data it erased.")
    remaining: int = Field(description="Rows that it left for the next run.")


class LockWait(Record):
    """A business whose lock is waited for now."""

    business_id: str = Field(description="The business.")
    waiting: int = Field(description="Sessions of the database that wait for its lock.")
    seconds: float = Field(description="How long the first of them has waited.")
    blocker_pids: list[int] = Field(description="The sessions that hold the lock; 0 for a prepared transaction.")


class Overview(Record):
    """The last hours of all businesses."""

    now: WrittenInstant = Field(description="The time of the database.")
    hours: list[HourlyCounts] = Field(description="The hours in their order. The last one is not over.")
    businesses: list[BusyBusiness] = Field(description="The businesses with the most holds and appointments in them.")
    purge_runs: list[PurgeRun] = Field(description="The last runs of the purge, the latest first.")
    lock_waits: list[LockWait] = Field(description="Businesses whose lock is waited for, the longest wait first.")


async def overview(database: Database, hours: int) -> Overview:
    """Returns the last hours, the current one included. Raises `Unavailable`.

    Each of several servers has rows of its own for an hour, and for a run of the purge; one that is down is left out.
    """
    [(now,), *_] = await database.fetch("now")
    rows, _ = await database.observe("hourly_counts", hours)
    counts: dict[str, Counter[str]] = {}
    for hour in map(HourlyCounts.of_row, rows):
        counts.setdefault(hour.hour, Counter()).update(hour.model_dump(by_alias=False, exclude={"hour"}))
    rows, _ = await database.observe("busiest_businesses", hours, _BUSINESSES)
    businesses = map(BusyBusiness.of_row, rows)
    rows, _ = await database.observe("purge_runs", _PURGE_RUNS)
    runs = {run_id: run for run_id, *run in rows}
    rows, _ = await database.observe("lock_waits")
    waits = map(LockWait.of_row, rows)
    return Overview(
        now=now,
        hours=[HourlyCounts(hour=hour, **counts[hour]) for hour in sorted(counts)],
        businesses=sorted(businesses, key=lambda one: (-one.made - one.booked, one.business_id))[:_BUSINESSES],
        purge_runs=sorted(map(PurgeRun.of_row, runs.values()), key=lambda run: run.finished_at, reverse=True),
        lock_waits=sorted(waits, key=lambda wait: -wait.seconds),
    )
