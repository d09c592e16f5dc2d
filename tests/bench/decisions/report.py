"""The table of the decisions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import click

_WIDTHS: Final = (70, 28, 16)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report.

    value: what the bar is for, in the unit of the bar.
    details: the figures that are printed; they include the value.
    bar: the most that the value may be, if anything is demanded of it.
    """

    name: str
    value: float
    details: str
    unit: str = ""
    bar: float | None = None

    @property
    def demanded(self) -> str:
        """The bar with its unit."""
        return "" if self.bar is None else f"<= {self.bar:g}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the value is within the bar."""
        if self.bar is None:
            return ""
        return "as it must" if self.value <= self.bar else "MORE than it must"


def report(rows: Iterable[Row]) -> None:
    """Prints the table."""
    _line("decisions inside PostgreSQL", "measured", "bar", "verdict")
    for row in rows:
        _line(row.name, row.details, row.demanded, row.verdict)


def _line(*words: str) -> None:
    click.echo("".join(word.ljust(width) for word, width in zip(words, (*_WIDTHS, 0), strict=True)).rstrip())
