"""The table at the end of a soak: each figure at the end against its value after the start."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import click

from tests.soak.samples import Sample

# The parts of the run that are compared. What comes before the first one fills caches and tables.
_BEGINNING: Final = 0.25, 0.40
_END: Final = 0.85, 1.0
# A shorter run ends before tables and caches are full, so what grows in it says nothing.
_JUDGED_MINUTES: Final = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of samples: its name, and how many times its first value it may have in the end, and how much more."""

    name: str
    title: str
    most: float | None = None
    margin: float = 0.0


FIGURES: Final = (
    Figure("p50_ms", "p50 ms"),
    Figure("p99_ms", "p99 ms"),
    Figure("worker_mb", "worker MB", most=1.1, margin=5),
    Figure("reservations_mb", "reservations MB", most=1.3, margin=2),
    Figure("reservation_indexes_mb", "their indexes MB", most=1.3, margin=2),
    Figure("occupancy_mb", "occupancy MB", most=1.3, margin=2),
    Figure("occupancy_indexes_mb", "its indexes MB", most=1.3, margin=2),
    Figure("dead_rows", "dead rows", most=2.0, margin=20_000),
    Figure("blocks_a_request", "blocks a request", most=1.2, margin=5),
    Figure("scanned_rows_a_request", "scanned rows a request", most=1.5, margin=20),
    # These grow with the bookings of the guests.
    Figure("appointments", "appointments"),
    Figure("appointments_mb", "appointments MB"),
)


def report(samples: Sequence[Sample]) -> list[str]:
    """Prints the table, and returns the figures that have grown by more than their bound; none after a short run."""
    problems = []
    is_judged = samples[-1].minutes >= _JUDGED_MINUTES
    click.echo(f"\n{'':<26}{'beginning':>12}{'end':>12}{'ratio':>8}")
    for figure in FIGURES:
        before, after = (_median(samples, figure.name, part) for part in (_BEGINNING, _END))
        verdict = ""
        if figure.most is not None and is_judged:
            grown = after > before * figure.most + figure.margin
            verdict = "  GROWN" if grown else "  flat"
            problems += [f"{figure.title} has grown from {before:,.1f} to {after:,.1f}"] if grown else []
        ratio = f"{after / before:8.2f}" if before else " " * 8
        click.echo(f"{figure.title:<26}{before:12,.1f}{after:12,.1f}{ratio}{verdict}")
    click.echo(f"\n{sum(sample.requests for sample in samples):,} requests in {samples[-1].minutes:.0f} minutes")
    return problems


def _median(samples: Sequence[Sample], name: str, part: tuple[float, float]) -> float:
    first = min(int(len(samples) * part[0]), len(samples) - 1)
    chosen = samples[first : max(first + 1, int(len(samples) * part[1]))]
    return median(float(getattr(sample, name)) for sample in chosen)
