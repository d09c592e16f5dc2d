"""The figures of one moment of a soak."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.load import Measurement
from tests.bench.targets import Machinery
from tests.processes import resident_bytes
from tests.serving import ServiceProcess
from tests.soak.guests import Guests

_TABLES: Final = """
    SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, seq_tup_read, idx_tup_fetch
    FROM pg_stat_user_tables
    WHERE schemaname = 'booking' AND relname IN ('reservations', 'occupancy', 'appointments')"""
_BLOCKS: Final = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
_LIVE: Final = "SELECT count(*) FROM booking.reservations WHERE status = 'held' AND expires_at > booking.now()"
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """What was measured in one interval. Sizes are in MB, latencies in milliseconds, those of reads a request."""

    minutes: float
    requests: int
    per_second: float
    guests_per_second: float
    p50_ms: float
    p99_ms: float
    live_holds: int
    # Of the larger worker.
    worker_mb: float
    reservations_mb: float
    reservation_indexes_mb: float
    occupancy_mb: float
    occupancy_indexes_mb: float
    appointments_mb: float
    appointments: int
    dead_rows: int
    blocks_a_request: float
    # Rows that were read one after the other, without an index.
    scanned_rows_a_request: float

    def line(self) -> str:
        """Formats the figures for the progress."""
        return (
            f"{self.minutes:8.1f}{self.per_second:9,.0f}{self.guests_per_second:9.1f}{self.p50_ms:8.1f}{self.p99_ms:8.1f}"
            f"{self.live_holds:12,}{self.worker_mb:11.1f}"
        )


class Sampler:
    """Reads the figures of the service and the database; those of counters since the last sample."""

    def __init__(self, machine: Machinery, service: ServiceProcess, guests: Guests) -> None:
        self._database = machine.database
        self._service = service
        self._guests = guests
        self._since: Callable[[str, float], float] = _Differences()
        self._since("blocks", self._database.value(_BLOCKS))
        self._since("scanned", self._scanned())

    def sample(self, sent: Measurement, minutes: float) -> Sample:
        """Returns the figures, with those of the requests that were just sent. Raises `AssertionError` if a guest got
        an answer that none should get."""
        assert not self._guests.unexpected, self._guests.unexpected
        visits = self._since("guests", self._guests.answers.total())
        requests = sent.statuses.total() + round(visits)
        tables = {name: figures for name, *figures in self._database.rows(_TABLES)}
        sizes = {name: (figures[0] / _MEGABYTE, figures[1] / _MEGABYTE) for name, figures in tables.items()}
        return Sample(
            minutes=minutes,
            requests=requests,
            per_second=sent.per_second,
            guests_per_second=visits / sent.seconds,
            p50_ms=sent.percentile_ms(50),
            p99_ms=sent.percentile_ms(99),
            live_holds=self._database.value(_LIVE),
            worker_mb=max(map(resident_bytes, self._service.worker_pids())) / _MEGABYTE,
            reservations_mb=sizes["reservations"][0],
            reservation_indexes_mb=sizes["reservations"][1],
            occupancy_mb=sizes["occupancy"][0],
            occupancy_indexes_mb=sizes["occupancy"][1],
            appointments_mb=sum(sizes["appointments"]),
            appointments=tables["appointments"][2],
            dead_rows=sum(figures[3] for figures in tables.values()),
            blocks_a_request=self._since("blocks", self._database.value(_BLOCKS)) / requests,
            scanned_rows_a_request=self._since("scanned", self._scanned()) / requests,
        )

    def _scanned(self) -> float:
        return float(self._database.value("SELECT sum(seq_tup_read) FROM pg_stat_user_tables"))


class _Differences:
    """Turns the values of counters into what was added since the last call."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, name: str, value: float) -> float:
        before = self._last.get(name, 0)
        self._last[name] = value
        return value - before
