"""`holdfast catalog apply` and `export`: a business kept in a YAML file, in processes of their own."""

import subprocess
from pathlib import Path

import pytest

from service.booking.catalog_file import parse, written
from tests.database import TestDatabase, at
from tests.serving import run_command

SALON = f"""
businessId: salon
name: Salon
slug: salon
timezone: Europe/Berlin
country: DE
resources:
  anna: {{name: Anna, kind: staff}}
  ben: {{name: Ben, kind: staff, bookingEnabled: false}}
services:
  cut: {{name: Cut, durationMinutes: 45, resourceIds: [anna, ben]}}
  class: {{name: Class, durationMinutes: 120, maxSimultaneousBookings: 8}}
openingHours:
  - {{weekday: 2, opens: 09:00, closes: 24:00}}
  - {{weekday: 1, opens: 09:00, closes: 17:30}}
  - {{weekday: 1, opens: 10:00, closes: 15:00, resourceId: anna}}
closures:
  away: {{from: "{at(10).isoformat()}", to: "{at(12).isoformat()}", resourceId: ben, reason: Dentist}}
"""

Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file that is applied."""
    return tmp_path / "salon.yaml"


def apply(database: TestDatabase, file: Path, text: str) -> Ended:
    """Writes a file and applies it."""
    file.write_text(text)
    return run_command("catalog", "apply", str(file), DATABASE_URL=database.url)


def changes(ended: Ended) -> list[str]:
    """The lines that a success printed."""
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout.splitlines()


def export(database: TestDatabase, business_id: str = "salon") -> Ended:
    """Prints the catalog of a business."""
    return run_command("catalog", "export", business_id, DATABASE_URL=database.url)


def test_a_business_is_made_from_a_file_and_written_back(database: TestDatabase, file: Path) -> None:
    """A line for each thing that was made; after that, nothing to do. What is exported is what was applied, and
    applying it changes nothing."""
    assert changes(apply(database, file, SALON)) == [
        "created business salon",
        "created resource anna",
        "created resource ben",
        "created service cut",
        "created service class",
        "changed opening hours",
        "created closure away",
    ]
    assert changes(apply(database, file, SALON)) == ["nothing to do"]
    exported = export(database).stdout
    content = parse(exported.encode())
    assert content.week == parse(SALON.encode()).week
    assert content.services == parse(SALON.encode()).services
    assert changes(apply(database, file, exported)) == ["nothing to do"]
    assert export(database).stdout == exported == written(content)


def test_what_the_file_lacks_is_taken_off(database: TestDatabase, file: Path) -> None:
    """What was booked is archived, and is back when the file has it again; the rest is gone."""
    apply(database, file, SALON)
    database.commit(database.reserve(10, service_id="class").id)
    least = "{businessId: salon, name: Salon & Sons, country: DE}"
    assert changes(apply(database, file, least)) == [
        "changed business salon",
        "changed opening hours",
        "removed closure away",
        "removed service class",
        "removed service cut",
        "removed resource anna",
        "removed resource ben",
    ]
    assert database.rows("SELECT service_id FROM booking.services") == [("class",)]
    assert database.rows("SELECT * FROM booking.resources") == []
    assert "created service class" in changes(apply(database, file, SALON))
    assert changes(apply(database, file, SALON.replace("Class", "Course"))) == ["changed service class"]


def test_a_bad_file_changes_nothing(database: TestDatabase, file: Path) -> None:
    """Each fault by its path, and exit status 2."""
    apply(database, file, SALON)
    before = export(database).stdout
    bad = SALON.replace("name: Salon", "name: Changed").replace("45", "0").replace("closes: 17:30", "closes: 08:00")
    ended = apply(database, file, bad)
    assert ended.returncode == 2
    assert "services.cut.durationMinutes: " in ended.stderr
    assert "openingHours.1.closes: " in ended.stderr
    ended = apply(database, file, SALON.replace("Europe/Berlin", "Europe/Atlantis"))
    assert (ended.returncode, "timezone: is not a time zone" in ended.stderr) == (2, True)
    assert export(database).stdout == before


def test_what_the_catalog_refuses_undoes_the_rest(database: TestDatabase, file: Path) -> None:
    """A file is applied as a whole or not at all."""
    apply(database, file, SALON)
    database.reserve(10, service_id="class", quantity=5)
    before = export(database).stdout
    smaller = SALON.replace("maxSimultaneousBookings: 8", "maxSimultaneousBookings: 4").replace("Anna", "Ann")
    ended = apply(database, file, smaller)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "services.class: More than the new capacity is already claimed" in ended.stderr
    assert "claimed 5" in ended.stderr
    assert export(database).stdout == before
    ended = apply(database, file, SALON.replace("businessId: salon", "businessId: other"))
    assert (ended.returncode, "slug: This slug belongs to another business" in ended.stderr) == (2, True)
    assert database.rows("SELECT business_id FROM booking.businesses") == [("salon",)]


def test_a_business_or_a_file_that_is_not_there(database: TestDatabase, file: Path) -> None:
    """Said in a line."""
    ended = export(database, "nobody")
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "Error: There is no such business.\n")
    ended = run_command("catalog", "apply", str(file), DATABASE_URL=database.url)
    assert (ended.returncode, "No such file" in ended.stderr) == (2, True)
