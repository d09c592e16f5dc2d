"""Expired holds that are still counted: they block no request, and are ended only where their room is given away."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase, at, change_request, commit_request, reserve_request
from tests.sql.catalog import delete_resource, put_seats
from tests.sql.measuring import reads_of
from tests.sql.requests import MAKE_REQUEST, names
from tests.sql.windows import counts, plant_holds, statuses

MINUTE = timedelta(minutes=1)
MANY = 2000
SLOT = ("cut", "", 10.0, 11.0)


def holds(database: TestDatabase, status: str = "held") -> list[str]:
    """The ids of the reservations in a state, the first to expire first."""
    rows = database.rows(
        "SELECT reservation_id FROM booking.reservations WHERE status = %s ORDER BY expires_at, reservation_id", status
    )
    return [str(reservation_id) for (reservation_id,) in rows]


def test_an_expired_hold_is_neither_held_nor_booked(database: TestDatabase) -> None:
    """From the instant of its expiry on, beside claims that last."""
    database.make_service(capacity=3)
    expiring = database.reserve(10, ttl_minutes=1)
    assert names([database.reserve(10), database.book(10)]) == ["done", "done"]
    database.freeze_clock(datetime.fromisoformat(expiring.body["expires_at"]))
    assert database.capacity() == {"capacity": 3, "held": 1, "booked": 1, "available": 1}
    assert database.value("SELECT sum(quantity) FROM booking.claims") == 2


@pytest.fixture
def crowded(database: TestDatabase) -> tuple[TestDatabase, datetime]:
    """A slot full of holds that have all expired, and the time when they were live."""
    database.make_service(capacity=MANY)
    now = database.freeze_clock()
    plant_holds(database, MANY, at(10))
    assert database.reserve(10).name == "slot_unavailable"
    database.freeze_clock(now + 2 * MINUTE)
    return database, now


# One full slot.


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_batch_ends_as_many_holds_as_it_needs(crowded: tuple[TestDatabase, datetime], verb: str, number: int) -> None:
    """Of two thousand expired holds a batch of n ends n, and the rest is held and counted as before."""
    database, _ = crowded
    request = MAKE_REQUEST[verb]
    assert names(database.call(verb, [request(10) for _ in range(number)])) == ["done"] * number
    held = MANY - number + (number if verb == "reserve" else 0)
    assert statuses(database) == {"held": held, "expired": number}
    assert counts(database) == {SLOT: MANY}
    assert database.violations() == {}


def test_a_party_ends_as_many_holds_as_it_has_guests(crowded: tuple[TestDatabase, datetime]) -> None:
    """A request for five units ends five holds of one unit."""
    database, _ = crowded
    assert database.reserve(10, quantity=5).name == "done"
    assert statuses(database) == {"held": MANY - 5 + 1, "expired": 5}
    assert counts(database) == {SLOT: MANY}


def test_all_of_a_crowd_that_expired_is_room(crowded: tuple[TestDatabase, datetime]) -> None:
    """A request may take the room of all expired holds, and a request for one unit more is refused."""
    database, _ = crowded
    assert database.reserve(10, quantity=MANY + 1).name == "slot_unavailable"
    assert statuses(database) == {"held": MANY}
    assert names(database.call("reserve", [reserve_request(10, quantity=n) for n in (MANY - 1, 2, 1)])) == [
        "done",
        "slot_unavailable",
        "done",
    ]
    assert statuses(database) == {"held": 2, "expired": MANY}


def test_an_expired_hold_that_was_not_ended_cant_be_committed(
    crowded: tuple[TestDatabase, datetime],
) -> None:
    """An expired hold that was not ended can't be committed, and the whole capacity can be granted to others."""
    database, _ = crowded
    database.reserve(10)
    unneeded = holds(database)[0]
    assert database.commit(unneeded).name == "reservation_expired"
    assert database.status(unneeded) == "expired"
    assert database.capacity(10)["available"] == MANY - 1
    assert set(names(database.call("reserve", [reserve_request(10) for _ in range(MANY)]))[: MANY - 1]) == {"done"}
    assert database.reserve(10).name == "slot_unavailable"
    assert statuses(database) == {"held": MANY, "expired": MANY}


