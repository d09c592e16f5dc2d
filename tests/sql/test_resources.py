"""Services with a pool: each claim has one resource, and each resource is in one place at a time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import psycopg
import pytest

from tests.database import Outcome, TestDatabase, at, book_request, commit_request, reserve_request
from tests.sql.asking import names

TTL = timedelta(minutes=15)
TEN_CHAIRS = [f"chair-{number}" for number in range(10)]


def resources(outcomes: list[Outcome]) -> list[str | None]:
    """The resources that were given away, one for each that got any."""
    return [outcome.body["resource_id"] for outcome in outcomes if outcome.name in ("done", "replayed")]


def archive(database: TestDatabase, resource_id: str) -> None:
    """Takes a resource off the catalog."""
    database.rows("SELECT * FROM booking.delete_resource('salon', %s, 'infinity')", resource_id)


def refused(outcome: Outcome) -> tuple[str, Any]:
    """What a request was told, and why."""
    return outcome.name, outcome.body.get("reason")


# Who is given to whom.


def test_a_named_resource_is_given(database: TestDatabase) -> None:
    """Or nobody: the others are free, and are not what was asked for."""
    database.make_service(resource_ids=["anna", "bert", "cleo"])
    first = database.reserve(10, resource_id="bert")
    assert (first.name, first.body["resource_id"]) == ("done", "bert")
    assert database.reserve(10, resource_id="bert").name == "slot_unavailable"
    assert database.reserve(10.5, resource_id="bert").name == "slot_unavailable"
    assert database.reserve(11, resource_id="bert").name == "done"
    assert database.reserve(10, resource_id="anna").name == "done"


def test_any_resource_is_given_as_long_as_one_is_free(database: TestDatabase) -> None:
    """Every other one is tried before a request is refused, whatever they are busy with."""
    database.make_service(resource_ids=["anna", "bert", "cleo"])
    assert database.reserve(9.5, resource_id="anna").name == "done"
    database.commit(database.reserve(10.5, resource_id="bert").id)
    outcomes = [database.reserve(10) for _ in range(2)]
    assert names(outcomes) == ["done", "slot_unavailable"]
    assert resources(outcomes) == ["cleo"]


def test_work_is_spread_over_the_resources(database: TestDatabase) -> None:
    """Whoever is booked least on that day comes first, and at a draw the first by id."""
    database.make_service(resource_ids=["cleo", "anna", "bert"])
    given = resources([database.reserve(8 + hour) for hour in range(4)])
    assert given == ["anna", "bert", "cleo", "anna"]
    database.reserve(15, resource_id="bert")
    database.reserve(16, resource_id="bert")
    assert resources([database.reserve(17), database.reserve(18)]) == ["cleo", "anna"]


def test_what_is_over_or_given_up_does_not_count_as_work(database: TestDatabase) -> None:
    """Claims are counted: live holds and confirmed appointments, through whichever service they came."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    database.reserve(8, resource_id="anna", ttl_minutes=1)
    database.release(database.reserve(9, resource_id="anna").id)
    cancelled = database.book(10, resource_id="anna").id
    database.change(cancelled, action="cancel")
    database.book(11, service_id="perm", resource_id="bert")
    database.freeze_clock(now + timedelta(minutes=1))
    assert database.reserve(14).body["resource_id"] == "anna"


