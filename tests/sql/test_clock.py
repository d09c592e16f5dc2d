"""The clock, the deadline and the isolation level: what a verb looks at once it has its lock."""

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
from tests.sql.asking import names
from tests.sql.rivals import SECONDS, Rivals

TTL = timedelta(minutes=15)


def batch_of(verb: str, request: dict[str, Any]) -> list[Any]:
    """The parameters of booking.execute for one request of the salon."""
    return [["salon"], [Jsonb({verb: [request]})]]


# Every function that decides, and what it is called with; what stands after its name tells calls of it apart.
VERBS: dict[str, list[Any]] = {
    "execute reserve": batch_of("reserve", reserve_request(12)),
    "execute commit": batch_of("commit", commit_request(str(uuid4()))),
    "execute extend": batch_of("extend", extend_request(str(uuid4()))),
    "execute release": batch_of("release", release_request(str(uuid4()))),
    "execute book": batch_of("book", book_request(12)),
    "execute change": batch_of("change", change_request(str(uuid4()))),
    "purge": [["salon"], "1 day", 10],
    "put_business": ["salon", json.dumps({"name": "x", "timezone": "UTC", "country": "DE"})],
    "delete_business": ["salon"],
    "put_service": ["salon", "cut", "{}"],
    "delete_service": ["salon", "cut"],
    "put_resource": ["salon", "anna", "{}"],
    "delete_resource": ["salon", "bert"],
    "put_opening_hours": ["salon", "[]"],
    "put_closure": ["salon", "away", at(10), at(12), None, None],
    "delete_closure": ["salon", "holiday"],
    "create_key": ["salon", "key", "till", "staff", bytes(32)],
    "revoke_key": ["salon", "key"],
    "rotate_calendar": ["salon"],
}


def call(connection: psycopg.Connection, verb: str, deadline: datetime = NO_DEADLINE) -> list[tuple[Any, ...]]:
    """Calls one of VERBS."""
    parameters = [*VERBS[verb], deadline]
    query = f"SELECT * FROM booking.{verb.partition(' ')[0]}({', '.join(['%s'] * len(parameters))})"  # noqa: S608 — a verb's name
    return connection.execute(query.encode(), parameters).fetchall()


def everything(database: TestDatabase) -> list[list[tuple[Any, ...]]]:
    """All that is stored."""
    tables = (
        *("businesses", "slugs", "services", "resources", "opening_hours", "closures", "api_keys"),
        *("reservations", "appointments", "audit_logs", "occupancy"),
    )
    return [database.rows(f"SELECT * FROM booking.{table} ORDER BY 1, 2") for table in tables]  # noqa: S608


def sqlstate(attempt: Callable[[], object]) -> str | None:
    """The SQLSTATE with which an attempt fails."""
    with pytest.raises(psycopg.Error) as raised:
        attempt()
    return raised.value.sqlstate


@pytest.mark.parametrize("if_expired", [None, "rebook"])
def test_a_commit_that_waits_for_the_lock_across_the_expiry_is_too_late(
    database: TestDatabase, rivals: Rivals, if_expired: str | None
) -> None:
    """The clock is read after the lock: by the time at which it began to wait, the hold would still be live."""
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


def test_a_reserve_that_waits_for_the_lock_sees_what_expired_meanwhile(database: TestDatabase, rivals: Rivals) -> None:
    """Refusing it would be a false refusal: when it is decided, the room is free."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    database.reserve(10)
    with database.locked() as lock:
        answer = rivals.start(lambda connection: database.reserve(10, connection=connection))
        database.wait_until_blocked()
        database.freeze_clock(now + TTL)
        lock.commit()
        assert answer.result(SECONDS).name == "done"


def test_a_reserve_that_waits_for_the_lock_sees_what_was_claimed_meanwhile(
    database: TestDatabase, rivals: Rivals
) -> None:
    """The lock is a statement of its own: one that waited and then counted would count what was there before."""
    database.make_service(capacity=1)
    with database.connect(autocommit=False) as connection:
        database.reserve(10, connection=connection)
        answers = [rivals.start(lambda rival: database.reserve(10, connection=rival)) for _ in range(3)]
        database.wait_until_blocked(3)
        connection.commit()
    assert [answer.result(SECONDS).name for answer in answers] == ["slot_unavailable"] * 3


@pytest.mark.parametrize("verb", ["extend", "release"])
def test_a_commit_and_its_rival_that_wait_for_each_other_see_each_other(
    database: TestDatabase, rivals: Rivals, verb: str
) -> None:
    """Exactly one of commit and release wins; extend and commit may both, one after the other."""
    database.make_service()
    hold = database.reserve(10).id
    with database.connect(autocommit=False) as connection:
        assert database.commit(hold, connection=connection).name == "done"
        rival: Callable[..., Outcome] = getattr(database, verb)
        answer = rivals.start(lambda other: rival(hold, connection=other))
        database.wait_until_blocked()
        connection.commit()
    assert answer.result(SECONDS).name == "reservation_committed"


def test_a_step_back_of_the_clock_revives_nothing_that_was_given_away(database: TestDatabase) -> None:
    """Failover or NTP: the room of the expired hold is another one's now."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    dead = database.reserve(10).id
    database.freeze_clock(now + TTL)
    alive = database.reserve(10).id
    database.freeze_clock(now)
    assert names([database.commit(dead), database.extend(dead)]) == ["reservation_expired"] * 2
    assert database.commit(dead, if_expired="rebook").name == "slot_unavailable"
    assert database.capacity(10)["available"] == 0
    assert database.commit(alive).name == "done"


