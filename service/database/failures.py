"""Classifies the errors of a call: whether it wrote anything, whether to try again, and what to tell the caller."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import structlog

from service.errors import DatabaseDown, Overloaded
from service.observability.logging import error_name

# Serialization failure, deadlock, lock_timeout, statement_timeout or a cancelled statement, and the verbs' own "the
# deadline has passed". Nothing was written, and the next attempt may succeed.
_PASSING: Final = frozenset({"40001", "40P01", "55P03", "57014", "HF001"})

# The most attempts of a call that may be repeated, and the first pause between two.
_ATTEMPTS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.1

log = structlog.get_logger(__name__)


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time, and the connection was shut down. The statement may still have its effect."""


def is_passing(error: BaseException) -> bool:
    """Returns whether a failed call wrote nothing and is worth another attempt."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _PASSING


def pauses() -> Iterator[float]:
    """Yields how many seconds to wait before the second attempt, the third, and so on to the last one. Each pause is
    twice as long as the one before, and by chance up to half longer, so that calls that failed together don't meet
    again."""
    for number in range(_ATTEMPTS - 1):
        yield _FIRST_PAUSE_SECONDS * 2**number * random.uniform(1, 1.5)


def is_lock_timeout(error: BaseException) -> bool:
    """Returns whether a call failed because another transaction kept a lock for too long."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("55P03", "57014", "HF001")


def is_connection_lost(error: BaseException) -> bool:
    """Returns whether the connection broke. The outcome of a call that was under way is unknown then.

    An error that the server sent belongs to a statement and has an SQLSTATE; those of class 57P end the connection.
    Errors of libpq itself have none.
    """
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def is_unable(error: BaseException) -> bool:
    """Returns whether the server can't work: out of disk, memory or connections, with an I/O error, or read-only."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(("53", "58", "25006"))


def is_without_schema(error: BaseException) -> bool:
    """Returns whether the schema, or the function that was called, does not exist."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("3F000", "42883")


def reason(error: BaseException) -> str:
    """Returns the driver's message for a failed connection on one line. It names host and user, and no password."""
    return " ".join(str(error).split())


def translated(error: Exception) -> Exception:
    """Returns the error that the caller gets for a temporary one; any other is a defect and is returned as it is."""
    if is_passing(error):
        return Overloaded()
    if is_connection_lost(error) or is_unable(error):
        return DatabaseDown()
    return error


@contextmanager
def logged(event: str) -> Iterator[None]:
    """Logs an error that ends the block, and goes on behind it: for work without which the process goes on, or that is
    tried again later."""
    try:
        yield
    except DatabaseDown as error:
        if error.__cause__ and is_unable(error.__cause__):
            log.warning(event, error=error_name(error.__cause__))
        else:
            log.debug(event)  # the breaker has logged it
    except Exception as error:
        log.warning(event, error=error_name(error))
