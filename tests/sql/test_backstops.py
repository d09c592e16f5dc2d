"""Guards against writes that bypass the verbs: constraints of the tables, and the views of the invariants."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.database import TestDatabase, at
from tests.sql.measuring import rolled_back


def plant(
    database: TestDatabase, hour: float, hours: float = 1, *, resource_id: str | None = None, **columns: object
) -> UUID:
    """Inserts an appointment without the verbs."""
    appointment_id = uuid4()
    values = {"business_id": "salon", "service_id": "cut", "status": "confirmed", **columns}
    database.rows(
        "INSERT INTO booking.appointments (business_id, appointment_id, service_id, resource_id, slot_start, slot_end, "
        "occupied, quantity, status, version, metadata, source, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, tstzrange(%s, %s), 1, %s, 1, '{}', 'test', now(), now())",
        values["business_id"],
        appointment_id,
        values["service_id"],
        resource_id,
        at(hour),
        at(hour + hours),
        at(hour),
        at(hour + hours),
        values["status"],
    )
    database.recount()
    return appointment_id


def copy(database: TestDatabase, table: str, id_column: str) -> None:
    """Inserts a copy of the only row of a table, under another id, without the verbs."""
    database.rows(
        f"INSERT INTO booking.{table} SELECT (jsonb_populate_record(r, %s)).* FROM booking.{table} r",  # noqa: S608
        json.dumps({id_column: str(uuid4())}),
    )


def test_the_table_refuses_overlapping_appointments_of_a_resource(database: TestDatabase) -> None:
    """The table refuses overlapping appointments of a resource, of whichever service, unless one is cancelled."""
    database.make_service(capacity=9)
    database.make_service("perm", capacity=9)
    for resource_id in ("anna", "ann", "bert"):
        database.make_resource(resource_id)
    with rolled_back(database):
        plant(database, 10, resource_id="anna")
        for overlapping in ({"hour": 10.5}, {"hour": 9, "hours": 3}, {"hour": 10, "service_id": "perm"}):
            with pytest.raises(psycopg.errors.ExclusionViolation), database.admin.transaction():
                plant(database, resource_id="anna", **overlapping)
        plant(database, 11, resource_id="anna")
        plant(database, 9, resource_id="anna", service_id="perm")
        plant(database, 10, resource_id="bert")
        plant(database, 10, resource_id="ann")
        plant(database, 10, resource_id="anna", status="cancelled")
        plant(database, 10)
        plant(database, 10)


def test_resources_of_two_businesses_may_have_one_name(database: TestDatabase) -> None:
    """Resource ids are unique within a business only."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=9)
        database.make_resource("anna", business_id=business_id)
    with rolled_back(database):
        plant(database, 10, resource_id="anna")
        plant(database, 10, resource_id="anna", business_id="clinic")


def test_adjacent_appointments_may_be_moved_in_one_statement(database: TestDatabase) -> None:
    """The exclusion constraint is checked at the end of the statement and not row by row."""
    database.make_service(capacity=9)
    database.make_resource("anna")
    with rolled_back(database):
        for hour in (10, 11, 12):
            plant(database, hour, resource_id="anna")
        database.rows(
            "UPDATE booking.appointments SET slot_start = slot_start + %s, slot_end = slot_end + %s, "
            "occupied = tstzrange(lower(occupied) + %s, upper(occupied) + %s)",
            *[timedelta(hours=1)] * 4,
        )
        with pytest.raises(psycopg.errors.ExclusionViolation), database.admin.transaction():
            database.rows(
                "UPDATE booking.appointments SET occupied = tstzrange(lower(occupied), upper(occupied) + '1 s')"
            )


def test_a_claim_is_longer_than_nothing_and_lies_within_its_window(database: TestDatabase) -> None:
    """Otherwise the search for overlaps would not find the claim."""
    database.make_service()
    with pytest.raises(psycopg.errors.CheckViolation):
        plant(database, 10, 0)
    hold = database.reserve(10).id
    with pytest.raises(psycopg.errors.CheckViolation):
        database.rows("UPDATE booking.reservations SET slot_end = slot_end + interval '1 minute'")
    assert database.status(hold) == "held"


@pytest.mark.parametrize("verb", ["reserve", "book"])
def test_one_key_has_one_effect(database: TestDatabase, verb: str) -> None:
    """The tables refuse a second hold or appointment with the same key."""
    database.make_service(capacity=9)
    getattr(database, verb)(idempotency_key="k", fingerprint="f")
    table, id_column = {
        "reserve": ("reservations", "reservation_id"),
        "book": ("appointments", "appointment_id"),
    }[verb]
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy(database, table, id_column)