def test_a_day_is_that_of_the_wall_clock_of_the_business(database: TestDatabase) -> None:
    """Berlin's winter day begins at 23:00 of the UTC day before: what is before or after it is another day's work."""
    database.make_service(resource_ids=["anna", "bert"])
    winter = datetime(datetime.now(UTC).year + 1, 1, 12, tzinfo=UTC)

    def book(hour: float, resource_id: str | None = None) -> str:
        start = winter + timedelta(hours=hour)
        outcome = database.book(
            slot_start=start.isoformat(), slot_end=(start + timedelta(hours=1)).isoformat(), resource_id=resource_id
        )
        given: str = outcome.body["resource_id"]
        return given

    for hour in (20, 21, 22):
        book(hour - 24, "anna")
        book(hour + 3, "anna")
    assert book(12) == "anna"
    book(-1, "anna")
    assert book(14) == "bert"
    assert book(16) == "bert"
    assert book(18) == "anna"


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_window_across_midnight_meets_what_is_claimed_after_it(database: TestDatabase, verb: str, size: int) -> None:
    """Work is counted on the day on which the window begins; who is free is asked for all of it."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    assert database.reserve(26, service_id="perm").name == "done"
    request = {"reserve": reserve_request, "book": book_request}[verb]
    outcomes = database.call(verb, [request(20, 8) for _ in range(size)])
    assert names(outcomes) == ["slot_unavailable"] * size


def test_any_of_ten_is_ten_different_ones(database: TestDatabase) -> None:
    """A batch that races for them fills exactly those that there are."""
    database.make_service(resource_ids=TEN_CHAIRS)
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(11)])
    assert names(outcomes) == ["done"] * 10 + ["slot_unavailable"]
    assert resources(outcomes) == TEN_CHAIRS


def test_ten_named_and_any_in_one_batch_never_meet(database: TestDatabase) -> None:
    """Each window sees what the one before it was given, whether it asked by name or not."""
    database.make_service(resource_ids=TEN_CHAIRS)
    wanted = [None, "chair-3", None, "chair-0", "chair-3", *[None] * 8]
    outcomes = database.call("reserve", [reserve_request(10, resource_id=resource_id) for resource_id in wanted])
    given = resources(outcomes)
    assert len(given) == len(set(given)) == 10
    assert outcomes[4].name == "slot_unavailable"


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_pool_with_gaps_is_filled_to_the_last_one(database: TestDatabase, verb: str) -> None:
    """Whoever is busy for any part of the window is passed over, and nobody is given twice."""
    database.make_service(resource_ids=TEN_CHAIRS)
    for number in (0, 4, 9):
        database.reserve(10.5, resource_id=f"chair-{number}")
    request = {"reserve": reserve_request, "book": book_request}[verb]
    outcomes = database.call(verb, [request(10) for _ in range(9)])
    assert names(outcomes) == ["done"] * 7 + ["slot_unavailable"] * 2
    assert sorted(set(map(str, resources(outcomes)))) == [f"chair-{number}" for number in (1, 2, 3, 5, 6, 7, 8)]


# One place at a time.


def test_a_resource_serves_several_services_one_at_a_time(database: TestDatabase) -> None:
    """Whichever way its claim came, and however it stands: held, committed or booked at once."""
    for service_id in ("cut", "perm", "colour"):
        database.make_service(service_id, resource_ids=["anna"])
    claims: list[Callable[[], Outcome]] = [
        lambda: database.reserve(10, service_id="perm"),
        lambda: database.commit(database.reserve(10, service_id="perm").id),
        lambda: database.book(10, service_id="perm"),
    ]
    for claim in claims:
        with database.admin.transaction(force_rollback=True):
            assert claim().name == "done"
            for hour, hours in ((10, 1), (9.5, 1), (10.5, 1), (9, 3), (10.25, 0.5)):
                assert database.reserve(hour, hours).name == "slot_unavailable"
                assert database.book(hour, hours, service_id="colour").name == "slot_unavailable"
            assert database.reserve(9).name == "done"
            assert database.book(11, service_id="colour").name == "done"


WINDOWS: list[tuple[str, float, float]] = [("cut", 10, 1), ("perm", 10.5, 1), ("perm", 10, 1), ("cut", 11, 1)]


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_resource_is_in_one_place_also_within_a_batch(database: TestDatabase, verb: str) -> None:
    """Two services, equal windows and windows that overlap, in every order: the batch does what one by one does."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    request = {"reserve": reserve_request, "book": book_request}[verb]
    for windows in permutations(WINDOWS):
        requests = [request(hour, hours, service_id=service_id) for service_id, hour, hours in windows]
        with database.admin.transaction(force_rollback=True):
            one_by_one = [database.call(verb, [request])[0].name for request in requests]
        with database.admin.transaction(force_rollback=True):
            assert names(database.call(verb, requests)) == one_by_one, windows
            assert database.rows("SELECT * FROM booking.double_booked_resources") == []