def test_a_clock_stepped_back_revives_only_holds_that_were_not_acted_on(
    crowded: tuple[TestDatabase, datetime],
) -> None:
    """After a step back of the clock, holds that were not ended are live and counted, and ended holds stay expired."""
    database, now = crowded
    database.call("reserve", [reserve_request(10) for _ in range(3)])
    expired = holds(database, "expired")
    live = set(holds(database)[: MANY - 3])
    database.freeze_clock(now)
    assert database.reserve(10).name == "slot_unavailable"
    assert database.capacity(10) == {"capacity": MANY, "held": MANY, "booked": 0, "available": 0}
    assert database.violations() == {}
    assert set(names(database.call("commit", [commit_request(hold) for hold in expired]))) == {"reservation_expired"}
    assert database.commit(live.pop()).name == "done"
    assert database.violations() == {}


def test_a_decision_with_room_enough_ends_nothing(database: TestDatabase) -> None:
    """A request that fits beside the expired holds leaves them to the purge."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    for _ in range(3):
        database.reserve(10, ttl_minutes=1)
    database.freeze_clock(now + 2 * MINUTE)
    assert names(database.call("reserve", [reserve_request(10) for _ in range(2)])) == ["done", "done"]
    assert statuses(database) == {"held": 5}
    assert counts(database) == {SLOT: 5}
    database.freeze_clock(now)
    assert database.reserve(10).name == "slot_unavailable"
    assert database.violations() == {}


def test_only_the_room_that_is_short_is_taken_from_expired_holds(database: TestDatabase) -> None:
    """A batch uses the free room first and ends expired holds only for the rest."""
    database.make_service(capacity=10)
    now = database.freeze_clock()
    for _ in range(7):
        database.reserve(10, ttl_minutes=1)
    database.freeze_clock(now + 2 * MINUTE)
    assert names(database.call("reserve", [reserve_request(10) for _ in range(5)])) == ["done"] * 5
    assert statuses(database) == {"held": 10, "expired": 2}
    assert counts(database) == {SLOT: 10}


def test_the_holds_that_expired_first_are_ended_first(database: TestDatabase) -> None:
    """A hold that is live is never ended, however many expired ones there are beside it."""
    database.make_service(capacity=4)
    now = database.freeze_clock()
    expected = [database.reserve(10, ttl_minutes=minutes).id for minutes in (3, 1, 2, 60)]
    database.freeze_clock(now + 10 * MINUTE)
    for number, ended in enumerate([1, 2, 0], start=1):
        assert database.reserve(10).name == "done"
        assert database.status(expected[ended]) == "expired"
        assert statuses(database)["expired"] == number
    assert database.reserve(10).name == "slot_unavailable"
    assert database.commit(expected[3]).name == "done"


def test_the_next_expiry_follows_when_holds_are_ended(database: TestDatabase) -> None:
    """next_expiry moves on to the first hold that is left, and new holds are among them."""
    database.make_service(capacity=3)
    now = database.freeze_clock()
    for minutes in (1, 2, 60):
        database.reserve(10, ttl_minutes=minutes)
    database.freeze_clock(now + 10 * MINUTE)

    def noted() -> Any:
        return (database.value("SELECT next_expiry FROM booking.occupancy") - now) / MINUTE

    assert noted() == 1
    database.reserve(10, ttl_minutes=30)
    assert noted() == 2
    database.reserve(10, ttl_minutes=20)
    assert noted() == 30
    database.freeze_clock(now + 31 * MINUTE)
    database.book(10)
    assert noted() == 40
    assert database.violations() == {}


# Refusals.


@pytest.mark.parametrize("verb", ["reserve", "book", "change", "rebook"])
def test_a_refusal_ends_nothing(database: TestDatabase, verb: str) -> None:
    """A request that would not fit without the expired holds either is refused at once, and no hold is ended."""
    database.make_service(capacity=20)
    now = database.freeze_clock()
    lost = database.reserve(11, quantity=3, ttl_minutes=1).id  # ended by the booking of 18
    appointment = database.book(15, quantity=2).id
    for _ in range(17):
        database.reserve(10, ttl_minutes=1)
    database.freeze_clock(now + 2 * MINUTE)
    database.book(11, quantity=18)
    database.book(10.5, 0.5, quantity=1)
    requests: dict[str, Callable[[], Outcome]] = {
        "reserve": lambda: database.reserve(10, 2, quantity=3),
        "book": lambda: database.book(10, 2, quantity=3),
        "change": lambda: database.change(
            appointment, set={"slot_start": at(10).isoformat(), "slot_end": at(12).isoformat(), "quantity": 3}
        ),
        "rebook": lambda: database.commit(lost, if_expired="rebook"),
    }
    before = statuses(database)
    assert requests[verb]().name == "slot_unavailable"
    assert statuses(database) == before == {"held": 17, "expired": 1}
    assert database.violations() == {}


@pytest.mark.new_database
def test_a_refusal_reads_no_more_expired_holds_than_it_asks_room_for(crowded: tuple[TestDatabase, datetime]) -> None:
    """The refusal of a slot that is full of live claims does not read all expired holds beside it."""
    database, _ = crowded
    database.book(11, quantity=MANY)
    refused = reads_of(database, lambda: database.reserve(10, 2))
    assert database.reserve(10, 2).name == "slot_unavailable"
    assert refused.rows < 100
    assert statuses(database) == {"held": MANY}


@pytest.mark.new_database
def test_a_grant_reads_no_more_expired_holds_than_it_needs(crowded: tuple[TestDatabase, datetime]) -> None:
    """The first request after a crowd of holds expired does not read all of them."""
    database, _ = crowded
    assert reads_of(database, lambda: database.reserve(10)).rows < 100


# Windows that overlap, and resources.


def test_expired_holds_of_overlapping_windows_block_no_request(database: TestDatabase) -> None:
    """Expired holds are ended in every window that overlaps the slot, and in no other window."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    for hour, hours in ((9.5, 1), (9.5, 1), (10.75, 0.5), (10.75, 0.5), (8, 1), (12, 1)):
        assert database.reserve(hour, hours, ttl_minutes=1).name == "done"
    database.freeze_clock(now + 2 * MINUTE)
    assert names(database.call("reserve", [reserve_request(10) for _ in range(3)])) == [
        "done",
        "done",
        "slot_unavailable",
    ]
    assert counts(database) == {("cut", "", 8.0, 9.0): 1, SLOT: 2, ("cut", "", 12.0, 13.0): 1}
    assert database.violations() == {}
    database.freeze_clock(now)
    assert database.violations() == {}


