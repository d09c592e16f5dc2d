"""Random sequences of verbs have the outcomes of a simple model, and the invariants hold after each step."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from tests.database import (
    NO_DEADLINE,
    Outcome,
    TestDatabase,
    at,
    book_request,
    change_request,
    commit_request,
)
from tests.sql.drawn_requests import (
    BUFFERS,
    POOLS,
    RESOURCES,
    claim_of,
    drawn_changes,
    drawn_claims,
    rarely,
    services,
    to_request,
    ttls,
)
from tests.sql.model import MAX_LIFETIME, MAX_TTL, MINUTE, TTL, Claim, Hold, Model, in_order_of_windows
from tests.sql.random_examples import run_random_steps
from tests.sql.requests import names

RETENTION = timedelta(hours=1)
# The clock stays between the past slots and the others, however far it moves.
PAST, BEGINNING = at(-80), at(-48)
CAPACITY = 2


def granted_resource(outcome: Outcome) -> str | None:
    """Returns the resource that a request was granted, if any."""
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
        # The fingerprint of the request that used a key first, and its hold.
        self.keys: dict[str, tuple[str, str]] = {}
        for resource_id in RESOURCES:
            database.make_resource(resource_id, business_id=self.business_id)
        for service_id in BUFFERS:
            assert self.put_service(service_id, CAPACITY).name == "created"

    def put_service(self, service_id: str, capacity: int) -> Outcome:
        """Puts a service with the settings of the model."""
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

    @initialize(claims=st.lists(st.tuples(drawn_claims, st.booleans()), max_size=4))
    def make_initial_claims(self, claims: list[tuple[dict[str, Any], bool]]) -> None:
        """Makes some holds and bookings, so that the first steps already meet claims."""
        for request, is_booked in claims:
            hold = self.reserve(request, None)
            if is_booked and isinstance(hold, str):
                self.commit(hold, rebook=False)

    def check_batch(
        self, requests: list[dict[str, Any]], verb: str, sent: list[dict[str, Any]], outcomes: list[Outcome]
    ) -> None:
        """Lets the model decide a batch window by window, and compares the outcomes."""
        expected = [""] * len(requests)
        for place in in_order_of_windows(map(claim_of, requests)):
            name, requested = sent[place]["operation_id"], claim_of(requests[place])
            resource_id = granted_resource(outcomes[place])
            if verb == "reserve":
                expected[place] = self.model.reserve(name, requested, ttl_of(requests[place]), resource_id)
            else:
                expected[place] = self.model.book(name, requested, resource_id)
        assert names(outcomes) == expected

    @rule(target=holds, request=drawn_claims, key=st.sampled_from([None, None, "k", "l"]))
    def reserve(self, request: dict[str, Any], key: str | None) -> Any:
        """Reserves one slot, with or without a key."""
        sent = to_request(request, key)
        [outcome] = self.call("reserve", [sent])
        known = self.keys.get(key or "")
        if known and known[1] in self.model.holds:
            assert outcome.name == ("replayed" if known[0] == sent["fingerprint"] else "idempotency_key_reused")
            assert outcome.name != "replayed" or self.check_hold(outcome) == known[1]
            return multiple()
        self.check_batch([request], "reserve", [sent], [outcome])
        if outcome.name != "done":
            return multiple()
        if key:
            self.keys[key] = (sent["fingerprint"], outcome.id)
        return self.check_hold(outcome)

    @rule(target=holds, requests=st.lists(drawn_claims, min_size=2, max_size=4))
    def reserve_many(self, requests: list[dict[str, Any]]) -> Any:
        """Reserves a batch."""
        sent = [to_request(request) for request in requests]
        outcomes = self.call("reserve", sent)
        self.check_batch(requests, "reserve", sent, outcomes)
        return multiple(*(self.check_hold(outcome) for outcome in outcomes if outcome.name == "done"))

    @rule(target=appointments, requests=st.lists(drawn_claims, min_size=1, max_size=4))
    def book(self, requests: list[dict[str, Any]]) -> Any:
        """Books one or more slots without a hold."""
        sent = [to_request(request, make=book_request) for request in requests]
        outcomes = self.call("book", sent)
        self.check_batch(requests, "book", sent, outcomes)
        return multiple(*(outcome.id for outcome in outcomes if outcome.name == "done"))

    @rule(target=appointments, request=drawn_claims, minutes=st.sampled_from([60, 120]))
    def book_the_past(self, request: dict[str, Any], minutes: int) -> Any:
        """Books a slot that is over on behalf of the business: the service has room, its resources may have none."""
        past = {**request, "start": PAST, "minutes": minutes}
        sent = to_request(past, make=book_request) | {"manual": True}
        [outcome] = self.call("book", [sent])
        self.check_batch([past], "book", [sent], [outcome])
        return outcome.id if outcome.name == "done" else multiple()

    @rule(appointment=appointments, status=st.sampled_from(["completed", "no_show", "confirmed"]), is_stale=rarely)
    def set_status(self, appointment: str, status: str, is_stale: bool) -> None:
        """Ends an appointment, or takes it back."""
        self.change_version(appointment, is_stale, self.model.set_status, status, set={"status": status})

    @rule(
        target=appointments,
        request=drawn_claims,
        rivals=st.lists(drawn_claims, max_size=2),
        status=st.sampled_from(["completed", "no_show"]),
    )
    def take_back(self, request: dict[str, Any], rivals: list[dict[str, Any]], status: str) -> Any:
        """Ends an appointment and takes it back, with other bookings in between, which may have its resource."""
        booked = self.book_the_past(request, 60)
        if not isinstance(booked, str):
            return multiple()
        self.set_status(booked, status, is_stale=False)
        others = [self.book_the_past(rival, 60) for rival in rivals]
        self.set_status(booked, "confirmed", is_stale=False)
        return multiple(booked, *(other for other in others if isinstance(other, str)))

    @rule(appointment=appointments, is_stale=rarely)
    def erase(self, appointment: str, is_stale: bool) -> None:
        """Erases the guest's data of an appointment."""
        self.change_version(appointment, is_stale, self.model.erase, action="erase")

    def change_version(
        self, appointment: str, is_stale: bool, decide: Callable[..., str], *drawn: str, **request: Any
    ) -> None:
        """Changes an appointment as it was read, or was before its last change, and compares the outcome."""
        version = self.model.appointments[appointment].version - is_stale
        outcome = self.database.change(appointment, expected_version=version, business_id=self.business_id, **request)
        assert outcome.name == ("version_conflict" if is_stale else decide(appointment, *drawn))

    @rule(appointment=appointments, batch=st.lists(drawn_changes, min_size=1, max_size=3))
    def change(self, appointment: str, batch: list[dict[str, Any]]) -> None:
        """Changes an appointment one to three times: start, length, quantity or resource."""
        self.change_many([(appointment, change) for change in batch])

    @rule(first=appointments, second=appointments, batch=st.lists(drawn_changes, min_size=2, max_size=2))
    def change_two(self, first: str, second: str, batch: list[dict[str, Any]]) -> None:
        """Changes two appointments in a batch, which may be the same one."""
        self.change_many(list(zip((first, second), batch, strict=True)))

    @rule(appointment=appointments, service_id=services, change=drawn_changes)
    def change_service(self, appointment: str, service_id: str, change: dict[str, Any]) -> None:
        """Changes the service of an appointment, which may be the one that it has, and more of it."""
        self.change_many([(appointment, {**change, "service_id": service_id})])

    def change_many(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        """Changes appointments in a batch, and compares the outcomes with the model, in the order of the batch."""
        sets = [changed_members(self.model.appointments[appointment].claim, change) for appointment, change in batch]
        sent = [
            change_request(appointment, set=to_json(members))
            for (appointment, _), members in zip(batch, sets, strict=True)
        ]
        for (appointment, _), members, outcome in zip(batch, sets, self.call("change", sent), strict=True):
            requested = changed_claim(self.model.appointments[appointment].claim, members)
            assert outcome.name == self.model.move(appointment, requested, granted_resource(outcome))

    @rule(appointment=appointments)
    def cancel(self, appointment: str) -> None:
        """Cancels an appointment, which may be cancelled already."""
        outcome = self.database.change(appointment, action="cancel", business_id=self.business_id)
        assert outcome.name == self.model.cancel(appointment)
        if outcome.name == "done":
            version = self.model.appointments[appointment].version
            assert (outcome.body["status"], outcome.body["version"]) == ("cancelled", version)

    def check_hold(self, outcome: Outcome) -> str:
        """Compares a hold in an outcome with the model, and returns its id."""
        hold = self.model.holds[outcome.id]
        status = "expired" if hold.status == "held" and not self.model.is_live(hold) else hold.status
        expires_at = datetime.fromisoformat(outcome.body["expires_at"])
        assert (outcome.body["status"], outcome.body["version"], expires_at) == (status, hold.version, hold.expires_at)
        return outcome.id

    @rule(target=appointments, hold=holds, rebook=st.booleans())
    def commit(self, hold: str, rebook: bool) -> Any:
        """Commits one hold, with or without rebook."""
        return self.commit_many([hold], rebook)

    @rule(target=appointments, committed=st.lists(holds, min_size=2, max_size=4), rebook=st.booleans())
    def commit_many(self, committed: list[str], rebook: bool) -> Any:
        """Commits several holds, of which some may be equal. Rebooks are decided after all other commits."""
        if_expired = "rebook" if rebook else None
        sent = [commit_request(hold, if_expired=if_expired) for hold in committed]
        outcomes = self.call("commit", sent)
        expected = [""] * len(committed)
        for place in self.order_of_commits(committed, rebook):
            expected[place] = self.model.commit(
                committed[place], sent[place]["operation_id"], granted_resource(outcomes[place]), rebook=rebook
            )
        assert names(outcomes) == expected
        for hold, outcome in zip(committed, outcomes, strict=True):
            if outcome.name == "done":
                assert outcome.body["reservation_id"] == hold
            elif outcome.name == "replayed" and outcome.body.keys() != {"appointment_id", "status"}:
                # The purge had not deleted the hold.
                assert outcome.body["reservation_id"] == hold
        return multiple(*(outcome.id for outcome in outcomes if outcome.name == "done"))

    @rule(
        target=appointments,
        request=drawn_claims,
        rivals=st.lists(drawn_claims, max_size=2),
        minutes=st.sampled_from([15, 60]),
    )
    def commit_after_expiry(self, request: dict[str, Any], rivals: list[dict[str, Any]], minutes: int) -> Any:
        """Rebooks a hold after its expiry, with other reserves in between."""
        hold = self.reserve(request, None)
        if not isinstance(hold, str):
            return multiple()
        # Expired holds that the reserve ended have to be noted in the model before the clock moves.
        self.stored_rows_equal_the_model()
        self.advance_clock(minutes)
        for rival in rivals:
            self.reserve(rival, None)
        return self.commit(hold, rebook=True)

    def order_of_commits(self, committed: list[str], rebook: bool) -> list[int]:
        """Returns the order in which commits are decided: first live holds, then expired ones window by window."""
        places = range(len(committed))
        known = {place: self.model.holds.get(committed[place]) for place in places}
        expired = [place for place in places if rebook and self.has_expired(known[place])]
        claims = [hold.requested for place in expired if (hold := known[place])]
        others = [place for place in places if place not in expired]
        return others + [expired[place] for place in in_order_of_windows(claims)]

    def has_expired(self, hold: Hold | None) -> bool:
        """Returns whether a hold is expired, by its state or by the clock."""
        return hold is not None and hold.status in ("held", "expired") and not self.model.is_live(hold)

    @rule(hold=holds)
    def release(self, hold: str) -> None:
        """Releases a hold."""
        outcome = self.database.release(hold, business_id=self.business_id)
        assert outcome.name == self.model.release(hold)

    @rule(hold=holds, ttl_minutes=ttls)
    def extend(self, hold: str, ttl_minutes: int) -> None:
        """Extends a hold."""
        outcome = self.database.extend(hold, ttl_minutes, business_id=self.business_id)
        assert outcome.name == self.model.extend(hold, ttl_minutes * MINUTE)
        if outcome.name == "done":
            self.check_hold(outcome)

    @rule(minutes=st.sampled_from([15, 15, 60]))
    def advance_clock(self, minutes: int) -> None:
        """Advances the clock by as much as the life of a hold, or more."""
        self.model.now = self.database.freeze_clock(self.model.now + minutes * MINUTE)

    @rule(minutes=st.sampled_from([1, 15, 15, 15]))
    def step_clock_back(self, minutes: int) -> None:
        """Moves the clock back, as a failover may do."""
        self.model.now = self.database.freeze_clock(self.model.now - minutes * MINUTE)

    @rule()
    def purge(self) -> None:
        """Purges the business, on which no outcome depends."""
        query = "SELECT expired, deleted FROM booking.purge(%s, %s, 1000, %s)"
        assert self.database.rows(query, [self.business_id], RETENTION, NO_DEADLINE) == [self.model.purge(RETENTION)]

    @rule(service_id=services, capacity=st.sampled_from([1, 2, 3]))
    def change_the_capacity(self, service_id: str, capacity: int) -> None:
        """Puts another capacity, which is refused above the seats of the pool and below the claims."""
        outcome = self.put_service(service_id, capacity)
        if service_id in POOLS and capacity > len(POOLS[service_id]):
            assert outcome.name == "validation_failed"
        elif conflict := self.model.first_above(service_id, capacity):
            assert outcome.name == "capacity_in_use"
            assert (datetime.fromisoformat(outcome.body["slot_start"]), outcome.body["claimed"]) == conflict
        else:
            assert outcome.name == "done"
            self.model.capacity[service_id] = capacity

    @rule(request=drawn_claims)
    def read_capacity(self, request: dict[str, Any]) -> None:
        """Compares the room that booking.capacity() shows with the model."""
        requested = claim_of({**request, "resource_id": None})
        end = request["start"] + request["minutes"] * MINUTE
        room = self.database.value(
            "SELECT booking.capacity(%s, %s, %s, %s)", self.business_id, requested.service_id, request["start"], end
        )
        peak, capacity = self.model.peak(requested), self.model.capacity[requested.service_id]
        left = (
            capacity - peak
            if requested.pool is None
            else min(capacity - peak, len(self.model.free_resources(requested)))
        )
        assert (room["held"] + room["booked"], room["available"]) == (peak, left)

    @invariant()
    def stored_rows_equal_the_model(self) -> None:
        """Compares reservations and appointments with the model."""
        rows = self.database.rows(
            "SELECT reservation_id, status, version, expires_at FROM booking.reservations WHERE business_id = %s",
            self.business_id,
        )
        for reservation_id, status, *_ in rows:
            # A verb may end a hold at any time after its expiry.
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
            (name, appointment.hold_id, appointment.status, appointment.version, *claim_columns(appointment.claim))
            for name, appointment in self.model.appointments.items()
        )

    @invariant()
    def invariants_hold(self) -> None:
        """Checks the views of the database, and the counts of the model."""
        assert self.database.violations() == {}
        for service_id, capacity in self.model.capacity.items():
            assert self.model.first_above(service_id, capacity) is None
        claims = [claim for claim in self.model.claims() if claim.pool is not None]
        for place, claim in enumerate(claims):
            others = [other for other in claims[:place] if other.pool == claim.pool]
            assert not [other for other in others if other.overlaps(claim.start, claim.end)]

    def teardown(self) -> None:
        """Deletes the business, so that neither the next example nor the check after the test finds its rows."""
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