def test_pools_that_share_a_resource_do_not_share_it_at_once(database: TestDatabase) -> None:
    """The one who can do both is given to one of them, and both pools are used up otherwise."""
    database.make_service("cut", resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert", "cleo"])
    batch = [reserve_request(10, service_id=service_id) for service_id in ("cut", "perm", "cut", "perm", "cut")]
    outcomes = database.call("reserve", batch)
    given = resources(outcomes)
    assert names(outcomes).count("done") == len(set(given)) == 3


def test_services_with_pools_of_their_own_are_decided_at_once(database: TestDatabase) -> None:
    """Nothing in common, nothing to wait for."""
    database.make_service("cut", resource_ids=["anna"])
    database.make_service("perm", resource_ids=["bert"])
    requests = [reserve_request(10, service_id="cut"), reserve_request(10.5, service_id="perm")]
    outcomes = database.call("reserve", requests)
    assert (names(outcomes), resources(outcomes)) == (["done", "done"], ["anna", "bert"])


def test_buffers_occupy_the_resource_as_they_were_made(database: TestDatabase) -> None:
    """They belong to the claim: the time to clean up is nobody else's, and later settings don't move it."""
    database.make_service("cut", resource_ids=["anna"])
    database.make_service("perm", resource_ids=["anna"], buffer_before_minutes=15, buffer_after_minutes=30)
    assert database.reserve(10, service_id="perm").name == "done"
    database.put_service("perm", resource_ids=["anna"])
    assert [database.reserve(hour, 0.25).name for hour in (9.5, 9.75, 11.25, 11.5)] == [
        "done",
        "slot_unavailable",
        "slot_unavailable",
        "done",
    ]
    database.put_service("perm", resource_ids=["anna"], buffer_before_minutes=15)
    assert database.reserve(11.75, 0.25, service_id="perm").name == "slot_unavailable"
    assert database.reserve(12, 0.25, service_id="perm").name == "done"


def test_resources_of_two_businesses_are_two(database: TestDatabase) -> None:
    """Though they have the same name."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, resource_ids=["anna"])
        assert database.reserve(10, business_id=business_id).name == "done"
        assert database.reserve(10, business_id=business_id).name == "slot_unavailable"


# How many.


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_claim_has_one_resource(database: TestDatabase, verb: str, together: bool) -> None:
    """Whoever needs two makes two claims, and is told so."""
    database.make_service(resource_ids=["anna", "bert"])
    request = {"reserve": reserve_request, "book": book_request}[verb]
    for resource_id in (None, "anna"):
        requests = [request(10, quantity=2, resource_id=resource_id) for _ in range(1 + together)]
        for outcome in database.call(verb, requests):
            assert outcome.name == "validation_failed"
            assert outcome.body["field"] == "quantity"
            assert outcome.body["message"]
    assert database.reserve(10).name == "done"


def test_a_capacity_below_the_pool_binds(database: TestDatabase) -> None:
    """Three can work, and there are two mirrors."""
    database.make_service(capacity=2, resource_ids=["anna", "bert", "cleo"])
    assert names(database.call("reserve", [reserve_request(10) for _ in range(3)])) == ["done"] * 2 + [
        "slot_unavailable"
    ]
    assert database.reserve(10, resource_id="cleo").name == "slot_unavailable"
    assert database.capacity(10)["available"] == 0


def test_a_capacity_above_the_pool_does_not(database: TestDatabase) -> None:
    """Nobody works in two places because there are mirrors enough."""
    database.make_service(capacity=5, resource_ids=["anna", "bert"])
    assert database.capacity(10)["available"] == 2
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(3)])
    assert names(outcomes) == ["done", "done", "slot_unavailable"]
    assert database.capacity(10) == {"capacity": 5, "held": 2, "booked": 0, "available": 0}


def test_a_named_and_any_in_one_batch_share_the_capacity(database: TestDatabase) -> None:
    """Their pools differ, and the service is the same."""
    database.make_service(capacity=2, resource_ids=["anna", "bert", "cleo"])
    wanted = ["bert", None, "anna"]
    outcomes = database.call("reserve", [reserve_request(10, resource_id=resource_id) for resource_id in wanted])
    assert (names(outcomes), resources(outcomes)) == (["done", "done", "slot_unavailable"], ["bert", "anna"])


# Who is there.


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_a_resource_that_the_service_has_not_is_not_found(database: TestDatabase, verb: str, together: bool) -> None:
    """Unknown, archived, in the pool of another service only, or of a service that has no resources at all."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["cleo"])
    database.make_service("wash")
    database.make_service(business_id="clinic", resource_ids=["dora"])
    archive(database, "bert")
    request = {"reserve": reserve_request, "book": book_request}[verb]
    for service_id, resource_id in (("cut", "dora"), ("cut", "bert"), ("cut", "cleo"), ("wash", "anna")):
        requests = [request(10, service_id=service_id, resource_id=resource_id) for _ in range(1 + together)]
        assert set(names(database.call(verb, requests))) == {"resource_not_found"}, (service_id, resource_id)
    assert database.value("SELECT count(*) FROM booking.claims") == 0


def test_an_archived_resource_is_passed_over(database: TestDatabase) -> None:
    """And when nobody is left, nothing is sold: the service does not become one that is booked without."""
    database.make_service(capacity=2, resource_ids=["anna", "bert"])
    archive(database, "anna")
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(2)])
    assert (names(outcomes), resources(outcomes)) == (["done", "slot_unavailable"], ["bert"])
    archive(database, "bert")
    assert database.reserve(15).name == "slot_unavailable"
    assert database.book(15, manual=True).name == "slot_unavailable"
    assert database.capacity(15)["available"] == 0
    database.make_resource("anna")
    assert database.reserve(15).body["resource_id"] == "anna"


