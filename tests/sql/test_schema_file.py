"""sql/schema.sql: the current schema in one file, generated from what the migrations make."""

from pathlib import Path

import psycopg
import pytest

from service.database.migrations import migrate
from tests.database import TestDatabase
from tests.schema import SCHEMA_FILE, describe_schema, without_btree_gist


def test_the_file_is_what_the_migrations_make(database: TestDatabase) -> None:
    """A migration without `make schema` fails here; the text is the same on every version of PostgreSQL."""
    assert SCHEMA_FILE.read_text() == describe_schema(database.admin), "stale: run `make schema`"


def test_the_file_makes_the_schema_that_it_describes(empty: TestDatabase) -> None:
    """It is valid SQL and leaves out no column, constraint, index or type that it would need to be complete."""
    empty.admin.execute(SCHEMA_FILE.read_bytes())
    assert describe_schema(empty.admin) == SCHEMA_FILE.read_text()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE booking.services ADD COLUMN colour text",
        "ALTER TABLE booking.services ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE booking.resources ALTER COLUMN seats SET DEFAULT 2",
        "ALTER TABLE booking.occupancy DROP CONSTRAINT occupancy_claimed_check",
        "ALTER TABLE booking.occupancy RESET (fillfactor)",
        "CREATE INDEX idx_services_name ON booking.services (name)",
        "ALTER TYPE booking.outcome ADD ATTRIBUTE advice text",
        "CREATE TYPE booking.integer_range AS RANGE (subtype = integer)",
    ],
)
def test_a_change_of_the_schema_makes_the_file_stale(database: TestDatabase, change: str) -> None:
    """The negative control: every kind of object that the file describes is compared."""
    database.rows(change)
    assert describe_schema(database.admin) != SCHEMA_FILE.read_text()


def test_the_schema_has_no_object_of_a_kind_that_the_file_leaves_out(database: TestDatabase) -> None:
    """No sequence, partition, enumeration or domain: `describe_schema` would have to learn of them first."""
    relations = database.rows(
        "SELECT DISTINCT relkind::text FROM pg_class WHERE relnamespace = 'booking'::regnamespace"
    )
    assert {kind for (kind,) in relations} == {"r", "i", "c", "v"}
    types = database.rows(
        "SELECT DISTINCT typtype::text FROM pg_type WHERE typnamespace = 'booking'::regnamespace AND typelem = 0"
    )
    assert {kind for (kind,) in types} == {"c", "r", "m"}


def test_the_text_does_not_depend_on_btree_gist() -> None:
    """The migrations write the exclusion constraint in two ways, of which the file has one."""
    assert without_btree_gist("EXCLUDE USING gist (business_id WITH =, resource_id WITH =, occupied WITH &&)") == (
        "EXCLUDE USING gist (booking.text_range(business_id, business_id, '[]'::text) WITH &&,"
        " booking.text_range(resource_id, resource_id, '[]'::text) WITH &&, occupied WITH &&)"
    )


def test_a_migration_never_reads_the_file(empty: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is for reading; the service applies migrations and definitions only."""
    read: list[Path] = []

    def recorded(path: Path) -> bytes:
        read.append(path)
        with path.open("rb") as file:
            return file.read()

    monkeypatch.setattr(Path, "read_bytes", recorded)
    migrate(empty.admin_url)
    assert SCHEMA_FILE.with_name("grants.sql") in read
    assert SCHEMA_FILE not in read
    with psycopg.connect(empty.admin_url) as connection:
        assert describe_schema(connection) == SCHEMA_FILE.read_text()
