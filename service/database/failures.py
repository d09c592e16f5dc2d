"""Which errors of a call mean what: whether it wrote anything, whether it is worth another attempt, what a caller is
told."""

from typing import Final

import psycopg

from service.errors import DatabaseDown, Overloaded

# serialization failure, deadlock, lock_timeout, cancelled or statement_timeout, and the verbs' own "the
# deadline has passed": nothing was written, and the next attempt may well succeed.
_PASSING: Final = frozenset({"40001", "40P01", "55P03", "57014", "HF001"})


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time, and the connection was ended. What was asked may still have its effect."""


def is_passing(error: BaseException) -> bool:
    """Whether a failed call wrote nothing and is worth another attempt."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _PASSING


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a call failed because somebody else kept a lock for too long."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("55P03", "57014", "HF001")


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection broke. If a call was under way, its outcome is not known.

    An error that the server sent belongs to a statement and has an SQLSTATE; those of class 57P end the
    connection, and what libpq itself finds wrong has none.
    """
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def is_in_trouble(error: psycopg.Error) -> bool:
    """Whether the server can't do its work: out of disk, memory or connections, an I/O error, or read-only."""
    return error.sqlstate is not None and (error.sqlstate.startswith(("53", "58")) or error.sqlstate == "25006")


def translated(error: Exception) -> Exception:
    """The error as it is told to a caller, if it is one that passes; else itself: a defect."""
    if is_passing(error):
        return Overloaded()
    if is_connection_lost(error) or (isinstance(error, psycopg.Error) and is_in_trouble(error)):
        return DatabaseDown()
    return error
