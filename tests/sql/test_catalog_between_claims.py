"""Random changes of the catalog between claims: the invariants hold, and a refused change changes nothing."""

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

from tests.database import Outcome, TestDatabase, at, change_request
from tests.sql.catalog import delete_resource, delete_service, put_back, put_seats
from tests.sql.random_examples import run_random_steps

SERVICES = ("cut", "class", "stay")
RESOURCES = ("anna", "bert")
POOLS: dict[str, list[str]] = {"cut": [*RESOURCES], "class": ["bert"], "stay": []}
CATALOG_TABLES = ("services", "resources", "service_resources")
ALL_TABLES = ("audit_logs", "appointments", "reservations", "occupancy", *CATALOG_TABLES[::-1], "businesses")
REFUSALS = {"capacity_in_use", "validation_failed", "resource_not_found", "service_not_found"}

starts = st.sampled_from([at(10), at(10), at(10), at(10.5), at(34)])
service_ids = st.sampled_from(SERVICES)
resource_ids = st.sampled_from(RESOURCES)
claims = st.fixed_dictionaries(
    {
        "service_id": service_ids,
        "slot_start": starts.map(datetime.isoformat),
        # The length of the service.
        "slot_end": st.none(),
        "quantity": st.sampled_from([1, 1, 2]),
        "resource_id": st.sampled_from([None, None, *RESOURCES]),
    }
)
catalog_settings = st.fixed_dictionaries(
    {
        "max_simultaneous_bookings": st.sampled_from([None, None, 1, 2, 3]),
        "resource_ids": st.sampled_from([[], ["anna"], ["bert"], [*RESOURCES], [*RESOURCES]]),
        "resource_sharing": st.sampled_from(["exclusive", "session"]),
        "buffer_after_minutes": st.sampled_from([0, 0, 15]),
    }
)
IN_DAYS = {"duration_minutes": None, "min_duration_minutes": None, "max_duration_minutes": None, "duration_days": 1}


