"""The migrations: many processes at once, one killed half-way, a file that was changed, a role without rights."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from service.database.migrations import MigrationError, migrate, migration_files
from service.embedded.server import EmbeddedServer, EmbeddedServerError
from tests.database import PASSWORD, TestDatabase

ALL = [path.name for path in migration_files()] + ["definitions"]
MIGRATOR = f"holdfast_migrator_{os.getpid()}"
# A process that migrates a database when it is told to, and says what it applied.
MIGRATING = """
import sys
from service.database.migrations import migrate
sys.stdin.readline()
print(*migrate(sys.argv[1]), file=sys.stderr)
"""


@contextmanager
def ready_to_migrate(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a line. It is ended with the block, if it has not ended by itself."""
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


def go(process: subprocess.Popen[str]) -> None:
    """Lets a process begin."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def ledger(database: TestDatabase) -> set[str]:
    """What has been applied."""
    return {name for (name,) in database.rows("SELECT filename FROM booking.schema_migrations")}


def test_nothing_is_applied_twice(empty: TestDatabase) -> None:
    """A start of the service on a database that is up to date changes nothing and says so."""
    assert migrate(empty.admin_url) == ALL
    applied = empty.rows("SELECT * FROM booking.schema_migrations ORDER BY filename")
    assert migrate(empty.admin_url) == []
    assert empty.rows("SELECT * FROM booking.schema_migrations ORDER BY filename") == applied


def test_six_processes_at_once_migrate_an_empty_database_once(empty: TestDatabase) -> None:
    """Workers that start together: each file is applied by exactly one of them, and all go on."""
    with ExitStack() as stack:
        processes = [stack.enter_context(ready_to_migrate(empty.admin_url)) for _ in range(6)]
        for process in processes:
            go(process)
        said = [process.communicate(timeout=60)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * 6, said
    assert sorted(name for names in said for name in names.split()) == sorted(ALL)
    assert ledger(empty) == set(ALL)


def test_a_migration_that_was_changed_is_refused(empty: TestDatabase) -> None:
    """Somebody edited a file that was applied before: the message names it and says what to do; nothing is done."""
    migrate(empty.admin_url)
    empty.rows("UPDATE booking.schema_migrations SET sha256 = 'of another file' WHERE filename = %s", ALL[0])
    with pytest.raises(MigrationError, match=rf"{ALL[0]} was applied to this database with other contents.*restore"):
        migrate(empty.admin_url)
    assert empty.value("SELECT sha256 FROM booking.schema_migrations WHERE filename = %s", ALL[0]) == "of another file"


def test_definitions_that_were_changed_are_applied_again(empty: TestDatabase) -> None:
    """They say what is true now: a function that somebody replaced by hand is put right with the next version."""
    migrate(empty.admin_url)
    empty.rows("CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'")
    empty.rows("UPDATE booking.schema_migrations SET sha256 = 'of older files' WHERE filename = 'definitions'")
    assert migrate(empty.admin_url) == ["definitions"]
    assert empty.value("SELECT body FROM booking.clock_definition()") == "SELECT clock_timestamp()"


def test_definitions_of_an_older_version_are_dropped(empty: TestDatabase) -> None:
    """Whichever role made them: functions, aggregates and views that are not in the files are gone, a function whose
    return type changed is replaced, and those that a type or an index needs stay."""
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
    empty.rows("UPDATE booking.schema_migrations SET sha256 = 'of older files' WHERE filename = 'definitions'")
    assert migrate(empty.admin_url) == ["definitions"]
    assert definitions(empty) == expected | {("f", "booking.indexed(text)", "text")}


def definitions(database: TestDatabase) -> set[tuple[str, str, str]]:
    """The routines and views of the schema: kind, signature, what a routine returns."""
    rows = database.rows(
        "SELECT prokind::text, oid::regprocedure::text, pg_get_function_result(oid) FROM pg_proc "
        "WHERE pronamespace = 'booking'::regnamespace "
        "UNION ALL SELECT relkind::text, oid::regclass::text, '' FROM pg_class "
        "WHERE relnamespace = 'booking'::regnamespace AND relkind = 'v'"
    )
    return {(kind, name, result) for kind, name, result in rows}


def test_a_transaction_that_is_under_way_survives_a_change_of_the_definitions(empty: TestDatabase) -> None:
    """Its statements were prepared for the functions of the old definitions, and find those of the new ones."""
    migrate(empty.admin_url)
    query = "SELECT booking.capacity('salon', 'cut', now(), now()), ARRAY(SELECT booking.due_businesses('1 day'))"
    with psycopg.connect(empty.admin_url, prepare_threshold=0) as connection:
        assert connection.execute(query).fetchall() == [(None, [])]
        empty.rows("UPDATE booking.schema_migrations SET sha256 = 'of older files' WHERE filename = 'definitions'")
        assert migrate(empty.admin_url) == ["definitions"]
        assert connection.execute(query).fetchall() == [(None, [])]


def test_definitions_of_a_newer_version_are_left_alone(empty: TestDatabase) -> None:
    """While that is being rolled out, an older process that is restarted must not put its own back."""
    migrate(empty.admin_url)
    empty.rows(
        "UPDATE booking.schema_migrations SET sha256 = 'of newer files', service_version = '{99,0,0}' "
        "WHERE filename = 'definitions'"
    )
    assert migrate(empty.admin_url) == []


def test_one_killed_half_way_leaves_no_lock_and_the_next_goes_on(empty: TestDatabase) -> None:
    """It had applied the tables and was at the functions: the tables stay, of the functions nothing does."""
    empty.rows("CREATE SCHEMA booking")
    with psycopg.connect(empty.admin_url) as in_the_way, ready_to_migrate(empty.admin_url) as killed:
        in_the_way.execute("CREATE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'")
        go(killed)
        empty.wait_until_blocked()
        killed.kill()
        killed.wait()
        assert ledger(empty) == set(ALL[:-1])
        in_the_way.rollback()
    assert migrate(empty.admin_url) == ["definitions"]
    assert empty.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_one_killed_at_the_very_beginning_leaves_nothing(empty: TestDatabase) -> None:
    """Neither a lock nor a schema; the next one does it all."""
    with psycopg.connect(empty.admin_url) as in_the_way, ready_to_migrate(empty.admin_url) as killed:
        in_the_way.execute("CREATE SCHEMA booking")
        go(killed)
        empty.wait_until_blocked()
        killed.kill()
        killed.wait()
        in_the_way.rollback()
    assert migrate(empty.admin_url) == ALL


@pytest.fixture
def migrator(empty: TestDatabase) -> Iterator[str]:
    """The URL of a role that may log in, for the empty database, and nothing else."""
    with made_role(empty.admin, MIGRATOR):
        yield as_role(empty.admin_url, MIGRATOR)


@contextmanager
def made_role(connection: psycopg.Connection, name: str) -> Iterator[None]:
    """A role, with all that it may get to own."""
    role = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, PASSWORD))
    try:
        yield
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def as_role(url: str, name: str) -> str:
    """The same database under another role."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()


