"""For those who run the service: probes, reservation health, and the scheduler's call."""

from typing import Literal

from starlette.responses import Response

from service.booking.cleanup import Cleanup, CleanupReport
from service.booking.health import HealthMonitor, ReservationHealth
from service.database.connections import Database
from service.database.migrations import migration_files
from service.errors import Unavailable
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.naming import Record


class Alive(Record):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Ready(Record):
    """The process can do its work."""

    status: Literal["ready"] = "ready"


class OperationsEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, database: Database, cleanup: Cleanup, health: HealthMonitor) -> None:
        self._database = database
        self._cleanup = cleanup
        self._health = health

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        cleanup = [
            Endpoint(
                method,
                path,
                self.cleanup,
                "Purge",
                {200: CleanupReport},
                "Marks expired holds and deletes what ended longer ago than the idempotency window. For a scheduler, "
                "every minute; calling it twice at once does no harm.",
                access=Access.CRON,
                operation_id=operation_id,
                tag="cron",
                examples=examples.CLEANUP,
            )
            for method, path, operation_id in (
                ("POST", "/cron/cleanup-reservations", "cleanup"),
                ("GET", "/cron/cleanup-reservations", "cleanupByGet"),
                ("POST", "/api/cron/cleanup-reservations", "cleanupUnderApi"),
                ("GET", "/api/cron/cleanup-reservations", "cleanupUnderApiByGet"),
            )
        ]
        return [
            *cleanup,
            Endpoint(
                "GET",
                "/health/live",
                self.live,
                "Is the process running?",
                {200: Alive},
                operation_id="live",
                tag="health",
                asks_database=False,
                examples=examples.LIVE,
            ),
            Endpoint(
                "GET",
                "/health/ready",
                self.ready,
                "Are the migrations applied, and does the database answer?",
                {200: Ready},
                operation_id="ready",
                tag="health",
                examples=examples.READY,
            ),
            Endpoint(
                "GET",
                "/health/reservations",
                self.reservations,
                "Reservation health",
                {200: ReservationHealth, 503: ReservationHealth},
                "`degraded` and `critical` come with reasons; critical answers 503.",
                operation_id="reservationHealth",
                tag="health",
                examples=examples.RESERVATION_HEALTH,
            ),
        ]

    async def cleanup(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET or POST /cron/cleanup-reservations"""
        return answer(await self._cleanup.run())

    async def live(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /health/live"""
        return answer(Alive())

    async def ready(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /health/ready: an older process stays ready on a newer schema."""
        applied = {filename for filename, *_ in await self._database.fetch("applied_migrations")}
        if not {path.name for path in migration_files()} <= applied:
            raise Unavailable("DATABASE_UNAVAILABLE", "The database lacks migrations: run `holdfast migrate`")
        return answer(Ready())

    async def reservations(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /health/reservations"""
        health = await self._health.health()
        return answer(health, 503 if health.status == "critical" else 200)
