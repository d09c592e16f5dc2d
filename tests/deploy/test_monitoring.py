"""Alert rules, dashboard and runbook: their metrics exist, and they refer to each other."""

import ast
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
# Labels that Prometheus adds to every series.
EVERYWHERE: Final = {"job", "instance", "le"}

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def expressions() -> dict[str, str]:
    """Returns every expression of the rules and the dashboard, by its place."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in PANELS:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def metrics() -> dict[str, tuple[str, set[str]]]:
    """Returns the type and the labels of each metric, from the table in deploy/metrics.md."""
    text = (DEPLOY / "metrics.md").read_text()
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (counter|gauge|histogram) \| ([^|]*) ?\|", text, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def selected_metrics(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yields the metrics of an expression, with the labels of their selectors."""
    for name, matchers in re.findall(r"\b(holdfast_\w+\b)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))


def grouping_labels(expression: str) -> set[str]:
    """Returns the labels that an expression groups by."""
    return {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(",")}


def metric_of_series(name: str) -> str:
    """Returns the metric of a series: a histogram has three kinds of series."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_the_table_is_read() -> None:
    """Guards the other tests against an empty table, with which they would pass."""
    assert len(metrics()) > 25
    assert metrics()["holdfast_lock_wait_seconds"][0] == "histogram"
    assert metrics()["holdfast_decisions_total"] == ("counter", {"verb", "outcome"})


@pytest.mark.parametrize("place", expressions())
def test_every_metric_and_label_exists(place: str) -> None:
    """An alert on a missing metric never fires."""
    expression = expressions()[place]
    known, used = metrics(), list(selected_metrics(expression))
    assert used
    for name, labels in used:
        metric = name if name in known else metric_of_series(name)
        assert metric in known, name
        kind, has = known[metric]
        assert (kind == "histogram") == name.endswith("_bucket"), name
        assert labels <= has | EVERYWHERE, (name, labels)
        assert grouping_labels(expression) <= has | EVERYWHERE | labels_of_other_metrics(expression, metric, known), (
            name
        )


def labels_of_other_metrics(expression: str, metric: str, known: dict[str, tuple[str, set[str]]]) -> set[str]:
    """Returns the labels of the other metrics of an expression."""
    others = {name if name in known else metric_of_series(name) for name, _ in selected_metrics(expression)} - {metric}
    return {label for other in others for label in known[other][1]}


def test_counters_are_used_by_rate_or_increase_only() -> None:
    """The value of a counter depends on the start of its process."""
    for place, expression in expressions().items():
        for counter in set(re.findall(r"\bholdfast_\w+_total\b", expression)):
            assert re.search(r"\b(rate|increase)\(" + counter, expression), place


@promtool
def test_the_expressions_parse(tmp_path: Path) -> None:
    """The expressions of the dashboard are checked as recording rules."""
    rules = [
        {"record": "panel:expression", "labels": {"panel": place}, "expr": expression.replace("$__rate_interval", "5m")}
        for place, expression in expressions().items()
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    _promtool("check", "rules", path)


@promtool
def test_the_rules_are_valid() -> None:
    """Prometheus parses them."""
    _promtool("check", "rules", ALERTS)
    _promtool("check", "config", DEPLOY / "prometheus/scrape.yaml")


@promtool
def test_the_alerts_pass_their_tests() -> None:
    """The tests of the rules run in promtool."""
    _promtool("test", "rules", ALERT_TESTS)


def test_each_alert_has_a_test_that_fires_and_one_that_is_silent() -> None:
    """A test of one of them alone would pass for a rule that always or never fires."""
    cases = [case for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for alert in {rule["alert"] for rule in RULES}:
        assert {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert} == {True, False}, alert


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_heading_in_the_runbook(rule: dict[str, Any]) -> None:
    """The name of the alert leads an operator to the section."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{rule['alert'].lower()}"
    [section] = re.findall(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    for part in ("**Means:**", "**Look:**", "**Do:**", "**Over when:**"):
        assert part in section, part


def test_the_runbook_has_no_heading_without_an_alert() -> None:
    """Detects the heading of a renamed alert."""
    assert set(re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def logged_events() -> dict[str, set[str]]:
    """Returns the events that the service logs, with their levels; `log` for a level that depends on the case."""
    found: dict[str, set[str]] = {}
    for path in (DEPLOY.parent / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="logged"), args=[event]):
                    level = "warning"
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[*arguments]):
                    event = arguments[level == "log"]
                case _:
                    continue
            # `logged` itself has the names that its callers give.
            if path.name != "failures.py":
                assert isinstance(event, ast.Constant), (path, node.lineno)
                found.setdefault(str(event.value), set()).add(level)
    return found


def test_each_event_of_the_log_is_in_the_runbook() -> None:
    """An operator who finds a line looks its event up. A level is that of the code, or one of several."""
    [table] = re.findall(r"^## Events of the log\n(.*)", RUNBOOK, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*?`) \| (\w+(?:, \w+)*) \|", table, re.MULTILINE)
    described: dict[str, set[str]] = {}
    for names, levels in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert name not in described, name
            described[name] = set(levels.split(", "))
    logged = logged_events()
    assert len(logged) > 20
    assert set(described) == set(logged)
    for name, levels in logged.items():
        assert levels == {"log"} or levels & described[name], (name, levels)


def test_each_alert_has_a_reason() -> None:
    """A comment above each alert explains its threshold."""
    text = ALERTS.read_text()
    for rule in RULES:
        before, _, _ = text.partition(f"- alert: {rule['alert']}\n")
        assert before.rstrip(" ").splitlines()[-1].lstrip().startswith("# "), rule["alert"]


def test_the_statements_of_the_runbook_run(database: TestDatabase) -> None:
    """Statements with a placeholder are left out."""
    spans = re.findall(r"```sql\n(.*?)```", RUNBOOK, re.DOTALL) + re.findall(r"`(SELECT [^`]*)`", RUNBOOK)
    statements = [
        span for span in spans if "…" not in span and "PID" not in span and "(pid)" not in span.split("FROM")[0]
    ]
    assert len(statements) >= 10
    for statement in statements:
        database.rows(statement.replace("%", "%%"))


def test_panels_have_unique_ids_and_places() -> None:
    """Overlapping panels hide each other."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def _promtool(*words: str | Path) -> None:
    ended = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