def test_what_is_not_offered_online_is_refused_to_the_public_only(database: TestDatabase) -> None:
    """A service or a resource: by name it is refused with the reason, among any it is passed over."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["cleo"], booking_enabled=False)
    database.make_resource("anna", booking_enabled=False)
    assert refused(database.reserve(10, resource_id="anna")) == ("slot_not_bookable", "not_online")
    assert refused(database.book(10, resource_id="anna")) == ("slot_not_bookable", "not_online")
    outcomes = [database.reserve(10) for _ in range(2)]
    assert (names(outcomes), resources(outcomes)) == (["done", "slot_unavailable"], ["bert"])
    assert refused(database.reserve(10, service_id="perm", resource_id="cleo")) == ("slot_not_bookable", "not_online")
    assert database.book(10, manual=True).body["resource_id"] == "anna"
    assert database.book(10, service_id="perm", manual=True).body["resource_id"] == "cleo"
    database.make_resource("bert", booking_enabled=False)
    assert refused(database.reserve(15)) == ("slot_not_bookable", "not_online")
    assert database.book(15, manual=True, resource_id="bert").name == "done"


def test_the_hours_of_a_resource_bind_the_public(database: TestDatabase) -> None:
    """Its own weekly hours and closures. Whoever acts for the business is not bound."""
    database.make_service(resource_ids=["anna", "bert"])
    # At ten UTC it is eleven or twelve o'clock in Berlin.
    database.put_hours([{"weekday": 1, "opens": "09:00", "closes": "13:00", "resource_id": "anna"}])
    assert refused(database.reserve(14, resource_id="anna")) == ("slot_not_bookable", "closed")
    assert database.reserve(14).body["resource_id"] == "bert"
    assert database.reserve(14).name == "slot_unavailable"
    database.put_closure("holiday", at(9), at(12), "bert")
    assert refused(database.reserve(10, resource_id="bert")) == ("slot_not_bookable", "closed")
    assert resources([database.reserve(10), database.reserve(10)]) == ["anna"]
    assert database.book(10, manual=True).body["resource_id"] == "bert"
    database.put_closure("leave", at(17), at(18), "bert")
    assert refused(database.reserve(17)) == ("slot_not_bookable", "closed")
    assert database.book(17, manual=True, resource_id="anna").name == "done"


def test_a_service_that_gets_a_pool_goes_on_with_what_it_has(database: TestDatabase) -> None:
    """What was claimed before has no resource and counts against the capacity; what comes now has one."""
    database.make_service(capacity=2)
    before = database.reserve(10)
    database.make_service(capacity=2, resource_ids=["anna", "bert"])
    assert before.body["resource_id"] is None
    assert resources([database.reserve(10), database.reserve(10)]) == ["anna"]
    assert database.commit(before.id).body["resource_id"] is None


def test_a_resource_that_left_the_pool_keeps_its_claims(database: TestDatabase) -> None:
    """And is in their way through every other service."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna"])
    hold = database.reserve(10, resource_id="anna").id
    database.make_service(capacity=2, resource_ids=["bert"])
    assert database.reserve(10, resource_id="anna").name == "resource_not_found"
    assert database.reserve(10, service_id="perm").name == "slot_unavailable"
    assert database.commit(hold).body["resource_id"] == "anna"


# Expiry, commit and rebook.


@pytest.mark.parametrize("size", [1, 2])
def test_an_expired_hold_gives_its_resource_to_another_service_for_good(database: TestDatabase, size: int) -> None:
    """Without any purge; what was given away stays dead whatever the clock does next, and is found dead everywhere."""
    for service_id in ("cut", "perm"):
        database.make_service(service_id, resource_ids=["anna"])
    now = database.freeze_clock()
    dead = database.reserve(10).id
    database.freeze_clock(now + TTL)
    requests = [reserve_request(10.5, service_id="perm") for _ in range(size)]
    assert names(database.call("reserve", requests)) == ["done"] + ["slot_unavailable"] * (size - 1)
    database.freeze_clock(now)
    assert database.status(dead) == "expired"
    assert database.commit(dead).name == "reservation_expired"
    assert database.commit(dead, if_expired="rebook").name == "slot_unavailable"


