"""Counted occupancy: every verb keeps the counts, and a wrong count is refused, reported and mended."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import (
    Outcome,
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
    release_request,
    reserve_request,
)
from tests.sql.requests import MAKE_REQUEST, names
from tests.sql.windows import counts

MINUTE = timedelta(minutes=1)
TTL = timedelta(minutes=15)
SLOT = ("cut", "", 10.0, 11.0)


def move(hour: float, hours: float = 1) -> dict[str, str]:
    """Returns the members of a change that moves an appointment."""
    return {"slot_start": at(hour).isoformat(), "slot_end": at(hour + hours).isoformat()}


def next_expiry(database: TestDatabase) -> Any:
    """Returns next_expiry of the only window."""
    return database.value("SELECT next_expiry FROM booking.occupancy")


def row_version(database: TestDatabase) -> Any:
    """Returns the version of the only row of the counts, which differs after every write."""
    return database.value("SELECT (xmin::text, ctid::text) FROM booking.occupancy")


# Each verb.


def test_claims_of_one_window_add_up_in_one_row(database: TestDatabase) -> None:
    """Holds and appointments count by their quantity, made alone or in a batch."""
    database.make_service(capacity=20)
    database.reserve(10, quantity=3)
    database.book(10, quantity=2)
    assert counts(database) == {SLOT: 5}
    database.call("reserve", [reserve_request(10, quantity=4), reserve_request(10)])
    database.call("book", [book_request(10, quantity=2), book_request(10)])
    assert counts(database) == {SLOT: 13}


def test_each_window_service_resource_and_business_has_a_row_of_its_own(database: TestDatabase) -> None:
    """Rows have the window with its buffers, and the resource that was given."""
    database.make_service(capacity=5, buffer_before_minutes=15, buffer_after_minutes=30)
    database.make_service("perm", resource_ids=["anna", "bert"])
    database.make_service(business_id="clinic")
    for hour, hours in ((10, 1), (10, 2), (10.5, 1)):
        database.reserve(hour, hours)
    for _ in range(2):
        database.reserve(10, service_id="perm")
    database.reserve(10, business_id="clinic")
    assert counts(database) == {
        ("cut", "", 9.75, 11.5): 1,
        ("cut", "", 9.75, 12.5): 1,
        ("cut", "", 10.25, 12.0): 1,
        ("perm", "anna", 10.0, 11.0): 1,
        ("perm", "bert", 10.0, 11.0): 1,
    }
    assert counts(database, "clinic") == {SLOT: 1}


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_refused_request_is_not_counted(database: TestDatabase, verb: str) -> None:
    """A refused request adds no row and changes no existing row."""
    database.make_service(capacity=2)
    request = MAKE_REQUEST[verb]
    assert names(database.call(verb, [request(10, quantity=3)])) == ["slot_unavailable"]
    assert counts(database) == {}
    assert names(database.call(verb, [request(10, quantity=n) for n in (3, 2, 1)])) == [
        "slot_unavailable",
        "done",
        "slot_unavailable",
    ]
    assert counts(database) == {SLOT: 2}


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_replay_is_not_counted_again(database: TestDatabase, verb: str) -> None:
    """A retry of an operation or of a key has no second effect, in one batch or later."""
    database.make_service(capacity=5)
    request = MAKE_REQUEST[verb]
    keyed = [request(10, idempotency_key="k", fingerprint="this") for _ in range(3)]
    assert sorted(names(database.call(verb, keyed[:2]))) == ["done", "replayed"]
    assert names(database.call(verb, keyed)).count("done") == 1
    assert counts(database) == {SLOT: 1}


def test_a_release_lowers_the_count_and_the_last_one_deletes_the_row(database: TestDatabase) -> None:
    """A release subtracts its quantity once, even if it is repeated, and the last release deletes the row."""
    database.make_service(capacity=5)
    holds = [database.reserve(10, quantity=quantity).id for quantity in (1, 3)]
    assert names([database.release(holds[1]), database.release(holds[1])]) == ["done", "done"]
    assert counts(database) == {SLOT: 1}
    assert names(database.call("release", [release_request(holds[0]) for _ in range(2)])) == ["done", "done"]
    assert counts(database) == {}


def test_a_commit_changes_no_count(database: TestDatabase) -> None:
    """A commit does not write the row of the window, because the appointment takes over the room of its hold."""
    database.make_service(capacity=5)
    hold = database.reserve(10, quantity=2).id
    before = row_version(database)
    assert names([database.commit(hold), database.commit(hold)]) == ["done", "replayed"]
    assert database.release(hold).name == "reservation_committed"
    assert counts(database) == {SLOT: 2}
    assert row_version(database) == before


def test_an_extend_changes_no_count_and_the_next_expiry_stays_a_lower_bound(database: TestDatabase) -> None:
    """An extend does not write the row: a later expiry keeps next_expiry a lower bound."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    hold = database.reserve(10, ttl_minutes=10).id
    before = row_version(database)
    assert database.extend(hold, 60).name == "done"
    assert row_version(database) == before
    assert next_expiry(database) == now + 10 * MINUTE
    assert database.violations() == {}


