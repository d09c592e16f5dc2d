"""Defines the metrics of the service and renders them for Prometheus. deploy/metrics.md has the same as a table.

The module that owns a value records it. No label holds an id or another value that a caller can choose.

With several workers, each worker counts in files of its own, in the folder that service/process/serving.py makes; the
worker that is scraped adds up those of all.
"""

import asyncio
import multiprocessing
import os
from bisect import bisect_left
from functools import cache
from typing import Any, Final, Literal, NoReturn

# The library reads this variable when it is imported, and counts in the folder that it names. Only our workers need it,
# so a value from outside is removed.
if multiprocessing.parent_process() is None:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service import __version__

# With several workers the library exports no creation times of counters. So that both look alike, one worker has none.
disable_created_metrics()  # type: ignore[no-untyped-call]

# The metrics below, and none of the library's own: those exist with one worker only.
REGISTRY: Final = CollectorRegistry()

# A decision takes about a millisecond; a request is given up after ten seconds.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# How often a worker shares what it has counted. A scrape of itself is always complete.
_FLUSH_SECONDS: Final = 0.25
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _counter(name: str, documentation: str, labels: str = "") -> Counter:
    return Counter(f"holdfast_{name}", documentation, labels.split(), registry=REGISTRY)


def _gauge(
    name: str,
    documentation: str,
    labels: str = "",
    mode: Literal["livesum", "livemin", "livemax", "livemostrecent"] = "livemostrecent",
) -> Gauge:
    """Declares a gauge. `mode` says how the values of several workers are combined."""
    return Gauge(f"holdfast_{name}", documentation, labels.split(), multiprocess_mode=mode, registry=REGISTRY)