def test_a_live_hold_beside_expired_ones_counts_where_it_lies(database: TestDatabase) -> None:
    """Expired holds are subtracted at each instant of the slot, not from the sum of its windows."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    database.reserve(10, 1)
    database.reserve(10, 0.5, ttl_minutes=1)
    database.reserve(10.5, 0.5, ttl_minutes=1)
    database.freeze_clock(now + 2 * MINUTE)
    assert names(database.call("reserve", [reserve_request(10, quantity=n) for n in (2, 1, 1)])) == [
        "slot_unavailable",
        "done",
        "slot_unavailable",
    ]
    assert statuses(database) == {"held": 2, "expired": 2}
    database.freeze_clock(now)
    assert database.violations() == {}


@pytest.mark.parametrize(
    ("settings", "extended", "expired"),
    [
        ({"capacity": 2}, {}, {"hours": 2}),
        ({"resource_ids": ["anna", "bert"]}, {"resource_id": "anna"}, {"resource_id": "bert"}),
    ],
    ids=["length", "resource"],
)
def test_an_expired_hold_is_no_room_in_another_window_with_its_start(
    database: TestDatabase, settings: dict[str, Any], extended: dict[str, Any], expired: dict[str, Any]
) -> None:
    """The hold in that window was extended, so that its next_expiry has passed although it is live."""
    database.make_service(**settings)
    now = database.freeze_clock()
    hold = database.reserve(10, ttl_minutes=5, **extended).id
    database.reserve(10, ttl_minutes=5, **expired)
    database.extend(hold, 30)
    database.freeze_clock(now + timedelta(minutes=5))
    assert names(database.call("reserve", [reserve_request(10) for _ in range(2)])) == ["done", "slot_unavailable"]


def test_expired_holds_of_other_windows_free_their_resource(database: TestDatabase) -> None:
    """A resource that only expired holds occupy is given away, and those holds are ended, of whichever service."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna"])
    now = database.freeze_clock()
    conflicting = [
        database.reserve(9.5, resource_id="anna", ttl_minutes=1).id,
        database.reserve(10.5, service_id="perm", ttl_minutes=1).id,
    ]
    elsewhere = [
        database.reserve(12, resource_id="anna", ttl_minutes=1).id,
        database.reserve(10, resource_id="bert", ttl_minutes=1).id,
    ]
    assert database.reserve(10).name == "slot_unavailable"
    database.freeze_clock(now + 2 * MINUTE)
    assert database.reserve(10, resource_id="anna").body["resource_id"] == "anna"
    assert [database.status(hold) for hold in conflicting + elsewhere] == ["expired", "expired", "held", "held"]
    assert counts(database)["cut", "bert", 10.0, 11.0] == 1
    database.freeze_clock(now)
    assert database.violations() == {}


