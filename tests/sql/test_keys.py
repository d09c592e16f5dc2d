"""The keys of a business: made, revoked, and never told again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.rivals import SECONDS, Rivals

HASH = sha256(b"a key").digest()


def create(database: TestDatabase, key_id: str = "k1", **arguments: Any) -> str:
    """Makes a key of the salon on the superuser's connection and returns the outcome."""
    return create_on(database.admin, key_id, **arguments)


def create_on(
    connection: psycopg.Connection,
    key_id: str,
    *,
    business_id: str = "salon",
    role: str = "staff",
    digest: bytes = HASH,
    deadline: datetime = NO_DEADLINE,
) -> str:
    """Makes a key on a connection of the caller's."""
    query = "SELECT outcome FROM booking.create_key(%s, %s, 'Desk', %s, %s, %s)"
    [(outcome,)] = connection.execute(query, [business_id, key_id, role, digest, deadline]).fetchall()
    return str(outcome)


def revoke(database: TestDatabase, key_id: str = "k1", **arguments: Any) -> str:
    """Revokes a key of the salon on the superuser's connection and returns the outcome."""
    return revoke_on(database.admin, key_id, **arguments)


def revoke_on(
    connection: psycopg.Connection, key_id: str, *, business_id: str = "salon", deadline: datetime = NO_DEADLINE
) -> str:
    """Revokes a key on a connection of the caller's."""
    query = "SELECT outcome FROM booking.revoke_key(%s, %s, %s)"
    [(outcome,)] = connection.execute(query, [business_id, key_id, deadline]).fetchall()
    return str(outcome)


def live(database: TestDatabase, key_id: str = "k1", business_id: str = "salon") -> list[tuple[str, bytes]]:
    """What the service verifies a key by."""
    return database.rows("SELECT role, sha256 FROM booking.live_key(%s, %s)", business_id, key_id)


def test_a_key_is_found_until_it_is_revoked(database: TestDatabase) -> None:
    """By its business and its id, with its role and its hash."""
    database.make_business()
    assert create(database) == "done"
    assert live(database) == [("staff", HASH)]
    assert live(database, "k2") == []
    assert revoke(database) == "done"
    assert live(database) == []


def test_the_same_id_in_another_business_is_another_key(database: TestDatabase) -> None:
    """A key opens the doors of its own business only, and is revoked there only."""
    database.make_business()
    database.make_business("clinic")
    create(database)
    assert live(database, business_id="clinic") == []
    assert revoke(database, business_id="clinic") == "key_not_found"
    create(database, business_id="clinic", role="owner")
    revoke(database)
    assert live(database, business_id="clinic") == [("owner", HASH)]


def test_revoking_again_changes_nothing(database: TestDatabase) -> None:
    """Since when a key was worthless is what one asks after a theft."""
    database.make_business()
    create(database)
    first = database.freeze_clock()
    revoke(database)
    database.move_clock(timedelta(hours=1))
    assert revoke(database) == "done"
    assert database.value("SELECT revoked_at FROM booking.api_keys") == first


def test_what_is_not_there_is_said(database: TestDatabase) -> None:
    """No business, or no such key of it."""
    assert create(database) == "business_not_found"
    assert revoke(database) == "business_not_found"
    assert database.value("SELECT booking.keys('salon')") is None
    database.make_business()
    assert revoke(database) == "key_not_found"
    assert database.value("SELECT booking.keys('salon')") == []


def test_keys_are_listed_by_age_and_without_their_hashes(database: TestDatabase) -> None:
    """The revoked ones too, so that one sees what there was; and of the own business only."""
    database.make_business("clinic")
    create(database, "k0", business_id="clinic")
    database.make_business()
    start = database.freeze_clock(datetime(2027, 1, 4, 9, tzinfo=UTC))
    create(database, "k2", role="owner")
    database.move_clock(timedelta(minutes=1))
    create(database, "k1")
    revoke(database, "k2")
    with database.connect() as connection:
        [(keys,)] = connection.execute("SELECT booking.keys('salon')").fetchall()
    times = [(start + timedelta(minutes=minutes)).isoformat() for minutes in (0, 1)]
    for key in keys:
        for name in ("created_at", "revoked_at"):
            key[name] = key[name] and datetime.fromisoformat(key[name]).astimezone(UTC).isoformat()
    assert keys == [
        {"key_id": "k2", "name": "Desk", "role": "owner", "created_at": times[0], "revoked_at": times[1]},
        {"key_id": "k1", "name": "Desk", "role": "staff", "created_at": times[1], "revoked_at": None},
    ]


def test_no_view_is_made_of_keys(database: TestDatabase) -> None:
    """The one way to a hash is the function that verifies, one key at a time; and the table is closed."""
    views = database.rows(
        "SELECT DISTINCT r.ev_class::regclass FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = 'booking.api_keys'::regclass"
    )
    assert views == []
    with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT sha256 FROM booking.api_keys")


@pytest.mark.parametrize("settings", [{"role": "admin"}, {"digest": b"short"}])
def test_a_key_that_is_none_is_refused(database: TestDatabase, settings: dict[str, Any]) -> None:
    """Nobody is the administrator by a key, and what is stored is a hash and never a key."""
    database.make_business()
    with pytest.raises(psycopg.errors.CheckViolation):
        create(database, **settings)


def test_keys_wait_for_the_lock_of_their_business(database: TestDatabase, rivals: Rivals) -> None:
    """As everything does that changes a business: so one may be deleted meanwhile, and no key is left behind."""
    database.make_business()
    create(database)
    with database.locked() as connection:
        made = rivals.start(lambda rival: create_on(rival, "k2"))
        revoked = rivals.start(lambda rival: revoke_on(rival, "k1"))
        database.wait_until_blocked(2)
        assert live(database) == [("staff", HASH)]
        connection.commit()
        assert (made.result(SECONDS), revoked.result(SECONDS)) == ("done", "done")
    assert (live(database), live(database, "k2")) == ([], [("staff", HASH)])


@pytest.mark.parametrize("verb", [create, revoke])
def test_nothing_happens_after_the_deadline(database: TestDatabase, verb: Callable[..., str]) -> None:
    """The caller was told that it failed, and would not know of the key that was made all the same."""
    database.make_business()
    create(database, "k0")
    with pytest.raises(psycopg.Error) as raised:
        verb(database, "k0" if verb is revoke else "k1", deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert raised.value.sqlstate == "HF001"
    assert (live(database, "k0"), live(database)) == ([("staff", HASH)], [])


def test_a_deleted_business_takes_its_keys_along(database: TestDatabase) -> None:
    """Whoever makes a business of the same name later shall not find strangers in it."""
    database.make_business()
    create(database)
    assert database.value("SELECT outcome FROM booking.delete_business('salon', %s)", NO_DEADLINE) == "done"
    assert live(database) == []
    database.make_business()
    assert database.value("SELECT booking.keys('salon')") == []
