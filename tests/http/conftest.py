"""The application in this process, over a real database, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp

from service.database import connections
from service.database.pool import ConnectionPool
from service.http.application import Application
from service.process.app import create_app
from service.settings import Settings
from service.sharing import cache
from tests.database import TestDatabase

ADMIN = {"Authorization": "Bearer admin"}
CRON = {"Authorization": "Bearer cron"}


def make_settings(database_url: str) -> Settings:
    """Returns the settings of the tests for a database."""
    return Settings(
        database_url=SecretStr(database_url),
        admin_token=SecretStr("admin"),
        cron_secret=SecretStr("cron"),
        token_secret=SecretStr("token, an older token"),
        cleanup_interval_seconds=0,
    )


@pytest.fixture(autouse=True)
def no_answer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switches the cache of availability off, because tests change the clock and the database without the service. See
    test_cache.py."""
    monkeypatch.setattr(cache, "LIFE_SECONDS", 0)


class _GrowingPool(ConnectionPool):
    """A pool that connects when a caller finds no idle connection, up to its size."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"min_size": 0})


@pytest.fixture(autouse=True)
def pools_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the connections that a test uses, one to three of the twelve that the service opens at its start."""
    monkeypatch.setattr(connections, "ConnectionPool", _GrowingPool)


def client_of(app: ASGIApp, address: str = "127.0.0.1") -> httpx2.AsyncClient:
    """Makes a client that calls an application in this process from an address."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app, client=(address, 12345)), base_url="http://test")


@asynccontextmanager
async def running_app(database: TestDatabase, **settings: Any) -> AsyncIterator[Application]:
    """Runs the application with these settings."""
    app = create_app(make_settings(database.url).model_copy(update=settings))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[Application]:
    """Runs an application with a service to watch."""
    database.make_service(capacity=1000)
    async with running_app(database) as app:
        yield app


@asynccontextmanager
async def running(database: TestDatabase, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Runs the application with these settings, and gives a client of it."""
    async with running_app(database, **settings) as app, client_of(app) as client:
        yield client


@pytest.fixture
async def client(database: TestDatabase) -> AsyncIterator[httpx2.AsyncClient]:
    """Makes a client of the running application."""
    async with running(database) as client:
        yield client