class Catalog(RuleBasedStateMachine):
    """One business whose catalog and claims change."""

    holds = Bundle("holds")
    appointments = Bundle("appointments")

    def __init__(self, database: TestDatabase) -> None:
        super().__init__()
        self.database = database
        self.business_id = f"b{uuid4().hex}"
        self.now = database.freeze_clock(at(-24))
        database.make_business(self.business_id)
        for resource_id in RESOURCES:
            self.put_seats(resource_id, 2)
        for service_id in SERVICES:
            self.put_service(service_id, {"max_simultaneous_bookings": None, "resource_ids": POOLS[service_id]})

    def stored(self) -> list[Any]:
        """Returns the catalog of the business."""
        return [
            self.database.rows(
                f"SELECT t::text FROM booking.{table} AS t WHERE business_id = %s ORDER BY 1",  # noqa: S608
                self.business_id,
            )
            for table in CATALOG_TABLES
        ]

    def check(self, before: list[Any], outcome: str) -> None:
        """Checks that a change of the catalog took place, or was refused and changed nothing."""
        assert outcome in ("created", "done") or outcome in REFUSALS
        if outcome in REFUSALS:
            assert self.stored() == before

    @initialize(target=appointments, claims=st.lists(claims, max_size=6))
    def make_initial_claims(self, claims: list[dict[str, Any]]) -> Any:
        """Books some slots, so that the first changes already meet claims."""
        return multiple(*(booked for claim in claims if isinstance(booked := self.book(claim), str)))

    @rule(service_id=service_ids, drawn=catalog_settings)
    def put_service(self, service_id: str, drawn: dict[str, Any]) -> None:
        """Puts a service with another capacity, pool, sharing and buffer."""
        before = self.stored()
        unit = IN_DAYS if service_id == "stay" else {}
        self.check(before, self.database.put_service(service_id, business_id=self.business_id, **drawn, **unit).name)

    @rule(service_id=service_ids)
    def put_service_back(self, service_id: str) -> None:
        """Puts a service as it is read, which is granted whatever is claimed, and changes nothing."""
        before = self.stored()
        read = "SELECT booking.services(%s, %s)"
        for (service,) in self.database.rows(read, self.business_id, service_id):
            assert put_back(self.database, service).name == "done"
        assert self.stored() == before

    @rule(resource_id=resource_ids, seats=st.sampled_from([1, 2, 3]))
    def put_seats(self, resource_id: str, seats: int) -> None:
        """Puts a resource, archived or not, with a number of seats."""
        before = self.stored()
        self.check(before, put_seats(self.database, resource_id, seats, business_id=self.business_id).name)

    @rule(resource_id=resource_ids)
    def delete_resource(self, resource_id: str) -> None:
        """Deletes or archives a resource."""
        before = self.stored()
        self.check(before, delete_resource(self.database, resource_id, business_id=self.business_id).name)

    @rule(service_id=service_ids)
    def delete_service(self, service_id: str) -> None:
        """Deletes or archives a service."""
        before = self.stored()
        self.check(before, delete_service(self.database, service_id, business_id=self.business_id))

    @rule(target=holds, claim=claims)
    def reserve(self, claim: dict[str, Any]) -> Any:
        """Holds a slot."""
        outcome = self.database.reserve(**claim, business_id=self.business_id, ttl_minutes=15)
        return outcome.id if outcome.name == "done" else multiple()

    @rule(target=appointments, claim=claims)
    def book(self, claim: dict[str, Any]) -> Any:
        """Books a slot on behalf of the business."""
        outcome = self.database.book(**claim, business_id=self.business_id, manual=True)
        return outcome.id if outcome.name == "done" else multiple()

    @rule(target=appointments, hold=holds, if_expired=st.sampled_from([None, "rebook"]))
    def commit(self, hold: str, if_expired: str | None) -> Any:
        """Commits a hold, which the catalog has no say in, or rebooks it."""
        live = self.database.value(
            "SELECT status = 'held' AND expires_at > booking.now() FROM booking.reservations WHERE reservation_id = %s",
            hold,
        )
        outcome = self.database.commit(hold, if_expired=if_expired, business_id=self.business_id)
        assert outcome.name == "done" or not live
        return outcome.id if outcome.name == "done" else multiple()

    @rule(hold=holds)
    def release(self, hold: str) -> None:
        """Releases a hold."""
        self.database.release(hold, business_id=self.business_id)

    @rule(
        appointment=appointments,
        members=st.fixed_dictionaries({"slot_start": starts.map(datetime.isoformat)})
        | st.fixed_dictionaries({"resource_id": st.none() | resource_ids})
        | st.fixed_dictionaries({"quantity": st.integers(1, 3)})
        | st.fixed_dictionaries({"status": st.sampled_from(["cancelled", "no_show", "confirmed"])}),
    )
    def change(self, appointment: str, members: dict[str, Any]) -> None:
        """Moves an appointment, changes its resource, quantity or status, or takes a status back."""
        former = self.database.value("SELECT version FROM booking.appointments WHERE appointment_id = %s", appointment)
        outcome = self.database.call(
            "change", [change_request(appointment, set=members)], business_id=self.business_id
        )[0]
        # A change without effect has no audit row of its own, and keeps a resource that was archived since.
        if outcome.body.get("version") != former:
            self.check_new_window(members, outcome)

    def check_new_window(self, members: dict[str, Any], outcome: Outcome) -> None:
        """Checks that a moved appointment has a resource that is in the pool now and not archived."""
        if outcome.name != "done" or outcome.body["resource_id"] is None or "slot_start" not in members:
            return
        before = self.database.value(
            "SELECT l.changes -> 'slot_start' ->> 'before' FROM booking.audit_logs AS l "
            "WHERE l.appointment_id = %s AND l.version = %s",
            *(outcome.id, outcome.body["version"]),
        )
        members_of_pool = {
            resource_id
            for (resource_id,) in self.database.rows(
                "SELECT (booking.members(%s, %s)).resource_id", self.business_id, outcome.body["service_id"]
            )
        }
        assert before is None or outcome.body["resource_id"] in members_of_pool

    @rule(minutes=st.sampled_from([10, 10, 20, 20, 12 * 60]))
    def advance_clock(self, minutes: int) -> None:
        """Lets holds expire and appointments begin."""
        self.now = self.database.freeze_clock(self.now + timedelta(minutes=minutes))

    @invariant()
    def invariants_hold(self) -> None:
        """Checks the views of the database."""
        assert self.database.violations() == {}

    def teardown(self) -> None:
        """Deletes the business, so that neither the next example nor the check after the test finds its rows."""
        for table in ALL_TABLES:
            self.database.rows(f"DELETE FROM booking.{table} WHERE business_id = %s", self.business_id)  # noqa: S608


def test_changes_of_the_catalog_keep_the_invariants(database: TestDatabase) -> None:
    """After any sequence of steps."""

    class CatalogHere(Catalog):
        def __init__(self) -> None:
            super().__init__(database)

    run_random_steps(CatalogHere, database, steps=30, examples=60)
