"""The calls of those who run the service: probes, reservation health, metrics, and the scheduler's call."""

import asyncio
import time
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import Field

from service.api.shapes import Query
from service.booking.cleanup import Cleanup, CleanupReport
from service.booking.health import HealthMonitor, ReservationHealth
from service.booking.overview import Overview, overview
from service.database.connections import Database
from service.database.failures import is_without_schema
from service.database.migrations import migration_files
from service.errors import Unavailable
from service.http.answer import Answer, answer
from service.http.endpoint import Access, endpoint
from service.naming import Record
from service.observability.metrics import exposition
from service.single_flight import SingleFlight

# Every window of the operations page asks every few seconds.
_OVERVIEW_VALID_SECONDS: Final = 1.0
# The version of the text format that every Prometheus reads.
_METRICS_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"

_health = partial(endpoint, "GET", tag="health", limited=False)
_probe = partial(_health, probe=True)
_cron = partial(endpoint, tag="cron", limited=False, access=Access.CRON)


class Alive(Record):
    """The process runs."""

    status: Literal["alive"] = Field(default="alive", description="The process runs.")


class Ready(Record):
    """The process can do its work."""

    status: Literal["ready"] = Field(default="ready", description="Migrations are applied, and the database answers.")


class OverviewQuery(Query):
    """How far to look back."""

    hours: Annotated[int, Field(ge=1, le=24)] = Field(24, description="How many hours, the current one included.")


class OperationsApi:
    """Probes, health, metrics, the purge and the overview. The limits refuse none of them, apart from clients that try
    secrets."""

    def __init__(self, database: Database, lists: Database, cleanup: Cleanup, health: HealthMonitor) -> None:
        self._database = database
        self._lists = lists
        self._cleanup = cleanup
        self._health = health
        self._overview = SingleFlight[int, Overview](keep_seconds=_OVERVIEW_VALID_SECONDS)
        self._scrape = asyncio.Lock()
        self._metrics = b""
        self._metrics_begun_at = -1.0
        # Those of this process: the files of a newer version may be put in the place of its own while it runs.
        self._migrations = {path.name for path in migration_files()}

    @_cron("POST", "/cron/cleanup-reservations")
    @_cron("GET", "/cron/cleanup-reservations", operation_id="cleanupByGet")
    @_cron("POST", "/api/cron/cleanup-reservations", operation_id="cleanupUnderApi")
    @_cron("GET", "/api/cron/cleanup-reservations", operation_id="cleanupUnderApiByGet")
    async def cleanup(self) -> CleanupReport:
        """Purge.

        Marks expired holds, deletes reservations that ended longer ago than the idempotency window, and erases guests'
        data where a business limits its retention. For a scheduler, every minute; two calls at once do no harm.
        """
        return await self._cleanup.run()

    @_probe("/health/live", asks_database=False)
    async def live(self) -> Alive:
        """Check that the process runs."""
        return Alive()

    @_probe("/health/ready")
    async def ready(self) -> Ready:
        """Check that the migrations are applied and the database answers.

        An older process stays ready on a newer schema.
        """
        try:
            rows, _ = await self._database.observe("applied_migrations")
        except Exception as error:
            if not is_without_schema(error):
                raise
            rows = []  # the database was replaced by an empty one
        if not self._migrations <= {filename for filename, *_ in rows}:
            raise Unavailable("DATABASE_UNAVAILABLE", "The database lacks migrations: run `python -m service migrate`")
        return Ready()

    @_probe("/health/reservations", answers={200: ReservationHealth, 503: ReservationHealth})
    async def reservation_health(self) -> Answer:
        """Get reservation health.

        `degraded` and `critical` come with reasons; critical answers 503.
        """
        health = await self._health.health()
        return answer(health, 503 if health.status == "critical" else 200)

    @_health("/api/operations/overview", access=Access.ADMIN)
    async def get_operations_overview(self, query: OverviewQuery) -> Overview:
        """Get the last hours of all businesses at a glance.

        Counts by hour, the busiest businesses, the last runs of the purge, and the locks that are waited for now. Holds
        are counted as far back as `IDEMPOTENCY_WINDOW_HOURS` keeps them.
        """
        return await self._overview.run(query.hours, lambda: overview(self._lists, query.hours))

    @_probe("/metrics", asks_database=False, answers={200: None}, media_type="text/plain")
    async def get_metrics(self) -> Answer:
        """Get the metrics for Prometheus.

        In the text exposition format, of all workers together, whichever answers. Aggregates only.
        """
        # Concurrent scrapes share a result that is no older than any of them: adding up takes milliseconds.
        asked_at = time.monotonic()
        async with self._scrape:
            if self._metrics_begun_at < asked_at:
                begun_at = time.monotonic()
                # In a thread, because it reads several files of each worker.
                self._metrics = await asyncio.to_thread(exposition)
                self._metrics_begun_at = begun_at
        return Answer(self._metrics, media_type=_METRICS_FORMAT)
