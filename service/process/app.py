"""The application of one process, put together in one place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from service.api.appointments import AppointmentEndpoints
from service.api.availability import AvailabilityEndpoints
from service.api.calendar import CalendarEndpoints
from service.api.catalog import CatalogEndpoints
from service.api.holds import HoldEndpoints
from service.api.keys import KeyEndpoints
from service.api.metrics import MetricsEndpoints
from service.api.opening import OpeningEndpoints
from service.api.operations import OperationsEndpoints
from service.api.stream import StreamEndpoints
from service.api.widget import WidgetEndpoints
from service.background import end, in_background
from service.booking.alternatives import Alternatives
from service.booking.appointments import Appointments
from service.booking.calendar import Calendars
from service.booking.catalog import Catalog
from service.booking.cleanup import Cleanup
from service.booking.guests import Guests
from service.booking.health import HealthMonitor
from service.booking.holds import Holds
from service.booking.keys import Keys
from service.booking.tokens import CalendarKeys, CancellationTokens, ClientNames
from service.booking.verbs import Verbs
from service.database.connections import Database
from service.database.group_commit import GroupCommit
from service.errors import HoldfastError
from service.http.authentication import Authentication
from service.http.clients import Clients
from service.http.documentation.docs import DocsEndpoints
from service.http.endpoints import Endpoint, routes
from service.http.envelope import Envelope
from service.http.headers import SafeDefaults, cross_origin
from service.http.hoarding import HoldLimit
from service.http.limits import RequestLimiter
from service.http.problems import on_holdfast_error, on_http_exception
from service.observability.logging import configure_logging
from service.process.lifeline import stop_with_parent
from service.settings import Settings
from service.sharing.cache import AnswerCache
from service.sharing.feed import Feed
from service.sharing.limits import Rate, RequestLimits
from service.sharing.store import Store

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
    for_lanes = Database(_required(settings.database_url), connections=2 * lanes, pool="lanes")
    group_commit = GroupCommit(for_lanes, max_batch=settings.max_batch, lanes=lanes)
    token_secret = SecretStr(_required(settings.token_secret))
    tokens = CancellationTokens(token_secret)
    store = Store(settings.redis_url)
    cache = AnswerCache(store)
    feed = Feed(store, cache)
    retention = timedelta(hours=settings.idempotency_window_hours)
    cleanup = Cleanup(database, retention=retention, announce=feed.announce)
    verbs, guests = Verbs(group_commit, Alternatives(database), feed.announce), Guests(database)
    holds = Holds(database, verbs, guests, tokens)
    appointments = Appointments(database, verbs, guests, tokens)
    catalog = Catalog(database, feed.announce)
    keys = Keys(database)

    authentication = Authentication(
        SecretStr(_required(settings.admin_token)), SecretStr(_required(settings.cron_secret)), keys
    )
    clients = limiter = hold_limit = None
    if settings.rate_limit_enabled:
        names = ClientNames(token_secret)
        clients = Clients(names, settings.trusted_proxies)
        hold_limit = HoldLimit(clients, names, settings.max_live_holds_per_client)
        limiter = RequestLimiter(
            RequestLimits(store),
            Rate.parse(settings.rate_limit),
            clients,
            authentication.principal,
        )

    endpoints: list[Endpoint] = [
        *HoldEndpoints(holds, database, hold_limit).endpoints(),
        *AvailabilityEndpoints(database, cache).endpoints(),
        *StreamEndpoints(feed, catalog, clients).endpoints(),
        *AppointmentEndpoints(appointments).endpoints(),
        *WidgetEndpoints(appointments, database).endpoints(),
        *CatalogEndpoints(catalog).endpoints(),
        *OpeningEndpoints(catalog).endpoints(),
        *KeyEndpoints(keys).endpoints(),
        *CalendarEndpoints(Calendars(database, CalendarKeys(token_secret))).endpoints(),
        *OperationsEndpoints(database, cleanup, HealthMonitor(database)).endpoints(),
        *MetricsEndpoints().endpoints(),
    ]
    endpoints += DocsEndpoints(endpoints).endpoints()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stop_with_parent()
        await database.open()
        await for_lanes.open()
        group_commit.start()
        feed.start()
        # With a monitor of its own: whoever asks for reservation health gets an answer of their own time.
        background = [
            in_background("keep gauges", HealthMonitor(database).keep_gauges()),
            in_background("watch Redis", store.watch()),
        ]
        if settings.cleanup_interval_seconds:
            background.append(in_background("clean up", cleanup.run_every(settings.cleanup_interval_seconds)))
        try:
            yield
        finally:
            await end(background)
            await feed.stop()
            await store.close()
            await group_commit.stop()
            await for_lanes.close()
            await database.close()

    app = Starlette(
        routes=routes(endpoints, authentication.principal, limiter),
        middleware=[
            Middleware(SafeDefaults),
            *cross_origin(settings.cors_origins),
            *_tracing(settings),
            Middleware(Envelope),
        ],
        exception_handlers={HoldfastError: on_holdfast_error, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    # An address with a slash too many is another one. Starlette would lead on to where the Host header says.
    app.router.redirect_slashes = False
    return app


def _tracing(settings: Settings) -> list[Middleware]:
    if not settings.otel_exporter_otlp_endpoint:
        return []
    from service.observability.tracing import Tracing

    return [Middleware(Tracing)]


def _required(secret: SecretStr | None) -> str:
    if secret is None:
        raise ValueError("DATABASE_URL, ADMIN_TOKEN, CRON_SECRET and TOKEN_SECRET must be set")
    return secret.get_secret_value()
