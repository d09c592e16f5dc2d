"""The cost of a decision grows neither with history nor with how full other days are, whatever the planner believes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, at, commit_request, extend_request, release_request, reserve_request
from tests.sql.asking import keyed_request
from tests.sql.measuring import reads_of

ROWS = 10_000
# What may be read to decide: the row of a business, of a service, of a hold or an appointment, and one slot.
SLOT = {"idx_reservations_slot", "idx_appointments_slot"}
ONE_ROW = {
    "businesses_pkey",
    "services_pkey",
    "reservations_pkey",
    "idx_reservations_id",
    "reservations_idempotency_key_key",
    "appointments_pkey",
    "idx_appointments_id",
    "appointments_reservation_id_key",
    "idx_appointments_reservation_id",
    "idx_appointments_reservation",
}
DUE = {"idx_reservations_expiry", "idx_reservations_ended"}
CAPACITY = 50
TEN = 10.0
SITUATIONS = pytest.mark.parametrize("situation", ["never analysed", "analysed while tiny", "analysed"])


def prepare(database: TestDatabase) -> None:
    """A service with a slot that has neighbours. Nobody analyses its tables behind the test's back."""
    for table in ("reservations", "appointments", "services", "businesses", "audit_logs"):
        database.rows(f"ALTER TABLE booking.{table} SET (autovacuum_enabled = off)")
    database.make_service(capacity=CAPACITY)
    for hour in (TEN - 0.5, TEN, TEN + 0.5):
        database.reserve(hour)
        database.commit(database.reserve(hour).id)


def add_history(database: TestDatabase) -> None:
    """Ten thousand appointments of the service, each an hour, all of them over."""
    database.rows(
        """
        INSERT INTO booking.appointments (business_id, appointment_id, reservation_id, service_id, slot_start, slot_end,
          occupied, quantity, status, version, metadata, source, created_at, updated_at)
        SELECT 'salon', gen_random_uuid(), gen_random_uuid(), 'cut', at, at + interval '1 hour',
          tstzrange(at, at + interval '1 hour'), 1, 'confirmed', 1, '{}', 'online', at, at
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (SELECT booking.now() - n * interval '1 hour' AS at) AS slot
        """,
        ROWS,
    )
    database.rows(
        """
        INSERT INTO booking.audit_logs (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
        SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at
        FROM booking.appointments WHERE slot_start < booking.now()
        """
    )


def add_other_days(database: TestDatabase) -> None:
    """Ten thousand live holds of the service on later days, ten for each hour, each made under a key."""
    database.rows(
        """
        INSERT INTO booking.reservations (business_id, reservation_id, service_id, slot_start, slot_end, occupied,
          quantity, status, expires_at, ttl_clamped, version, idempotency_key, fingerprint, last_operation_id,
          created_at)
        SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'), 1,
          'held', booking.now() + interval '1 hour', false, 1, 'key ' || n, 'this', gen_random_uuid(), booking.now()
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (SELECT %s + n / 10 * interval '1 hour' AS at) AS slot
        """,
        ROWS,
        at(24),
    )


def grow(database: TestDatabase, situation: str) -> None:
    """Fills the tables, with the planner knowing nothing, what was true before, or the truth."""
    if situation == "analysed while tiny":
        database.rows("ANALYZE")
    add_history(database)
    add_other_days(database)
    if situation == "analysed":
        database.rows("VACUUM ANALYZE")


@SITUATIONS
def test_one_slot_is_read_by_its_index_and_bounded_in_time(database: TestDatabase, situation: str) -> None:
    """The plan of the predicate, under the settings that the verbs have: a range of the index, closed on both sides."""
    prepare(database)
    grow(database, situation)
    expected = {"claims_during": SLOT, "fullest_instant": SLOT, "expired_during": {"idx_reservations_slot"}}
    for function, indexes in expected.items():
        scans = [node for node in nodes(plan_of(database, function)) if {"Relation Name", "Index Name"} & node.keys()]
        assert {scan.get("Index Name") for scan in scans} == indexes
        for scan in scans:
            for bound in ("business_id =", "service_id =", "lower(occupied) <", "lower(occupied) >"):
                assert bound in scan["Index Cond"]


def plan_of(database: TestDatabase, function: str) -> dict[str, Any]:
    """The plan of one of the functions that read claims, as a verb has it."""
    query = f"EXPLAIN (FORMAT json, GENERIC_PLAN) SELECT * FROM booking.{function}($1, $2, $3, $4, $5)"  # noqa: S608
    settings = database.value("SELECT proconfig FROM pg_proc WHERE oid = 'booking.reserve'::regproc")
    with database.admin.transaction():
        for name, value in (setting.split("=", 1) for setting in settings):
            database.rows("SELECT set_config(%s, %s, true)", name, value)
        [(explained,)] = database.admin.execute(query.encode()).fetchall()
    plan: dict[str, Any] = explained[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@SITUATIONS
def test_what_a_call_reads_does_not_grow(database: TestDatabase, situation: str) -> None:
    """Ten thousand appointments of the past and ten thousand claims on other days make no difference to any call,
    whether its statements were planned before they came or afterwards."""
    prepare(database)
    calls = {f"{name} of {size}": call for size in (1, 2) for name, call in calls_with(database, size).items()}
    before = {name: reads_of(database, call) for name, call in calls.items()}
    grow(database, situation)
    for plans in ("made before", "made anew"):
        if plans == "made anew":
            database.rows("DISCARD PLANS")
        for name, call in calls.items():
            after = reads_of(database, call)
            # What was measured and undone has left some dead entries in the indexes.
            assert after.rows <= before[name].rows + 100, (name, plans)
            # An index that has grown is a level or two deeper: some blocks more for each look-up.
            assert after.blocks <= 3 * before[name].blocks, (name, plans)
            assert after.indexes <= ONE_ROW | SLOT | DUE, (name, plans)
            assert after.whole_tables == set(), (name, plans)


def calls_with(database: TestDatabase, size: int) -> dict[str, Callable[[], object]]:
    """A call of each kind for so many requests, and what each of them needs to be there."""
    now = database.freeze_clock()
    expired = [database.reserve(TEN, ttl_minutes=1).id for _ in range(size)]
    database.freeze_clock(now + timedelta(minutes=1))
    holds = [database.reserve(TEN + 2).id for _ in range(size)]
    resent = [keyed_request(f"{number} of {size}") for number in range(size)]
    booked = [outcome.id for outcome in database.call("reserve", resent)]
    database.call("commit", [commit_request(hold) for hold in booked])

    def call(verb: str, requests: list[dict[str, Any]]) -> Callable[[], object]:
        return lambda: database.call(verb, requests)

    return {
        "reserve": call("reserve", [keyed_request(f"new {number}") for number in range(size)]),
        "refused": call("reserve", [reserve_request(TEN, quantity=CAPACITY) for _ in range(size)]),
        "replayed": call("reserve", [keyed_request(f"{number} of {size}") for number in range(size)]),
        "sent again": call("reserve", resent),
        "commit": call("commit", [commit_request(hold) for hold in holds]),
        "committed before": call("commit", [commit_request(hold) for hold in booked]),
        "rebook": call("commit", [commit_request(hold, if_expired="rebook") for hold in expired]),
        "extend": call("extend", [extend_request(hold) for hold in holds]),
        "release": call("release", [release_request(hold) for hold in holds]),
        "purge": database.purge,
        "capacity": lambda: database.capacity(TEN),
        "reservation": lambda: database.value("SELECT booking.reservation('salon', %s)", holds[0]),
        "business": lambda: database.value("SELECT booking.business_of_reservation(%s)", holds[0]),
    }
