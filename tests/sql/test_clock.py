"""The clock, the deadline and the isolation level, which a verb reads after it gets its lock."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import (
    NO_DEADLINE,
    Outcome,
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
    extend_request,
    release_request,
    reserve_request,
)
from tests.sql.catalog import put_special_hours
from tests.sql.requests import names, raises_sqlstate
from tests.sql.rivals import SECONDS, Rivals

TTL = timedelta(minutes=15)


def execute_parameters(verb: str, request: dict[str, Any]) -> list[Any]:
    """Returns the parameters of booking.execute for one request of the salon."""
    return [["salon"], [Jsonb({verb: [request]})]]


# All functions that decide, with their parameters; the word after a function's name distinguishes its calls.
VERBS: dict[str, list[Any]] = {
    "execute reserve": execute_parameters("reserve", reserve_request(12)),
    "execute commit": execute_parameters("commit", commit_request(str(uuid4()))),
    "execute extend": execute_parameters("extend", extend_request(str(uuid4()))),
    "execute release": execute_parameters("release", release_request(str(uuid4()))),
    "execute book": execute_parameters("book", book_request(12)),
    "execute change": execute_parameters("change", change_request(str(uuid4()))),
    "purge": [["salon"], "1 day", 10],
    "erase_guest": ["salon", "guest@example.com", None, Jsonb({"actor_kind": "owner"}), 10],
    "put_business": ["salon", json.dumps({"name": "x", "timezone": "UTC", "country": "DE"})],
    "delete_business": ["salon"],
    "put_service": ["salon", "cut", "{}"],
    "delete_service": ["salon", "cut"],
    "put_resource": ["salon", "anna", "{}"],
    "delete_resource": ["salon", "bert"],
    "put_opening_hours": ["salon", "[]"],
    "put_document": [
        "salon",
        json.dumps({"name": "x", "timezone": "UTC", "resources": {}, "services": {}, "opening_hours": []}),
        False,
    ],
    "put_closure": ["salon", "away", json.dumps({"date": "2030-12-24"})],
    "delete_closure": ["salon", "holiday"],
    "put_special_hours": ["salon", "eve", json.dumps({"date": "2030-12-24", "hours": []})],
    "delete_special_hours": ["salon", "party"],
    "create_key": ["salon", "key", "till", "staff", bytes(32), None],
    "revoke_key": ["salon", "key"],
    "rotate_calendar": ["salon"],
}


def call(connection: psycopg.Connection, verb: str, deadline: datetime = NO_DEADLINE) -> list[tuple[Any, ...]]:
    """Calls one of VERBS."""
    parameters = [*VERBS[verb], deadline]
    query = f"SELECT * FROM booking.{verb.partition(' ')[0]}({', '.join(['%s'] * len(parameters))})"  # noqa: S608 — a verb's name
    return connection.execute(query.encode(), parameters).fetchall()


def stored_rows(database: TestDatabase) -> list[list[tuple[Any, ...]]]:
    """Returns all stored rows."""
    tables = (
        *("businesses", "slugs", "services", "resources", "opening_hours", "closures", "special_hours", "api_keys"),
        *("reservations", "appointments", "audit_logs", "occupancy"),
    )
    return [database.rows(f"SELECT t::text FROM booking.{table} AS t ORDER BY 1") for table in tables]  # noqa: S608


def sqlstate(attempt: Callable[[], object]) -> str | None:
    """Returns the SQLSTATE with which a call fails."""
    with pytest.raises(psycopg.Error) as raised:
        attempt()
    return raised.value.sqlstate


@pytest.mark.parametrize("if_expired", [None, "rebook"])
def test_a_commit_that_waits_for_the_lock_across_the_expiry_is_refused(
    database: TestDatabase, rivals: Rivals, if_expired: str | None
) -> None:
    """The clock is read after the lock: at the beginning of the wait the hold is still live."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    with database.locked() as lock:
        answer = rivals.start(lambda connection: database.commit(hold, if_expired=if_expired, connection=connection))
        database.wait_until_blocked()
        database.freeze_clock(now + TTL)
        assert database.reserve(10, connection=lock).name == "done"
        lock.commit()
        outcome = answer.result(SECONDS)
    assert outcome.name == ("slot_unavailable" if if_expired else "reservation_expired")
    assert database.value("SELECT count(*) FROM booking.appointments") == 0


