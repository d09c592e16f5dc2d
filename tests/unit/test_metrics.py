"""The declarations of the metrics, and their documentation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.observability import metrics
from tests.scraping import Scrape

REPOSITORY = Path(__file__).parents[2]


def declared() -> list[MetricWrapperBase]:
    """Returns all metrics, including the one made at its first use."""
    return [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)] + [metrics.redis_up()]


def test_the_table_for_operators_matches_the_metrics() -> None:
    """Alerts are written from deploy/metrics.md, and an alert with a wrong name never fires."""
    page = (REPOSITORY / "deploy" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (\w+) \| ?(.*?) ?\| (.*) \|$", page, re.MULTILINE)
    documented = [(name, kind, re.findall(r"`(\w+)`", labels), meaning) for name, kind, labels, meaning in rows]
    # The library has no public attributes for these.
    existing = [
        (metric._original_name, metric._type, list(metric._labelnames), metric._documentation) for metric in declared()
    ]
    assert sorted(documented) == sorted(existing)


def test_no_label_can_hold_an_id() -> None:
    """Every value of a label is a series that is kept for ever, so values that callers make up would fill the memory
    and expose data."""
    known = {"method", "route", "status", "code", "verb", "outcome", "result", "what", "invariant", "pool", "state"}
    known |= {"duty", "limit", "server", "version"}
    assert {name for metric in declared() for name in metric._labelnames} == known


def test_unknown_methods_share_one_series() -> None:
    """Callers could make up methods."""
    metrics.count_request("BREW", None, 404, "NOT_FOUND", 0.001)
    text = metrics.exposition().decode()
    assert 'method="other",route="unmatched"' in text
    assert "BREW" not in text


def test_durations_are_counted_in_their_buckets() -> None:
    """Also after a scrape, which moves them to the library. A duration at a bound is below it, as in the library."""
    for seconds in (0.0005, 0.001, 0.0011, 11.0):
        metrics.count_request("GET", "/buckets", 200, None, seconds)
        metrics.exposition()
    labels = {"method": "GET", "route": "/buckets"}
    counted = Scrape(metrics.exposition().decode())
    buckets = {"0.001": 2, "0.0025": 3, "10.0": 3, "+Inf": 4}
    for bound, count in buckets.items():
        assert counted.value("holdfast_http_request_seconds_bucket", le=bound, **labels) == count, bound
    assert counted.value("holdfast_http_request_seconds_count", **labels) == 4
    assert counted.value("holdfast_http_request_seconds_sum", **labels) == pytest.approx(11.0026)
    assert counted.value("holdfast_http_requests_total", status="200", **labels) == 4


def test_a_multiprocess_folder_from_outside_is_ignored(tmp_path: Path) -> None:
    """The variable belongs to the library and may be meant for another service."""
    script = "from service.observability.metrics import exposition; print(exposition().decode())"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "holdfast_build_info" in ended.stdout
    assert list(tmp_path.iterdir()) == []
