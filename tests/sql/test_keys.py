"""API keys of a business: created, revoked, looked up and listed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase
from tests.sql.requests import raises_sqlstate
from tests.sql.rivals import SECONDS, Rivals

HASH = sha256(b"a key").digest()


def create(database: TestDatabase, key_id: str = "k1", **arguments: Any) -> str:
    """Creates a key of the salon on the superuser's connection, and returns the outcome."""
    return create_on(database.admin, key_id, **arguments)


def create_on(
    connection: psycopg.Connection,
    key_id: str,
    *,
    business_id: str = "salon",
    role: str = "staff",
    digest: bytes = HASH,
    created_by: str | None = None,
    deadline: datetime = NO_DEADLINE,
) -> str:
    """Creates a key on a given connection."""
    query = "SELECT outcome FROM booking.create_key(%s, %s, 'Desk', %s, %s, %s, %s)"
    [(outcome,)] = connection.execute(query, [business_id, key_id, role, digest, created_by, deadline]).fetchall()
    return str(outcome)


def revoke(database: TestDatabase, key_id: str = "k1", **arguments: Any) -> str:
    """Revokes a key of the salon on the superuser's connection, and returns the outcome."""
    return revoke_on(database.admin, key_id, **arguments)


def revoke_on(
    connection: psycopg.Connection, key_id: str, *, business_id: str = "salon", deadline: datetime = NO_DEADLINE
) -> str:
    """Revokes a key on a given connection."""
    query = "SELECT outcome FROM booking.revoke_key(%s, %s, %s)"
    [(outcome,)] = connection.execute(query, [business_id, key_id, deadline]).fetchall()
    return str(outcome)


def use(database: TestDatabase, *key_ids: str) -> None:
    """Notes that keys of the salon were used, with the rights of the service."""
    with database.connect() as connection:
        connection.execute("SELECT booking.note_key_uses(%s, %s)", [["salon"] * len(key_ids), list(key_ids)])


def live_key(database: TestDatabase, key_id: str = "k1", business_id: str = "salon") -> list[tuple[str, bytes]]:
    """Returns role and hash of a live key."""
    return database.rows("SELECT role, sha256 FROM booking.live_key(%s, %s)", business_id, key_id)


def test_a_key_is_found_until_it_is_revoked(database: TestDatabase) -> None:
    """The look-up is by business and id, and returns role and hash."""
    database.make_business()
    assert create(database) == "done"
    assert live_key(database) == [("staff", HASH)]
    assert live_key(database, "k2") == []
    assert revoke(database) == "done"
    assert live_key(database) == []


def test_the_same_id_in_another_business_is_another_key(database: TestDatabase) -> None:
    """A key is valid, and can be revoked, in its own business only."""
    database.make_business()
    database.make_business("clinic")
    create(database)
    assert live_key(database, business_id="clinic") == []
    assert revoke(database, business_id="clinic") == "key_not_found"
    create(database, business_id="clinic", role="owner")
    revoke(database)
    assert live_key(database, business_id="clinic") == [("owner", HASH)]


def test_revoking_again_changes_nothing(database: TestDatabase) -> None:
    """The time of the first revocation is kept, because it matters after a theft."""
    database.make_business()
    create(database)
    first = database.freeze_clock()
    revoke(database)
    database.move_clock(timedelta(hours=1))
    assert revoke(database) == "done"
    assert database.value("SELECT revoked_at FROM booking.api_keys") == first


def test_an_unknown_business_or_key_is_not_found(database: TestDatabase) -> None:
    """The outcome distinguishes an unknown business from an unknown key."""
    assert create(database) == "business_not_found"
    assert revoke(database) == "business_not_found"
    database.make_business()
    assert revoke(database) == "key_not_found"


def test_keys_are_listed_by_age_and_without_their_hashes(database: TestDatabase) -> None:
    """Revoked keys are listed too, and keys of other businesses are not."""
    database.make_business("clinic")
    create(database, "k0", business_id="clinic")
    database.make_business()
    start = database.freeze_clock(datetime(2027, 1, 4, 9, tzinfo=UTC))
    create(database, "k2", role="owner")
    database.move_clock(timedelta(minutes=1))
    create(database, "k1", created_by="k2")
    use(database, "k2")
    revoke(database, "k2")
    keys = [key for (key,) in database.rows("SELECT booking.keys('salon')")]
    times = [(start + timedelta(minutes=minutes)).isoformat() for minutes in (0, 1)]
    for key in keys:
        for name in ("created_at", "last_used_at", "revoked_at"):
            key[name] = key[name] and datetime.fromisoformat(key[name]).astimezone(UTC).isoformat()
    first = {"role": "owner", "created_at": times[0], "created_by": None, "last_used_at": times[1]}
    second = {"role": "staff", "created_at": times[1], "created_by": "k2", "last_used_at": None}
    assert keys == [
        {"key_id": "k2", "name": "Desk", **first, "revoked_at": times[1]},
        {"key_id": "k1", "name": "Desk", **second, "revoked_at": None},
    ]


