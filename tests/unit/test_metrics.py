"""What is measured, and what is said about it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from service.observability import metrics

REPOSITORY = Path(__file__).parents[2]


def declared() -> list[MetricWrapperBase]:
    """All metrics, with that which is made when it is first set."""
    return [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)] + [metrics.redis_up()]


def test_the_table_for_operators_has_every_metric_as_it_is() -> None:
    """deploy/metrics.md is what people make alerts of: a name that is wrong there never wakes anybody."""
    page = (REPOSITORY / "deploy" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (\w+) \| ?(.*?) ?\| (.*) \|$", page, re.MULTILINE)
    told = [(name, kind, re.findall(r"`(\w+)`", labels), meaning) for name, kind, labels, meaning in rows]
    # What the library has no public names for.
    exist = [
        (metric._original_name, metric._type, list(metric._labelnames), metric._documentation) for metric in declared()
    ]
    assert sorted(told) == sorted(exist)


def test_no_label_can_hold_an_id() -> None:
    """Each value of a label is kept for ever: what a caller can make up would fill the memory, and tell on people."""
    known = {"method", "route", "status", "code", "verb", "outcome", "result", "what", "invariant", "pool", "state"}
    known |= {"duty", "limit", "version"}
    assert {name for metric in declared() for name in metric._labelnames} == known


def test_a_method_that_http_does_not_know_has_no_series_of_its_own() -> None:
    """Whoever sends made-up methods would make up series."""
    metrics.count_request("BREW", None, 404, "NOT_FOUND", 0.001)
    text = metrics.exposition().decode()
    assert 'method="other",route="unmatched"' in text
    assert "BREW" not in text


def test_a_folder_that_somebody_else_set_does_not_matter(tmp_path: Path) -> None:
    """The variable is the library's own, and may be meant for another service: then the folder is not ours."""
    script = "from service.observability.metrics import exposition; print(exposition().decode())"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "holdfast_build_info" in ended.stdout
    assert list(tmp_path.iterdir()) == []
