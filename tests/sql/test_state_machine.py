"""Whatever is done in whatever order, the verbs do what a simple model does, and the invariants hold at each step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.database import (
    NO_DEADLINE,
    Outcome,
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
    reserve_request,
)
from tests.sql.asking import names
from tests.sql.model import MAX_LIFETIME, MAX_TTL, MINUTE, TTL, Hold, Model, Wish, in_order_of_windows

RETENTION = timedelta(hours=1)
# So early that no slot is past, however far the clock moves.
BEGINNING = at(-48)
CAPACITY = 2
BUFFERS = {"plain": timedelta(0), "buffered": 10 * MINUTE, "cut": timedelta(0), "perm": 10 * MINUTE}
# Two services share two resources.
RESOURCES = ("anna", "bert")
POOLS = {"cut": RESOURCES, "perm": RESOURCES}

# Few values, so that claims meet: two hours of one morning; now and then somebody wants two days.
services = st.sampled_from(["plain", "buffered", "cut", "cut", "perm"])
starts = st.sampled_from([at(10), at(11)])
ttls = st.sampled_from([15, 90])
asked = st.fixed_dictionaries(
    {
        "service_id": services,
        "start": starts,
        "minutes": st.sampled_from([60, 60, 60, 60, 120, 48 * 60]),
        # Where there is no pool.
        "quantity": st.sampled_from([1, 1, 2]),
        # Where there is one.
        "resource_id": st.sampled_from([None, None, *RESOURCES]),
        "ttl_minutes": st.none() | ttls,
    }
)
# What is to be changed of an appointment; None is left as it is, and "any" is any resource.
changes = st.fixed_dictionaries(
    {
        "start": st.none() | starts,
        "minutes": st.sampled_from([None, None, 60, 120]),
        "quantity": st.sampled_from([None, None, 1, 2]),
        "resource_id": st.sampled_from([None, None, "any", *RESOURCES]),
    }
)


def wish_of(request: dict[str, Any]) -> Wish:
    """What a request asks room for."""
    buffer = BUFFERS[request["service_id"]]
    end = request["start"] + request["minutes"] * MINUTE
    pool = POOLS.get(request["service_id"])
    named = (request["resource_id"],) if request["resource_id"] else pool
    quantity = 1 if pool else request["quantity"]
    return Wish(request["service_id"], request["start"] - buffer, end + buffer, quantity, pool and named)


def as_sent(
    request: dict[str, Any], key: str | None = None, make: Callable[..., dict[str, Any]] = reserve_request
) -> dict[str, Any]:
    """A request as booking.reserve or booking.book takes it."""
    end = request["start"] + request["minutes"] * MINUTE
    return make(
        service_id=request["service_id"],
        slot_start=request["start"].isoformat(),
        slot_end=end.isoformat(),
        quantity=wish_of(request).quantity,
        resource_id=request["resource_id"] if request["service_id"] in POOLS else None,
        ttl_minutes=request["ttl_minutes"],
        idempotency_key=key,
        fingerprint=repr(request),
    )


def given(outcome: Outcome) -> str | None:
    """The resource that somebody got."""
    resource_id: str | None = outcome.body.get("resource_id") if outcome.name == "done" else None
    return resource_id


class Reservations(RuleBasedStateMachine):
    """One business in the database, and its model."""

    holds = Bundle("holds")
    appointments = Bundle("appointments")

    def __init__(self, database: TestDatabase) -> None:
        super().__init__()
        self.database = database
        self.business_id = f"b{uuid4().hex}"
        self.model = Model(database.freeze_clock(BEGINNING), dict.fromkeys(BUFFERS, CAPACITY))
        # What was asked under a key, and which hold it got.
        self.keys: dict[str, tuple[str, str]] = {}
        for resource_id in RESOURCES:
            database.make_resource(resource_id, business_id=self.business_id)
        for service_id in BUFFERS:
            assert self.put_service(service_id, CAPACITY).name == "created"

    def put_service(self, service_id: str, capacity: int) -> Outcome:
        """Puts a service with the settings that the model knows."""
        minutes = BUFFERS[service_id] // MINUTE
        return self.database.put_service(
            service_id,
            business_id=self.business_id,
            capacity=capacity,
            buffer_before_minutes=minutes,
            buffer_after_minutes=minutes,
            hold_ttl_minutes=TTL // MINUTE,
            max_hold_ttl_minutes=MAX_TTL // MINUTE,
            max_hold_lifetime_minutes=MAX_LIFETIME // MINUTE,
            resource_ids=POOLS.get(service_id, ()),
        )

    def call(self, verb: str, requests: list[dict[str, Any]]) -> list[Outcome]:
        """Calls a verb for this business."""
        return self.database.call(verb, requests, business_id=self.business_id)

    @initialize(claims=st.lists(st.tuples(asked, st.booleans()), max_size=4))
    def begin(self, claims: list[tuple[dict[str, Any], bool]]) -> None:
        """With some claims, held or booked, to have something in the way from the start."""
        for request, is_booked in claims:
            hold = self.reserve(request, None)
            if is_booked and isinstance(hold, str):
                self.commit(hold, rebook=False)

    def decide(
        self, requests: list[dict[str, Any]], verb: str, sent: list[dict[str, Any]], outcomes: list[Outcome]
    ) -> None:
        """Lets the model decide a batch, in which each window sees what the ones before it were granted."""
        expected = [""] * len(requests)
        for place in in_order_of_windows(map(wish_of, requests)):
            name, wish, resource_id = sent[place]["operation_id"], wish_of(requests[place]), given(outcomes[place])
            if verb == "reserve":
                expected[place] = self.model.reserve(name, wish, ttl_of(requests[place]), resource_id)
            else:
                expected[place] = self.model.book(name, wish, resource_id)
        assert names(outcomes) == expected

    @rule(target=holds, request=asked, key=st.sampled_from([None, None, "k", "l"]))
    def reserve(self, request: dict[str, Any], key: str | None) -> Any:
        """One request, with or without a key."""
        sent = as_sent(request, key)
        [outcome] = self.call("reserve", [sent])
        known = self.keys.get(key or "")
        if known and known[1] in self.model.holds:
            assert outcome.name == ("replayed" if known[0] == sent["fingerprint"] else "idempotency_key_reused")
            assert outcome.name != "replayed" or self.seen(outcome) == known[1]
            return multiple()
        self.decide([request], "reserve", [sent], [outcome])
        if outcome.name != "done":
            return multiple()
        if key:
            self.keys[key] = (sent["fingerprint"], outcome.id)
        return self.seen(outcome)

    @rule(target=holds, requests=st.lists(asked, min_size=2, max_size=4))
    def reserve_many(self, requests: list[dict[str, Any]]) -> Any:
        """A batch."""
        sent = [as_sent(request) for request in requests]
        outcomes = self.call("reserve", sent)
        self.decide(requests, "reserve", sent, outcomes)
        return multiple(*(self.seen(outcome) for outcome in outcomes if outcome.name == "done"))

    @rule(target=appointments, requests=st.lists(asked, min_size=1, max_size=4))
    def book(self, requests: list[dict[str, Any]]) -> Any:
        """Without a hold, one or many."""
        sent = [as_sent(request, make=book_request) for request in requests]
        outcomes = self.call("book", sent)
        self.decide(requests, "book", sent, outcomes)
        return multiple(*(outcome.id for outcome in outcomes if outcome.name == "done"))

    @rule(appointment=appointments, batch=st.lists(changes, min_size=1, max_size=3))
    def change(self, appointment: str, batch: list[dict[str, Any]]) -> None:
        """To another hour, to somebody else, more or less of it: what it was stays where a change names nothing."""
        self.change_many([(appointment, asked) for asked in batch])

    @rule(first=appointments, second=appointments, batch=st.lists(changes, min_size=2, max_size=2))
    def change_two(self, first: str, second: str, batch: list[dict[str, Any]]) -> None:
        """The second sees what became of the first."""
        self.change_many(list(zip((first, second), batch, strict=True)))

    def change_many(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        """Calls the verb with a batch, and lets the model decide it in its order."""
        sets = [as_set(self.model.appointments[appointment].wish, asked) for appointment, asked in batch]
        sent = [
            change_request(appointment, set=in_json(wanted))
            for (appointment, _), wanted in zip(batch, sets, strict=True)
        ]
        for (appointment, _), wanted, outcome in zip(batch, sets, self.call("change", sent), strict=True):
            wish = moved(self.model.appointments[appointment].wish, wanted)
            assert outcome.name == self.model.move(appointment, wish, given(outcome))

    @rule(appointment=appointments)
    def cancel(self, appointment: str) -> None:
        """Once or again."""
        outcome = self.database.change(appointment, action="cancel", business_id=self.business_id)
        assert outcome.name == self.model.cancel(appointment)
        assert (outcome.body["status"], outcome.body["version"]) == (
            "cancelled",
            self.model.appointments[appointment].version,
        )

    def seen(self, outcome: Outcome) -> str:
        """Compares a hold as it was shown with the model, and returns its id."""
        hold = self.model.holds[outcome.id]
        status = "expired" if hold.status == "held" and not self.model.is_live(hold) else hold.status
        expires_at = datetime.fromisoformat(outcome.body["expires_at"])
        assert (outcome.body["status"], outcome.body["version"], expires_at) == (status, hold.version, hold.expires_at)
        return outcome.id

    @rule(target=appointments, hold=holds, rebook=st.booleans())
    def commit(self, hold: str, rebook: bool) -> Any:
        """One hold, or the slot of one that has expired."""
        return self.commit_many([hold], rebook)

    @rule(target=appointments, committed=st.lists(holds, min_size=2, max_size=4), rebook=st.booleans())
    def commit_many(self, committed: list[str], rebook: bool) -> Any:
        """Several, perhaps the same one twice. Those that are rebooked come after all others."""
        if_expired = "rebook" if rebook else None
        sent = [commit_request(hold, if_expired=if_expired) for hold in committed]
        outcomes = self.call("commit", sent)
        expected = [""] * len(committed)
        for place in self.order_of_commits(committed, rebook):
            expected[place] = self.model.commit(
                committed[place], sent[place]["operation_id"], given(outcomes[place]), rebook=rebook
            )
        assert names(outcomes) == expected
        for hold, outcome in zip(committed, outcomes, strict=True):
            assert outcome.name not in ("done", "replayed") or outcome.body["reservation_id"] == hold
        return multiple(*(outcome.id for outcome in outcomes if outcome.name == "done"))

    @rule(target=appointments, request=asked, rivals=st.lists(asked, max_size=2), minutes=st.sampled_from([15, 60]))
    def pay_late(self, request: dict[str, Any], rivals: list[dict[str, Any]], minutes: int) -> Any:
        """A hold that expires before it is committed, and those who come meanwhile."""
        hold = self.reserve(request, None)
        if not isinstance(hold, str):
            return multiple()
        # What expired holds the reserve has ended, it has ended now, and not when the clock has moved on.
        self.what_is_stored_is_what_the_model_has()
        self.time_passes(minutes)
        for rival in rivals:
            self.reserve(rival, None)
        return self.commit(hold, rebook=True)

    def order_of_commits(self, committed: list[str], rebook: bool) -> list[int]:
        """What lives is committed as it came; what has expired is decided like a batch of wishes."""
        places = range(len(committed))
        known = {place: self.model.holds.get(committed[place]) for place in places}
        expired = [place for place in places if rebook and self.has_expired(known[place])]
        wishes = [hold.asked for place in expired if (hold := known[place])]
        others = [place for place in places if place not in expired]
        return others + [expired[place] for place in in_order_of_windows(wishes)]

    def has_expired(self, hold: Hold | None) -> bool:
        """Whether a hold is expired, by its state or by the clock."""
        return hold is not None and hold.status in ("held", "expired") and not self.model.is_live(hold)

    @rule(hold=holds)
    def release(self, hold: str) -> None:
        """Gives a hold up."""
        outcome = self.database.release(hold, business_id=self.business_id)
        assert outcome.name == self.model.release(hold)

    @rule(hold=holds, ttl_minutes=ttls)
    def extend(self, hold: str, ttl_minutes: int) -> None:
        """Lets a hold live longer."""
        outcome = self.database.extend(hold, ttl_minutes, business_id=self.business_id)
        assert outcome.name == self.model.extend(hold, ttl_minutes * MINUTE)
        if outcome.name == "done":
            self.seen(outcome)

    @rule(minutes=st.sampled_from([15, 15, 60]))
    def time_passes(self, minutes: int) -> None:
        """As long as a hold lives, more, or less."""
        self.model.now = self.database.freeze_clock(self.model.now + minutes * MINUTE)

    @rule(minutes=st.sampled_from([1, 15, 15, 15]))
    def the_clock_steps_back(self, minutes: int) -> None:
        """As a failover may do."""
        self.model.now = self.database.freeze_clock(self.model.now - minutes * MINUTE)

    @rule()
    def purge(self) -> None:
        """Which nothing depends on."""
        query = "SELECT expired, deleted FROM booking.purge(%s, %s, 1000, %s)"
        assert self.database.rows(query, [self.business_id], RETENTION, NO_DEADLINE) == [self.model.purge(RETENTION)]

    @rule(service_id=services, capacity=st.sampled_from([1, 2, 3]))
    def change_the_capacity(self, service_id: str, capacity: int) -> None:
        """Never below what is claimed."""
        outcome = self.put_service(service_id, capacity)
        if in_the_way := self.model.first_above(service_id, capacity):
            assert outcome.name == "capacity_in_use"
            assert (datetime.fromisoformat(outcome.body["slot_start"]), outcome.body["claimed"]) == in_the_way
        else:
            assert outcome.name == "done"
            self.model.capacity[service_id] = capacity

    @rule(request=asked)
    def look(self, request: dict[str, Any]) -> None:
        """What is shown as free is what would be granted."""
        wish = wish_of({**request, "resource_id": None})
        end = request["start"] + request["minutes"] * MINUTE
        room = self.database.value(
            "SELECT booking.capacity(%s, %s, %s, %s)", self.business_id, wish.service_id, request["start"], end
        )
        peak, capacity = self.model.peak(wish), self.model.capacity[wish.service_id]
        left = capacity - peak if wish.pool is None else min(capacity - peak, len(self.model.free(wish)))
        assert (room["held"] + room["booked"], room["available"]) == (peak, left)

    @invariant()
    def what_is_stored_is_what_the_model_has(self) -> None:
        """Reservations by their state, version and expiry; appointments by all that matters; and none too many."""
        rows = self.database.rows(
            "SELECT reservation_id, status, version, expires_at FROM booking.reservations WHERE business_id = %s",
            self.business_id,
        )
        for reservation_id, status, *_ in rows:
            # When an expiry is acted on is up to the verbs: whenever it is true that it has expired.
            hold = self.model.holds[str(reservation_id)]
            if status == "expired" and not self.model.is_live(hold):
                self.model.end(hold, "expired")
        stored = {str(reservation_id): tuple(rest) for reservation_id, *rest in rows}
        assert stored == {name: (hold.status, hold.version, hold.expires_at) for name, hold in self.model.holds.items()}
        booked = self.database.rows(
            "SELECT appointment_id::text, reservation_id::text, status, version, service_id, lower(occupied), "
            "upper(occupied), quantity, resource_id FROM booking.appointments WHERE business_id = %s",
            self.business_id,
        )
        assert sorted(booked) == sorted(
            (name, one.hold_id, one.status, one.version, *place_of(one.wish))
            for name, one in self.model.appointments.items()
        )

    @invariant()
    def no_invariant_is_violated(self) -> None:
        """By the views, and by counting."""
        assert self.database.violations() == {}
        for service_id, capacity in self.model.capacity.items():
            assert self.model.first_above(service_id, capacity) is None
        claims = [claim for claim in self.model.claims() if claim.pool is not None]
        for place, claim in enumerate(claims):
            others = [other for other in claims[:place] if other.pool == claim.pool]
            assert not [other for other in others if other.overlaps(claim.start, claim.end)]

    def teardown(self) -> None:
        """Leaves nothing for the next example, nor for the check after the test."""
        tables = (
            "audit_logs",
            "appointments",
            "reservations",
            "occupancy",
            "service_resources",
            "services",
            "resources",
            "businesses",
        )
        for table in tables:
            self.database.rows(f"DELETE FROM booking.{table} WHERE business_id = %s", self.business_id)  # noqa: S608


def as_set(claim: Wish, asked: dict[str, Any]) -> dict[str, Any]:
    """A change of a claim in the members of booking.change. A start alone keeps the length."""
    start = asked["start"] or claim.start + BUFFERS[claim.service_id]
    wanted: dict[str, Any] = {}
    if asked["start"] or asked["minutes"]:
        wanted["slot_start"] = start
    if asked["minutes"]:
        wanted["slot_end"] = start + asked["minutes"] * MINUTE
    if asked["quantity"] and not claim.pool:
        wanted["quantity"] = asked["quantity"]
    if asked["resource_id"] and claim.pool:
        wanted["resource_id"] = None if asked["resource_id"] == "any" else asked["resource_id"]
    return wanted


def in_json(wanted: dict[str, Any]) -> dict[str, Any]:
    """The members of a change as they are sent."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}


