"""The upgrade of a database of version 0.1.0, which did not count claims: no row is lost, and all claims are counted.

database_of_0_1_0.sql describes the claims in it. definitions_of_0_1_0.sql has the functions and views that the old
version left behind and the upgrade replaces.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from service.database import migrations
from tests.database import Outcome, TestDatabase
from tests.sql.catalog import put_back

_FOLDER: Final = Path(__file__).parent
_MOVABLE_CLOCK: Final = _FOLDER.parent / "movable_clock.sql"
_OLD_MIGRATIONS: Final = 5
# After the expired holds of the dump, and long before its live holds and all future slots.
_NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
_MONDAY: Final = 2
_TUESDAY: Final = 3

# Each claimed window, with the claimed quantity and the first expiry of its holds.
_CLAIMED_WINDOWS: Final = """
  SELECT business_id, service_id, coalesce(resource_id, ''), lower(occupied), upper(occupied), sum(quantity)::bigint,
         min(expires_at)
  FROM (
    SELECT business_id, service_id, resource_id, occupied, quantity, expires_at
    FROM booking.reservations WHERE status = 'held'
    UNION ALL
    SELECT business_id, service_id, resource_id, occupied, quantity, NULL
    FROM booking.appointments WHERE status = 'confirmed'
  ) AS claim
  GROUP BY business_id, service_id, resource_id, lower(occupied), upper(occupied)
"""
_COUNTED_WINDOWS: Final = """
  SELECT business_id, service_id, resource_id, starts, ends, claimed, next_expiry FROM booking.occupancy
"""

# The objects of the schema, without the bodies of functions.
_OBJECTS: Final = """
  SELECT 'function', oid::regprocedure::text, pg_get_function_result(oid)
  FROM pg_proc WHERE pronamespace = 'booking'::regnamespace
  UNION ALL
  SELECT 'column', attrelid::regclass || '.' || attname, format_type(atttypid, atttypmod) || attnotnull
  FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
  WHERE relnamespace = 'booking'::regnamespace AND relkind IN ('r', 'v', 'c') AND attnum > 0 AND NOT attisdropped
  UNION ALL
  SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'booking'::regnamespace AND contype <> 'n'
  UNION ALL
  SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
  FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = 'booking'::regnamespace
  UNION ALL
  SELECT 'type', oid::regtype::text, typtype::text FROM pg_type WHERE typnamespace = 'booking'::regnamespace
  UNION ALL
  SELECT 'right', oid::regprocedure::text, has_function_privilege('holdfast_service', oid, 'EXECUTE')::text
  FROM pg_proc WHERE pronamespace = 'booking'::regnamespace