def test_a_window_of_a_resource_whose_hold_was_committed_has_no_next_expiry(database: TestDatabase) -> None:
    """Otherwise every list that overlaps the window would look there for expired holds, for ever."""
    database.make_service(resource_ids=["rosa"])
    hold = database.reserve(10)
    assert next_expiry(database) is not None
    database.commit(hold.id)
    assert next_expiry(database) is None


def test_the_next_expiry_is_that_of_the_first_hold_to_expire(database: TestDatabase) -> None:
    """next_expiry is the minimum over all holds of the window, in any order of arrival; appointments have no expiry."""
    database.make_service(capacity=9)
    now = database.freeze_clock()
    database.book(10)
    assert next_expiry(database) is None
    for minutes, first in ((30, 30), (10, 10), (20, 10)):
        database.reserve(10, ttl_minutes=minutes)
        assert next_expiry(database) == now + first * MINUTE
    database.call("reserve", [reserve_request(10, ttl_minutes=minutes) for minutes in (7, 5, 6)])
    database.book(10)
    assert next_expiry(database) == now + 5 * MINUTE


def test_an_extend_of_an_expired_hold_lowers_the_count(database: TestDatabase) -> None:
    """A refused extend of an expired hold ends the hold and subtracts its quantity."""
    database.make_service(capacity=5)
    hold = database.reserve(10, quantity=2).id
    database.move_clock(TTL)
    assert counts(database) == {SLOT: 2}
    assert database.extend(hold).name == "reservation_expired"
    assert counts(database) == {}


@pytest.mark.parametrize("act", ["release", "commit"])
def test_a_release_or_commit_of_an_expired_hold_lowers_the_count(database: TestDatabase, act: str) -> None:
    """A release or a commit of an expired hold ends it and subtracts its quantity once."""
    database.make_service(capacity=5)
    hold = database.reserve(10, quantity=2).id
    database.move_clock(TTL)
    for _ in range(2):
        getattr(database, act)(hold)
        assert counts(database) == {}
        assert database.status(hold) == "expired"


def test_a_rebook_counts_the_appointment_in_the_place_of_the_hold(database: TestDatabase) -> None:
    """A rebook subtracts the expired hold, unless that was done before, and adds the appointment."""
    database.make_service(capacity=3)
    holds = [database.reserve(10).id for _ in range(3)]
    database.move_clock(TTL)
    assert database.commit(holds[0]).name == "reservation_expired"
    assert counts(database) == {SLOT: 2}
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in holds[:2]])
    assert names(outcomes) == ["done", "done"]
    assert counts(database) == {SLOT: 3}
    assert database.violations() == {}
    assert database.reserve(10).name == "done"
    assert database.commit(holds[2], if_expired="rebook").name == "slot_unavailable"
    assert counts(database) == {SLOT: 3}


