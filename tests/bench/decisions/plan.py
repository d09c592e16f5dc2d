"""How much is planted, and how often it is measured."""

from dataclasses import dataclass, fields, replace
from typing import Final

# What `--planted` scales: the rows that are there before anything is measured.
_PLANTED: Final = (
    "live_holds",
    "expiring_holds",
    "past_appointments",
    "ended_holds",
    "bookings",
    "purged_holds",
    "businesses",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of the benchmark."""

    runs: int = 3
    # Calls of a run of one measurement; what is called one request at a time is called as often.
    calls: int = 300
    businesses: int = 500
    live_holds: int = 100_000
    expiring_holds: int = 50_000
    past_appointments: int = 200_000
    ended_holds: int = 50_000
    bookings: int = 100_000
    purged_holds: int = 50_000
    purges: int = 3
    # How long the stream of reserves is measured without a purge beside it.
    stream_seconds: float = 4.0

    def scaled(self, factor: float) -> "Plan":
        """The same with a part of the planted rows, at least ten of each, and a shorter stream."""
        planted = {name: max(10, round(getattr(self, name) * factor)) for name in _PLANTED}
        return replace(self, stream_seconds=self.stream_seconds * min(1.0, factor), **planted)


USUAL: Final = Plan()
QUICK: Final = replace(Plan(runs=1, calls=100, purges=1).scaled(0.2), businesses=500, stream_seconds=2.0)
FULL: Final = Plan(past_appointments=10_000_000, ended_holds=1_000_000, purged_holds=1_000_000, purges=1)

assert set(_PLANTED) <= {field.name for field in fields(Plan)}