def test_a_reserve_that_waits_for_the_lock_sees_holds_expire(database: TestDatabase, rivals: Rivals) -> None:
    """At the time of the decision the room is free, and a refusal would be a false one."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    database.reserve(10)
    with database.locked() as lock:
        answer = rivals.start(lambda connection: database.reserve(10, connection=connection))
        database.wait_until_blocked()
        database.freeze_clock(now + TTL)
        lock.commit()
        assert answer.result(SECONDS).name == "done"


def test_a_reserve_that_waits_for_the_lock_sees_concurrent_claims(database: TestDatabase, rivals: Rivals) -> None:
    """The lock is a statement of its own: a statement that waits and then counts would use its old snapshot."""
    database.make_service(capacity=1)
    with database.connect(autocommit=False) as connection:
        database.reserve(10, connection=connection)
        answers = [rivals.start(lambda rival: database.reserve(10, connection=rival)) for _ in range(3)]
        database.wait_until_blocked(3)
        connection.commit()
    assert [answer.result(SECONDS).name for answer in answers] == ["slot_unavailable"] * 3


@pytest.mark.parametrize("verb", ["extend", "release"])
def test_an_extend_or_release_that_waits_for_a_commit_sees_it(
    database: TestDatabase, rivals: Rivals, verb: str
) -> None:
    """The verb that waited is refused, because the hold was committed meanwhile."""
    database.make_service()
    hold = database.reserve(10).id
    with database.connect(autocommit=False) as connection:
        assert database.commit(hold, connection=connection).name == "done"
        rival: Callable[..., Outcome] = getattr(database, verb)
        answer = rivals.start(lambda other: rival(hold, connection=other))
        database.wait_until_blocked()
        connection.commit()
    assert answer.result(SECONDS).name == "reservation_committed"


def test_a_step_back_of_the_clock_revives_no_ended_hold(database: TestDatabase) -> None:
    """After a failover or a correction by NTP, the room of the ended hold still belongs to the later one."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    expired = database.reserve(10).id
    database.freeze_clock(now + TTL)
    live = database.reserve(10).id
    database.freeze_clock(now)
    assert names([database.commit(expired), database.extend(expired)]) == ["reservation_expired"] * 2
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"
    assert database.capacity(10)["available"] == 0
    assert database.commit(live).name == "done"


@pytest.mark.parametrize("acting", ["purge", "batch", "rebook"])
def test_every_verb_that_acts_on_an_expiry_makes_it_final(database: TestDatabase, acting: str) -> None:
    """The purge, a batch of reserves and the rebook of another hold each end the expired hold."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    other = database.reserve(10, ttl_minutes=1).id
    database.freeze_clock(now + timedelta(minutes=1))
    expired = database.reserve(10).id
    database.freeze_clock(now + timedelta(minutes=1) + TTL)
    if acting == "purge":
        assert database.purge()[0] == 1
    elif acting == "batch":
        assert names(database.call("reserve", [reserve_request(10), reserve_request(10)]))[0] == "done"
    else:
        assert database.commit(other, if_expired="rebook").name == "done"
    database.freeze_clock(now + timedelta(minutes=2))
    assert database.status(expired) == "expired"
    assert database.commit(expired).name == "reservation_expired"


def test_a_step_back_before_a_verb_acted_on_an_expiry_revives_the_hold(database: TestDatabase) -> None:
    """Reading an expired hold does not end it, and its room was never given away."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL)
    assert database.value("SELECT booking.reservation('salon', %s) ->> 'status'", hold) == "expired"
    assert database.capacity(10)["available"] == 1
    database.freeze_clock(now)
    assert database.reserve(10).name == "slot_unavailable"
    assert database.commit(hold).name == "done"


def test_the_clock_goes_on_within_a_transaction(database: TestDatabase) -> None:
    """now() is the start of the transaction; booking.now() is the current time."""
    database.make_service(capacity=1)
    with database.connect(autocommit=False) as connection:
        hold = database.reserve(10, connection=connection).id
        database.move_clock(TTL)
        assert database.commit(hold, connection=connection).name == "reservation_expired"
        connection.commit()