@pytest.mark.parametrize("size", [1, 2])
def test_an_expired_hold_of_any_of_a_pool_ends_with_its_resource_given_away(database: TestDatabase, size: int) -> None:
    """Whoever asked for anybody is given the last of them, whose expired hold is then dead whatever the clock does."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["bert"])
    dead = database.reserve(10, service_id="perm").id
    database.move_clock(TTL)
    database.book(10, resource_id="anna")
    outcomes = database.call("reserve", [reserve_request(10) for _ in range(size)])
    assert resources(outcomes) == ["bert"]
    assert database.status(dead) == "expired"


def test_a_commit_keeps_the_resource(database: TestDatabase) -> None:
    """Whatever became of the resource meanwhile."""
    database.make_service(resource_ids=["anna", "bert"])
    holds = [database.reserve(10, resource_id=resource_id) for resource_id in ("bert", "anna")]
    archive(database, "bert")
    outcomes = database.call("commit", [commit_request(hold.id) for hold in holds])
    assert resources(outcomes) == ["bert", "anna"]
    assert database.reserve(10).name == "slot_unavailable"


@pytest.fixture
def expired(database: TestDatabase) -> str:
    """A hold of Anna at ten that has just expired."""
    database.make_service(resource_ids=["anna", "bert"])
    database.make_service("perm", resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    hold = database.reserve(10, resource_id="anna").id
    database.freeze_clock(now + TTL)
    return hold


def test_a_rebook_wants_the_resource_that_it_had(database: TestDatabase, expired: str) -> None:
    """The guest was promised Anna."""
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("done", "anna")


def test_a_rebook_is_refused_when_the_resource_is_taken(database: TestDatabase, expired: str) -> None:
    """Through whichever service; that another one is free is for the caller to decide, who is told what it was."""
    rival = database.reserve(10.5, service_id="perm", resource_id="anna").id
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("slot_unavailable", "anna")
    assert database.status(rival) == "held"
    database.release(rival)
    assert database.commit(expired, if_expired="rebook").name == "done"


def test_a_rebook_of_any_resource_takes_whoever_is_free(database: TestDatabase) -> None:
    """The one that it had, or another one; refused it is when nobody is left, and names none."""
    database.make_service(resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    holds = [database.reserve(10).id, database.reserve(10).id]
    database.freeze_clock(now + TTL)
    database.book(10, resource_id="anna")
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in holds])
    assert names(outcomes) == ["done", "slot_unavailable"]
    assert (outcomes[0].body["resource_id"], outcomes[1].body["resource_id"]) == ("bert", None)
    assert database.rows("SELECT resource_id FROM booking.reservations ORDER BY resource_id") == [("anna",), ("bert",)]


def test_a_rebook_is_refused_when_the_resource_is_gone(database: TestDatabase, expired: str) -> None:
    """It would be a new claim of somebody who is not there any more."""
    archive(database, "anna")
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"
    database.make_resource("anna")
    assert database.commit(expired, if_expired="rebook").name == "done"


def test_a_rebook_of_a_resource_is_refused_when_the_service_has_none_any_more(
    database: TestDatabase, expired: str
) -> None:
    """There is room, and the guest was promised Anna."""
    database.put_service(capacity=2)
    assert database.commit(expired, if_expired="rebook").name == "slot_unavailable"


def test_a_rebook_of_two_is_refused_when_the_service_has_resources_by_now(database: TestDatabase) -> None:
    """A claim has one resource, and a half of what was promised is not what was promised."""
    database.make_service(capacity=2)
    hold = database.reserve(10, quantity=2).id
    database.move_clock(TTL)
    database.make_service(resource_ids=["anna", "bert"])
    assert database.commit(hold, if_expired="rebook").name == "slot_unavailable"


def test_a_rebook_is_not_bound_by_closures(database: TestDatabase, expired: str) -> None:
    """The guest has paid: whether Anna comes in for it is for her and the guest to talk about."""
    database.put_closure("ill", at(0), at(24), "anna")
    outcome = database.commit(expired, if_expired="rebook")
    assert (outcome.name, outcome.body["resource_id"]) == ("done", "anna")


def test_rebooks_of_one_resource_in_one_batch_are_decided_in_order(database: TestDatabase, expired: str) -> None:
    """Two services, one Anna: first come, first served, though the other one came through another service."""
    other = database.reserve(10, service_id="perm", resource_id="anna").id
    database.move_clock(TTL)
    outcomes = database.call("commit", [commit_request(hold, if_expired="rebook") for hold in (other, expired)])
    assert names(outcomes) == ["done", "slot_unavailable"]


# The backstop.


def test_the_table_itself_refuses_to_put_a_resource_in_two_places(database: TestDatabase) -> None:
    """Whoever goes around the verbs, by INSERT or by UPDATE, meets the exclusion constraint."""
    database.make_service(resource_ids=["anna", "bert"])
    first = database.book(10, resource_id="anna").id
    second = database.book(10, resource_id="bert").id
    attempts = [
        "INSERT INTO booking.appointments SELECT (jsonb_populate_record(a, jsonb_build_object('appointment_id', "
        "gen_random_uuid()))).* FROM booking.appointments a WHERE appointment_id = %(first)s",
        "UPDATE booking.appointments SET resource_id = 'anna' WHERE appointment_id = %(second)s",
    ]
    for attempt in attempts:
        with pytest.raises(psycopg.errors.ExclusionViolation) as raised:
            database.admin.execute(attempt.encode(), {"first": first, "second": second})
        assert raised.value.sqlstate == "23P01"
    database.change(second, action="cancel")
    database.admin.execute(attempts[1].encode(), {"second": second})


def test_a_whole_day_may_be_moved_in_one_statement(database: TestDatabase) -> None:
    """Ten to eleven and eleven to twelve, an hour later: each would be in the other's way for a moment."""
    database.make_service(resource_ids=["anna"])
    for hour in (10, 11, 12):
        assert database.book(hour).name == "done"
    database.rows(
        "UPDATE booking.appointments SET slot_start = slot_start + '1 hour'::interval, "
        "slot_end = slot_end + '1 hour'::interval, "
        "occupied = tstzrange(lower(occupied) + '1 hour'::interval, upper(occupied) + '1 hour'::interval)"
    )
    database.recount()
    assert database.reserve(10).name == "done"
    assert database.reserve(13).name == "slot_unavailable"