"""


@pytest.fixture
def old(empty: TestDatabase) -> TestDatabase:
    """Makes a database as version 0.1.0 left it."""
    files = migrations.migration_files()[:_OLD_MIGRATIONS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "migration_files", lambda: files)
        patch.setattr(migrations, "_definitions", (_FOLDER / "definitions_of_0_1_0.sql").read_bytes)
        patch.setattr(migrations, "_VERSION", [0, 1, 0])
        assert migrations.migrate(empty.admin_url) == [*(path.name for path in files), "definitions"]
    empty.admin.execute((_FOLDER / "database_of_0_1_0.sql").read_bytes())
    return empty


@pytest.fixture
def upgraded(old: TestDatabase) -> Iterator[TestDatabase]:
    """Migrates that database to the current schema, and checks the invariants after the test."""
    migrations.migrate(old.admin_url)
    old.admin.execute(_MOVABLE_CLOCK.read_bytes())
    old.freeze_clock(_NOW)
    yield old
    assert old.violations() == {}


def reserve(database: TestDatabase, service_id: str, day: int, hour: float, hours: float, **request: Any) -> Outcome:
    """Reserves a slot on a day of July 2035."""
    start, end = (
        datetime(2035, 7, day, int(time), round(60 * (time % 1)), tzinfo=UTC) for time in (hour, hour + hours)
    )
    slot = {"service_id": service_id, "slot_start": start.isoformat(), "slot_end": end.isoformat()}
    return database.reserve(**{**slot, **request})


def row_counts(database: TestDatabase) -> dict[str, int]:
    """Counts the rows of each table, apart from the ledger of migrations."""
    tables = database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'booking'::regnamespace AND relkind = 'r' "
        "AND relname <> 'schema_migrations'"
    )
    return {name: database.value(f"SELECT count(*) FROM booking.{name}") for (name,) in tables}  # noqa: S608 — a table


def windows(database: TestDatabase, query: str) -> dict[tuple[Any, ...], tuple[int, datetime | None]]:
    """Returns the claimed quantity and the first expiry of each window, by its key."""
    return {tuple(key): (claimed, expiry) for *key, claimed, expiry in database.rows(query)}


def test_no_row_is_lost_or_added(old: TestDatabase) -> None:
    """Each old table has as many rows after the upgrade as before."""
    before = row_counts(old)
    assert before["reservations"] > 0
    migrations.migrate(old.admin_url)
    assert {name: count for name, count in row_counts(old).items() if name in before} == before


def test_every_claim_is_counted(old: TestDatabase) -> None:
    """The count of a window is the sum of its held reservations, expired or not, and confirmed appointments."""
    claimed = windows(old, _CLAIMED_WINDOWS)
    migrations.migrate(old.admin_url)
    counted = windows(old, _COUNTED_WINDOWS)
    assert {key: quantity for key, (quantity, _) in counted.items()} == {
        key: quantity for key, (quantity, _) in claimed.items()
    }
    for key, (_, first_expiry) in claimed.items():
        next_expiry = counted[key][1]
        if first_expiry is None:
            assert next_expiry is None, key
        else:
            assert next_expiry is not None, key
            assert next_expiry <= first_expiry, key


def test_the_schema_is_that_of_a_new_database(old: TestDatabase, database: TestDatabase) -> None:
    """No function of the old version is left that could still be called, and no object is missing."""
    migrations.migrate(old.admin_url)
    assert set(old.rows(_OBJECTS)) == set(database.rows(_OBJECTS))


def test_the_addresses_of_calendar_feeds_stay_valid(old: TestDatabase) -> None:
    """Their keys are derived from generations, which were numbers; an archived resource gets a new one."""
    rows = "SELECT business_id, resource_id FROM booking.resources WHERE archived_at IS NULL"
    resources = old.rows(rows)
    migrations.migrate(old.admin_url)
    kept = old.rows(f"{rows} AND calendar_generation = '1'")
    assert sorted(kept) == sorted(resources)
    assert kept
    assert set(old.rows("SELECT calendar_generation FROM booking.businesses")) == {("1",)}


def test_a_second_migration_changes_nothing(old: TestDatabase) -> None:
    """The claims are not counted again, and the definitions are not applied again."""
    assert migrations.migrate(old.admin_url)
    counted = windows(old, _COUNTED_WINDOWS)
    assert migrations.migrate(old.admin_url) == []
    assert windows(old, _COUNTED_WINDOWS) == counted


def test_live_holds_can_be_committed(upgraded: TestDatabase) -> None:
    """This holds for holds of full slots, with a resource, and with a larger quantity."""
    holds = upgraded.rows(
        "SELECT business_id, reservation_id::text FROM booking.reservations WHERE status = 'held' AND expires_at > %s",
        _NOW,
    )
    assert len(holds) > 10
    for business_id, reservation_id in holds:
        assert upgraded.commit(reservation_id, business_id=business_id).name == "done"
    # A commit changes the kind of a claim, and not the claimed quantity.
    claimed, counted = windows(upgraded, _CLAIMED_WINDOWS), windows(upgraded, _COUNTED_WINDOWS)
    assert {key: quantity for key, (quantity, _) in counted.items()} == {
        key: quantity for key, (quantity, _) in claimed.items()
    }


def test_an_expired_hold_cannot_be_committed(upgraded: TestDatabase) -> None:
    """The hold was not purged, and its stored state is still held."""
    expired = upgraded.rows(
        "SELECT business_id, reservation_id::text FROM booking.reservations WHERE status = 'held' AND expires_at <= %s",
        _NOW,
    )
    assert len(expired) == 5
    for business_id, reservation_id in expired:
        assert upgraded.commit(reservation_id, business_id=business_id).name == "reservation_expired"


@pytest.mark.parametrize(
    ("service_id", "hour", "hours", "request_"),
    [
        pytest.param("class", 11, 1, {}, id="full of appointments and a hold that overlaps"),
        pytest.param("class", 10.5, 1, {"quantity": 1}, id="overlaps what is full"),
        pytest.param("cut", 10, 1, {}, id="the window of a hold"),
        pytest.param("cut", 9, 1, {}, id="within the buffer of a hold"),
        pytest.param("cut", 14, 1, {}, id="within a longer hold"),
        pytest.param("colour", 14, 1, {}, id="both resources booked"),
        pytest.param("colour", 12.5, 1, {"resource_id": "anna"}, id="this resource held"),
        pytest.param("tour", 15, 1.5, {"business_id": "boats"}, id="holds and an appointment of one window"),
        pytest.param("trip", 15, 2, {"business_id": "boats", "resource_id": "rowing"}, id="a resource's hold"),
    ],
)
def test_full_slots_are_refused_after_the_upgrade(
    upgraded: TestDatabase, service_id: str, hour: float, hours: float, request_: dict[str, Any]
) -> None:
    """Claims from before the upgrade take room, of whichever kind."""
    assert reserve(upgraded, service_id, _MONDAY, hour, hours, **request_).name == "slot_unavailable"


def test_slots_with_room_are_granted_after_the_upgrade(upgraded: TestDatabase) -> None:
    """Requests get the room that is left, and no unit more."""
    assert reserve(upgraded, "class", _MONDAY, 11.5, 1, quantity=3).name == "slot_unavailable"
    assert reserve(upgraded, "class", _MONDAY, 11.5, 1, quantity=2).name == "done"
    assert reserve(upgraded, "class", _MONDAY, 11.5, 1).name == "slot_unavailable"
    assert reserve(upgraded, "colour", _MONDAY, 12, 1).body["resource_id"] == "bert"
    assert reserve(upgraded, "trip", _MONDAY, 15, 2, business_id="boats").body["resource_id"] == "sailing"
    assert reserve(upgraded, "cut", _MONDAY, 11.5, 1).name == "done"


def test_expired_holds_block_no_request(upgraded: TestDatabase) -> None:
    """The counts of their windows include them, because no purge ran."""
    assert reserve(upgraded, "class", _MONDAY, 10, 1, quantity=8).name == "slot_unavailable"
    assert reserve(upgraded, "class", _MONDAY, 10, 1, quantity=7).name == "done"
    assert reserve(upgraded, "class", _MONDAY, 10, 1).name == "slot_unavailable"
    assert reserve(upgraded, "cut", _TUESDAY, 10, 1).name == "done"
    assert reserve(upgraded, "colour", _MONDAY, 10, 1, resource_id="anna").name == "done"
    assert reserve(upgraded, "trip", _MONDAY, 18, 2, business_id="boats", resource_id="sailing").name == "done"


def test_cancelled_and_released_claims_free_their_counts(upgraded: TestDatabase) -> None:
    """The appointment and the hold were made before the upgrade."""
    appointment_id = upgraded.value(
        "SELECT appointment_id::text FROM booking.appointments "
        "WHERE service_id = 'class' AND status = 'confirmed' AND slot_start = '2035-07-02T11:00Z'"
    )
    assert upgraded.change(appointment_id, action="cancel").name == "done"
    assert reserve(upgraded, "class", _MONDAY, 11, 1, quantity=14).name == "slot_unavailable"
    assert reserve(upgraded, "class", _MONDAY, 11, 1, quantity=13).name == "done"
    reservation_id = upgraded.value(
        "SELECT reservation_id::text FROM booking.reservations "
        "WHERE service_id = 'cut' AND status = 'held' AND slot_start = '2035-07-02T10:00Z'"
    )
    assert upgraded.release(reservation_id).name == "done"
    assert reserve(upgraded, "cut", _MONDAY, 10, 1).name == "done"


def test_keys_from_before_the_upgrade_are_replayed(upgraded: TestDatabase) -> None:
    """A retry gets the hold of its first attempt, and a different request with the key is refused."""
    again = {"idempotency_key": "attempt-1"}
    replayed = reserve(upgraded, "class", _MONDAY, 10, 1, fingerprint="b" * 64, **again)
    assert replayed.name == "replayed"
    assert upgraded.status(replayed.id) == "held"
    assert reserve(upgraded, "class", _MONDAY, 10, 1, fingerprint="d" * 64, **again).name == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("minutes", "reason"),
    [(0.5, "too_short"), (1, None), (30 * 24 * 60, None), (30 * 24 * 60 + 1, "too_long")],
)
def test_services_keep_the_lengths_that_the_public_could_book(
    upgraded: TestDatabase, minutes: float, reason: str | None
) -> None:
    """The longest one is the one that was stored, the shortest one a minute."""
    outcome = reserve(upgraded, "tour", _TUESDAY, 18, 0, slot_end=_slot_end(minutes), business_id="boats")
    assert (outcome.name, outcome.body.get("reason")) == ("slot_not_bookable" if reason else "done", reason)


def _slot_end(minutes: float) -> str:
    """Returns the end of a slot that begins on the Tuesday at 18:00."""
    return (datetime(2035, 7, _TUESDAY, 18, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat()


def test_the_catalog_can_be_put_back_as_it_is_read(upgraded: TestDatabase) -> None:
    """The settings from before the upgrade meet the rules of the new version."""
    stored = upgraded.rows("SELECT s::text FROM booking.services AS s ORDER BY 1")
    services = upgraded.rows("SELECT booking.services(business_id) FROM booking.businesses")
    assert len(services) == 5
    for (service,) in services:
        outcome = put_back(upgraded, service)
        outcome.body.pop("frees_more", None)  # expired holds from before the upgrade
        assert (outcome.name, outcome.body) == ("done", service)
    assert upgraded.rows("SELECT s::text FROM booking.services AS s ORDER BY 1") == stored


def test_progress_is_logged(old: TestDatabase) -> None:
    """In a large database the counting takes time, and the operator sees its progress."""
    with capture_logs() as lines:
        migrations.migrate(old.admin_url)
    assert [(line["log_level"], line["detail"]) for line in lines if line["event"] == "migration_progress"] == [
        ("info", "counted the claims of 2 of 2 businesses")
    ]