def test_the_purge_lowers_the_count_by_the_holds_that_it_expires(database: TestDatabase) -> None:
    """The purge works in steps, and the counts are right after each of them."""
    database.make_service(capacity=9)
    for _ in range(5):
        database.reserve(10, ttl_minutes=1)
    database.reserve(10, ttl_minutes=60)
    database.move_clock(2 * MINUTE)
    for expired, left in ((2, 4), (2, 2), (1, 1), (0, 1)):
        assert database.purge(limit=2)[0] == expired
        assert counts(database) == {SLOT: left}
        assert database.violations() == {}
    database.move_clock(timedelta(days=3))
    while database.purge(limit=2)[:2] != (0, 0):
        assert database.violations() == {}
    assert counts(database) == {}


@pytest.mark.parametrize("status", ["cancelled", "completed", "no_show"])
def test_an_appointment_that_ends_lowers_the_count_once(database: TestDatabase, status: str) -> None:
    """A cancelled, completed or missed appointment is subtracted once; later changes of it subtract nothing."""
    database.make_service(capacity=9)
    database.book(10)
    ended = database.book(10, quantity=2).id
    database.freeze_clock(at(10))
    change = {"action": "cancel"} if status == "cancelled" else {"set": {"status": status}}
    assert database.change(ended, **change).name == "done"
    assert counts(database) == {SLOT: 1}
    for again in (change, {"action": "cancel"}, {"set": {"notes": "late"}}, {"action": "erase"}):
        database.change(ended, **again)
        assert counts(database) == {SLOT: 1}