@pytest.mark.parametrize("way", ["reserve", "book", "rebook", "take back"])
def test_a_claim_says_that_it_frees_more_than_its_slot(database: TestDatabase, way: str) -> None:
    """Another window of the resource becomes free with it, but not where the windows are equal; a retry has nothing to
    say."""
    database.make_service(resource_ids=["anna"], capacity=1)
    database.make_service("perm", resource_ids=["anna"], capacity=1)
    now = database.freeze_clock(at(9))
    early = database.reserve(12, ttl_minutes=1).id
    database.freeze_clock(now + 2 * MINUTE)
    booked = database.book(11).id
    database.freeze_clock(at(11))
    database.change(booked, set={"status": "no_show"})
    wide = database.reserve(11 if way == "take back" else 12, 3, service_id="perm", ttl_minutes=1).id
    database.freeze_clock(at(11) + 2 * MINUTE)
    verb, request = {
        "reserve": ("reserve", reserve_request(12)),
        "book": ("book", MAKE_REQUEST["book"](12)),
        "rebook": ("commit", commit_request(early, if_expired="rebook")),
        "take back": ("change", change_request(booked, set={"status": "confirmed"})),
    }[way]
    [outcome] = database.call(verb, [request])
    assert (outcome.name, outcome.body.get("frees_more"), database.status(wide)) == ("done", True, "expired")
    [retried] = database.call(verb, [request])
    assert (retried.name, retried.body.get("frees_more")) == ("done", None)
    equal = database.reserve(16, ttl_minutes=1)
    database.freeze_clock(at(11) + 5 * MINUTE)
    assert "frees_more" not in database.reserve(16).body
    assert database.status(equal.id) == "expired"


def test_holds_of_one_window_with_different_resources_are_ended_by_resource(database: TestDatabase) -> None:
    """The expired hold of the resource that is given away is ended; a live hold of another resource is not."""
    database.make_service(capacity=3, resource_ids=["anna", "bert", "cleo"])
    now = database.freeze_clock()
    anna, bert, cleo = (
        database.reserve(10, resource_id=resource_id, ttl_minutes=minutes).id
        for resource_id, minutes in (("anna", 60), ("bert", 1), ("cleo", 1))
    )
    database.freeze_clock(now + 2 * MINUTE)
    assert database.reserve(10, resource_id="anna").name == "slot_unavailable"
    assert database.reserve(10, resource_id="cleo").name == "done"
    assert [database.status(hold) for hold in (anna, cleo)] == ["held", "expired"]
    assert database.reserve(10).body["resource_id"] == "bert"
    assert [database.status(hold) for hold in (anna, bert, cleo)] == ["held", "expired", "expired"]
    assert database.reserve(10).name == "slot_unavailable"
    assert counts(database) == {("cut", name, 10.0, 11.0): 1 for name in ("anna", "bert", "cleo")}


# (service settings, expired holds as (hour, hours, quantity, resource), the request, the number of holds it ends)
NEEDED: dict[str, tuple[dict[str, Any], list[tuple[float, float, int, str | None]], dict[str, Any], int]] = {
    "holds of two": ({"capacity": 20}, [(10, 1, 2, None)] * 10, {"quantity": 4}, 2),
    "windows that share the slot": ({"capacity": 2}, [(10, 1, 1, None), (9.5, 2, 1, None)], {}, 1),
    "another resource": (
        {"resource_ids": ["anna", "bert", "cleo"]},
        [(10, 1, 1, "bert"), (10, 1, 1, "cleo"), (10, 1, 1, "anna")],
        {"resource_id": "cleo"},
        1,
    ),
}


@pytest.mark.parametrize("name", NEEDED)
def test_no_more_expired_holds_are_ended_than_the_room_needs(database: TestDatabase, name: str) -> None:
    """The ended holds bring the count back to the capacity and no lower."""
    service, held, members, needed = NEEDED[name]
    database.make_service(**service)
    now = database.freeze_clock()
    for hour, hours, quantity, resource_id in held:
        assert database.reserve(hour, hours, quantity=quantity, resource_id=resource_id, ttl_minutes=1).name == "done"
    database.freeze_clock(now + 2 * MINUTE)
    assert database.reserve(10, **members).name == "done"
    assert statuses(database).get("expired") == needed