def moved(claim: Wish, wanted: dict[str, Any]) -> Wish:
    """A claim as a change would have it, with its buffers."""
    buffer = BUFFERS[claim.service_id]
    start = wanted["slot_start"] - buffer if "slot_start" in wanted else claim.start
    end = wanted["slot_end"] + buffer if "slot_end" in wanted else start + (claim.end - claim.start)
    pool = claim.pool
    if "resource_id" in wanted:
        pool = (wanted["resource_id"],) if wanted["resource_id"] else RESOURCES
    return replace(claim, start=start, end=end, quantity=wanted.get("quantity", claim.quantity), pool=pool)


def place_of(claim: Wish) -> tuple[Any, ...]:
    """What a claim occupies."""
    return claim.service_id, claim.start, claim.end, claim.quantity, claim.pool[0] if claim.pool else None


def ttl_of(request: dict[str, Any]) -> timedelta | None:
    """How long a request wants to hold."""
    minutes = request["ttl_minutes"]
    return None if minutes is None else minutes * MINUTE


def test_the_verbs_do_what_the_model_does(database: TestDatabase) -> None:
    """Random histories; what is found is shrunk to the few steps that it takes."""
    newest = database.admin.info.server_version >= 180_000

    class ReservationsHere(Reservations):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        ReservationsHere,
        settings=settings(
            max_examples=80 if newest else 20,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
