"""The YAML file of a business: its members, and the messages about its faults."""

import json
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.booking.catalog_file import CatalogFile, CatalogFileError, _lines, parse, to_yaml
from service.booking.document import AppliedDocument, DocumentWarning
from service.booking.opening_types import AffectedAppointments

SALON = """
businessId: salon
name: Salon
country: DE
guestRetentionDays: 400
resources:
  anna: {name: Anna, kind: staff}
services:
  cut: {name: Cut, durationMinutes: 45, resourceIds: [anna]}
  stay: {name: Stay, durationDays: 1, startTimes: [14:00], endTime: 11:00}
openingHours:
  - {weekday: 1, opens: 09:00, closes: 17:30}
specialHours:
  epiphany: {date: 2031-01-06, until: 2031-01-07, hours: [{opens: 10:00, closes: 12:00}]}
closures:
  away: {from: 2030-12-24T12:00:00+01:00, to: 2030-12-27T00:00:00+01:00}
"""


def faults(text: str) -> list[str]:
    """Returns the lines of the error for a file."""
    with pytest.raises(CatalogFileError) as raised:
        parse(text.encode())
    return str(raised.value).splitlines()


def test_a_file_has_the_members_of_the_api_and_their_defaults() -> None:
    """The models are shared with the API."""
    salon = parse(SALON.encode())
    assert (salon.business_id, salon.timezone, salon.slug) == ("salon", "UTC", None)
    assert (salon.services["cut"].hold_ttl_minutes, salon.services["cut"].max_hold_ttl_minutes) == (15, None)
    assert salon.services["cut"].resource_ids == ["anna"]
    least = parse(b"{businessId: salon, name: Salon}")
    assert (salon.guest_retention_days, least.guest_retention_days) == (400, None)
    assert (least.country, least.resources, least.services, least.opening_hours) == (None, {}, {}, [])
    assert (least.special_hours, least.closures) == ({}, {})


def test_an_exported_file_is_parsed_to_the_same_business() -> None:
    """The first line of an export has the id."""
    salon = parse(SALON.encode())
    assert parse(to_yaml(salon).encode()) == salon
    assert to_yaml(salon).startswith("businessId: salon\n")


numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
looks_like_yaml = st.sampled_from(
    ["null", "~", "true", "NO", "17:30", "1e5", "1.0e5", "1.0e-07", "<<", "- a", "a: b", "#"]
)
scalars = st.none() | st.booleans() | numbers | texts | looks_like_yaml
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=10
)


@given(st.dictionaries(texts | looks_like_yaml, values, max_size=4), texts | looks_like_yaml)
@example({"a": 1e-7, "b": "1.0e-07", "c": -0.0, "d": [None, True, 1, 1.0, 1e23]}, " two\nlines \n")
@settings(max_examples=200)
def test_metadata_and_descriptions_are_exported_as_they_are(metadata: dict[str, Any], description: str) -> None:
    """Nulls, numbers, and strings that look like something else in YAML keep their types."""
    members = {"businessId": "salon", "name": "Salon", "description": description, "metadata": metadata}
    try:
        salon = CatalogFile.model_validate(members)
    except ValidationError:  # too large
        assume(False)
    exported = parse(to_yaml(salon).encode())
    assert exported.description == description
    assert json.dumps(exported.metadata) == json.dumps(salon.metadata)


def test_plain_values_are_text() -> None:
    """YAML 1.1 would parse `NO` as false, 17:30 as 1050 and a date as a date."""
    text = SALON.replace("country: DE", "country: NO").replace("name: Salon", "name: 2030-12-24")
    salon = parse(text.replace("anna", "101").replace("[101]", "['101']").encode())
    assert (salon.country, salon.name, list(salon.resources)) == ("NO", "2030-12-24", ["101"])
    assert salon.opening_hours[0].closes == "17:30"
    assert parse(to_yaml(salon).encode()) == salon


