"""Reservation health: figures from which operators see whether holds are granted, committed and cleaned up."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from service.booking.instants import WrittenInstant, written_instant
from service.database.connections import Database
from service.database.failures import logged
from service.naming import Record
from service.observability import metrics
from service.single_flight import SingleFlight

# More frequent requests get the last answer: the endpoint is public, and counting is expensive.
_COUNTS_VALID_SECONDS: Final = 1.0
_FINDINGS_VALID_SECONDS: Final = 30.0

# How often the gauges are set: the usual scrape interval of Prometheus. More often would be invisible, less often would
# delay alerts.
_GAUGES_SECONDS: Final = 15.0

# The scheduler calls every minute: five calls in a row were missed.
PURGE_LATE_SECONDS: Final = 300.0

# The body, language and settings of booking.now() in sql/functions/rules/now.sql.
_CLOCK: Final = ("SELECT date_trunc('milliseconds', clock_timestamp())", "sql", None)

Status = Literal["ok", "degraded", "critical"]
# The time; live and expired holds; the oldest expired one; the last purge; holds committed and ended in the last hour.
Counts = tuple[datetime, int, int, datetime | None, datetime | None, int, int]


class ReservationHealth(Record):
    """The health of reservations, as aggregates only."""

    status: Status = Field(description="`degraded` needs a look within the hour, `critical` at once.")
    reasons: list[str] = Field(description="Why it is not `ok`.")
    live: int = Field(description="Holds that are neither ended nor expired.")
    expired_unpurged: int = Field(description="Expired holds that the purge has not marked yet. They block nobody.")
    oldest_expired_seconds: float = Field(description="How long the oldest of those has waited.")
    last_purge_at: WrittenInstant | None = Field(description="When the purge last ended.")
    purge_late: bool = Field(description="Whether that is more than five minutes ago.")
    conversion: float | None = Field(description="Committed share of the holds ended in the last hour; `null` if none.")
    invariant_violations: dict[str, int] = Field(description="Violations of each invariant in the data: all must be 0.")


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of a check of the data."""

    # The number of violations of each invariant.
    violations: dict[str, int]
    # The time zones of businesses that the database server does not know, each with its number of businesses.
    unknown_timezones: dict[str, int]
    # Slugs that do not lead to the business that has them, or that lead to a business without them; each with that
    # business. Only a call that is interrupted between two servers leaves any, so they are looked for on demand only.
    stray_slugs: Sequence[tuple[str, str]] = ()
    # The partitions that could not be asked, where there are several.
    partitions_down: Sequence[int] = ()


class HealthMonitor:
    """Asks the database about its reservations, at most once a second for all callers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A failure is kept as well: callers must not wait one after the other for a database that does not answer.
        self._answer = SingleFlight[None, ReservationHealth](keep_seconds=_COUNTS_VALID_SECONDS, keep_failures=True)
        self._findings = Findings({}, {})
        self._findings_at: float | None = None

    async def health(self) -> ReservationHealth:
        """Returns the health, at most a second old, its findings half a minute. Raises `Unavailable`."""
        return await self._answer.run(None, self._look_up)

    async def _look_up(self) -> ReservationHealth:
        [counts], left_out = await self._database.observe("reservation_health")
        return judge(counts, await self._recent_findings(), left_out)

    async def keep_gauges(self) -> None:
        """Sets the gauges for ever. While the database does not answer, all but `DATABASE_UP` keep their values."""
        while True:
            with logged("health_unknown"):
                await self._set_gauges()
            await asyncio.sleep(_GAUGES_SECONDS)

    async def _set_gauges(self) -> None:
        try:
            await self._database.fetch("server_time")
        except Exception:
            metrics.DATABASE_UP.set(0)
            raise
        metrics.DATABASE_UP.set(1)
        metrics.PARTITIONS_DOWN.set(len(self._database.nodes.down))
        health = await self.health()
        metrics.RESERVATIONS_LIVE.set(health.live)
        metrics.RESERVATIONS_EXPIRED_UNPURGED.set(health.expired_unpurged)
        metrics.OLDEST_EXPIRED_SECONDS.set(health.oldest_expired_seconds)
        last_purge = datetime.fromisoformat(health.last_purge_at).timestamp() if health.last_purge_at else 0
        metrics.LAST_PURGE_TIMESTAMP_SECONDS.set(last_purge)
        for invariant, count in health.invariant_violations.items():
            metrics.INVARIANT_VIOLATIONS.labels(invariant).set(count)

    async def _recent_findings(self) -> Findings:
        if self._findings_at is None or time.monotonic() - self._findings_at > _FINDINGS_VALID_SECONDS:
            # Set before the answer: a database that fails at this query is not asked again for half a minute.
            self._findings_at = time.monotonic()
            self._findings = await check(self._database, recent=True)
        return self._findings


async def check(database: Database, *, recent: bool = False) -> Findings:
    """Counts the rows of each invariant's view, and looks for an altered clock, for unknown time zones and, unless
    `recent`, for stray slugs. Of these there are none if a partition is down: its slugs and businesses are missing.
    Raises `Unavailable`."""
    rows, partitions_down = await database.observe("invariant_violations", recent)
    definitions, _ = await database.observe("clock_definition")
    violations = {**dict(rows), "altered_clock": int(definitions != [_CLOCK])}
    stray_slugs, left_out = ([], ()) if recent else await database.observe("stray_slugs")
    return Findings(
        violations, await unknown_timezones(database), [] if left_out else stray_slugs, partitions_down or left_out
    )


async def unknown_timezones(database: Database) -> dict[str, int]:
    """Counts the businesses of each time zone that the database server does not know. Raises `Unavailable`."""
    rows, _ = await database.observe("unknown_timezones")
    return dict(rows)


def judge(counts: Counts, findings: Findings, left_out: Sequence[int] = ()) -> ReservationHealth:
    """Derives the status and its reasons from the counts, and from the partitions that could not be asked."""
    now, live, expired_unpurged, oldest_expired_at, last_purge_at, committed, ended = counts
    oldest_seconds = (now - oldest_expired_at).total_seconds() if oldest_expired_at else 0.0
    since_purge = (now - last_purge_at).total_seconds() if last_purge_at else oldest_seconds
    purge_late = since_purge > PURGE_LATE_SECONDS
    critical = [f"partition_down: partition {number} does not answer, and is not counted here" for number in left_out]
    critical += [f"invariant_violated: {name} ({count})" for name, count in findings.violations.items() if count]
    degraded = [
        f"unknown_timezone: the database server does not know {timezone}; businesses in it: {count}"
        for timezone, count in findings.unknown_timezones.items()
    ]
    if purge_late:
        degraded.append(f"purge_late: the last one was {since_purge:.0f} s ago; is the scheduler calling?")
    if oldest_seconds > PURGE_LATE_SECONDS:
        degraded.append(f"expired_unpurged: the oldest expired hold has waited {oldest_seconds:.0f} s for the purge")
    return ReservationHealth(
        status="critical" if critical else "degraded" if degraded else "ok",
        reasons=critical + degraded,
        live=live,
        expired_unpurged=expired_unpurged,
        oldest_expired_seconds=oldest_seconds,
        last_purge_at=written_instant(last_purge_at) if last_purge_at else None,
        purge_late=purge_late,
        conversion=round(committed / ended, 4) if ended else None,
        invariant_violations=findings.violations,
    )
