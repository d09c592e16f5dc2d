"""Migrates a database to the schema of this code.

`sql/` has two kinds of files:

- `migrations/*.sql` run once each, in the order of their names, and never change afterwards;
- the definitions (functions, views and grants) hold the current state: when any of them has changed, all definitions in
  the database are dropped and created again, unless they belong to a newer version.

Each migration is one transaction, and so are all definitions together. It begins by taking an advisory lock that it
holds until its end. So any number of processes may migrate at once; a process that is killed half-way leaves no partial
change and no lock, and the next process continues from there.
"""

import hashlib
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from service import __version__
from service.database.failures import reason

# As libpq counts: the major version times 10,000.
_OLDEST_VERSION: Final = 160000
# How long a server that starts is waited for: as long as an orchestrator waits for this process.
_START_SECONDS = 60
_CONNECT_SECONDS = 5
_PAUSE_SECONDS = 0.5
# The key of the advisory lock; no other statement of the service uses it.
_LOCK = 0x686F6C64
# The ledger's name for all definitions together.
_DEFINITIONS = "definitions"
_MIGRATE_PROXY: Final = (
    "run `python -m service migrate` with the URLs of the proxy and of all partitions in MIGRATION_DATABASE_URL"
)

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_VERSION: Final = [int(number) for number in __version__.split(".")]

log = structlog.get_logger(__name__)


class _Applied(NamedTuple):
    """An entry of the ledger: what was applied, and by which version of the service."""

    sha256: str
    service_version: list[int]


class MigrationError(Exception):
    """The database can't be migrated; the message gives the remedy."""


def sql_folder() -> Path:
    """Returns the folder with the SQL files: inside an installed package, or beside it in the repository."""
    installed = _PACKAGE / "sql"
    return installed if installed.is_dir() else _PACKAGE.parent / "sql"


@cache
def named_queries() -> Mapping[str, bytes]:
    """Reads the statements of sql/queries.sql, by name; as bytes, because psycopg takes only literals as str. Once: the
    file of a newer version may be put in its place while the process runs."""
    text = (sql_folder() / "queries.sql").read_text(encoding="utf-8")
    sections = text.split("\n-- name: ")[1:]
    statements = {name.strip(): body.strip().encode() for name, _, body in (s.partition("\n") for s in sections)}
    return MappingProxyType(statements)  # which all callers share


def migration_files() -> list[Path]:
    """Returns the migrations of this code, in the order in which they are applied."""
    return sorted((sql_folder() / "migrations").glob("*.sql"))


def migrate(url: str) -> list[str]:
    """Applies what the database at `url` lacks, and returns the names of what was applied.

    The role of `url` must own the database or be a superuser; if the database is current, the service's role suffices.
    Waits at most 60 s for a database that starts, as long for another process that is migrating, and 5 s for each table
    lock. A proxy is only compared with this code: `migrate_proxy` migrates it. Raises `MigrationError`.
    """
    connection = connect(url)
    try:
        with connection:
            is_proxy = _is_proxy(connection)
            if not is_proxy:
                _check_server(connection)
            if _is_current(connection, is_proxy=is_proxy):
                return []
            if is_proxy:
                raise MigrationError(f"A partition of this proxy lacks migrations of this version: {_MIGRATE_PROXY}.")
            connection.add_notice_handler(_log_progress)
            applied = [path.name for path in migration_files() if _apply_once(connection, path)]
            if _apply_definitions(connection):
                applied.append(_DEFINITIONS)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            "The database lacks migrations of this version, and this role may not apply them "
            f"({error.diag.message_primary}): run `python -m service migrate` as the role that owns the database, or "
            "give `serve` the URL of that role as MIGRATION_DATABASE_URL. If it finds nothing to do, this role is no "
            "member of holdfast_service: GRANT holdfast_service TO it."
        ) from error
    except psycopg.errors.DependentObjectsStillExist as error:
        # Without the error's context, the statement that drops hundreds of functions by their signatures.
        dependent = "; ".join((error.diag.message_detail or "").splitlines())
        raise MigrationError(
            f"The database could not be migrated: {dependent}. Drop these objects of your own first, and create them "
            "again afterwards."
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"The database could not be migrated: another session keeps a lock ({error.diag.message_primary}). The "
            "step that waited left nothing behind: end that session, or wait for it, and run it again."
        ) from error
    except psycopg.Error as error:
        raise MigrationError(f"The database could not be migrated: {error}") from error
    for name in applied:
        log.info("migration_applied", file=name)
    return applied


def connect(url: str) -> psycopg.Connection:
    """Connects in autocommit mode, and waits for a server that starts or does not listen yet. Raises `MigrationError`.

    In any other mode a statement outside of a block `transaction()` would put all later blocks into one transaction.
    """
    # The encoding of our files overrides that of the environment, the URL and the role.
    conninfo = make_conninfo(url, connect_timeout=_CONNECT_SECONDS, client_encoding="UTF8")
    give_up_at = time.monotonic() + _START_SECONDS
    was_up = is_logged = False
    while True:
        try:
            return psycopg.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            # These errors have no code, so libpq is asked whether the server accepts connections. If it does, and did
            # so before this attempt, it has another reason to refuse this one.
            is_up = PGconn.ping(conninfo.encode()) == Ping.OK
            if (is_up and was_up) or time.monotonic() >= give_up_at:
                raise MigrationError(f"The database does not answer: {reason(error)}") from error
            if not (is_up or is_logged):
                is_logged = True
                log.warning("waiting_for_database", reason=reason(error), seconds=_START_SECONDS)
        was_up = is_up
        time.sleep(_PAUSE_SECONDS)


