"""The application of one process, put together in one place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from service.booking.catalog import Catalog
from service.booking.cleanup import Cleanup
from service.booking.health import HealthMonitor
from service.booking.holds import Holds
from service.booking.tokens import CancellationTokens
from service.database.connections import Database
from service.database.group_commit import GroupCommit
from service.errors import HoldfastError
from service.http.catalog import CatalogEndpoints
from service.http.documentation.docs import DocsEndpoints
from service.http.endpoints import Access, Endpoint, routes
from service.http.envelope import Envelope
from service.http.holds import HoldEndpoints
from service.http.operations import OperationsEndpoints
from service.http.problems import on_holdfast_error, on_http_exception
from service.lifeline import stop_with_parent
from service.settings import Settings
from service.telemetry import configure_logging

# Calls under way at once in one process. While one waits for its fsync the other works; more lanes would only
# make smaller batches. Without batches each request needs a lane of its own.
LANES: Final = 2
LANES_WITHOUT_BATCHES: Final = 16
# For look-ups, the catalog, the purge and health.
OTHER_CONNECTIONS: Final = 4


def create_app(settings: Settings | None = None) -> Starlette:
    """The ASGI application for `settings`, which must name a database and all secrets; by default the environment's."""
    settings = settings or Settings()
    configure_logging(settings.log_level)
    lanes = LANES if settings.max_batch > 1 else LANES_WITHOUT_BATCHES
    database = Database(_required(settings.database_url), connections=OTHER_CONNECTIONS)
    # Of their own, so that no flood of look-ups can take them; twice, because what is sent again goes beside the lanes.
    for_lanes = Database(_required(settings.database_url), connections=2 * lanes)
    group_commit = GroupCommit(for_lanes, max_batch=settings.max_batch, lanes=lanes)
    cleanup = Cleanup(database, retention=timedelta(hours=settings.idempotency_window_hours))
    holds = Holds(database, group_commit, CancellationTokens(SecretStr(_required(settings.token_secret))))

    endpoints: list[Endpoint] = [
        *HoldEndpoints(holds, database).endpoints(),
        *CatalogEndpoints(Catalog(database)).endpoints(),
        *OperationsEndpoints(database, cleanup, HealthMonitor(database)).endpoints(),
    ]
    endpoints += DocsEndpoints(endpoints).endpoints()
    tokens = {
        Access.ADMIN: SecretStr(_required(settings.admin_token)),
        Access.CRON: SecretStr(_required(settings.cron_secret)),
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stop_with_parent()
        await database.open()
        await for_lanes.open()
        group_commit.start()
        schedule = None
        if settings.cleanup_interval_seconds:
            schedule = asyncio.create_task(cleanup.run_every(settings.cleanup_interval_seconds))
        yield
        if schedule:
            schedule.cancel()
        await group_commit.stop()
        await for_lanes.close()
        await database.close()

    return Starlette(
        routes=routes(endpoints, tokens),
        middleware=[Middleware(Envelope)],
        exception_handlers={HoldfastError: on_holdfast_error, HTTPException: on_http_exception},
        lifespan=lifespan,
    )


def _required(secret: SecretStr | None) -> str:
    if secret is None:
        raise ValueError("DATABASE_URL, ADMIN_TOKEN, CRON_SECRET and TOKEN_SECRET must be set")
    return secret.get_secret_value()
