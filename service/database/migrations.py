"""Brings a database to the schema of this code.

Two kinds of files, in `sql/`:

- `migrations/*.sql` run once each, in the order of their names, and never change afterwards;
- functions, views and grants say what is true now: when any of them changed, those of the database are dropped and all
  are created anew, unless those of a newer version are there.

Each file of the first kind, and the whole of the second, is one transaction, which begins by taking a lock
that ends with it. So any number of processes may start at once, one killed half-way leaves nothing behind
(no lock either), and the next one goes on from there.
"""

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
import structlog

from service import __version__
from service.database.files import named_queries, sql_folder

# A number of our own among the advisory locks of the database; not in the path of any request.
_LOCK = 0x686F6C64
_DEFINITIONS = "definitions"

_VERSION: Final = [int(number) for number in __version__.split(".")]

log = structlog.get_logger(__name__)


class _Applied(NamedTuple):
    """A line of the ledger."""

    sha256: str
    service_version: list[int]


class MigrationError(Exception):
    """The schema can't be brought up to date; the message says what to do."""


def migration_files() -> list[Path]:
    """The migrations of this code, in their order."""
    return sorted((sql_folder() / "migrations").glob("*.sql"))


def migrate(url: str) -> list[str]:
    """Applies what the database at `url` lacks and returns the names of what was applied.

    If it lacks anything, the role of `url` must own the database or be a superuser; if not, that of the service is
    enough. Waits up to a minute for another process that is migrating. Raises `MigrationError`.
    """
    try:
        with _connection(url) as connection:
            if _is_current(connection):
                return []
            connection.add_notice_handler(_log_progress)
            applied = [path.name for path in migration_files() if _apply_once(connection, path)]
            if _apply_definitions(connection):
                applied.append(_DEFINITIONS)
    except psycopg.Error as error:
        raise MigrationError(f"The database could not be migrated: {error}") from error
    for name in applied:
        log.info("migration_applied", file=name)
    return applied


def _log_progress(notice: psycopg.errors.Diagnostic) -> None:
    """Logs what a long migration says by RAISE INFO. PostgreSQL's own notices have another severity."""
    if notice.severity_nonlocalized == "INFO":
        log.info("migration_progress", detail=notice.message_primary)


def _connection(url: str) -> psycopg.Connection:
    try:
        return psycopg.connect(url, connect_timeout=5)
    except psycopg.Error as error:
        # The driver's message has several lines.
        raise MigrationError(f"The database does not answer: {' '.join(str(error).split())}") from error


def _is_current(connection: psycopg.Connection) -> bool:
    """Whether there is nothing to do, as far as this role may know."""
    try:
        with connection.transaction():
            ledger = _ledger(connection, "applied_migrations")
    except (
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InsufficientPrivilege,
    ):
        return False
    unchanged = all(
        path.name in ledger and ledger[path.name].sha256 == _sha256(path.read_bytes()) for path in migration_files()
    )
    return unchanged and not _lacks_definitions(ledger)


def _apply_once(connection: psycopg.Connection, path: Path) -> bool:
    text = path.read_bytes()
    with connection.transaction():
        _begin(connection)
        known = _ledger(connection).get(path.name)
        if known is None:
            connection.execute(text)
            _record(connection, path.name, text)
        elif known.sha256 != _sha256(text):
            raise MigrationError(
                f"{path.name} was applied to this database with other contents. Migrations never change: "
                "restore the file and put the change into a new one."
            )
    return known is None


def _apply_definitions(connection: psycopg.Connection) -> bool:
    with connection.transaction():
        _begin(connection)
        if not _lacks_definitions(_ledger(connection)):
            return False
        connection.execute("GRANT SELECT ON booking.schema_migrations TO holdfast_owner")
        # Not as the owner of the definitions: the owner of the schema may also drop what another role made in it.
        connection.execute((sql_folder() / "drop_definitions.sql").read_bytes())
        connection.execute("SET LOCAL ROLE holdfast_owner")
        # Functions may be applied in any order: what they call is looked up when they run.
        connection.execute("SET LOCAL check_function_bodies = off")
        connection.execute(_definitions())
        _record(connection, _DEFINITIONS, _definitions())
    return True


def _lacks_definitions(ledger: dict[str, _Applied]) -> bool:
    """Whether these definitions are to be applied. Never over those of a newer version: while that is being rolled
    out, an older process that is restarted must not put its own back."""
    known = ledger.get(_DEFINITIONS)
    return known is None or (known.sha256 != _sha256(_definitions()) and known.service_version <= _VERSION)


def _definitions() -> bytes:
    """The functions, then the views that call them, then who may use them."""
    functions = sorted((sql_folder() / "functions").rglob("*.sql"))
    views = sorted((sql_folder() / "views").glob("*.sql"))
    return b"".join(path.read_bytes() for path in [*functions, *views, sql_folder() / "grants.sql"])


def _begin(connection: psycopg.Connection) -> None:
    """Takes the lock for this transaction, and makes the ledger if there is none."""
    connection.execute("SET LOCAL statement_timeout = '60s'")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    # A migration that can't have its table soon must not make every request queue up behind it.
    connection.execute("SET LOCAL lock_timeout = '5s'")
    connection.execute((sql_folder() / "ledger.sql").read_bytes())


def _ledger(connection: psycopg.Connection, query: str = "migration_ledger") -> dict[str, _Applied]:
    rows = connection.execute(named_queries()[query]).fetchall()
    return {filename: _Applied(sha256, service_version) for filename, sha256, service_version in rows}


def _record(connection: psycopg.Connection, name: str, text: bytes) -> None:
    connection.execute("RESET ROLE")
    connection.execute(named_queries()["record_migration"], [name, _sha256(text), _VERSION])


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
