"""The documents name settings and tests that exist."""

import re
from pathlib import Path
from typing import Final

from service.settings import Settings

REPOSITORY: Final = Path(__file__).parents[2]
README: Final = (REPOSITORY / "README.md").read_text()
SETTINGS: Final = (REPOSITORY / "deploy" / "settings.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    _, _, after = text.partition(f"\n| {heading} |")
    table = re.match(r"[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", after)
    assert table, heading
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[1].splitlines()]


def names(table: list[list[str]]) -> list[str]:
    """The names in the first column; a row may have several."""
    return [name for row in table for name in re.findall(r"`(\w+)`", row[0])]


def test_the_table_of_settings_has_every_name_once() -> None:
    """An operator finds every name that the service reads, and no name that it ignores."""
    assert sorted(names(rows(SETTINGS, "name"))) == sorted(name.upper() for name in Settings.model_fields)


def test_the_table_of_settings_has_the_defaults() -> None:
    """A default that is changed in the code alone misleads operators."""
    shown = {
        name: default.strip("` ")
        for first, _, last in rows(SETTINGS, "name")
        for name, default in zip(re.findall(r"`(\w+)`", first), last.split(", "), strict=False)
    }
    for name, field in Settings.model_fields.items():
        if field.default not in (None, ()):
            expected = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert shown[name.upper()] == expected, name


def test_the_settings_of_the_readme_are_among_them() -> None:
    """The README has the first ones that an operator needs."""
    first = names(rows(README, "name"))
    assert first
    assert set(first) < set(names(rows(SETTINGS, "name")))


def test_each_guarantee_of_the_readme_names_its_tests() -> None:
    """A reader can run the tests of each guarantee."""
    guarantees = rows(README, "guarantee")
    assert len(guarantees) == 7
    for guarantee, _, tested in guarantees:
        files = re.findall(r"`(tests/[^`]+)`", tested)
        assert files, guarantee
        for name in files:
            assert (REPOSITORY / name).is_file(), name