def test_a_move_and_a_rebook_take_the_room_of_expired_holds(database: TestDatabase) -> None:
    """A rebook and a move each end one expired hold of a full slot."""
    database.make_service(capacity=2)
    now = database.freeze_clock()
    appointment = database.book(15).id
    lost = [database.reserve(10, ttl_minutes=1).id for _ in range(2)]
    database.freeze_clock(now + 2 * MINUTE)
    assert database.commit(lost[1], if_expired="rebook").name == "done"
    assert [database.status(hold) for hold in lost] == ["held", "expired"]
    changed = database.call("change", [change_request(appointment, set={"slot_start": at(10).isoformat()})])
    assert names(changed) == ["done"]
    assert [database.status(hold) for hold in lost] == ["expired", "expired"]
    assert counts(database) == {SLOT: 2}


# Less room than before.


@pytest.mark.parametrize("back", [False, True], ids=["clock goes on", "clock steps back"])
def test_a_capacity_lowered_below_expired_holds_ends_them(database: TestDatabase, back: bool) -> None:
    """Lowering the capacity ends expired holds, so that no step back of the clock revives more than it allows."""
    database.make_service(capacity=5)
    now = database.freeze_clock()
    expired = database.reserve(10, quantity=4, ttl_minutes=1).id
    database.book(10)
    assert database.put_service(capacity=4).name == "capacity_in_use"
    database.freeze_clock(now + 2 * MINUTE)
    assert database.put_service(capacity=1).name == "done"
    assert counts(database) == {SLOT: 1}
    if back:
        database.freeze_clock(now)
    assert database.violations() == {}
    assert database.commit(expired).name == "reservation_expired"
    assert database.reserve(10).name == "slot_unavailable"


@pytest.mark.parametrize("back", [False, True], ids=["clock goes on", "clock steps back"])
def test_seats_lowered_below_expired_holds_end_them(database: TestDatabase, back: bool) -> None:
    """Lowering the seats of a resource ends expired holds, so that no step back of the clock revives them."""
    database.make_resource("room", seats=8)
    database.make_service("table", resource_ids=["room"], max_simultaneous_bookings=None)
    now = database.freeze_clock()
    expired = database.reserve(10, service_id="table", quantity=8, ttl_minutes=1).id
    assert put_seats(database, "room", 2).name == "capacity_in_use"
    database.freeze_clock(now + 2 * MINUTE)
    assert put_seats(database, "room", 2).name == "done"
    assert counts(database) == {}
    if back:
        database.freeze_clock(now)
    assert database.violations() == {}
    assert database.commit(expired).name == "reservation_expired"


def test_a_pool_made_smaller_ends_expired_holds(database: TestDatabase) -> None:
    """Deleting a resource, or taking it out of the pool, lowers a capacity that is the sum of the seats."""
    for resource_id in ("anna", "bert", "cleo"):
        database.make_resource(resource_id)
    database.make_service(capacity=3)
    now = database.freeze_clock()
    expired = database.reserve(10, quantity=3, ttl_minutes=1).id
    database.put_service(resource_ids=["anna", "bert", "cleo"], max_simultaneous_bookings=None)
    assert delete_resource(database, "anna").name == "capacity_in_use"
    smaller: dict[str, Any] = {"resource_ids": ["anna", "bert"], "max_simultaneous_bookings": None}
    assert database.put_service(**smaller).name == "capacity_in_use"
    database.freeze_clock(now + 2 * MINUTE)
    assert delete_resource(database, "anna").name == "done"
    database.freeze_clock(now)
    assert database.status(expired) == "expired"
    assert database.violations() == {}


# The cost of a decision.


@pytest.mark.new_database
@pytest.mark.parametrize("verb", ["reserve", "book", "change", "commit"])
def test_a_decision_reads_as_much_with_thousands_of_live_holds_as_with_none(database: TestDatabase, verb: str) -> None:
    """A decision reads the counts of the windows and not the claims in them."""
    database.make_service(capacity=10_000)
    appointment = database.book(15).id
    lost = database.reserve(10, ttl_minutes=1).id
    database.move_clock(2 * MINUTE)
    database.purge()
    calls: dict[str, Any] = {
        "reserve": lambda: database.reserve(10),
        "book": lambda: database.book(10),
        "change": lambda: database.change(appointment, set={"slot_start": at(10).isoformat()}),
        "commit": lambda: database.commit(lost, if_expired="rebook"),
    }
    empty = reads_of(database, calls[verb])
    plant_holds(database, 5000, at(10), ttl=timedelta(hours=1))
    full = reads_of(database, calls[verb])
    assert calls[verb]().name == "done"
    assert full.rows <= empty.rows + 6
    assert full.blocks <= empty.blocks * 2