CHANGES: dict[str, tuple[dict[str, Any], dict[Any, int]]] = {
    "an edit": ({"set": {"notes": "window seat"}}, {SLOT: 2}),
    "an erasure": ({"action": "erase"}, {SLOT: 2}),
    "a move": ({"set": move(14)}, {("cut", "", 14.0, 15.0): 2}),
    "a move that overlaps itself": ({"set": move(10.5)}, {("cut", "", 10.5, 11.5): 2}),
    "a longer slot": ({"set": move(10, 2)}, {("cut", "", 10.0, 12.0): 2}),
    "a shorter slot": ({"set": move(10, 0.5)}, {("cut", "", 10.0, 10.5): 2}),
    "the same slot": ({"set": move(10)}, {SLOT: 2}),
    "a larger quantity": ({"set": {"quantity": 5}}, {SLOT: 5}),
    "a smaller quantity": ({"set": {"quantity": 1}}, {SLOT: 1}),
    "both": ({"set": {**move(11), "quantity": 4}}, {("cut", "", 11.0, 12.0): 4}),
    "too large a quantity": ({"set": {"quantity": 6}}, {SLOT: 2}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_moves_the_count_with_the_appointment(database: TestDatabase, name: str) -> None:
    """A granted move counts the new window in place of the old one; edits and refused moves change no count."""
    change, expected = CHANGES[name]
    database.make_service(capacity=5)
    appointment = database.book(10, quantity=2).id
    database.change(appointment, **change)
    assert counts(database) == expected
    assert database.violations() == {}


def test_a_change_of_the_resource_moves_the_count_to_its_row(database: TestDatabase) -> None:
    """A change of the resource, to a named one or to any, counts the row of the resource that was granted."""
    database.make_service(resource_ids=["anna", "bert"])
    appointment = database.book(10, resource_id="anna").id
    assert database.change(appointment, set={"resource_id": "bert"}).name == "done"
    assert counts(database) == {("cut", "bert", 10.0, 11.0): 1}
    database.reserve(10, resource_id="anna")
    assert database.change(appointment, set={"resource_id": "anna"}).name == "slot_unavailable"
    assert database.change(appointment, set={**move(12), "resource_id": None}).name == "done"
    assert counts(database) == {("cut", "anna", 10.0, 11.0): 1, ("cut", "bert", 12.0, 13.0): 1}


def test_a_batch_of_changes_frees_and_takes_each_window_once(database: TestDatabase) -> None:
    """A call with two changes of one appointment, a cancel and a move into the freed window counts each once."""
    database.make_service(capacity=2)
    first, second, third = (database.book(hour, quantity=2).id for hour in (10, 12, 14))
    requests = [
        change_request(first, set=move(16)),
        change_request(first, set={"quantity": 1}),
        change_request(second, action="cancel"),
        change_request(third, set=move(12)),
        change_request(third, set=move(10)),
    ]
    assert names(database.call("change", requests)) == ["done"] * 5
    assert counts(database) == {("cut", "", 16.0, 17.0): 1, ("cut", "", 10.0, 11.0): 2}


def test_all_verbs_of_one_call_keep_the_counts(database: TestDatabase) -> None:
    """A call of all verbs counts the room that one verb frees and a later one takes."""
    database.make_service(capacity=1)
    released, committed = (database.reserve(hour).id for hour in (10, 12))
    cancelled, moved = (database.book(hour).id for hour in (14, 16))
    batch: dict[str, Any] = {
        "release": [release_request(released)],
        "commit": [commit_request(committed)],
        "change": [change_request(cancelled, action="cancel"), change_request(moved, set=move(18))],
        "book": [book_request(10), book_request(14)],
        "reserve": [reserve_request(16), reserve_request(10)],
    }
    rows = database.rows("SELECT outcome FROM booking.execute('{salon}', ARRAY[%s], 'infinity')", Jsonb(batch))
    assert sorted(name for (name,) in rows) == ["done"] * 7 + ["slot_unavailable"]
    assert counts(database) == {("cut", "", float(hour), hour + 1.0): 1 for hour in (10, 12, 14, 16, 18)}


# Wrong counts.

MISCOUNTS: dict[str, tuple[str, list[tuple[int | None, int | None]]]] = {
    "one too many": ("UPDATE booking.occupancy SET claimed = claimed + 1", [(4, 3)]),
    "one too few": ("UPDATE booking.occupancy SET claimed = claimed - 1", [(2, 3)]),
    "a missing row": ("DELETE FROM booking.occupancy", [(None, 3)]),
    "a planted row": (
        "INSERT INTO booking.occupancy SELECT business_id, service_id, starts, ends, 'ghost', 1, NULL "
        "FROM booking.occupancy",
        [(1, None)],
    ),
    "a later expiry": ("UPDATE booking.occupancy SET next_expiry = next_expiry + interval '1 second'", [(3, 3)]),
    "no expiry": ("UPDATE booking.occupancy SET next_expiry = NULL", [(3, 3)]),
    "a short reach": ("UPDATE booking.services SET longest_occupied_seconds = 3599", [(3, 3)]),
    "another end": ("UPDATE booking.occupancy SET ends = ends + interval '1 second'", [(3, None), (None, 3)]),
}


@pytest.mark.parametrize("name", MISCOUNTS)
def test_a_wrong_count_is_reported_and_mended(database: TestDatabase, name: str) -> None:
    """The view and both gauges report a wrong count, and booking.recount restores the row."""
    statement, found = MISCOUNTS[name]
    database.make_service(capacity=5)
    database.reserve(10)
    database.book(10, quantity=2)
    assert database.rows("SELECT * FROM booking.miscounted_windows") == []
    before = database.rows("SELECT * FROM booking.occupancy")

    database.rows(statement)
    rows = database.rows("SELECT counted, claimed FROM booking.miscounted_windows ORDER BY claimed NULLS FIRST")
    assert rows == found
    for recent in (True, False):
        reported = dict(database.rows("SELECT * FROM booking.invariant_violations(%s)", recent))
        assert reported.pop("miscounted_windows") == len(found)
        assert set(reported.values()) == {0}

    database.recount()
    assert database.rows("SELECT * FROM booking.occupancy") == before
    assert database.rows("SELECT * FROM booking.miscounted_windows") == []


def test_a_resource_that_was_claimed_for_longer_is_reported(database: TestDatabase) -> None:
    """Decisions look for windows that begin as early as the longest one did, so a shorter value hides claims."""
    database.make_service(resource_ids=["anna"])
    database.book(10, hours=2)
    database.rows("UPDATE booking.resources SET longest_occupied_seconds = 60")
    assert database.violations() == {"miscounted_windows": 1}
    database.recount()
    assert database.rows("SELECT longest_occupied_seconds FROM booking.resources") == [(7200,)]
    assert database.violations() == {}


def test_an_earlier_expiry_is_a_lower_bound_and_no_fault(database: TestDatabase) -> None:
    """An earlier next_expiry costs a look at the holds and changes no decision."""
    database.make_service()
    database.reserve(10)
    database.rows("UPDATE booking.occupancy SET next_expiry = booking.now() - interval '1 hour'")
    assert database.violations() == {}
    assert database.reserve(10).name == "slot_unavailable"
    assert database.violations() == {}


def test_only_the_full_check_sees_a_wrong_count_of_the_past(database: TestDatabase) -> None:
    """invariant_violations(true) checks the windows ahead, invariant_violations(false) checks all of them."""
    database.make_service(capacity=5)
    database.freeze_clock(at(0))
    database.book(10)
    database.freeze_clock(at(12))
    database.rows("UPDATE booking.occupancy SET claimed = 2")
    found = [
        dict(database.rows("SELECT * FROM booking.invariant_violations(%s)", recent))["miscounted_windows"]
        for recent in (True, False)
    ]
    assert found == [0, 1]
    database.recount()


def test_a_recount_is_of_one_business(database: TestDatabase) -> None:
    """A recount leaves the counts of other businesses as they are."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id)
        database.reserve(10, business_id=business_id)
    database.rows("UPDATE booking.occupancy SET claimed = 7")
    database.rows("SELECT booking.recount('salon', 'infinity')")
    assert (counts(database), counts(database, "clinic")) == ({SLOT: 1}, {SLOT: 7})
    database.recount()


FREEING: dict[str, Callable[[TestDatabase, str, str], Outcome]] = {
    "release": lambda database, hold, _: database.release(hold),
    "cancel": lambda database, _, booked: database.change(booked, action="cancel"),
    "move": lambda database, _, booked: database.change(booked, set=move(15)),
}


@pytest.mark.parametrize("way", FREEING)
@pytest.mark.parametrize("wrong", ["DELETE FROM booking.occupancy", "UPDATE booking.occupancy SET claimed = 1"])
def test_freeing_more_than_is_counted_is_refused(database: TestDatabase, way: str, wrong: str) -> None:
    """The check constraint refuses to free more than is claimed, and the verb has no effect."""
    database.make_service(capacity=4)
    hold, booked = database.reserve(10, quantity=2).id, database.book(10, quantity=2).id
    database.rows(wrong)
    with pytest.raises(psycopg.errors.CheckViolation) as raised:
        FREEING[way](database, hold, booked)
    assert raised.value.diag.constraint_name == "occupancy_claimed_check"
    assert database.status(hold) == "held"
    assert database.value("SELECT min(status) || min(version) FROM booking.appointments") == "confirmed1"
    database.recount()
    assert FREEING[way](database, hold, booked).name == "done"


def test_a_count_is_positive(database: TestDatabase) -> None:
    """The check constraint refuses rows that count nothing, so that a decision never reads them."""
    database.make_service()
    database.reserve(10)
    for claimed in (0, -1):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.rows("UPDATE booking.occupancy SET claimed = %s", claimed)
