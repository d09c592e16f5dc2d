"""The application of one process, put together."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.types import ASGIApp

from service.api.appointments import AppointmentApi
from service.api.availability import AvailabilityApi
from service.api.calendar import CalendarApi
from service.api.catalog import CatalogApi, DocumentApi
from service.api.docs import DocsApi
from service.api.holds import HoldApi
from service.api.keys import KeyApi
from service.api.opening import OpeningApi
from service.api.operations import OperationsApi
from service.api.pages import PagesApi
from service.api.stream import StreamApi
from service.api.widget import WidgetApi
from service.background import end, in_background
from service.booking.alternatives import Alternatives
from service.booking.appointments import Appointments
from service.booking.businesses import BusinessNames
from service.booking.calendar import Calendars
from service.booking.catalog import Catalog
from service.booking.cleanup import Cleanup
from service.booking.guests import Guests
from service.booking.health import HealthMonitor
from service.booking.holds import Holds
from service.booking.keys import Keys
from service.booking.reach import Reaches
from service.booking.tokens import CalendarKeys, CancellationTokens, ClientNames
from service.booking.verbs import Verbs
from service.database.breaker import CircuitBreaker
from service.database.connections import Database, nodes_behind
from service.database.group_commit import GroupCommit
from service.database.partitioned import PartitionedCommit
from service.database.standby import StandbyReads
from service.http.application import Application
from service.http.authentication import Authentication
from service.http.clients import Clients, Holders
from service.http.compression import Body
from service.http.connections import CONNECTIONS_OF_ADDRESS, Connections
from service.http.dispatch import Dispatcher
from service.http.endpoint import Endpoint, endpoints_of
from service.http.limits import RequestLimiter
from service.observability import logging
from service.observability.metrics import keep_flushing
from service.process.pools import LIST_CONNECTIONS, LOOK_UP_CONNECTIONS, OTHER_CONNECTIONS, lane_connections, lanes
from service.settings import Settings
from service.sharing.cache import AnswerCache
from service.sharing.feed import Feed
from service.sharing.limits import Rate, RequestLimits
from service.sharing.store import Store

# The time limit of a read on the standby, after which the primary is asked.
STANDBY_SECONDS: Final = 2.0


def create_app(settings: Settings) -> Application:
    """Builds the application. The settings must have a database and all secrets."""
    assert settings.database_url
    assert settings.admin_token
    assert settings.cron_secret
    assert settings.token_secret
    logging.configure_logging(settings.log_level)
    url = settings.database_url.get_secret_value()
    breaker = CircuitBreaker()
    nodes = nodes_behind(url)
    connect = partial(Database, url, breaker=breaker, nodes=nodes)
    database = connect(connections=OTHER_CONNECTIONS)
    look_ups = connect(connections=LOOK_UP_CONNECTIONS, pool="look_ups")
    lists = connect(connections=LIST_CONNECTIONS, pool="lists")
    databases = [look_ups, lists, database]
    group_commit = PartitionedCommit(
        nodes,
        lambda pool: GroupCommit(
            connect(connections=lane_connections(settings.max_batch), pool=pool),
            max_batch=settings.max_batch,
            lanes=lanes(settings.max_batch),
        ),
    )
    tokens = CancellationTokens(settings.token_secret)
    store = Store(settings.redis_url)
    cache = AnswerCache[Body]()
    reaches, guests = Reaches(look_ups), Guests(look_ups)
    alternatives = Alternatives(lists)
    forget_answers = [cache.forget, alternatives.forget]
    standby_reads = None
    if settings.standby_database_url:
        standby_url = settings.standby_database_url.get_secret_value()
        standby = Database(
            standby_url,
            connections=LIST_CONNECTIONS,
            statement_seconds=STANDBY_SECONDS,
            pool="standby",
            breaker=CircuitBreaker(database="standby"),
        )
        databases.append(standby)
        standby_reads = StandbyReads(lists, standby)
        forget_answers.append(standby_reads.forget)
    reads = standby_reads or lists
    feed = Feed(store, *forget_answers, forget_settings=(reaches.forget, guests.forget))
    retention = timedelta(hours=settings.idempotency_window_hours)
    cleanup = Cleanup(database, retention=retention, announce=feed.announce)
    verbs = Verbs(group_commit, alternatives, feed.announce)
    appointments = Appointments(look_ups, reads, database, verbs, guests, tokens, feed.announce)
    catalog = Catalog(database, feed.announce)
    keys = Keys(look_ups, database)
    authentication = Authentication(settings.admin_token, settings.cron_secret, keys)
    names = ClientNames(settings.token_secret)
    clients, limiter, holders = None, None, Holders(names, None, None)
    connections = Connections(settings.trusted_proxies, CONNECTIONS_OF_ADDRESS if settings.rate_limit_enabled else None)
    if settings.rate_limit_enabled:
        clients = Clients(names, settings.trusted_proxies)
        limiter = RequestLimiter(RequestLimits(store), Rate.parse(settings.rate_limit), authentication)
        holders = Holders(names, settings.max_live_holds_per_client, settings.max_daily_bookings_per_client)
    tracing: Callable[[ASGIApp], ASGIApp] | None = None
    if settings.otel_exporter_otlp_endpoint:
        from service.observability.tracing import Tracing

        tracing = Tracing

    apis: list[object] = [
        HoldApi(Holds(look_ups, lists, verbs, guests, tokens), reads, holders),
        AvailabilityApi(reads, cache, appointments),
        StreamApi(feed, Catalog(look_ups), reaches),
        AppointmentApi(appointments, holders),
        WidgetApi(appointments, holders),
        CatalogApi(catalog),
        OpeningApi(catalog),
        DocumentApi(catalog),
        KeyApi(keys),
        CalendarApi(Calendars(lists, reads, CalendarKeys(settings.token_secret))),
        OperationsApi(look_ups, lists, cleanup, HealthMonitor(database)),
    ]
    if settings.pages_enabled:
        apis.append(PagesApi())
    endpoints: list[Endpoint] = [declared for api in apis for declared in endpoints_of(api)]
    endpoints += endpoints_of(DocsApi(endpoints, "static/start.html" if settings.pages_enabled else "docs"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        _stop_with_parent()
        for pool in databases:
            await pool.open()
        await group_commit.start()
        feed.start()
        background = [
            # With a monitor of its own, so that no caller gets an answer that was looked up for the gauges.
            in_background("keep gauges", HealthMonitor(database).keep_gauges()),
            in_background("flush metrics", keep_flushing()),
            in_background("note the uses of keys", keys.keep_uses()),
            in_background("watch Redis", store.watch()),
        ]
        if standby_reads:
            background.append(in_background("measure the standby", standby_reads.keep_measuring()))
        if settings.cleanup_interval_seconds:
            background.append(in_background("clean up", cleanup.run_every(settings.cleanup_interval_seconds)))
        try:
            # For service.http.protocol.
            yield {"connections": connections, "end_streams": feed.end_watchers}
        finally:
            await end(background)
            await group_commit.stop()
            await feed.stop()  # has the changes of the last batches
            await store.close()
            for pool in databases:
                await pool.close()
            logging.flush()

    return Application(
        endpoints,
        Dispatcher(authentication, BusinessNames(look_ups), clients, limiter),
        lifespan=lifespan,
        cors_origins=settings.cors_origins,
        tracing=tracing,
    )


def _stop_with_parent() -> None:
    """Sends this process SIGTERM once its supervisor, if it has one, has ended.

    A supervisor that was killed can't stop its workers, and they would keep the port from the next start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)