def give_database(empty: TestDatabase) -> None:
    """Makes the migrating role the owner of its database, which is what administrators usually do."""
    empty.rows(f"ALTER DATABASE {empty.admin.info.dbname} OWNER TO {MIGRATOR}")


def test_a_role_that_may_create_nothing_is_told(empty: TestDatabase, migrator: str) -> None:
    """In words, and nothing is left half-made."""
    with pytest.raises(MigrationError, match="could not be migrated: permission denied for database"):
        migrate(migrator)
    assert empty.value("SELECT to_regnamespace('booking')") is None


def test_a_role_that_is_no_member_of_the_owner_is_told_what_to_ask_for(empty: TestDatabase, migrator: str) -> None:
    """The message has the statement for the administrator; with that done, no superuser is needed."""
    give_database(empty)
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


def test_a_role_that_may_not_make_roles_is_told_which_ones_are_missing(cluster: str) -> None:
    """On a server that has never had the service, where nobody has made them yet."""
    with psycopg.connect(cluster) as connection:
        major = connection.info.server_version // 10_000
    folder = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    try:
        with EmbeddedServer(folder, major=major, settings={"fsync": "off"}) as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE ROLE {MIGRATOR} LOGIN PASSWORD '{PASSWORD}'".encode())
                connection.execute(f"CREATE DATABASE fresh OWNER {MIGRATOR}".encode())
            with pytest.raises(
                MigrationError, match=r"(?s)may not create the roles.*CREATE ROLE holdfast_owner NOLOGIN"
            ):
                migrate(as_role(server.url("fresh"), MIGRATOR))
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"ALTER ROLE {MIGRATOR} CREATEROLE".encode())
            assert migrate(as_role(server.url("fresh"), MIGRATOR)) == ALL
    except EmbeddedServerError as error:
        pytest.skip(f"it takes a server of its own: {error}")
    finally:
        shutil.rmtree(folder)