def test_a_call_past_its_deadline_writes_nothing(database: TestDatabase, rivals: Rivals) -> None:
    """The caller of a call that waits past its deadline has already received an error."""
    database.make_service()
    database.make_resource("bert")
    database.put_hours([(1, "09:00", "13:00")])
    database.put_closure("holiday", at(0), at(24))
    put_special_hours(database, "party", "2030-12-31", [])
    database.reserve(10, ttl_minutes=0.001)
    database.move_clock(timedelta(days=2))
    before = stored_rows(database)
    deadline = datetime.now(UTC)
    for verb in VERBS.keys() - {"purge"}:
        with database.locked() as lock:
            answer = rivals.start(lambda connection, verb=verb: call(connection, verb, deadline))  # type: ignore[misc]
            database.wait_until_blocked()
            lock.commit()
            assert sqlstate(lambda answer=answer: answer.result(SECONDS)) == "HF001", verb  # type: ignore[misc]
    # The purge never waits for the lock.
    assert sqlstate(lambda: call(database.admin, "purge", deadline)) == "HF001"
    assert stored_rows(database) == before


def test_the_deadline_is_compared_with_the_servers_clock(database: TestDatabase) -> None:
    """The time that a caller has waited is independent of booking.now()."""
    database.make_service(capacity=2)
    deadline = datetime.now(UTC) + timedelta(minutes=5)
    database.freeze_clock(at(0))
    assert database.reserve(10, deadline=deadline).name == "done"
    database.freeze_clock(datetime(2020, 1, 1, tzinfo=UTC))
    with raises_sqlstate("HF001"):
        database.reserve(10, deadline=datetime.now(UTC) - timedelta(minutes=5))


def test_a_call_with_a_deadline_sets_its_own_lock_timeout(
    database: TestDatabase,
) -> None:
    """Behind a connection pooler, session settings may be missing, and the statement timeout is not meant for locks."""
    database.make_service()
    with database.locked(), database.connect() as connection:
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET statement_timeout = '8s'")
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        assert sqlstate(lambda: database.reserve(10, deadline=deadline, connection=connection)) == "55P03"


@pytest.mark.parametrize(("setting", "seconds"), [("0", 90), ("20s", 30)])
def test_other_calls_keep_the_lock_timeout_of_their_session(
    database: TestDatabase, rivals: Rivals, setting: str, seconds: int
) -> None:
    """Those whose deadline is far away, and those whose session has one; also if they wait for the lock."""
    database.make_service()
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)

    def setting_after_call(connection: psycopg.Connection) -> str:
        connection.execute(f"SET lock_timeout = '{setting}'")
        with connection.transaction():
            assert database.reserve(10, deadline=deadline, connection=connection).name == "done"
            [(after,)] = connection.execute("SHOW lock_timeout").fetchall()
        return str(after)

    with database.locked() as lock:
        answer = rivals.start(setting_after_call)
        database.wait_until_blocked()
        lock.commit()
    assert answer.result(SECONDS) == setting


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_no_verb_runs_under_another_isolation_level(database: TestDatabase, level: psycopg.IsolationLevel) -> None:
    """Under a snapshot that is older than the lock, the same lock oversells."""
    database.make_service()
    before = stored_rows(database)
    with database.connect(autocommit=False) as connection:
        connection.isolation_level = level
        for verb in VERBS:
            assert sqlstate(lambda verb=verb: call(connection, verb)) == "HF002", verb  # type: ignore[misc]
            connection.rollback()
    assert stored_rows(database) == before


def test_the_error_names_the_setting_of_the_isolation_level(database: TestDatabase) -> None:
    """The level may come from a default of the role or the database; the hint names that setting."""
    database.make_service()
    with database.connect() as connection:
        connection.execute("SET default_transaction_isolation = 'repeatable read'")
        with pytest.raises(psycopg.Error) as raised:
            database.reserve(10, connection=connection)
    assert raised.value.sqlstate == "HF002"
    assert "default_transaction_isolation" in (raised.value.diag.message_hint or "")