# How far back a search reaches.


def reach(database: TestDatabase, resource_id: str = "anna") -> int:
    """How far the search for claims of a resource reaches back, in seconds."""
    seconds: int = database.value(
        "SELECT longest_occupied_seconds FROM booking.resources WHERE resource_id = %s", resource_id
    )
    return seconds


@pytest.mark.parametrize("way", ["held", "booked", "moved", "in the same batch"])
def test_a_long_claim_of_a_resource_is_seen_from_deep_inside_it(database: TestDatabase, way: str) -> None:
    """Made long before, through another service, whose own claims are all short."""
    database.make_service(resource_ids=["anna"])
    database.make_service("retreat", resource_ids=["anna"])
    assert database.reserve(-5).name == "done"
    inside = reserve_request(24 * 20 - 1)
    if way == "held":
        assert database.reserve(0, 24 * 20, service_id="retreat").name == "done"
    elif way == "booked":
        assert database.book(0, 24 * 20, service_id="retreat").name == "done"
    elif way == "moved":
        moved = database.book(0, service_id="retreat").id
        assert database.change(moved, set={"slot_end": at(24 * 20).isoformat()}).name == "done"
    else:
        outcomes = database.call("reserve", [reserve_request(0, 24 * 20, service_id="retreat"), inside])
        assert names(outcomes) == ["done", "slot_unavailable"]
    assert database.call("reserve", [inside])[0].name == "slot_unavailable"
    assert database.reserve(24 * 20).name == "done"


def test_only_a_claim_that_is_made_lengthens_the_search(database: TestDatabase) -> None:
    """That of its resource, with its buffers. What is refused costs nobody anything, and nothing shortens it."""
    database.make_service(resource_ids=["anna", "bert"], buffer_after_minutes=30)
    database.reserve(10, 2, resource_id="anna")
    assert (reach(database), reach(database, "bert")) == (9000, 0)
    database.reserve(15, 1, resource_id="anna")
    assert database.reserve(0, 24 * 30, resource_id="anna").name == "slot_unavailable"
    assert names(database.call("reserve", [reserve_request(0, 24 * 30, resource_id="anna") for _ in range(2)])) == [
        "slot_unavailable",
        "slot_unavailable",
    ]
    assert (reach(database), reach(database, "bert")) == (9000, 0)