def test_a_use_is_written_once_in_five_minutes(database: TestDatabase) -> None:
    """So that a key that is used all the time costs few writes; unknown keys and those of others are left alone."""
    database.make_business()
    database.make_business("clinic")
    create(database)
    create(database, business_id="clinic")
    start = database.freeze_clock()
    for minutes, noted in ((0, 0), (4, 0), (5, 5), (9, 5), (12, 12)):
        database.freeze_clock(start + timedelta(minutes=minutes))
        use(database, "k1", "unknown")
        used = database.value("SELECT last_used_at FROM booking.api_keys WHERE business_id = 'salon'")
        assert used == start + timedelta(minutes=noted)
    assert database.value("SELECT last_used_at FROM booking.api_keys WHERE business_id = 'clinic'") is None


def test_a_use_waits_for_no_lock(database: TestDatabase) -> None:
    """A key that is being changed is noted by its next use."""
    database.make_business()
    create(database, "k1")
    create(database, "k2")
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("SELECT FROM booking.api_keys WHERE key_id = 'k1' FOR UPDATE")
        use(database, "k1", "k2")
        used = database.rows("SELECT key_id, last_used_at IS NOT NULL FROM booking.api_keys ORDER BY key_id")
        assert used == [("k1", False), ("k2", True)]


def test_the_keys_of_a_business_are_bounded(database: TestDatabase) -> None:
    """A key beyond the limit is refused; of revoked ones the latest thousand are kept."""
    database.make_business()
    database.rows(
        "INSERT INTO booking.api_keys (business_id, key_id, name, role, sha256, created_at, revoked_at) "
        "SELECT 'salon', 'r' || n, 'Desk', 'staff', %s, now(), now() - n * interval '1 second' "
        "FROM generate_series(1, 1002) AS n",
        HASH,
    )
    for number in range(200):
        assert create(database, f"k{number}") == "done"
    assert create(database, "k200") == "limit_reached"
    revoked = {name for (name,) in database.rows("SELECT key_id FROM booking.api_keys WHERE revoked_at IS NOT NULL")}
    assert revoked == {f"r{number}" for number in range(1, 1001)}
    revoke(database, "k0")
    assert create(database, "k200") == "done"


def test_no_view_is_made_of_keys(database: TestDatabase) -> None:
    """The service's login can read a hash only through the function that looks up a key, not in the table."""
    views = database.rows(
        "SELECT DISTINCT r.ev_class::regclass FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = 'booking.api_keys'::regclass"
    )
    assert views == []
    with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT sha256 FROM booking.api_keys")


@pytest.mark.parametrize("settings", [{"role": "admin"}, {"digest": b"short"}])
def test_an_invalid_role_or_hash_is_refused(database: TestDatabase, settings: dict[str, Any]) -> None:
    """No key has the role of an administrator, and only a SHA-256 hash can be stored."""
    database.make_business()
    with pytest.raises(psycopg.errors.CheckViolation):
        create(database, **settings)


def test_creating_and_revoking_a_key_waits_for_the_lock_of_the_business(database: TestDatabase, rivals: Rivals) -> None:
    """Otherwise a key could be created for a business that is deleted meanwhile."""
    database.make_business()
    create(database)
    with database.locked() as connection:
        created = rivals.start(lambda rival: create_on(rival, "k2"))
        revoked = rivals.start(lambda rival: revoke_on(rival, "k1"))
        database.wait_until_blocked(2)
        assert live_key(database) == [("staff", HASH)]
        connection.commit()
        assert (created.result(SECONDS), revoked.result(SECONDS)) == ("done", "done")
    assert (live_key(database), live_key(database, "k2")) == ([], [("staff", HASH)])


@pytest.mark.parametrize("verb", [create, revoke])
def test_a_call_past_its_deadline_changes_no_key(database: TestDatabase, verb: Callable[..., str]) -> None:
    """The caller has received an error, and would not know of a key that was created."""
    database.make_business()
    create(database, "k0")
    with raises_sqlstate("HF001"):
        verb(database, "k0" if verb is revoke else "k1", deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert (live_key(database, "k0"), live_key(database)) == ([("staff", HASH)], [])


def test_deleting_a_business_deletes_its_keys(database: TestDatabase) -> None:
    """A later business of the same id must not have the keys of the deleted one."""
    database.make_business()
    create(database)
    assert database.value("SELECT outcome FROM booking.delete_business('salon', %s)", NO_DEADLINE) == "done"
    assert live_key(database) == []
    database.make_business()
    assert database.rows("SELECT booking.keys('salon')") == []
