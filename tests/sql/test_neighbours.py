"""What one call has to expect of another that comes between its steps."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from service.database import migrations
from service.database.migrations import migrate
from tests.database import NO_DEADLINE, TestDatabase


def test_a_business_that_is_deleted_while_it_is_put_keeps_no_slug(database: TestDatabase) -> None:
    """The put has to be tried again: a slug without a business could never be used by anybody."""
    database.make_business("gone")
    settings = json.dumps({"name": "Gone", "slug": "gone", "timezone": "UTC", "country": "DE"})

    def put() -> str | None:
        with database.connect() as connection, pytest.raises(psycopg.errors.SerializationFailure) as raised:
            connection.execute("SELECT booking.put_business('gone', %s, %s)", [settings, NO_DEADLINE])
        return raised.value.sqlstate

    with database.locked("gone") as connection, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(put)
        database.wait_until_blocked()
        connection.execute("DELETE FROM booking.businesses WHERE business_id = 'gone'")
        connection.commit()
        assert waiting.result() == "40001"
    assert database.rows("SELECT slug FROM booking.slugs") == []


def test_an_older_version_leaves_newer_functions_alone(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a new version is rolled out, an old process that restarts must not put its own functions back."""
    assert migrate(database.admin_url) == []
    others = migrations._definitions() + b"-- of another version\n"
    monkeypatch.setattr(migrations, "_definitions", lambda: others)
    monkeypatch.setattr(migrations, "_VERSION", [0, 0, 9])
    assert migrate(database.admin_url) == []
    monkeypatch.setattr(migrations, "_VERSION", [99, 0, 0])
    assert migrate(database.admin_url) == ["definitions"]


def test_the_shortest_hold_is_alive_when_it_is_answered(database: TestDatabase) -> None:
    """A time to live of next to nothing is a millisecond, not an expired hold."""
    database.make_service()
    database.freeze_clock()
    outcome = database.reserve(10, ttl_minutes=1e-9)
    assert (outcome.body["status"], outcome.body["expires_in_seconds"]) == ("held", 0.001)
