"""The database that tests use one after another is put back, or is not used again."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest

from tests.clusters import RunningCluster
from tests.database import TestDatabase, at
from tests.reused_database import ReusedDatabase

LARGE = """
  INSERT INTO booking.maintenance_runs (business_id, run_id, started_at, finished_at, expired, deleted, remaining)
  SELECT '*', gen_random_uuid(), now(), now(), 0, 0, 0 FROM generate_series(1, 2000)
"""
CHANGES = {
    "column": "ALTER TABLE booking.services ADD COLUMN colour text",
    "option of a column": "ALTER TABLE booking.services ALTER COLUMN name SET STATISTICS 10",
    "constraint": "ALTER TABLE booking.occupancy DROP CONSTRAINT occupancy_claimed_check",
    "name of a constraint": "ALTER TABLE booking.occupancy RENAME CONSTRAINT occupancy_claimed_check TO renamed",
    "index": "CREATE INDEX ON booking.services (name)",
    "option of an index": "ALTER TABLE booking.services REPLICA IDENTITY USING INDEX services_pkey",
    "function": "ALTER FUNCTION booking.claim SET work_mem = '1MB'",
    "replaced function": "CREATE OR REPLACE FUNCTION booking.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    "lost function": "DROP FUNCTION booking.due_businesses(interval)",
    "view": "CREATE OR REPLACE VIEW booking.audit_gaps AS SELECT * FROM booking.audit_gaps WHERE false",
    "trigger": "ALTER TABLE booking.appointments DISABLE TRIGGER ALL",
    "sequence": "CREATE SEQUENCE testing.calls",
    "schema": "CREATE SCHEMA other",
    "right": "GRANT SELECT ON booking.services TO PUBLIC",
    "right to a schema": "GRANT CREATE ON SCHEMA booking TO PUBLIC",
    "right to a type": "REVOKE USAGE ON TYPE booking.outcome FROM PUBLIC",
    "rights by default": "ALTER DEFAULT PRIVILEGES IN SCHEMA booking GRANT SELECT ON TABLES TO PUBLIC",
    "option of a table": "ALTER TABLE booking.services SET (fillfactor = 50)",
    "statistics": "ANALYZE booking.services",
    "extended statistics": "CREATE STATISTICS ON business_id, name FROM booking.services",
    "size": LARGE,
    "setting of the database": "ALTER DATABASE {} SET lock_timeout = '1s'",
    "setting of a role": "ALTER ROLE holdfast_test IN DATABASE {} SET lock_timeout = '1s'",
    "limit of the database": "ALTER DATABASE {} CONNECTION LIMIT 5",
    "row of the template": "UPDATE booking.schema_migrations SET sha256 = ''",
    "lost row of the template": "DELETE FROM testing.clock",
}


@pytest.fixture
def reused(running_cluster: RunningCluster) -> Iterator[ReusedDatabase]:
    """Makes a database to reuse."""
    with running_cluster.copy_of_template() as url, closing(ReusedDatabase(url)) as reused:
        yield reused


def test_rows_the_clock_and_the_session_are_put_back(reused: ReusedDatabase) -> None:
    """The next test has the same session, with no trace of the one before."""
    first = reused.lend()
    first.make_service(resource_ids=["anna", "bert"])
    first.commit(first.reserve(10).id)
    first.freeze_clock(at(0))
    first.move_clock(timedelta(hours=1))
    for statement in ("SET ROLE holdfast_owner", "SET search_path = booking", "SELECT pg_advisory_lock(1)", "LISTEN x"):
        first.rows(statement)
    session = "SELECT current_user, current_setting('search_path'), ARRAY(SELECT * FROM pg_listening_channels())"
    assert reused.restore()
    second = reused.lend()
    assert second.admin is first.admin
    with psycopg.connect(second.admin_url) as new:
        assert second.rows(session) == new.execute(session).fetchall()
    assert second.rows("SELECT pid FROM pg_locks WHERE locktype = 'advisory'") == []
    assert second.value("SELECT abs(extract(epoch FROM booking.now() - clock_timestamp())) < 60")
    for table in ("businesses", "services", "resources", "reservations", "appointments", "audit_logs", "occupancy"):
        assert second.value(f"SELECT count(*) FROM booking.{table}") == 0, table  # noqa: S608 — one of these


def plannings(database: TestDatabase) -> int:
    """Counts how many statements the server plans for one hold."""
    planned: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.message_primary == "PLANNER STATISTICS":
            planned.append(diagnostic.context or "")

    database.rows("SET log_planner_stats = on")
    database.rows("SET client_min_messages = log")
    database.admin.add_notice_handler(note)
    database.reserve(10)
    database.admin.remove_notice_handler(note)
    database.rows("RESET ALL")
    return len(planned)


def test_the_next_test_has_the_plans_of_the_session(reused: ReusedDatabase) -> None:
    """Making them anew would take longer than the test: neither a restore nor a deletion of claims discards them."""
    database = reused.lend()
    database.make_service(capacity=50)
    for _ in range(10):
        database.reserve(10)
    first = plannings(database)
    database.forget_claims()
    assert plannings(database) == first
    assert reused.restore()
    database = reused.lend()
    database.make_service(capacity=50)
    assert plannings(database) == first


def test_truncated_tables_do_not_count_as_changed(reused: ReusedDatabase) -> None:
    """A test may empty tables in the fastest way."""
    database = reused.lend()
    database.make_service()
    database.reserve()
    database.rows("TRUNCATE booking.audit_logs, booking.appointments, booking.reservations, booking.occupancy")
    assert reused.restore()


@pytest.mark.parametrize("change", CHANGES)
def test_a_database_that_a_test_changed_is_not_used_again(reused: ReusedDatabase, change: str) -> None:
    """Each of these would be found by the next test."""
    database = reused.lend()
    database.rows(CHANGES[change].format(database.admin.info.dbname))
    assert not reused.restore()


def test_a_database_with_another_session_is_not_used_again(reused: ReusedDatabase) -> None:
    """The session could act within the next test."""
    with reused.lend().connect():
        assert not reused.restore()
    assert reused.restore()


def test_a_session_that_ended_is_not_used_again(reused: ReusedDatabase) -> None:
    """So is one whose transaction was left open."""
    database = reused.lend()
    database.rows("BEGIN")
    assert not reused.restore()
    database.close()
    assert not reused.restore()


def test_the_database_is_replaced_when_a_test_changed_it(running_cluster: RunningCluster) -> None:
    """The changed one is dropped."""
    with running_cluster.reused_database() as database:
        first = database.admin.info.dbname
    with running_cluster.reused_database() as database:
        assert database.admin.info.dbname == first
        database.rows("CREATE SCHEMA other")
    with running_cluster.reused_database() as database:
        assert database.value("SELECT to_regnamespace('other')") is None
        assert database.value("SELECT count(*) FROM pg_database WHERE datname = %s", first) == 0
