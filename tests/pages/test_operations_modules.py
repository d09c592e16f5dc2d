"""The modules of the operations page, tried in the browser: the reading of metrics, and the limits of alerts."""

import re

import httpx2
import pytest
import yaml
from playwright.sync_api import Page
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.installation import DEPLOY
from tests.pages.conftest import Open, Service
from tests.serving import NO_CERTIFICATES


@pytest.fixture
def modules(open_page: Open) -> Page:
    """Opens a page whose modules can be imported."""
    return open_page("/ops")


def hostile_exposition() -> str:
    """Returns metrics whose labels have what the format has to escape, and what a careless parser trips over."""
    registry = CollectorRegistry()
    hostile = Counter(
        "holdfast_hostile", 'Help with "quotes" and \\ and } 7', ["route", "constructor"], registry=registry
    )
    for value in ('"', "\\", "\n", "\\n", '\\"', "}", '"} 9', 'a,b="c"', "{x}", "# HELP", "ünï", " ", "=", ""):
        hostile.labels(value, "constructor").inc(2.5)
        hostile.labels("plain", value).inc(1e21)
    for number, amount in enumerate((float("inf"), float("-inf"), float("nan"), -0.5)):
        Gauge(f"holdfast_gauge_{number}", "", registry=registry).set(amount)
    return generate_latest(registry).decode()


def test_hostile_labels_are_parsed_as_prometheus_does(modules: Page) -> None:
    """No label can end its series early or hide another one."""
    text = hostile_exposition()
    parse = (
        "[...m.parseMetrics(text).values()].map(({name, labels, value}) => [name, [...labels].sort(), String(value)])"
    )
    parsed = modules.evaluate(
        "text => import(new URL('static/ops/prometheus.js', location.href)).then(m => " + parse + ")", text
    )
    families = text_string_to_metric_families(text)
    expected = {
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    }
    found = {
        (name, tuple(map(tuple, labels)), float(value.replace("Infinity", "inf"))) for name, labels, value in parsed
    }
    assert len(parsed) == len(expected) > 20
    assert {repr(sample) for sample in found} == {repr(sample) for sample in expected}


def test_garbage_is_left_out(modules: Page) -> None:
    """Lines that are no samples, and a long one that a slow expression would take minutes for."""
    text = "\n".join(("", "# TYPE a counter", 'a{b="c} 1', "a{b=c 1", "1a 2", "a", "a{" + 'b="' * 20_000, "ok 3"))
    names = modules.evaluate(
        "text => import(new URL('static/ops/prometheus.js', location.href))"
        ".then(m => [...m.parseMetrics(text).keys()])",
        text,
    )
    assert names == ["ok"]


@pytest.mark.parametrize(
    ("before", "after", "increase"), [("5", "8", 3), ("5", "2", 2), ("", "4", 4), ("5", "5", 0), ("5", "0", 0)]
)
def test_a_counter_that_began_again_counts_from_zero(modules: Page, before: str, after: str, increase: int) -> None:
    """After a restart of the service, and where a series is new."""
    texts = [f'c{{le="1"}} {value}' if value else "" for value in (before, after)]
    found = modules.evaluate(
        "texts => import(new URL('static/ops/prometheus.js', location.href))"
        ".then(m => m.increases(...texts.map(m.parseMetrics)).map(sample => sample.value))",
        texts,
    )
    assert found == [increase]


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ({"0.1": 0, "0.5": 10, "1.0": 20, "+Inf": 20}, 0.5, 0.5),
        ({"0.1": 0, "0.5": 10, "1.0": 20, "+Inf": 20}, 0.75, 0.75),
        ({"+Inf": 20, "0.1": 10, "0.01": 0}, 0.25, 0.055),
        ({"0.1": 0, "10.0": 1, "+Inf": 4}, 0.99, 10),
        ({"0.1": 0, "+Inf": 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_quantiles_are_estimated_as_prometheus_does(
    modules: Page, buckets: dict[str, int], q: float, expected: float | None
) -> None:
    """By a straight line in the bucket, and the highest bound for what lies above it."""
    found = modules.evaluate(
        "([buckets, q]) => import(new URL('static/ops/prometheus.js', location.href))"
        ".then(m => m.quantile(new Map(Object.entries(buckets)), q))",
        [buckets, q],
    )
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_limits_are_those_of_the_alerts(modules: Page, service: Service) -> None:
    """Each alert is a problem of the page, with its limit and its urgency; each has its place in the served runbook."""
    found = modules.evaluate(
        "() => import(new URL('static/ops/alerts.js', location.href)).then(m => [m.SLOW_SECONDS, m.ALERTS.map("
        "alert => ({ name: 'Holdfast' + alert.name, limit: alert.limit, critical: Boolean(alert.isCritical), "
        "anchor: m.anchorOf(alert) }))])"
    )
    slow_seconds, alerts = found
    rules = {
        rule["alert"]: rule
        for rule in yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
    }
    assert {alert["name"] for alert in alerts} == {*rules, "HoldfastTimezone", "HoldfastPartitionDown"}
    assert f'le="{slow_seconds:.1f}"' in rules["HoldfastLockSlow"]["expr"]
    runbook = httpx2.get(f"{service.url}/docs/deploy/runbook.md", trust_env=False, verify=NO_CERTIFICATES).text
    for alert in alerts:
        assert f'id="{alert["anchor"]}"' in runbook, alert
        if rule := rules.get(alert["name"]):
            thresholds = [float(number) for number in re.findall(r"> ([\d.]+)", rule["expr"])]
            assert alert["limit"] == max(thresholds, default=0), alert
            assert alert["critical"] == (rule["labels"]["severity"] == "critical"), alert
            assert rule["annotations"]["runbook"].endswith(f"#{alert['anchor']}"), alert
    assert [alert["critical"] for alert in alerts] == sorted((alert["critical"] for alert in alerts), reverse=True)