def changed_members(claim: Claim, change: dict[str, Any]) -> dict[str, Any]:
    """Returns the members of a change of a claim; a start alone keeps the length."""
    service_id = change.get("service_id", claim.service_id)
    start = change["start"] or claim.start + BUFFERS[claim.service_id]
    members: dict[str, Any] = {}
    if change["start"] or change["minutes"]:
        members["slot_start"] = start
    if change["minutes"]:
        members["slot_end"] = start + change["minutes"] * MINUTE
    if "service_id" in change:
        members["service_id"] = service_id
    if service_id in POOLS:
        members["quantity"] = 1
    elif change["quantity"]:
        members["quantity"] = change["quantity"]
    if change["resource_id"] and service_id in POOLS:
        members["resource_id"] = None if change["resource_id"] == "any" else change["resource_id"]
    return members


def to_json(members: dict[str, Any]) -> dict[str, Any]:
    """Returns the members of a change with instants in ISO format."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in members.items()}


def changed_claim(claim: Claim, members: dict[str, Any]) -> Claim:
    """Returns the claim that a change asks for, with its buffers."""
    service_id = members.get("service_id", claim.service_id)
    former, buffer = BUFFERS[claim.service_id], BUFFERS[service_id]
    start = members.get("slot_start", claim.start + former)
    # Another service has a length of its own: an hour.
    length = claim.end - claim.start - 2 * former if service_id == claim.service_id else 60 * MINUTE
    end = members.get("slot_end", start + length)
    pool = (claim.pool or RESOURCES) if service_id in POOLS else None
    if "resource_id" in members:
        pool = (members["resource_id"],) if members["resource_id"] else RESOURCES
    quantity = members.get("quantity", claim.quantity)
    return Claim(service_id, start - buffer, end + buffer, quantity, pool)


def claim_columns(claim: Claim) -> tuple[Any, ...]:
    """Returns the columns that store a claim."""
    return claim.service_id, claim.start, claim.end, claim.quantity, claim.pool[0] if claim.pool else None


def ttl_of(request: dict[str, Any]) -> timedelta | None:
    """Returns the time to live that a request asks for."""
    minutes = request["ttl_minutes"]
    return None if minutes is None else minutes * MINUTE


def test_the_verbs_do_what_the_model_does(database: TestDatabase) -> None:
    """After any sequence of steps."""

    class ReservationsHere(Reservations):
        def __init__(self) -> None:
            super().__init__(database)

    run_random_steps(ReservationsHere, database, steps=40, examples=80)
