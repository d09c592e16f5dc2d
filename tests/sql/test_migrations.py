"""Migrations: concurrent processes, a killed process, a changed file, definitions, and roles without rights."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from service.database.migrations import MigrationError, _begin, migrate, migration_files
from service.embedded.privileges import EmbeddedServerError
from service.embedded.server import EmbeddedServer
from tests.database import PASSWORD, TestDatabase, with_database
from tests.folders import data_folder

ALL = [path.name for path in migration_files()] + ["definitions"]
MIGRATOR = f"holdfast_migrator_{os.getpid()}"
# The program of a process that waits for a line, migrates a database, and prints what it applied.
MIGRATING = """
import sys
from service.database.migrations import migrate
sys.stdin.readline()
print(*migrate(sys.argv[1]), file=sys.stderr)
"""


@contextmanager
def waiting_migrator(url: str) -> Iterator[subprocess.Popen[str]]:
    """Starts a process that migrates after it gets a line, and kills it at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", MIGRATING, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def let_migrate(process: subprocess.Popen[str]) -> None:
    """Lets a waiting process begin."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def ledger(database: TestDatabase) -> set[str]:
    """Returns the names of the applied files."""
    return {name for (name,) in database.rows("SELECT filename FROM booking.schema_migrations")}


def mark_definitions_as_older(database: TestDatabase) -> None:
    """Changes the ledger as if the definitions were those of an older version."""
    database.rows(
        "UPDATE booking.schema_migrations SET sha256 = 'of older files', service_version = '{0,0,1}' "
        "WHERE filename = 'definitions'"
    )


@contextmanager
def killed_migration(database: TestDatabase, statement: str) -> Iterator[None]:
    """Kills a process whose migration waits for an uncommitted statement, which is rolled back after the block."""
    with psycopg.connect(database.admin_url) as blocking_connection, waiting_migrator(database.admin_url) as process:
        blocking_connection.execute(statement.encode())
        let_migrate(process)
        database.wait_until_blocked()
        process.kill()
        process.wait()
        yield
        blocking_connection.rollback()


def test_nothing_is_applied_twice(empty: TestDatabase) -> None:
    """A start of the service on a current database changes nothing, and applies nothing."""
    assert migrate(empty.admin_url) == ALL
    applied = empty.rows("SELECT * FROM booking.schema_migrations ORDER BY filename")
    assert migrate(empty.admin_url) == []
    assert empty.rows("SELECT * FROM booking.schema_migrations ORDER BY filename") == applied


def test_six_processes_at_once_migrate_an_empty_database_once(empty: TestDatabase) -> None:
    """Each file is applied by exactly one of the processes, and all of them succeed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(waiting_migrator(empty.admin_url)) for _ in range(6)]
        for process in processes:
            let_migrate(process)
        outputs = [process.communicate(timeout=60)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * 6, outputs
    assert sorted(name for output in outputs for name in output.split()) == sorted(ALL)
    assert ledger(empty) == set(ALL)


def test_a_migration_waits_for_no_lock_for_long(empty: TestDatabase) -> None:
    """All requests queue behind it. Only the wait for another process that migrates is longer."""
    with psycopg.connect(empty.admin_url) as connection:
        _begin(connection)
        settings = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        assert connection.execute(settings).fetchall() == [("5s", "1min")]


def test_a_table_that_is_locked_is_no_fault_of_the_migration(empty: TestDatabase) -> None:
    """The error tells the operator what to do, and the next run succeeds."""
    migrate(empty.admin_url)
    mark_definitions_as_older(empty)
    with psycopg.connect(empty.admin_url) as other:
        other.execute("LOCK TABLE booking.reservations")
        with pytest.raises(MigrationError, match=r"another session .* run it again\.$"):
            migrate(empty.admin_url)
    assert migrate(empty.admin_url) == ["definitions"]


def test_a_migration_that_was_changed_is_refused(empty: TestDatabase) -> None:
    """The error names the file and the remedy, and the ledger stays as it was."""
    migrate(empty.admin_url)
    empty.rows("UPDATE booking.schema_migrations SET sha256 = 'of another file' WHERE filename = %s", ALL[0])
    with pytest.raises(MigrationError, match=rf"{ALL[0]} was applied to this database with other contents.*restore"):
        migrate(empty.admin_url)
    assert empty.value("SELECT sha256 FROM booking.schema_migrations WHERE filename = %s", ALL[0]) == "of another file"


def test_definitions_that_were_changed_are_applied_again(empty: TestDatabase) -> None:
    """A function that was replaced by hand is restored by the next version, which the ledger records."""
    migrate(empty.admin_url)
    recorded = "SELECT sha256, service_version FROM booking.schema_migrations WHERE filename = 'definitions'"
    expected = empty.rows(recorded)
    empty.rows("CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'")
    mark_definitions_as_older(empty)
    assert migrate(empty.admin_url) == ["definitions"]
    shipped = "SELECT date_trunc('milliseconds', clock_timestamp())"
    assert empty.value("SELECT body FROM booking.clock_definition()") == shipped
    assert empty.rows(recorded) == expected


def test_definitions_of_an_older_version_are_dropped(empty: TestDatabase) -> None:
    """Functions, aggregates and views that are not in the files are dropped, whichever role owns them.

    A function whose return type changed is replaced, and a definition that a type or an index depends on is kept.
    """
    migrate(empty.admin_url)
    expected = definitions(empty)
    for statement in (
        "CREATE FUNCTION booking.former(a bigint, b bigint) RETURNS bigint LANGUAGE sql AS 'SELECT a + b'",
        "CREATE AGGREGATE booking.former_sum(bigint) (sfunc = booking.former, stype = bigint, initcond = 0)",
        "CREATE VIEW booking.former AS SELECT booking.former(1, 2), booking.now()",
        "CREATE VIEW booking.former_too AS SELECT * FROM booking.former, booking.claims",
        "CREATE FUNCTION booking.indexed(name text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower(name)'",
        "CREATE TABLE public.indexed (name text)",
        "CREATE INDEX ON public.indexed (booking.indexed(name))",
    ):
        empty.rows(statement)
    empty.rows("SET ROLE holdfast_owner")
    empty.rows("CREATE FUNCTION booking.former() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    empty.rows("DROP FUNCTION booking.due_businesses(interval)")
    empty.rows(
        "CREATE FUNCTION booking.due_businesses(p_retention interval) RETURNS text LANGUAGE sql AS $$ SELECT '1' $$"
    )
    empty.rows("RESET ROLE")
    mark_definitions_as_older(empty)
    assert migrate(empty.admin_url) == ["definitions"]
    assert definitions(empty) == expected | {("f", "booking.indexed(text)", "text")}


@pytest.mark.parametrize(
    ("kind", "report"),
    [
        ("view", "CREATE VIEW report AS SELECT * FROM booking.unknown_timezones()"),
        ("view", "CREATE VIEW report AS SELECT * FROM booking.claims"),
        ("materialized view", "CREATE MATERIALIZED VIEW report AS SELECT * FROM booking.unknown_timezones()"),
    ],
)
def test_a_view_of_an_operator_stops_the_migration(empty: TestDatabase, kind: str, report: str) -> None:
    """If it reads a function or a view of the schema. The message has its name, and nothing is changed."""
    migrate(empty.admin_url)
    expected = definitions(empty)
    empty.rows(report)
    mark_definitions_as_older(empty)
    with pytest.raises(MigrationError, match=f"{kind} report depends on") as stopped:
        migrate(empty.admin_url)
    assert len(str(stopped.value)) < 400  # one line, without the names of all functions
    assert definitions(empty) == expected
    empty.rows(f"DROP {kind} report")
    assert migrate(empty.admin_url) == ["definitions"]


def definitions(database: TestDatabase) -> set[tuple[str, str, str]]:
    """Returns the routines and views of the schema: (kind, signature, return type)."""
    rows = database.rows(
        "SELECT prokind::text, oid::regprocedure::text, pg_get_function_result(oid) FROM pg_proc "
        "WHERE pronamespace = 'booking'::regnamespace "
        "UNION ALL SELECT relkind::text, oid::regclass::text, '' FROM pg_class "
        "WHERE relnamespace = 'booking'::regnamespace AND relkind = 'v'"
    )
    return {(kind, name, result) for kind, name, result in rows}


def test_an_open_transaction_survives_a_change_of_the_definitions(empty: TestDatabase) -> None:
    """Its prepared statements find the functions of the new definitions."""
    migrate(empty.admin_url)
    query = "SELECT booking.capacity('salon', 'cut', now(), now()), ARRAY(SELECT booking.due_businesses('1 day'))"
    with psycopg.connect(empty.admin_url, prepare_threshold=0) as connection:
        assert connection.execute(query).fetchall() == [(None, [])]
        mark_definitions_as_older(empty)
        assert migrate(empty.admin_url) == ["definitions"]
        assert connection.execute(query).fetchall() == [(None, [])]


def test_definitions_of_a_newer_version_are_left_alone(empty: TestDatabase) -> None:
    """During a rolling update, an older process that restarts must not restore its own definitions."""
    migrate(empty.admin_url)
    empty.rows(
        "UPDATE booking.schema_migrations SET sha256 = 'of newer files', service_version = '{99,0,0}' "
        "WHERE filename = 'definitions'"
    )
    assert migrate(empty.admin_url) == []


def test_a_process_killed_half_way_leaves_no_lock_and_the_next_one_goes_on(empty: TestDatabase) -> None:
    """The process is killed while it applies the functions: the tables stay, and none of the functions does."""
    empty.rows("CREATE SCHEMA booking")
    statement = "CREATE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'"
    with killed_migration(empty, statement):
        assert ledger(empty) == set(ALL[:-1])
    assert migrate(empty.admin_url) == ["definitions"]
    assert empty.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_a_migration_may_take_longer_than_the_transactions_of_the_server(empty: TestDatabase) -> None:
    """A migration of a large database is one transaction of minutes. The setting exists since PostgreSQL 17."""
    with psycopg.connect(empty.admin_url) as connection:
        if connection.info.server_version >= 170000:
            connection.execute("SET transaction_timeout = '200ms'")
            connection.commit()
        _begin(connection)
        assert connection.execute("SELECT 1 FROM pg_sleep(0.4)").fetchall() == [(1,)]


def test_a_process_killed_at_the_beginning_leaves_nothing(empty: TestDatabase) -> None:
    """Neither a lock nor a schema is left, and the next process applies all files."""
    with killed_migration(empty, "CREATE SCHEMA booking"):
        pass
    assert migrate(empty.admin_url) == ALL


@pytest.fixture
def migrator(empty: TestDatabase) -> Iterator[str]:
    """Creates a role that may only log in, and returns its URL for the empty database."""
    with temporary_role(empty.admin, MIGRATOR):
        yield as_role(empty.admin_url, MIGRATOR)


@contextmanager
def temporary_role(connection: psycopg.Connection, name: str) -> Iterator[None]:
    """Creates a role, and drops it with all that it owns at the end of the block."""
    role = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, PASSWORD))
    try:
        yield
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def as_role(url: str, name: str) -> str:
    """Returns the URL of the same database under another role."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()


def make_migrator_the_owner(empty: TestDatabase) -> None:
    """Makes the migrating role the owner of its database, as administrators usually do."""
    empty.rows(f"ALTER DATABASE {empty.admin.info.dbname} OWNER TO {MIGRATOR}")


def test_a_role_that_may_not_create_a_schema_gets_an_error(empty: TestDatabase, migrator: str) -> None:
    """The error is readable, and no schema is left."""
    with pytest.raises(MigrationError, match=r"may not apply them \(permission denied for database"):
        migrate(migrator)
    assert empty.value("SELECT to_regnamespace('booking')") is None


def test_the_error_of_a_role_outside_holdfast_owner_has_the_grant(empty: TestDatabase, migrator: str) -> None:
    """The error has the statement for the administrator; after it, no superuser is needed."""
    make_migrator_the_owner(empty)
    with pytest.raises(
        MigrationError, match=rf"(?s)not a member of holdfast_owner.*GRANT holdfast_owner TO {MIGRATOR}"
    ):
        migrate(migrator)
    assert empty.value("SELECT to_regclass('booking.businesses')") is None
    empty.rows(f"GRANT holdfast_owner TO {MIGRATOR}")
    assert migrate(migrator) == ALL
    assert empty.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'booking.businesses'::regclass") == (
        "holdfast_owner"
    )


def test_the_error_of_a_role_that_may_not_create_roles_names_them(cluster: str) -> None:
    """The roles are missing on a server on which the service was never installed."""
    with psycopg.connect(cluster) as connection:
        major = connection.info.server_version // 10_000
    try:
        with data_folder() as folder, EmbeddedServer(folder, major=major, settings={"fsync": "off"}) as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {MIGRATOR} LOGIN PASSWORD '{PASSWORD}'".encode())
                connection.execute(f"CREATE DATABASE fresh OWNER {MIGRATOR}".encode())
            with pytest.raises(
                MigrationError, match=r"(?s)may not create the roles.*CREATE ROLE holdfast_owner NOLOGIN"
            ):
                migrate(as_role(with_database(server.url(), "fresh"), MIGRATOR))
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"ALTER ROLE {MIGRATOR} CREATEROLE".encode())
            assert migrate(as_role(with_database(server.url(), "fresh"), MIGRATOR)) == ALL
    except EmbeddedServerError as error:
        pytest.skip(f"no second embedded server: {error}")
