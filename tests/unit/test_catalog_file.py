"""The YAML file that a business is kept in: what it may say, and what it is told about its faults."""

import pytest

from service.booking.catalog_file import CatalogFileError, parse, written

SALON = """
businessId: salon
name: Salon
country: DE
resources:
  anna: {name: Anna, kind: staff}
services:
  cut: {name: Cut, durationMinutes: 45, resourceIds: [anna]}
openingHours:
  - {weekday: 1, opens: 09:00, closes: 17:30}
closures:
  away: {from: 2030-12-24T12:00:00+01:00, to: 2030-12-27T00:00:00+01:00}
"""


def faults(text: str) -> list[str]:
    """What is said against a file, line by line."""
    with pytest.raises(CatalogFileError) as raised:
        parse(text.encode())
    return str(raised.value).splitlines()


def test_a_file_has_the_members_of_the_api_and_their_defaults() -> None:
    """Whoever knows the one knows the other."""
    salon = parse(SALON.encode())
    assert (salon.business_id, salon.timezone, salon.slug) == ("salon", "UTC", None)
    assert salon.services["cut"].max_hold_ttl_minutes == 60
    assert salon.services["cut"].resource_ids == ["anna"]
    least = parse(b"{businessId: salon, name: Salon, country: DE}")
    assert (least.resources, least.services, least.opening_hours, least.closures) == ({}, {}, [], {})


def test_what_is_written_is_read_as_the_same() -> None:
    """With nothing lost and nothing guessed."""
    salon = parse(SALON.encode())
    assert parse(written(salon).encode()) == salon
    assert written(salon).startswith("businessId: salon\n")


def test_plain_words_are_what_they_look_like() -> None:
    """To older readers of YAML, `NO` is false, 17:30 is a thousand and fifty, and a date is no text."""
    text = SALON.replace("country: DE", "country: NO").replace("name: Salon", "name: 2030-12-24")
    salon = parse(text.replace("anna", "101").replace("[101]", "['101']").encode())
    assert (salon.country, salon.name, list(salon.resources)) == ("NO", "2030-12-24", ["101"])
    assert salon.opening_hours[0].closes == "17:30"
    assert parse(written(salon).encode()) == salon


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
        ("[anna]", "[anna, eve]", ["services.cut.resourceIds"]),
        ("[anna]", "[anna, anna]", ["services.cut.resourceIds"]),
    ],
)
def test_every_fault_is_told_with_its_path(former: str, latter: str, paths: list[str]) -> None:
    """All of them at once, as far as that is possible."""
    assert former in SALON
    assert [fault.partition(": ")[0] for fault in faults(SALON.replace(former, latter))] == paths


def test_a_member_that_nobody_knows_is_called_that() -> None:
    """And not an input that is extra: whoever misspelt it has not put in anything more."""
    assert faults(SALON.replace("kind: staff", "sort: staff")) == ["resources.anna.sort: unknown member"]


@pytest.mark.parametrize("text", ["", "# salon", "---"])
def test_a_file_with_nothing_in_it_is_called_empty(text: str) -> None:
    """As a redirection leaves it whose command has failed."""
    assert faults(text) == ["The file is empty"]


@pytest.mark.parametrize("text", ["- salon", "salon", "7"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    """The wrong file."""
    [fault] = faults(text)
    assert fault.startswith("the file: ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("services: {cut: ", "line 1, column 17"),
        (SALON + "name: Again", "the key name appears twice"),
        ("? [a, b]\n: c", "must be plain text"),
        ("a: &a [*a]", "recursive"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int x", "invalid literal"),
    ],
)
def test_what_is_not_safe_or_not_plain_is_refused(text: str, what: str) -> None:
    """A file can't make anything but text, numbers, lists and mappings, and can't say one thing twice."""
    message = "\n".join(faults(text))
    assert message.startswith("The file can't be read: ")
    assert what in message