def test_one_hold_becomes_one_appointment(database: TestDatabase) -> None:
    """The table refuses a second appointment of a hold, even if there is room for it."""
    database.make_service(capacity=9)
    database.commit(database.reserve().id)
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy(database, "appointments", "appointment_id")


def test_one_version_has_one_audit_row(database: TestDatabase) -> None:
    """The table refuses a second audit row for a version."""
    database.make_service()
    database.book()
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy(database, "audit_logs", "audit_id")


@pytest.mark.parametrize("table", ["appointments", "reservations"])
def test_a_claim_above_the_seats_of_its_resource_is_reported(database: TestDatabase, table: str) -> None:
    """For holds and appointments: a party up to the seats of its resource is no violation, and a larger one is."""
    database.make_resource("anna", seats=2)
    database.make_service(capacity=3, resource_ids=["anna", "bert"])
    database.book(10, resource_id="anna")
    database.reserve(12, resource_id="anna")
    for quantity, expected in ((2, {}), (3, {"double_booked_resources": 1})):
        with rolled_back(database):
            database.rows(f"UPDATE booking.{table} SET quantity = {quantity}")  # noqa: S608
            database.recount()
            assert database.violations() == expected


def test_two_claims_that_share_an_exclusive_resource_are_reported(database: TestDatabase) -> None:
    """Also if it has seats for both, and their windows are equal."""
    database.make_resource("anna", seats=2)
    database.make_service(resource_ids=["anna", "bert"])
    for resource_id in ("anna", "bert"):
        database.reserve(10, resource_id=resource_id)
    with rolled_back(database):
        database.rows("UPDATE booking.reservations SET resource_id = 'anna'")
        database.recount()
        assert database.violations() == {"double_booked_resources": 1}


def test_freeing_more_than_is_counted_is_refused(database: TestDatabase) -> None:
    """A check constraint refuses to free a claim that was not counted."""
    database.make_service(capacity=9)
    held = [database.reserve(10).id, database.reserve(10, quantity=2).id]
    with rolled_back(database):
        for spoil in ("UPDATE booking.occupancy SET claimed = 1", "DELETE FROM booking.occupancy"):
            database.rows(spoil)
            refused = pytest.raises(psycopg.errors.CheckViolation, match="occupancy_claimed_check")
            with refused, database.admin.transaction():
                database.release(held[1])
    assert [database.release(hold).name for hold in held] == ["done", "done"]


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE booking.occupancy SET claimed = claimed + 1",
        "UPDATE booking.occupancy SET next_expiry = next_expiry + interval '1 second'",
        "UPDATE booking.occupancy SET next_expiry = NULL",
        "UPDATE booking.occupancy SET resource_id = 'anna'",
        "UPDATE booking.reservations SET quantity = 2",
        "UPDATE booking.reservations SET expires_at = expires_at - interval '1 second'",
        "DELETE FROM booking.reservations",
        "DELETE FROM booking.occupancy",
    ],
)
def test_counts_that_differ_from_the_claims_are_reported(database: TestDatabase, spoil: str) -> None:
    """Counts and claims may each be changed without the verbs; a recount repairs the counts."""
    database.make_service(capacity=9)
    database.make_service("perm", capacity=9)
    database.reserve(10)
    database.commit(database.reserve(10, service_id="perm").id)
    database.reserve(11, service_id="perm")
    assert database.violations() == {}
    with rolled_back(database):
        database.rows(spoil + " WHERE service_id = 'cut'")
        assert set(database.violations()) == {"miscounted_windows"}
        recent = dict(database.rows("SELECT * FROM booking.invariant_violations(true)"))
        assert recent["miscounted_windows"] == database.violations()["miscounted_windows"]
        assert {found for (found,) in database.rows("SELECT service_id FROM booking.miscounted_windows")} == {"cut"}
        database.recount()
        assert database.violations() == {}


def test_only_ended_reservations_have_an_end(database: TestDatabase) -> None:
    """Otherwise the purge would delete live holds, or keep ended ones for ever."""
    database.make_service()
    database.reserve()
    for spoil in ("ended_at = now()", "status = 'released'"):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.rows(f"UPDATE booking.reservations SET {spoil}")  # noqa: S608


