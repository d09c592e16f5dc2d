"""Effects of one call on another that runs between its steps, and two boundary cases."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from service.database import migrations
from service.database.migrations import migrate
from tests.database import NO_DEADLINE, TestDatabase


def test_a_put_of_a_business_that_is_deleted_meanwhile_stores_no_slug(database: TestDatabase) -> None:
    """The put fails and has to be repeated: a slug without a business could never be used again."""
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
    """During a rolling update, an older process that restarts must not restore its own functions."""
    assert migrate(database.admin_url) == []
    other_definitions = migrations._definitions() + b"-- of another version\n"
    monkeypatch.setattr(migrations, "_definitions", lambda: other_definitions)
    monkeypatch.setattr(migrations, "_VERSION", [0, 0, 9])
    assert migrate(database.admin_url) == []
    monkeypatch.setattr(migrations, "_VERSION", [99, 0, 0])
    assert migrate(database.admin_url) == ["definitions"]


def test_the_shortest_hold_is_live_when_it_is_answered(database: TestDatabase) -> None:
    """A time to live close to zero is raised to a millisecond."""
    database.make_service()
    database.freeze_clock()
    outcome = database.reserve(10, ttl_minutes=1e-9)
    assert (outcome.body["status"], outcome.body["expires_in_seconds"]) == ("held", 0.001)