def _check_server(connection: psycopg.Connection) -> None:
    """Raises `MigrationError` for a server that is too old: what it lacks would fail with a message about syntax. And
    for a database in another encoding. Logs a locale in which addresses differ by the case of their letters."""
    if connection.info.server_version < _OLDEST_VERSION:
        version = connection.info.parameter_status("server_version")
        too_old = f"PostgreSQL {version} is too old: Holdfast needs {_OLDEST_VERSION // 10000} or later."
        if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'plproxy'").fetchall():
            too_old += f" If this is a proxy, which may be older, it has no functions yet: {_MIGRATE_PROXY}."
        raise MigrationError(too_old)
    check_encoding(connection)
    if connection.execute("SELECT lower('Ä')").fetchall() != [("ä",)]:
        log.warning("letters_unknown", hint="the locale of the database knows no letters beyond ASCII, as C")


def check_encoding(connection: psycopg.Connection) -> None:
    """Raises `MigrationError` for a database in another encoding than UTF8: SQL_ASCII has no letters beyond ASCII, and
    the others lack some."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationError(
            f"The database has the encoding {encoding}, and Holdfast needs UTF8: create it with ENCODING 'UTF8' "
            "TEMPLATE template0, as deploy/postgres/roles.sql does."
        )


def _is_proxy(connection: psycopg.Connection) -> bool:
    return bool(connection.execute("SELECT FROM pg_foreign_server WHERE srvname = 'holdfast'").fetchall())


def _log_progress(notice: psycopg.errors.Diagnostic) -> None:
    """Logs what a long migration reports by RAISE INFO; PostgreSQL's own notices have other severities."""
    if notice.severity_nonlocalized == "INFO":
        log.info("migration_progress", detail=notice.message_primary)


def _is_current(connection: psycopg.Connection, *, is_proxy: bool) -> bool:
    """Returns whether there is nothing to apply; False also if this role may not read the ledger.

    A proxy with a partition that does not answer counts as current: the service starts for the others.
    """
    try:
        ledger = _ledger(connection, "applied_migrations")
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        return False
    except psycopg.errors.InternalError as error:
        if not is_proxy:
            raise
        log.warning("migrations_unknown", reason=reason(error))
        return True
    hashes = {name: entry.sha256 for name, entry in ledger.items()}
    unchanged = all(hashes.get(path.name) == _sha256(path.read_bytes()) for path in migration_files())
    return unchanged and not _lacks_definitions(ledger)


def _apply_once(connection: psycopg.Connection, path: Path) -> bool:
    """Applies a migration unless the ledger has it; returns whether it was applied."""
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
    """Replaces the definitions if they have changed; returns whether they were replaced."""
    with connection.transaction():
        _begin(connection)
        if not _lacks_definitions(_ledger(connection)):
            return False
        connection.execute("GRANT SELECT ON booking.schema_migrations TO holdfast_owner")
        # Before SET ROLE, because only the owner of the schema may also drop what another role created in it.
        connection.execute((sql_folder() / "drop_definitions.sql").read_bytes())
        connection.execute("SET LOCAL ROLE holdfast_owner")
        # Allows any order of the functions: those they call are looked up when they run.
        connection.execute("SET LOCAL check_function_bodies = off")
        connection.execute(_definitions())
        _record(connection, _DEFINITIONS, _definitions())
    return True


def _lacks_definitions(ledger: dict[str, _Applied]) -> bool:
    """Returns whether this code's definitions are to be applied.

    Those of a newer version stay: while it is rolled out, an older process that restarts must not replace them.
    """
    known = ledger.get(_DEFINITIONS)
    return known is None or (known.sha256 != _sha256(_definitions()) and known.service_version <= _VERSION)


def _definitions() -> bytes:
    """Returns the functions, then the views, which call them, then the grants on both."""
    functions = sorted((sql_folder() / "functions").rglob("*.sql"))
    views = sorted((sql_folder() / "views").glob("*.sql"))
    return b"".join(path.read_bytes() for path in [*functions, *views, sql_folder() / "grants.sql"])


def _begin(connection: psycopg.Connection) -> None:
    """Takes the advisory lock until the end of the transaction, and creates the ledger if missing."""
    connection.execute("SET LOCAL statement_timeout = '60s'")
    # Of the server, database or role. A migration that rewrites tables is one transaction, of minutes.
    if connection.info.server_version >= 170000:
        connection.execute("SET LOCAL transaction_timeout = 0")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    # All requests queue behind a migration that waits for its table's lock, so that wait is short.
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
