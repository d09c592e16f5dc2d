"""Which versions of Python the project runs on. The others are refused before anything is installed."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 11, 0), (3, 14, 6), (3, 15, 0)], ids=str)
def test_make_refuses_the_versions_that_the_package_refuses(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one line that names those that run it."""
    [check] = re.findall(r"\$\(PYTHON\) -c '(.+)'$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    required = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        exec(check, {})  # noqa: S102 — the project's own
    is_refused = ".".join(map(str, version)) not in SpecifierSet(required)
    assert str(ended.value.code).startswith("Holdfast runs on Python 3.11 to 3.14" if is_refused else "False")


def test_the_readme_names_the_versions() -> None:
    """In its first words about the set-up."""
    assert "requirements are Python 3.11 to 3.14" in (REPOSITORY / "README.md").read_text()
