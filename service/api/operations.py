"""The calls of those who run the service: probes, reservation health, and the scheduler's call."""

from functools import partial
from typing import Literal

from pydantic import Field

from service.booking.cleanup import Cleanup, CleanupReport
from service.booking.health import HealthMonitor, ReservationHealth
from service.database.connections import Database
from service.database.migrations import migration_files
from service.errors import Unavailable
from service.http.answer import Answer, answer
from service.http.endpoint import Access, endpoint
from service.naming import Record

_probe = partial(endpoint, tag="health", limited=False, probe=True)
_cron = partial(endpoint, tag="cron", limited=False, answers={200: CleanupReport}, access=Access.CRON)


class Alive(Record):
    """The process runs."""

    status: Literal["alive"] = Field(default="alive", description="The process runs.")


class Ready(Record):
    """The process can do its work."""

    status: Literal["ready"] = Field(default="ready", description="Migrations are applied, and the database answers.")


class OperationsApi:
    """Probes, health and the purge. The limits refuse none of them, apart from clients that try secrets."""

    def __init__(self, database: Database, cleanup: Cleanup, health: HealthMonitor) -> None:
        self._database = database
        self._cleanup = cleanup
        self._health = health
        self._alive = answer(Alive())

    @_cron("POST", "/cron/cleanup-reservations")
    @_cron("GET", "/cron/cleanup-reservations", operation_id="cleanupByGet")
    @_cron("POST", "/api/cron/cleanup-reservations", operation_id="cleanupUnderApi")
    @_cron("GET", "/api/cron/cleanup-reservations", operation_id="cleanupUnderApiByGet")
    async def cleanup(self) -> Answer:
        """Purge.

        Marks expired holds, deletes reservations that ended longer ago than the idempotency window, and erases guests'
        data where a business limits its retention. For a scheduler, every minute; two calls at once do no harm.
        """
        return answer(await self._cleanup.run())

    @_probe("GET", "/health/live", asks_database=False, answers={200: Alive})
    async def live(self) -> Answer:
        """Check that the process runs."""
        return self._alive

    @_probe("GET", "/health/ready", answers={200: Ready})
    async def ready(self) -> Answer:
        """Check that the migrations are applied and the database answers.

        An older process stays ready on a newer schema.
        """
        applied = {filename for filename, *_ in await self._database.fetch("applied_migrations")}
        if not {path.name for path in migration_files()} <= applied:
            raise Unavailable("DATABASE_UNAVAILABLE", "The database lacks migrations: run `holdfast migrate`")
        return answer(Ready())

    @_probe("GET", "/health/reservations", answers={200: ReservationHealth, 503: ReservationHealth})
    async def reservation_health(self) -> Answer:
        """Get reservation health.

        `degraded` and `critical` come with reasons; critical answers 503.
        """
        health = await self._health.health()
        return answer(health, 503 if health.status == "critical" else 200)
