"""Draws the figures of a soak over time, as small plots in one SVG file."""

from collections.abc import Sequence
from html import escape
from typing import Final

from tests.soak.report import FIGURES
from tests.soak.samples import Sample

_WIDTH: Final = 300
_HEIGHT: Final = 120
_COLUMNS: Final = 3
_MARGIN: Final = 30


def picture(samples: Sequence[Sample]) -> str:
    """Returns the picture: a plot for each figure, from zero to its largest value."""
    rows = -(-len(FIGURES) // _COLUMNS)
    plots = [
        _plot(figure.title, [float(getattr(sample, figure.name)) for sample in samples], *divmod(number, _COLUMNS))
        for number, figure in enumerate(FIGURES)
    ]
    width, height = _COLUMNS * (_WIDTH + _MARGIN) + _MARGIN, rows * (_HEIGHT + 2 * _MARGIN) + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="11">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(plots)}</svg>\n'
    )


def _plot(title: str, values: list[float], row: int, column: int) -> str:
    x, y = _MARGIN + column * (_WIDTH + _MARGIN), 2 * _MARGIN + row * (_HEIGHT + 2 * _MARGIN)
    most = max(values) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    line = " ".join(
        f"{x + number * step:.1f},{y + _HEIGHT * (1 - value / most):.1f}" for number, value in enumerate(values)
    )
    return (
        f'<text x="{x}" y="{y - 8}">{escape(title)}, at most {most:,.1f}</text>'
        f'<path d="M{x} {y}v{_HEIGHT}h{_WIDTH}" fill="none" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#0b6b57" stroke-width="1.5"/>'
    )
