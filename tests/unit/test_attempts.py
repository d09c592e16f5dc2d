"""How often a statement is run, what its caller gets for an error, and which errors make the breaker probe."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
import pytest
from psycopg.errors import (
    AdminShutdown,
    InvalidParameterValue,
    LockNotAvailable,
    QueryCanceled,
    SerializationFailure,
    TooManyConnections,
)
from psycopg_pool import PoolTimeout, TooManyRequests

from service.database import connections
from service.database.breaker import CircuitBreaker
from service.database.connections import Database
from service.database.failures import NoAnswer
from service.database.nodes import NodeLost
from service.errors import DatabaseDown, Overloaded, Unavailable

pytestmark = pytest.mark.anyio

CLOSED = psycopg.OperationalError("the connection was closed")
UNANSWERED, UNREACHED = NoAnswer("no answer in time"), NodeLost("the outcome is unknown")


class Breaker:
    """A breaker that is closed, and counts the suspicions."""

    is_open = False
    suspicions = 0

    def guard(self, _: object) -> None:
        """Takes the pool."""

    def suspect(self) -> None:
        """Counts."""
        self.suspicions += 1


class Failing(Database):
    """A database whose pool lends a connection, and on which each statement fails with the same error."""

    def __init__(self, error: Exception, lending: Exception | None = None) -> None:
        self.suspected = Breaker()
        super().__init__("", connections=1, breaker=cast(CircuitBreaker, self.suspected))
        self.error = error
        self.attempts = 0
        self._lending = lending
        self._clock.set(datetime.now(UTC))
        self._pool.connection = self._lend  # type: ignore[method-assign,assignment]  # it has no server

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[Any]:
        if self._lending:
            raise self._lending
        yield None

    async def rows(self, *_: object) -> list[tuple[Any, ...]]:
        """Fails."""
        self.attempts += 1
        raise self.error


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves no time between attempts."""
    monkeypatch.setattr(connections, "pauses", lambda: iter([0.0] * 4))


@pytest.mark.parametrize(
    ("error", "attempts_of_read", "attempts_of_change", "expected"),
    [
        (SerializationFailure(), 5, 5, Overloaded),
        (LockNotAvailable(), 5, 5, Overloaded),
        (CLOSED, 5, 1, DatabaseDown),
        (AdminShutdown(), 5, 1, DatabaseDown),
        (UNREACHED, 5, 1, DatabaseDown),
        (UNANSWERED, 1, 1, DatabaseDown),
        (TooManyConnections(), 1, 1, DatabaseDown),
        (InvalidParameterValue(), 1, 1, InvalidParameterValue),
    ],
)
async def test_what_may_succeed_without_harm_is_tried_again(
    error: Exception, attempts_of_read: int, attempts_of_change: int, expected: type[Exception]
) -> None:
    """A read may be repeated after its connection is lost, a change only if it wrote nothing. A server that does not
    answer is not asked again, since each question takes seconds."""
    for method, attempts in (("fetch", attempts_of_read), ("change", attempts_of_change), ("attempt", 1)):
        database = Failing(error)
        with pytest.raises(type(error) if method == "attempt" else expected):
            await getattr(database, method)("now")
        assert database.attempts == attempts, method


@pytest.mark.parametrize(("error", "attempts"), [(LockNotAvailable(), 1), (QueryCanceled(), 1), (CLOSED, 5)])
async def test_operators_wait_only_once(error: Exception, attempts: int) -> None:
    """They ask again by themselves. A lost connection takes no time."""
    database = Failing(error)
    with pytest.raises(Unavailable):
        await database.observe("reservation_health")
    assert database.attempts == attempts


async def test_no_attempt_begins_after_the_time_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller would have left."""
    monkeypatch.setattr(connections, "pauses", lambda: iter([connections.REQUEST_SECONDS + 1]))
    database = Failing(SerializationFailure())
    with pytest.raises(Overloaded):
        await database.fetch("now")
    assert database.attempts == 1


@pytest.mark.parametrize(
    ("error", "suspicions"),
    [(CLOSED, 1), (AdminShutdown(), 1), (UNANSWERED, 1), (UNREACHED, 0), (SerializationFailure(), 0)],
)
async def test_a_lost_connection_makes_the_breaker_probe(error: Exception, suspicions: int) -> None:
    """That of the proxy to a node is no matter of the proxy's breaker."""
    database = Failing(error)
    with pytest.raises(type(error)):
        await database.attempt("now")
    assert database.suspected.suspicions == suspicions


@pytest.mark.parametrize(("lending", "expected"), [(TooManyRequests(), Overloaded), (PoolTimeout(), DatabaseDown)])
async def test_a_pool_without_a_connection_refuses_at_once(lending: Exception, expected: type[Exception]) -> None:
    """Too many callers wait, or none could be made in time: another attempt would only wait as long."""
    database = Failing(CLOSED, lending)
    with pytest.raises(expected):
        await database.fetch("now")
    assert (database.attempts, database.suspected.suspicions) == (0, 0)