def _histogram(name: str, documentation: str, labels: str = "", buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(f"holdfast_{name}", documentation, labels.split(), buckets=buckets, registry=REGISTRY)


# Requests.

HTTP_REQUESTS: Final = _counter(
    "http_requests_total",
    "Requests by the template of their route, status, and the code of a refusal.",
    "method route status code",
)
HTTP_REQUEST_SECONDS: Final = _histogram(
    "http_request_seconds", "From a request's arrival to the end of its answer.", "method route"
)
RATE_LIMITED: Final = _counter("rate_limited_total", "Requests that were refused by a rate limit.", "limit")
TOO_MANY_HOLDS: Final = _counter(
    "too_many_holds_total", "Reserves that were refused because their client has too many live holds."
)
STREAM_CLIENTS: Final = _gauge("stream_clients", "Browsers that watch a calendar now.", mode="livesum")
AVAILABILITY_CACHE: Final = _counter(
    "availability_cache_total",
    "Questions for availability and public catalogues that shared an answer (hit) or asked the database (miss).",
    "result",
)

# Group commit.

DECISIONS: Final = _counter(
    "decisions_total", "Decisions of the database, by verb: done, replayed, or the reason of a refusal.", "verb outcome"
)
BATCHES: Final = _counter(
    "batches_total", "Calls with a batch: answered, failed as a whole, or lost with their connection.", "result"
)
BATCH_SIZE: Final = _histogram(
    "batch_size", "Requests that one call carried.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
)
QUEUE_DEPTH: Final = _gauge("queue_depth", "Requests that wait to be sent.", mode="livesum")
QUEUE_WAIT_SECONDS: Final = _histogram(
    "queue_wait_seconds", "From a request's arrival in the queue to the call that decided it."
)
LOCK_WAIT_SECONDS: Final = _histogram(
    "lock_wait_seconds", "How long calls that found their business locked waited for it, or until `lock_timeout`."
)
REFUSED_BY_QUEUE: Final = _counter(
    "refused_by_queue_total", "Requests that were refused because the queue was full, or their turn came too late."
)

# Reservations.

RESERVATIONS_LIVE: Final = _gauge("reservations_live", "Holds that are neither ended nor expired.")
RESERVATIONS_EXPIRED_UNPURGED: Final = _gauge("reservations_expired_unpurged", "Expired holds that wait for the purge.")
OLDEST_EXPIRED_SECONDS: Final = _gauge("oldest_expired_seconds", "How long the oldest of them has waited.")
LAST_PURGE_TIMESTAMP_SECONDS: Final = _gauge(
    "last_purge_timestamp_seconds", "When the last purge ended, in any process; 0 if there was none."
)
INVARIANT_VIOLATIONS: Final = _gauge(
    "invariant_violations", "Violations that were found. Anything but 0 is a defect.", "invariant"
)
PURGE_RUNS: Final = _counter("purge_runs_total", "Purges that this service ran: done, or failed.", "result")
PURGED: Final = _counter(
    "purged_total",
    "Holds that purges marked as expired, ended ones that they deleted, and erased appointments.",
    "what",
)

# Dependencies.

DATABASE_UP: Final = _gauge("database_up", "1 if the database answered when it was last asked the time, else 0.")
PARTITIONS_DOWN: Final = _gauge("partitions_down", "Partitions behind a proxy that do not answer; 0 without a proxy.")
POOL_CONNECTIONS: Final = _gauge(
    "pool_connections",
    "Connections to the database, by pool: idle, or used (also while they are being made).",
    "pool state",
    mode="livesum",
)
POOL_WAITING: Final = _gauge("pool_waiting", "Callers that wait for a connection of a pool.", "pool", mode="livesum")
STANDBY_READS: Final = _counter("standby_reads_total", "Reads that may run on the standby, by who answered.", "server")
STANDBY_LAG_SECONDS: Final = _gauge(
    "standby_lag_seconds",
    "The age of the newest state that the standby is known to have; `+Inf` if it does not answer.",
    mode="livemax",
)
REDIS_FAILURES: Final = _counter("redis_failures_total", "Duties that went on without Redis because it failed.", "duty")
BUILD_INFO: Final = _gauge("build_info", "Always 1, with the version of the service.", "version", mode="livemax")


@cache
def redis_up() -> Gauge:
    """Returns the gauge of Redis, which is created at the first call: without Redis it is absent."""
    return _gauge(
        "redis_up", "1 if Redis answered when it was last used, else 0; absent if there is none.", mode="livemin"
    )


_TALLIES: Final[list["Tally"]] = []


class Tally:
    """Adds up a counter and a histogram in plain Python, until `flush` moves the sums to the library.

    With several workers the library writes each value to a file: 10 us a request for the two, against 1.
    """

    __slots__ = ("_bounds", "_buckets", "_count", "_counter", "_histogram", "_seconds")

    def __init__(self, counter: Counter, histogram: Histogram) -> None:
        self._counter = counter
        self._histogram: Any = histogram
        self._bounds = self._histogram._upper_bounds
        self._clear()
        _TALLIES.append(self)

    def add(self, seconds: float) -> None:
        self._count += 1
        self._seconds += seconds
        self._buckets[bisect_left(self._bounds, seconds)] += 1

    def flush(self) -> None:
        """Moves the sums to the library's metrics; there is no public way to add several observations at once."""
        if not self._count:
            return
        self._counter.inc(self._count)
        self._histogram._sum.inc(self._seconds)
        for bucket, count in zip(self._histogram._buckets, self._buckets, strict=True):
            if count:
                bucket.inc(count)
        self._clear()

    def _clear(self) -> None:
        self._count = 0
        self._seconds = 0.0
        self._buckets = [0] * len(self._bounds)


def count_request(method: str, route: str | None, status: int, code: str | None, seconds: float) -> None:
    """Counts one request. `route` is the template of its path; None for an unknown path."""
    # Few labels, whatever methods callers make up.
    known = method if method in _METHODS else "other"
    _request_tally(known, route or "unmatched", str(status), code or "").add(seconds)


def count_decision(verb: str, outcome: str, waited_seconds: float) -> None:
    """Counts one outcome of a verb, and how long its request had waited in the queue."""
    if outcome == "too_many_holds":
        TOO_MANY_HOLDS.inc()
    _decision_tally(verb, outcome).add(waited_seconds)


def flush() -> None:
    """Moves what this process has added up to the metrics that are scraped."""
    for tally in _TALLIES:
        tally.flush()


async def keep_flushing() -> NoReturn:
    """Flushes for ever: a scrape of another worker sees this one's counts up to the last time."""
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        flush()


def exposition() -> bytes:
    """Renders all metrics of all workers in Prometheus's text format."""
    flush()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    all_workers = CollectorRegistry()
    MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
    return generate_latest(all_workers)


def forget_process(pid: int) -> None:
    """Drops the gauges of a worker that ended. Its counters stay."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


# A look-up of a child by its labels costs more than counting in it.
@cache
def _request_tally(method: str, route: str, status: str, code: str) -> Tally:
    return Tally(HTTP_REQUESTS.labels(method, route, status, code), HTTP_REQUEST_SECONDS.labels(method, route))


@cache
def _decision_tally(verb: str, outcome: str) -> Tally:
    return Tally(DECISIONS.labels(verb, outcome), QUEUE_WAIT_SECONDS)


def _from_the_start(counter: Counter, *values: str) -> None:
    """Creates a counter's children at zero: one that appears with its first event shows no increase."""
    for value in values:
        counter.labels(value)


_from_the_start(BATCHES, "answered", "failed", "lost")
_from_the_start(PURGE_RUNS, "done", "failed")
_from_the_start(PURGED, "expired", "deleted", "erased")
_from_the_start(AVAILABILITY_CACHE, "hit", "miss")
BUILD_INFO.labels(__version__).set(1)
