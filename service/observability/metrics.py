"""Defines the metrics of the service and renders them for Prometheus. deploy/metrics.md has the same as a table.

The module that owns a value records it. No label holds an id or another value that a caller can choose.

With several workers, each worker counts in files of its own, in the folder that service/process/serving.py makes; the
worker that is scraped adds up those of all. Each gauge declares how its values are combined; the gauges of a worker
that ended are dropped.
"""

import multiprocessing
import os
from functools import cache
from typing import Final

# By this variable the library decides, as it is imported, where it counts. It is ours to set, and for workers only:
# what somebody else may have set it to must not matter.
if multiprocessing.parent_process() is None:
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service import __version__

# With several workers the library does not tell when a counter was made. Nor is it told with one.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Everything below, and nothing of the library's own: that would be there with one worker only.
REGISTRY: Final = CollectorRegistry()

# A decision takes about a millisecond; a request is given up after ten seconds.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Requests.

HTTP_REQUESTS: Final = Counter(
    "holdfast_http_requests_total",
    "Requests by the template of their route, status, and the code of a refusal.",
    ["method", "route", "status", "code"],
    registry=REGISTRY,
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "holdfast_http_request_seconds",
    "From a request's arrival to the end of its answer.",
    ["method", "route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
RATE_LIMITED: Final = Counter(
    "holdfast_rate_limited_total", "Requests that were refused by a rate limit.", ["limit"], registry=REGISTRY
)
TOO_MANY_HOLDS: Final = Counter(
    "holdfast_too_many_holds_total",
    "Reserves that were refused because their client has too many live holds.",
    registry=REGISTRY,
)
STREAM_CLIENTS: Final = Gauge(
    "holdfast_stream_clients",
    "Browsers that watch a calendar now.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
AVAILABILITY_CACHE: Final = Counter(
    "holdfast_availability_cache_total",
    "Questions for availability that the cache answered (hit), did not know (miss), or was not asked (bypass).",
    ["result"],
    registry=REGISTRY,
)

# Group commit.

DECISIONS: Final = Counter(
    "holdfast_decisions_total",
    "What the database decided, by verb: done, replayed, or the reason of a refusal.",
    ["verb", "outcome"],
    registry=REGISTRY,
)
BATCHES: Final = Counter(
    "holdfast_batches_total",
    "Calls with a batch: answered, failed as a whole, or lost with their connection.",
    ["result"],
    registry=REGISTRY,
)
BATCH_SIZE: Final = Histogram(
    "holdfast_batch_size",
    "Requests that one call carried.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000),
    registry=REGISTRY,
)
QUEUE_DEPTH: Final = Gauge(
    "holdfast_queue_depth", "Requests that wait to be sent.", multiprocess_mode="livesum", registry=REGISTRY
)
QUEUE_WAIT_SECONDS: Final = Histogram(
    "holdfast_queue_wait_seconds",
    "From a request's arrival in the queue to the call that decided it.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
LOCK_WAIT_SECONDS: Final = Histogram(
    "holdfast_lock_wait_seconds",
    "How long calls that found their business locked waited for it.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
REFUSED_BY_QUEUE: Final = Counter(
    "holdfast_refused_by_queue_total",
    "Requests that were refused because the queue was full, or their turn came too late.",
    registry=REGISTRY,
)

# Reservations.

RESERVATIONS_LIVE: Final = Gauge(
    "holdfast_reservations_live",
    "Holds that are neither ended nor expired.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
RESERVATIONS_EXPIRED_UNPURGED: Final = Gauge(
    "holdfast_reservations_expired_unpurged",
    "Expired holds that wait for the purge.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
OLDEST_EXPIRED_SECONDS: Final = Gauge(
    "holdfast_oldest_expired_seconds",
    "How long the oldest of them has waited.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
LAST_PURGE_TIMESTAMP_SECONDS: Final = Gauge(
    "holdfast_last_purge_timestamp_seconds",
    "When the last purge ended, whoever ran it; 0 if there was none.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
INVARIANT_VIOLATIONS: Final = Gauge(
    "holdfast_invariant_violations",
    "Violations that were found. Anything but 0 is a defect.",
    ["invariant"],
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
PURGE_RUNS: Final = Counter(
    "holdfast_purge_runs_total",
    "Purges that this service ran: done, or failed.",
    ["result"],
    registry=REGISTRY,
)
PURGED: Final = Counter(
    "holdfast_purged_total",
    "Holds that purges marked as expired, and ended ones that they deleted.",
    ["what"],
    registry=REGISTRY,
)

# What it stands on.

DATABASE_UP: Final = Gauge(
    "holdfast_database_up",
    "1 if the database answered when it was last asked the time, else 0.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
POOL_CONNECTIONS: Final = Gauge(
    "holdfast_pool_connections",
    "Connections to the database, by pool: idle, or used (also while they are being made).",
    ["pool", "state"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
POOL_WAITING: Final = Gauge(
    "holdfast_pool_waiting",
    "Callers that wait for a connection of a pool.",
    ["pool"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
REDIS_FAILURES: Final = Counter(
    "holdfast_redis_failures_total", "Duties that went on without Redis because it failed.", ["duty"], registry=REGISTRY
)
BUILD_INFO: Final = Gauge(
    "holdfast_build_info",
    "Always 1, with the version of the service.",
    ["version"],
    multiprocess_mode="livemax",
    registry=REGISTRY,
)


@cache
def redis_up() -> Gauge:
    """Made when somebody first asks for it, to set it: without Redis there is nothing to be told."""
    return Gauge(
        "holdfast_redis_up",
        "1 if Redis answered when it was last used, else 0; absent if there is none.",
        multiprocess_mode="livemin",
        registry=REGISTRY,
    )


def count_request(method: str, route: str | None, status: int, code: str | None, seconds: float) -> None:
    """Counts one request. `route` is the template of its path; None if there is no such address."""
    known = method if method in _METHODS else "other"
    requests, durations = _of_request(known, route or "unmatched", status, code or "")
    requests.inc()
    durations.observe(seconds)


def count_decision(verb: str, outcome: str) -> None:
    """Counts one outcome of a verb."""
    _of_decision(verb, outcome).inc()


def exposition() -> bytes:
    """All metrics of all workers, in Prometheus's text format. Asks nobody but them."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    of_all_workers = CollectorRegistry()
    MultiProcessCollector(of_all_workers)  # type: ignore[no-untyped-call]
    return generate_latest(of_all_workers)


def forget_process(pid: int) -> None:
    """No longer tells the gauges of a worker that has ended. What it has counted stays."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


# To look a child up by its labels costs more than to count in it.
@cache
def _of_request(method: str, route: str, status: int, code: str) -> tuple[Counter, Histogram]:
    return HTTP_REQUESTS.labels(method, route, status, code), HTTP_REQUEST_SECONDS.labels(method, route)


@cache
def _of_decision(verb: str, outcome: str) -> Counter:
    return DECISIONS.labels(verb, outcome)


def _from_the_start(counter: Counter, *values: str) -> None:
    """A counter that is not there until something goes wrong looks then as if it had always been so."""
    for value in values:
        counter.labels(value)


_from_the_start(BATCHES, "answered", "failed", "lost")
_from_the_start(PURGE_RUNS, "done", "failed")
_from_the_start(PURGED, "expired", "deleted")
_from_the_start(AVAILABILITY_CACHE, "hit", "miss", "bypass")
BUILD_INFO.labels(__version__).set(1)
