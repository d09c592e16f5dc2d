"""`holdfast catalog apply` and `export`, each in a process of its own, with a business in a YAML file."""

import subprocess
from pathlib import Path

import pytest

from service.booking.catalog_file import parse
from service.database.connections import STATEMENT_SECONDS
from tests.database import TestDatabase, at
from tests.serving import run_command

SALON = f"""
businessId: salon
name: Salon
slug: salon
timezone: Europe/Berlin
country: DE
description: "Two lines.\nWith an end."
metadata: {{logo: salon.svg, prices: {{cut: 40.50, perm: null}}}}
resources:
  anna: {{name: Anna, kind: staff, description: Cuts, metadata: {{colours: [red, 1, true]}}}}
  ben: {{name: Ben, kind: staff, bookingEnabled: false}}
  table: {{name: Table, kind: table, seats: 4}}
services:
  cut: {{name: Cut, durationMinutes: 45, resourceIds: [anna, ben]}}
  class: {{name: Class, durationMinutes: 120, maxSimultaneousBookings: 8, description: Yoga, metadata: {{level: 1}}}}
  dinner: {{name: Dinner, durationMinutes: 90, startTimes: [18:00, 20:00], startsOnGrid: true, resourceIds: [table]}}
  stay:
    {{name: Stay, durationDays: 1, maxDurationDays: 14, endTime: 11:00, hoursApply: throughout,
     resourceSharing: session, resourceIds: [table]}}
openingHours:
  - {{weekday: 2, opens: 09:00, closes: 24:00}}
  - {{weekday: 1, opens: 09:00, closes: 17:30}}
  - {{weekday: 1, opens: 10:00, closes: 15:00, resourceId: anna}}
specialHours:
  easter: {{date: 2027-03-28, until: 2027-03-29, hours: [], name: Easter}}
  late:
    {{date: 2027-04-01, hours: [{{opens: 18:00, closes: 24:00}}, {{opens: 09:00, closes: 12:00}}], resourceId: anna}}
closures:
  away: {{from: "{at(10).isoformat()}", to: "{at(12).isoformat()}", resourceId: ben, reason: Dentist}}
  summer: {{date: 2027-08-02, until: 2027-08-14}}
"""

Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Returns the path of the file to apply."""
    return tmp_path / "salon.yaml"


def apply(database: TestDatabase, file: Path, text: str) -> Ended:
    """Writes the file and applies it."""
    file.write_text(text)
    return run_command("catalog", "apply", str(file), DATABASE_URL=database.url)


def changes(ended: Ended) -> list[str]:
    """Returns the printed lines of a successful command."""
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout.splitlines()


def export(database: TestDatabase, business_id: str = "salon") -> Ended:
    """Exports the catalog of a business."""
    return run_command("catalog", "export", business_id, DATABASE_URL=database.url)


def test_a_business_is_made_from_a_file_and_exported(database: TestDatabase, file: Path) -> None:
    """Each created object is one line of output. The export equals the applied file, and applying either again changes
    nothing."""
    assert changes(apply(database, file, SALON)) == [
        "created business salon",
        "created resource anna",
        "created resource ben",
        "created resource table",
        "created service class",
        "created service cut",
        "created service dinner",
        "created service stay",
        "changed opening hours",
        "created special hours easter",
        "created special hours late",
        "created closure away",
        "created closure summer",
        "warning: anna is closed by its own hours on Tuesday",
    ]
    assert changes(apply(database, file, SALON)) == ["nothing to do"]
    exported = export(database).stdout
    content, applied = parse(exported.encode()), parse(SALON.encode())
    for member in ("name", "metadata", "resources", "services", "special_hours", "closures"):
        assert getattr(content, member) == getattr(applied, member)
    assert len(content.opening_hours) == len(applied.opening_hours)
    assert changes(apply(database, file, exported)) == ["nothing to do"]
    assert export(database).stdout == exported


def test_a_name_that_is_refused_today_is_exported_as_the_id(database: TestDatabase, file: Path) -> None:
    """Version 0.1 stored names of blanks: the export can be applied all the same, and a file repairs them."""
    apply(database, file, SALON)
    before = export(database).stdout
    for table in ("businesses", "resources", "services", "special_hours"):
        database.rows(f"UPDATE booking.{table} SET name = ' \u200b'")  # noqa: S608
    exported = parse(export(database).stdout.encode())
    assert (exported.name, exported.resources["anna"].name) == ("salon", "anna")
    assert (exported.services["cut"].name, exported.special_hours["easter"].name) == ("cut", "easter")
    lines = changes(apply(database, file, SALON))
    assert {"changed business salon", "changed resource anna", "changed service cut"} <= set(lines)
    assert export(database).stdout == before


def test_objects_that_the_file_lacks_are_removed(database: TestDatabase, file: Path) -> None:
    """A service with bookings is archived, and is restored when the file has it again; the rest is deleted."""
    apply(database, file, SALON)
    database.commit(database.reserve(10, 2, service_id="class").id)
    least = "{businessId: salon, name: Salon & Sons, country: DE}"
    assert changes(apply(database, file, least)) == [
        "changed business salon",
        "removed service class",
        "removed service cut",
        "removed service dinner",
        "removed service stay",
        "changed opening hours",
        "removed special hours easter",
        "removed special hours late",
        "removed closure away",
        "removed closure summer",
        "removed resource anna",
        "removed resource ben",
        "removed resource table",
    ]
    assert database.rows("SELECT service_id FROM booking.services") == [("class",)]
    assert database.rows("SELECT * FROM booking.resources") == []
    assert "created service class" in changes(apply(database, file, SALON))
    assert changes(apply(database, file, SALON.replace("Class", "Course"))) == ["changed service class"]


def test_metadata_is_compared_with_its_types(database: TestDatabase, file: Path) -> None:
    """In Python `1` equals `true`."""
    apply(database, file, SALON)
    changed = SALON.replace("level: 1", "level: true")
    assert changes(apply(database, file, changed)) == ["changed service class"]
    assert changes(apply(database, file, changed)) == ["nothing to do"]


def test_special_hours_can_exchange_their_dates(database: TestDatabase, file: Path) -> None:
    """No date has two special hours of one owner, so the former ones make room before the others are put."""
    file_with = "{{businessId: salon, name: Salon, specialHours: {{{}}}}}".format
    dates = "a: {{date: {}, hours: []}}, b: {{date: {}, hours: []}}, {}: {{date: 2027-03-30, hours: []}}".format
    first = file_with(dates("2027-03-28", "2027-03-29", "c"))
    second = file_with(dates("2027-03-29", "2027-03-28", "d"))
    apply(database, file, first)
    assert changes(apply(database, file, second)) == [
        "removed special hours c",
        "changed special hours a",
        "changed special hours b",
        "created special hours d",
    ]
    ended = apply(database, file, second.replace("2027-03-29", "2027-03-28"))
    assert (ended.returncode, ".date: must not overlap the dates of the special hours" in ended.stderr) == (2, True)


def test_a_pool_that_lost_its_resources_is_exported_and_applied(database: TestDatabase, file: Path) -> None:
    """The service keeps its need of a resource; a pool that names an unknown one is refused."""
    apply(database, file, SALON)
    database.rows("UPDATE booking.resources SET archived_at = booking.now() WHERE resource_id = 'table'")
    exported = export(database).stdout
    assert parse(exported.encode()).services["dinner"].resource_ids == ["table"]
    assert changes(apply(database, file, exported)) == ["nothing to do"]
    ended = apply(database, file, exported.replace("- anna\n", "- eve\n"))
    assert ended.returncode == 2
    assert "services.cut.resourceIds: names eve, which is no resource of this business" in ended.stderr


def test_a_capacity_above_the_seats_is_refused_at_its_path(database: TestDatabase, file: Path) -> None:
    """The path is that of the file."""
    text = SALON.replace("durationMinutes: 90", "durationMinutes: 90, maxSimultaneousBookings: 5")
    ended = apply(database, file, text)
    assert ended.returncode == 2
    assert "services.dinner.maxSimultaneousBookings: must be at most 4" in ended.stderr


def test_a_faulty_file_changes_nothing(database: TestDatabase, file: Path) -> None:
    """Each fault is listed with its path, and the exit status is 2."""
    apply(database, file, SALON)
    before = export(database).stdout
    faulty = SALON.replace("name: Salon", "name: Changed").replace("45", "0").replace("closes: 17:30", "closes: 08:00")
    ended = apply(database, file, faulty)
    assert ended.returncode == 2
    assert "services.cut.durationMinutes: " in ended.stderr
    assert "openingHours.1.closes: " in ended.stderr
    ended = apply(database, file, SALON.replace("Europe/Berlin", "Europe/Atlantis"))
    assert (ended.returncode, "timezone: is not a time zone" in ended.stderr) == (2, True)
    assert export(database).stdout == before


def test_a_refusal_by_the_catalog_rolls_the_whole_file_back(database: TestDatabase, file: Path) -> None:
    """A file is applied as a whole or not at all."""
    apply(database, file, SALON)
    database.reserve(10, 2, service_id="class", quantity=5)
    before = export(database).stdout
    smaller = SALON.replace("maxSimultaneousBookings: 8", "maxSimultaneousBookings: 4").replace("Anna", "Ann")
    ended = apply(database, file, smaller)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "services.class: More than the new capacity is already claimed" in ended.stderr
    assert "claimed 5" in ended.stderr
    assert export(database).stdout == before
    ended = apply(database, file, SALON.replace("businessId: salon", "businessId: other"))
    assert (ended.returncode, "is the slug or the id of another business" in ended.stderr) == (2, True)
    assert database.rows("SELECT business_id FROM booking.businesses") == [("salon",)]


def test_an_unknown_business_or_a_missing_file_is_an_error(database: TestDatabase, file: Path) -> None:
    """The error is one line."""
    ended = export(database, "nobody")
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "Error: There is no such business.\n")
    ended = run_command("catalog", "apply", str(file), DATABASE_URL=database.url)
    assert (ended.returncode, "No such file" in ended.stderr) == (2, True)


def test_a_catalog_that_takes_longer_than_a_request_is_applied(database: TestDatabase, file: Path) -> None:
    """One with a thousand resources and services takes PostgreSQL more seconds than a request may."""
    database.rows("ALTER FUNCTION booking.put_document(text, jsonb, boolean, timestamptz) RENAME TO put_small_document")
    database.rows(
        "CREATE FUNCTION booking.put_document(text, jsonb, boolean, timestamptz) RETURNS booking.outcome "
        "LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$ DECLARE applied booking.outcome := booking.put_small_document($1, $2, $3, $4); "
        f"BEGIN PERFORM pg_sleep({STATEMENT_SECONDS + 0.5}); RETURN applied; END $$"
    )
    assert changes(apply(database, file, SALON))[0] == "created business salon"