@pytest.mark.parametrize("acting", ["purge", "batch", "rebook"])
def test_whoever_acts_on_an_expiry_makes_it_final(database: TestDatabase, acting: str) -> None:
    """Whether it was the purge, a batch of reserves or another one's rebook."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    other = database.reserve(10, ttl_minutes=1).id
    database.freeze_clock(now + timedelta(minutes=1))
    dead = database.reserve(10).id
    database.freeze_clock(now + timedelta(minutes=1) + TTL)
    if acting == "purge":
        assert database.purge()[0] == 1
    elif acting == "batch":
        assert names(database.call("reserve", [reserve_request(10), reserve_request(10)]))[0] == "done"
    else:
        assert database.commit(other, if_expired="rebook").name == "done"
    database.freeze_clock(now + timedelta(minutes=2))
    assert database.status(dead) == "expired"
    assert database.commit(dead).name == "reservation_expired"


def test_a_step_back_before_anybody_acted_on_an_expiry_harms_nobody(database: TestDatabase) -> None:
    """A hold that was only looked at while it was expired lives on, and its room was never given away."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    hold = database.reserve(10).id
    database.freeze_clock(now + TTL)
    assert database.value("SELECT booking.reservation('salon', %s) ->> 'status'", hold) == "expired"
    assert database.capacity(10)["available"] == 1
    database.freeze_clock(now)
    assert database.reserve(10).name == "slot_unavailable"
    assert database.commit(hold).name == "done"


def test_the_clock_of_a_transaction_goes_on(database: TestDatabase) -> None:
    """now() is the start of the transaction and goes stale; the clock that decides does not."""
    database.make_service(capacity=1)
    with database.connect(autocommit=False) as connection:
        hold = database.reserve(10, connection=connection).id
        database.move_clock(TTL)
        assert database.commit(hold, connection=connection).name == "reservation_expired"
        connection.commit()


def test_past_its_deadline_a_call_writes_nothing(database: TestDatabase, rivals: Rivals) -> None:
    """It had waited for the lock while its caller was told that it had failed."""
    database.make_service()
    database.make_resource("bert")
    database.put_hours([(1, "09:00", "13:00")])
    database.put_closure("holiday", at(0), at(24))
    database.reserve(10, ttl_minutes=0.001)
    database.move_clock(timedelta(days=2))
    before = everything(database)
    deadline = datetime.now(UTC)
    for verb in VERBS.keys() - {"purge"}:
        with database.locked() as lock:
            answer = rivals.start(lambda connection, verb=verb: call(connection, verb, deadline))  # type: ignore[misc]
            database.wait_until_blocked()
            lock.commit()
            assert sqlstate(lambda answer=answer: answer.result(SECONDS)) == "HF001", verb  # type: ignore[misc]
    # The one verb that never waits for the lock.
    assert sqlstate(lambda: call(database.admin, "purge", deadline)) == "HF001"
    assert everything(database) == before


def test_the_deadline_is_by_the_servers_clock_and_not_by_the_one_that_decides(database: TestDatabase) -> None:
    """How long a caller has waited has nothing to do with what time it is in the business."""
    database.make_service(capacity=2)
    deadline = datetime.now(UTC) + timedelta(minutes=5)
    database.freeze_clock(at(0))
    assert database.reserve(10, deadline=deadline).name == "done"
    database.freeze_clock(datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(psycopg.Error) as raised:
        database.reserve(10, deadline=datetime.now(UTC) - timedelta(minutes=5))
    assert raised.value.sqlstate == "HF001"


def test_where_no_lock_timeout_is_set_a_call_with_a_near_deadline_does_not_wait_for_ever(
    database: TestDatabase,
) -> None:
    """Behind a pooler the settings of a session are not there; the statement's own timeout would be a later end."""
    database.make_service()
    with database.locked(), database.connect() as connection:
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET statement_timeout = '8s'")
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        assert sqlstate(lambda: database.reserve(10, deadline=deadline, connection=connection)) == "55P03"


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_no_verb_runs_under_another_isolation_level(database: TestDatabase, level: psycopg.IsolationLevel) -> None:
    """The very same lock oversells under a snapshot that was taken before it; so the verbs look."""
    database.make_service()
    before = everything(database)
    with database.connect(autocommit=False) as connection:
        connection.isolation_level = level
        for verb in VERBS:
            assert sqlstate(lambda verb=verb: call(connection, verb)) == "HF002", verb  # type: ignore[misc]
            connection.rollback()
    assert everything(database) == before


def test_the_isolation_level_may_come_from_the_role_too(database: TestDatabase) -> None:
    """Somebody set a default for the whole database: the answer says where to look."""
    database.make_service()
    with database.connect() as connection:
        connection.execute("SET default_transaction_isolation = 'repeatable read'")
        with pytest.raises(psycopg.Error) as raised:
            database.reserve(10, connection=connection)
    assert raised.value.sqlstate == "HF002"
    assert "default_transaction_isolation" in (raised.value.diag.message_hint or "")
