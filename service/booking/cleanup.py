"""The purge: marks expired holds, deletes reservations that ended long ago, and erases guests' data after the retention
of their business. No decision depends on it."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import Final

import psycopg
import structlog
from pydantic import Field
from pydantic_core import from_json

from service.booking.requests import new_operation_id
from service.booking.verbs import Announce, announce_unknown
from service.database.connections import Database
from service.database.failures import is_connection_lost, is_passing, logged
from service.naming import Record
from service.observability.metrics import PURGE_RUNS, PURGED

# The most rows that one transaction expires, the most that it deletes, the most that it erases, and the most businesses
# that it locks: a caller waits half a millisecond longer for it.
_STEP_ROWS: Final = 5
# How often in a row a business may be found locked, before the run goes on with others. Under load it is locked most of
# the time, but never for long.
_BUSY_ATTEMPTS: Final = 50
# From the start of a transaction until its deadline.
_CALL_SECONDS: Final = 1.0
# The longest run: less than the minute after which a scheduler calls again.
_RUN_SECONDS: Final = 30.0

# What is counted, in the order of booking.purge and booking.record_purge.
_RESULTS: Final = ("expired", "deleted", "erased")

log = structlog.get_logger(__name__)


class CleanupReport(Record):
    """The result of one run."""

    expired: int = Field(description="Holds that were marked as expired.")
    deleted: int = Field(description="Ended reservations that were deleted.")
    erased: int = Field(description="Appointments whose guest's data was erased: see `guestRetentionDays`.")
    remaining: int = Field(description="Rows left for the next run: of busy businesses, or more than fits in a run.")
    duration_ms: int = Field(description="How long the run took, in milliseconds.")


class Cleanup:
    """The purge over all businesses. Any number may run at once."""

    def __init__(self, database: Database, *, retention: timedelta, announce: Announce | None = None) -> None:
        self._database = database
        self._retention = retention
        self._announce = announce

    async def run(self) -> CleanupReport:
        """Purges every business with rows that are due, in transactions of a few rows. Raises `Unavailable`."""
        with PURGE_RUNS.labels("failed").count_exceptions():
            report = await self._run()
        PURGE_RUNS.labels("done").inc()
        log.info("purged", **report.model_dump(by_alias=False))
        return report

    async def _run(self) -> CleanupReport:
        started = time.monotonic()
        [(started_at,)] = await self._database.fetch("now")
        rows, left_out = await self._database.fetch_everywhere("due_businesses", self._retention)
        if left_out:
            log.warning("purge_incomplete", partitions_down=left_out)
        purged = Counter(dict.fromkeys(_RESULTS, 0))
        due = [business_id for business_id, _ in rows]
        for first in range(0, len(due), _STEP_ROWS):
            await self._purge(due[first : first + _STEP_ROWS], purged, until=started + _RUN_SECONDS)
        still_due, _ = await self._database.fetch_everywhere("due_businesses", self._retention)
        remaining = sum(count for _, count in still_due)
        counts = *purged.values(), remaining
        await self._database.fetch_everywhere("record_purge", new_operation_id(), started_at, *counts)
        took_ms = round((time.monotonic() - started) * 1000)
        return CleanupReport(**purged, remaining=remaining, duration_ms=took_ms)

    async def _purge(self, business_ids: list[str], purged: Counter[str], *, until: float) -> None:
        """Purges businesses step by step, until nothing is due, those left stay busy, or the run's time is up. Adds the
        numbers of rows to `purged`."""
        attempts = 0
        while time.monotonic() < until:
            step_started = time.monotonic()
            step = await self._step(business_ids)
            if step is None:
                return
            numbers, busy = step
            purged.update(numbers)
            attempts = 0 if any(numbers.values()) else attempts + 1
            if max(numbers.values()) < _STEP_ROWS:
                # Nothing is left to purge in the others. Rows that become due meanwhile wait for the next run: with
                # them, a few busy businesses could take all of the time of this run.
                business_ids = busy
            if not business_ids or attempts == _BUSY_ATTEMPTS:
                return
            # Leaves the locks and the processor to the requests for as long as the step took.
            await asyncio.sleep(time.monotonic() - step_started)

    async def _step(self, business_ids: list[str]) -> tuple[dict[str, int], list[str]] | None:
        """Purges a few rows of businesses in one transaction. Returns the numbers of rows, and the businesses that were
        locked; None if the database failed in a way that may pass."""
        try:
            async with self._database.connection() as connection:
                deadline = self._database.deadline(_CALL_SECONDS)
                arguments = business_ids, self._retention, _STEP_ROWS, deadline
                [(*counts, freed, busy)] = await self._database.rows(connection, "purge", *arguments)
        except (psycopg.Error, asyncio.CancelledError) as error:
            if is_passing(error):
                return None
            for business_id in business_ids:
                announce_unknown(self._announce, business_id, _CALL_SECONDS)
            if is_connection_lost(error):
                return None
            raise
        numbers = dict(zip(_RESULTS, counts, strict=True))
        for what, number in numbers.items():
            PURGED.labels(what).inc(number)
        if self._announce:
            for service in from_json(freed):
                # The expiry itself was announced by no request.
                self._announce(service.pop("business_id"), service, moved=False)
            # The answer does not tell which of them had guests to erase.
            for business_id in business_ids if numbers["erased"] else ():
                self._announce(business_id, {}, moved=False)
        return numbers, busy

    async def run_every(self, interval_seconds: float) -> None:
        """Runs for ever. Processes share the interval: one that finds a recent run of another skips its own."""
        while True:
            await asyncio.sleep(interval_seconds)
            with logged("purge_failed"):
                [(now, *_, last_purge_at, _, _)], _ = await self._database.fetch_everywhere("reservation_health")
                if last_purge_at is None or (now - last_purge_at).total_seconds() > interval_seconds / 2:
                    await self.run()
