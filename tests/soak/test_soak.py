"""Tests that the soak runs. Its figures are for people to read."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.serving import REPOSITORY
from tests.soak.report import FIGURES, Figure, report
from tests.soak.samples import Sample


def test_the_soak_runs_and_gets_the_answers_that_it_expects(tmp_path: Path) -> None:
    """Runs it for some seconds: it prints a row for each figure, and draws a plot."""
    path = tmp_path / "soak.svg"
    options = ("--minutes", "0.1", "--sample-seconds", "1", "--per-second", "50", "--picture", str(path))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for figure in FIGURES:
        assert f"\n{figure.title} " in ended.stdout
    plots = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}polyline")  # noqa: S314 — our own
    assert len(list(plots)) == len(FIGURES)


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if figure.most is not None], ids=lambda one: one.name)
def test_a_figure_that_grows_is_reported(figure: Figure) -> None:
    """One that stays is not."""
    flat = Sample(**{field.name: 1000 for field in fields(Sample)})

    samples = [replace(flat, **{figure.name: 1000 + 30_000 * number}) for number in range(20)]
    assert report([flat] * 20) == []
    assert len(report(samples)) == 1
