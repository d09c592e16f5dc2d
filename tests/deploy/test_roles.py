"""deploy/postgres/roles.sql: what it sets up can be migrated and served, and its logins can do no more than that."""

from collections.abc import Iterator

import psycopg
import pytest

from service.database.migrations import migrate, migration_files
from tests.connections import open_database
from tests.deploy.installation import Installation, installation

pytestmark = pytest.mark.anyio

# What the service sets for each session, and a pooler in transaction mode has no sessions for.
SETTINGS = (
    "timezone",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
)


@pytest.fixture(scope="module", params=(16, 18), ids=lambda major: f"postgres{major}")
def migrated(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """A database that its migrating login has migrated."""
    with installation(request.param) as installed:
        applied = migrate(installed.migration_url)
        assert {path.name for path in migration_files()} <= set(applied)
        yield installed


def test_the_service_finds_nothing_to_migrate(migrated: Installation) -> None:
    """`serve` migrates first, under a login that could not."""
    assert migrate(migrated.url) == []


async def test_the_service_can_call_its_verbs(migrated: Installation) -> None:
    """A call that begins with the lock, and one that only reads."""
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
    """Whoever gets hold of DATABASE_URL can't read or write a table, or make one."""
    with psycopg.connect(migrated.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


async def test_the_role_has_the_settings_of_a_session(migrated: Installation) -> None:
    """Behind a pooler in transaction mode only the role's count: they must be the ones that the service would set."""
    with psycopg.connect(migrated.url) as plain:
        of_role = {name: _shown(plain, name) for name in SETTINGS}
    async with open_database(migrated.url) as database, database.connection() as connection:
        cursor = await connection.execute(
            "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS name", [[*SETTINGS]]
        )
        assert dict(await cursor.fetchall()) == of_role
    assert of_role["lock_timeout"] == "2s"


def _shown(connection: psycopg.Connection, name: str) -> str | None:
    row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    assert row is not None
    value: str | None = row[0]
    return value
