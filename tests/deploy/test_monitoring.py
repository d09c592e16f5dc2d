"""Alert rules, dashboard and runbook: they speak of metrics that there are, and of each other."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.database import TestDatabase
from tests.deploy.installation import DEPLOY

ALERTS: Final = DEPLOY / "prometheus/alerts.yaml"
ALERT_TESTS: Final = DEPLOY / "prometheus/alerts.test.yaml"
RULES: Final[list[dict[str, Any]]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
PANELS: Final[list[dict[str, Any]]] = json.loads((DEPLOY / "grafana/holdfast.json").read_text())["panels"]
RUNBOOK: Final = (DEPLOY / "runbook.md").read_text()
# Those that Prometheus itself gives to every series.
EVERYWHERE: Final = {"job", "instance", "le"}
NO_METRICS: Final = {"up"}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def expressions() -> dict[str, str]:
    """Every expression of rules and dashboard, by where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in PANELS:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def metrics() -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric, from the table in deploy/metrics.md."""
    text = (DEPLOY / "metrics.md").read_text()
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (counter|gauge|histogram) \| ([^|]*) ?\|", text, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of an expression, with the labels that they are selected by."""
    for name, matchers in re.findall(r"\b((?:holdfast_\w+|up)\b)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    return {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(",")}


def base(name: str) -> str:
    """The metric that a series belongs to: a histogram has three kinds of series."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_the_table_is_read() -> None:
    """A check against an empty table would pass."""
    assert len(metrics()) > 25
    assert metrics()["holdfast_lock_wait_seconds"][0] == "histogram"
    assert metrics()["holdfast_decisions_total"] == ("counter", {"verb", "outcome"})


@pytest.mark.parametrize("where", expressions())
def test_every_metric_and_label_exists(where: str) -> None:
    """An alert on a metric that nobody exports never fires, and nobody notices."""
    expression = expressions()[where]
    known, used = metrics(), list(named(expression))
    assert used
    for name, labels in used:
        if name in NO_METRICS:
            continue
        metric = name if name in known else base(name)
        assert metric in known, name
        kind, has = known[metric]
        assert (kind == "histogram") == name.endswith("_bucket"), name
        assert labels <= has | EVERYWHERE, (name, labels)
        assert grouped(expression) <= has | EVERYWHERE | grouped_elsewhere(expression, metric, known), name


def grouped_elsewhere(expression: str, metric: str, known: dict[str, tuple[str, set[str]]]) -> set[str]:
    """The labels of the other metrics of an expression."""
    others = {name if name in known else base(name) for name, _ in named(expression)} - NO_METRICS - {metric}
    return {label for other in others for label in known[other][1]}


def test_counters_are_never_taken_as_they_are() -> None:
    """A counter's value depends on when its process started: only its rate or increase says something."""
    for where, expression in expressions().items():
        for counter in set(re.findall(r"\bholdfast_\w+_total\b", expression)):
            assert re.search(r"\b(rate|increase)\(" + counter, expression), where


@promtool
def test_the_expressions_parse(tmp_path: Path) -> None:
    """Those of the dashboard as rules of their own."""
    rules = [
        {"record": "panel:expression", "labels": {"panel": where}, "expr": expression.replace("$__rate_interval", "5m")}
        for where, expression in expressions().items()
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    _promtool("check", "rules", path)


@promtool
def test_the_rules_are_valid() -> None:
    """As Prometheus reads them."""
    _promtool("check", "rules", ALERTS)
    _promtool("check", "config", DEPLOY / "prometheus/scrape.yaml")


@promtool
def test_the_alerts_fire_and_are_silent_when_they_should() -> None:
    """The rules' own tests."""
    _promtool("test", "rules", ALERT_TESTS)


def test_each_alert_is_seen_to_fire_and_to_be_silent() -> None:
    """A rule that is never tried is a guess."""
    tries = [case for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for alert in {rule["alert"] for rule in RULES}:
        assert {bool(case["exp_alerts"]) for case in tries if case["alertname"] == alert} == {True, False}, alert


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_heading_in_the_runbook(rule: dict[str, Any]) -> None:
    """Whoever was woken finds what to do, under the name of what woke them."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{rule['alert'].lower()}"
    [section] = re.findall(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    for part in ("**Means:**", "**Look:**", "**Do:**", "**Over when:**"):
        assert part in section, part


def test_the_runbook_has_no_heading_without_an_alert() -> None:
    """An alert that was renamed leaves its heading behind."""
    assert set(re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_each_alert_has_a_reason() -> None:
    """A threshold without one is never touched again."""
    text = ALERTS.read_text()
    for rule in RULES:
        before, _, _ = text.partition(f"- alert: {rule['alert']}\n")
        assert before.rstrip(" ").splitlines()[-1].lstrip().startswith("# "), rule["alert"]


def test_the_statements_of_the_runbook_run(database: TestDatabase) -> None:
    """At night nobody mends a query. Those with a gap to fill in are left out."""
    spans = re.findall(r"```sql\n(.*?)```", RUNBOOK, re.DOTALL) + re.findall(r"`(SELECT [^`]*)`", RUNBOOK)
    statements = [
        span for span in spans if "…" not in span and "PID" not in span and "(pid)" not in span.split("FROM")[0]
    ]
    assert len(statements) >= 10
    for statement in statements:
        database.rows(statement.replace("%", "%%"))


def test_panels_have_names_and_places_of_their_own() -> None:
    """Otherwise one covers the other."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def _promtool(*words: str | Path) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
