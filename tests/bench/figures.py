"""The figures of one measurement, and what the report makes of several rounds of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figures:
    """A rate, latencies, and the processor time of a request in microseconds.

    load_us: of the load generator, or of pgbench.
    """

    per_second: float
    load_us: float
    service_us: float | None = None
    postgres_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


# The same measurement, round by round.
Rounds = list[Figures]


def median_of(rounds: Rounds, figure: Callable[[Figures], float | None]) -> float | None:
    """Returns the median of a figure, or None if it was not measured."""
    values = [value for one in rounds if (value := figure(one)) is not None]
    return median(values) if values else None


def median_ratio(rounds: Rounds, others: Sequence[Figures]) -> float:
    """Returns the median of the ratios of rates within a round: a slow machine is slow for both."""
    pairs = zip(rounds, others, strict=True)
    return median(one.per_second / other.per_second if other.per_second else float("inf") for one, other in pairs)
