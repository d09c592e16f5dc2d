"""The purge: expired holds become expired, and what ended long ago is deleted. Nothing depends on it."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import psycopg
import structlog

from service.booking.operations import new_operation_id
from service.booking.verbs import Announce
from service.database.connections import Database
from service.database.failures import is_connection_lost, is_passing
from service.naming import Record
from service.observability.metrics import PURGE_RUNS, PURGED

# Rows that one transaction expires, and deletes, at most, and businesses that it locks: half a millisecond by which a
# caller may have to wait longer.
_STEP_ROWS: Final = 5
# How long one run goes on at most: less than the minute in which a scheduler calls again.
_RUN_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


class CleanupReport(Record):
    """What a run did. `remaining` is what it had to leave: businesses that were busy, or more than fits in a run."""

    expired: int
    deleted: int
    remaining: int
    duration_ms: int


class Cleanup:
    """The purge over all businesses. Any number may run at once."""

    def __init__(self, database: Database, *, retention: timedelta, announce: Announce | None = None) -> None:
        self._database = database
        self._retention = retention
        self._announce = announce

    async def run(self) -> CleanupReport:
        """Purges every business that has something due, in transactions of a few rows each. Raises `Unavailable`."""
        try:
            report = await self._run()
        except Exception:
            PURGE_RUNS.labels("failed").inc()
            raise
        PURGE_RUNS.labels("done").inc()
        log.info("purged", **report.model_dump(by_alias=False))
        return report

    async def _run(self) -> CleanupReport:
        started = time.monotonic()
        [(started_at,)] = await self._database.fetch("server_time")
        due = [business_id for business_id, _ in await self._database.fetch("due_businesses", self._retention)]
        expired = deleted = 0
        for first in range(0, len(due), _STEP_ROWS):
            steps = self._purge(due[first : first + _STEP_ROWS], until=started + _RUN_SECONDS)
            async for step_expired, step_deleted in steps:
                expired += step_expired
                deleted += step_deleted
        remaining = sum(count for _, count in await self._database.fetch("due_businesses", self._retention))
        await self._database.fetch("record_purge", new_operation_id(), started_at, expired, deleted, remaining)
        return CleanupReport(
            expired=expired,
            deleted=deleted,
            remaining=remaining,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    async def _purge(self, business_ids: list[str], *, until: float) -> AsyncIterator[tuple[int, int]]:
        """Purges businesses step by step, until nothing is due, all are busy, or the run's time is up.

        Yields how many holds each step marked as expired, and how many reservations it deleted.
        """
        while time.monotonic() < until:
            step_started = time.monotonic()
            try:
                async with self._database.connection() as connection:
                    [(expired, deleted, freed, _)] = await self._database.rows(
                        connection, "purge", business_ids, self._retention, _STEP_ROWS, self._database.deadline(1)
                    )
            except psycopg.Error as error:
                if not (is_passing(error) or is_connection_lost(error)):
                    raise
                return
            if self._announce:
                for service in freed:
                    # They had room since their holds expired, but nobody was told then.
                    self._announce(service.pop("business_id"), service, moved=False)
            PURGED.labels("expired").inc(expired)
            PURGED.labels("deleted").inc(deleted)
            yield expired, deleted
            if max(expired, deleted) < _STEP_ROWS:
                return
            # As long as it worked it leaves the locks, and the processor, to the others.
            await asyncio.sleep(time.monotonic() - step_started)

    async def run_every(self, interval_seconds: float) -> None:
        """Runs for ever. Several processes share the interval: whoever finds that another one has just run, waits."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                [(now, *_, last_purge_at, _, _)] = await self._database.fetch("reservation_health")
                if last_purge_at is None or (now - last_purge_at).total_seconds() > interval_seconds / 2:
                    await self.run()
            except Exception as error:
                log.warning("purge_failed", error=type(error).__name__)