def test_overbooked_instants_are_reported(database: TestDatabase) -> None:
    """The report has the time, the claimed quantity and the capacity, and only instants from now on."""
    database.make_service(capacity=2)
    database.freeze_clock(at(0))
    database.reserve(10, 2)
    database.reserve(10, 2)
    with rolled_back(database):
        plant(database, 11, 3)
        plant(database, 13)
        assert database.violations()["overbooked_instants"] == 1
        found = database.rows("SELECT service_id, at, until, claimed, capacity FROM booking.overbooked_instants")
        assert found == [("cut", at(11), at(12), 3, 2)]
        database.rows("UPDATE booking.reservations SET expires_at = %s", at(14))
        database.recount()
        database.freeze_clock(at(12))
        assert "overbooked_instants" not in database.violations()


def test_a_recount_takes_the_lock_of_the_business(database: TestDatabase) -> None:
    """No claim is made or freed during the recount; after its deadline the recount changes nothing."""
    database.make_service()
    database.reserve(10)
    with rolled_back(database):
        database.rows("DELETE FROM booking.occupancy")
        with pytest.raises(psycopg.Error) as raised, database.admin.transaction():
            database.rows("SELECT booking.recount('salon', %s)", datetime.now(UTC))
        assert raised.value.sqlstate == "HF001"
        assert database.rows("SELECT FROM booking.occupancy") == []
    with database.locked():
        database.rows("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            database.recount()


def test_adjacent_and_ended_claims_are_no_violation(database: TestDatabase) -> None:
    """Adjacent claims and expired, committed or cancelled ones are not reported."""
    database.make_service(capacity=1)
    now = database.freeze_clock()
    database.reserve(10, ttl_minutes=1)
    database.freeze_clock(now + timedelta(minutes=1))
    database.commit(database.reserve(10).id)
    database.commit(database.reserve(11).id)
    with rolled_back(database):
        cancelled = plant(database, 10, status="cancelled")
        assert set(database.violations()) == {"audit_gaps"}
        assert database.rows("SELECT appointment_id FROM booking.audit_gaps") == [(cancelled,)]


def test_double_booked_resources_are_reported(database: TestDatabase) -> None:
    """Overlapping claims of a hold and an appointment, which the constraint on appointments can't see, are one row."""
    database.make_service(capacity=9)
    database.make_service("perm", capacity=9)
    database.make_resource("anna")
    hold = database.reserve(10, service_id="perm").id
    with rolled_back(database):
        plant(database, 10.5, resource_id="anna")
        assert "double_booked_resources" not in database.violations()
        database.rows("UPDATE booking.reservations SET resource_id = 'anna'")
        database.recount()
        assert database.violations()["double_booked_resources"] == 1
        [(business_id, resource_id, when)] = database.rows(
            "SELECT business_id, resource_id, at FROM booking.double_booked_resources"
        )
        assert (business_id, resource_id, when.lower, when.upper) == ("salon", "anna", at(10.5), at(11))
        database.release(hold)
        assert "double_booked_resources" not in database.violations()


def test_the_frequent_check_reports_every_kind_of_violation(database: TestDatabase) -> None:
    """The check that runs often leaves out only old gaps in the audit trail."""
    database.make_service(capacity=1)
    database.make_resource("anna")
    database.reserve(10)
    with rolled_back(database):
        plant(database, 10.5, resource_id="anna")
        database.rows("UPDATE booking.reservations SET resource_id = 'anna'")
        database.recount()
        recent = dict(database.rows("SELECT * FROM booking.invariant_violations(true)"))
        database.rows("UPDATE booking.appointments SET updated_at = booking.now() - interval '61 minutes'")
        assert dict(database.rows("SELECT * FROM booking.invariant_violations(true)")) == recent | {"audit_gaps": 0}
    assert recent == {"overbooked_instants": 1, "double_booked_resources": 1, "miscounted_windows": 0, "audit_gaps": 1}


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM booking.audit_logs",
        "UPDATE booking.appointments SET version = 2",
        "UPDATE booking.audit_logs SET version = 2",
    ],
)
def test_gaps_in_the_audit_trail_are_reported(database: TestDatabase, spoil: str) -> None:
    """A change without an audit row and an audit row without a change are gaps."""
    database.make_service()
    appointment = database.commit(database.reserve(10).id).id
    with rolled_back(database):
        database.rows(spoil)
        assert database.violations() == {"audit_gaps": 1}
        assert str(database.value("SELECT appointment_id FROM booking.audit_gaps")) == appointment


def test_the_table_refuses_overlapping_appointments_of_a_resource_by_insert_and_update(database: TestDatabase) -> None:
    """The exclusion constraint applies to statements without the verbs."""
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


def test_a_whole_day_is_moved_in_one_statement(database: TestDatabase) -> None:
    """The appointments overlap each other's old windows, and the constraint is checked at the end of the statement."""
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
