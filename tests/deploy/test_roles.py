"""deploy/postgres/roles.sql: its logins can migrate and serve, and have no further rights."""

from collections.abc import Iterator

import psycopg
import pytest

from service.database.migrations import migrate, migration_files
from tests.connections import open_database
from tests.deploy.installation import Installation, installation, make_roles

pytestmark = pytest.mark.anyio

# Settings that the service makes for each session, which a pooler in transaction mode does not keep.
SETTINGS = (
    "timezone",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
)


@pytest.fixture(scope="module", params=(16, 18), ids=lambda major: f"postgres{major}")
def migrated(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Makes a database that its migrating login has migrated."""
    with installation(request.param) as installed:
        applied = migrate(installed.migration_url)
        assert {path.name for path in migration_files()} <= set(applied)
        yield installed


def test_a_server_without_a_locale_gets_a_database_with_letters() -> None:
    """Its template has the locale C, in which addresses differ by the case of letters beyond ASCII."""
    with installation(16, roles=False) as server:
        administrator_url = server.administrator_url.replace("/holdfast", "/postgres")
        with psycopg.connect(administrator_url) as connection:
            connection.execute("UPDATE pg_database SET datctype = 'C', datcollate = 'C' WHERE datname = 'template0'")
        make_roles(administrator_url, 16)
        with psycopg.connect(server.migration_url) as connection:
            assert connection.execute("SELECT lower('MÜLLER')").fetchall() == [("müller",)]


def test_the_service_finds_nothing_to_migrate(migrated: Installation) -> None:
    """`serve` migrates at its start, under a login without the rights to do so."""
    assert migrate(migrated.url) == []


async def test_the_service_can_call_its_verbs(migrated: Installation) -> None:
    """One call takes a lock, and one only reads."""
    async with open_database(migrated.url) as database:
        assert await database.change("delete_business", "nobody") == [("business_not_found", None)]
        assert len(await database.fetch("reservation_health")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT FROM booking.appointments",
        b"SELECT FROM booking.claims",
        b"SELECT FROM booking.schema_migrations",
        b"INSERT INTO booking.slugs VALUES ('a', 'b')",
        b"CREATE TABLE booking.mine ()",
        b"CREATE TABLE public.mine ()",
        b"CREATE TEMPORARY TABLE mine ()",
        b"CREATE SCHEMA mine",
        b"SET ROLE holdfast_owner",
    ],
)
def test_the_service_can_do_nothing_else(migrated: Installation, statement: bytes) -> None:
    """The login of DATABASE_URL cannot read, write or make a table."""
    with psycopg.connect(migrated.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


async def test_the_role_has_the_settings_of_a_session(migrated: Installation) -> None:
    """Behind a pooler in transaction mode only the role's settings apply, so they must equal those of the service."""
    with psycopg.connect(migrated.url) as plain:
        role_settings = {name: _shown(plain, name) for name in SETTINGS}
    async with open_database(migrated.url) as database, database.connection() as connection:
        cursor = await connection.execute(
            "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS name", [[*SETTINGS]]
        )
        assert dict(await cursor.fetchall()) == role_settings
    assert role_settings["lock_timeout"] == "2s"


def _shown(connection: psycopg.Connection, name: str) -> str | None:
    row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    assert row is not None
    value: str | None = row[0]
    return value