@pytest.mark.parametrize(
    ("former", "latter", "paths"),
    [
        ("name: Salon", "nome: Salon", ["name", "nome"]),
        ("country: DE", "country: Germany", ["country"]),
        ("businessId: salon", "businessId: a salon", ["businessId"]),
        ("durationMinutes: 45", "durationMinutes: long", ["services.cut.durationMinutes"]),
        ("durationMinutes: 45", "durationMinutes: 45, price: 3", ["services.cut.price"]),
        ("durationMinutes: 45", "durationMinutes: 45, maxDurationMinutes: 30", ["services.cut.maxDurationMinutes"]),
        ("cut:", "'!':", ["services.!"]),
        ("kind: staff", "kind: ''", ["resources.anna.kind"]),
        ("closes: 17:30", "closes: 08:30", ["openingHours.0.closes"]),
        ("closes: 17:30", "closes: 17:30, resourceId: eve", ["openingHours.0.resourceId"]),
        ("to: 2030-12-27", "to: 2029-12-27", ["closures.away.to"]),
        ("from: 2030-12-24T12:00:00+01:00", "from: 2030-12-24", ["closures.away.from"]),
        ("{from:", "{resourceId: eve, from:", ["closures.away.resourceId"]),
        ("until: 2031-01-07", "until: 2031-01-05", ["specialHours.epiphany.until"]),
        ("date: 2031-01-06", "date: 2031-02-30", ["specialHours.epiphany.date"]),
        ("{date:", "{resourceId: eve, date:", ["specialHours.epiphany.resourceId"]),
        ("startTimes: [14:00]", "startTimes: [24:00]", ["services.stay.startTimes.0"]),
        ("[anna]", "[anna, anna]", ["services.cut.resourceIds"]),
    ],
)
def test_every_fault_has_its_path(former: str, latter: str, paths: list[str]) -> None:
    """A file with several faults lists all that can be found together."""
    assert former in SALON
    assert [fault.partition(": ")[0] for fault in faults(SALON.replace(former, latter))] == paths


def test_a_misspelt_member_is_an_unknown_member() -> None:
    """pydantic's message speaks of extra inputs."""
    assert faults(SALON.replace("kind: staff", "sort: staff")) == ["resources.anna.sort: unknown member"]


@pytest.mark.parametrize("text", ["", "# salon", "---"])
def test_an_empty_file_is_called_empty(text: str) -> None:
    """A redirection leaves one if its command fails."""
    assert faults(text) == ["The file is empty"]


@pytest.mark.parametrize("text", ["- salon", "salon", "7"])
def test_a_file_without_a_mapping_is_refused(text: str) -> None:
    """It is probably the wrong file."""
    [fault] = faults(text)
    assert fault.startswith("the file: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services: {cut: ", "line 1, column 17"),
        (SALON + "name: Again", "the key name appears twice"),
        ("? [a, b]\n: c", "must be plain text"),
        ("a: &a [*a]", "recursive"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int x", 'no value of the type int\n  in "<byte string>", line 1, column 4'),
        ("a: !!bool maybe", "no value of the type bool"),
        ("a: !!float ''", "no value of the type float"),
        ("a: !!timestamp today", "no value of the type timestamp"),
        (f"a: {'9' * 5000}", "no value of the type int"),
        (f"a: {'[' * 3000}{']' * 3000}", "nested too deeply"),
    ],
)
def test_unsafe_or_ambiguous_yaml_is_refused(text: str, expected: str) -> None:
    """A file may have text, numbers, lists and mappings only, and each key once."""
    message = "\n".join(faults(text))
    assert message.startswith("The file can't be read: ")
    assert expected in message


def test_entries_are_equal_to_what_the_catalog_returns() -> None:
    """Else every `apply` would change them: lists are sorted, and a single date has no end."""
    text = SALON.replace("until: 2031-01-07", "until: 2031-01-06").replace("[14:00]", "[14:00, 09:00]")
    text = text.replace(
        "[{opens: 10:00, closes: 12:00}]", "[{opens: 14:00, closes: 15:00}, {opens: 10:00, closes: 12:00}]"
    )
    salon = parse(text.encode())
    epiphany = salon.special_hours["epiphany"]
    assert epiphany.until is None
    assert [entry.opens for entry in epiphany.hours] == ["10:00", "14:00"]
    assert salon.services["stay"].start_times == ["09:00", "14:00"]


def test_each_warning_is_a_line() -> None:
    """Of a resource that its own hours close, and of appointments that lie in a closure."""
    warnings = [
        DocumentWarning(
            code="closed_by_own_hours", member="openingHours", id=None, resource_id="anna", weekdays=[1, 7]
        ),
        DocumentWarning(
            code="appointments_affected",
            member="closures",
            id="christmas",
            affected_appointments=AffectedAppointments(count=3, items=[]),
        ),
    ]
    assert [*_lines(AppliedDocument(changes=[], warnings=warnings), "salon")] == [
        "warning: anna is closed by its own hours on Monday, Sunday",
        "warning: closure christmas affects 3 appointments",
    ]
